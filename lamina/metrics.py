"""Scores and their intervals (95 % unless told)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def wilson_interval(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    from scipy.stats import binomtest

    interval = binomtest(right, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def corrected_resampled_interval(scores: Sequence[float], test_share: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean over cross-fitted folds, whose training parts overlap (Nadeau & Bengio 2003, https://doi.org/10.1023/A:1024068626366).

    `test_share` is (test examples) / (training examples) of one fold.
    """
    from scipy.stats import t

    values = np.asarray(scores, np.float64)
    deviation = math.sqrt((1 / len(values) + test_share) * values.var(ddof=1))
    reach = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * deviation
    return max(0.0, float(values.mean()) - reach), min(1.0, float(values.mean()) + reach)


def paired_interval(
    first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray, confidence: float = 0.99
) -> tuple[float, float, float]:
    """(difference, low, high) of two shares over the same n examples, first minus second.

    Wald's interval with half an example added to each of the four cells (Agresti & Min 2005, https://doi.org/10.1002/sim.1781).
    """
    from scipy.stats import norm

    one, two = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost, n = int((one & ~two).sum()), int((two & ~one).sum()), len(one)
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    middle = (b - c) / total
    reach = float(norm.ppf(0.5 + confidence / 2)) * math.sqrt(max(0.0, b + c - (b - c) ** 2 / total)) / total
    return (gained - lost) / max(1, n), max(-1.0, middle - reach), min(1.0, middle + reach)


def paired_interval_over_trainings(
    firsts: Sequence[Sequence[bool]], second: Sequence[bool], confidence: float = 0.99
) -> tuple[float, float, float]:
    """`paired_interval` of the mean over several trainings of the first, with the chance of training in it; of one it is that interval
    itself, but for Student's distribution in place of the normal one.

    The variances of the mean over test examples (with half an example added to each cell) and of the mean over trainings are added; degrees
    of freedom by Satterthwaite (1946, https://doi.org/10.2307/3002019), so that two or three trainings make it as wide as they should.
    """
    from scipy.stats import t

    each = np.asarray(firsts, bool).astype(np.float64) - np.asarray(second, bool)
    trainings, n = each.shape
    mean, means = each.mean(0), each.mean(1)
    total = n + 2
    middle = float(mean.sum() / total)
    tested = float((mean**2).sum() + 1 - total * middle**2) / total**2
    trained = float(means.var(ddof=1)) / trainings if trainings > 1 else 0.0
    freedom = (tested + trained) ** 2 / (tested**2 / (total - 1) + trained**2 / max(1, trainings - 1))
    reach = float(t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(tested + trained)
    return float(means.mean()), max(-1.0, middle - reach), min(1.0, middle + reach)


def paired_test(first: Sequence[bool], second: Sequence[bool]) -> float:
    """p-value of no difference between two shares over the same examples (McNemar 1947, exact)."""
    from scipy.stats import binomtest

    one, two = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost = int((one & ~two).sum()), int((two & ~one).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def mean_recall(found: Sequence[str], truths: Sequence[str]) -> float:
    """Share of each class that was found, averaged over the classes, so that rare ones count as much as frequent ones."""
    right: dict[str, list[bool]] = {}
    for label, truth in zip(found, truths, strict=True):
        right.setdefault(truth, []).append(label == truth)
    return sum(sum(hits) / len(hits) for hits in right.values()) / max(1, len(right))

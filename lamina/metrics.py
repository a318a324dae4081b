"""Scores and their intervals (95 % unless told)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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


# ---------------------------------------------------------------- is this the same person?

MOST_EACH = 10
"""Examples of one person that are compared with others: a person with hundreds of pictures would decide alone."""
MOST_PAIRS = 200_000
FEW_STRETCHES = 8
BLOCKS = 50
"""Stretches of neighbors into which examples of one text are put together before they are drawn anew: neighbors are alike."""


def drawn_ratios(above: np.ndarray, below: np.ndarray) -> tuple[float, np.ndarray]:
    """(sum(above) / sum(below) over n examples in their order, the same [RESAMPLED] with stretches of them drawn anew; the same stretches
    for all above and below of one length) (block bootstrap: Kuensch 1989, https://doi.org/10.1214/aos/1176347265)."""
    count = min(BLOCKS, len(above))
    sums = np.stack([np.add.reduceat(each, np.linspace(0, len(each), count, endpoint=False).astype(np.int64)) for each in (above, below)])
    drawn = np.random.Generator(np.random.Philox(key=len(above))).integers(0, count, (RESAMPLED, count))
    ratio = float(above.sum() / max(1e-9, below.sum()))
    if count < FEW_STRETCHES:
        return ratio, ratio * np.linspace(0, 2, RESAMPLED)
    return ratio, sums[0][drawn].sum(1) / np.maximum(1e-9, sums[1][drawn].sum(1))


def ratio_interval(above: np.ndarray, below: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of sum(above) / sum(below), by `drawn_ratios`."""
    ratio, drawn = drawn_ratios(above, below)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    if len(above) < FEW_STRETCHES:  # so few tell next to nothing
        return 0.0, 2 * ratio
    return float(low), float(high)


RESAMPLED = 400
MOST_ALIKE = 1.0009
"""A threshold that nobody reaches."""
BOUND = 0.99
SMALL_SAMPLE = 1.15
"""By which the bootstrap's reach is too short for some tens of people, by simulation."""


@dataclass(frozen=True)
class Trials:
    """Pairs of examples of people whom training never saw: how alike the two are, and whose they are."""

    likeness: np.ndarray
    """[pairs] from -1 to 1, falling."""
    first: np.ndarray
    second: np.ndarray
    """[pairs] the number of the person; equal where both examples are of one."""
    places: np.ndarray
    """[pairs, 2] which examples they are."""
    people: int

    @property
    def same(self) -> np.ndarray:
        return self.first == self.second

    @functools.cached_property
    def cuts(self) -> np.ndarray:
        """[cuts] how many of the most alike pairs a threshold can accept: none, or as many as are told apart from the next."""
        return np.r_[0, np.flatnonzero(np.diff(self.likeness)) + 1, len(self.likeness)]

    def threshold(self, cut: int) -> float:
        """In the middle between the last pair that is accepted at this cut and the first that is not."""
        count = int(self.cuts[cut])
        above = self.likeness[count - 1] if count else self.likeness[0] + 0.02
        return min(MOST_ALIKE, float(above + (self.likeness[count] if count < len(self.likeness) else above - 0.02)) / 2)

    def rates(self, drawn: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(false accepts, false rejects), each [cuts], as shares.

        `drawn` [people] is how often each person counts (1 each without).
        """
        weight = (
            np.ones(len(self.likeness)) if drawn is None else np.where(self.same, drawn[self.first], drawn[self.first] * drawn[self.second])
        )
        own = np.where(self.same, weight, 0.0)
        accepted, strangers = (np.r_[0.0, np.cumsum(each)][self.cuts] for each in (own, weight - own))
        return strangers / max(1e-12, strangers[-1]), 1 - accepted / max(1e-12, accepted[-1])

    def equal_error(self, drawn: np.ndarray | None = None) -> float:
        """The rate at which false accepts and false rejects are as frequent (EER)."""
        accepts, rejects = self.rates(drawn)
        at = int(np.argmin(np.abs(accepts - rejects)))
        return float(accepts[at] + rejects[at]) / 2

    def rejected_at(self, rate: float, drawn: np.ndarray | None = None) -> float:
        """False rejects where at most `rate` of strangers are accepted."""
        accepts, rejects = self.rates(drawn)
        return float(rejects[np.searchsorted(accepts, rate, side="right") - 1])

    def resampled(self, count: int = RESAMPLED, seed: int = 0) -> Iterator[np.ndarray]:
        """How often each person counts when as many people are drawn anew: the two-way bootstrap, for a pair counts as often as both do
        (Owen & Eckles 2012, https://doi.org/10.1214/12-AOAS547). Pairs share people, so there is less to know than there are pairs."""
        random = np.random.Generator(np.random.Philox(key=seed))
        twice = np.unique(self.first[self.same])
        for _ in range(count):
            drawn = random.multinomial(self.people, np.full(self.people, 1 / self.people)).astype(np.float64)
            if (drawn > 0).sum() > 1 and (drawn[twice] > 0).any():  # else there is no pair of one kind
                yield drawn


def trials_of(embeddings: np.ndarray, people: Sequence[str], seed: int = 0) -> Trials:
    """All pairs of [n, width] vectors of length 1, at most MOST_EACH a person; of strangers a random part, where they are too many.

    Raises ValueError unless there are two people, one of them with two examples.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    names = sorted(set(people))
    number = {name: place for place, name in enumerate(names)}
    by_person: dict[int, list[int]] = {}
    for place, name in enumerate(people):
        by_person.setdefault(number[name], []).append(place)
    chosen = [np.sort(random.permutation(own)[:MOST_EACH]) for _, own in sorted(by_person.items())]
    if len(names) < 2 or max(map(len, chosen)) < 2:
        raise ValueError("there must be two people, one of them with two examples")
    kept = np.concatenate(chosen)
    owner = np.concatenate([np.full(len(own), person) for person, own in enumerate(chosen)])
    starts = np.cumsum([0, *map(len, chosen)])
    alike = [np.stack(np.triu_indices(len(own), 1), 1) + start for own, start in zip(chosen, starts, strict=False)]
    if len(kept) ** 2 / 2 <= 4 * MOST_PAIRS:
        strangers = np.stack(np.triu_indices(len(kept), 1), 1)
    else:  # so many that all of them would not fit into memory: drawn, each pair once
        strangers = np.unique(np.sort(random.integers(0, len(kept), (3 * MOST_PAIRS, 2)), 1), axis=0)
    strangers = strangers[owner[strangers[:, 0]] != owner[strangers[:, 1]]]
    if len(strangers) > MOST_PAIRS:
        strangers = strangers[np.sort(random.choice(len(strangers), MOST_PAIRS, replace=False))]
    one, two = np.concatenate([*alike, strangers]).T
    vectors = np.asarray(embeddings, np.float32)[kept]
    likeness = np.einsum("pd,pd->p", vectors[one], vectors[two])
    order = np.argsort(-likeness, kind="stable")
    one, two = one[order], two[order]
    return Trials(likeness[order], owner[one], owner[two], np.stack([kept[one], kept[two]], 1), len(names))


def equal_error_interval(trials: Trials, confidence: float = 0.95) -> tuple[float, float]:
    """By the two-way bootstrap over people."""
    found = [trials.equal_error(drawn) for drawn in trials.resampled()]
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Opening:
    """What one threshold lets in."""

    wanted: float
    """The false-accept rate that was asked for …"""
    rate: float
    """False accepts: the share of strangers that it lets in, on people held out …"""
    bound: float
    """… and what that share is at most, with 99 % confidence, for people never seen."""
    threshold: float
    rejects: float
    """False rejects: the share of pictures (recordings) of the right person that it turns away."""


def smallest_rate(people: int, pairs: int) -> float:
    """The smallest false-accept rate that so many people, compared in so many pairs of strangers, can tell from 0: three of the pairs of
    people (the rule of three: Hanley & Lippman-Hand 1983, https://doi.org/10.1001/jama.1983.03330370053031)."""
    return 3 / max(1, min(people * (people - 1) // 2, pairs))


def openings(trials: Trials, rates: Sequence[float]) -> list[Opening]:
    """For each wanted false-accept rate the threshold that lets in at most that share of the strangers held out.

    The bound is the largest of three, for each alone is too low somewhere (docs/log.md): the two-way bootstrap over people, widened for
    their small number; the jackknife over people on the logarithm; and the rule of three for 99 %.
    """
    from scipy.stats import t

    accepts, rejects = trials.rates()
    at = np.searchsorted(accepts, rates, side="right") - 1
    drawn = np.array([trials.rates(drawn)[0][at] for drawn in trials.resampled()])
    n = trials.people
    wide = np.quantile(drawn, BOUND, axis=0) - accepts[at]
    strangers = ~trials.same
    pairs = int(strangers.sum())
    all_of = np.bincount(trials.first[strangers], minlength=n) + np.bincount(trials.second[strangers], minlength=n)
    quantile = float(t.ppf(BOUND, max(1, n - 1)))
    rule = -math.log(1 - BOUND) / max(1, min(n * (n - 1) // 2, pairs))
    found = []
    for number, cut in enumerate(at.tolist()):
        rate, count = float(accepts[cut]), int(trials.cuts[cut])
        let_in = strangers[:count]
        own = np.bincount(trials.first[:count][let_in], minlength=n) + np.bincount(trials.second[:count][let_in], minlength=n)
        without = (let_in.sum() - own) / np.maximum(1, pairs - all_of)
        error = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
        by_jackknife = rate * math.exp(quantile * error / rate) if rate else 0.0
        by_bootstrap = rate + float(wide[number]) * SMALL_SAMPLE * math.sqrt(n / max(1, n - 1))
        bound = min(1.0, max(by_jackknife, by_bootstrap, rule))
        found.append(Opening(float(rates[number]), rate, bound, trials.threshold(cut), float(rejects[cut])))
    return found


# ---------------------------------------------------------------- what was said?


def edits(found: Sequence[Any], wanted: Sequence[Any]) -> int:
    """How many items must be put in, taken out or changed to make `wanted` of `found` (Levenshtein 1966)."""
    if not len(found) or not len(wanted):
        return max(len(found), len(wanted))
    numbers = {item: number for number, item in enumerate(dict.fromkeys([*found, *wanted]))}
    row, places = np.array([numbers[item] for item in wanted]), np.arange(len(wanted) + 1)
    costs = places.copy()
    for count, item in enumerate(found, start=1):
        changed = np.minimum(costs[1:] + 1, costs[:-1] + (row != numbers[item]))
        costs = np.minimum.accumulate(np.r_[count, changed] - places) + places
    return int(costs[-1])


def changes(found: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """(found, wanted) of each item that is wrong, in their order, along a cheapest way; "" where nothing stands on one side."""
    costs = np.zeros((len(found) + 1, len(wanted) + 1), np.int64)
    costs[0], costs[:, 0] = np.arange(len(wanted) + 1), np.arange(len(found) + 1)
    for one, item in enumerate(found, start=1):
        for other, asked in enumerate(wanted, start=1):
            costs[one, other] = min(costs[one - 1, other] + 1, costs[one, other - 1] + 1, costs[one - 1, other - 1] + (item != asked))
    told: list[tuple[str, str]] = []
    one, other = len(found), len(wanted)
    while one or other:
        same = one and other and found[one - 1] == wanted[other - 1]
        if one and other and costs[one, other] == costs[one - 1, other - 1] + (not same):
            one, other = one - 1, other - 1
            told += [] if same else [(found[one], wanted[other])]
        elif one and costs[one, other] == costs[one - 1, other] + 1:
            one -= 1
            told.append((found[one], ""))
        else:
            other -= 1
            told.append(("", wanted[other]))
    return told[::-1]


# ---------------------------------------------------------------- what is chosen next?


def resampled(measure: Callable[[np.ndarray], float], count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a measure of some of `count` examples, by examples drawn anew (Efron 1979, https://doi.org/10.1214/aos/1176344552)."""
    drawn = np.random.Generator(np.random.Philox(key=count)).integers(0, count, (RESAMPLED, count))
    low, high = np.quantile([measure(some) for some in drawn], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of independent values (normal)."""
    from scipy.stats import norm

    half = float(norm.ppf((1 + confidence) / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return float(values.mean()) - half, float(values.mean()) + half


LISTED = 20
"""Items of a list that are looked at for recall, coverage and novelty."""


def gain_at(ranks: np.ndarray, wanted: int, listed: int = 10) -> float:
    """NDCG: 1 / log2(1 + rank) of each chosen item among the first `listed`, as a share of the best that can be (Jarvelin & Kekalainen
    2002, https://doi.org/10.1145/582415.582418)."""
    found = ranks[ranks <= listed]
    best = (1 / np.log2(np.arange(2, min(listed, wanted) + 2))).sum()
    return float((1 / np.log2(1 + found)).sum() / best) if wanted else 0.0

"""How the score grows with the number of examples, and what twice as many should bring.

The error is taken to be limit + scale * n ** -power (Hestness et al. 2017, https://arxiv.org/abs/1712.00409), fitted to the logarithms
of the measured errors; its uncertainty comes from fits to errors drawn anew within their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 300
POWERS = (0.05, 1.5)
TRAINING_NOISE = 0.04
"""Deviation of the logarithm of an error from one training to the next, beside what the number of test examples brings."""
DRIFT = 0.06
"""Deviation of the logarithm of an error from the law, for each doubling between a measurement and the most examples, or beyond them: the
law holds nearby, for recipes change with the number of examples."""
REACH = 30
"""Nothing is said of more than so many times the examples."""
FLAT = 0.002
"""Twice the examples bring less than this: the curve is flat."""


@dataclass(frozen=True)
class Curve:
    """limit + scale * n ** -power, once for the measured errors and once for each set drawn anew."""

    examples: int
    """The most that were measured …"""
    fewest: int
    """… and the fewest."""
    fits: np.ndarray
    """[1 + DRAWS, 3] of limit, scale, power."""
    drifts: np.ndarray
    """[1 + DRAWS] standard normal, 0 first: where each draw leaves the law beyond the most examples."""

    def error(self, examples: float, confidence: float = 0.9) -> tuple[float, float, float]:
        """(error, low, high) at so many examples."""
        found = self.errors(examples)
        low, high = np.quantile(found[1:], [0.5 - confidence / 2, 0.5 + confidence / 2])
        return float(found[0]), float(min(low, found[0])), float(max(high, found[0]))

    def errors(self, examples: float) -> np.ndarray:
        """By each fit."""
        beyond = max(0.0, math.log2(examples / self.examples))
        return (self.fits[:, 0] + self.fits[:, 1] * examples ** -self.fits[:, 2]) * np.exp(DRIFT * beyond * self.drifts)

    def more_for(self, gain: float, confidence: float = 0.8) -> tuple[int, int, int | None] | None:
        """(about, at least, at most) more examples that bring the error down by `gain`; None where the curve is too flat for it."""
        found = self.examples_for(self.errors(self.examples) - gain, confidence)
        if found is None:
            return None
        about, low, high = found
        return about - self.examples, max(0, low - self.examples), None if high is None else high - self.examples

    def examples_for(self, error: float | np.ndarray, confidence: float = 0.8) -> tuple[int, int, int | None] | None:
        """(about, at least, at most) examples at which the error is `error` (or those of each fit); None where that is out of reach.

        Never below the fewest that were measured; at most is None where nothing is known of it.
        """
        limit, scale, power = self.fits.T
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            needed = np.where(error > limit, (scale / np.maximum(error - limit, 1e-12)) ** (1 / power), np.inf)
        needed = np.maximum(needed, self.fewest)
        if not np.isfinite(needed[0]) or needed[0] > REACH * self.examples:
            return None
        low, high = np.quantile(needed[1:], [0.5 - confidence / 2, 0.5 + confidence / 2], method="lower")
        most = max(high, needed[0])
        return round(needed[0]), round(min(low, needed[0])), round(most) if most <= 4 * REACH * self.examples else None


def fit_curve(examples: Sequence[int], errors: Sequence[float], tested: Sequence[int], seed: int = 0) -> Curve:
    """From errors on `tested` test examples after learning from `examples`. Raises ValueError below three different numbers of examples."""
    if len(set(examples)) < 3:
        raise ValueError(f"a curve needs three different numbers of examples, got {sorted(set(examples))}")
    n, tests = np.asarray(examples, np.float64), np.asarray(tested, np.float64)
    error = np.clip(np.asarray(errors, np.float64), 0.5 / tests, 1 - 0.5 / tests)
    away = np.log2(n.max() / n)
    deviation = np.sqrt((1 - error) / (error * tests) + TRAINING_NOISE**2 + (DRIFT * away) ** 2)
    random = np.random.default_rng(seed)
    fits = [_fit(n, np.log(error), deviation)]
    fits += [_fit(n, np.log(error) + deviation * random.standard_normal(len(n)), deviation) for _ in range(DRAWS)]
    drifts = np.append(0.0, random.standard_normal(DRAWS))
    return Curve(int(n.max()), int(n.min()), np.array(fits), drifts)


def _fit(n: np.ndarray, log_error: np.ndarray, deviation: np.ndarray) -> tuple[float, float, float]:
    from scipy.optimize import least_squares

    lowest = float(np.exp(log_error.min()))

    def residuals(p: np.ndarray) -> np.ndarray:
        limit, scale, power = (
            lowest / (1 + math.exp(-p[0])),
            math.exp(min(p[1], 50)),
            POWERS[0] + (POWERS[1] - POWERS[0]) / (1 + math.exp(-p[2])),
        )
        found = (np.log(limit + scale * n**-power) - log_error) / deviation
        return np.append(found, [(p[0] + 1) / 3, p[2] / 2])  # a weak pull: little is known of the limit

    best = least_squares(residuals, [-1.0, float(log_error[0] + 0.4 * math.log(n[0])), 0.0])
    p = best.x
    return lowest / (1 + math.exp(-p[0])), math.exp(min(p[1], 50)), POWERS[0] + (POWERS[1] - POWERS[0]) / (1 + math.exp(-p[2]))


def advice(curve: Curve, weakest: str) -> str:
    """What more examples should bring, in a sentence."""
    now, twice = curve.error(curve.examples)[0], curve.error(2 * curve.examples)
    score, low, high = (100 * (1 - error) for error in (twice[0], twice[2], twice[1]))
    told = f"twice the examples should bring {score:.1f} % ({low:.1f}-{high:.1f}, 90 % interval)"
    if now - twice[0] < FLAT:
        return f"The curve is flat: {told}."
    more = curve.more_for(0.01)
    if more is None:
        return f"One more point is out of reach by examples alone: {told}."
    between = f"{more[1]:,} or more" if more[2] is None else f"{more[1]:,}-{more[2]:,}"
    return f"To gain 1 point collect about {more[0]:,} more ({between}, 80 % interval); best of class {weakest}; {told}."

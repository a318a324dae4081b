"""The verdict on made sets whose truth is known."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LEARNED, TESTED = 1_500, 2_500
FEW = 100
"""Sets of so few examples have no test part: they are cross-fitted."""
Rows = tuple[np.ndarray, np.ndarray]
AS_GOOD = {"classical", "equal", "close"}
"""Verdicts that are right where a classical way can do everything that deep learning can."""


def truths(options: argparse.Namespace) -> dict[str, Any]:
    """How often the verdict on twelve made sets is one of those that are right for it; --seeds (5) draws of each."""
    seeds, found, right, total = options.seeds or 5, {}, 0, 0
    for name, (make, learned, allowed) in SETS.items():
        kinds = [_verdict(make, learned, seed) for seed in range(options.first, options.first + seeds)]
        right += sum(kind in allowed for kind in kinds)
        total += seeds
        found[name] = {"allowed": sorted(allowed), "verdicts": kinds}
        print(name, kinds, sorted(allowed), flush=True)
    return {"right": right, "of": total, "sets": found}


def _verdict(make: Callable[[np.random.Generator, int], Rows], learned: int, seed: int) -> str:
    """The kind of the verdict."""
    import lamina
    from lamina.data.examples import Examples
    from lamina.data.raw import RowRaw

    tested = TESTED if learned > FEW else 0
    x, y = make(np.random.default_rng(seed), learned + tested)
    names = tuple(f"x{place}" for place in range(x.shape[1]))
    raws = [RowRaw(names, tuple(row)) for row in x.tolist()] if x.ndim == 2 else list(x)
    parts = ["train"] * learned + ["test"] * tested if tested else [""] * learned
    examples = Examples(
        "made", [f"{row}" for row in range(len(x))], raws, [str(label) for label in y], parts, [""] * len(x),
        sense="vector" if x.ndim == 2 else "",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        model = lamina.train(examples, out=Path(place) / "m.lamina", runs=Path(place) / "runs", seed=seed, max_bad=1.0)
    assert model.verdict is not None
    return model.verdict.kind


# ---------------------------------------------------------------- the sets: (random, n) -> (X, y)


def linear(random: np.random.Generator, n: int) -> Rows:
    x = random.normal(size=(n, 10))
    return x, (x @ np.linspace(-1, 1, 10) > 0).astype(int)


def exclusive_or(random: np.random.Generator, n: int) -> Rows:
    x = random.normal(size=(n, 6))
    return x, ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)


def steps(random: np.random.Generator, n: int) -> Rows:
    """Rules at thresholds among columns that say nothing: what trees are for."""
    x = random.normal(size=(n, 30))
    return x, ((x[:, 0] > 0.3) & (x[:, 1] < 0.5) | (x[:, 2] > 1)).astype(int)


def one_category(random: np.random.Generator, n: int) -> Rows:
    x = random.normal(size=(n, 5))
    x[:, 0] = random.integers(0, 4, n)
    return x, (x[:, 0] % 2).astype(int)


def imbalanced(random: np.random.Generator, n: int) -> Rows:
    x = random.normal(size=(n, 8))
    return x, (x[:, 0] + x[:, 1] > 2.0).astype(int)


def noise(random: np.random.Generator, n: int) -> Rows:
    return random.normal(size=(n, 8)), random.integers(0, 2, n)


def rare_noise(random: np.random.Generator, n: int) -> Rows:
    return random.normal(size=(n, 8)), (random.random(n) < 0.1).astype(int)


def copied_noise(random: np.random.Generator, n: int) -> Rows:
    """Each row several times, label and all: whoever lets copies straddle the split finds them easy."""
    x, y = random.normal(size=(n // 4 + 1, 8)), random.integers(0, 2, n // 4 + 1)
    chosen = random.integers(0, len(x), n)
    return x[chosen], y[chosen]


def tiny(random: np.random.Generator, n: int) -> Rows:
    x = random.normal(size=(n, 8))
    return x, (x[:, 0] + 2 * random.normal(size=n) > 0).astype(int)


def noise_pictures(random: np.random.Generator, n: int) -> Rows:
    return random.integers(0, 256, (n, 12, 12)).astype(np.uint8), random.integers(0, 2, n)


def bright_pictures(random: np.random.Generator, n: int) -> Rows:
    y = random.integers(0, 2, n)
    return np.clip(random.normal(110 + 40 * y[:, None, None], 30, (n, 12, 12)), 0, 255).astype(np.uint8), y


def same_or_different(random: np.random.Generator, n: int) -> Rows:
    """Two small crosses or squares anywhere: are they of one kind? Nothing in the brightness or the position tells."""
    shapes = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[1, 1, 0], [1, 1, 0], [0, 0, 1]]])
    x, y = np.zeros((n, 16, 16)), random.integers(0, 2, n)
    for row in range(n):
        first = random.integers(0, 2)
        for kind, half in ((first, 0), (first if y[row] else 1 - first, 8)):
            top, left = random.integers(0, 13), half + random.integers(0, 6)
            x[row, top : top + 3, left : left + 3] += shapes[kind]
    return np.clip(40 + 170 * x + random.normal(0, 8, x.shape), 0, 255).astype(np.uint8), y


SETS: dict[str, tuple[Callable[[np.random.Generator, int], Rows], int, set[str]]] = {
    "linear": (linear, LEARNED, AS_GOOD),
    "exclusive or": (exclusive_or, LEARNED, AS_GOOD),
    "steps": (steps, LEARNED, AS_GOOD),
    "one category": (one_category, LEARNED, AS_GOOD),
    "imbalanced": (imbalanced, LEARNED, AS_GOOD),
    "bright pictures": (bright_pictures, LEARNED, AS_GOOD),
    "noise": (noise, LEARNED, {"nothing"}),
    "rare noise": (rare_noise, LEARNED, {"nothing"}),
    "copied noise": (copied_noise, LEARNED, {"nothing"}),
    "noise pictures": (noise_pictures, LEARNED, {"nothing"}),
    "tiny": (tiny, 40, {"too-little", "nothing"}),
    "same or different": (same_or_different, 6_000, {"deep"}),
}
"""Name -> (how it is made, training examples, verdicts that are right)."""

"""The classical way to say what comes next: n-gram counts with interpolated Kneser-Ney smoothing, of the tokens that the network reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from lamina.classical.fit import Classical, Opponent, Trial
from lamina.layers import NGrams, Same
from lamina.networks import Network
from lamina.outputs import NextOutput
from lamina.training.windows import WindowFeed, Windows

if TYPE_CHECKING:
    from lamina.data.batches import Feed

ORDERS = (2, 3, 4, 5, 6, 7, 8)
HELD_OUT = 0.05
"""Share of the training stream on which the order is chosen."""
MOST_TOKENS = 20_000_000
SEARCH_SHARE = 0.6
ROWS = 64
NGRAM_OPPONENTS = (Opponent("n-grams", lambda input, x: [], ("kneser-ney",), ("a token depends on the few before it",)),)


def fit_ngrams(
    opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0
) -> Classical:
    """Longer and longer runs, judged on the end of the training stream; the best length counted on all of it."""
    begun = time.perf_counter()
    assert isinstance(feed, WindowFeed) and isinstance(feed.values, Windows) and isinstance(feed.output, NextOutput)
    stream, length = training_stream(feed.values, train), feed.values.length
    border = len(stream) - max(length + 1, int(HELD_OUT * len(stream)))
    known, asked = stream[:border], stream[border:]
    count, trials, complete = feed.output.count, [], True
    for order in ORDERS:
        layer = counted(known, count, order)
        trials.append(Trial("n-grams", "kneser-ney", float(order), 0.0, -_nats(layer, asked, length)))
        worse = len(trials) > 1 and trials[-1].score <= trials[-2].score
        if worse or len(layer.sizes) < order:
            break
        if time.perf_counter() - begun > SEARCH_SHARE * seconds:
            complete = False
            break
    best = max(trials, key=lambda trial: trial.score)
    searched = time.perf_counter()
    layer = counted(stream, count, int(best.setting))
    network = Network([("input", Same()), ("head", layer)]).eval().requires_grad_(False)
    learned = train[: max(1, round(len(train) * min(1.0, len(stream) / max(1, feed.values.length * len(train)))))]
    return Classical(
        f"{int(best.setting)}-grams, Kneser-Ney", network, best, trials, opponents[0].features, ("how many tokens before it count",),
        "how often what followed what", searched - begun, time.perf_counter() - searched, complete, len(learned),
    )  # fmt: skip


def training_stream(windows: Windows, train: np.ndarray) -> np.ndarray:
    """The tokens that the windows `train` cover, the last MOST_TOKENS of them."""
    first = int(windows.begins[train].min())
    last = int((windows.begins[train] + windows.slack[train] + windows.counted[train, 1]).max()) + 1
    return windows.stream[max(first, last - MOST_TOKENS) : last].astype(np.int64)


def token_shares(feed: Feed, train: np.ndarray) -> NGrams:
    """The layer that knows only how frequent each token is."""
    assert isinstance(feed.values, Windows) and isinstance(feed.output, NextOutput)
    return counted(training_stream(feed.values, train), feed.output.count, 1)


def counted(stream: np.ndarray, count: int, order: int) -> NGrams:
    """The layer for runs of up to `order` tokens of a stream."""
    keys: list[np.ndarray] = []
    runs: list[np.ndarray] = []
    where: list[np.ndarray] = []
    number = np.zeros(len(stream) + 1, np.int64)  # of the run of n - 1 tokens that ends before each token
    for level in range(order):
        if len(stream) <= level:
            break
        pairs = number[level : len(stream)] * count + stream[level:]
        unique, first, run = np.unique(pairs, return_index=True, return_inverse=True)
        keys.append(unique)
        runs.append(np.r_[np.full(level, -1), run])
        where.append(first + level)
        number = np.r_[0, runs[-1]]
    layer = NGrams(count, [len(each) for each in keys])
    for level in range(len(keys)):
        if level == len(keys) - 1:
            counts = np.bincount(runs[level][level:], minlength=len(keys[level]))
        else:  # of how many runs that are one token longer it is the end
            counts = np.bincount(runs[level][where[level + 1]], minlength=len(keys[level]))
        contexts = 1 if level == 0 else len(keys[level - 1])
        shares, rests = _discounted(counts, keys[level] // count, contexts)
        for name, value in (("keys", keys[level]), ("shares", shares), ("rests", rests)):
            getattr(layer, f"{name}{level}").copy_(torch.from_numpy(value))
    return layer


def _discounted(counts: np.ndarray, owners: np.ndarray, contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """(share of each run in its context, share that each context leaves to the shorter one)."""
    ones, twos, threes, fours = (max(1, int((counts == n).sum())) for n in (1, 2, 3, 4))
    unseen = ones / (ones + 2 * twos)
    by_count = [0.0, 1 - 2 * unseen * twos / ones, 2 - 3 * unseen * threes / twos, 3 - 4 * unseen * fours / threes]
    discounts = np.clip(by_count, [0, 0.05, 0.05, 0.05], [0, 0.95, 1.9, 2.85])[np.minimum(counts, 3)]
    totals = np.bincount(owners, counts, contexts)
    left = np.bincount(owners, np.minimum(discounts, counts), contexts)
    shares = np.maximum(counts - discounts, 0) / np.maximum(1, totals)[owners]
    return shares.astype(np.float32), np.where(totals > 0, left / np.maximum(1, totals), 1.0).astype(np.float32)


def _nats(layer: NGrams, asked: np.ndarray, length: int) -> float:
    """Mean nats a token on a stretch of text."""
    rows = (len(asked) - 1) // length
    x = torch.from_numpy(asked[: rows * length].reshape(rows, length))
    y = torch.from_numpy(asked[1 : rows * length + 1].reshape(rows, length))
    total = 0.0
    for some, wanted in zip(x.split(ROWS), y.split(ROWS), strict=True):
        total -= float(layer.of(some, wanted).sum())
    return total / max(1, x.numel())

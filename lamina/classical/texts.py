"""The classical ways to tell what a text is: words, pairs of words and runs of characters, weighed and added up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lamina.classical.fit import Classical, Opponent, Trial, classes_of, deal_out, targets_of
from lamina.inputs import TextInput
from lamina.layers import Same, SparseLinear, WordCounts
from lamina.networks import Network

if TYPE_CHECKING:
    from lamina.data.batches import Feed

SIZE = 1 << 18
PARTS: dict[str, Any] = {
    "words": {"first": 1, "last": 2, "characters": False, "binary": False},
    "characters": {"first": 3, "last": 5, "characters": True, "binary": False},
    "words, naive Bayes": {"first": 1, "last": 2, "characters": False, "binary": True},
}
PENALTIES = {"linear": (0.01, 0.1, 1.0), "naive bayes": (1.0, 10.0, 100.0)}
"""Of long weights, as 1 / C of scikit-learn."""
SMOOTHED = 1.0
BATCH = 512
SLOW = 30_000_000
"""Characters of the training part from which on runs of characters are not counted: it would take minutes."""
SEARCH_SHARE = 0.6
_WORDS = ("a text is what words stand in it, in any order", "pairs of neighbors count, too")
TEXT_OPPONENTS = (
    Opponent("words", lambda input, x: [], ("linear",), (*_WORDS, "rare words count more")),
    Opponent("words, naive Bayes", lambda input, x: [], ("naive bayes",), (*_WORDS, "a word counts by how much more often a class has it")),
    Opponent("characters", lambda input, x: [], ("linear",), ("runs of 3 to 5 characters of a word", "rare ones count more")),
)
"""Logistic regression on tf-idf; the same on presence times the log-ratio of naive Bayes (Wang & Manning 2012, https://aclanthology.org/P12-2018)."""


def fit_texts(opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0) -> Classical:
    """Try each opponent's penalties on a third of the training part set aside; fit the winner on all of it."""
    begun = time.perf_counter()
    wanted, classes = targets_of(feed, train), classes_of(feed)
    aside = deal_out(wanted, np.random.Generator(np.random.Philox(key=seed))) == 0
    trials: list[Trial] = []
    kept: dict[str, tuple[WordCounts, Any]] = {}
    complete = True
    for opponent in opponents:
        if trials and (
            (opponent.name == "characters" and _characters(feed, train) > SLOW) or time.perf_counter() - begun > SEARCH_SHARE * seconds
        ):
            complete = False
            continue
        layer, counts = kept[opponent.name] = count_words(opponent, feed, train)
        layer.learn_rarity(counts[~aside])
        features = layer.weighed(counts)
        for penalty in PENALTIES[opponent.heads[0]]:
            weights, bias = _fitted(opponent.heads[0], features[~aside], wanted[~aside], classes, penalty)
            right = (features[aside] @ weights + bias).argmax(1) == wanted[aside]
            trials.append(Trial(opponent.name, opponent.heads[0], 0.0, penalty, float(right.mean())))
    best = max(trials, key=lambda trial: trial.score)
    chosen = next(opponent for opponent in opponents if opponent.name == best.opponent)
    searched = time.perf_counter()
    layer, counts = kept[best.opponent]
    layer.learn_rarity(counts)
    head = SparseLinear(SIZE, classes)
    for parameter, value in zip(
        (head.weights, head.bias), _fitted(best.head, layer.weighed(counts), wanted, classes, best.penalty), strict=True
    ):
        parameter.data.copy_(torch.from_numpy(value))
    network = Network([("input", Same()), ("features", layer), ("head", head)]).eval().requires_grad_(False)
    return Classical(
        f"{best.opponent}, logistic regression", network, best, trials, chosen.features, ("which features", "the penalty"),
        "each word's weight", searched - begun, time.perf_counter() - searched, complete, len(train),
    )  # fmt: skip


def count_words(opponent: Opponent, feed: Feed, train: np.ndarray) -> tuple[WordCounts, Any]:
    """(the layer of an opponent's counts, the counts of the examples `train`)."""
    from scipy.sparse import vstack

    assert isinstance(feed.input, TextInput)
    layer = WordCounts.of(feed.input.spelled, SIZE, **PARTS[opponent.name])
    parts = []
    for batch in feed.in_order(train.tolist(), BATCH):
        assert batch.context.lengths is not None
        parts.append(layer.counts(batch.x.cpu(), batch.context.lengths.cpu()))
    return layer, vstack(parts).tocsr()


def _characters(feed: Feed, train: np.ndarray) -> int:
    assert isinstance(feed.input, TextInput)
    some = train[:: max(1, len(train) // 200)]
    bytes_of = feed.input.bytes_of
    return int(np.mean([bytes_of[np.asarray(feed.values.take([index])[0])].sum() for index in some]) * len(train))


def _fitted(head: str, features: Any, wanted: np.ndarray, classes: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """(weights [size, classes], bias [classes]) in float32, by scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    if head == "linear":
        model = LogisticRegression(C=1 / penalty, max_iter=100, tol=1e-3, solver="lbfgs" if classes > 2 else "liblinear").fit(
            features, wanted
        )
        return _of_all(model.coef_.T, model.intercept_, model.classes_, classes)
    weights, bias = np.zeros((features.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    for number in range(classes) if classes > 2 else (1,):
        own = wanted == number
        if not own.any() or own.all():
            continue
        inside, outside = (SMOOTHED + np.asarray(features[rows].sum(0)).ravel() for rows in (own, ~own))
        ratio = np.log((inside / inside.sum()) / (outside / outside.sum())).astype(np.float32)
        scaled = features.multiply(ratio).tocsr()
        model = LogisticRegression(C=1 / penalty, max_iter=100, tol=1e-3, solver="liblinear").fit(scaled, own)
        weights[:, number], bias[number] = model.coef_[0] * ratio, model.intercept_[0]
    return weights, bias


def _of_all(weights: np.ndarray, bias: np.ndarray, known: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """With a column for each class; two classes are told by one column, and a class that no example showed is never right."""
    full, offsets = np.zeros((len(weights), classes), np.float32), np.full(classes, -1e3, np.float32)
    offsets[known] = 0.0
    if len(known) == 2:
        full[:, known[1]], offsets[known[1]] = weights[:, 0], bias[0]
    else:
        full[:, known], offsets[known] = weights, bias
    return full, offsets

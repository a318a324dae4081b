"""The classical ways to tell a number from hand-made features: ridge regression and boosted trees."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lamina.classical.fit import (
    BOOSTING,
    BOOSTING_ROUNDS,
    LEAST_LOOKED_AT,
    LOOKED_AT,
    MOST_ROWS,
    WIDEST_BOOSTED,
    Classical,
    Opponent,
    Trial,
    fit_scale,
    trees_of,
)
from lamina.classical.texts import SIZE, count_words
from lamina.inputs import TextInput
from lamina.layers import Layer, Linear, Same, SparseLinear
from lamina.networks import Network

if TYPE_CHECKING:
    from lamina.data.batches import Feed

PENALTIES = (1.0, 10.0, 100.0, 1_000.0)
"""Of ridge regression on features of deviation 1."""
HELD_OUT = 0.25
SEARCH_SHARE = 0.5
BATCH = 512


def fit_numbers(
    opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0
) -> Classical:
    """Each opponent's features under ridge regression and boosted trees, judged by the mean error on a quarter of some training examples;
    the best fitted on all."""
    begun = time.perf_counter()
    random = np.random.Generator(np.random.Philox(key=seed))
    few = np.sort(random.permutation(train)[: max(LEAST_LOOKED_AT, LOOKED_AT)])
    aside = random.random(len(few)) < HELD_OUT
    if not aside.any() or aside.all():
        aside = np.arange(len(few)) % 4 == 0
    wanted = np.array([feed.targets[index] for index in few], np.float64)
    trials: list[Trial] = []
    known: dict[str, tuple[list[tuple[str, Layer]], Any]] = {}
    complete = True
    for opponent in opponents:
        if trials and time.perf_counter() - begun > SEARCH_SHARE * seconds:
            complete = False
            break
        known[opponent.name] = _features(opponent, feed, train, few)
        signals = known[opponent.name][1]
        for head, setting, penalty in _grid(signals):
            if trials and time.perf_counter() - begun > SEARCH_SHARE * seconds:
                complete = False
                break
            predict = _fitted(head, signals[~aside], wanted[~aside], setting, penalty)
            error = float(np.abs(predict(signals[aside]) - wanted[aside]).mean())
            trials.append(Trial(opponent.name, head, setting, penalty, -error))
    best = max(trials, key=lambda trial: trial.score)
    chosen = next(opponent for opponent in opponents if opponent.name == best.opponent)
    searched = time.perf_counter()
    layers, signals = known[best.opponent]
    rows = np.sort(random.permutation(train)[:MOST_ROWS])
    signals = signals if len(rows) == len(few) else _signals(layers, feed, rows)
    targets = np.array([feed.targets[index] for index in rows], np.float64)
    spread = math.log(max(1e-6, -best.score * 1.25))  # of a normal distribution the deviation is 1.25 times the mean error
    network = Network([*layers, *_last(best, signals, targets, spread)]).eval().requires_grad_(False)
    words = "boosted trees" if best.head == "boosting" else "ridge regression"
    return Classical(
        f"{best.opponent}, {words}", network, best, trials, chosen.features, ("which features", "which head", "the penalty"),
        "every question that its trees ask" if best.head == "boosting" else "a weight for each feature",
        searched - begun, time.perf_counter() - searched, complete, len(rows),
    )  # fmt: skip


def _features(opponent: Opponent, feed: Feed, train: np.ndarray, few: np.ndarray) -> tuple[list[tuple[str, Layer]], Any]:
    """(the layers up to the features, the features of `few`): dense, or sparse of texts."""
    if isinstance(feed.input, TextInput):
        layer, counts = count_words(opponent, feed, few)
        layer.learn_rarity(counts)
        return [("input", Same()), ("features", layer)], layer.weighed(counts)
    looked_at = train[np.linspace(0, len(train) - 1, min(len(train), 2_048)).astype(np.int64)]
    layers = opponent.layers(feed.input, feed.batch(looked_at).x.cpu())
    return layers, _signals(layers, feed, few)


def _signals(layers: list[tuple[str, Layer]], feed: Feed, rows: np.ndarray) -> Any:
    """float32 [n, features]; a sparse matrix of texts."""
    found, sparse = [], False
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            batch = feed.batch(rows[start : start + BATCH])
            x, context = batch.x.cpu(), batch.context.to(torch.device("cpu"))
            for _, layer in layers:
                x, context = layer(x, context)
            sparse = x.is_sparse or x.shape[1] > WIDEST_BOOSTED  # categories spread out are nearly all 0
            found.append(_as_scipy(x) if sparse else x.float().numpy())
    if sparse:
        from scipy.sparse import vstack

        return vstack(found).tocsr()
    return np.concatenate(found)


def _as_scipy(x: Tensor) -> Any:
    from scipy.sparse import coo_matrix

    x = (x if x.is_sparse else x.float().to_sparse()).coalesce()
    return coo_matrix((x.values().numpy(), tuple(x.indices().numpy())), x.shape)


def _grid(signals: Any) -> list[tuple[str, float, float]]:
    points = [("ridge", 0.0, penalty) for penalty in PENALTIES]
    if isinstance(signals, np.ndarray) and signals.shape[1] <= WIDEST_BOOSTED:
        points = [("boosting", float(leaves), rate) for leaves, rate in BOOSTING] + points
    return points


def _fitted(head: str, signals: Any, wanted: np.ndarray, setting: float, penalty: float) -> Any:
    """What predicts from signals."""
    if head == "boosting":
        return _boosted(signals, wanted, setting, penalty).predict
    scale = fit_scale(torch.from_numpy(signals)) if isinstance(signals, np.ndarray) else None
    model = _ridge(signals if scale is None else (signals - scale.mean.numpy()) / scale.deviation.numpy(), wanted, penalty)
    return lambda some: model.predict(some if scale is None else (some - scale.mean.numpy()) / scale.deviation.numpy())


def _ridge(signals: Any, wanted: np.ndarray, penalty: float) -> Any:
    from sklearn.linear_model import Ridge

    sparse = not isinstance(signals, np.ndarray)
    return Ridge(alpha=penalty / 10 if sparse else penalty, solver="sag" if sparse else "auto", max_iter=200, tol=1e-3, random_state=0).fit(
        signals, wanted
    )


def _boosted(signals: np.ndarray, wanted: np.ndarray, leaves: float, rate: float) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=BOOSTING_ROUNDS, max_leaf_nodes=int(leaves), learning_rate=rate, early_stopping=False, random_state=0
    ).fit(signals, wanted)


def _last(trial: Trial, signals: Any, wanted: np.ndarray, spread: float) -> list[tuple[str, Layer]]:
    """From the features to the number and its spread."""
    if trial.head == "boosting":
        trees = trees_of(_boosted(signals, wanted, trial.setting, trial.penalty), signals.shape[1], 1)
        return [("trees", trees), ("head", _line(np.ones((1, 1)), 0.0, spread))]
    if not isinstance(signals, np.ndarray):
        model = _ridge(signals, wanted, trial.penalty)
        if signals.shape[1] != SIZE:
            return [("head", _line(model.coef_[None], float(model.intercept_), spread))]
        head = SparseLinear(SIZE, 2)
        head.weights.data[:, 0] = torch.from_numpy(model.coef_.astype(np.float32))
        head.bias.data.copy_(torch.tensor([float(model.intercept_), spread]))
        return [("head", head)]
    scale = fit_scale(torch.from_numpy(signals))
    model = _ridge((signals - scale.mean.numpy()) / scale.deviation.numpy(), wanted, trial.penalty)
    return [("scale", scale), ("head", _line(model.coef_[None], float(model.intercept_), spread))]


def _line(weights: np.ndarray, bias: float, spread: float) -> Linear:
    head = Linear(weights.shape[1], 2, start=0.0)
    with torch.no_grad():
        head.weights.weight[0] = torch.from_numpy(weights[0]).float()
        head.weights.bias.copy_(torch.tensor([bias, spread]))
    return head

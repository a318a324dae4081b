"""Fitting the classical way: features, a small published grid of heads, cross-validated on training examples only, inside so many seconds.

The linear head is closed form (ridge regression on targets of +-1; scikit-learn: RidgeClassifier), from sums that are added up batch
by batch, so that it needs no more memory on a million examples than on a thousand. After a kernel layer it is kernel ridge regression.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lamina.classical.layers import Constant, Nystroem, Prototypes, Scale
from lamina.layers import Context, Layer, Linear
from lamina.networks import Network

if TYPE_CHECKING:
    from lamina.data.batches import Feed
    from lamina.inputs import Input

LOOKED_AT = 6_000
"""Most training examples that the grid is cross-validated on; the winner is fitted on all."""
FOLDS = 3
LANDMARKS_TRIED = 500
LANDMARKS = (500, 1_000, 2_000, 4_000)
"""The most that the time and the examples allow are taken in the final fit."""
WIDTHS = (0.5, 1.0, 2.0, 4.0)
"""Kernel widths: gamma times the median squared distance between training examples."""
PENALTIES = {"linear": (10.0, 100.0, 1_000.0, 10_000.0), "kernel": (1e-3, 1e-2, 1e-1, 1.0)}
PROTOTYPES = (1, 4, 16)
"""Per class."""
HELD_OUT_FROM = 200
HELD_OUT = 0.1
"""Share of the training examples on which the final fit chooses its penalty anew, when these are at least 200."""
BATCH = 512
FINAL_SHARE = 0.6
"""Share of the seconds that the search leaves to the final fit."""
JITTER = 1e-4
"""Added to the kernel among the landmarks, whose value for equal ones is 1."""
_NONE = Context()


@dataclass(frozen=True)
class Opponent:
    """One classical way to do a task: features that people thought of, and the heads to try on them."""

    name: str
    layers: Callable[[Input], list[tuple[str, Layer]]]
    """Fitted input -> the layers from what it reads to [N, features]."""
    heads: tuple[str, ...] = ("kernel", "linear", "prototypes")
    decisions: tuple[str, ...] = ()
    """What somebody had to think of: each feature and each of its settings."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid."""

    opponent: str
    head: str
    setting: float
    """Kernel: width; prototypes: how many a class; linear: 0."""
    penalty: float
    score: float
    """Accuracy, cross-validated on training examples."""


@dataclass
class Classical:
    """The winner of the grid, fitted on the whole training part."""

    name: str
    network: Network
    trial: Trial
    trials: list[Trial] = field(repr=False)
    decisions: tuple[str, ...]
    search_seconds: float
    fit_seconds: float
    complete: bool
    """Whether the whole grid was tried inside the seconds."""


def fit_classical(opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0) -> Classical:
    """Try the grid on a part of `train`, fit its winner on all of it; about `seconds` in all. Answers are classes."""
    begun = time.perf_counter()
    random = np.random.Generator(np.random.Philox(key=seed))
    classes = _classes(feed)
    few = np.sort(random.permutation(train)[:LOOKED_AT])
    wanted = targets_of(feed, few)
    fold = _folds(wanted, random)
    trials: list[Trial] = []
    complete = True
    for trial in _grid(opponents, feed, few, wanted, fold, classes, random):
        trials.append(trial)
        if trial.score == 1.0:
            break  # there is nothing left to win
        if time.perf_counter() - begun > (1 - FINAL_SHARE) * seconds:
            complete = False
            break
    best = max(trials, key=lambda trial: trial.score)
    searched = time.perf_counter()
    chosen = next(opponent for opponent in opponents if opponent.name == best.opponent)
    hidden, last = _fit_final(chosen, best, feed, train, classes, begun + seconds, random)
    network = Network([*chosen.layers(feed.input), *hidden, ("head", last)]).eval()
    done = time.perf_counter()
    return Classical(f"{chosen.name}, {_words(best)}", network, best, trials, chosen.decisions, searched - begun, done - searched, complete)


def trivial(feed: Feed, train: np.ndarray) -> Network:
    """The network that never looks: how often each class occurs in the training part."""
    counts = np.bincount(targets_of(feed, train), minlength=_classes(feed))
    layer = Constant(len(counts))
    with torch.no_grad():
        layer.values.copy_(torch.from_numpy(np.log(np.maximum(counts, 0.5) / counts.sum())))
    return Network([("head", layer)]).eval()


# ---------------------------------------------------------------- the grid


def _grid(
    opponents: tuple[Opponent, ...], feed: Feed, few: np.ndarray, wanted: np.ndarray, fold: np.ndarray, classes: int,
    random: np.random.Generator,
) -> Iterator[Trial]:  # fmt: skip
    for opponent in opponents:
        features = _signals(opponent.layers(feed.input), feed, few)
        for head in opponent.heads:
            yield from _try_head(opponent.name, head, features, wanted, fold, classes, random)


def _try_head(
    name: str, head: str, features: Tensor, wanted: np.ndarray, fold: np.ndarray, classes: int, random: np.random.Generator
) -> Iterator[Trial]:
    if head == "linear":
        scale = fit_scale(features)
        yield _best_penalty(name, head, 0.0, scale(features, _NONE)[0], wanted, fold, classes)
    elif head == "kernel":
        landmarks = features[torch.from_numpy(random.permutation(len(features))[:LANDMARKS_TRIED])]
        for width in WIDTHS:
            yield _best_penalty(name, head, width, fit_kernel(features, landmarks, width)(features, _NONE)[0], wanted, fold, classes)
    else:
        scaled = fit_scale(features)(features, _NONE)[0]
        for count in PROTOTYPES:
            right = 0
            for number in range(FOLDS):
                learned = fold != number
                if np.bincount(wanted[learned], minlength=classes).min() < count:
                    break
                layer = fit_prototypes(scaled[learned], wanted[learned], classes, count)
                right += int((layer(scaled[~learned], _NONE)[0].argmax(1).numpy() == wanted[~learned]).sum())
            else:
                yield Trial(name, head, float(count), 0.0, right / len(wanted))


def _best_penalty(name: str, head: str, setting: float, signals: Tensor, wanted: np.ndarray, fold: np.ndarray, classes: int) -> Trial:
    """The penalty of the best cross-validated accuracy."""
    right = dict.fromkeys(PENALTIES[head], 0)
    few = 2 * len(signals) // FOLDS < signals.shape[1]
    sums = [] if few else [Sums.of(signals[fold == number], wanted[fold == number], classes) for number in range(FOLDS)]
    for number in range(FOLDS):
        own = fold != number
        held, truth = signals[~own], torch.from_numpy(wanted[~own])
        solve = Few(signals[own], wanted[own], classes).solve if few else (sums[number - 1] + sums[number - 2]).solve
        for penalty in right:
            right[penalty] += int((solve(penalty)(held, _NONE)[0].argmax(1) == truth).sum())
    best = max(right, key=lambda penalty: right[penalty])
    return Trial(name, head, setting, best, right[best] / len(wanted))


def _fit_final(
    opponent: Opponent, best: Trial, feed: Feed, train: np.ndarray, classes: int, deadline: float, random: np.random.Generator
) -> tuple[list[tuple[str, Layer]], Layer]:
    layers = opponent.layers(feed.input)
    order = random.permutation(train)
    some = _signals(layers, feed, np.sort(order[:LOOKED_AT]))
    if best.head == "prototypes":
        scale = fit_scale(some)
        return [("scale", scale)], fit_prototypes(
            scale(some, _NONE)[0], targets_of(feed, np.sort(order[:LOOKED_AT])), classes, int(best.setting)
        )
    first: Layer
    if best.head == "linear":
        first = fit_scale(some)
    else:
        count = _affordable(layers, some, feed, len(train), best.setting, deadline)
        first = fit_kernel(some, _signals(layers, feed, order[:count]), best.setting)
    name = "scale" if best.head == "linear" else "kernel"
    below = [*layers, (name, first)]
    if len(train) < 2 * HELD_OUT_FROM and len(train) < (signals := _signals(below, feed, train)).shape[1]:
        return [(name, first)], Few(signals, targets_of(feed, train), classes).solve(best.penalty)
    held, learned = order[: int(HELD_OUT * len(order))], order[int(HELD_OUT * len(order)) :]
    sums = _sums(below, feed, learned, classes)
    penalty = best.penalty
    if len(held) >= HELD_OUT_FROM:
        truth = torch.from_numpy(targets_of(feed, held))
        right = {}
        signals = _signals(below, feed, held)
        for tried in PENALTIES[best.head]:
            right[tried] = int((sums.solve(tried)(signals, _NONE)[0].argmax(1) == truth).sum())
        penalty = max(right, key=lambda tried: right[tried])
    sums = sums + _sums(below, feed, held, classes)
    return [(name, first)], sums.solve(penalty)


def _affordable(layers: list[tuple[str, Layer]], some: Tensor, feed: Feed, examples: int, width: float, deadline: float) -> int:
    """The most landmarks for which the fit should end before the deadline, by what a small one takes."""
    sample = some[: 4 * BATCH]
    taken, begun = 0, time.perf_counter()
    for count in LANDMARKS:
        if count > min(examples // 2, len(some)) and taken:
            break
        at = time.perf_counter()
        probe = fit_kernel(sample, some[torch.arange(count) % len(some)], width, solve=False)
        sums = Sums.of(probe(sample, _NONE)[0], np.zeros(len(sample), np.int64), 2)
        one = time.perf_counter() - at
        del probe, sums
        needed = 1.2 * one * examples / len(sample) + 4e-11 * count**3
        if taken and time.perf_counter() + needed > deadline:
            break
        taken = count
        if time.perf_counter() - begun > 0.2 * max(0.0, deadline - begun):
            break
    return min(taken, examples)


# ---------------------------------------------------------------- fitting single layers


class Sums:
    """What a linear head needs to know of examples: the products of their signals (a 1 appended) with themselves and with the targets."""

    def __init__(self, products: Tensor, answers: Tensor) -> None:
        self.products, self.answers = products, answers

    @staticmethod
    def of(signals: Tensor, wanted: np.ndarray, classes: int) -> Sums:
        """signals [n, d], wanted [n] class numbers; targets are +1 for the right class and -1 for the others."""
        ones = torch.cat([signals, torch.ones(len(signals), 1)], 1)
        targets = torch.full((len(signals), classes), -1.0).scatter_(1, torch.from_numpy(wanted)[:, None], 1.0)
        return Sums((ones.T @ ones).double(), (ones.T @ targets).double())

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.products + other.products, self.answers + other.answers)

    def solve(self, penalty: float) -> Linear:
        """The weights of least squared error plus `penalty` times their squared length; the bias is free."""
        system = self.products.clone()
        system.diagonal()[:-1] += penalty
        system.diagonal()[-1] += 1e-9
        weights = torch.cholesky_solve(self.answers, torch.linalg.cholesky(system)).T
        return _linear(weights[:, :-1], weights[:, -1])


class Few:
    """The same head for fewer examples than signals, from the products of the examples with each other."""

    def __init__(self, signals: Tensor, wanted: np.ndarray, classes: int) -> None:
        targets = torch.full((len(signals), classes), -1.0, dtype=torch.float64)
        targets.scatter_(1, torch.from_numpy(wanted)[:, None], 1.0)
        self.middle, self.target = signals.double().mean(0), targets.mean(0)
        self.centered, self.targets = signals.double() - self.middle, targets - self.target
        self.products = self.centered @ self.centered.T

    def solve(self, penalty: float) -> Linear:
        system = self.products.clone()
        system.diagonal().add_(penalty)
        weights = (self.centered.T @ torch.cholesky_solve(self.targets, torch.linalg.cholesky(system))).T
        return _linear(weights, self.target - weights @ self.middle)


def _linear(weights: Tensor, bias: Tensor) -> Linear:
    head = Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        head.weights.weight.copy_(weights)
        head.weights.bias.copy_(bias)
    return head.requires_grad_(False)


def fit_scale(features: Tensor) -> Scale:
    """Equal to scikit-learn's StandardScaler."""
    layer = Scale(features.shape[1])
    deviation = features.std(0, correction=0)
    layer.mean.copy_(features.mean(0))
    layer.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))
    return layer


def fit_kernel(features: Tensor, landmarks: Tensor, width: float, solve: bool = True) -> Nystroem:
    """The layer with `width` over the median squared distance as its gamma. `solve` False leaves the root out: for timing only."""
    half = min(300, len(features) // 2)
    median = float(torch.cdist(features[:half], features[half : 2 * half]).square().median()) or 1.0
    layer = Nystroem(landmarks.shape[1], len(landmarks), width / median)
    layer.landmarks.copy_(landmarks)
    if solve:
        square = torch.cdist(landmarks, landmarks).square().double()
        kernel = torch.exp(-layer.gamma * square)
        kernel.diagonal().add_(JITTER)
        lower = torch.linalg.cholesky(kernel)
        root = torch.linalg.solve_triangular(lower, torch.eye(len(landmarks), dtype=torch.float64), upper=False).T
        layer.root.copy_(root)
    return layer


def fit_prototypes(features: Tensor, wanted: np.ndarray, classes: int, count: int) -> Prototypes:
    """`count` centers of each class by k-means (scikit-learn); its mean when `count` is 1 (scikit-learn: NearestCentroid)."""
    from sklearn.cluster import KMeans

    places, owners = [], []
    for label in range(classes):
        own = features[torch.from_numpy(wanted == label)].numpy()
        if count == 1:
            places.append(own.mean(0, keepdims=True))
        else:
            places.append(KMeans(min(count, len(own)), n_init=1, max_iter=50, random_state=0).fit(own).cluster_centers_)
        owners += [label] * len(places[-1])
    layer = Prototypes(features.shape[1], classes, owners)
    layer.places.copy_(torch.from_numpy(np.concatenate(places)))
    return layer


# ---------------------------------------------------------------- signals


def signals_in_batches(layers: list[tuple[str, Layer]], feed: Feed, examples: np.ndarray) -> Iterator[tuple[Tensor, np.ndarray]]:
    """([n, features], class numbers) batch by batch."""
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            some = examples[start : start + BATCH]
            batch = feed.batch(some)
            x, context = batch.x.cpu(), batch.context.to(torch.device("cpu"))
            for _, layer in layers:
                x, context = layer(x, context)
            yield x.float(), targets_of(feed, some)


def _signals(layers: list[tuple[str, Layer]], feed: Feed, examples: np.ndarray) -> Tensor:
    return torch.cat([x for x, _ in signals_in_batches(layers, feed, examples)])


def _sums(layers: list[tuple[str, Layer]], feed: Feed, examples: np.ndarray, classes: int) -> Sums:
    total: Sums | None = None
    for x, wanted in signals_in_batches(layers, feed, examples):
        found = Sums.of(x, wanted, classes)
        if total is None:
            total = found
        else:
            total.products += found.products
            total.answers += found.answers
    assert total is not None
    return total


def targets_of(feed: Feed, examples: np.ndarray) -> np.ndarray:
    return np.array([feed.targets[index] for index in examples], np.int64)


def _classes(feed: Feed) -> int:
    return len(feed.output.labels)  # type: ignore[attr-defined]


def _folds(wanted: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The fold of each example, every class dealt out evenly."""
    fold = np.empty(len(wanted), np.int64)
    order = random.permutation(len(wanted))
    order = order[np.argsort(wanted[order], kind="stable")]
    fold[order] = np.arange(len(wanted)) % FOLDS
    return fold


def _words(trial: Trial) -> str:
    if trial.head == "prototypes":
        return "nearest mean" if trial.setting == 1 else f"nearest of {trial.setting:g} prototypes a class"
    return "linear" if trial.head == "linear" else "Gaussian kernel"

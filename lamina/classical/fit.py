"""Fitting the classical way: features, a small published grid of heads, cross-validated on training examples only, inside so many seconds.

The linear head is closed form (ridge regression on targets of +-1; scikit-learn: RidgeClassifier), from sums that are added up batch
by batch, so that it needs no more memory on a million examples than on a thousand. After a kernel layer it is kernel ridge regression.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lamina.classical.layers import Constant, Nystroem, Prototypes, Scale, Trees
from lamina.layers import Context, Layer, Linear
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.training.device import give_back_memory

if TYPE_CHECKING:
    from lamina.data.batches import Feed
    from lamina.inputs import Input

PROBE = 256
LEAST_LOOKED_AT = 600
LOOKED_AT = 4_000
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
DECISIONS = {
    "linear": ("the penalty",),
    "kernel": ("the kernel's width", "how many landmarks", "the penalty"),
    "prototypes": ("how many prototypes a class",),
    "boosting": ("leaves of a tree", "the learning rate", "how many rounds"),
}
INSPECT = {
    "linear": "a weight for each feature and class",
    "kernel": "the training examples that an answer is measured against",
    "prototypes": "the prototypes of each class",
    "boosting": "every question that its trees ask",
}
BOOSTING, BOOSTING_ROUNDS = ((31, 0.1), (8, 0.1), (8, 0.03)), 200
"""(leaves of a tree, learning rate) to try, and how many rounds."""
MOST_ROWS = 300_000
"""Trees are fitted on at most so many."""
TREES_PROBE = 2_000
MOST_TREES = 5_000
"""Boosting is left out where there are so many classes that it would grow more."""
WIDEST_BOOSTED = 2_000
"""Signals up to which trees are grown."""
MEASURED = 2_048
"""Training examples that the opponents' layers are measured on."""
HELD_OUT_FROM = 200
HELD_OUT = 0.1
"""Share of the training examples on which the final fit chooses its penalty anew, when these are at least 200."""
BATCH = 512
FINAL_SHARE = 0.6
"""Share of the seconds that the search leaves to the final fit."""
CAUTION = 1.2
"""What is measured on a small part is taken that much higher."""
CUBIC = 1e-11
"""Seconds per cubed signal of solving for a head."""
JITTER = 1e-4
"""Added to the kernel among the landmarks, whose value for equal ones is 1."""
_NONE = Context()


@dataclass(frozen=True)
class Opponent:
    """One classical way to do a task: features that people thought of, and the heads to try on them."""

    name: str
    layers: Callable[[Input, Tensor], list[tuple[str, Layer]]]
    """(fitted input, a batch of training inputs) -> the layers from what it reads to [N, features]."""
    heads: tuple[str, ...] = ("kernel", "linear", "prototypes")
    features: tuple[str, ...] = ()
    """What somebody had to think of for the features, and for each of their settings."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid."""

    opponent: str
    head: str
    setting: float
    """Kernel: width; prototypes: how many a class; boosting: leaves; linear: 0."""
    penalty: float
    """Of long weights; boosting: the learning rate."""
    score: float
    """Accuracy, cross-validated on training examples."""


@dataclass
class Classical:
    """The winner of the grid, fitted on the whole training part."""

    name: str
    network: Network
    trial: Trial
    trials: list[Trial] = field(repr=False)
    features: tuple[str, ...]
    decisions: tuple[str, ...]
    """Settings that were searched for."""
    inspect: str
    """What of it can be looked at."""
    search_seconds: float
    fit_seconds: float
    complete: bool
    """Whether the whole grid was tried inside the seconds."""
    fitted_on: int
    """Training examples; fewer than there are when the seconds did not suffice."""
    notes: tuple[str, ...] = ()
    """What else must be told, such as a way that could not be tried."""


class _Ground:
    """What every step of the search stands on: the examples, and the opponents' layers measured on training examples, once each."""

    def __init__(self, feed: Feed, train: np.ndarray, seed: int) -> None:
        self.feed, self.train, self.classes = feed, train, classes_of(feed)
        self.random = np.random.Generator(np.random.Philox(key=seed))
        self._layers: dict[str, list[tuple[str, Layer]]] = {}

    def layers(self, opponent: Opponent) -> list[tuple[str, Layer]]:
        if opponent.name not in self._layers:
            chosen = self.train[np.linspace(0, len(self.train) - 1, min(len(self.train), MEASURED)).astype(np.int64)]
            self._layers[opponent.name] = opponent.layers(self.feed.input, self.feed.batch(chosen).x.cpu())
        return self._layers[opponent.name]

    def signals(self, layers: list[tuple[str, Layer]], examples: np.ndarray) -> Tensor:
        return torch.cat([x for x, _ in signals_in_batches(layers, self.feed, examples)])

    def targets(self, examples: np.ndarray) -> np.ndarray:
        return targets_of(self.feed, examples)

    def sums(self, layers: list[tuple[str, Layer]], examples: np.ndarray) -> Sums:
        total: Sums | None = None
        for x, wanted in signals_in_batches(layers, self.feed, examples):
            found = Sums.of(x, wanted, self.classes)
            if total is None:
                total = Sums(found.products.double(), found.answers.double())
            else:
                total.products += found.products
                total.answers += found.answers
        assert total is not None
        return total

    def looked_at(self, opponent: Opponent, seconds: float) -> int:
        """So many examples that their features take at most a tenth of the seconds."""
        begun = time.perf_counter()
        self.signals(self.layers(opponent), self.train[:PROBE])
        one = (time.perf_counter() - begun) / min(PROBE, len(self.train))
        return int(np.clip(0.1 * seconds / one, LEAST_LOOKED_AT, LOOKED_AT))


def fit_classical(
    opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0
) -> Classical:
    """Try the grid on a part of `train`, fit its winner on all of it; about `seconds` in all, with `answers` to give afterwards.

    Answers are classes.
    """
    begun = time.perf_counter()
    ground = _Ground(feed, train, seed)
    few = np.sort(ground.random.permutation(train)[: ground.looked_at(opponents[0], seconds)])
    trials: list[Trial] = []
    complete = True
    for trial in _grid(opponents, ground, few):
        trials.append(trial)
        if trial.score == 1.0:
            break  # there is nothing left to win
        if time.perf_counter() - begun > (1 - FINAL_SHARE) * seconds:
            complete = False
            break
    best = max(trials, key=lambda trial: trial.score)
    give_back_memory()
    searched = time.perf_counter()
    chosen = next(opponent for opponent in opponents if opponent.name == best.opponent)
    hidden, last, used = _fit_final(chosen, best, ground, begun + seconds, answers)
    network = Network([*ground.layers(chosen), *hidden, ("head", last)]).eval()
    done = time.perf_counter()
    return Classical(
        f"{chosen.name}, {_words(best)}", network, best, trials, chosen.features, ("which features", "which head", *DECISIONS[best.head]),
        INSPECT[best.head], searched - begun, done - searched, complete, used,
    )  # fmt: skip


def trivial(feed: Feed, train: np.ndarray) -> tuple[str, Network, str]:
    """The way that never looks, from the answers of the training part: its name, its network, what of it can be seen."""
    values = feed.output.guess([feed.targets[index] for index in train])
    layer = Constant(len(values))
    with torch.no_grad():
        layer.values.copy_(values)
    name = feed.output.reads
    layers: list[tuple[str, Layer]] = [(name, layer)] if name == "head" else [(name, layer), ("head", feed.output.head(len(values)))]
    return "the most frequent answer", Network(layers).eval(), "how often each class occurs"


# ---------------------------------------------------------------- the grid


def _grid(opponents: tuple[Opponent, ...], ground: _Ground, few: np.ndarray) -> Iterator[Trial]:
    wanted = ground.targets(few)
    fold = deal_out(wanted, ground.random)
    for opponent in opponents:
        features = ground.signals(ground.layers(opponent), few)
        for head in opponent.heads:
            for setting, penalty, right in _TRIES[head](features, wanted, fold, ground):
                yield Trial(opponent.name, head, setting, penalty, right / len(wanted))
        del features
        give_back_memory()  # each opponent allocates in other sizes


_Found = Iterator[tuple[float, float, int]]
"""(setting, penalty, how many of the held-out examples are right)."""


def _try_linear(features: Tensor, wanted: np.ndarray, fold: np.ndarray, ground: _Ground) -> _Found:
    yield 0.0, *best_penalty(fit_scale(features)(features, _NONE)[0], wanted, fold, ground.classes, PENALTIES["linear"])


def _try_kernel(features: Tensor, wanted: np.ndarray, fold: np.ndarray, ground: _Ground) -> _Found:
    landmarks = features[torch.from_numpy(ground.random.permutation(len(features))[:LANDMARKS_TRIED])]
    for width in WIDTHS:
        signals = fit_kernel(features, landmarks, width)(features, _NONE)[0]
        yield width, *best_penalty(signals, wanted, fold, ground.classes, PENALTIES["kernel"])


def _try_prototypes(features: Tensor, wanted: np.ndarray, fold: np.ndarray, ground: _Ground) -> _Found:
    scaled = fit_scale(features)(features, _NONE)[0]
    for count in PROTOTYPES:
        if all(np.bincount(wanted[fold != number], minlength=ground.classes).min() >= count for number in range(FOLDS)):
            fit = functools.partial(fit_prototypes, classes=ground.classes, count=count)
            yield float(count), 0.0, _held_out(scaled, wanted, fold, fit)


def _try_boosting(features: Tensor, wanted: np.ndarray, fold: np.ndarray, ground: _Ground) -> _Found:
    few = BOOSTING_ROUNDS * ground.classes <= MOST_TREES and features.shape[1] <= WIDEST_BOOSTED
    for leaves, rate in BOOSTING if few else ():
        fit = functools.partial(fit_trees, classes=ground.classes, leaves=leaves, rate=rate)
        yield float(leaves), rate, _held_out(features, wanted, fold, fit)


_TRIES = {"linear": _try_linear, "kernel": _try_kernel, "prototypes": _try_prototypes, "boosting": _try_boosting}


def _held_out(signals: Tensor, wanted: np.ndarray, fold: np.ndarray, fit: Callable[[Tensor, np.ndarray], Layer]) -> int:
    """How many are right when each fold is answered by a head that was fitted on the others."""
    right = 0
    for number in range(FOLDS):
        own = fold != number
        found = fit(signals[own], wanted[own])(signals[~own], _NONE)[0].argmax(1)
        right += int((found.numpy() == wanted[~own]).sum())
    return right


def best_penalty(signals: Tensor, wanted: np.ndarray, fold: np.ndarray, classes: int, penalties: Sequence[float]) -> tuple[float, int]:
    """(the penalty of the best cross-validated accuracy, how many are right with it); the sums of the folds are shared by all."""
    right = dict.fromkeys(penalties, 0)
    few = 2 * len(signals) // FOLDS < signals.shape[1]
    sums = [] if few else [Sums.of(signals[fold == number], wanted[fold == number], classes) for number in range(FOLDS)]
    for number in range(FOLDS):
        own = fold != number
        held, truth = signals[~own], torch.from_numpy(wanted[~own])
        solve = Few(signals[own], wanted[own], classes).solve if few else (sums[number - 1] + sums[number - 2]).solve
        for penalty in right:
            right[penalty] += int((solve(penalty)(held, _NONE)[0].argmax(1) == truth).sum())
    best = max(right, key=lambda penalty: right[penalty])
    return best, right[best]


def _fit_final(
    opponent: Opponent, best: Trial, ground: _Ground, deadline: float, answers: int
) -> tuple[list[tuple[str, Layer]], Layer, int]:
    """(layers after the features, head, examples that they were fitted on)."""
    layers, order = ground.layers(opponent), ground.random.permutation(ground.train)
    if best.head == "boosting":
        probe = order[:TREES_PROBE]
        at = time.perf_counter()
        fit_trees(ground.signals(layers, probe), ground.targets(probe), ground.classes, int(best.setting), best.penalty)
        one = (time.perf_counter() - at) / len(probe)
        left = max(0.0, deadline - time.perf_counter()) / (CAUTION * one)
        used = order[: int(np.clip(left, len(probe), MOST_ROWS))]
        signals = ground.signals(layers, used)
        return [], fit_trees(signals, ground.targets(used), ground.classes, int(best.setting), best.penalty), len(used)
    some = ground.signals(layers, order[: ground.looked_at(opponent, max(0.0, deadline - time.perf_counter()))])
    if best.head == "prototypes":
        every, count = ground.targets(order), int(best.setting)
        own = [order[every == label][: max(count, len(some) // ground.classes)] for label in range(ground.classes)]
        used = np.concatenate(own)
        signals, scale = ground.signals(layers, used), fit_scale(some)
        return [("scale", scale)], fit_prototypes(scale(signals, _NONE)[0], ground.targets(used), ground.classes, count), len(used)
    kernel = best.head == "kernel"
    count, used_count = _affordable(layers, some, ground, best, answers, deadline)
    order = order[:used_count]
    held, learned = order[: int(HELD_OUT * len(order))], order[int(HELD_OUT * len(order)) :]
    first: Layer = fit_kernel(some, ground.signals(layers, learned[:count]), best.setting) if kernel else fit_scale(some)
    name = "kernel" if kernel else "scale"
    below = [*layers, (name, first)]
    if len(order) < 2 * HELD_OUT_FROM and len(order) < (signals := ground.signals(below, order)).shape[1]:
        return [(name, first)], Few(signals, ground.targets(order), ground.classes).solve(best.penalty), len(order)
    sums, penalty = ground.sums(below, learned), best.penalty
    if len(held) >= HELD_OUT_FROM:
        signals, truth = ground.signals(below, held), torch.from_numpy(ground.targets(held))
        right = {tried: int((sums.solve(tried)(signals, _NONE)[0].argmax(1) == truth).sum()) for tried in PENALTIES[best.head]}
        penalty = max(right, key=lambda tried: right[tried])
    if len(held):
        sums = sums + ground.sums(below, held)
    return [(name, first)], sums.solve(penalty), len(order)


def _affordable(
    layers: list[tuple[str, Layer]], some: Tensor, ground: _Ground, best: Trial, answers: int, deadline: float
) -> tuple[int, int]:
    """(landmarks, training examples): the most for which fit and answers should end before the deadline, by a small part of them."""
    train, probe = ground.train, ground.train[:PROBE]
    taken = one = sure = 0.0
    for count in LANDMARKS if best.head == "kernel" else (0,):
        last = fit_kernel(some, some[torch.arange(count) % len(some)], best.setting, solve=False) if count else fit_scale(some)
        begun = time.perf_counter()
        signals = ground.signals([*layers, ("tried", last)], probe)
        passed = (time.perf_counter() - begun) / len(probe)
        Sums.of(signals, ground.targets(probe), ground.classes)
        summed = (time.perf_counter() - begun) / len(probe)
        solving = (len(PENALTIES[best.head]) + 2) * CUBIC * signals.shape[1] ** 3
        each = summed + HELD_OUT * passed
        if taken and time.perf_counter() + CAUTION * (each * len(train) + passed * answers + solving) > deadline:
            break
        taken, one, sure = count or 1, each, passed * answers + solving
        if count >= min(len(train) // 2, len(some)):
            break
    left = (deadline - time.perf_counter()) / CAUTION - sure
    return int(min(taken, len(train))), int(np.clip(left / one, min(LEAST_LOOKED_AT, len(train)), len(train)))


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
        return Sums(ones.T @ ones, ones.T @ targets)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.products + other.products, self.answers + other.answers)

    def solve(self, penalty: float) -> Linear:
        """The weights of least squared error plus `penalty` times their squared length; the bias is free."""
        system = self.products.to(torch.float64, copy=True)
        system.diagonal()[:-1] += penalty
        system.diagonal()[-1] += 1e-9
        weights = torch.cholesky_solve(self.answers.double(), _root(system)).T
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
        weights = (self.centered.T @ torch.cholesky_solve(self.targets, _root(system))).T
        return _linear(weights, self.target - weights @ self.middle)


def _root(system: Tensor) -> Tensor:
    """The Cholesky factor; of a system that is singular to rounding with as much added to its diagonal as it takes."""
    added = 1e-10 * float(system.diagonal().mean())
    while True:
        root, failed = torch.linalg.cholesky_ex(system)
        if not int(failed):
            return root
        system = system.clone()
        system.diagonal().add_(added)
        added *= 10


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
        kernel = torch.cdist(landmarks, landmarks).square_().double()
        kernel.mul_(-layer.gamma).exp_().diagonal().add_(JITTER)
        from scipy.linalg import cholesky, lapack

        # in place: with thousands of landmarks each copy is 100 MB; a symmetric matrix is its own transpose, column by column
        lower = cholesky(kernel.numpy().T, lower=True, overwrite_a=True, check_finite=False)
        inverse, failed = lapack.dtrtri(lower, lower=1, overwrite_c=1)
        if failed:
            raise ValueError("the kernel among the landmarks has no root")
        layer.root.copy_(torch.from_numpy(inverse).T)
    return layer


def fit_trees(signals: Tensor, wanted: np.ndarray, classes: int, leaves: int, rate: float) -> Trees:
    """Gradient boosting (scikit-learn), its trees as arrays."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    known = np.unique(wanted)
    if len(known) < classes:  # the learner wants every class: the missing ones get a row of their own that changes next to nothing
        missing = np.setdiff1d(np.arange(classes), known)
        signals, wanted = torch.cat([signals, signals[: len(missing)]]), np.concatenate([wanted, missing[: len(signals)]])
    learner = HistGradientBoostingClassifier(
        max_iter=BOOSTING_ROUNDS, max_leaf_nodes=leaves, learning_rate=rate, early_stopping=False, random_state=0
    ).fit(signals.numpy(), wanted)
    return trees_of(learner, signals.shape[1], classes)


def trees_of(learner: Any, features: int, classes: int) -> Trees:
    """The trees of a fitted learner of scikit-learn as a layer; of one that tells a number, `classes` is 1."""
    trees = [tree.nodes for each in learner._predictors for tree in each]
    most = max(len(nodes) for nodes in trees)
    layer = Trees(features, classes, len(trees), most, max(int(nodes["depth"].max()) for nodes in trees))
    for row, nodes in enumerate(trees):
        own, leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
        for name, values in (
            ("feature", nodes["feature_idx"]),
            ("threshold", nodes["num_threshold"]),
            ("left", np.where(leaf, own, nodes["left"])),
            ("right", np.where(leaf, own, nodes["right"])),
            ("value", nodes["value"]),
        ):
            getattr(layer, name)[row, : len(nodes)] = torch.from_numpy(values.astype(np.float64))
    layer.start.copy_(torch.from_numpy(np.asarray(learner._baseline_prediction, np.float64).reshape(-1)))
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


def targets_of(feed: Feed, examples: np.ndarray) -> np.ndarray:
    return np.array([feed.targets[index] for index in examples], np.int64)


def classes_of(feed: Feed) -> int:
    assert isinstance(feed.output, ClassesOutput)
    return len(feed.output.labels)


def deal_out(wanted: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The fold of each example, every class dealt out evenly."""
    fold = np.empty(len(wanted), np.int64)
    order = random.permutation(len(wanted))
    order = order[np.argsort(wanted[order], kind="stable")]
    fold[order] = np.arange(len(wanted)) % FOLDS
    return fold


def _words(trial: Trial) -> str:
    if trial.head == "boosting":
        return "boosted trees"
    if trial.head == "prototypes":
        return "nearest mean" if trial.setting == 1 else f"nearest of {trial.setting:g} prototypes a class"
    return "linear" if trial.head == "linear" else "Gaussian kernel"

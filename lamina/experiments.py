"""Experiments on one's own data: what activation functions, depth, weak connections and order are worth. Equal budgets, several seeds."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lamina.classical.fit import Opponent, fit_scale, signals_in_batches, targets_of
from lamina.data.audit import audit, show_audit, stop_if_bad
from lamina.data.batches import Batch, Feed
from lamina.data.files import check_writable, write_bytes, write_json
from lamina.data.split import Split, divide
from lamina.errors import UsageError, did_you_mean, sentence
from lamina.explain.layers import is_trained
from lamina.layers import ACTIVATIONS, Context, Convolution, Dense, FullyConnected, GlobalPool, Layer
from lamina.metrics import corrected_resampled_interval, paired_interval, wilson_interval
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.pipeline import read_for
from lamina.pipeline.preparation import fitted_feed
from lamina.report.plots import boundaries, experiment_bars
from lamina.screen import Screen, percent
from lamina.settings import Settings, cores, make_settings
from lamina.task import Task
from lamina.tasks import find_task
from lamina.training.device import keep_memory
from lamina.training.fit import Work, fit
from lamina.training.forecast import SCHEDULE, flops_per_example
from lamina.training.inference import BATCH
from lamina.training.plan import Plan

EXAMPLES = 10_000
"""Most training examples of a run, and most that it is tested on."""
SEEDS = 3
DEPTH, WIDTH, FULL = 3, 256, "relu"
"""Of the fully connected stack of `activations`; the function that the stack with none is compared with, chosen beforehand."""
DEPTHS, DEPTH_WIDTH = (1, 2, 4, 8), 32
SHARES = (0.0, 0.5, 0.8, 0.9)
"""Of the connections, that `prune` removes."""
STRAIGHT = 1e-5
"""A function that is this near to a straight one is called straight."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the linear model (C of scikit-learn: the inverse of the penalty); of more than SMALL numbers the first three are tried."""
SMALL = 2_000_000
GRID = 80
FEWEST_STEPS = 10
BY_HEART = 0.2
"""So much more than a guess must be known of training examples with wrong labels to say that they were learned by heart."""
NOT_WORSE = 0.01
"""A network without some connections that has lost less than this, with 95 %, has not missed them."""


@dataclass
class Variant:
    """One way to do it, over all seeds."""

    name: str
    right: list[np.ndarray]
    """By seed: which test examples were answered right."""
    folds: int
    """Parts of cross-fitting, of which each seed was tested on one of its own; 0 = all were tested on the same examples."""
    training_flops: float = 0.0
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> list[float]:
        return [float(each.mean()) for each in self.right]

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Over the seeds."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, for the test examples (Wilson) and for the trainings. Where all seeds are tested on the same examples the variance of the
        mean over trainings is added (normal); where each has a fold of its own, whose trainings share examples, the wider of Wilson's
        and that of Nadeau & Bengio (metrics.corrected_resampled_interval) is told."""
        tested = sum(map(len, self.right)) if self.folds else len(self.right[0])
        low, high = wilson_interval(round(self.mean * tested), tested)
        if len(self.right) < 2:
            return low, high
        if self.folds:
            corrected = corrected_resampled_interval(self.scores, 1 / (self.folds - 1))
            return min(low, corrected[0]), max(high, corrected[1])
        seeds = 1.96 * self.deviation / math.sqrt(len(self.right))
        return max(0.0, self.mean - math.hypot(self.mean - low, seeds)), min(1.0, self.mean + math.hypot(high - self.mean, seeds))

    def above(self, other: Variant) -> bool:
        """Whether the whole interval lies above the other's."""
        return self.interval[0] > other.interval[1]

    def state(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "name": self.name, "scores": self.scores, "mean": self.mean, "deviation": self.deviation, "low": low, "high": high,
            "training_flops": self.training_flops, **self.facts,
        }  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """What all runs of an experiment share."""

    task: Task
    settings: Settings
    feed: Feed
    split: Split
    screen: Screen

    def variant(self, name: str, **facts: Any) -> Variant:
        return Variant(name, [], self.folds, facts=facts)

    @property
    def folds(self) -> int:
        return max(self.split.folds) + 1 if self.split.folds is not None else 0

    @property
    def seeds(self) -> range:
        """At most one for each fold where examples are cross-fitted: they have no others to be tested on."""
        count = min(self.settings.seeds, self.folds or self.settings.seeds)
        return range(self.settings.seed, self.settings.seed + count)

    def parts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(examples to learn from, examples to be tested on); where they are cross-fitted each seed has a fold of its own."""
        if self.split.folds is not None:
            own, tested = self.split.fold(seed % self.folds)
        else:
            own, tested = self.split.indices("train"), self.split.indices("test") or self.split.indices("validation")
        random = np.random.Generator(np.random.Philox(key=self.settings.seed))
        return random.permutation(np.array(own))[:EXAMPLES], random.permutation(np.array(tested))[:EXAMPLES]

    def labels_mixed(self, seed: int) -> Feed:
        """The labels of what is learned from, dealt anew among them."""
        learned, targets = self.parts(seed)[0], list(self.feed.targets)
        order = np.random.Generator(np.random.Philox(key=[7, seed])).permutation(learned)
        for own, other in zip(learned, order, strict=True):
            targets[own] = self.feed.targets[other]
        return plain(replace(self.feed, targets=targets))

    def places_mixed(self, seed: int) -> Feed:
        """The places of every value in one other order; what lies in one place, its channels, stays together."""
        count = math.prod(self.feed.values.take([0])[0].shape[:-1])
        order = torch.from_numpy(np.random.Generator(np.random.Philox(key=[8, seed])).permutation(count))
        feed = self.feed
        return MixedFeed(feed.values, feed.targets, feed.input, feed.output, feed.device, order)

    def x(self, learned: np.ndarray) -> Tensor:
        """A batch of training inputs for first layers to be measured on."""
        return self.feed.input.collate(self.feed.values.take(learned[:2048]))[0].cpu()


class PlainFeed(Feed):
    """Examples as they are: none is varied in training."""

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        return super().batch(indices)


@dataclass(frozen=True)
class MixedFeed(PlainFeed):
    """… and with their places in another order."""

    order: Tensor

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        found = super().batch(indices)
        flat = found.x.flatten(1, -2)
        return found._replace(x=flat[:, self.order].reshape(found.x.shape))


def plain(feed: Feed) -> PlainFeed:
    return PlainFeed(feed.values, feed.targets, feed.input, feed.output, feed.device)


def experiment(data: Any, kind: str, *, out: str | Path = "", screen: Screen | None = None, **settings: Any) -> dict[str, Any]:
    """Run one of EXPERIMENTS on `data`: {experiment, sentence, variants: [{name, scores, mean, deviation, low, high, training_flops}], …};
    written to `out` (.json) with its chart beside it (.svg) when that is given.

    `settings` are fields of Settings: seed, seeds (3), epochs, threads, and how data are read. Raises UsageError for a name that does not
    exist, and the errors of reading data.
    """
    if kind not in EXPERIMENTS:
        raise UsageError(sentence("The experiment", "be one of " + ", ".join(EXPERIMENTS), kind, did_you_mean(kind, EXPERIMENTS)))
    if out and Path(out).suffix != ".json":
        raise UsageError(sentence("--out", "end in .json", str(out)))
    if out:
        check_writable(Path(out))
    chosen, screen = make_settings({"seeds": SEEDS, **settings}), screen or Screen(quiet=True)
    torch.set_num_threads(cores(chosen))
    keep_memory()
    task = find_task(chosen.task)
    report = audit(*(read := read_for(data, task, chosen)), chosen, screen)
    show_audit(report, screen)
    stop_if_bad(report, chosen)
    split = divide(report)
    feed = fitted_feed(report, read[1], task, chosen, split.indices("train"), screen)
    if not isinstance(feed.output, ClassesOutput):
        raise UsageError(sentence("An experiment", "be made on examples with classes", feed.output.kind))
    ground = Ground(task, chosen, feed, split, screen)
    found, charts = EXPERIMENTS[kind](ground)
    learned, tested = ground.parts(chosen.seed)
    found = {"experiment": kind, **found, "learned": len(learned), "tested": len(tested), "seeds": list(ground.seeds), "charts": charts}
    if out:
        write_json(Path(out), {name: value for name, value in found.items() if name != "charts"})
        for number, chart in enumerate(charts):
            write_bytes(Path(out).with_suffix(f".{number + 1}.svg" if number else ".svg"), chart.encode())
    return found


# ---------------------------------------------------------------- one run


def train_one(ground: Ground, network: Network, feed: Feed, learned: np.ndarray, seed: int, epochs: float, coarse: bool = False) -> float:
    """Train `network` in place for so many epochs by the task's recipe, in fp32, with THE loop; the last weights (their mean) answer.

    Returns the training FLOPs. Raises UsageError for so few epochs that there is hardly a step.
    """
    recipe = ground.task.recipe(len(learned))
    batch = min(ground.settings.batch or recipe.batch, len(learned))
    steps = round(epochs * len(learned) / batch)
    if steps < FEWEST_STEPS:
        told = f"{epochs:.2g} epochs = {steps} steps of {batch}"
        raise UsageError(sentence("--epochs", f"give each network at least {FEWEST_STEPS} steps", told, "Give more, or a smaller --batch."))
    schedule = {name: getattr(recipe, name) for name in SCHEDULE}
    if not coarse or isinstance(feed, PlainFeed):  # plain feeds have one resolution
        schedule.update(coarse=1.0, coarse_until=0.0)
    plan = Plan(
        task=ground.task.name, seed=seed, threads=torch.get_num_threads(), device="cpu", precision="fp32", size=0, batch=batch,
        micro_batch=batch, steps=steps, check_every=steps, legs=["final"], **schedule,
    )  # fmt: skip
    sample = feed.batch(learned[:2])
    full = flops_per_example(copy.deepcopy(network), sample.x, sample.context)
    mean = full * plan.mean_cost()
    if plan.coarse < 1:  # by the share of steps at the coarse resolution, as in a plan
        x, context = feed.input.coarser(sample.x, sample.context, plan.coarse)
        small = flops_per_example(copy.deepcopy(network), x, context)
        mean = full * (1 - plan.coarse_until) + small * plan.coarse_until
    fit(network, feed.output, feed, Work("final", learned), plan)
    network.eval()
    return steps * batch * mean


def right_of(network: Network, feed: Feed, tested: np.ndarray) -> np.ndarray:
    """[tested] of bool."""
    found = []
    with torch.no_grad():
        for batch in feed.in_order(tested.tolist(), BATCH):
            found.append(network.eval()(batch.x, batch.context)[0].argmax(1) == batch.target)
    return np.asarray(torch.cat(found).numpy())


def _flops(network: Network, x: Tensor) -> int:
    return flops_per_example(copy.deepcopy(network), x[:2], Context())


def _tell(ground: Ground, name: str, seed: int, right: np.ndarray) -> None:
    ground.screen.say(f"            {name}, seed {seed}: {percent(float(right.mean()))} %")


def _spread(variant: Variant) -> str:
    return f"{percent(variant.mean)}{f' ± {100 * variant.deviation:.1f}' if len(variant.right) > 1 else ''} %"


# ---------------------------------------------------------------- activations


def activations(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """A fully connected stack with each activation function and with none, without normalization or pooling, beside logistic regression on
    the same numbers."""
    opponent = min(
        (each for each in ground.task.opponents(ground.feed.input) if "linear" in each.heads), key=lambda each: len(each.features)
    )
    feed = plain(ground.feed)
    variants = {name: ground.variant(name) for name in ACTIVATIONS}
    linear = ground.variant("linear model")
    kept: dict[str, Network] = {}
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        below = _numbers(ground, opponent, feed, learned)
        if seed == ground.seeds[0] or ground.split.folds is not None:
            head = _logistic(below, feed, learned)
            linear.right.append(right_of(Network([*_copied(below), ("head", head)]), feed, tested))
            _tell(ground, linear.name, seed, linear.right[-1])
        for name, variant in variants.items():
            torch.manual_seed(seed)
            network = _stack(ground, below, name)
            epochs = ground.settings.epochs or ground.task.recipe(len(learned)).epochs
            variant.training_flops = train_one(ground, network, feed, learned, seed, epochs)
            variant.right.append(right_of(network, feed, tested))
            variant.facts.setdefault("bent", []).append(how_bent(network, ground.x(learned)))
            _tell(ground, name, seed, variant.right[-1])
            kept[name] = network
    learned, tested = ground.parts(ground.seeds[-1])
    none, full = variants["none"], variants[FULL]
    no_better, clearly = not none.mean > linear.interval[1], full.above(linear)
    than = f"{percent(linear.mean)} % ({percent(linear.interval[0])}-{percent(linear.interval[1])})"
    said = f"Without activation functions {DEPTH} layers are one straight line: {_spread(none)}, where a linear model has {than}. "
    said += "" if no_better else "It is better trained here than that model, but as straight. "
    said += f"With {FULL} they have {_spread(full)}: "
    said += "the bend between layers is what depth needs." if clearly else "that this is better than a straight line is not shown here."
    ordered = [linear, *variants.values()]
    chart = experiment_bars([each.state() for each in ordered], f"{DEPTH} fully connected layers, by activation function")
    plane = _plane(feed, kept, learned, tested)
    told = [each.state() for each in ordered]
    found = {"sentence": said, "variants": told, "none_is_no_better": no_better, "full_is_clearly_better": clearly, "full": FULL}
    return found, [chart, *([boundaries(plane)] if plane else [])]


def _numbers(ground: Ground, opponent: Opponent, feed: Feed, learned: np.ndarray) -> list[tuple[str, Layer]]:
    """The layers from raw values to scaled numbers [N, features], affine where raw values are pixels."""
    below = opponent.layers(feed.input, ground.x(learned))
    signals = torch.cat([x for x, _ in signals_in_batches(below, feed, learned[:2048])])
    return [*below, ("scale", fit_scale(signals))]


def _copied(layers: Sequence[tuple[str, Layer]]) -> list[tuple[str, Layer]]:
    return [(name, copy.deepcopy(layer)) for name, layer in layers]


def _stack(ground: Ground, below: Sequence[tuple[str, Layer]], activation: str) -> Network:
    width = ground.settings.width or WIDTH
    inputs = getattr(below[-1][1], "features")  # noqa: B009 (a Scale)
    hidden = [(f"hidden{k + 1}", FullyConnected(inputs if k == 0 else width, width, activation)) for k in range(DEPTH)]
    return Network([*_copied(below), *hidden, ("head", ground.feed.output.head(width))])


def _logistic(below: Sequence[tuple[str, Layer]], feed: Feed, learned: np.ndarray) -> Layer:
    """Logistic regression (scikit-learn), its strength chosen on a fifth of the training examples."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x = torch.cat([x for x, _ in signals_in_batches(list(below), feed, learned)]).numpy()
    y = targets_of(feed, learned)
    cut = max(1, len(x) // 5)
    strengths = STRENGTHS if x.size < SMALL else STRENGTHS[:3]
    best, best_score = strengths[0], -1.0
    with threadpool_limits(torch.get_num_threads()):
        for strength in strengths if len(set(y[cut:])) > 1 else ():
            score = LogisticRegression(C=strength, tol=1e-3, max_iter=200).fit(x[cut:], y[cut:]).score(x[:cut], y[:cut])
            best, best_score = (strength, score) if score >= best_score else (best, best_score)
        fitted = LogisticRegression(C=best, tol=1e-3, max_iter=200).fit(x, y)
    classes = len(feed.output.labels) if isinstance(feed.output, ClassesOutput) else 0
    head = FullyConnected(x.shape[1], classes, "none")
    weights, bias = torch.zeros(classes, x.shape[1]), torch.full((classes,), -1e4)
    rows = torch.as_tensor(fitted.classes_)
    coefficients, intercept = torch.as_tensor(fitted.coef_).float(), torch.as_tensor(fitted.intercept_).float()
    if len(rows) == 2:
        coefficients, intercept = torch.cat([-coefficients, coefficients]) / 2, torch.cat([-intercept, intercept]) / 2
    weights[rows], bias[rows] = coefficients, intercept
    with torch.no_grad():
        head.weights.weight.copy_(weights)
        head.weights.bias.copy_(bias)
    return head


def how_bent(network: Network, x: Tensor) -> float:
    """How far the layers above the first two are from an affine function: the largest distance of the answer to the middle of two inputs
    from the middle of their answers, as a share of the answers' deviation."""
    with torch.no_grad():
        numbers, context = network(x[:256], Context(), until=network.stack[1].name)
        half = len(numbers) // 2
        one, other = numbers[:half].double(), numbers[half : 2 * half].double()
        above = copy.deepcopy(nn.ModuleList(network.stack[2:])).double()

        def answers(values: Tensor) -> Tensor:
            now = context.first(half)
            for layer in above:
                values, now = layer(values, now)
            return values

        ends = (answers(one) + answers(other)) / 2
        return float((answers((one + other) / 2) - ends).abs().max() / ends.std().clamp_min(1e-12))


def _plane(feed: Feed, kept: dict[str, Network], learned: np.ndarray, tested: np.ndarray) -> dict[str, Any] | None:
    """A flat cut through the space of inputs, through the means of the two classes that are mixed up most: how far each network prefers the
    one to the other on it, and where test examples of them lie when projected onto it; None where there are too few of them."""
    assert isinstance(feed.output, ClassesOutput)
    none = kept["none"]
    layers = [(layer.name, layer) for layer in none.stack[:2]]
    x, y = (
        np.concatenate(part) for part in zip(*[(a.numpy(), b) for a, b in signals_in_batches(layers, feed, learned[:4096])], strict=True)
    )
    first, second = _mixed_up(none, feed, tested)
    some = targets_of(feed, tested)
    if min(*((y == label).sum() for label in (first, second)), *((some == label).sum() for label in (first, second))) < 2:
        return None
    means = [x[y == label].mean(0) for label in (first, second)]
    across = means[1] - means[0]
    length = float(np.linalg.norm(across)) or 1.0
    across = across / length
    own = x[(y == first) | (y == second)] - (means[0] + means[1]) / 2
    rest = own - (own @ across)[:, None] * across
    up = np.linalg.svd(rest[:1024], full_matrices=False)[2][0]
    points, classes = [], []
    for values, labels in signals_in_batches(layers, feed, tested):
        chosen = (labels == first) | (labels == second)
        moved = values.numpy()[chosen] - (means[0] + means[1]) / 2
        points.append(np.stack([moved @ across, moved @ up], 1))
        classes.append(labels[chosen] == second)
    places = np.concatenate(points)[:600]
    reach = [max(1e-6, float(np.quantile(np.abs(places[:, axis]), 0.99))) for axis in (0, 1)]
    grid = np.stack(np.meshgrid(np.linspace(-reach[0], reach[0], GRID), np.linspace(-reach[1], reach[1], GRID)), -1).reshape(-1, 2)
    inputs = torch.from_numpy(((means[0] + means[1]) / 2 + grid @ np.stack([across, up])).astype(np.float32))
    prefers = {}
    for name in ("none", FULL):
        with torch.no_grad():
            values, now = inputs, Context()
            for layer in kept[name].stack[2:]:
                values, now = layer(values, now)
        prefers[name] = (values[:, second] - values[:, first]).reshape(GRID, GRID).tolist()
    both = [feed.output.labels[place] for place in (first, second)]
    return {
        "labels": both,
        "points": places.tolist(),
        "second": np.concatenate(classes)[:600].tolist(),
        "reach": reach,
        "prefers": prefers,
    }


def _mixed_up(network: Network, feed: Feed, tested: np.ndarray) -> tuple[int, int]:
    """The two classes that this network takes for one another most."""
    counts: dict[tuple[int, int], int] = {}
    with torch.no_grad():
        for batch in feed.in_order(tested.tolist(), BATCH):
            told = network(batch.x, batch.context)[0].argmax(1).tolist()
            for truth, answer in zip(batch.target.tolist(), told, strict=True):
                if truth != answer:
                    pair = (min(truth, answer), max(truth, answer))
                    counts[pair] = counts.get(pair, 0) + 1
    return max(counts, key=lambda pair: counts[pair]) if counts else (0, 1)


# ---------------------------------------------------------------- depth


def depth(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """1, 2, 4 and 8 hidden layers, each trained with as many FLOPs: convolutions on maps, else fully connected layers; both normalized."""
    variants = {count: ground.variant(f"{count} layer{'s' * (count > 1)}") for count in DEPTHS}
    feed = plain(ground.feed)
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        x = ground.x(learned)
        reference = _flops(_deep(ground, x, 2), x)
        budget = (ground.settings.epochs or ground.task.recipe(len(learned)).epochs) * reference * len(learned)
        for count, variant in variants.items():
            torch.manual_seed(seed)
            network = _deep(ground, x, count)
            epochs = budget / (_flops(network, x) * len(learned))
            variant.training_flops = train_one(ground, network, feed, learned, seed, epochs)
            variant.right.append(right_of(network, feed, tested))
            variant.facts = {"epochs": round(epochs, 2)}
            _tell(ground, variant.name, seed, variant.right[-1])
    one, *deeper = variants.values()
    better = [each.name for each in deeper if each.above(one)]
    numbers = ", ".join(f"{each.name} {_spread(each)}" for each in variants.values())
    said = f"For about as many FLOPs: {numbers}. "
    said += f"Layers build on layers here: {', '.join(better)} beat one." if better else "More layers are not shown to help on these data."
    ordered = [each.state() for each in variants.values()]
    found = {"sentence": said, "variants": ordered, "deeper_that_are_clearly_better": better}
    return found, [experiment_bars(ordered, "By number of hidden layers, for about as many FLOPs")]


def _deep(ground: Ground, x: Tensor, count: int) -> Network:
    """The input's own first layer, `count` hidden layers of one width, the head."""
    first = ground.feed.input.layer(x)
    with torch.no_grad():
        signals = first.eval()(x[:2], Context())[0]
    width = ground.settings.width or DEPTH_WIDTH
    inputs = signals.shape[1]
    hidden: list[tuple[str, Layer]] = []
    if signals.ndim == 4:
        pools = max(0, int(math.log2(max(1, min(signals.shape[2:]) // 4))))
        at = {round(place) for place in np.linspace(0, count - 1, min(pools, count))}
        for number in range(count):
            hidden.append((f"hidden{number + 1}", Convolution(inputs if number == 0 else width, width, pool=number in at)))
        hidden.append(("pool", GlobalPool()))
    else:
        for number in range(count):
            hidden.append((f"hidden{number + 1}", Dense(inputs if number == 0 else width, width)))
    return Network([("input", first), *hidden, ("head", ground.feed.output.head(width))])


# ---------------------------------------------------------------- prune


def prune(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """The weakest connections of each layer of the task's own network taken away after training, beside as many taken away by chance."""
    kinds = ("weakest", "by chance")
    pairs = [(kind, share) for share in SHARES for kind in kinds if share or kind == kinds[0]]
    variants = {pair: ground.variant(f"{100 * pair[1]:.0f} % {pair[0]}") for pair in pairs}
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        network, flops = _own_network(ground, ground.feed, learned, seed)
        for (kind, share), variant in variants.items():
            cut = without_connections(network, share, seed if kind == "by chance" else None)
            variant.right.append(right_of(cut, ground.feed, tested))
            variant.training_flops, variant.facts = flops, {"removed": share, "kind": kind}
            _tell(ground, variant.name, seed, variant.right[-1])
    whole = variants["weakest", 0.0]

    def lost(share: float) -> tuple[float, float, float]:
        return paired_interval(np.concatenate(variants["weakest", share].right), np.concatenate(whole.right), 0.95)

    spared = max((share for share in SHARES[1:] if lost(share)[1] > -NOT_WORSE), default=0.0)
    half, chance = variants["weakest", 0.5], variants["by chance", spared or 0.5]
    without = variants["weakest", spared] if spared else half
    said = (
        f"Without the weakest {without.name.split(' weakest')[0]} of its connections the network has {_spread(without)}, with all of them "
    )
    said += f"{_spread(whole)}{': they are not missed' if spared else ''}; without as many taken by chance {_spread(chance)}."
    ordered = list(variants.values())
    found = {"sentence": said, "variants": [each.state() for each in ordered], "spared": spared}
    return found, [experiment_bars([each.state() for each in ordered], "Connections removed after training")]


def without_connections(network: Network, share: float, seed: int | None = None) -> Network:
    """A copy in which the weakest `share` of the connections of each trained layer are 0; any ones where a `seed` is given."""
    cut = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed or 0)
    with torch.no_grad():
        for layer in cut.stack:
            for value in layer.parameters() if is_trained(layer) else ():
                count = round(share * value.numel())
                if value.ndim > 1 and count:
                    strength = value.abs() if seed is None else torch.rand(value.shape, generator=generator)
                    value.view(-1)[strength.flatten().topk(count, largest=False).indices] = 0
    return cut


def _own_network(ground: Ground, feed: Feed, learned: np.ndarray, seed: int) -> tuple[Network, float]:
    """(the task's own network of the recipe's size, trained; its training FLOPs)."""
    recipe = ground.task.recipe(len(learned))
    sizes = ground.task.sizes(feed.input, ground.settings)
    torch.manual_seed(seed)
    x = feed.batch(learned[:2048]).x
    network = ground.task.network(feed.input, feed.output, min(sizes, key=lambda size: abs(size - recipe.size)), x)
    return network, train_one(ground, network, feed, learned, seed, ground.settings.epochs or recipe.epochs, coarse=True)


# ---------------------------------------------------------------- shuffle


def shuffle(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """The task's own network on the examples as they are; with labels dealt anew (Zhang et al. 2017, https://arxiv.org/abs/1611.03530);
    and, where raw values have places, with the places of all examples mixed in one and the same way."""
    feeds: dict[str, Callable[[int], Feed]] = {"as they are": lambda seed: plain(ground.feed), "labels dealt anew": ground.labels_mixed}
    if len(ground.feed.values.take([0])[0].shape) > 1:
        feeds["places mixed"] = ground.places_mixed
    variants = {name: ground.variant(name, known=[]) for name in feeds}
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        for name, variant in variants.items():
            feed = feeds[name](seed)
            network, variant.training_flops = _own_network(ground, feed, learned, seed)
            variant.right.append(right_of(network, replace(feed, targets=ground.feed.targets), tested))
            variant.facts["known"].append(float(right_of(network, feed, learned[:2048]).mean()))
            _tell(ground, name, seed, variant.right[-1])
    own, labels = variants["as they are"], variants["labels dealt anew"]
    clueless = ground.feed.output.clueless([ground.feed.targets[index] for index in ground.parts(ground.seeds[0])[1]])
    guess = clueless[0] if clueless else 0.0
    known = float(np.mean(labels.facts["known"]))
    said = f"New examples: {_spread(own)} as they are, {_spread(labels)} with labels dealt anew (a guess {percent(guess)} %). "
    said += f"Of those that it learned from with labels dealt anew it knew {percent(known)} %"
    by_heart = known > guess + BY_HEART
    said += " by heart: a score on training examples says nothing." if by_heart else ": so little training is not enough to learn by heart."
    if "places mixed" in variants:
        mixed = variants["places mixed"]
        why = "the network uses what lies beside what" if own.above(mixed) else "that it uses what lies beside what is not shown here"
        said += f" With places mixed, the same way in all: {_spread(mixed)}: {why}."
    ordered = list(variants.values())
    found = {"sentence": said, "variants": [each.state() for each in ordered]}
    return found, [experiment_bars([each.state() for each in ordered], "Examples as they are, and mixed")]


EXPERIMENTS: dict[str, Callable[[Ground], tuple[dict[str, Any], list[str]]]] = {
    "activations": activations,
    "depth": depth,
    "prune": prune,
    "shuffle": shuffle,
}

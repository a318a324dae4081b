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
from lamina.data.cache import Decoded
from lamina.data.files import write_bytes, write_json
from lamina.data.split import Split, divide
from lamina.errors import UsageError, did_you_mean, sentence
from lamina.explain.layers import is_trained
from lamina.layers import ACTIVATIONS, Context, Convolution, Dense, FullyConnected, GlobalPool, Layer
from lamina.metrics import wilson_interval
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
DEPTH, WIDTH = 3, 256
"""Of the fully connected stack of `activations`."""
DEPTHS, DEPTH_WIDTH = (1, 2, 4, 8), 32
SHARES = (0.0, 0.5, 0.8, 0.9)
"""Of the connections, that `prune` removes."""
STRAIGHT = 1e-5
"""A function that is this near to a straight one is called straight."""
LINEAR_PENALTIES = (1e-3, 1e-2, 1e-1)
GRID = 80


@dataclass
class Variant:
    """One way to do it, over all seeds."""

    name: str
    right: list[np.ndarray]
    """By seed: which test examples were answered right."""
    apart: bool
    """Whether each seed was tested on examples of its own (cross-fitting)."""
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
        """95 %, for the sample of test examples (Wilson) and for the seeds (normal), added as variances; where these were tested on
        examples of their own the first holds the second."""
        tested = sum(map(len, self.right)) if self.apart else len(self.right[0])
        low, high = wilson_interval(round(self.mean * tested), tested)
        seeds = 0.0 if self.apart else 1.96 * self.deviation / math.sqrt(len(self.right))
        return max(0.0, self.mean - math.hypot(self.mean - low, seeds)), min(1.0, self.mean + math.hypot(high - self.mean, seeds))

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
        return Variant(name, [], self.split.folds is not None, facts=facts)

    @property
    def seeds(self) -> range:
        return range(self.settings.seed, self.settings.seed + self.settings.seeds)

    def parts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(examples to learn from, examples to be tested on); where they are cross-fitted each seed has a fold of its own."""
        if self.split.folds is not None:
            own, tested = self.split.fold(seed % (max(self.split.folds) + 1))
        else:
            own, tested = self.split.indices("train"), self.split.indices("test") or self.split.indices("validation")
        random = np.random.Generator(np.random.Philox(key=self.settings.seed))
        return random.permutation(np.array(own))[:EXAMPLES], random.permutation(np.array(tested))[:EXAMPLES]

    def x(self, learned: np.ndarray) -> Tensor:
        """A batch of training inputs for first layers to be measured on."""
        return self.feed.input.collate(self.feed.values.take(learned[:2048]))[0].cpu()


class PlainFeed(Feed):
    """Examples as they are: none is varied in training."""

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        return super().batch(indices)


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


def train_one(ground: Ground, network: Network, feed: Feed, learned: np.ndarray, seed: int, epochs: float, coarse: bool = False) -> Network:
    """Train `network` in place for so many epochs by the task's recipe, in fp32, with THE loop; the last weights (their mean) answer."""
    recipe = ground.task.recipe(len(learned))
    batch = min(ground.settings.batch or recipe.batch, len(learned))
    steps = max(1, round(epochs * len(learned) / batch))
    schedule = {name: getattr(recipe, name) for name in SCHEDULE}
    if not coarse:
        schedule.update(coarse=1.0, coarse_until=0.0)
    plan = Plan(
        task=ground.task.name, seed=seed, threads=torch.get_num_threads(), device="cpu", precision="fp32", size=0, batch=batch,
        micro_batch=batch, steps=steps, check_every=steps, legs=["final"], **schedule,
    )  # fmt: skip
    fit(network, feed.output, feed, Work("final", learned), plan)
    return network.eval()


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
    return f"{percent(variant.mean)} ± {100 * variant.deviation:.1f} %"


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
            variant.training_flops = _flops(network, ground.x(learned)) * len(learned) * epochs
            train_one(ground, network, feed, learned, seed, epochs)
            variant.right.append(right_of(network, feed, tested))
            variant.facts.setdefault("bent", []).append(how_bent(network, ground.x(learned)))
            _tell(ground, name, seed, variant.right[-1])
            kept[name] = network
    learned, tested = ground.parts(ground.seeds[-1])
    best = max((variant for name, variant in variants.items() if name != "none"), key=lambda each: each.mean)
    none, (low, high) = variants["none"], linear.interval
    no_better, clearly = none.mean <= high, best.interval[0] > high
    than = f"{percent(linear.mean)} % ({percent(low)}-{percent(high)})"
    said = f"Without activation functions {DEPTH} layers are one straight line: {_spread(none)}, where a linear model has {than}"
    said += ". " if no_better else "; it is only better trained. "
    said += f"With {best.name} they have {_spread(best)}: "
    said += "the bend between layers is what depth needs." if clearly else "on these data a straight line is about as good."
    ordered = [linear, *variants.values()]
    chart = experiment_bars([each.state() for each in ordered], f"{DEPTH} fully connected layers, by activation function")
    plane = _plane(feed, kept, best.name, learned, tested)
    return {
        "sentence": said, "variants": [each.state() for each in ordered], "none_is_no_better": no_better, "best_is_clearly_better": clearly,
        "best": best.name,
    }, [chart, boundaries(plane)]  # fmt: skip


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
    """Logistic regression (scikit-learn), its penalty chosen on a fifth of the training examples."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x = torch.cat([x for x, _ in signals_in_batches(list(below), feed, learned)]).numpy()
    y = targets_of(feed, learned)
    cut = max(1, len(x) // 5)
    best, best_score = LINEAR_PENALTIES[0], -1.0
    with threadpool_limits(torch.get_num_threads()):
        for strength in LINEAR_PENALTIES:
            score = LogisticRegression(C=strength, tol=1e-3, max_iter=200).fit(x[cut:], y[cut:]).score(x[:cut], y[:cut])
            best, best_score = (strength, score) if score > best_score else (best, best_score)
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


def _plane(feed: Feed, kept: dict[str, Network], best: str, learned: np.ndarray, tested: np.ndarray) -> dict[str, Any]:
    """A flat cut through the space of inputs, through the means of the two classes that are mixed up most: how far each network prefers the
    one to the other on it, and where test examples of them lie when projected onto it."""
    assert isinstance(feed.output, ClassesOutput)
    none = kept["none"]
    layers = [(layer.name, layer) for layer in none.stack[:2]]
    x, y = (
        np.concatenate(part) for part in zip(*[(a.numpy(), b) for a, b in signals_in_batches(layers, feed, learned[:4096])], strict=True)
    )
    first, second = _mixed_up(none, feed, tested)
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
    for name in ("none", best):
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
            train_one(ground, network, feed, learned, seed, epochs)
            variant.right.append(right_of(network, feed, tested))
            variant.training_flops, variant.facts = budget, {"epochs": round(epochs, 2)}
            _tell(ground, variant.name, seed, variant.right[-1])
    best = max(variants.values(), key=lambda each: each.mean)
    one = variants[1]
    clearly = best.interval[0] > one.interval[1]
    said = f"One layer: {_spread(one)}; {best.name}: {_spread(best)}, for the same number of FLOPs. " + (
        "Layers build on layers here." if clearly else "More layers are not shown to help on these data."
    )
    ordered = list(variants.values())
    found = {"sentence": said, "variants": [each.state() for each in ordered], "deeper_is_clearly_better": clearly, "best": best.name}
    return found, [experiment_bars([each.state() for each in ordered], "By number of hidden layers, for the same FLOPs")]


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
    spared = max((share for share in SHARES if variants["weakest", share].mean >= whole.interval[0]), default=0.0)
    chance = variants.get(("by chance", spared), whole)
    said = (
        f"Without the weakest {100 * spared:.0f} % of its connections the network has {_spread(variants['weakest', spared])}, with all of "
        f"them {_spread(whole)}; without as many taken by chance {_spread(chance)}."
        if spared
        else f"Even half of the connections are missed, the weakest ones: {_spread(variants['weakest', 0.5])} instead of {_spread(whole)}."
    )
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
    x = feed.input.collate(feed.values.take(learned[:2048]))[0].cpu()
    network = ground.task.network(feed.input, feed.output, min(sizes, key=lambda size: abs(size - recipe.size)), x)
    epochs = ground.settings.epochs or recipe.epochs
    flops = _flops(network, x) * len(learned) * epochs
    return train_one(ground, network, feed, learned, seed, epochs, coarse=True), flops


# ---------------------------------------------------------------- shuffle


def shuffle(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """The task's own network on the examples as they are; with labels dealt anew (Zhang et al. 2017, https://arxiv.org/abs/1611.03530);
    and, where raw values have places, with the places of all examples mixed in one and the same way."""
    feeds: dict[str, Callable[[Feed, int], Feed]] = {"as they are": lambda feed, seed: feed, "labels dealt anew": _mixed_labels(ground)}
    if len(ground.feed.values.take([0])[0].shape) > 1:
        feeds["places mixed"] = _mixed_places
    variants = {name: ground.variant(name, known=[]) for name in feeds}
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        for name, variant in variants.items():
            feed = plain(feeds[name](ground.feed, seed))
            network, variant.training_flops = _own_network(ground, feed, learned, seed)
            variant.right.append(right_of(network, plain(replace(feed, targets=ground.feed.targets)), tested))
            variant.facts["known"].append(float(right_of(network, feed, learned[:2048]).mean()))
            _tell(ground, name, seed, variant.right[-1])
    own, labels = variants["as they are"], variants["labels dealt anew"]
    clueless = ground.feed.output.clueless([ground.feed.targets[index] for index in ground.parts(ground.seeds[0])[1]])
    guess = f" (a guess {percent(clueless[0])} %)" if clueless else ""
    known = percent(float(np.mean(labels.facts["known"])))
    said = (
        f"New examples: {_spread(own)} as they are, {_spread(labels)} with labels dealt anew{guess}; of those that it learned from it then "
        f"knew {known} % by heart: a score on training examples says nothing."
    )
    if "places mixed" in variants:
        mixed = variants["places mixed"]
        needed = mixed.interval[1] < own.interval[0]
        why = "the network uses what lies beside what" if needed else "that is not shown to matter on these data"
        said += f" With places mixed, the same way in all: {_spread(mixed)}: {why}."
    ordered = list(variants.values())
    found = {"sentence": said, "variants": [each.state() for each in ordered]}
    return found, [experiment_bars([each.state() for each in ordered], "Examples as they are, and mixed")]


def _mixed_labels(ground: Ground) -> Callable[[Feed, int], Feed]:
    def mixed(feed: Feed, seed: int) -> Feed:
        learned = ground.parts(seed)[0]
        targets = list(feed.targets)
        order = np.random.Generator(np.random.Philox(key=[7, seed])).permutation(learned)
        for own, other in zip(learned, order, strict=True):
            targets[own] = feed.targets[other]
        return replace(feed, targets=targets)

    return mixed


def _mixed_places(feed: Feed, seed: int) -> Feed:
    """One order for all examples; the last axis, the channels of a place, stays together."""
    values = [np.asarray(value) for value in feed.values.take(np.arange(len(feed.values)))]
    count = math.prod(values[0].shape[:-1])
    order = np.random.Generator(np.random.Philox(key=[8, seed])).permutation(count)
    return replace(feed, values=Decoded.of([value.reshape(count, -1)[order].reshape(value.shape) for value in values]))


EXPERIMENTS: dict[str, Callable[[Ground], tuple[dict[str, Any], list[str]]]] = {
    "activations": activations,
    "depth": depth,
    "prune": prune,
    "shuffle": shuffle,
}

"""activations: what the bend between layers is worth."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lamina.classical.fit import Opponent, fit_scale, signals_in_batches, targets_of
from lamina.data.batches import Feed
from lamina.experiments.ground import Ground, plain, right_of, spread, tell, train_one
from lamina.layers import ACTIVATIONS, Context, FullyConnected, Layer
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.report.plots import boundaries, experiment_bars
from lamina.screen import percent
from lamina.training.inference import BATCH

DEPTH, WIDTH, FULL = 3, 256, "relu"
"""Of the fully connected stack of `activations`; the function that the stack with none is compared with, chosen beforehand."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the linear model (C of scikit-learn: the inverse of the penalty); of more than SMALL numbers the first three are tried."""
SMALL = 2_000_000
GRID = 80


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
            tell(ground, linear.name, seed, linear.right[-1])
        for name, variant in variants.items():
            torch.manual_seed(seed)
            network = _stack(ground, below, name)
            epochs = ground.settings.epochs or ground.task.recipe(len(learned), ground.feed.input).epochs
            variant.training_flops = train_one(ground, network, feed, learned, seed, epochs)
            variant.right.append(right_of(network, feed, tested))
            variant.facts.setdefault("bent", []).append(how_bent(network, ground.x(learned)))
            tell(ground, name, seed, variant.right[-1])
            kept[name] = network
    learned, tested = ground.parts(ground.seeds[-1])
    none, full = variants["none"], variants[FULL]
    no_better, clearly = not none.mean > linear.interval[1], full.above(linear)
    than = f"{percent(linear.mean)} % ({percent(linear.interval[0])}-{percent(linear.interval[1])})"
    said = f"Without activation functions {DEPTH} layers are one straight line: {spread(none)}, where a linear model has {than}. "
    said += "" if no_better else "It is better trained here than that model, but as straight. "
    said += f"With {FULL} they have {spread(full)}: "
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

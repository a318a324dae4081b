"""The most telling units of each layer, and which examples, and which part of them, move them most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Feed
from lamina.explain.layers import BATCH, touched, vary
from lamina.layers import Context, Layer
from lamina.networks import Network
from lamina.outputs import ClassesOutput

Box = tuple[tuple[int, int], ...]
"""(from, to) along each axis of a raw value, the last one left out."""
UNITS = 3
"""Told of each layer."""
MOVERS = 6
"""Examples told of each unit."""
MOST_LAYERS = 12
LOOKED_THROUGH = 1_024


@dataclass(frozen=True)
class TellingUnit:
    layer: str
    number: int
    answer: int | None
    """The class whose examples move it most in the mean; None where answers are no classes."""
    share: float | None
    """Of the variance of its signal, the part that lies between classes."""
    examples: list[int]
    """The indices of those that move it most …"""
    signals: list[float]
    boxes: list[Box]
    """… and the part of each that it depends on there; empty where raw values have no places, or it is not known."""


def telling_units(network: Network, feed: Feed, examples: np.ndarray, count: int = UNITS) -> list[TellingUnit]:
    """Of each layer with weights (of at most MOST_LAYERS, the head left out) the units whose signals differ most between classes, or that
    stand out most where answers are no classes."""
    chosen = examples[:LOOKED_THROUGH]
    strongest = _strongest(network.eval(), feed, chosen)
    layers = [layer for layer in network.stack[:-1] if next(layer.parameters(), None) is not None]
    kept = {layers[round(place)].name for place in np.linspace(0, len(layers) - 1, min(MOST_LAYERS, len(layers)))} if layers else set()
    targets = [feed.targets[index] for index in chosen]
    classes = np.array(targets) if isinstance(feed.output, ClassesOutput) else None
    found = []
    for name in network.layers:
        if name in kept:
            signals = strongest[name].numpy()
            telling, answers = _between(signals, classes)
            for unit in np.argsort(-telling)[:count]:
                order = np.argsort(-signals[:, unit])[:MOVERS]
                boxes = _boxes(network, feed, chosen[order], name, int(unit))
                found.append(TellingUnit(name, int(unit), None if answers is None else int(answers[unit]),
                                         None if answers is None else round(float(telling[unit]), 3), chosen[order].tolist(),
                                         [round(float(value), 4) for value in signals[order, unit]], boxes))  # fmt: skip
    return found


def _strongest(network: Network, feed: Feed, examples: np.ndarray) -> dict[str, Tensor]:
    """[n, units] after each layer: the strongest signal of each unit over all places."""
    parts: dict[str, list[Tensor]] = {name: [] for name in network.layers}
    with torch.no_grad():
        for batch in feed.in_order(examples.tolist(), BATCH):
            for name, x, context in network.walk(batch.x.cpu(), batch.context):
                parts[name].append(_by_place(x.float(), context).amax(1))
    return {name: torch.cat(each) for name, each in parts.items()}


def _by_place(x: Tensor, context: Context) -> Tensor:
    """[N, places, units]; places beyond an example's end never win."""
    if x.ndim == 4:
        return x.flatten(2).transpose(1, 2)
    if x.ndim == 3:
        if context.lengths is None:
            return x
        beyond = torch.arange(x.shape[1])[None, :, None] >= context.lengths[:, None, None]
        return x.masked_fill(beyond, -torch.inf)
    return x[:, None]


def _between(signals: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(how telling each unit is, the class that moves each most)."""
    whole = signals.var(0)
    if classes is None:
        return (signals.max(0) - signals.mean(0)) / np.sqrt(whole + 1e-12), None
    names = np.unique(classes)
    means = np.stack([signals[classes == name].mean(0) for name in names])
    shares = np.array([np.mean(classes == name) for name in names])
    between = (shares[:, None] * (means - signals.mean(0)) ** 2).sum(0)
    return np.where(whole > 1e-9 * (1 + signals.mean(0) ** 2), between / np.maximum(whole, 1e-12), 0.0), names[means.argmax(0)]


def _boxes(network: Network, feed: Feed, examples: np.ndarray, layer: str, unit: int) -> list[Box]:
    """The part of each example on which the unit depends at its strongest place, from the gradient; empty where that is 0 (a signal at
    the end of its range)."""
    x, context = feed.input.collate(feed.values.take(examples))
    leaf, layers, context = vary(network, x.cpu(), context)
    if leaf.ndim < 3 or layer not in [each.name for each in layers]:
        return []
    leaf.requires_grad_(True)
    with torch.enable_grad():
        signals = _until(layers, leaf, context, layer)
        own = signals[..., unit]
        grad = torch.autograd.grad(own.gather(1, own.argmax(1, keepdim=True)).sum(), leaf)[0]
    return [box if all(low < high for low, high in box) else () for box in map(touched, grad)]


def _until(layers: Sequence[Layer], x: Tensor, context: Context, name: str) -> Tensor:
    for layer in layers:
        x, context = layer(x, context)
        if layer.name == name:
            break
    return _by_place(x, context)

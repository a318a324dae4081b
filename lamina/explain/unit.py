"""One artificial neuron, opened: inputs x weights + bias -> activation function -> signal passed on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lamina.errors import UsageError, did_you_mean, sentence
from lamina.layers import Context, Layer
from lamina.networks import Network

STRONGEST = 8


@dataclass(frozen=True)
class Connection:
    source: str
    """Which signal of the layer below (or above), and which place of a filter."""
    weight: float
    signal: float
    """What came in there, for the example; 0 where none was given."""

    @property
    def product(self) -> float:
        return self.weight * self.signal


@dataclass(frozen=True)
class Unit:
    """One unit of one layer at one place of one example."""

    layer: str
    number: int
    place: tuple[int, ...]
    """Of the map, or the step of the sequence; empty where there is one place."""
    inputs: int
    strongest: list[Connection]
    """By |input x weight|."""
    total: float
    """Sum of all inputs x weights."""
    bias: float
    passed_on: float
    """The signal that the layer puts out there, after normalization and activation function."""
    onward: list[Connection]
    """The strongest weights by which the next layer that has weights reads it."""


def open_unit(network: Network, x: Tensor, context: Context, layer: str, number: int) -> Unit:
    """Unit `number` of `layer` for one example (x [1, ...]), at the place where it is strongest.

    Works for a layer whose first weights are a matrix [units, inputs] or filters [units, inputs, rows, columns].
    Raises UsageError for a layer or a unit that does not exist, or that has no such weights.
    """
    names = list(network.layers)
    if layer not in names:
        raise UsageError(sentence("--unit", "name a layer: " + ", ".join(names), layer, did_you_mean(layer, names)))
    chosen = network.layers[layer]
    assert isinstance(chosen, Layer)
    weigher = _weigher(chosen)
    if weigher is None:
        able = [name for name, each in network.layers.items() if isinstance(each, Layer) and _weigher(each) is not None]
        raise UsageError(sentence("--unit", "name a layer with weights: " + ", ".join(able), layer))
    units = weigher.weight.shape[0]
    if not 0 <= number < units:
        raise UsageError(sentence("--unit", f"name one of the {units} units of {layer}, from 0", number))
    seen: list[tuple[Tensor, Tensor]] = []
    handle = weigher.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].detach(), output.detach())))
    try:
        with torch.no_grad():
            network.eval()(x, context, until=layer)
            signals = network(x, context, until=layer)[0]
    finally:
        handle.remove()
    inputs, outputs = seen[0]
    bias = float(weigher.bias[number].detach()) if weigher.bias is not None else 0.0
    place: tuple[int, ...] = ()
    if isinstance(weigher, nn.Conv2d):
        strongest_place = int(outputs[0, number].argmax())
        place = (strongest_place // outputs.shape[3], strongest_place % outputs.shape[3])
        products, names_of = _of_filter(weigher, inputs[0], number, place[0], place[1])
        after = signals[0, number]  # pooled maps are smaller
        passed_on = float(after[place[0] * after.shape[0] // outputs.shape[2], place[1] * after.shape[1] // outputs.shape[3]])
    else:
        flat = outputs[0].reshape(-1, units)
        step = int(flat[:, number].argmax())
        place = (step,) if outputs.ndim > 2 else ()
        own = inputs[0].reshape(-1, inputs.shape[-1])[step]
        products = [(float(w), float(v)) for w, v in zip(weigher.weight[number].detach(), own, strict=True)]
        names_of = [f"signal {index}" for index in range(len(products))]
        passed_on = float(signals[0].reshape(-1, signals.shape[-1])[step if outputs.ndim > 2 else 0, number])
    total = sum(weight * value for weight, value in products)
    order = sorted(range(len(products)), key=lambda index: -abs(products[index][0] * products[index][1]))[:STRONGEST]
    strongest = [Connection(names_of[index], *products[index]) for index in order]
    return Unit(layer, number, place, len(products), strongest, total, bias, passed_on, _onward(network, layer, number, passed_on))


def _weigher(layer: Layer) -> nn.Conv2d | nn.Linear | None:
    """The module inside the layer that weighs what comes in, first."""
    return next((module for module in layer.modules() if isinstance(module, (nn.Conv2d, nn.Linear))), None)


def _of_filter(filters: nn.Conv2d, map: Tensor, number: int, down_at: int, right_at: int) -> tuple[list[tuple[float, float]], list[str]]:
    """((weight, signal) of each connection of the filter at a place of what it puts out, their names); outside the map the signal is 0."""
    weight = filters.weight[number].detach()
    rows, columns = (int(value) for value in weight.shape[1:])
    down, right = filters.stride
    above, left = (int(value) for value in filters.padding)
    found, names = [], []
    for channel in range(weight.shape[0]):
        for row in range(rows):
            for column in range(columns):
                y, x = down_at * down - above + row, right_at * right - left + column
                inside = 0 <= y < map.shape[1] and 0 <= x < map.shape[2]
                found.append((float(weight[channel, row, column]), float(map[channel, y, x]) if inside else 0.0))
                names.append(f"signal {channel} at row {row - rows // 2:+d}, column {column - columns // 2:+d}")
    return found, names


def _onward(network: Network, layer: str, number: int, signal: float) -> list[Connection]:
    """The strongest weights by which the next layer with weights reads the unit's signal."""
    names = list(network.layers)
    for name in names[names.index(layer) + 1 :]:
        after = network.layers[name]
        weigher = _weigher(after) if isinstance(after, Layer) else None
        if weigher is None:
            continue
        if number >= weigher.weight.shape[1]:  # flattened in between: its signals cannot be told apart
            return []
        weights = weigher.weight[:, number].detach()
        size = weights.abs() if weights.ndim == 1 else weights.flatten(1).abs().amax(1)
        kept = size.topk(min(STRONGEST, len(size))).indices.tolist()
        own = [weights[unit] if weights.ndim == 1 else weights[unit].flatten()[weights[unit].flatten().abs().argmax()] for unit in kept]
        return [Connection(f"{name} unit {unit}", float(weight), signal) for unit, weight in zip(kept, own, strict=True)]
    return []

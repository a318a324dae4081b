"""One artificial neuron, opened: inputs x weights + bias -> activation function -> signal passed on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lamina.errors import UsageError, did_you_mean, sentence
from lamina.layers import Context
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

    Works for a layer with one set of weights, a matrix [units, inputs] or filters [units, inputs, rows, columns], that puts out as many
    signals. Raises UsageError for another, and for a layer or a unit that does not exist.
    """
    names = list(network.layers)
    if layer not in names:
        raise UsageError(sentence("--unit", "name a layer: " + ", ".join(names), layer, did_you_mean(layer, names)))
    weigher = weigher_of(network, layer)
    if weigher is None:
        able = [name for name in names if weigher_of(network, name) is not None]
        raise UsageError(sentence("--unit", "name a layer of plain units: " + ", ".join(able), layer))
    units = weigher.weight.shape[0]
    if not 0 <= number < units:
        raise UsageError(sentence("--unit", f"name one of the {units} units of {layer}, from 0", number))
    seen: list[tuple[Tensor, Tensor]] = []
    handle = weigher.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].detach(), output.detach())))
    try:
        with torch.no_grad():
            signals = network.eval()(x, context, until=layer)[0]
    finally:
        handle.remove()
    if (signals.shape[1] if signals.ndim == 4 else signals.shape[-1]) != units:  # several weighed sums make one signal (attention)
        raise UsageError(sentence("--unit", "name a layer that puts out a signal for each of its units", layer))
    inputs, outputs = seen[0]
    bias = float(weigher.bias[number].detach()) if weigher.bias is not None else 0.0
    place: tuple[int, ...] = ()
    if isinstance(weigher, nn.Conv2d):
        after = signals[0, number]
        factor = max(1, outputs.shape[2] // after.shape[0])  # pooled maps are smaller, and may leave the last row out
        map = outputs[0, number, : after.shape[0] * factor, : after.shape[1] * factor]
        place = divmod(int(map.argmax()), map.shape[1])
        products, names_of = _of_filter(weigher, inputs[0], number, place[0], place[1])
        passed_on = float(after[place[0] // factor, place[1] // factor])
    else:
        flat = outputs[0].reshape(-1, units)
        step = int(flat[:, number].argmax())
        place = (step,) if outputs.ndim > 2 else ()
        own = inputs[0].reshape(-1, inputs.shape[-1])[step]
        products = [(float(w), float(v)) for w, v in zip(weigher.weight[number].detach(), own, strict=True)]
        names_of = [f"signal {index}" for index in range(len(products))]
        passed_on = float(signals[0].reshape(-1, units)[step, number])
    total = sum(weight * value for weight, value in products)
    order = sorted(range(len(products)), key=lambda index: -abs(products[index][0] * products[index][1]))[:STRONGEST]
    strongest = [Connection(names_of[index], *products[index]) for index in order]
    return Unit(layer, number, place, len(products), strongest, total, bias, passed_on, _onward(network, layer, number, units, passed_on))


def weigher_of(network: Network, name: str) -> nn.Conv2d | nn.Linear | None:
    """The one module that weighs what comes into the layer, where its units are those that the layer puts out."""
    layer = network.layers[name]
    found = [module for module in layer.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    own = [value for value in layer.parameters() if value.ndim > 1]
    if len(found) != 1 or len(own) != 1 or (isinstance(found[0], nn.Conv2d) and (found[0].groups != 1 or set(found[0].dilation) != {1})):
        return None
    return found[0]


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


def _onward(network: Network, layer: str, number: int, units: int, signal: float) -> list[Connection]:
    """The strongest weights by which the next layer reads the unit's signal; none where something between mixes the signals."""
    names = list(network.layers)
    for name in names[names.index(layer) + 1 :]:
        weigher = weigher_of(network, name)
        if weigher is None and any(value.ndim > 1 for value in network.layers[name].parameters()):
            return []
        if weigher is None:
            continue
        if weigher.weight.shape[1] != units:  # flattened in between
            return []
        weights = weigher.weight[:, number].detach().flatten(1) if weigher.weight.ndim > 2 else weigher.weight[:, number, None].detach()
        kept = weights.abs().amax(1).topk(min(STRONGEST, len(weights))).indices.tolist()
        return [Connection(f"{name} unit {unit}", float(weights[unit][weights[unit].abs().argmax()]), signal) for unit in kept]
    return []

"""First filters as numbers, what units above them see in raw numbers, and how choosy each layer is about the direction of stripes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lamina.explain.layers import is_trained, middle_of, touched, vary
from lamina.layers import Context, Layer, LogMel
from lamina.networks import Network

SHOWN = 32
FAINT = 0.01
"""Units that answer less than this share of the strongest are left out: few chance answers look choosy."""
BATCH = 64
LONGEST = 64
"""Frames of a recording on which filters are looked for: they reach over a few."""


def first_filters(network: Network) -> dict[str, Any]:
    """{layer, trained, values [filters, channels, rows, columns]} of the first layer that has filters over places; empty without one."""
    for name, layer in network.layers.items():
        assert isinstance(layer, Layer)
        trained = {id(value) for value in layer.parameters() if value.requires_grad}
        for value in [*layer.parameters(), *layer.buffers()]:
            if value.ndim == 4 and min(value.shape[2:]) > 1:
                return {"layer": name, "trained": id(value) in trained, "values": value[:SHOWN].detach().tolist()}
    return {}


def seen_filters(
    network: Network, x: Tensor, context: Context, units: Sequence[int] | None = None, most: int | None = SHOWN
) -> dict[str, Any]:
    """{layer, units, values [units, channels, rows, columns]}: the filters of the first trained layer as if they lay on the input.

    That is how each of its middle units answers to a little more of each number of a plain input, the mean of x [N, ...]. Of sounds the
    input is their picture, high pitches on top. Empty where values have no places in rows and columns.
    """
    layer = next((layer for layer in network.eval().stack if is_trained(layer)), None)
    leaf, layers, context = vary(network, x, context)
    if layer is None or leaf.ndim != 4 or layer not in layers:
        return {}
    heard = isinstance(network.stack[0], LogMel)
    if heard:
        leaf = leaf.permute(0, 2, 3, 1)  # bands, frames and one channel, as pictures have theirs
        if context.lengths is not None:  # recordings may have any length
            leaf, context = leaf[:, :, :LONGEST], context._replace(lengths=context.lengths.clamp_max(LONGEST))
    plain = leaf.mean((0, 1, 2), keepdim=True).expand(1, *leaf.shape[1:]).clone().requires_grad_(True)
    with torch.enable_grad():
        signals, now = plain.permute(0, 3, 1, 2) if heard else plain, context.first(1)
        for each in layers[: layers.index(layer) + 1]:
            signals, now = each(signals, now)
        middle = middle_of(signals, now)[0]
        chosen = list(range(len(middle)))[:most] if units is None else list(units)
        grads = torch.stack([torch.autograd.grad(middle[unit], plain, retain_graph=True)[0][0] for unit in chosen])
    (top, bottom), (left, right), _ = touched(grads.abs().sum(0))
    values = grads[:, top:bottom, left:right].permute(0, 3, 1, 2)
    values = values.flip(2) if heard else values
    return {"layer": layer.name, "units": chosen, "values": values.tolist()} if values.numel() else {}


def selectivity(network: Network, gratings: tuple[Tensor, Tensor] | None) -> dict[str, float | None]:
    """How much the direction of stripes matters to the units of each layer: 0 = nothing else than it, 1 = all.

    `gratings` is (raw values [N, ...], their directions [N] in radians). For each unit the length of the mean of its signals above 0, each
    turned by twice its direction (the circular variance of Ringach et al. 2002, https://doi.org/10.1523/JNEUROSCI.22-13-05639.2002, from
    1); the mean over the units that answer at all, None where none does.
    """
    if gratings is None:
        return {}
    x, directions = gratings
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    turns = torch.polar(torch.ones(len(x)), 2 * directions.float())
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            for name, signals, _ in network.eval().walk(x[start : start + BATCH], Context()):
                strength = signals.float().clamp_min(0)
                strength = strength.mean((2, 3)) if strength.ndim == 4 else strength.flatten(1)
                turned = (strength * turns[start : start + BATCH, None]).sum(0)
                before = sums.get(name, (torch.zeros_like(turned), torch.zeros(strength.shape[1])))
                sums[name] = (before[0] + turned, before[1] + strength.sum(0))
    found: dict[str, float | None] = {}
    for name, (turned, strength) in sums.items():
        answers = strength > FAINT * max(1e-9, float(strength.max()))
        found[name] = float((turned.abs()[answers] / strength[answers]).mean()) if bool(answers.any()) else None
    return found

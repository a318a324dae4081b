"""First filters as numbers, and how choosy each layer is about the direction of stripes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lamina.layers import Context, Layer
from lamina.networks import Network

SHOWN = 32
FAINT = 0.01
"""Units that answer less than this share of the strongest are left out: few chance answers look choosy."""
BATCH = 64


def first_filters(network: Network) -> dict[str, Any]:
    """{layer, trained, values [filters, channels, rows, columns]} of the first layer that has filters over places; empty without one."""
    for name, layer in network.layers.items():
        assert isinstance(layer, Layer)
        trained = {id(value) for value in layer.parameters() if value.requires_grad}
        for value in [*layer.parameters(), *layer.buffers()]:
            if value.ndim == 4 and min(value.shape[2:]) > 1:
                return {"layer": name, "trained": id(value) in trained, "values": value[:SHOWN].detach().tolist()}
    return {}


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

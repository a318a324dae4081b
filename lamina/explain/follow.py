"""One value followed through a network: what each layer makes of it, small enough to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.explain.unit import weigher_of
from lamina.layers import Context
from lamina.networks import Network

MAPS, SIDE, LONGEST = 8, 28, 64
"""Maps of a layer that are shown; their largest side; numbers of a layer without places."""


@dataclass(frozen=True)
class Followed:
    """What one layer put out for one value."""

    name: str
    kind: str
    shape: tuple[int, ...]
    units: list[int]
    """The numbers of the units whose maps are shown: those that differ most from place to place; empty where there are no places."""
    maps: list[list[list[int]]]
    """[maps][rows][columns] from -127 to 127, in shares of `largest`; a layer without places is one row."""
    largest: float
    opens: bool
    """Whether its units can be opened (open_unit)."""


def follow(network: Network, x: Tensor, context: Context) -> list[Followed]:
    """Of a batch of one, x [1, ...]."""
    found = []
    with torch.no_grad():
        for (name, signals, _), layer in zip(network.eval().walk(x, context), network.stack, strict=True):
            own = signals.to_dense() if signals.is_sparse else signals
            units, maps = _drawn(own[0].float())
            largest = float(maps.abs().max()) or 1.0
            drawn = (maps / largest * 127).round().to(torch.int16).tolist()
            found.append(Followed(name, layer.kind, tuple(own.shape[1:]), units, drawn, largest, weigher_of(network, name) is not None))
    return found


def _drawn(signals: Tensor) -> tuple[list[int], Tensor]:
    """(units, maps [n, rows, columns])."""
    signals = signals.nan_to_num(0.0, 0.0, 0.0)
    if signals.ndim == 3:  # channels, rows, columns
        units = sorted(signals.flatten(1).std(1, correction=0).topk(min(MAPS, len(signals))).indices.tolist())
        return units, _smaller(signals[units], SIDE)
    if signals.ndim == 2:  # steps, signals: drawn with time across
        return [], _smaller(signals.T[None], LONGEST)
    flat = signals.flatten()[None, None]
    return [], F.adaptive_avg_pool1d(flat, LONGEST) if flat.shape[2] > LONGEST else flat


def _smaller(maps: Tensor, most: int) -> Tensor:
    rows, columns = (min(most, size) for size in maps.shape[1:])
    return F.adaptive_avg_pool2d(maps[None], (rows, columns))[0] if (rows, columns) != tuple(maps.shape[1:]) else maps

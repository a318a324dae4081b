"""A training looked at again: from its snapshots, how filters, what can be read, the map of classes and single connections came about."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Feed
from lamina.explain.doctor import weights_moved
from lamina.explain.filters import seen_filters
from lamina.explain.layers import LOOKED_AT, is_trained, probe_layers
from lamina.networks import Network
from lamina.training.snapshots import Snapshot, put_snapshot

FILTERS = 16
CONNECTIONS = 10
SOUGHT = 256
"""Held-out examples among which the one that is answered at each moment is chosen."""


@dataclass(frozen=True)
class Frame:
    """One moment of the training."""

    step: int
    fraction: float
    filters: list[Any]
    """[FILTERS, channels, rows, columns] of the first trained layer, as if they lay on the input; empty where there are none."""
    score: float | None
    """What a straight line reads after the last hidden layer, on held-out examples, with its 95 % interval …"""
    low: float | None
    high: float | None
    places: list[list[float]]
    """… and the flat map of these examples (Probe.places)."""
    answer: list[float]
    """What the network of that moment says of the example, a share for each class; empty where answers are no classes."""
    distance: float
    """How far the trained weights have moved since the first moment: 1 - the cosine of then and now, the mean over tensors that did not
    begin with zeros."""


@dataclass(frozen=True)
class Change:
    """One connection whose share of its layer's strength changed."""

    name: str
    strengths: list[float]
    """|weight| / length of the layer's weights, at each moment."""


@dataclass(frozen=True)
class Replay:
    frames: list[Frame]
    layer: str
    """Whose filters are shown; empty where none are."""
    units: list[int]
    example: int | None
    """The held-out example that is answered at each moment, a middling sure one of those that are right at the end."""
    grew: list[Change]
    """Of the layers that did not begin with zeros."""
    faded: list[Change]


def replay(network: Network, snapshots: Sequence[Snapshot], feed: Feed, learned: np.ndarray, tested: np.ndarray, probed: bool) -> Replay:
    """`network` has the layers of the snapshots and is left as it is; lines are read where answers are classes (`probed`)."""
    network = copy.deepcopy(network).cpu().eval()
    last_hidden = network.stack[-2].name if len(network.stack) > 1 else network.head.name
    x, context = feed.input.collate(feed.values.take(learned[:LOOKED_AT]))
    x = x.cpu()
    units = _units(network, snapshots, x, context)
    trained = [
        name
        for name, value in network.named_parameters()
        if value.requires_grad and value.ndim > 1 and bool(snapshots[0].weights[name].any())
    ]
    put_snapshot(network, snapshots[-1])
    example = _sure(network, feed, tested) if probed else None
    frames = []
    for snapshot in snapshots:
        put_snapshot(network, snapshot)
        filters = seen_filters(network, x, context, units) if units else {}
        probe = probe_layers(network, feed, learned, tested, last_hidden)[0] if probed else None
        frames.append(Frame(
            snapshot.step, snapshot.fraction, _rounded(filters.get("values", [])), probe.score if probe else None,
            probe.low if probe else None, probe.high if probe else None, np.round(probe.places, 3).tolist() if probe else [],
            _shares(network, feed, example) if example is not None else [], weights_moved(network, (snapshots[0], snapshot)),
        ))  # fmt: skip
    layer = next((layer.name for layer in network.stack if is_trained(layer)), "") if units else ""
    return Replay(frames, layer, units, example, *_connections(trained, snapshots))


def _sure(network: Network, feed: Feed, tested: np.ndarray) -> int | None:
    """The held-out example that is right and neither the surest nor the least sure: the middling one."""
    batch = feed.batch(tested[:SOUGHT])
    with torch.no_grad():
        sure, told = torch.softmax(network(batch.x.cpu(), batch.context)[0].float(), 1).max(1)
    right = np.flatnonzero((told == batch.target.cpu()).numpy())
    return int(tested[right[np.argsort(sure.numpy()[right])[len(right) // 2]]]) if len(right) else None


def _shares(network: Network, feed: Feed, example: int) -> list[float]:
    batch = feed.batch(np.array([example]))
    with torch.no_grad():
        return [round(value, 4) for value in torch.softmax(network(batch.x.cpu(), batch.context)[0].float(), 1)[0].tolist()]


def _units(network: Network, snapshots: Sequence[Snapshot], x: Tensor, context: Any) -> list[int]:
    """The filters that changed most, in their order."""
    seen = []
    for snapshot in (snapshots[0], snapshots[-1]):
        put_snapshot(network, snapshot)
        found = seen_filters(network, x, context, most=None)
        if not found:
            return []
        values = torch.tensor(found["values"]).flatten(1)
        seen.append(values / values.norm(dim=1, keepdim=True).clamp_min(1e-12))
    if seen[0].shape != seen[1].shape:
        return list(range(min(FILTERS, len(seen[1]))))
    change = 1 - (seen[0] * seen[1]).sum(1)
    return sorted(change.topk(min(FILTERS, len(change))).indices.tolist())


def _connections(trained: Sequence[str], snapshots: Sequence[Snapshot]) -> tuple[list[Change], list[Change]]:
    """(those whose strength grew most from the first to the last moment, those whose faded most)."""
    changes: list[tuple[float, str, tuple[int, ...]]] = []
    for name in trained:
        start, end = (_strength(snapshot.weights[name]) for snapshot in (snapshots[0], snapshots[-1]))
        change = (end - start).flatten()
        for sign in (1, -1):
            most = (sign * change).topk(min(CONNECTIONS, len(change))).indices
            changes += [(float(change[at]), name, tuple(int(k) for k in np.unravel_index(int(at), end.shape))) for at in most]
    changes.sort(key=lambda each: each[0])
    grew = [each for each in changes[::-1][:CONNECTIONS] if each[0] > 0]
    faded = [each for each in changes[:CONNECTIONS] if each[0] < 0]

    def told(each: tuple[float, str, tuple[int, ...]]) -> Change:
        _, name, at = each
        return Change(_words(name, at), [round(float(_strength(snapshot.weights[name])[at]), 5) for snapshot in snapshots])

    return [told(each) for each in grew], [told(each) for each in faded]


def _strength(weights: Tensor) -> Tensor:
    return weights.float().abs() / weights.float().norm().clamp_min(1e-12)


def _words(name: str, at: tuple[int, ...]) -> str:
    layer = name.split(".")[1] if name.startswith("layers.") else name
    place = f" at row {at[2]}, column {at[3]}" if len(at) == 4 else ""
    return f"{layer}: unit {at[0]} from signal {at[1]}{place}"


def _rounded(values: list[Any]) -> list[Any]:
    return np.round(np.asarray(values, np.float32), 4).tolist() if values else []

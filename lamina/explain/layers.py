"""What each layer of a network is, sees and knows, measured on named layers: any network, any input.

shape         of the signals that come out, for one example
receptive     how much of one raw value a middle unit depends on, by the gradient
flops         of one answer, counted by PyTorch
probe         how much of the answer a straight line can read after the layer, beside the same network with random weights
              (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lamina.classical.fit import PENALTIES, Few, Sums, classes_of, fit_scale
from lamina.data.batches import Feed
from lamina.layers import Context, Layer
from lamina.metrics import wilson_interval
from lamina.networks import Network, build_network

LOOKED_AT = 8
"""Examples whose gradients together give the receptive field."""
MAP = 4
"""Maps are averaged to at most so many rows and columns before a probe reads them …"""
WIDEST = 1_024
"""… and signals beyond so many are read through a fixed random projection."""
BATCH = 256
PASSES = 4
"""Batches on which the statistics of a network with random weights are measured."""


@dataclass(frozen=True)
class LayerFacts:
    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    trained: bool
    """False: measured on the data, or without weights."""
    receptive: tuple[int, ...]
    """Extent along each axis of one raw value."""
    flops: float
    share: float
    """Of the FLOPs of one answer."""


def look_at_layers(network: Network, x: Tensor, context: Context) -> list[LayerFacts]:
    """Each layer in turn; x [N, ...] is a batch of the network's input, as `Input.collate` makes it."""
    network.eval()
    fields = receptive_fields(network, x[:LOOKED_AT], context.first(LOOKED_AT))
    found = []
    one, context = x[:1], context.first(1)
    with torch.no_grad():
        for name, layer in network.layers.items():
            assert isinstance(layer, Layer)
            counter = FlopCounterMode(display=False)
            with counter:
                one, context = layer(one, context)
            weights = [*layer.parameters(), *layer.buffers()]
            found.append((name, layer, tuple(one.shape[1:]), sum(value.numel() for value in weights), counter.get_total_flops()))
    total = max(1, sum(flops for *_, flops in found))
    return [
        LayerFacts(
            name, layer.kind, shape, count, any(value.requires_grad for value in layer.parameters()), fields[name], flops, flops / total
        )
        for name, layer, shape, count, flops in found
    ]


def receptive_fields(network: Network, x: Tensor, context: Context) -> dict[str, tuple[int, ...]]:
    """By layer: the extent along each axis of a raw value on which one middle unit depends; of the first layer's signals, where raw values
    have no places or are no numbers (rows, tokens). Found from gradients, so it needs no code per layer."""
    leaf = x.detach().float().requires_grad_(True) if x.ndim > 2 and x.dtype in (torch.uint8, torch.float32) else None
    signals: Tensor = leaf if leaf is not None else x
    fields: dict[str, tuple[int, ...]] = {}
    with torch.enable_grad():
        for name, layer in network.layers.items():
            signals, context = layer(signals, context)
            if leaf is None:
                leaf = signals.detach().requires_grad_(True)
                signals = leaf
                fields[name] = tuple(leaf.shape[1:])
                continue
            grad = torch.autograd.grad(_middle(signals).float().sum(), leaf, retain_graph=True, allow_unused=True)[0]
            fields[name] = _extent(grad) if grad is not None else (0,) * (leaf.ndim - 1)
    return fields


def _middle(signals: Tensor) -> Tensor:
    """All channels of the place in the middle: maps are [N, C, H, W], sequences [N, T, D]; [N, D] has one place."""
    if signals.ndim == 4:
        return signals[:, :, signals.shape[2] // 2, signals.shape[3] // 2]
    return signals[:, signals.shape[1] // 2] if signals.ndim == 3 else signals


def _extent(grad: Tensor) -> tuple[int, ...]:
    touched = (torch.nan_to_num(grad) != 0).any(0)
    if not bool(touched.any()):
        return (0,) * touched.ndim
    places = touched.nonzero()
    return tuple((places.amax(0) - places.amin(0) + 1).tolist())


def with_random_weights(network: Network, feed: Feed, train: np.ndarray, seed: int = 0) -> Network:
    """The control: the same layers with weights as they were before any training. What was measured on the data stays."""
    torch.manual_seed(seed)
    control = build_network(network.describe())
    for name, layer in network.layers.items():
        if not any(value.requires_grad for value in layer.parameters()):
            control.layers[name].load_state_dict(layer.state_dict())
    for module in control.modules():  # a head that begins with zeros would answer nothing at all
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not bool(module.weight.any()):
            module.reset_parameters()
    control.train()  # statistics of normalizations are measured anew, on what these weights make of the data
    with torch.no_grad():
        for start in range(0, min(len(train), PASSES * BATCH), BATCH):
            batch = feed.batch(train[start : start + BATCH])
            control(batch.x.cpu(), batch.context)
    return control.eval()


@dataclass(frozen=True)
class Probe:
    """What a straight line reads after a layer: the share of held-out examples that it answers right, with its 95 % interval."""

    name: str
    score: float
    low: float
    high: float


def probe_layers(network: Network, feed: Feed, learned: np.ndarray, tested: np.ndarray) -> list[Probe]:
    """A linear head per layer (ridge regression), fitted on the signals of `learned` and scored on those of `tested`.

    The penalty is chosen on a fifth of `learned`. Answers are classes.
    """
    classes = classes_of(feed)
    wanted = {name: np.array([feed.targets[index] for index in part], np.int64) for name, part in (("l", learned), ("t", tested))}
    signals = {name: _signals(network, feed, part) for name, part in (("l", learned), ("t", tested))}
    found = []
    for name in network.layers:
        x, y = signals["l"][name], wanted["l"]
        scale = fit_scale(x)
        x, other = scale(x, Context())[0], scale(signals["t"][name], Context())[0]
        cut = len(x) * 4 // 5
        few = cut < x.shape[1]
        fit = (Few(x[:cut], y[:cut], classes) if few else Sums.of(x[:cut], y[:cut], classes)).solve
        right = {penalty: int((fit(penalty)(x[cut:], Context())[0].argmax(1).numpy() == y[cut:]).sum()) for penalty in PENALTIES["linear"]}
        best = max(right, key=lambda penalty: right[penalty])
        head = (Few(x, y, classes) if few else Sums.of(x, y, classes)).solve(best)
        hits = int((head(other, Context())[0].argmax(1).numpy() == wanted["t"]).sum())
        found.append(Probe(name, hits / len(tested), *wilson_interval(hits, len(tested))))
    return found


def _signals(network: Network, feed: Feed, examples: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
    """[n, at most WIDEST] after each layer."""
    parts: dict[str, list[Tensor]] = {name: [] for name in network.layers}
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            batch = feed.batch(np.asarray(examples[start : start + BATCH]))
            for name, x, context in network.walk(batch.x.cpu(), batch.context):
                parts[name].append(_readable(x.float(), context))
    return {name: torch.cat(each) for name, each in parts.items()}


def _readable(x: Tensor, context: Context) -> Tensor:
    """[n, features]: maps averaged to MAP x MAP places, sequences over their valid steps; wide ones projected."""
    if x.ndim == 4:
        x = F.adaptive_avg_pool2d(x, (min(MAP, x.shape[2]), min(MAP, x.shape[3])))
    elif x.ndim == 3:
        steps = torch.arange(x.shape[1])[None, :, None]
        valid = steps < (context.lengths[:, None, None] if context.lengths is not None else x.shape[1])
        x = (x * valid).sum(1) / valid.sum(1).clamp_min(1)
    x = x.flatten(1)
    if x.shape[1] <= WIDEST:
        return x
    generator = torch.Generator().manual_seed(x.shape[1])
    return x @ (torch.randn(x.shape[1], WIDEST, generator=generator) / WIDEST**0.5)

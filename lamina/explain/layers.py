"""What each layer of a network is, sees and knows, measured on named layers: any network, any input.

shape         of the signals that come out, for one example
receptive     how much of one raw value a middle unit depends on, by the gradient
flops         of one answer, counted by PyTorch
probe         how much of the answer a straight line can read after the layer, beside the same network with random weights
              (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lamina.classical.fit import PENALTIES, Few, Sums, best_penalty, classes_of, deal_out, fit_scale
from lamina.classical.people import fit_projection
from lamina.data.batches import Feed
from lamina.layers import Context, Layer
from lamina.metrics import equal_error_interval, trials_of, wilson_interval
from lamina.networks import Network, build_network
from lamina.outputs import CharactersOutput

LOOKED_AT = 8
"""Examples whose gradients together give the receptive field."""
MAP = 4
"""Maps are averaged to at most so many rows and columns before a probe reads them …"""
WIDEST = 1_024
"""… and signals beyond so many are read through a fixed random projection."""
LETTERS = 4_000
"""Letters that a probe of speech learns from, and as many that it is scored on."""
BATCH = 64
PASSED = 1_024
"""Examples on which the statistics of a network with random weights are measured."""
Norm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class LayerFacts:
    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    trained: bool
    """False: measured on the data, or without weights."""
    receptive: tuple[int, ...]
    """Extent along each axis of one raw value; empty where it cannot be found by a gradient (trees)."""
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
        for layer in network.stack:
            counter = FlopCounterMode(display=False)
            with counter:
                one, context = layer(one, context)
            count = sum(value.numel() for value in layer.parameters())
            found.append((layer, tuple(one.shape[1:]), count, counter.get_total_flops()))
    total = max(1, sum(flops for *_, flops in found))
    return [
        LayerFacts(layer.name, layer.kind, shape, count, is_trained(layer), fields[layer.name], flops, flops / total)
        for layer, shape, count, flops in found
    ]


def is_trained(layer: Layer) -> bool:
    return any(value.requires_grad for value in layer.parameters())


def vary(network: Network, x: Tensor, context: Context) -> tuple[Tensor, list[Layer], Context]:
    """(numbers that can be varied a little, the layers from there on, their context): the raw values where they have places, else the
    first layer's signals (rows with categories, tokens)."""
    if x.ndim > 2 and x.dtype in (torch.uint8, torch.float32):
        return x.detach().float(), network.stack, context
    with torch.no_grad():
        signals, after = network.stack[0](x, context)
    return signals.detach(), network.stack[1:], after


def receptive_fields(network: Network, x: Tensor, context: Context) -> dict[str, tuple[int, ...]]:
    """By layer: the extent along each axis of a raw value on which one middle unit depends; of the first layer's signals, where raw
    values have no places or are no numbers (rows, tokens). Found from gradients, so it needs no code per layer."""
    leaf, layers, context = vary(network, x, context)
    leaf.requires_grad_(True)
    fields = {layer.name: tuple(leaf.shape[1:]) for layer in network.stack if layer not in layers}
    generator, signals = torch.Generator().manual_seed(0), leaf
    with torch.enable_grad():
        for layer in layers:
            signals, context = layer(signals, context)
            if not signals.requires_grad:  # steps (trees): from here on nothing is found by a gradient
                fields[layer.name] = ()
                continue
            middle = middle_of(signals, context)
            weights = torch.randn(middle.shape[-1], generator=generator)  # a plain sum over a softmax head's channels cancels
            grad = torch.autograd.grad((middle.float() * weights).sum(), leaf, retain_graph=True, allow_unused=True)[0]
            fields[layer.name] = _extent(grad) if grad is not None else ()
    return fields


def length_of(values: Sequence[Tensor]) -> float:
    """Of all of them together, as one vector."""
    return math.sqrt(sum(float(value.detach().float().square().sum()) for value in values))


def middle_of(signals: Tensor, context: Context) -> Tensor:
    """[N, channels] of the place in the middle: maps are [N, C, H, W], sequences [N, T, D]; [N, D] has one place."""
    if signals.ndim == 4:
        return signals[:, :, signals.shape[2] // 2, signals.shape[3] // 2]
    if signals.ndim == 3:
        steps = int(context.lengths.min()) if context.lengths is not None else signals.shape[1]
        return signals[:, min(steps, signals.shape[1]) // 2]
    return signals


def _extent(grad: Tensor) -> tuple[int, ...]:
    """Of the gradients of several examples together."""
    return tuple(end - start for start, end in touched((torch.nan_to_num(grad) != 0).any(0)))


def touched(grad: Tensor) -> tuple[tuple[int, int], ...]:
    """(from, to) along each axis of where a gradient is not 0; (0, 0) where it is 0 everywhere."""
    places = torch.nan_to_num(grad).nonzero()
    if not len(places):
        return ((0, 0),) * grad.ndim
    return tuple((int(low), int(high) + 1) for low, high in zip(places.amin(0), places.amax(0), strict=True))


def with_random_weights(network: Network, feed: Feed, train: np.ndarray, seed: int = 0) -> Network:
    """The control: the same layers with weights as they were before any training. What was measured on the data stays; the statistics of
    normalizations are measured anew, on what these weights make of some training examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        control = build_network(network.describe())
        for module in control.modules():  # a head that begins with zeros would answer nothing at all
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not bool(module.weight.any()):
                module.reset_parameters()
    for layer, own in zip(network.stack, control.stack, strict=True):
        if not is_trained(layer):
            own.load_state_dict(layer.state_dict())
            own.requires_grad_(False)
    norms = [module for layer in control.stack if is_trained(layer) for module in layer.modules() if isinstance(module, Norm)]
    chosen = np.random.Generator(np.random.Philox(key=seed)).permutation(train)[:PASSED]
    control.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all of them
        norm.train()
    with torch.no_grad():
        for start in range(0, len(chosen) if norms else 0, BATCH):
            if len(some := chosen[start : start + BATCH]) > 1:
                batch = feed.batch(some)
                control(batch.x.cpu(), batch.context)
    for norm in norms:
        norm.momentum = 0.1
    return control.eval()


@dataclass(frozen=True)
class Probe:
    """What a straight line reads after a layer: the share of held-out examples that it answers right, with its 95 % interval."""

    name: str
    score: float
    low: float
    high: float
    right: np.ndarray = field(repr=False, compare=False)
    """[tested] of bool."""
    places: np.ndarray = field(repr=False, compare=False)
    """[tested, 2]: a flat map of the signals, on which each class pulls towards its own point of the unit circle as much as a straight line
    reads it (two classes: from left to right)."""


def probe_layers(network: Network, feed: Feed, learned: np.ndarray, tested: np.ndarray, only: str = "") -> list[Probe]:
    """A linear head per layer (or for the one named), by ridge regression, fitted on the signals of `learned`, scored on those of `tested`.

    The penalty is cross-validated on `learned`. Answers are classes.
    """
    y, wanted = (np.array([feed.targets[index] for index in part], np.int64) for part in (learned, tested))
    own, others = _signals(network, feed, learned, only), _signals(network, feed, tested, only)
    return _read(own, y, others, wanted, classes_of(feed))


def probe_letters(network: Network, feed: Feed, learned: np.ndarray, tested: np.ndarray, listener: Network) -> list[Probe]:
    """How well a straight line tells which letter is said from each layer's signals at the step where it is heard, fitted on recordings
    `learned`, scored on those of `tested`; `listener` is the trained network, which tells where each letter is."""
    assert isinstance(feed.output, CharactersOutput)
    (own, y), (others, wanted) = (_letters(network, feed, part, listener) for part in (learned, tested))
    if len(np.unique(y)) < 2 or not len(wanted):
        return []
    return _read(own, y, others, wanted, len(feed.output.letters) + 1)


def _read(own: dict[str, Tensor], y: np.ndarray, others: dict[str, Tensor], wanted: np.ndarray, classes: int) -> list[Probe]:
    """A line per layer, from signals `own` with classes y, scored on `others`."""
    fold = deal_out(y, np.random.Generator(np.random.Philox(key=0)))
    found = []
    for name in list(own):
        scale = fit_scale(own[name])
        x, other = scale(own.pop(name), Context())[0], scale(others.pop(name), Context())[0]
        penalty = best_penalty(x, y, fold, classes, PENALTIES["linear"])[0]
        head = (Few(x, y, classes) if len(x) < x.shape[1] else Sums.of(x, y, classes)).solve(penalty)
        read = head(other, Context())[0]
        right = read.argmax(1).numpy() == wanted
        found.append(Probe(name, float(right.mean()), *wilson_interval(int(right.sum()), len(right)), right, _flat(read)))
    return found


PEOPLE_COMPONENTS, PEOPLE_SHRINKAGE = 100, 0.5


def probe_people(network: Network, feed: Feed, learned: np.ndarray, tested: np.ndarray) -> list[Probe]:
    """How well a linear projection of each layer's signals tells people apart: 1 - EER of those of `tested`, with its 95 % interval by
    people drawn anew. The projection (principal components, then linear discriminants) is fitted on those of `learned`.

    Empty where there are too few people or examples of one.
    """
    owner, wanted = (np.array([feed.targets[index] for index in part]) for part in (learned, tested))
    own, others = _signals(network, feed, learned), _signals(network, feed, tested)
    none = np.empty(0)
    found = []
    for name in [name for name in own if name != network.head.name]:
        try:
            components = min(PEOPLE_COMPONENTS, len(learned) - 1, own[name].shape[1])
            projection = fit_projection("lda", own.pop(name), owner, components, PEOPLE_SHRINKAGE)
            trials = trials_of(projection(others.pop(name), Context())[0].numpy(), [str(person) for person in wanted])
        except (ValueError, np.linalg.LinAlgError):
            return []
        low, high = equal_error_interval(trials)
        found.append(Probe(name, 1 - trials.equal_error(), 1 - high, 1 - low, none, none))
    return found


def _letters(network: Network, feed: Feed, examples: np.ndarray, listener: Network) -> tuple[dict[str, Tensor], np.ndarray]:
    """(after each layer the signals at each letter [n, features], which letters these are), from as many recordings as give LETTERS."""
    assert isinstance(feed.output, CharactersOutput)
    found: dict[str, list[Tensor]] = {name: [] for name in network.layers}
    letters: list[int] = []
    with torch.no_grad():
        for index in examples:
            batch = feed.batch(np.array([index]))
            steps, context = listener(batch.x.cpu(), batch.context)
            places = feed.output.places(steps, context, [feed.targets[index]])[0]
            if not places or len(letters) >= LETTERS:
                continue
            letters += [letter for letter, _ in places]
            at = torch.tensor([place for _, place in places])
            for name, x, _ in network.walk(batch.x.cpu(), batch.context):
                found[name].append(_at_steps(x.float(), at, steps.shape[1]))
    return {name: torch.cat(each) for name, each in found.items() if each}, np.array(letters, np.int64)


def _at_steps(x: Tensor, at: Tensor, steps: int) -> Tensor:
    """[n, features] of the only recording of x at the steps `at`; of a picture of sound the frames that a step is made of, side by side."""
    if x.ndim == 3:
        return x[0, at.clamp_max(x.shape[1] - 1)]
    frames = x[0].flatten(0, 1).T  # [F, C * B]
    each = max(1, -(-len(frames) // steps))
    places = (at[:, None] * each + torch.arange(each)).clamp_max(len(frames) - 1)
    return frames[places].flatten(1)[:, :WIDEST]


def _flat(read: Tensor) -> np.ndarray:
    """[n, classes] of what a line reads -> [n, 2]; two classes lie on one line, so their examples are spread over it evenly."""
    turns = torch.arange(read.shape[1]) * (2 * math.pi / read.shape[1])
    places = read.detach().float() @ torch.stack([turns.cos(), turns.sin()], 1)
    if read.shape[1] == 2:
        places[:, 1] = torch.linspace(-1, 1, len(places))
    return np.asarray(places.numpy())


def _signals(network: Network, feed: Feed, examples: Sequence[int] | np.ndarray, only: str = "") -> dict[str, Tensor]:
    """[n, at most WIDEST] after each layer, or after the one named."""
    parts: dict[str, list[Tensor]] = {name: [] for name in network.layers if only in ("", name)}
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            batch = feed.batch(np.asarray(examples[start : start + BATCH]))
            for name, x, context in network.walk(batch.x.cpu(), batch.context):
                if name in parts:
                    parts[name].append(readable(x.float(), context))
    return {name: torch.cat(each) for name, each in parts.items()}


def readable(x: Tensor, context: Context) -> Tensor:
    """[n, features]: maps averaged to MAP x MAP places, sequences over their valid steps; wide ones projected."""
    if x.ndim == 4:
        x = F.adaptive_avg_pool2d(x, (min(MAP, x.shape[2]), min(MAP, x.shape[3])))
    elif x.ndim == 3:
        steps = torch.arange(x.shape[1])[None, :, None]
        valid = steps < (context.lengths[:, None, None] if context.lengths is not None else x.shape[1])
        x = (x * valid).sum(1) / valid.sum(1).clamp_min(1)
    x = x.flatten(1)
    return x if x.shape[1] <= WIDEST else x @ _projection(x.shape[1])


@functools.lru_cache(maxsize=8)
def _projection(width: int) -> Tensor:
    return torch.randn(width, WIDEST, generator=torch.Generator().manual_seed(width)) / WIDEST**0.5

"""Batches: what the training loop eats. Which examples, and how varied, is a function of (seed, step, example) and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lamina.data.cache import Decoded, moved

if TYPE_CHECKING:
    from lamina.inputs import Input
    from lamina.layers import Context
    from lamina.outputs import Output

PADDED, LEAST_TOGETHER = 0.25, 8
"""Values of different lengths stand together up to this share of padding, but at least so many."""
BUCKETS = 8
"""Batches that are made of so many times as many shuffled values by their length, where lengths differ much."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Batch(NamedTuple):
    """One micro-batch."""

    x: Tensor
    context: Context
    target: Tensor
    examples: np.ndarray
    """Indices of its examples."""


@dataclass(frozen=True)
class Feed:
    """Read values with their encoded answers, and how they become batches on a device."""

    values: Decoded
    targets: Sequence[Any]
    """One encoded answer per value."""
    input: Input
    output: Output
    device: torch.device

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        """The examples at `indices`; varied by `draws` [n, input.draws] when given, at that share of their resolution."""
        x, context = self.input.collate(self.values.take(indices))
        target = self.output.collate([self.targets[index] for index in indices])
        x, context, target = moved(x, self.device), context.to(self.device), moved(target, self.device)
        if draws is not None and self.input.draws:
            x, context = self.input.augment(x, context, moved(torch.from_numpy(draws), self.device), detail)
        return Batch(x, context, target, indices)

    def pieces(self, examples: np.ndarray, size: int) -> list[np.ndarray]:
        """Places among `examples` in micro-batches of at most `size`. Where values differ much in length, those of a length stand together,
        and a micro-batch of long ones has fewer."""
        if not self.input.ragged:
            return [np.arange(start, min(start + size, len(examples))) for start in range(0, len(examples), size)]
        lengths = np.array([self.values.shapes[index][0] for index in examples])
        order = np.argsort(lengths, kind="stable")
        made: list[np.ndarray] = []
        first = 0
        for place in range(1, len(order) + 1):
            padded = (place + 1 - first) * lengths[order[min(place, len(order) - 1)]]
            wasted = padded > (1 + PADDED) * lengths[order[first : place + 1]].sum()
            if place == len(order) or place - first >= size or (wasted and place - first >= LEAST_TOGETHER):
                made.append(order[first:place])
                first = place
        return made

    def in_order(self, indices: Sequence[int], size: int) -> Iterator[Batch]:
        """Each of `indices` exactly once, in that order."""
        for start in range(0, len(indices), size):
            yield self.batch(np.asarray(indices[start : start + size], np.int64))

    def training(
        self, indices: np.ndarray, seed: int, step: int, batch: int, rank: int = 0, ranks: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """(examples, draws) of this process's share of a step. Each epoch is shuffled anew and shows every example once."""
        places = np.arange(step * batch, (step + 1) * batch)
        epochs, within = places // len(indices), places % len(indices)
        chosen = np.empty(batch, np.int64)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            order, asked = _permutation(len(indices), seed, int(epoch)), within[mine]
            chosen[mine] = indices[self._of_a_length(order, indices, batch, int(epoch), asked) if self.input.ragged else order[asked]]
        share = slice(rank * batch // ranks, (rank + 1) * batch // ranks)
        chosen, epochs = chosen[share], epochs[share]
        draws = counter_draws(seed, step, chosen, self.input.draws)
        if self.input.draws:  # the first alternates: what an epoch saw mirrored, the next one sees as it is
            draws[:, 0] = (counter_draws(seed, 0, chosen, 1)[:, 0] + 0.5 * (epochs % 2)) % 1.0
        return chosen, draws

    def _of_a_length(self, order: np.ndarray, indices: np.ndarray, batch: int, epoch: int, within: np.ndarray) -> np.ndarray:
        """What stands `within` an epoch's `order` when values of about a length are in one batch: each few batches' worth are sorted."""
        first = -epoch * len(indices) % batch  # places until a batch begins
        found = order[within]
        stretch = BUCKETS * batch
        for number in np.unique((within - first) // stretch):
            begin = first + int(number) * stretch
            if begin < first:
                continue
            mixed = order[begin : begin + stretch]
            alike = mixed[np.argsort([self.values.shapes[index][0] for index in indices[mixed]], kind="stable")]
            whole = len(alike) // batch
            turns = np.argsort(mixed[:whole], kind="stable")  # of batches: as mixed as the values
            dealt = np.concatenate([*(alike[turn * batch : (turn + 1) * batch] for turn in turns), alike[whole * batch :]])
            here = (within >= begin) & (within < begin + stretch)
            found[here] = dealt[within[here] - begin]
        return found


_LAST: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    key = (count, seed, epoch)
    if key not in _LAST:
        if len(_LAST) > 4:
            _LAST.clear()
        _LAST[key] = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
    return _LAST[key]


def counter_draws(seed: int, step: int, examples: np.ndarray, count: int) -> np.ndarray:
    """float32 [n, count] uniform in [0, 1): a hash of (seed, step, example, number), so the same in any order, batch or process.

    The hash is splitmix64 (Steele, Lea & Flood 2014, https://doi.org/10.1145/2660193.2660195).
    """
    with np.errstate(over="ignore"):
        state = _mix(np.uint64(seed) * GOLDEN + np.uint64(step))
        rows = _mix(state ^ examples.astype(np.uint64))[:, None]
        bits = _mix(rows + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)
    return ((bits >> np.uint64(40)).astype(np.float64) / 2**24).astype(np.float32)


def step_seed(seed: int, step: int, part: int) -> int:
    """The seed of torch's own generator for one micro-batch of one step (dropout, sampled negatives)."""
    with np.errstate(over="ignore"):
        return int(_mix(_mix(np.uint64(seed) * GOLDEN + np.uint64(step)) + np.uint64(part)) >> np.uint64(1))


def _mix(z: Any) -> Any:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

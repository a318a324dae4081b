"""A training step recorded as one CUDA graph and replayed: one launch instead of a thousand, for steps of small networks are over before
the processor has asked for the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lamina.data.batches import Batch
from lamina.outputs import Progress

WARM = 2
"""Steps of each shape that are made as usual before one is recorded, for libraries and compilers settle down in them."""

Run = Callable[[Batch, Progress, Tensor], Tensor]
"""(batch, progress, rate) -> the loss, with everything that a step changes changed."""


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    batch: Batch
    """Where a step finds its batch …"""
    progress: Progress
    rate: Tensor
    loss: Tensor
    """… and leaves its loss."""


class Recorder:
    """Makes steps of one optimizer; those of a shape seen more often than WARM by replaying.

    What the step changes must stay where it is in memory: weights, statistics, momentum.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run = run
        self.stream = torch.cuda.Stream(device)
        self.seen: Counter[Any] = Counter()
        self.recorded: dict[Any, _Recorded] = {}

    def step(self, batch: Batch, progress: Progress, rate: Tensor, reseed: Callable[[], None]) -> Tensor:
        """One step; `reseed` sets the generators before it."""
        shape = (batch.x.shape, batch.x.dtype, batch.target.shape, *(value is not None for value in batch.context))
        if shape not in self.recorded:
            self.seen[shape] += 1
            if self.seen[shape] <= WARM or any(value is not None for value in batch.context):
                return self._as_usual(batch, progress, rate, reseed)
            self.recorded[shape] = self._record(batch, progress, rate)
        kept = self.recorded[shape]
        kept.batch.x.copy_(batch.x)
        kept.batch.target.copy_(batch.target)
        kept.progress.fraction.copy_(progress.fraction)
        kept.progress.step.copy_(progress.step)
        kept.rate.copy_(rate)
        reseed()
        kept.graph.replay()
        return kept.loss.clone()

    def _as_usual(self, batch: Batch, progress: Progress, rate: Tensor, reseed: Callable[[], None]) -> Tensor:
        """On the stream that will record, as the recording of what came before it demands."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            reseed()
            loss = self.run(batch, progress, rate)
        torch.cuda.current_stream().wait_stream(self.stream)
        loss.record_stream(torch.cuda.current_stream())
        return loss

    def _record(self, batch: Batch, progress: Progress, rate: Tensor) -> _Recorded:
        own = batch._replace(x=batch.x.clone(), target=batch.target.clone())
        at, speed = Progress(progress.fraction.clone(), progress.step.clone()), rate.clone()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self.stream):
            loss = self.run(own, at, speed)
        return _Recorded(graph, own, at, speed, loss)


def recorded(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same work as one graph; what it returns lies in the same place each time. Raises RuntimeError where it cannot be recorded."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        found = run()

    def replay() -> Tensor:
        graph.replay()
        return found

    return replay

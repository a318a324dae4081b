"""THE training loop: forward pass, loss, backpropagation, step.

Nothing else happens here. It yields after each step; whoever drives it (`fit.py`) decides when to check, print, save or stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lamina.data.batches import Batch, step_seed
from lamina.outputs import Progress
from lamina.training.capture import Recorder
from lamina.training.distributed import World, accumulating
from lamina.training.objective import Objective


class Step(NamedTuple):
    """One optimizer step that was made."""

    number: int
    """0 for the first."""
    loss: Tensor
    """0-D, on the device: the mean over all examples of the step; reading it waits for the device."""
    rate: float


def training_loop(
    objective: Objective,
    steps: Iterable[tuple[int, float, list[Batch]]],
    optimizer: torch.optim.Optimizer,
    rate: Callable[[int], float],
    seed: int,
    world: World,
    captured: bool = False,
) -> Iterator[Step]:
    """Train for as long as `steps` lasts: (number, fraction of the training, micro-batches) each.

      1. forward pass      loss_sum, count = objective(x, context, target, progress)
      2. loss              summed over the micro-batches
      3. backpropagation   loss_sum.backward()
      4. step              gradient / count of the whole step, set the rate, optimizer.step()

    With several processes each sees its share of every step; their gradients are those of one process. Where steps are `captured`
    (on a GPU), those of one micro-batch are recorded once and replayed.
    """
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]

    def make(batches: list[Batch], progress: Progress, now: float | Tensor, reseed: Callable[[int], None]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        device = batches[0].x.device
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        for part, batch in enumerate(batches):
            reseed(part)
            with accumulating(objective, last=part == len(batches) - 1):
                loss_sum, examples = objective(batch.x, batch.context, batch.target, progress)
                loss_sum.backward()
            total, count = total + loss_sum.detach(), count + examples
        total, count = world.sum(total), world.sum(count)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(world.size / count.clamp_min(1))  # the processes' gradients were averaged, not summed
        for group in optimizer.param_groups:
            group["lr"] = now
        optimizer.step()
        return total / count.clamp_min(1)

    recorder: Recorder | None = None
    for number, fraction, batches in steps:
        device = batches[0].x.device
        progress = Progress(torch.full((), fraction, device=device), torch.full((), number, device=device))

        def reseed(part: int, number: int = number) -> None:
            torch.manual_seed(step_seed(seed, number, part * world.size + world.rank))

        now: float | Tensor = torch.full((), rate(number), device=device) if captured else rate(number)
        if isinstance(now, Tensor) and world.size == 1 and len(batches) == 1:
            recorder = recorder or Recorder(lambda batch, at, now: make([batch], at, now, lambda part: None), device)
            loss = recorder.step(batches[0], progress, now, lambda reseed=reseed: reseed(0))  # type: ignore[misc]
        else:
            loss = make(batches, progress, now, reseed)
        yield Step(number, loss, rate(number))

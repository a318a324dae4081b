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
) -> Iterator[Step]:
    """Train for as long as `steps` lasts: (number, fraction of the training, micro-batches) each.

      1. forward pass      loss_sum, count = objective(x, context, target, progress)
      2. loss              summed over the micro-batches
      3. backpropagation   loss_sum.backward()
      4. step              gradient / count of the whole step, set the rate, optimizer.step()

    With several processes each sees its share of every step; their gradients are those of one process.
    """
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    for number, fraction, batches in steps:
        optimizer.zero_grad(set_to_none=True)
        device = batches[0].x.device
        progress = Progress(torch.tensor(fraction, device=device), torch.tensor(number, device=device))
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        for part, batch in enumerate(batches):
            torch.manual_seed(step_seed(seed, number, part * world.size + world.rank))
            with accumulating(objective, last=part == len(batches) - 1):
                loss_sum, examples = objective(batch.x, batch.context, batch.target, progress)
                loss_sum.backward()
            total, count = total + loss_sum.detach(), count + examples
        total, count = world.sum(total), world.sum(count)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(world.size / count.clamp_min(1))  # the processes' gradients were averaged, not summed
        for group in optimizer.param_groups:
            group["lr"] = rate(number)
        optimizer.step()
        yield Step(number, total / count.clamp_min(1), rate(number))

"""Several processes as one: PyTorch's own engine (DDP, FSDP2), seen by the rest as a World of ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over all processes, in each of them."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


def join_world() -> World:
    """The processes that `torchrun` started, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")  # each device its own
    return current_world()


def current_world() -> World:
    return World(dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else World()


def leave_world() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def wrap(objective: nn.Module, world: World, shard: bool = False) -> Any:
    """The objective whose gradients are averaged over the processes: copies (DDP), or weights in shards (FSDP2) when `shard`."""
    if world.size == 1:
        return objective
    if shard:
        from torch.distributed.fsdp import fully_shard

        fully_shard(objective)
        return objective
    return nn.parallel.DistributedDataParallel(objective)


@contextmanager
def accumulating(objective: Any, last: bool) -> Iterator[None]:
    """Exchange gradients only with the last micro-batch of a step."""
    if hasattr(objective, "set_requires_gradient_sync"):
        objective.set_requires_gradient_sync(last)
        yield
    elif isinstance(objective, nn.parallel.DistributedDataParallel) and not last:
        with objective.no_sync():
            yield
    else:
        yield


@contextmanager
def unsharded(objective: Any) -> Iterator[None]:
    """Inside, the weights are whole, so that parts of the network can be called by themselves."""
    if not hasattr(objective, "unshard"):
        yield
        return
    objective.unshard()
    try:
        yield
    finally:
        objective.reshard()


def whole(value: Tensor) -> Tensor:
    """A tensor with all its shards, on every process."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def fill(own: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into this process's own (shard of it), keeping its place in memory."""
    if hasattr(own, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(own.device), own.device_mesh, own.placements)  # type: ignore[attr-defined]
    with torch.no_grad():
        own.copy_(value)

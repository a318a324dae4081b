"""Checkpoints: weights, optimizer and best weights as one safetensors file, replaced whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lamina.data.files import write_bytes
from lamina.errors import DataError, sentence
from lamina.networks import Network
from lamina.training.distributed import World, fill, whole

FORMAT = 2
PARTS = ("network", "optimizer", "best", "average")


@dataclass
class State:
    """All that training carries from step to step. Tensors are copies."""

    leg: str
    step: int
    """Steps made."""
    network: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor]
    """Weights of the best check so far; empty = the last are taken."""
    best_score: float | None
    average: dict[str, Tensor] = field(default_factory=dict)
    """Running means of the network's tensors; empty = none are kept."""


def take_state(
    leg: str,
    step: int,
    network: Network,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    best_score: float | None,
    average: dict[str, Tensor],
) -> State:
    moments = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                moments[f"{number}.{key}"] = whole(value).detach().clone()
    averages = {name: value.clone() for name, value in average.items()}
    return State(leg, step, copied(network), moments, dict(best), best_score, averages)


def copied(network: Network) -> dict[str, Tensor]:
    """Whole copies of the network's tensors."""
    return {name: whole(value).detach().clone() for name, value in network.state_dict().items()}


def put_weights(network: Network, weights: dict[str, Tensor]) -> None:
    """Copy whole tensors back into the memory that the network holds."""
    for name, own in network.state_dict().items():
        fill(own, weights[name])


def put_state(state: State, network: Network, optimizer: torch.optim.Optimizer) -> None:
    """Copy a state back into the memory that network and optimizer already hold, so that nothing depends on where it was loaded."""
    put_weights(network, state.network)
    for number, parameter in enumerate(_parameters(optimizer)):
        kept = {name.split(".", 1)[1]: value for name, value in state.optimizer.items() if name.split(".", 1)[0] == str(number)}
        optimizer.state[parameter] = {}
        for key, value in kept.items():
            own = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value, device=parameter.device)
            fill(own, value)
            optimizer.state[parameter][key] = own


def write_checkpoint(state: State, path: Path, world: World) -> None:
    """Only the first process writes. Raises ResourceError when the disk refuses."""
    if world.rank:
        return
    from safetensors.torch import save

    tensors = {f"{part}/{name}": value.cpu().contiguous() for part in PARTS for name, value in getattr(state, part).items()}
    about = {"format": FORMAT, "leg": state.leg, "step": state.step, "best_score": state.best_score}
    write_bytes(path, save(tensors, {"lamina": json.dumps(about)}))


def read_checkpoint(path: Path) -> State | None:
    """The state, or None when there is no checkpoint. Raises DataError for a file that is not one."""
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            about = json.loads(file.metadata()["lamina"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(sentence(f"The checkpoint {path}", "be whole", str(error), "Train anew.")) from error
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, value in tensors.items():
        part, rest = name.split("/", 1)
        parts[part][rest] = value
    return State(about["leg"], about["step"], parts["network"], parts["optimizer"], parts["best"], about["best_score"], parts["average"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

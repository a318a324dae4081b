"""Snapshots: the weights at some moments of a training, to be looked at afterwards. Training itself never reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lamina.data.files import write_bytes
from lamina.errors import DataError, sentence
from lamina.networks import Network

FOLDER = "snapshots"
MOMENTS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0)
"""Shares of a training: most of what can be seen happens early."""
MOST_BYTES = 64_000_000
"""Of all snapshots of a training; large networks get fewer."""


@dataclass(frozen=True)
class Snapshot:
    step: int
    """Steps made."""
    fraction: float
    weights: dict[str, Tensor]
    """As the network's state_dict."""


def moments_for(tensors: Mapping[str, Tensor]) -> tuple[float, ...]:
    """The moments at which a network of these tensors is kept: the first and the last always."""
    size = sum(2 * value.numel() for value in tensors.values())
    count = max(2, min(len(MOMENTS), MOST_BYTES // max(1, size)))
    return tuple(MOMENTS[round(place * (len(MOMENTS) - 1) / (count - 1))] for place in range(count))


def write_snapshot(folder: Path, number: int, snapshot: Snapshot) -> None:
    """Matrices and filters in half precision: to be looked at, not to go on from. Raises ResourceError when the disk refuses."""
    from safetensors.torch import save

    half = {name: _halved(value).cpu().contiguous() for name, value in snapshot.weights.items()}
    about = {"step": snapshot.step, "fraction": snapshot.fraction}
    write_bytes(folder / f"{number:02}.safetensors", save(half, {"lamina": json.dumps(about)}))


def _halved(value: Tensor) -> Tensor:
    """Half the bytes, where that is nearly the same; what was measured on the data may be too large or too small for it."""
    if not value.is_floating_point() or value.ndim < 2:
        return value
    half = value.to(torch.float16)
    return half if torch.allclose(half.to(value.dtype), value, rtol=1e-3, atol=1e-4) else value


def put_snapshot(network: Network, snapshot: Snapshot) -> None:
    """Its weights into a network of the same layers."""
    own = network.state_dict()
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in snapshot.weights.items()})


def snapshots_of(folder: Path, network: Network) -> list[Snapshot]:
    """Those of a training that fit the network; none where one of them is damaged or of another network."""
    try:
        found = read_snapshots(folder) if folder.is_dir() else []
    except DataError:
        return []
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    return found if all({name: value.shape for name, value in each.weights.items()} == shapes for each in found) else []


def read_snapshots(folder: Path) -> list[Snapshot]:
    """All of a training, in their order. Raises DataError for a file that is not one."""
    from safetensors import SafetensorError, safe_open

    found = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), "pt") as file:
                about = json.loads(file.metadata()["lamina"])
                weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
            found.append(Snapshot(int(about["step"]), float(about["fraction"]), weights))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(sentence(f"The snapshot {path}", "be whole", str(error), "Train anew.")) from error
    return found

"""Two processes under torchrun (gloo; DDP and FSDP2) train as one does, save and load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lamina.model import load

HERE = Path(__file__).parent


def run(out: Path, kind: str, processes: int) -> dict[str, torch.Tensor]:
    out.mkdir()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        str(processes),
        "--master-port",
        "0",
        "--rdzv-backend",
        "c10d",
    ]
    command += ["--rdzv-endpoint", "localhost:0"]
    command = (
        [*command, str(HERE / "distributed_worker.py"), str(out), kind]
        if processes > 1
        else [sys.executable, str(HERE / "distributed_worker.py"), str(out), kind]
    )
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out / "weights.pt", weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone") / "out", "ddp", 1)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_as_one(kind, alone, tmp_path):
    """After 20 steps of momentum in fp64 every weight is that of one process."""
    import probe_parts  # noqa: F401  (registers the parts)

    both = run(tmp_path / "out", kind, 2)
    for name, value in alone.items():
        assert (both[name] - value).abs().max() < 1e-10, name
    opened = load(tmp_path / "out" / "model.lamina").network.state_dict()
    assert all((opened[name] - value.float()).abs().max() < 1e-6 for name, value in alone.items()), "saved and loaded"

"""Where to compute and in which number format: tried out on this very machine, not guessed."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lamina.data.batches import Batch
from lamina.errors import ResourceError, sentence
from lamina.networks import Network
from lamina.outputs import Output, Progress
from lamina.settings import Settings
from lamina.training.capture import recorded
from lamina.training.objective import Objective

SELF_TEST_SEED = 0
FASTER = 1.15
"""bf16 is taken when it is at least this much faster …"""
DIFFERENCE = 0.1
"""… and its gradient differs from that of fp32 by at most this share of the gradient's length."""


@dataclass(frozen=True)
class Device:
    device: torch.device
    line: str
    """What the user is told: which, and why."""


KEPT_BELOW, KEPT = 32 << 20, 2_000_000_000
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""As glibc's malloc.h numbers them."""


def keep_memory() -> None:
    """Freed memory stays with the process until it ends, instead of going back to the system after every layer.

    Every step allocates the same signals again; memory that comes fresh from the system is filled with zeros page by page, which
    took a quarter of a step (docs/log.md). Only where the C library is glibc; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            for name, value in ((MMAP_THRESHOLD, KEPT_BELOW), (TRIM_THRESHOLD, KEPT), (MMAP_MAX, 0)):
                library.mallopt(name, value)


def give_back_memory() -> None:
    """What was freed goes back to the system once, between two kinds of work that allocate differently (glibc only)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.malloc_trim(0)


def bf16_is_native() -> bool:
    """Whether this CPU's kernels take bf16 at all; elsewhere it is imitated, and slow."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def choose_device(settings: Settings) -> Device:
    """The device of the settings, or the best that is there; one kernel is really run. Raises ResourceError when it cannot be used."""
    reasons: list[str] = []
    for name in ["cuda", "mps", "cpu"] if settings.device == "auto" else [settings.device]:
        problem = _try(name)
        if not problem:
            why = "; ".join(reasons) if reasons else "as asked" if settings.device != "auto" else "the fastest here"
            return Device(torch.device(name), f"{_describe(name)} ({why})")
        reasons.append(f"{name.upper()}: {problem}")
    raise ResourceError(
        sentence(f"--device {settings.device}", "be usable on this machine", reasons[-1], "Leave it out: --device auto finds one.")
    )


def _try(name: str) -> str:
    """What is wrong with the device; empty when one matrix product ran on it and was right."""
    if name == "cuda" and not torch.cuda.is_available():
        return "no device" if torch.backends.cuda.is_built() else "not in this build of PyTorch"
    if name == "mps" and not torch.backends.mps.is_available():
        return "not on this machine"
    try:
        ones = torch.ones(64, 64, device=name)
        return "" if float((ones @ ones).sum()) == 64.0**3 else "its first matrix product was wrong"
    except RuntimeError as error:
        return str(error).splitlines()[0]


def _describe(name: str) -> str:
    if name == "cuda":
        return f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 1e9:.0f} GB"
    if name == "mps":
        return "Apple GPU (MPS)"
    features = torch.backends.cpu.get_cpu_capability()
    return f"CPU, {torch.get_num_threads()} threads, {features}"


def settle(device: torch.device) -> None:
    """The libraries of a GPU take only ways that come to the same bits each time, and fp32 is fp32."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        _let_tf32(False)


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Inside, a GPU computes fp32 convolutions in fp32, whatever the process has set."""
    before = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    if before:
        _let_tf32(False)
    try:
        yield
    finally:
        if before:
            _let_tf32(True)


def _let_tf32(allowed: bool) -> None:
    """TF32, PyTorch's own choice for convolutions in fp32, has ten bits. The old name is set, for the new ones follow it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = allowed


def choose_precision(network: Network, output: Output, batch: Batch, settings: Settings, most: float) -> tuple[str, dict[str, Any]]:
    """(number format of training, what the self-test measured). bf16 only where it is right and faster, here.

    Where one gradient takes more than `most` seconds, fp32 is taken untested.
    """
    if settings.precision != "auto":
        return settings.precision, {"chosen": settings.precision, "why": "as asked"}
    gradients, seconds = {}, {}
    for precision in ("fp32", "bf16"):
        objective = Objective(copy.deepcopy(network), output, precision)
        for layer in objective.network.stack:
            if hasattr(layer, "dropout"):
                layer.dropout = 0.0  # type: ignore[assignment]  # else the two would differ by chance
        run = _gradient_of(objective, batch)
        try:
            if batch.x.device.type == "cuda":  # alone, and not the time in which it is asked for
                run = recorded(run)
            begun = time.perf_counter()
            gradients[precision] = run().clone()
            if time.perf_counter() - begun > 2 * most:
                return "fp32", {"chosen": "fp32", "why": "too little time for the self-test"}
            seconds[precision] = min(_timed(run) for _ in range(2))
        except RuntimeError as error:
            return "fp32", {"chosen": "fp32", "why": f"{precision} failed: {str(error).splitlines()[0]}"}
    difference = float((gradients["bf16"] - gradients["fp32"]).norm() / gradients["fp32"].norm().clamp_min(1e-12))
    faster = seconds["fp32"] / seconds["bf16"]
    chosen = "bf16" if faster >= FASTER and difference <= DIFFERENCE else "fp32"
    return chosen, {"chosen": chosen, "bf16_times_faster": round(faster, 2), "gradient_difference": round(difference, 4)}


def _gradient_of(objective: Objective, batch: Batch) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        if batch.x.device.type == "cpu":
            torch.manual_seed(SELF_TEST_SEED)  # of what else is drawn in the layers, such as masks
        objective.zero_grad()
        progress = Progress(torch.zeros((), device=batch.x.device), torch.zeros((), device=batch.x.device))
        loss_sum, count = objective(batch.x, batch.context, batch.target, progress)
        (loss_sum / count).backward()
        return torch.cat([parameter.grad.reshape(-1) for parameter in objective.parameters() if parameter.grad is not None])

    return run


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    float(run()[0])
    return time.perf_counter() - start


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device's allocator, or of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


def forget_peak_memory() -> None:
    """From here on `peak_memory` of a process is that since now, where the system can do that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def total_memory(device: torch.device) -> int:
    """Bytes that this process may use in all."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[1])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)

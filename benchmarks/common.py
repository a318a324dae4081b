"""What every benchmark uses: commands run as a user would, spreads, the machine's best matrix product, data beside the project."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real data beside the checkout, where they are."""


def timed(run: Any) -> tuple[Any, dict[str, float]]:
    """(what `run()` returns, {wall seconds, CPU seconds per wall second}), children counted."""
    before, start = os.times(), time.perf_counter()
    result = run()
    wall, after = time.perf_counter() - start, os.times()
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("user", "system", "children_user", "children_system"))
    return result, {"wall_seconds": round(wall, 2), "cpu_per_wall": round(cpu / wall, 2)}


def run_lamina(*arguments: str, place: Path) -> dict[str, Any]:
    """The JSON answer of a command, with its time and peak memory in bytes."""
    command, start = [sys.executable, "-m", "lamina", *arguments, "--json"], time.perf_counter()
    with tempfile.TemporaryFile() as answer, subprocess.Popen(command, cwd=place, stdout=answer, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        answer.seek(0)
        times = {"wall_seconds": round(wall, 2), "cpu_per_wall": round((used.ru_utime + used.ru_stime) / wall, 2)}
        found = json.load(answer)
        peaks = [each["memory"] for each in (found.get("verdict") or {"contenders": []})["contenders"]]
        return {**found, **times, "peak_memory": max(used.ru_maxrss * 1024, *peaks, 0)}  # a training forgets the peak before it


def valid(cpu_per_wall: float, threads: int = 0) -> bool:
    """Whether a run had the machine for itself: at least 0.9 CPU seconds per second and thread (0 = all cores)."""
    return cpu_per_wall >= 0.9 * (threads or os.cpu_count() or 1)


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "values": values,
    }


def joined(old: Any, new: Any) -> Any:
    """Two results of one benchmark with other seeds as one: values and runs side by side, of other numbers the larger."""
    if isinstance(new, dict) and "values" in new:
        return spread([*old["values"], *new["values"]])
    if isinstance(new, dict):
        return {name: joined(old[name], value) if name in old else value for name, value in new.items()}
    if isinstance(new, list):
        return [*old, *new]
    return max(old, new) if isinstance(new, (int, float)) else new


def matrix_product(precision: str, probes: int = 20) -> float:
    """FLOP/s of the best of some short 512 x 512 products; short ones see through a busy machine.

    Each is made twice: by `@`, and as a 1 x 1 convolution, which goes to another library and in fp32 may be much faster.
    """
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    left, right = torch.randn(512, 512, dtype=kind), torch.randn(512, 512, dtype=kind)
    picture = torch.randn(1, 512, 16, 32, dtype=kind).contiguous(memory_format=torch.channels_last)
    filters = torch.randn(512, 512, 1, 1, dtype=kind)
    best = float("inf")
    with torch.no_grad():
        for product in (lambda: left @ right, lambda: torch.nn.functional.conv2d(picture, filters)):
            for _ in range(probes):
                start = time.perf_counter()
                product()
                best = min(best, time.perf_counter() - start)
    return 2 * 512**3 / best


def cifar10(few: int = 0) -> Any:
    """CIFAR-10 as Examples with its official parts; `few` keeps so many training photos of each class (the first ones)."""
    from PIL import Image

    from lamina.data.examples import Examples

    folder = DATA / "cifar10"
    if not folder.is_dir():
        raise SystemExit(f"CIFAR-10 is not at {folder}")
    classes = (folder / "classes.txt").read_text().split()

    def sheet(name: str) -> np.ndarray:
        return np.asarray(Image.open(folder / f"{name}.jpg")).reshape(100, 32, 100, 32, 3).swapaxes(1, 2).reshape(10000, 32, 32, 3)

    pictures = np.concatenate([*(sheet(f"data_batch_{number}") for number in range(1, 6)), sheet("test_batch")])
    labels = [*np.loadtxt(folder / "train_labels.txt", int), *np.loadtxt(folder / "test_labels.txt", int)]
    parts = ["train"] * 50_000 + ["test"] * 10_000
    kept = list(range(60_000))
    if few:
        seen = dict.fromkeys(range(10), 0)
        kept = []
        for index, (label, part) in enumerate(zip(labels, parts, strict=True)):
            seen[label] += part == "train"
            if part == "test" or seen[label] <= few:
                kept.append(index)
    names = [f"{parts[index]}-{index}" for index in kept]
    answers = [classes[labels[index]] for index in kept]
    return Examples("CIFAR-10", names, [pictures[i] for i in kept], answers, [parts[i] for i in kept], [""] * len(kept))

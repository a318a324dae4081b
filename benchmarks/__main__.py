"""python -m benchmarks            all of them
python -m benchmarks digits      accuracy, 5 splits x 3 seeds
python -m benchmarks fashion     official test, --minutes 5 (--minutes and --seeds to change)
python -m benchmarks startup     --help, and from the command to the first optimizer step with a warm cache
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def run_lamina(*arguments: str, place: Path) -> dict[str, Any]:
    """The JSON answer of a command, run as a user would, with the share of the processors that it got."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "lamina", *arguments, "--json"], cwd=place, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {**json.loads(done.stdout), "wall_seconds": round(wall, 2), "cpu_per_wall": round(cpu / wall, 2)}


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "values": values,
    }


def digits(options: argparse.Namespace) -> dict[str, Any]:
    """Cross-fitted accuracy: each seed trains five networks, each tested on a fifth that it never saw."""
    with tempfile.TemporaryDirectory() as place:
        answers = [run_lamina("train", "sample:digits", "--seed", str(seed), place=Path(place)) for seed in range(options.seeds or 3)]
    return {"accuracy": spread([a["score"]["value"] for a in answers]), "wall_seconds": spread([a["wall_seconds"] for a in answers]),
            "cpu_per_wall": [a["cpu_per_wall"] for a in answers]}  # fmt: skip


def fashion(options: argparse.Namespace) -> dict[str, Any]:
    minutes = str(options.minutes or 5)
    with tempfile.TemporaryDirectory() as place:
        arguments = ("train", "sample:fashion-mnist", "--minutes", minutes)
        answers = [run_lamina(*arguments, "--seed", str(seed), place=Path(place)) for seed in range(options.seeds or 1)]
    return {"minutes": float(minutes), "accuracy": spread([a["score"]["value"] for a in answers]),
            "wall_seconds": spread([a["wall_seconds"] for a in answers]), "cpu_per_wall": [a["cpu_per_wall"] for a in answers]}  # fmt: skip


def startup(options: argparse.Namespace) -> dict[str, Any]:
    """Median of several; the first optimizer step is the first one of the training itself, told at the first read of the loss."""
    from lamina.data.samples import load_sample, write_class_folders
    from lamina.settings import Settings

    helps, firsts = [], []
    with tempfile.TemporaryDirectory() as place:
        write_class_folders(load_sample("digits", Settings()), Path(place) / "digits")
        for _ in range(9):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "lamina", "--help"], capture_output=True, check=True)
            helps.append(time.perf_counter() - start)
        for number in range(5):
            start = time.time()
            subprocess.run([sys.executable, "-m", "lamina", "train", "digits", "--epochs", "1"], cwd=place, capture_output=True, check=True)
            events = (Path(place) / "runs" / f"digits-{number + 1}" / "events.jsonl").read_text().splitlines()
            firsts.append(next(e["time"] for e in map(json.loads, events) if e["event"] == "stepped") - start)
    return {"help_seconds": statistics.median(helps), "first_step_seconds_warm_cache": statistics.median(firsts[1:]), "first_steps": firsts}


ALL: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"startup": startup, "digits": digits, "fashion": fashion}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(ALL))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    for name in [options.name] if options.name else list(ALL):
        import torch

        import lamina.pipeline

        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(),
                   "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None}  # fmt: skip
        versions = {"lamina": lamina.pipeline.version(), "torch": torch.__version__, "python": platform.python_version()}
        command = "python -m benchmarks " + " ".join(sys.argv[1:] if options.name else [name])
        result = {"benchmark": name, "command": command, "date": date.today().isoformat(), "machine": machine, "versions": versions,
                  **ALL[name](options)}  # fmt: skip
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

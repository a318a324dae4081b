"""What grows with the data: forecasts kept, memory and time per example."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import run_lamina

MADE_SIDE = 32


def forecasts(options: argparse.Namespace) -> dict[str, Any]:
    """Twelve trainings of different sizes: is the time of training inside the interval told beforehand, and how wide is that?"""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for seed, (sample, epochs, width) in enumerate(
            [("digits", e, w) for e, w in ((4, 16), (8, 16), (4, 32), (8, 32), (12, 48), (4, 64))]
            + [("fashion-mnist", e, w) for e, w in ((1, 16), (2, 16), (1, 24), (1, 32), (1, 48), (0.5, 64))]
        ):
            arguments = (
                "train",
                f"sample:{sample}",
                "--epochs",
                str(epochs),
                "--width",
                str(width),
                "--seed",
                str(seed),
                "--verdict-share",
                "0",
            )
            run = Path(place) / run_lamina(*arguments, place=Path(place))["run"]
            told = json.loads((run / "plan.json").read_text())["forecast"]
            events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
            took = sum(event["seconds"] for event in events if event["event"] == "finished")
            low, high = told["seconds_low"], told["seconds_high"]
            rows.append(
                {
                    "sample": sample,
                    "epochs": epochs,
                    "width": width,
                    "low": low,
                    "told": told["seconds"],
                    "high": high,
                    "took": took,
                    "inside": low <= took <= high,
                }
            )
    widths = [(row["high"] - row["low"]) / 2 / row["told"] for row in rows]
    return {"inside": sum(row["inside"] for row in rows), "of": len(rows), "median_half_width": statistics.median(widths), "runs": rows}


MADE = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from lamina.data.batches import Feed
from lamina.data.cache import open_decoded
from lamina.inputs import ImageInput
from lamina.outputs import ClassesOutput
from lamina.settings import Settings
from lamina.tasks.recognize.task import RECOGNIZE
from lamina.training.distributed import World
from lamina.training.fit import Work, fit
from lamina.training.forecast import Amounts, initial_network, make_plan
import torch
torch.set_num_threads({threads})
count, side = {count}, {side}
values = open_decoded(Path({path!r}))
input = ImageInput(side, 3, shift=2 / 28)
feed = Feed(values, [i % 10 for i in range(count)], input, ClassesOutput(labels=tuple("abcdefghij")), torch.device("cpu"))
train = np.arange(count)
plan = make_plan(RECOGNIZE, Settings(epochs=1, width=16, batch=256, threads={threads}), feed, train, Amounts(count, 0, 0), ["final"], None)
plan.steps, plan.check_every, plan.coarse_until = {steps}, 10**9, 0.0
network = initial_network(RECOGNIZE, plan, feed, train)
start = time.perf_counter()
fit(network, feed.output, feed, Work("final", train), plan)
seconds = time.perf_counter() - start
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(dict(examples=count, seconds_per_example=seconds / ({steps} * plan.batch), peak_memory=memory)))
"""


def _made(count: int, side: int, steps: int, place: Path) -> dict[str, Any]:
    """Train `steps` steps on `count` made pictures that lie in one memory-mapped file."""
    path = place / f"made-{count}-{side}"
    path.mkdir()
    index = {"dtype": "|u1", "count": count, "shape": [side, side, 3], "shapes": None}
    (path / "index.json").write_text(json.dumps(index))
    rng = np.random.default_rng(0)
    with open(path / "data.bin", "wb") as file:
        for start in range(0, count, 8192):
            file.write(rng.integers(0, 256, (min(8192, count - start), side, side, 3), dtype=np.uint8).tobytes())
    code = textwrap.dedent(MADE.format(count=count, side=side, steps=steps, threads=2, path=str(path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shutil.rmtree(path)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Time per example and peak memory of training from 10^3 to 10^6 made pictures."""
    with tempfile.TemporaryDirectory() as place:
        rows = [_made(count, MADE_SIDE, 200, Path(place)) for count in (1_000, 10_000, 100_000, 1_000_000)]
        again = [_made(count, MADE_SIDE, 200, Path(place)) for count in (1_000, 1_000_000)]
    return {"runs": rows, "again": again}


def large(options: argparse.Namespace) -> dict[str, Any]:
    """A made set of 20 GB, streamed from its file: the peak memory of training (pages of the map that the system keeps are counted)."""
    with tempfile.TemporaryDirectory() as place:
        return _made(20 * 10**9 // (96 * 96 * 3), 96, 60, Path(place))

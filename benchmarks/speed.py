"""Speed on pictures, in ratios: against the machine's best matrix product, against a plain loop, and as shares of a step."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import matrix_product, spread, timed, valid

CLASSES = 10


def startup(options: argparse.Namespace) -> dict[str, Any]:
    """Median of several; the first optimizer step is the first one of the training itself, told at the first read of the loss."""
    import json

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


def _feed(count: int = 4096, side: int = 32, channels: int = 3, device: str = "cpu") -> Any:
    import torch

    from lamina.data.batches import Feed
    from lamina.data.cache import Decoded
    from lamina.inputs import ImageInput
    from lamina.outputs import ClassesOutput

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    input = ImageInput(side, channels, shift=2 / 28, mirror=True)
    output = ClassesOutput(labels=tuple(str(number) for number in range(CLASSES)))
    return Feed(Decoded.of(pictures), rng.integers(0, CLASSES, count).tolist(), input, output, torch.device(device))


def _lamina_steps(
    feed: Any,
    precision: str,
    batch: int,
    parts: dict[str, float] | None = None,
    detail: float = 1.0,
    width: int = 0,
    **ways: bool,
) -> tuple[Callable[[], None], float]:
    """(a function that makes one whole training step as the loop does, FLOPs of a step); `ways` are the plan's captured and compiled."""
    import torch

    from lamina.inputs import ImageInput
    from lamina.tasks.recognize.task import RECOGNIZE
    from lamina.training.distributed import World
    from lamina.training.forecast import SCHEDULE, _flops, placed
    from lamina.training.loop import training_loop
    from lamina.training.objective import Objective
    from lamina.training.optimizer import make_optimizer
    from lamina.training.plan import Plan

    recipe = RECOGNIZE.recipe(50_000, ImageInput())
    x = feed.input.collate(feed.values.take(range(512)))[0]
    network = placed(RECOGNIZE.network(feed.input, feed.output, width or recipe.size, x), feed.device)
    fixed = {"task": "recognize", "seed": 0, "threads": torch.get_num_threads(), "device": str(feed.device), "steps": 10**6}
    sizes = {"size": recipe.size, "batch": batch, "micro_batch": batch, "legs": ["final"], "precision": precision, "check_every": 10**6}
    plan = Plan(**fixed, **sizes, **ways, **{name: getattr(recipe, name) for name in SCHEDULE})
    everything = np.arange(len(feed.values))
    optimizer = make_optimizer(network, plan)
    shares = parts if parts is not None else {}

    def measured(name: str, run: Callable) -> Callable:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = run(*arguments, **keywords)
            shares[name] = shares.get(name, 0.0) + time.perf_counter() - start
            return result

        return wrapped

    optimizer.step = measured("optimizer", optimizer.step)  # type: ignore[method-assign]
    object.__setattr__(feed.input, "augment", measured("augmentation", feed.input.augment))
    make = measured("waiting_with_augmentation", lambda n: feed.batch(*feed.training(everything, 0, n, batch), detail))

    def steps() -> Any:
        for number in range(10**6):
            yield number, 0.0, [make(number)]

    objective = Objective(network, feed.output, precision, plan.compiled)
    loop = training_loop(objective, steps(), optimizer, lambda n: 0.01, 0, World(), plan.captured)

    def step() -> None:
        next(loop)

    return step, _flops(network, feed.batch(everything[:2], np.zeros((2, feed.input.draws), np.float32), detail)) * batch


def _plain_steps(feed: Any, batch: int) -> Callable[[], None]:
    """What one writes by hand: fp32, NCHW, DataLoader, per-picture flips and crops, SGD; the same layers."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from lamina.inputs import ImageInput
    from lamina.layers import Context
    from lamina.tasks.recognize.task import RECOGNIZE

    array, targets = feed.values.array, feed.targets
    network = RECOGNIZE.network(
        feed.input, feed.output, RECOGNIZE.recipe(50_000, ImageInput()).size, torch.from_numpy(feed.values.take(range(512)))
    )

    class Pictures(Dataset):
        def __len__(self) -> int:
            return len(array)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            padded = np.pad(array[index], ((2, 2), (2, 2), (0, 0)), mode="reflect")
            down, right = np.random.randint(0, 5, 2)
            picture = padded[down : down + array.shape[1], right : right + array.shape[2]]
            return torch.from_numpy(np.ascontiguousarray(picture[:, ::-1] if np.random.rand() < 0.5 else picture)), targets[index]

    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.01, momentum=0.9, nesterov=True)

    def endless() -> Any:
        while True:
            yield from DataLoader(Pictures(), batch, shuffle=True, drop_last=True)

    batches = endless()

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x, Context())[0], y).backward()
        optimizer.step()

    return step


def _plain_process(pipe: Connection, batch: int, threads: int) -> None:
    """The plain loop in a process of its own, where Lamina has set nothing: for each message two steps, and what one of them took."""
    import torch

    torch.set_num_threads(threads)
    step = _plain_steps(_feed(), batch)
    step()
    while pipe.recv():
        start = time.perf_counter()
        step()
        step()
        pipe.send((time.perf_counter() - start) / 2)


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Local MFU (FLOPs of the step / its time / the best matrix product of the same type, interleaved) and the ratio to a plain loop."""
    import torch

    import lamina  # noqa: F401 (sets how threads wait)
    from lamina.inputs import ImageInput
    from lamina.tasks.recognize.task import RECOGNIZE
    from lamina.training.device import keep_memory

    keep_memory()
    torch.set_num_threads(options.threads or 2)
    batch, rounds = 256, options.rounds or 12
    parts: dict[str, float] = {}
    runs = {name: _lamina_steps(_feed(), name, batch, parts if name == "bf16" else None) for name in ("bf16", "fp32")}
    runs["coarse"] = _lamina_steps(_feed(), "bf16", batch, detail=RECOGNIZE.recipe(50_000, ImageInput()).coarse)
    plain, other_end = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_plain_process, args=(other_end, batch, options.threads or 2), daemon=True)
    child.start()

    def plain_step() -> float:
        plain.send(True)
        return float(plain.recv())

    plain_step()
    for step, _ in runs.values():
        step()
    parts.clear()
    used: dict[str, list[float]] = {name: [] for name in (*runs, "plain")}
    products: dict[str, list[float]] = {"bf16": [], "fp32": []}
    inside = 0.0

    def rounds_of() -> None:
        nonlocal inside
        for _ in range(rounds):
            for name, (step, _) in runs.items():
                start = time.perf_counter()
                step()
                step()
                used[name].append((time.perf_counter() - start) / 2)
                inside += 2 * used[name][-1] if name == "bf16" else 0.0
            used["plain"].append(plain_step())
            for name, found in products.items():
                found.append(matrix_product(name, 8))

    _, times = timed(lambda: (rounds_of(), plain.send(False), child.join()))
    mfu = {name: runs[name][1] / statistics.median(used[name]) / max(products[name]) for name in products}
    ratios = [plain_one / ours for plain_one, ours in zip(used["plain"], used["bf16"], strict=True)]
    coarse_until = RECOGNIZE.recipe(50_000, ImageInput()).coarse_until
    mixed = [coarse_until * coarse + (1 - coarse_until) * full for coarse, full in zip(used["coarse"], used["bf16"], strict=True)]
    waiting = parts["waiting_with_augmentation"] - parts["augmentation"]
    return {
        "batch": batch,
        "local_mfu": mfu,
        "matrix_product_gflops": {name: max(values) / 1e9 for name, values in products.items()},
        "examples_per_second": {name: batch / statistics.median(values) for name, values in used.items()},
        "times_a_plain_loop": _quartiles(ratios),
        "times_a_plain_loop_over_the_schedule": _quartiles([one / ours for one, ours in zip(used["plain"], mixed, strict=True)]),
        "share_of_step": {"waiting": waiting / inside, "augmentation": parts["augmentation"] / inside,
                          "optimizer": parts["optimizer"] / inside},
        **times,
        "valid": valid(times["cpu_per_wall"], options.threads or 2),
    }  # fmt: skip


def _quartiles(values: list[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartiles": [low, high], "n": len(values)}


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """A loaded model: one 32 x 32 picture at a time, and 10,000 in bulk, from arrays in memory to answers."""
    import torch

    import lamina
    from lamina.inputs import ImageInput
    from lamina.model import Model
    from lamina.tasks.recognize.task import RECOGNIZE
    from lamina.training.inference import COMPARED, answering_precision

    feed = _feed(10_000)
    pictures = feed.values.array
    network = RECOGNIZE.network(feed.input, feed.output, RECOGNIZE.recipe(50_000, ImageInput()).size, torch.from_numpy(pictures[:512]))
    precision = answering_precision(network, feed.input, feed.output, feed.batch(np.arange(COMPARED)), "bf16")
    with tempfile.TemporaryDirectory() as place:
        made = Model("recognize", feed.input, network.eval(), feed.output, precision=precision)
        model = lamina.load(made.save(Path(place) / "m.lamina"))
    singles = []
    for number in range(300):
        start = time.perf_counter()
        model.predict(pictures[number])
        singles.append(time.perf_counter() - start)
    model.predict(list(pictures[:512]))
    bulk = []
    for _ in range(3):
        start = time.perf_counter()
        model.predict(list(pictures))
        bulk.append(len(pictures) / (time.perf_counter() - start))
    ordered = sorted(singles[20:])
    return {
        "precision": precision,
        "single_milliseconds": {"p50": 1e3 * ordered[len(ordered) // 2], "p95": 1e3 * ordered[int(0.95 * len(ordered))]},
        "bulk_per_second": spread(bulk),
    }

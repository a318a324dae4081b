"""On an NVIDIA GPU: what training takes and brings there, beside the best matrix product of the same minute."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import cifar10, spread
from benchmarks.speed import _feed, _lamina_steps

BATCH = 1024
"""That of the recipe for so many examples on a GPU."""
WAYS: dict[str, dict[str, bool]] = {
    "as usual": {},
    "recorded": {"captured": True},
    "compiled and recorded": {"captured": True, "compiled": True},
}
SETTLED, STEPS = 10, 60
BUDGETS = ((4.0, 64), (15.0, 128), (40.0, 192))
"""Seconds of training, and the width of the network that is trained for so long."""
LEARNED = 47_500
"""Training examples of CIFAR-10 that are learned from; the rest are held out for checks."""
MOST_EPOCHS = 200


def there() -> bool:
    import torch

    return torch.cuda.is_available()


def gpu(options: argparse.Namespace) -> dict[str, Any]:
    """Training's own seconds are its steps, the recording of them, and the checks; what comes before (audit, races) is in the wall."""
    if not there():
        raise SystemExit("The benchmark gpu needs an NVIDIA GPU that PyTorch can use; there is none here.")
    return rows("cuda", BUDGETS, seeds=range(options.first, options.first + (options.seeds or 1)))


def rows(device: str, budgets: tuple[tuple[float, int], ...], seeds: range, count: int = 50_000) -> dict[str, Any]:
    import torch

    from lamina.training.device import settle

    settle(torch.device(device))
    products = {name: product(device, name) for name in ("bf16", "fp32")}
    print(f"matrix products, TFLOP/s: { ({name: round(value / 1e12, 1) for name, value in products.items()}) }", flush=True)
    widths = sorted({width for _, width in budgets})
    speeds = {
        str(width): step_speeds(device, width, products["bf16"], count, list(WAYS)[: 3 if width == widths[0] else 2]) for width in widths
    }
    found = {"batch": BATCH, "matrix_product_tflops": {name: value / 1e12 for name, value in products.items()}, "steps": speeds}
    trained = []
    for seconds, width in budgets:
        step = min(each["step_seconds"] + each["coarse_step_seconds"] for each in speeds[str(width)].values() if "step_seconds" in each) / 2
        epochs = round(min(MOST_EPOCHS, max(2.0, 0.9 * seconds / (step * LEARNED / BATCH))), 1)
        answers = [train(cifar10(), device, seed=seed, epochs=epochs, width=width) for seed in seeds]
        trained.append({"aimed_at_seconds": seconds, "width": width, "epochs": epochs, **summary(answers)})
        print(trained[-1], flush=True)
    return {**found, "cifar10": trained, "answers": answering(device)}


def product(device: str, precision: str) -> float:
    """FLOP/s of the best of some large matrix products of random numbers."""
    import torch

    kind, size = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision], 8192 if device == "cuda" else 256
    left, right = torch.randn(size, size, dtype=kind, device=device), torch.randn(size, size, dtype=kind, device=device)
    return 2 * size**3 / min(timed(lambda: left @ right, device, 5) for _ in range(6))


def timed(run: Any, device: str, times: int) -> float:
    """Seconds of one of `times` runs in a row, until the device has done them."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait()
    return (time.perf_counter() - start) / times


def step_speeds(device: str, width: int, best: float, count: int, names: list[str]) -> dict[str, Any]:
    """By way: seconds of a step at both resolutions, examples per second, local MFU; where a way fails, its reason."""
    import torch

    from lamina.inputs import ImageInput
    from lamina.tasks.recognize.task import RECOGNIZE

    feed = _feed(count, device=device)
    feed.values.keep_on(torch.device(device), 1e12)
    found: dict[str, Any] = {}
    for name in names:
        try:
            begun = time.perf_counter()
            seconds = []
            for detail in (1.0, RECOGNIZE.recipe(LEARNED, ImageInput()).coarse):
                step, flops = _lamina_steps(feed, "bf16", BATCH, detail=detail, width=width, **WAYS[name])
                timed(step, device, SETTLED)
                each = [timed(step, device, STEPS // 3) for _ in range(3)]
                seconds.append((statistics.median(each), flops))
            (full, flops), (coarse, _) = seconds
            found[name] = {
                "step_seconds": full, "coarse_step_seconds": coarse, "examples_per_second": BATCH / full, "step_flops": flops,
                "local_mfu": flops / full / best, "until_measured_seconds": round(time.perf_counter() - begun, 2),
            }  # fmt: skip
        except RuntimeError as error:
            found[name] = {"failed": str(error).splitlines()[0]}
        print(width, name, found[name], flush=True)
    return found


def train(data: Any, device: str, **settings: Any) -> dict[str, Any]:
    """One training in this process: its card, its own seconds, and those of the whole call."""
    import lamina
    from lamina.screen import Screen
    from lamina.training.events import read_events

    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        paths = {"out": Path(place) / "m.lamina", "runs": Path(place) / "runs"}
        model = lamina.train(data, device=device, views=True, verdict_share=0, screen=Screen(), **paths, **settings)
        wall = time.perf_counter() - start
        events = read_events(Path(model.card["run"]) / "events.jsonl")
    return {**model.card, "wall": wall, "training": sum(event["seconds"] for event in events if event["event"] == "finished")}


def summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    plan = answers[0]["plan"]
    return {
        "accuracy": spread([answer["score"]["value"] for answer in answers]),
        "accuracy_with_one_view": spread([answer["facts"]["single_view"]["value"] for answer in answers]),
        "tested": answers[0]["score"]["n"],
        "training_seconds": spread([answer["training"] for answer in answers]),
        "wall_seconds": spread([answer["wall"] for answer in answers]),
        "training_flops": plan["forecast"]["training_flops"],
        "memory": plan["forecast"]["memory"],
        **{name: plan[name] for name in ("precision", "captured", "compiled", "steps", "self_test")},
    }


def answering(device: str, count: int = 10_000) -> dict[str, Any]:
    """Answers in fp32 of a network on the device, from arrays in memory: many, and one at a time."""
    from lamina.inputs import ImageInput
    from lamina.model import Model
    from lamina.tasks.recognize.task import RECOGNIZE

    feed = _feed(count)
    pictures = list(feed.values.array)
    x = feed.input.collate(feed.values.take(range(512)))[0]
    network = RECOGNIZE.network(feed.input, feed.output, RECOGNIZE.recipe(LEARNED, ImageInput()).size, x)
    model = Model("recognize", feed.input, network.eval().to(device), feed.output)
    model.predict(pictures[:512])
    single = sorted(timed(lambda number=number: model.predict(pictures[number]), device, 1) for number in range(200))
    return {
        "bulk_per_second": count / min(timed(lambda: model.predict(pictures), device, 1) for _ in range(2)),
        "network_alone_per_second": count / min(timed(lambda: model.values(pictures), device, 1) for _ in range(2)),
        "single_milliseconds": {"p50": 1e3 * single[100], "p95": 1e3 * single[190]},
    }

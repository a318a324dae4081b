"""The doctor on planted faults and on healthy runs."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import cifar10
from benchmarks.verdict import data_set

LEARNED, CHECKED, TESTED = 3_000, 600, 1_200
Pictures = tuple[np.ndarray, np.ndarray]
Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pictures]


def doctor(options: argparse.Namespace) -> dict[str, Any]:
    """Faults planted in real trainings, found by name; and false alarms on healthy ones. --seeds (1) of each."""
    seeds = options.seeds or 1
    chosen = options.only.split(",") if options.only else [*PLANTED, "healthy"]
    found: dict[str, list[list[str]]] = {}
    for name, plant in PLANTED.items():
        if name in chosen:
            found[name] = [_diagnoses(plant, seed) for seed in range(options.first, options.first + seeds)]
            print(name, found[name], flush=True)
    healthy: dict[str, list[list[str]]] = {}
    for name, (plant, count) in (HEALTHY if "healthy" in chosen else {}).items():
        healthy[name] = [_diagnoses(plant, seed) for seed in range(count * seeds)]
        print("healthy", name, healthy[name], flush=True)
    runs = [each for group in healthy.values() for each in group]
    named = {name: sum(name in each for each in group) for name, group in found.items()}
    return {
        "planted": len(named), "found": sum(count == seeds for count in named.values()), "named": found,
        "healthy": len(runs), "false_alarms": sum(bool(each) for each in runs), "on_healthy": healthy,
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plant:
    """A training: its data, the task's parts that are changed, settings, and what is changed around it."""

    data: Callable[[int], Any]
    task: Callable[[], Any] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    around: Callable[[], Any] | None = None


def _diagnoses(plant: Plant, seed: int) -> list[str]:
    """Names of what the doctor says after this training (or after it broke)."""
    import lamina
    from lamina import inside, tasks
    from lamina.errors import TrainingBroke

    settings: dict[str, Any] = {"seed": seed, "verdict_share": 0, **plant.settings}
    if plant.task is not None:
        tasks.TASKS["planted"] = plant.task()
        settings["task"] = "planted"
    with tempfile.TemporaryDirectory() as place, (plant.around or _nothing)():
        paths = {"out": Path(place) / "m.lamina", "runs": Path(place) / "runs"}
        try:
            model = lamina.train(plant.data(seed), **paths, **settings)
        except TrainingBroke:
            return [each["name"] for each in inside.doctor(next(paths["runs"].iterdir()))["found"]]
        return [each["name"] for each in model.card["doctor"]["found"]]


@contextmanager
def _nothing() -> Iterator[None]:
    yield


# ---------------------------------------------------------------- data


def _clothes() -> Pictures:
    from lamina.data.samples import load_sample
    from lamina.settings import Settings

    examples = load_sample("fashion-mnist", Settings())
    return np.stack([np.asarray(raw) for raw in examples.raws]), np.array(examples.answers)


def _some(
    seed: int, change: Callable[[np.ndarray, np.ndarray, np.random.Generator], Pictures] | None = None, learned: int = LEARNED
) -> Any:
    """Clothes with parts; `change` is made before they are parted."""
    random = np.random.default_rng(seed)
    x, y = _clothes()
    order = random.permutation(len(x))[: 8 * (learned + CHECKED + TESTED)]
    x, y = x[order], y[order]
    if change is not None:
        x, y = change(x, y, random)
    return _parted(x[: learned + CHECKED + TESTED], y[: learned + CHECKED + TESTED], learned)


def _parted(x: np.ndarray, y: np.ndarray, learned: int = LEARNED) -> Any:
    from lamina.data.examples import Examples

    parts = ["train"] * learned + ["validation"] * CHECKED
    parts += ["test"] * (len(x) - len(parts))
    return Examples("made", [str(at) for at in range(len(x))], list(x), [str(label) for label in y], parts, [""] * len(x))


def _wrong_labels(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> Pictures:
    wrong = random.random(len(y)) < 0.35
    return x, np.where(wrong, random.permutation(y), y)


def _mixed_class(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> Pictures:
    """The last class is a tenth of all the others."""
    names = np.unique(y)
    kept = y != names[-1]
    x, y = x[kept], y[kept]
    return x, np.where(random.random(len(y)) < 0.1, names[-1], y)


def _by_coin(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> Pictures:
    return x, np.where(random.random(len(y)) < 0.07, "rare", "usual")


def _few_of_one(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> Pictures:
    """Shirts among T-shirts, which look alike: one in twelve."""
    names = np.unique(y)
    shirt, other = (next(name for name in names if name.lower() == wanted) for wanted in ("shirt", "t-shirt"))
    shirts, others = np.flatnonzero(y == shirt), np.flatnonzero(y == other)
    kept = random.permutation(np.concatenate([shirts[: len(others) // 12], others]))
    return x[kept], y[kept]


def _other_camera(seed: int) -> Any:
    examples = _some(seed)
    raws = [np.clip(60 + 0.5 * raw.astype(float), 0, 255).astype(np.uint8) if part == "test" else raw
            for raw, part in zip(examples.raws, examples.parts, strict=True)]  # fmt: skip
    return dataclasses.replace(examples, raws=raws)


def _few_photos(seed: int) -> Any:
    examples = cifar10()
    order = np.random.default_rng(seed).permutation(50_000)[: 300 + CHECKED + TESTED]
    return _parted(np.stack([examples.raws[at] for at in order]), np.array([examples.answers[at] for at in order]), 300)


def _photos(seed: int) -> Any:
    examples = cifar10()
    order = np.random.default_rng(seed).permutation(50_000)[: 6_000 + CHECKED + TESTED]
    return _parted(np.stack([examples.raws[at] for at in order]), np.array([examples.answers[at] for at in order]), 6_000)


def _stripes(seed: int) -> Any:
    random = np.random.default_rng(seed)
    count = 1_500
    wanted = random.integers(0, 2, count)
    rows, columns = np.mgrid[0:16, 0:16]
    waves = np.where(wanted[:, None, None] == 0, np.sin(rows + random.uniform(0, 6, (count, 1, 1))),
                     np.sin(columns + random.uniform(0, 6, (count, 1, 1))))  # fmt: skip
    pictures = np.clip(128 + 60 * waves + random.normal(0, 30, waves.shape), 0, 255).astype(np.uint8)
    return pictures, ["rows" if each == 0 else "columns" for each in wanted]


# ---------------------------------------------------------------- tasks


def _stack(
    activation: str, depth: int, change: Callable[[list[Any]], None] | None = None, width: int = 64, **recipe: Any
) -> Callable[[], Any]:
    """The task with fully connected layers on the pixels, changed before the first step."""

    def task() -> Any:
        import torch

        from lamina.classical.features import PictureFeatures
        from lamina.classical.fit import fit_scale
        from lamina.layers import Context, FullyConnected
        from lamina.networks import Network
        from lamina.tasks.recognize.task import RECOGNIZE

        def network(input: Any, output: Any, size: int, x: Any) -> Any:
            pixels = PictureFeatures(["pixels"])
            with torch.no_grad():
                scale = fit_scale(pixels(x.cpu(), Context())[0].float())
            hidden = [FullyConnected(scale.features if k == 0 else width, width, activation) for k in range(depth)]
            if change is not None:
                with torch.no_grad():
                    change(hidden)
            layers = [(f"hidden{k + 1}", layer) for k, layer in enumerate(hidden)]
            head = output.head(width)
            torch.nn.init.normal_(head.weights.weight, std=0.05)
            return Network([("input", pixels), ("scale", scale), *layers, ("head", head)])

        changes = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "coarse": 1.0, "coarse_until": 0.0, "head_rate": 0.0,
                   "rest_rate": 0.0, **recipe}  # fmt: skip
        return dataclasses.replace(
            RECOGNIZE, name="planted", network=network, sizes=lambda input, settings: [width],
            recipe=lambda count: dataclasses.replace(RECOGNIZE.recipe(count), **changes),
        )  # fmt: skip

    return task


def _rates(factor: float) -> Callable[[], Any]:
    def task() -> Any:
        from lamina.tasks.recognize.task import RECOGNIZE

        def recipe(count: int) -> Any:
            own = RECOGNIZE.recipe(count)
            rates = {name: factor * getattr(own, name) for name in ("learning_rate", "head_rate", "rest_rate")}
            return dataclasses.replace(own, **rates)

        return dataclasses.replace(RECOGNIZE, name="planted", recipe=recipe)

    return task


def _louder(factor: float) -> Callable[[list[Any]], None]:
    def change(hidden: list[Any]) -> None:
        for layer in hidden:
            layer.weights.weight.mul_(factor)

    return change


def _silent(hidden: list[Any]) -> None:
    hidden[1].weights.bias[: len(hidden[1].weights.bias) // 2] = -100


def _far_off(hidden: list[Any]) -> None:
    """Signals far from 0, brought back by the next layer: what differs between them is lost in bf16."""
    hidden[0].weights.bias += 200
    hidden[1].weights.bias -= 200 * hidden[1].weights.weight.sum(1)


@contextmanager
def _slow() -> Iterator[None]:
    from lamina.inputs import ImageInput

    own = ImageInput.augment

    def augment(*arguments: Any, **keywords: Any) -> Any:
        time.sleep(0.06)
        return own(*arguments, **keywords)

    ImageInput.augment = augment  # type: ignore[method-assign]
    try:
        yield
    finally:
        ImageInput.augment = own  # type: ignore[method-assign]


SMALL = {"epochs": 6, "width": 16}
PLANTED = {
    "exploding gradient": Plant(_some, _stack("relu", 6, _louder(30), learning_rate=0.1)),
    "vanishing gradient": Plant(_some, _stack("sigmoid", 10)),
    "dead units": Plant(_some, _stack("relu", 3, _silent)),
    "saturation": Plant(_some, _stack("tanh", 3, _louder(30), learning_rate=0.001)),
    "rate too high": Plant(_some, _rates(1000), SMALL),
    "rate too low": Plant(_some, _rates(1e-4), SMALL),
    "collapse to the majority": Plant(lambda seed: _some(seed, _by_coin), None, SMALL),
    "rare classes neglected": Plant(lambda seed: _some(seed, _few_of_one), None, SMALL),
    "a class without signal": Plant(lambda seed: _some(seed, _mixed_class), None, SMALL),
    "label noise": Plant(lambda seed: _some(seed, _wrong_labels), None, SMALL),
    "over-fitting": Plant(_few_photos, _stack("relu", 3, width=256), {"epochs": 120, "start_from": "nothing"}),
    "starved loader": Plant(_some, None, SMALL, _slow),
    "train and test from different sources": Plant(_other_camera, None, SMALL),
    "bf16 trouble": Plant(_some, _stack("relu", 3, _far_off, learning_rate=1e-4), {"precision": "bf16"}),
}
"""Diagnosis -> a training that has it."""
HEALTHY = {
    "digits": (Plant(lambda seed: data_set("digits")), 4),
    "clothes": (Plant(_some, None, SMALL), 4),
    "clothes, as planned": (Plant(_some), 2),
    "photos": (Plant(_photos, None, {"epochs": 8, "width": 32}), 2),
    "stripes": (Plant(_stripes), 3),
    "ants and bees": (Plant(lambda seed: data_set("hymenoptera"), None, {"start_from": "efficientnet-lite0"}), 1),
    "adult": (Plant(lambda seed: data_set("adult"), None, {"epochs": 3}), 2),
    "titanic": (Plant(lambda seed: data_set("titanic")), 2),
}
"""Name -> (a training with nothing wrong, how many seeds of it)."""

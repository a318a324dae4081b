"""Accuracy on pictures: digits, Fashion-MNIST, CIFAR-10, few photos."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import DATA, cifar10, run_lamina, spread, timed, valid

LEARNED = 0.95
"""Share of CIFAR-10's training part that is learned from; the rest is held out for checks."""


def _seeds(options: argparse.Namespace, usual: int = 1) -> range:
    return range(options.first, options.first + (options.seeds or usual))


def digits(options: argparse.Namespace) -> dict[str, Any]:
    """Cross-fitted accuracy: each seed trains five networks, each tested on a fifth that it never saw."""
    with tempfile.TemporaryDirectory() as place:
        answers = [run_lamina("train", "sample:digits", "--seed", str(seed), place=Path(place)) for seed in _seeds(options, 3)]
    return _summary(answers)


def fashion(options: argparse.Namespace) -> dict[str, Any]:
    """Official test part, the whole command within --minutes; one view and several views of the same network."""
    minutes = str(options.minutes or 10)
    with tempfile.TemporaryDirectory() as place:
        arguments = ("train", "sample:fashion-mnist", "--minutes", minutes, "--views")
        answers = [run_lamina(*arguments, "--seed", str(seed), place=Path(place)) for seed in _seeds(options)]
    return {"minutes": float(minutes), **_summary(answers)}


def cifar(options: argparse.Namespace) -> dict[str, Any]:
    """Official test part within a budget of counted training FLOPs (--flops, 1.5e14)."""
    budget = options.flops or 1.5e14
    epochs = _epochs_within(budget)
    answers = [
        _train(cifar10(), seed=seed, epochs=epochs, width=64, views=True, threads=options.threads or 0, verdict_share=0)
        for seed in _seeds(options)
    ]
    spent = max(answer["training_flops"] for answer in answers)
    if spent > budget:
        raise SystemExit(f"the training took {spent:.3g} FLOPs, more than {budget:.3g}")
    return {"budget_flops": budget, "training_flops": spent, "epochs": epochs, **_summary(answers, options.threads or 0)}


def _epochs_within(budget: float) -> float:
    """Epochs on CIFAR-10 that take so many counted training FLOPs at width 64."""
    import torch

    from lamina.inputs import ImageInput
    from lamina.layers import Context
    from lamina.outputs import ClassesOutput
    from lamina.tasks.recognize.task import RECOGNIZE
    from lamina.training.forecast import flops_per_example

    x, output = torch.randint(256, (512, 32, 32, 3), dtype=torch.uint8), ClassesOutput(labels=tuple("abcdefghij"))
    network = RECOGNIZE.network(ImageInput(32, 3), output, 64, x)
    recipe, examples = RECOGNIZE.recipe(50_000, ImageInput()), LEARNED * 50_000
    side = round(32 * recipe.coarse)
    full, coarse = flops_per_example(network, x[:2], Context()), flops_per_example(network, x[:2, :side, :side], Context())
    return float(0.999 * budget / examples / (recipe.coarse_until * coarse + (1 - recipe.coarse_until) * full))


def few(options: argparse.Namespace) -> dict[str, Any]:
    """CIFAR-10 with 30 training photos a class, official test part: a running start, and from nothing."""
    found = {}
    for name, settings in (("running start", {"start_from": "efficientnet-lite0"}), ("from nothing", {"start_from": "nothing"})):
        found[name] = _summary([_train(cifar10(few=30), seed=seed, **settings) for seed in _seeds(options)])
    return found


def hymenoptera(options: argparse.Namespace) -> dict[str, Any]:
    """244 photos of ants and bees, a subset of the very ImageNet that the borrowed network learned from: read it as such."""
    found = {}
    for name, settings in (("running start", {"start_from": "efficientnet-lite0"}), ("from nothing", {"start_from": "nothing"})):
        answers = [_train(str(DATA / "hymenoptera"), seed=seed, **settings) for seed in _seeds(options)]
        found[name] = _summary(answers)
    return found


def _train(data: Any, **settings: Any) -> dict[str, Any]:
    """The card of a training in this process, with its time and counted training FLOPs."""
    import lamina
    from lamina.screen import Screen

    with tempfile.TemporaryDirectory() as place:
        paths = {"out": Path(place) / "m.lamina", "runs": Path(place) / "runs"}
        model, times = timed(lambda: lamina.train(data, screen=Screen(), **paths, **settings))
    return {**model.card, **times, "training_flops": model.card["plan"]["forecast"]["training_flops"]}


def _summary(answers: list[dict[str, Any]], threads: int = 0) -> dict[str, Any]:
    result = {
        "accuracy": spread([answer["score"]["value"] for answer in answers]),
        "tested": answers[0]["score"]["n"],
        "wall_seconds": spread([answer["wall_seconds"] for answer in answers]),
        "cpu_per_wall": [answer["cpu_per_wall"] for answer in answers],
        "valid": [valid(answer["cpu_per_wall"], threads) for answer in answers],
    }
    if all("peak_memory" in answer for answer in answers):
        result["peak_memory"] = max(answer["peak_memory"] for answer in answers)
    if all(answer.get("verdict") for answer in answers):
        found = [answer["verdict"] for answer in answers]
        result["verdict"] = {
            "kinds": [each["kind"] for each in found],
            "sentences": [each["sentence"] for each in found],
            "classical": spread([_of(each, "classical")["score"]["value"] for each in found]),
            "classical_seconds": spread([_of(each, "classical")["seconds"] for each in found]),
        }
    if all("single_view" in answer.get("facts", {}) for answer in answers):
        result["accuracy_single_view"] = spread([answer["facts"]["single_view"]["value"] for answer in answers])
    return result


def _of(verdict: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in verdict["contenders"] if each["kind"] == kind)

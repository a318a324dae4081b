"""Accuracy on pictures: digits, Fashion-MNIST, CIFAR-10, few photos."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import DATA, cifar10, run_lamina, spread, timed, valid

CIFAR_EPOCHS = {1.5e14: 12.6, 2.0e14: 16.8}
"""Epochs that keep the counted training FLOPs within each budget at width 64; the run checks that they do."""


def digits(options: argparse.Namespace) -> dict[str, Any]:
    """Cross-fitted accuracy: each seed trains five networks, each tested on a fifth that it never saw."""
    with tempfile.TemporaryDirectory() as place:
        answers = [run_lamina("train", "sample:digits", "--seed", str(seed), place=Path(place)) for seed in range(options.seeds or 3)]
    return _summary(answers)


def fashion(options: argparse.Namespace) -> dict[str, Any]:
    """Official test part, the whole command within --minutes; one view and several views of the same network."""
    minutes = str(options.minutes or 10)
    with tempfile.TemporaryDirectory() as place:
        arguments = ("train", "sample:fashion-mnist", "--minutes", minutes, "--views")
        answers = [run_lamina(*arguments, "--seed", str(seed), place=Path(place)) for seed in range(options.seeds or 1)]
    return {"minutes": float(minutes), **_summary(answers)}


def cifar(options: argparse.Namespace) -> dict[str, Any]:
    """Official test part within a budget of counted training FLOPs (--flops, 1.5e14)."""
    budget = options.flops or 1.5e14
    epochs = CIFAR_EPOCHS.get(budget, CIFAR_EPOCHS[1.5e14] * budget / 1.5e14)
    answers = [
        _train(cifar10(), seed=seed, epochs=epochs, width=64, views=True, threads=options.threads or 0)
        for seed in range(options.seeds or 1)
    ]
    spent = max(answer["training_flops"] for answer in answers)
    if spent > budget:
        raise SystemExit(f"the training took {spent:.3g} FLOPs, more than {budget:.3g}")
    return {"budget_flops": budget, "training_flops": spent, "epochs": epochs, **_summary(answers, options.threads or 0)}


def few(options: argparse.Namespace) -> dict[str, Any]:
    """CIFAR-10 with 30 training photos a class, official test part: a running start, and from nothing."""
    found = {}
    for name, settings in (("running start", {"start_from": "efficientnet-lite0"}), ("from nothing", {"start_from": "nothing"})):
        found[name] = _summary([_train(cifar10(few=30), seed=seed, **settings) for seed in range(options.seeds or 1)])
    return found


def hymenoptera(options: argparse.Namespace) -> dict[str, Any]:
    """244 photos of ants and bees, a subset of the very ImageNet that the borrowed network learned from: read it as such."""
    found = {}
    for name, settings in (("running start", {"start_from": "efficientnet-lite0"}), ("from nothing", {"start_from": "nothing"})):
        answers = [_train(str(DATA / "hymenoptera"), seed=seed, **settings) for seed in range(options.seeds or 1)]
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
    if all("single_view" in answer.get("facts", {}) for answer in answers):
        result["accuracy_single_view"] = spread([answer["facts"]["single_view"]["value"] for answer in answers])
    return result

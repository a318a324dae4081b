"""What looking inside costs and shows: the atlas of a network, snapshots, probes beside random weights, activation functions."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import cifar10, timed, valid

MINUTES = {"fashion-mnist": 4.0, "cifar10": 3.0, "digits": None}
TESTED = 500
"""Of digits, which have no test part of their own."""


def atlas(options: argparse.Namespace) -> dict[str, Any]:
    """Of a network trained on each of three sets of pictures: seconds of `lamina layers` on data that are at hand, bytes of the report with
    it, share of training that snapshots took, and the gain of trained over random weights after the last hidden layer."""
    names = options.data.split(",") if options.data else list(MINUTES)
    found = {}
    for name in names:
        found[name] = _opened(name, options.minutes or MINUTES[name])
        print(name, found[name], flush=True)
    return {"sets": found}


def _opened(name: str, minutes: float | None) -> dict[str, Any]:
    import lamina
    from lamina import inside

    with tempfile.TemporaryDirectory() as place:
        paths = {"out": Path(place) / "m.lamina", "runs": Path(place) / "runs"}
        model = lamina.train(_set(name), minutes=minutes, verdict_share=0.05 if minutes else 0.2, **paths)
        run = Path(model.card["run"])
        seen, times = timed(lambda: inside.layers(model))
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        finished = next(event for event in reversed(events) if event["event"] == "finished" and event["leg"] == "final")
        last, control = seen["probes"][-2], seen["control"][-2]
        return {
            "accuracy": model.card["score"]["value"], "parameters": sum(each["parameters"] for each in seen["layers"]), **times,
            "valid": valid(times["cpu_per_wall"], 0), "report_bytes": (run / "report.html").stat().st_size,
            "snapshots_share": finished["snapshots"] / finished["seconds"], "training_seconds": finished["seconds"],
            "trained": last, "random": control, "gain": seen["gain"], "doctor": [each["name"] for each in model.card["doctor"]["found"]],
        }  # fmt: skip


def _set(name: str) -> Any:
    if name == "cifar10":
        return cifar10()
    if name != "digits":
        return f"sample:{name}"
    from lamina.data.samples import load_sample
    from lamina.settings import Settings

    examples = load_sample("digits", Settings())
    tested = set(np.random.default_rng(0).permutation(len(examples))[:TESTED].tolist())
    return dataclasses.replace(examples, parts=["test" if at in tested else "train" for at in range(len(examples))])


def activations(options: argparse.Namespace) -> dict[str, Any]:
    """On three sets of pictures: is a stack without activation functions no better than a linear model, and one with them clearly?"""
    from lamina.experiments import experiment
    from lamina.screen import Screen

    found = {}
    for name in options.data.split(",") if options.data else list(MINUTES):
        data = cifar10() if name == "cifar10" else f"sample:{name}"
        result = experiment(data, "activations", screen=Screen(), **({"seeds": options.seeds} if options.seeds else {}))
        found[name] = {each: value for each, value in result.items() if each != "charts"}
        print(name, result["sentence"], flush=True)
    return {
        "none_is_no_better": all(each["none_is_no_better"] for each in found.values()),
        "full_is_clearly_better": all(each["full_is_clearly_better"] for each in found.values()), "sets": found,
    }  # fmt: skip

"""Experiments on one's own data: what activation functions, depth, weak connections and order are worth. Equal budgets, several seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lamina.data.audit import show_audit, stop_if_bad
from lamina.data.files import check_writable, write_bytes, write_json
from lamina.data.split import divide
from lamina.errors import UsageError, did_you_mean, sentence
from lamina.experiments.activations import activations
from lamina.experiments.depth import depth
from lamina.experiments.ground import Ground
from lamina.experiments.prune import prune
from lamina.experiments.shuffle import shuffle
from lamina.outputs import ClassesOutput
from lamina.pipeline.preparation import audited, fitted_feed
from lamina.screen import Screen
from lamina.settings import cores, make_settings
from lamina.tasks import find_task
from lamina.training.device import keep_memory

SEEDS, MOST_SEEDS = 3, 5
"""Unless told; where examples are cross-fitted one for each fold, so that all are tested on."""

EXPERIMENTS: dict[str, Callable[[Ground], tuple[dict[str, Any], list[str]]]] = {
    "activations": activations,
    "depth": depth,
    "prune": prune,
    "shuffle": shuffle,
}


def experiment(data: Any, kind: str, *, out: str | Path = "", screen: Screen | None = None, **settings: Any) -> dict[str, Any]:
    """Run one of EXPERIMENTS on `data`: {experiment, sentence, variants: [{name, scores, mean, deviation, low, high, training_flops}], …};
    written to `out` (.json) with its chart beside it (.svg) when that is given.

    `settings` are fields of Settings: seed, seeds (3; where examples are cross-fitted one for each fold), epochs, threads, and how data are
    read. Raises UsageError for a name that does not exist, and the errors of reading data.
    """
    if kind not in EXPERIMENTS:
        raise UsageError(sentence("The experiment", "be one of " + ", ".join(EXPERIMENTS), kind, did_you_mean(kind, EXPERIMENTS)))
    if out and Path(out).suffix != ".json":
        raise UsageError(sentence("--out", "end in .json", str(out)))
    if out:
        check_writable(Path(out))
    chosen, screen = make_settings({"seeds": MOST_SEEDS, **settings}), screen or Screen(quiet=True)
    torch.set_num_threads(cores(chosen))
    keep_memory()
    task = find_task(chosen.task)
    report, unfitted, task = audited(data, task, chosen, screen)
    show_audit(report, screen)
    stop_if_bad(report, chosen)
    split = divide(report)
    feed = fitted_feed(report, unfitted, task, chosen, split.indices("train"), screen)
    if not isinstance(feed.output, ClassesOutput):
        raise UsageError(sentence("An experiment", "be made on examples with classes", feed.output.kind))
    if "seeds" not in settings and split.folds is None:
        chosen = replace(chosen, seeds=SEEDS)
    ground = Ground(task, chosen, feed, split, screen)
    found, charts = EXPERIMENTS[kind](ground)
    learned, tested = ground.parts(chosen.seed)
    found = {"experiment": kind, **found, "learned": len(learned), "tested": len(tested), "seeds": list(ground.seeds), "charts": charts}
    if out:
        write_json(Path(out), {name: value for name, value in found.items() if name != "charts"})
        for number, chart in enumerate(charts):
            write_bytes(Path(out).with_suffix(f".{number + 1}.svg" if number else ".svg"), chart.encode())
    return found

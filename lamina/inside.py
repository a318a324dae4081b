"""Looking inside a model, on the data it learned from or on any other: its layers, one unit, one training step, why one answer."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.files import write_json
from lamina.data.raw import FileRaw
from lamina.data.split import Split
from lamina.explain import first_filters, look_at_layers, open_step, open_unit, probe_layers, selectivity, why, with_random_weights
from lamina.layers import Context
from lamina.model import Model
from lamina.report.page import FACTS, LAYERS, write_report
from lamina.screen import Screen
from lamina.settings import cores
from lamina.studies import read_again

PROBED = 2_000
"""Most examples that a probe learns from, and as many that it is scored on."""
PATCH = 8
"""Rows and columns of raw numbers shown of a picture; of other values the first PATCH x PATCH numbers."""
STEP_EXAMPLES = 256


def layers(model: Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What each layer is, how much of the input it sees, and how much of the answer a straight line reads after it, beside the same
    layers with random weights. Kept in the run folder as layers.json, and drawn in its report. Raises the errors of lamina.errors.
    """
    screen = screen or Screen(quiet=True)
    feed, split, _ = _material(model, data, screen)
    random = np.random.Generator(np.random.Philox(key=0))
    mixed, held_out = random.permutation(np.array(split.indices("train"))), split.folds is None
    learned = np.sort(mixed[: PROBED if held_out else min(PROBED, len(mixed) // 2)])
    others = random.permutation(np.array(split.indices("test"))) if held_out else mixed[len(learned) :]
    tested = np.sort(others[:PROBED])
    x, context = feed.input.collate(feed.values.take(learned[:64]))
    control = with_random_weights(model.network, feed, learned)
    gratings = feed.input.gratings()
    found = {
        "layers": [dataclasses.asdict(each) for each in look_at_layers(model.network, x, context)],
        "probes": [dataclasses.asdict(each) for each in probe_layers(model.network, feed, learned, tested)],
        "control": [dataclasses.asdict(each) for each in probe_layers(control, feed, learned, tested)],
        "probed": {"learned": len(learned), "tested": len(tested), "held_out": held_out},
        "input": list(x.shape[1:]),
        "raw": raw_numbers(x[0]),
        "gratings": [
            {"name": name, "trained": value, "random": other}
            for (name, value), other in zip(
                selectivity(model.network, gratings).items(), selectivity(control, gratings).values(), strict=True
            )
        ]
        if gratings is not None
        else [],
        "filters": first_filters(model.network),
    }
    run = Path(model.card["run"])
    if (run / FACTS).exists():
        write_json(run / LAYERS, found)
        write_report(run, model.card, run / "report.html")
    return found


def raw_numbers(x: torch.Tensor) -> list[list[float]]:
    """What goes in: the middle PATCH x PATCH of the first channel of a picture [H, W, C], else the first numbers."""
    if x.ndim == 3:
        top, left = (max(0, (size - PATCH) // 2) for size in x.shape[:2])
        return [[float(value) for value in row] for row in x[top : top + PATCH, left : left + PATCH, 0]]
    flat = x.reshape(-1)[: PATCH * PATCH].float()
    return [[round(float(value), 4) for value in row] for row in flat.split(PATCH)]


def unit(model: Model, layer: str, number: int, item: Any) -> dict[str, Any]:
    """One artificial neuron for one value: inputs x weights + bias -> activation function -> signal passed on."""
    x, context = _one(model, item)
    return dataclasses.asdict(open_unit(model.network, x, context, layer, number))


def why_this_answer(model: Model, item: Any, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What in one value moved the answer to it, and the control: {label, values, control, likeness, tells, sentence}."""
    feed, split, _ = _material(model, data, screen or Screen(quiet=True))
    x, context = _one(model, item)
    with torch.no_grad():
        place = int(model.network.eval()(x, context)[0][0].argmax())
    found = why(model.network, with_random_weights(model.network, feed, np.array(split.indices("train"))), x, context, place)
    label = model.predict(item).top[0][0]
    return {
        "label": label, "values": found.values.tolist(), "control": found.control.tolist(), "likeness": found.likeness,
        "tells": found.tells, "sentence": found.sentence,
    }  # fmt: skip


def step(model: Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """One training step of a copy of the model's network, on a batch of its training examples, layer by layer."""
    feed, split, names = _material(model, data, screen or Screen(quiet=True))
    learned = np.array(split.indices("train"))
    chosen = np.sort(np.random.Generator(np.random.Philox(key=1)).permutation(learned)[:STEP_EXAMPLES])
    found = open_step(model, feed.batch(chosen))
    told = dataclasses.asdict(found)
    for mistake in told["mistakes"]:
        mistake["name"] = names[int(chosen[mistake["place"]])]
    return {**told, "examples": len(chosen)}


def _one(model: Model, item: Any) -> tuple[torch.Tensor, Context]:
    """The batch of one value in any form that `predict` takes one in."""
    rows = model.input.rows(item)
    raw = rows[0][1] if rows else FileRaw(os.fspath(item)) if isinstance(item, (str, os.PathLike)) else item
    return model.input.single().collate([model.input.read(raw)])


def _material(model: Model, data: Any, screen: Screen) -> tuple[Feed, Split, list[str]]:
    """(the examples as the model's own input reads them, the split of its training, their names)."""
    settings, report, split = read_again(model, data, screen)
    torch.set_num_threads(cores(settings))
    input = model.input.single()
    decoded = decode(report.examples.raws, [inspection.content for inspection in report.inspections], input, settings, screen)
    targets = [model.output.encode(answer) for answer in report.examples.answers]
    return Feed(decoded, targets, input, model.output, torch.device("cpu")), split, list(report.examples.names)

"""Looking inside a model, on the data it learned from or on any other: its layers, one unit, one training step, why one answer."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.files import write_json
from lamina.data.raw import FileRaw
from lamina.data.split import Split
from lamina.errors import UsageError, sentence
from lamina.explain import first_filters, look_at_layers, open_step, open_unit, plan_of, probe_layers, selectivity, why, with_random_weights
from lamina.explain.layers import LOOKED_AT
from lamina.layers import Context
from lamina.metrics import paired_interval
from lamina.model import Model
from lamina.outputs import ClassesOutput
from lamina.report import run_of, write_report
from lamina.report.page import LAYERS
from lamina.screen import Screen
from lamina.settings import cores
from lamina.studies import read_again

PROBED = 2_000
"""Most examples that a probe learns from, and as many that it is scored on."""
PATCH = 8
"""Rows and columns of raw numbers shown of a picture; of other values the first PATCH x PATCH numbers."""
STEP_EXAMPLES = 256
PLACES = 8
"""Of the input that moved an answer most."""


def layers(model: Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What each layer is, how much of the input it sees, and how much of the answer a straight line reads after it, beside the same
    layers with random weights (where the layers were trained here). Kept in the run folder as layers.json, and drawn in its report.
    Raises the errors of lamina.errors.
    """
    screen = screen or Screen(quiet=True)
    feed, split, _ = _material(model, data, screen)
    learned, tested, held_out = _parts(split)
    x, context = feed.input.collate(feed.values.take(learned[:LOOKED_AT]))
    way = model.card.get("way", "deep")
    facts = [dataclasses.asdict(each) for each in look_at_layers(model.network, x, context)]
    for each in facts:
        each["trained"] = each["trained"] and way == "deep"
    control = with_random_weights(model.network, feed, learned) if way == "deep" else None
    probes = probe_layers(model.network, feed, learned, tested) if isinstance(model.output, ClassesOutput) else []
    others = probe_layers(control, feed, learned, tested) if probes and control is not None else []
    gain = paired_interval(probes[-2].right, others[-2].right, 0.95) if held_out and len(others) > 1 else None
    gratings = feed.input.gratings()
    stripes, plain = selectivity(model.network, gratings), selectivity(control, gratings) if control is not None else {}
    filters = first_filters(model.network)
    if filters and way != "deep":
        filters["trained"] = False
    found = {
        "way": way,
        "layers": facts,
        "probes": [{"name": each.name, "score": each.score, "low": each.low, "high": each.high} for each in probes],
        "control": [{"name": each.name, "score": each.score, "low": each.low, "high": each.high} for each in others],
        "gain": gain,
        "probed": {"learned": len(learned), "tested": len(tested), "held_out": held_out},
        "input": list(x.shape[1:]),
        "raw": raw_numbers(x[0]),
        "gratings": [{"name": name, "trained": value, "random": plain.get(name)} for name, value in stripes.items()],
        "filters": filters,
    }
    if run := run_of(model.card):
        write_json(run / LAYERS, found)
        write_report(run, model.card, run / "report.html")
    return found


def _parts(split: Split) -> tuple[np.ndarray, np.ndarray, bool]:
    """(examples for probes to learn from, and to be scored on, whether the network never saw the latter); mixed."""
    random = np.random.Generator(np.random.Philox(key=0))
    if split.folds is not None:  # the network that was saved learned from all of them
        own, others = split.fold(0)
        return random.permutation(np.array(own))[:PROBED], random.permutation(np.array(others))[:PROBED], False
    own, others = split.indices("train"), split.indices("validation") or split.indices("test")
    return random.permutation(np.array(own))[:PROBED], random.permutation(np.array(others))[:PROBED], True


def raw_numbers(x: torch.Tensor) -> list[list[float | None]]:
    """What goes in: the middle PATCH x PATCH of the first channel of a picture [H, W, C], else the first numbers; None: missing."""
    if x.ndim == 3:
        top, left = (max(0, (size - PATCH) // 2) for size in x.shape[:2])
        return [[float(value) for value in row] for row in x[top : top + PATCH, left : left + PATCH, 0]]
    flat = x.reshape(-1)[: PATCH * PATCH].float()
    return [[None if math.isnan(value) else round(float(value), 4) for value in row] for row in flat.split(PATCH)]


def unit(model: Model, layer: str, number: int, item: Any) -> dict[str, Any]:
    """One artificial neuron for one value: inputs x weights + bias -> activation function -> signal passed on."""
    x, context = _one(model, item)
    return dataclasses.asdict(open_unit(model.network, x, context, layer, number))


def why_this_answer(model: Model, item: Any, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What in one value moved the answer to it, and the control: {label, values, places, likeness, tells, sentence}. Of a table its
    first row. Raises UsageError where the answers are no classes, or the network was not trained here.
    """
    _must_be_trained(model, "why")
    feed, split, _ = _material(model, data, screen or Screen(quiet=True))
    x, context = _one(model, item)
    with torch.no_grad():
        values, after = model.network.eval()(x, context)
    label, place = model.output.decode(values, after)[0].top[0][0], int(values[0].argmax())
    found = why(model.network, with_random_weights(model.network, feed, np.array(split.indices("train"))), x, context, place)
    order = np.argsort(-np.abs(found.values), axis=None)[:PLACES]
    places = [([int(at) for at in np.unravel_index(index, found.values.shape)], float(found.values.reshape(-1)[index])) for index in order]
    told = {"label": label, "likeness": found.likeness, "tells": found.tells, "sentence": found.sentence}
    return {**told, "places": places, "values": found.values.tolist()}


def step(model: Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """One training step of a copy of the model's network, on a batch of its training examples, layer by layer. Raises UsageError for a
    model whose layers were not trained here.
    """
    _must_be_trained(model, "step")
    feed, split, names = _material(model, data, screen or Screen(quiet=True))
    plan = plan_of(model.card)
    learned = np.array(split.indices("train"))
    chosen = np.random.Generator(np.random.Philox(key=1)).permutation(learned)[: min(STEP_EXAMPLES, plan.batch)]
    size = max(2, plan.micro_batch_at("final", plan.total("final")))
    told = dataclasses.asdict(open_step(model, [feed.batch(chosen[start : start + size]) for start in range(0, len(chosen), size)], plan))
    for mistake in told["mistakes"]:
        mistake["name"] = names[int(chosen[mistake["place"]])]
    return {**told, "examples": len(chosen)}


def _must_be_trained(model: Model, what: str) -> None:
    way = model.card.get("way", "deep")
    if way != "deep":
        raise UsageError(
            sentence(f"`{what}`", "be asked of a network that was trained here", f"a {way} model", "See `lamina layers MODEL`.")
        )
    if not isinstance(model.output, ClassesOutput) and what == "why":
        raise UsageError(sentence(f"`{what}`", "be asked of a model that answers with classes", model.output.kind))


def _one(model: Model, item: Any) -> tuple[torch.Tensor, Context]:
    """The batch of one value in any form that `predict` takes one in; of a table its first row."""
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

"""Looking inside a model, on the data it learned from or on any other: its layers, one unit, one training step, why one answer."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.files import check_writable, write_json
from lamina.data.raw import FileRaw
from lamina.data.split import Split
from lamina.errors import DataError, UsageError, sentence
from lamina.explain import (
    Probe,
    diagnose,
    first_filters,
    look_at_layers,
    open_step,
    open_unit,
    plan_of,
    probe_layers,
    probe_letters,
    probe_people,
    replay,
    seen_filters,
    selectivity,
    telling_units,
    why,
    with_random_weights,
)
from lamina.explain.layers import BATCH, LOOKED_AT
from lamina.layers import Context, Same
from lamina.metrics import paired_interval
from lamina.model import Material, Model, load
from lamina.networks import Network
from lamina.outputs import CharactersOutput, ClassesOutput
from lamina.pipeline.preparation import Prepared
from lamina.pipeline.records import gather
from lamina.report import run_of, write_report
from lamina.report.film import check_film, write_film
from lamina.report.page import FACTS, LAYERS
from lamina.screen import Screen
from lamina.settings import cores
from lamina.studies import read_again
from lamina.tasks import find_task
from lamina.training.events import read_events
from lamina.training.run import Run, open_run
from lamina.training.snapshots import FOLDER, MOMENTS, snapshots_of

PROBED = 2_000
"""Most examples that a probe learns from, and as many that it is scored on."""
REPLAYED = 600
"""The same for each moment of a replay."""
MAPPED = 300
MAPS = 4
"""Layers of which a map of examples is drawn."""
ANSWERS_FROM = 256
"""Held-out examples among which those are sought whose answers are explained."""
PATCH = 8
"""Rows and columns of raw numbers shown of a picture; of other values the first PATCH x PATCH numbers."""
STEP_EXAMPLES = 256
CAUTION = 1.5
PLACES = 8
"""Of the input that moved an answer most."""


# ---------------------------------------------------------------- the whole


def layers(model: Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What each layer is, how much of the input it sees, and how much of the answer a straight line reads after it, beside the same
    layers with random weights (where the layers were trained here); what moves its most telling units; a unit, a step and some answers
    opened; and how all that came about. Kept in the run folder as layers.json, and drawn in its report. Raises the errors of lamina.errors.
    """
    _has_signals(model)
    model, screen = _here(model), screen or Screen(quiet=True)
    feed, split, names = _material(model, data, screen)
    learned, tested, held_out = _parts(split)
    x, context = feed.input.collate(feed.values.take(learned[:LOOKED_AT]))
    way = model.card.get("way", "deep")
    facts = [dataclasses.asdict(each) for each in look_at_layers(model.network, x, context)]
    for each in facts:
        each["trained"] = each["trained"] and way == "deep"
    control = with_random_weights(model.network, feed, learned) if way == "deep" else None
    gratings = feed.input.gratings()
    stripes, plain = selectivity(model.network, gratings), selectivity(control, gratings) if control is not None else {}
    filters = first_filters(model.network)
    if filters and way != "deep":
        filters["trained"] = False
    found = {
        "way": way,
        "layers": facts,
        **_probed(model, control, feed, learned, tested, held_out),
        "input": list(x.shape[1:]),
        "raw": raw_numbers(x[0]),
        "gratings": [{"name": name, "trained": value, "random": plain.get(name)} for name, value in stripes.items()],
        "filters": filters,
        "seen": seen_filters(model.network, x, context) if way == "deep" else {},
        "units": _units(model, feed, learned, names) if way != "classical" else [],
        "answers": _answers(model, control, feed, tested, names),
        "step": _step(model, feed, split, names) if way == "deep" else None,
        "replay": _replay(model, feed, learned, tested, names),
    }
    found["unit"] = _opened_unit(model, feed, found["units"])
    if run := run_of(model.card):
        write_json(run / LAYERS, found, indent=None)
        try:
            write_report(run, model.card, run / "report.html")
        except DataError as error:  # what was found is told all the same
            screen.warn(f"The report is not drawn anew. {error}")
    return found


def layers_seconds(model: Model) -> float:
    """What `layers` takes on data that are at hand, from the time of some answers; cautious."""
    _has_signals(model)
    if model.material is None:
        return 60.0
    feed, split, _ = model.material
    learned = np.array(split.indices("train"))
    x, context = feed.input.collate(feed.values.take(learned[: 2 if model.output.measured else BATCH]))
    with torch.no_grad():
        model.network.eval()(x, context)
        start = time.monotonic()
        model.network(x, context)
    one = (time.monotonic() - start) / len(x)
    looks = 4 * min(PROBED, len(learned)) + 2 * len(MOMENTS) * min(REPLAYED, len(learned))
    return CAUTION * (one * looks + 0.2 * len(model.network.stack) + 2.0)


def _probed(model: Model, control: Network | None, feed: Feed, learned: np.ndarray, tested: np.ndarray, held_out: bool) -> dict[str, Any]:
    """What straight lines read after each layer, with the maps of some."""
    together, classes = model.output.together, isinstance(model.output, ClassesOutput)
    speech = isinstance(model.output, CharactersOutput)
    probe: Any = probe_people if together else functools.partial(probe_letters, listener=model.network) if speech else probe_layers
    probes = probe(model.network, feed, learned, tested) if classes or ((speech or together) and held_out) else []
    others = probe(control, feed, learned, tested) if probes and control is not None else []
    gain = paired_interval(probes[-2].right, others[-2].right, 0.95) if classes and held_out and len(others) > 1 else None
    hidden = range(max(1, len(probes) - 1)) if probes and classes else []
    mapped = sorted({round(place) for place in np.linspace(0, len(hidden) - 1, MAPS)}) if hidden else []

    def told(found: list[Probe]) -> list[dict[str, Any]]:
        return [{"name": each.name, "score": each.score, "low": each.low, "high": each.high} for each in found]

    def map_of(found: list[Probe], place: int) -> list[list[float]]:
        return np.round(found[place].places[:MAPPED], 3).tolist() if found else []

    return {
        "probes": told(probes),
        "control": told(others),
        "gain": gain,
        "probed": {"learned": len(learned), "tested": len(tested), "held_out": held_out, "people": together, "letters": speech},
        "maps": {
            "labels": list(getattr(model.output, "labels", ())),
            "truths": [feed.targets[index] for index in tested[:MAPPED]] if probes and classes else [],
            "layers": [{"name": probes[at].name, "trained": map_of(probes, at), "random": map_of(others, at)} for at in mapped],
        },
    }


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


# ---------------------------------------------------------------- units


def unit(model: Model, layer: str, number: int, item: Any) -> dict[str, Any]:
    """One artificial neuron for one value: inputs x weights + bias -> activation function -> signal passed on."""
    model = _here(model)
    x, context = _one(model, item)
    return dataclasses.asdict(open_unit(model.network, x, context, layer, number))


def _units(model: Model, feed: Feed, learned: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The most telling units, with pictures of what moves them most."""
    labels = getattr(model.output, "labels", ())
    found = []
    for each in telling_units(model.network, feed, learned):
        boxes = each.boxes or [()] * len(each.examples)
        pictures = [_shown(feed, index, box) for index, box in zip(each.examples, boxes, strict=True)]
        label = labels[each.answer] if each.answer is not None and each.answer < len(labels) else None
        found.append({**dataclasses.asdict(each), "label": label, "names": [names[index] for index in each.examples], "pictures": pictures})
    return found


def _opened_unit(model: Model, feed: Feed, units: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first of the telling units that is a plain one, for the example that moves it most."""
    for each in units:
        x, context = feed.input.collate(feed.values.take(each["examples"][:1]))
        try:
            opened = dataclasses.asdict(open_unit(model.network, x, context, each["layer"], each["number"]))
        except UsageError:  # a layer that mixes several sets of weights
            continue
        return {**opened, "name": each["names"][0], "picture": _shown(feed, each["examples"][0])}
    return None


def _shown(feed: Feed, index: int, box: tuple[tuple[int, int], ...] = ()) -> str:
    value = feed.values.take([index])[0]
    return feed.input.shown(value.cpu().numpy() if isinstance(value, torch.Tensor) else value, box)


# ---------------------------------------------------------------- answers


def why_this_answer(model: Model, item: Any, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What in one value moved the answer to it, and the control: {label, values, places, likeness, tells, sentence}. Of a table its
    first row. Raises UsageError where the answers are no classes, or the network was not trained here.
    """
    _must_be_trained(model, "why")
    model = _here(model)
    feed, split, _ = _material(model, data, screen or Screen(quiet=True))
    x, context = _one(model, item)
    return _why(model, with_random_weights(model.network, feed, np.array(split.indices("train"))), x, context)


def _why(model: Model, control: Network, x: torch.Tensor, context: Context) -> dict[str, Any]:
    with torch.no_grad():
        values, after = model.network.eval()(x, context)
    answer, place = model.output.decode(values, after)[0], int(values[0].argmax())
    found = why(model.network, control, x, context, place)
    order = np.argsort(-np.abs(found.values), axis=None)[:PLACES]
    places = [([int(at) for at in np.unravel_index(index, found.values.shape)], float(found.values.reshape(-1)[index])) for index in order]
    told = {"label": answer.top[0][0], "likeness": found.likeness, "tells": found.tells, "sentence": found.sentence}
    return {**told, "probability": answer.top[0][1], "places": places, "values": np.round(found.values, 5).tolist()}


def _answers(model: Model, control: Network | None, feed: Feed, tested: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Why three answers to held-out examples: a sure one that is right, the least sure one, and the surest that is wrong."""
    if control is None or not isinstance(model.output, ClassesOutput) or not len(tested):
        return []
    some = tested[:ANSWERS_FROM]
    truths = [feed.targets[index] for index in some]
    x, context = feed.input.collate(feed.values.take(some))
    with torch.no_grad():
        values, _ = model.network.eval()(x, context)
    sure, told = torch.softmax(values.float(), 1).max(1)
    right = told == torch.tensor(truths)
    chosen = [("sure and right", int((sure * right).argmax())), ("least sure", int(sure.argmin()))]
    if not bool(right.all()):
        chosen.append(("sure and wrong", int((sure * ~right).argmax())))
    found = []
    for what, at in chosen:
        one = slice(at, at + 1)
        try:
            answer = _why(model, control, x[one], context.part(one))
        except UsageError:  # a network that moves in steps
            return []
        index = int(some[at])
        own = {"what": what, "truth": model.output.labels[truths[at]], "name": names[index], "picture": _shown(feed, index)}
        found.append({**answer, **own})
    return found


# ---------------------------------------------------------------- training


def step(model: Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """One training step of a copy of the model's network, on a batch of its training examples, layer by layer. Raises UsageError for a
    model whose layers were not trained here.
    """
    _must_be_trained(model, "step")
    model = _here(model)
    return _step(model, *_material(model, data, screen or Screen(quiet=True)))


def _step(model: Model, feed: Feed, split: Split, names: Sequence[str]) -> dict[str, Any]:
    plan = plan_of(model.card)
    learned = np.array(split.indices("train"))
    chosen = np.random.Generator(np.random.Philox(key=1)).permutation(learned)[: min(STEP_EXAMPLES, plan.batch)]
    size = max(2, plan.micro_batch_at("final", plan.total("final")))
    told = dataclasses.asdict(open_step(model, [feed.batch(chosen[start : start + size]) for start in range(0, len(chosen), size)], plan))
    for mistake in told["mistakes"]:
        index = int(chosen[mistake["place"]])
        mistake["name"], mistake["picture"] = names[index], _shown(feed, index)
    return {**told, "examples": len(chosen)}


def _replay(model: Model, feed: Feed, learned: np.ndarray, tested: np.ndarray, names: Sequence[str]) -> dict[str, Any] | None:
    """How it came about, where the snapshots of the training are there."""
    run = run_of(model.card)
    snapshots = snapshots_of(run / FOLDER, model.network) if run and model.card.get("way", "deep") == "deep" else []
    if len(snapshots) < 2:
        return None
    probed = isinstance(model.output, ClassesOutput)
    found = dataclasses.asdict(replay(model.network, snapshots, feed, learned[:REPLAYED], tested[:REPLAYED], probed))
    for frame in found["frames"]:
        frame["places"] = frame["places"][:MAPPED]
    if (example := found["example"]) is not None:
        truth = getattr(model.output, "labels", ())[feed.targets[example]]
        raw = raw_numbers(feed.input.collate(feed.values.take([example]))[0][0])
        found["shown"] = {"name": names[example], "truth": truth, "picture": _shown(feed, example), "raw": raw}
    return found


def film(model: Model, out: str | os.PathLike = "", data: Any = None, *, screen: Screen | None = None) -> Path:
    """The training as a film of about 75 seconds, an animated WebP (or MP4 by its suffix); default NAME.webp beside the model.

    Raises UsageError where the run folder with its snapshots is gone, ResourceError where an MP4 cannot be written.
    """
    path = Path(out) if out else Path(model.card["model"]).with_suffix(".webp")
    check_film(path)
    check_writable(path)
    run = run_of(model.card)
    found = layers(model, data, screen=screen)
    events = read_events(run / "events.jsonl") if run else []
    own = [event for event in events if event.get("leg") == "final"]
    losses = [(event.get("step", 0), event["loss"]) for event in own if event["event"] in ("before", "stepped")]
    return write_film(found, model.card, losses, path)


def doctor(target: str | os.PathLike | Model, data: Any = None, *, screen: Screen | None = None) -> dict[str, Any]:
    """What may be wrong with a training, a run folder's or a model's: {found: [{name, evidence, remedy}] of each fault that is seen,
    looked: how many checks could look}.

    Of an unfinished run the events alone are read. Raises UsageError where there is no run.
    """
    screen = screen or Screen(quiet=True)
    if isinstance(target, Model):
        model, run = target, run_of(target.card)
        if run is None:
            raise UsageError(
                sentence("The run folder of the model", "be there", model.card.get("run", "none"), "Name it: lamina doctor RUN.")
            )
    else:
        opened = open_run(os.fspath(target))
        run = opened.folder
        if not opened.finished:
            plan = opened.path("plan.json")
            return dataclasses.asdict(diagnose(gather(run, json.loads(plan.read_text("utf-8")) if plan.exists() else {})))
        model = load(run / "model.lamina")
    try:
        facts = json.loads((run / FACTS).read_text("utf-8", "surrogateescape"))
    except (OSError, ValueError) as error:
        raise DataError(sentence(f"The run folder {run}", f"hold {FACTS}", str(error), "Train anew.")) from error
    if model.card.get("way", "deep") != "deep":  # its network was not trained by steps
        return dataclasses.asdict(diagnose(gather(run, model.card["plan"])))
    model = _here(model)
    feed, split, _ = _material(model, data, screen)
    return dataclasses.asdict(diagnose(gather(run, model.card["plan"], facts, model.network, feed, split)))


# ---------------------------------------------------------------- what is looked at


def _here(model: Model) -> Model:
    """The model on the CPU, where its data are read; a copy when it lies on a GPU."""
    there = any(value.device.type != "cpu" for value in model.network.state_dict().values())
    return dataclasses.replace(model, network=copy.deepcopy(model.network).cpu()) if there else model


def _has_signals(model: Model) -> None:
    """Raises UsageError for a model of counts, whose layers have no signals of plain numbers."""
    if isinstance(model.network.stack[0], Same):
        raise UsageError(sentence("`layers`", "be asked of a network with signals", f"a model of counts ({model.network.stack[-1].kind})"))


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


def _material(model: Model, data: Any, screen: Screen) -> Material:
    """The examples as the model's own input reads them, the split of its training, their names; read again where they are not at hand."""
    if model.material is not None and data is None:
        return model.material
    settings, report, split = read_again(model, data, screen)
    torch.set_num_threads(cores(settings))
    input, task = model.input.single(), find_task(model.task)
    decoded = decode(report.examples.raws, [inspection.content for inspection in report.inspections], input, settings, screen)
    targets = [model.output.encode(answer) for answer in report.examples.answers]
    feed, names = Feed(decoded, targets, input, model.output, torch.device("cpu")), list(report.examples.names)
    if task.arrange is not None:
        arranged = task.arrange(Prepared(task, settings, report, split, feed, Run(Path(model.card["run"]))), Screen(quiet=True))
        feed, split, names = arranged.feed, arranged.split, list(arranged.examples.names)
    model.material = Material(feed, split, names)
    return model.material

"""Studies beside the main path: labels that may be wrong, and what more examples would bring."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.classical.curve import Curve, advice, fit_curve
from lamina.classical.suspects import find_suspects
from lamina.data.audit import Audit, show_audit, stop_if_bad
from lamina.data.examples import Examples
from lamina.data.files import write_json
from lamina.data.split import Split, divide, load_split
from lamina.errors import ResourceError, UsageError, sentence
from lamina.model import Model
from lamina.pipeline import train
from lamina.pipeline.preparation import audited, fitted_feed
from lamina.report import run_of, write_report
from lamina.report.page import CURVE, FACTS
from lamina.screen import Screen, duration, percent
from lamina.settings import Settings, cores, make_settings
from lamina.start import FEW, NOTHING
from lamina.tasks import find_task
from lamina.training.device import keep_memory

SUSPECTS_MINUTES = 2.0
CURVE_SHARES, CURVE_DRAWS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0), 2
"""Parts of the training examples for the learning curve, nested; so many times drawn anew."""
CURVE_LEAST = 12
"""Examples a class in the smallest part."""
CURVE_ONE_MINUTES = 0.25
"""For one training of the learning curve, at least."""
CURVE_TRAININGS = len(CURVE_SHARES) * CURVE_DRAWS
CURVE_LEAST_MINUTES = CURVE_TRAININGS * CURVE_ONE_MINUTES
CURVE_VERDICT = 0.2
"""--verdict-share of those trainings."""


def suspects(data: Any, *, screen: Screen | None = None, **settings: Any) -> list[dict[str, Any]]:
    """Examples whose label may be wrong, the likeliest first: {file, label, suggested, probability, probability_suggested}.

    --minutes (2) is the time for it after the audit. Raises DataError when there is nothing to judge.
    """
    chosen, screen = make_settings(settings), screen or Screen(quiet=True)
    torch.set_num_threads(cores(chosen))
    keep_memory()
    task = find_task(chosen.task)
    report, unfitted, task = audited(data, task, chosen, screen)
    if not task.labels:
        raise UsageError(sentence("Suspects", "be sought among labels", f"the task {task.name}", "Its report shows what is hardest."))
    show_audit(report, screen)
    stop_if_bad(report, chosen)
    examples = report.examples
    feed = fitted_feed(report, unfitted, task, chosen, range(len(examples)), screen)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(cores(chosen)):
        found = find_suspects(
            task.opponents(feed.input), feed, np.arange(len(examples)), 60 * (chosen.minutes or SUSPECTS_MINUTES), chosen.seed,
            task.search(feed.input),
        )  # fmt: skip
    return [{"file": examples.names[each.example], **dataclasses.asdict(each)} for each in found]


def curve_minutes(model: Model) -> float:
    """What a learning curve takes in which each training has as long an example as the model's own had; without end where none can be."""
    if not find_task(model.task).labels:
        return math.inf
    deep = model.verdict.contender("deep") if model.verdict else None
    own = (deep.seconds if deep else 0.0) / 60 / (1 - CURVE_VERDICT)
    return max(CURVE_LEAST_MINUTES, CURVE_DRAWS * sum(CURVE_SHARES) * own + CURVE_TRAININGS * CURVE_ONE_MINUTES / 2)


def learning_curve(model: Model, minutes: float, *, data: Any = None, screen: Screen | None = None) -> dict[str, Any]:
    """Train every family on nested parts of the training examples; what more examples should bring. Kept in the run folder as curve.json.

    `minutes` are for everything together. The test part only reports. Raises UsageError when they, or the examples, are too few.
    """
    screen = screen or Screen(quiet=True)
    begun = time.monotonic()
    if minutes < CURVE_LEAST_MINUTES:
        raise UsageError(sentence("--minutes", f"be at least {CURVE_LEAST_MINUTES:g} for {CURVE_TRAININGS} trainings", minutes))
    if not find_task(model.task).labels:
        raise UsageError(sentence("A learning curve", "be of a model that answers with labels", f"a model that does {model.task}"))
    settings, report, split = read_again(model, data, screen)
    pool, classes = split.indices("train"), len(report.examples.labels)
    sizes = sorted({max(CURVE_LEAST * classes, round(part * len(pool))) for part in CURVE_SHARES})
    if len(pool) < sizes[-1] or len(sizes) < 3:
        few = 2 * CURVE_LEAST * classes + 2
        raise UsageError(sentence("The training part", f"hold at least {few} examples for a learning curve", len(pool)))
    free = max(0.0, minutes - (time.monotonic() - begun) / 60 - len(sizes) * CURVE_DRAWS * CURVE_ONE_MINUTES)
    time_for = {size: CURVE_ONE_MINUTES + free * size / (sum(sizes) * CURVE_DRAWS) for size in sizes}
    points = measure_curve(report.examples, split, time_for, settings, screen, deadline=begun + 60 * minutes)
    if len({point["examples"] for point in points}) < 3:
        raise UsageError(sentence("--minutes", "leave time for trainings with three numbers of examples", minutes, "Give more."))
    result = {"points": points, **_told_by(points, model)}
    if run := run_of(model.card):
        write_json(run / CURVE, result)
        write_report(run, model.card, run / "report.html")
    return result


def read_again(model: Model, data: Any, screen: Screen) -> tuple[Settings, Audit, Split]:
    """(settings of the trainings of a curve, the model's own examples, its own split)."""
    card, run = model.card, Path(model.card["run"])
    aside = {"minutes": None, "epochs": None, "use": "deep", "seeds": 1, "verdict_share": CURVE_VERDICT}
    read_as = make_settings({**card["settings"], **aside})
    source = data if data is not None else card["data"]["path"] or card["data"]["source"]
    if isinstance(source, str) and source in ("", "(values in memory)"):
        raise UsageError(sentence("The data of this model", "be given again", "values in memory are not stored", "Give them with --data."))
    task = find_task(model.task)
    report, _, _ = audited(source, task, read_as, screen)
    kept = run / "split.json"
    split = divide(report, load_split(kept) if kept.exists() else None)
    start = read_as.start_from or (NOTHING if len(split.indices("train")) > FEW else "")  # few examples of many begin as the many did
    return replace(read_as, split="", labels="", group="", start_from=start), report, split


def measure_curve(
    examples: Examples,
    split: Split,
    time_for: dict[int, float],
    settings: Settings,
    screen: Screen,
    draws: int = CURVE_DRAWS,
    deadline: float = math.inf,
) -> list[dict[str, Any]]:
    """Trainings on nested parts of the training part, {examples: minutes for one}, each `draws` times with other examples, as far as
    half its time is left before the `deadline` (on time.monotonic()).

    Each point is {examples, tested, scores, seconds, fitted_on (by kind of contender), errors (of deep, by class; share of the test part)}.
    """
    beside = [index for part in ("validation", "test") for index in split.indices(part)]
    pool = np.array(split.indices("train"))
    points: list[dict[str, Any]] = []
    for draw in range(draws):
        order = _in_turns(np.random.Generator(np.random.Philox(key=draw)).permutation(pool), examples.answers)
        for size, minutes in sorted(time_for.items()):
            left = (deadline - time.monotonic()) / 60
            if left < minutes / 2:
                continue
            learned = order[:size].tolist()
            parts = ["train"] * len(learned) + [split.parts[index] for index in beside] if beside else [""] * len(learned)
            some = replace(examples.take([*learned, *beside]), parts=parts, notes=(), findings=())
            with tempfile.TemporaryDirectory() as place:
                own: dict[str, Any] = {
                    **dataclasses.asdict(settings),
                    "minutes": min(minutes, left),
                    "seed": draw,
                    "cache": str(Path(place) / "cache"),
                }
                try:
                    trained = train(some, out=Path(place) / "m.lamina", runs=Path(place) / "runs", **own)
                except ResourceError as error:
                    screen.warn(f"{size:,} examples: left out. {error}")
                    continue
                if trained.verdict is None:  # the opponents could not be fitted, which was said
                    continue
                points.append(_point(trained, size))
            told = ", ".join(f"{kind} {percent(score)} %" for kind, score in points[-1]["scores"].items() if kind != "trivial")
            screen.say(f"            {size:,} examples: {told}")
    return points


def _point(trained: Model, size: int) -> dict[str, Any]:
    """What one training of a curve came to; its run folder is still there."""
    facts = json.loads((Path(trained.card["run"]) / FACTS).read_text("utf-8", "surrogateescape"))
    wrong = Counter(truth for truth, label in zip(facts["truths"], facts["labels"], strict=True) if truth != label)
    contenders = trained.verdict.contenders if trained.verdict else ()
    return {
        "examples": size,
        "tested": len(facts["truths"]),
        "scores": {each.kind: each.score.value for each in contenders},
        "seconds": {each.kind: each.seconds for each in contenders},
        "fitted_on": {each.kind: each.fitted_on or size for each in contenders},
        "errors": {label: count / len(facts["truths"]) for label, count in wrong.items()},
    }


def curve_of(points: Sequence[dict[str, Any]], kind: str) -> Curve | None:
    """The curve of one kind of contender, fitted to what each learned from (fewer than the examples, where its time did not suffice); None
    where that is fewer than three different numbers."""
    own = [point for point in points if kind in point["scores"]]
    examples = [point["fitted_on"][kind] for point in own]
    if len(set(examples)) < 3:
        return None
    return fit_curve(examples, [1 - point["scores"][kind] for point in own], [point["tested"] for point in own])


def _told_by(points: Sequence[dict[str, Any]], model: Model) -> dict[str, Any]:
    """{advice: a sentence by kind, needed: examples at which each kind is as good as the other, doubt: why not to believe them}."""
    curves = {kind: curve for kind in ("deep", "classical", "borrowed") if (curve := curve_of(points, kind)) is not None}
    told: dict[str, Any] = {"advice": {kind: advice(curve, _wanting(points)) for kind, curve in curves.items()}, "needed": {}, "doubt": ""}
    most = max(point["examples"] for point in points)
    last = [point for point in points if point["examples"] == most]
    own = model.verdict.contender("deep") if model.verdict else None
    if own and float(np.mean([point["scores"]["deep"] for point in last])) < own.score.low:
        took = float(np.mean([point["seconds"]["deep"] for point in last]))
        told["doubt"] = (
            f"The network learned for {duration(took)} here and for {duration(own.seconds)} in its own training, where it was better: "
            f"its curve is that of less training. {curve_minutes(model):.0f} minutes would do."
        )
        return told
    for kind, other in (("deep", "classical"), ("classical", "deep")):
        if kind in curves and other in curves:
            told["needed"][kind] = curves[kind].examples_for(curves[other].errors(most))
    return told


def _wanting(points: Sequence[dict[str, Any]]) -> str:
    """The class whose errors fell most from the last size but one to the last: more of it should bring most."""
    *_, fewer, most = sorted({point["examples"] for point in points})

    def errors(size: int) -> Counter[str]:
        total: Counter[str] = Counter()
        for point in points:
            if point["examples"] == size:
                total.update(point["errors"])
        return total

    before, now = errors(fewer), errors(most)
    return max(before | now, key=lambda label: (before[label] - now[label], now[label]), default="any")


def _in_turns(order: np.ndarray, answers: Sequence[str]) -> np.ndarray:
    """The same examples so that every beginning holds each class as often as the whole does, nearly."""
    seen: Counter[str] = Counter()
    total = Counter(answers[index] for index in order)
    places = []
    for index in order:
        label = answers[index]
        places.append((seen[label] + 0.5) / total[label] if seen[label] else -1.0)  # one of each class stands in front
        seen[label] += 1
    return order[np.argsort(places, kind="stable")]

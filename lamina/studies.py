"""Studies beside the main path: labels that may be wrong, and what more examples would bring."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.classical.curve import advice, fit_curve
from lamina.classical.suspects import find_suspects
from lamina.data.audit import audit, show_audit, stop_if_bad
from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.files import write_json
from lamina.data.split import divide, load_split
from lamina.errors import UsageError, sentence
from lamina.model import Model
from lamina.pipeline import read_for, train
from lamina.report.page import CURVE, FACTS, write_report
from lamina.screen import Screen, percent
from lamina.settings import cores, make_settings
from lamina.tasks import find_task
from lamina.training.device import keep_memory

SUSPECTS_MINUTES = 2.0
CURVE_SHARES, CURVE_DRAWS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0), 2
"""Parts of the training examples for the learning curve, nested; so many times drawn anew."""
CURVE_LEAST = 12
"""Examples a class in the smallest part."""
CURVE_LEAST_MINUTES = 0.25
"""For one training of the learning curve."""


def suspects(data: Any, *, screen: Screen | None = None, **settings: Any) -> list[dict[str, Any]]:
    """Examples whose label may be wrong, the likeliest first: {file, label, suggested, probability, probability_suggested}.

    --minutes (2) is the time for it after the audit. Raises DataError when there is nothing to judge.
    """
    chosen, screen = make_settings(settings), screen or Screen(quiet=True)
    torch.set_num_threads(cores(chosen))
    keep_memory()
    task = find_task(chosen.task)
    report = audit(*(read := read_for(data, task, chosen)), chosen, screen)
    unfitted = read[1]
    show_audit(report, screen)
    stop_if_bad(report, chosen)
    examples = report.examples
    input, output = unfitted.fit(examples.raws, report.inspections), task.output(chosen).fit(examples.answers)
    decoded = decode(examples.raws, [inspection.content for inspection in report.inspections], input, chosen, screen)
    feed = Feed(decoded, [output.encode(answer) for answer in examples.answers], input, output, torch.device("cpu"))
    from threadpoolctl import threadpool_limits

    with threadpool_limits(cores(chosen)):
        found = find_suspects(task.opponents(input), feed, np.arange(len(examples)), 60 * (chosen.minutes or SUSPECTS_MINUTES), chosen.seed)
    return [{"file": examples.names[each.example], **dataclasses.asdict(each)} for each in found]


def learning_curve(model: Model, minutes: float, *, data: Any = None, screen: Screen | None = None) -> dict[str, Any]:
    """Train both families on nested parts of the training examples; what more examples should bring. Kept in the run folder as curve.json.

    `minutes` are for all trainings together. The test part only reports. Raises UsageError when they are too few.
    """
    screen, card, share = screen or Screen(quiet=True), model.card, sum(CURVE_SHARES) * CURVE_DRAWS
    trainings = len(CURVE_SHARES) * CURVE_DRAWS
    if minutes < trainings * CURVE_LEAST_MINUTES:
        raise UsageError(sentence("--minutes", f"be at least {trainings * CURVE_LEAST_MINUTES:g} for {trainings} trainings", minutes))
    aside = {"minutes": None, "epochs": None, "split": "", "labels": "", "group": "", "use": "deep", "verdict_share": 0.2}
    asked = {**card["settings"], **aside}
    read_as = make_settings({**card["settings"], "minutes": None, "epochs": None, "verdict_share": 0.2})
    source = data if data is not None else card["data"]["path"] or card["data"]["source"]
    if isinstance(source, str) and source in ("", "(values in memory)"):
        raise UsageError(sentence("The data of this model", "be given again", "values in memory are not stored", "Give them with --data."))
    report = audit(*read_for(source, find_task(model.task), read_as), read_as, screen)
    run = Path(card["run"])
    kept = run / "split.json"
    split = divide(report, load_split(kept) if kept.exists() else None)
    pool = np.array(split.indices("train"))
    sizes = {max(CURVE_LEAST * len(report.examples.labels), round(part * len(pool))) for part in CURVE_SHARES}
    if len({size for size in sizes if size <= len(pool)}) < 3:
        few = 8 * CURVE_LEAST * len(report.examples.labels)
        raise UsageError(sentence("The training part", f"hold at least {few} examples for a learning curve", len(pool)))
    beside = [index for part in ("validation", "test") for index in split.indices(part)]
    points: list[dict[str, Any]] = []
    for draw in range(CURVE_DRAWS):
        order = _in_turns(np.random.Generator(np.random.Philox(key=draw)).permutation(pool), report.examples.answers)
        for part in CURVE_SHARES:
            learned = order[: max(CURVE_LEAST * len(report.examples.labels), round(part * len(order)))].tolist()
            some = report.examples.take([*learned, *beside])
            parts = ["train"] * len(learned) + [split.parts[index] for index in beside] if beside else [""] * len(learned)
            time_for = CURVE_LEAST_MINUTES + (minutes - trainings * CURVE_LEAST_MINUTES) * part / share
            own: dict[str, Any] = {**asked, "minutes": time_for, "seed": draw}
            with tempfile.TemporaryDirectory() as place:
                own["cache"] = str(Path(place) / "cache")
                trained = train(replace(some, parts=parts, notes=()), out=Path(place) / "m.lamina", runs=Path(place) / "runs", **own)
            found = trained.verdict
            assert found is not None
            scores = {each.kind: each.score.value for each in found.contenders}
            seconds = {each.kind: each.seconds for each in found.contenders}
            points.append({"examples": len(learned), "tested": found.contenders[0].score.n, "scores": scores, "seconds": seconds})
            screen.say(
                f"            {len(learned):,} examples: deep {percent(scores['deep'])} %, classical {percent(scores['classical'])} %"
            )
    facts = json.loads((run / FACTS).read_text("utf-8", "surrogateescape")) if (run / FACTS).exists() else None
    wrong = Counter(t for t, label in zip(facts["truths"], facts["labels"], strict=True) if t != label) if facts else Counter()
    weakest = wrong.most_common(1)[0][0] if wrong else report.examples.labels[0]
    told = {}
    for kind in ("deep", "classical"):
        errors = [1 - point["scores"][kind] for point in points]
        curve = fit_curve([point["examples"] for point in points], errors, [point["tested"] for point in points])
        told[kind] = advice(curve, weakest)
    result = {"points": points, "advice": told}
    if (run / FACTS).exists():
        write_json(run / CURVE, result)
        write_report(run, card, run / "report.html")
    return result


def _in_turns(order: np.ndarray, answers: Sequence[str]) -> np.ndarray:
    """The same examples so that every beginning holds each class as often as the whole does, nearly."""
    seen: Counter[str] = Counter()
    total = Counter(answers[index] for index in order)
    places = []
    for index in order:
        label = answers[index]
        places.append((seen[label] + 0.5) / total[label])
        seen[label] += 1
    return order[np.argsort(places, kind="stable")]

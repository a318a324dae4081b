"""What is kept of a training: the model's card, the facts for the report, the files in the run folder."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

import torch

from lamina.classical.verdict import Verdict
from lamina.data.files import write_json
from lamina.model import Model
from lamina.pipeline.learning import Learned
from lamina.pipeline.preparation import Prepared
from lamina.report.card import write_card
from lamina.report.page import FACTS, write_report
from lamina.training.plan import Plan
from lamina.training.run import FINISHED

MISTAKES_SHOWN = 24


def record(
    prepared: Prepared, plan: Plan, learned: Learned, verdict: Verdict | None, others: list[Any], out: Path, seconds: float
) -> Model:
    """Save the model, its card and the report; `others` are the answers of the other way to the test examples."""
    run, model = prepared.run, learned.model
    card = {"model": str(out), **make_card(prepared, plan, learned, verdict, seconds)}
    model.card = card
    model.save(run.path("model.lamina"))
    model.save(out)
    write_json(run.path(FACTS), report_facts(prepared, learned, others), indent=None)
    write_card(card, run.path("card.md"))
    write_report(run.folder, card, run.path("report.html"))
    write_json(run.path(FINISHED), card)
    return model


def report_facts(prepared: Prepared, learned: Learned, other: list[Any]) -> dict[str, Any]:
    """What the report says of single test examples: all answers, and the most confident mistakes with their pictures."""
    examples, feed = prepared.report.examples, prepared.feed
    labels = [answer.top[0][0] for answer in learned.answers]
    others = [answer.top[0][0] for answer in other]
    truths = [examples.answers[index] for index in learned.test]
    wrong = [place for place, (truth, label) in enumerate(zip(truths, labels, strict=True)) if truth != label]
    wrong.sort(key=lambda place: -learned.answers[place].probability)
    shown = []
    for place in wrong[:MISTAKES_SHOWN]:
        value = feed.values.take([learned.test[place]])[0]
        picture = feed.input.shown(value.cpu().numpy() if isinstance(value, torch.Tensor) else value)
        shown.append({
            "name": examples.names[learned.test[place]], "truth": truths[place], "label": labels[place],
            "probability": learned.answers[place].probability, "other": others[place] if others else "", "picture": picture,
        })  # fmt: skip
    return {
        "names": [examples.names[index] for index in learned.test], "truths": truths, "labels": labels,
        "probabilities": [answer.probability for answer in learned.answers], "others": others,
        "other": "classical" if learned.way == "deep" else "deep", "shown": shown,
    }  # fmt: skip


def make_card(prepared: Prepared, plan: Plan, learned: Learned, verdict: Verdict | None, seconds: float) -> dict[str, Any]:
    """The facts of this training, as they stand in the model file."""
    report, split = prepared.report, prepared.split
    counts = {part: len(split.indices(part)) for part in ("train", "validation", "test")}
    if split.folds is not None:
        counts["test"] = len(split.parts)
    source = report.examples.source
    return {
        "classes": sorted(set(report.examples.answers)),
        "examples": counts,
        "cross_fitted": split.folds is not None,
        "excluded": len(report.excluded),
        "left_out_of_training": split.left_out,
        "seconds": round(seconds, 2),
        "way": learned.way,
        "input": learned.model.input.kind,
        "score": dataclasses.asdict(learned.score),
        "facts": learned.facts,
        "verdict": verdict.state() if verdict else None,
        "data": {
            "source": source,
            "path": os.path.abspath(source) if os.path.exists(source) else source,
            "content_hash": report.content_hash,
        },
        "settings": dataclasses.asdict(prepared.settings),
        "plan": {**dataclasses.asdict(plan), "path": ""},
        "run": str(prepared.run.folder),
        "versions": {"lamina": version(), "torch": torch.__version__, "python": platform.python_version()},
    }


def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("lamina")
    except PackageNotFoundError:
        return "not installed"

"""What is kept of a training: the model's card, the facts for the report, the files in the run folder."""

from __future__ import annotations

import dataclasses
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.classical.verdict import Verdict
from lamina.data.batches import Feed
from lamina.data.files import write_json
from lamina.data.split import Split
from lamina.explain import CHECKS, Evidence, Examination, diagnose
from lamina.model import Material, Model
from lamina.networks import Network
from lamina.pipeline.learning import Learned
from lamina.pipeline.preparation import Prepared
from lamina.report.card import write_card
from lamina.report.page import FACTS, write_report
from lamina.screen import Screen
from lamina.training.events import read_events
from lamina.training.plan import Plan
from lamina.training.run import FINISHED
from lamina.training.snapshots import FOLDER, snapshots_of

MISTAKES_SHOWN = 24


def record(
    prepared: Prepared,
    plan: Plan,
    learned: Learned,
    verdict: Verdict | None,
    others: list[Any],
    examination: Examination,
    out: Path,
    seconds: float,
) -> Model:
    """Save the model, its card and the report; `others` are the answers of the other way to the test examples."""
    run, model = prepared.run, learned.model
    card = {"model": str(out), **make_card(prepared, plan, learned, verdict, seconds)}
    card["doctor"] = dataclasses.asdict(examination)
    model.card = card
    model.material = Material(
        replace(prepared.feed, values=prepared.feed.values.here(), input=model.input.single(), device=torch.device("cpu")),
        prepared.split,
        prepared.examples.names,
    )
    model.save(run.path("model.lamina"))
    model.save(out)
    write_json(run.path(FACTS), prepared.task.facts(prepared, learned, others, MISTAKES_SHOWN), indent=None)
    write_card(card, run.path("card.md"))
    write_report(run.folder, card, run.path("report.html"))
    write_json(run.path(FINISHED), card)
    return model


def examine(prepared: Prepared, plan: Plan, learned: Learned, screen: Screen) -> Examination:
    """What the doctor says of the training, told."""
    facts = prepared.task.facts(prepared, learned, [], 0)
    found = diagnose(gather(prepared.run.folder, dataclasses.asdict(plan), facts, learned.model.network, prepared.feed, prepared.split))
    for each in found.found:
        screen.warn(f"Doctor: {each.name}. {each.evidence[0].upper()}{each.evidence[1:]}. {each.remedy}")
    if not found.found:
        screen.say(f"Doctor      nothing wrong found; {found.looked} of {len(CHECKS)} checks could look")
    return found


def gather(
    run: Path,
    plan: dict[str, Any],
    facts: dict[str, Any] | None = None,
    network: Network | None = None,
    feed: Feed | None = None,
    split: Split | None = None,
) -> Evidence:
    """What the doctor looks at, of a run folder and of what else is at hand; `facts` as report.json has them."""
    events, folder = read_events(run / "events.jsonl"), run / FOLDER
    seen = Evidence(events, plan)
    if facts is not None and "truths" in facts:
        seen = replace(seen, truths=facts["truths"], labels=facts["labels"], probabilities=facts["probabilities"])
    if facts is not None and "spoken" in facts:
        seen = replace(seen, texts=facts["texts"], spoken=facts["spoken"])
    if network is None or feed is None or split is None:
        return seen
    tested = split.indices("test") if split.folds is None else []
    learned, others = np.array(split.indices("train")), np.array(tested, np.int64)
    return replace(seen, network=network, feed=replace(feed, device=torch.device("cpu")), learned=learned, tested=others,
                   snapshots=snapshots_of(folder, network))  # fmt: skip


def make_card(prepared: Prepared, plan: Plan, learned: Learned, verdict: Verdict | None, seconds: float) -> dict[str, Any]:
    """The facts of this training, as they stand in the model file."""
    report, split = prepared.report, prepared.split
    counts = {part: len(split.indices(part)) for part in ("train", "validation", "test")}
    if split.folds is not None:
        counts["test"] = len(split.parts)
    source = report.examples.source
    return {
        "classes": report.examples.labels if prepared.task.labels else [],
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

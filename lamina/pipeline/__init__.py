"""THE main path on one screen: read, audit, split, fit, oppose, plan, forecast, train, calibrate, judge, examine, save, report."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamina.data.files import check_writable, locked
from lamina.errors import DataError, Interrupted, UsageError, sentence
from lamina.model import Model, load
from lamina.pipeline.learning import learn, planned
from lamina.pipeline.opponents import judged, oppose
from lamina.pipeline.preparation import audit_data, prepare, read_for
from lamina.pipeline.records import examine, record, version
from lamina.screen import Screen
from lamina.settings import Settings, make_settings
from lamina.start import NOTHING, find_start
from lamina.tasks import find_task
from lamina.training.run import Run, new_run, open_run
from lamina.training.tensorboard import check_tensorboard

__all__ = ["audit_data", "read_for", "resume", "train", "version"]

TAIL_SECONDS = 8.0
"""Kept back from --minutes for the verdict's sentence, the doctor, saving and the report."""


def train(
    data: Any,
    *,
    out: str | os.PathLike = "",
    runs: str | os.PathLike = "runs",
    screen: Screen | None = None,
    begun: float | None = None,
    watch: Callable[[Path], None] | None = None,
    **settings: Any,
) -> Model:
    """Raw data in, a trained, checked, saved Model out. `settings` are the fields of Settings; `begun` (time.monotonic()) starts --minutes;
    `watch` is told the run folder before the data are read.

    Raises the errors of lamina.errors.
    """
    begun = time.monotonic() if begun is None else begun
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            sentence(
                "`lamina train`",
                "run as one process in this release",
                os.environ["WORLD_SIZE"] + " processes",
                "The loop itself takes several (tests/test_distributed.py); the whole command does not yet.",
            )
        )
    chosen = make_settings(settings)
    find_task(chosen.task)
    if chosen.start_from not in ("", NOTHING):
        find_start(chosen.start_from)  # a name that does not exist is said before the audit
    if chosen.tensorboard:
        check_tensorboard()
    source = os.fspath(data) if isinstance(data, (str, os.PathLike)) else ""
    name = re.sub(r"[^\w.-]+", "-", Path(source.removeprefix("sample:")).expanduser().resolve().stem if source else "model") or "model"
    out = Path(out) if out else Path(f"{name}.lamina")
    if out.suffix != ".lamina":
        raise UsageError(sentence("--out", "end in .lamina", str(out)))
    check_writable(out)
    run = new_run(Path(runs), name, chosen, source, out)
    if watch is not None:
        watch(run.folder)
    try:
        return _run(data, run, chosen, out, screen or Screen(quiet=True), begun)
    except (DataError, UsageError):
        if not run.path("audit.json").exists():  # nothing was seen yet: leave no empty run behind
            shutil.rmtree(run.folder, ignore_errors=True)
        raise


def resume(run: str | os.PathLike, *, data: Any = None, screen: Screen | None = None) -> Model:
    """Go on with a run that was interrupted or killed, to the same bits. `data` only when they were values in memory, or moved."""
    screen = screen or Screen(quiet=True)
    opened = open_run(os.fspath(run))
    asked = opened.request()
    if opened.finished:
        screen.say(f"{opened.folder} is finished; its model is {opened.path('model.lamina')}.")
        return load(opened.path("model.lamina"))
    source = data if data is not None else asked["source"]
    if not isinstance(source, (str, os.PathLike)) or source:
        # the plan stands: the clock, which would bend it, is left alone
        return _run(source, opened, opened.settings(), Path(asked["out"]), screen, None)
    raise UsageError(
        sentence("The data of this run", "be given again", "values in memory are not stored", "Call lamina.resume(run, data=...).")
    )


def _run(data: Any, run: Run, settings: Settings, out: Path, screen: Screen, begun: float | None) -> Model:
    start = time.monotonic() if begun is None else begun
    unplanned = begun is not None or not run.path("plan.json").exists()
    deadline = start + 60 * settings.minutes - TAIL_SECONDS if settings.minutes is not None and unplanned else None
    with locked(run.path("run"), wait=False):
        try:
            prepared = prepare(data, run, settings, screen)
            opposed = oppose(prepared, screen)
            plan = planned(prepared, deadline, screen)
            learned = learn(prepared, plan, deadline, screen)
            verdict, saved, others = judged(prepared, plan, learned, opposed, screen)
        except (Interrupted, KeyboardInterrupt) as error:
            told = str(error) or "Stopped."
            raise Interrupted(f"{told} Nothing is lost. To go on: lamina resume {run.folder}") from error
        examination = examine(prepared, plan, learned, screen)
        model = record(prepared, plan, saved, verdict, others, examination, out, time.monotonic() - start)
    screen.say(f"Saved       {out}, run folder {run.folder}")
    screen.say(f"Report      {run.path('report.html')}")
    return model

"""Before the first step: read, audit, split, fit the input and the output, decode once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.data.audit import Audit, audit, show_audit, stop_if_bad
from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.examples import Examples
from lamina.data.files import write_json
from lamina.data.split import Split, divide, load_split, save_split
from lamina.errors import DataError, sentence
from lamina.inputs import Input
from lamina.screen import Screen, percent
from lamina.settings import Settings, cores, make_settings
from lamina.start import choose_start
from lamina.task import Task
from lamina.tasks import find_task
from lamina.training.device import choose_device, keep_memory, settle
from lamina.training.run import Run

RESIDENT = 0.4
"""Decoded data move to a device when they take at most this share of its free memory."""


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first step."""

    task: Task
    settings: Settings
    report: Audit
    split: Split
    feed: Feed
    run: Run
    arranged: Examples | None = None
    """What the task made of the usable examples, such as windows of long texts; None: they are as they were read."""

    @property
    def examples(self) -> Examples:
        """What training, answers and report count as one example each; the split and the feed are of these."""
        return self.report.examples if self.arranged is None else self.arranged


def prepare(data: Any, run: Run, settings: Settings, screen: Screen) -> Prepared:
    """Read, audit, split, fit the input and the output, decode once."""
    torch.set_num_threads(cores(settings))
    keep_memory()
    task = find_task(settings.task)
    device = choose_device(settings)
    settle(device.device)
    screen.say(f"Device      {device.line}")
    report, unfitted, task = audited(data, task, settings, screen)
    write_json(run.path("audit.json"), report.summary())
    show_audit(report, screen)
    stop_if_bad(report, settings)
    split = _split(report, run, task, settings)
    screen.say(f"Split       {_describe_split(split)}")
    for note in split.notes:
        screen.say("            " + note)
    learned = [i for i, part in enumerate(split.parts) if part == "train"]
    input = unfitted.fit([report.examples.raws[i] for i in learned], [report.inspections[i] for i in learned])
    if said := input.decided():
        screen.say(f"Input       {said}")
    start = choose_start(settings, input, len(learned), screen)
    if start:
        start = start.low_rank(settings, screen)
        input, task = start.fit_input(input, settings.context), start.task(task)
    output = task.output(settings).fit([report.examples.answers[i] for i in learned])
    if said := output.decided():
        screen.say(f"Answers     {said}")
    decoded = decode(report.examples.raws, [inspection.content for inspection in report.inspections], input, settings, screen)
    if device.device.type == "cuda":
        decoded.keep_on(device.device, RESIDENT * torch.cuda.mem_get_info(device.device)[0])
    feed = Feed(decoded, [output.encode(answer) for answer in report.examples.answers], input, output, device.device)
    if start and not run.path("plan.json").exists() and (expected := start.expect(task, feed, np.array(learned))):
        screen.say(
            f"            as they are, with a linear head, its layers should reach about {percent(expected[0])} % "
            f"(5-fold on {expected[1]} training examples); training goes on from there"
        )
    prepared = Prepared(task, settings, report, split, feed, run)
    return prepared if task.arrange is None else task.arrange(prepared, screen)


def fitted_feed(report: Audit, unfitted: Input, task: Task, settings: Settings, learned: Sequence[int], screen: Screen) -> Feed:
    """All examples as an input and an output fitted on the `learned` ones read them, on the CPU; no running start."""
    examples = report.examples
    input = unfitted.fit([examples.raws[i] for i in learned], [report.inspections[i] for i in learned])
    output = task.output(settings).fit([examples.answers[i] for i in learned])
    decoded = decode(examples.raws, [inspection.content for inspection in report.inspections], input, settings, screen)
    return Feed(decoded, [output.encode(answer) for answer in examples.answers], input, output, torch.device("cpu"))


def audit_data(data: Any, *, screen: Screen | None = None, **settings: Any) -> Audit:
    """The audit alone: decode every example and say what is wrong. Raises DataError when there is nothing to audit."""
    chosen = make_settings(settings)
    return audited(data, find_task(chosen.task), chosen, screen or Screen(quiet=True))[0]


def audited(data: Any, task: Task, settings: Settings, screen: Screen) -> tuple[Audit, Input, Task]:
    """(the audit of the examples, the unfitted input that inspected them, the task that they ask for)."""
    examples, unfitted = read_for(data, task, settings)
    if settings.task == "auto" and task.turned is not None and (other := task.turned(examples)) is not None:
        screen.say(f"Answers     are numbers; --as {task.name} would take each for a class of its own")
        task = other
    screen.say(f"Task        {task.name}: {task.question} ({len(examples)} {unfitted.plural} {task.beside}".rstrip() + ")")
    unfitted = unfitted.look(examples.raws)
    return audit(examples, unfitted, settings, screen, task.answers), unfitted, task


def read_for(data: Any, task: Task, settings: Settings) -> tuple[Examples, Input]:
    """(the examples, the unfitted input that reads them)."""
    inputs = [task.input(settings, sense) for sense in task.senses]
    examples = task.read(data, settings, inputs)
    return examples, task.input(settings, examples.sense or task.senses[0])


def _split(report: Audit, run: Run, task: Task, settings: Settings) -> Split:
    """The run's own saved split, the one that the settings name, or a new one; written down in each case."""
    own = run.path("split.json")
    saved = load_split(own) if own.exists() else load_split(Path(settings.split)) if settings.split else None
    if own.exists() and saved is not None and saved.get("content_hash") != report.content_hash:
        raise DataError(
            sentence(
                f"The data of {run.folder}",
                "be what they were when the run began",
                "other content",
                "Put them back, or train anew with --split " + str(own) + ".",
            )
        )
    split = divide(report, saved)
    if not own.exists():
        write_json(own, save_split(split, report))
    return split


def _describe_split(split: Split) -> str:
    if split.folds is not None:
        return f"{len(split.parts)} examples in {max(split.folds) + 1} folds"
    counts = ", ".join(f"{len(split.indices(part))} {part}" for part in ("train", "validation", "test"))
    return counts + (f"; {split.left_out} copies of held-out examples left out" if split.left_out else "")

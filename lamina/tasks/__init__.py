"""One thin folder per task; task.py names every part."""

from __future__ import annotations

from lamina.errors import UsageError, did_you_mean, sentence
from lamina.task import Task
from lamina.tasks.language.task import LANGUAGE
from lamina.tasks.recognize.task import NUMBER, RECOGNIZE
from lamina.tasks.recommend.task import RECOMMEND
from lamina.tasks.transcribe.task import TRANSCRIBE
from lamina.tasks.verify.task import VERIFY

TASKS = {task.name: task for task in (RECOGNIZE, NUMBER, VERIFY, TRANSCRIBE, RECOMMEND, LANGUAGE)}


def find_task(name: str) -> Task:
    """The task of that name; "auto" is recognize, for labels are what data with answers have. Raises UsageError."""
    if name == "auto":
        return RECOGNIZE
    if name not in TASKS:
        raise UsageError(sentence("The task (--as)", "be one of auto, " + ", ".join(TASKS), name, did_you_mean(name, TASKS)))
    return TASKS[name]

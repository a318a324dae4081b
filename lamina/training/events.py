"""Events: all that training tells the world. Screen, history, doctor and replay only read them (events.jsonl in the run folder)."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Event:
    pass


@dataclass(frozen=True)
class Started(Event):
    """A leg begins (or goes on) at `step` of `steps`."""

    leg: str
    step: int
    steps: int


@dataclass(frozen=True)
class Before(Event):
    """The untrained network beside a guess that knows only how frequent each answer is."""

    leg: str
    score: float | None
    loss: float
    clueless_score: float | None
    clueless_loss: float | None


@dataclass(frozen=True)
class Stepped(Event):
    """Told a few times a second, not for every step."""

    leg: str
    step: int
    loss: float
    rate: float
    examples_per_second: float
    waited: float
    """Share of the time that the loop waited for data."""


@dataclass(frozen=True)
class Checked(Event):
    leg: str
    step: int
    loss: float
    score: float | None
    best: bool


@dataclass(frozen=True)
class Revised(Event):
    leg: str
    step: int
    kind: str
    value: float
    why: str


@dataclass(frozen=True)
class Decided(Event):
    """Whether the augmentation that does not suit all data is used from `step` on: the score without and with it tells."""

    leg: str
    step: int
    used: bool
    score: float
    disguised: float


@dataclass(frozen=True)
class Paused(Event):
    """Somebody asked to wait: told when it begins (0 seconds) and when it goes on."""

    leg: str
    step: int
    seconds: float


@dataclass(frozen=True)
class Saved(Event):
    leg: str
    step: int


@dataclass(frozen=True)
class Finished(Event):
    leg: str
    step: int
    seconds: float
    waited: float
    """Share of the time that the loop waited for data."""
    snapshots: float = 0.0
    """Seconds that snapshots took."""


Tell = Callable[[Event], None]


class EventFile:
    """Appends each event as one JSON line."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None and path.exists() and not path.read_bytes().endswith(b"\n"):
            with open(path, "ab") as file:  # a killed run left half a line
                file.write(b"\n")

    def __call__(self, event: Event) -> None:
        if self.path is not None:
            line = {"event": type(event).__name__.lower(), "time": round(time.time(), 3), **dataclasses.asdict(event)}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + os.linesep)


def read_events(path: Path) -> list[dict]:
    """All whole events of a run."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found

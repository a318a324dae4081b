"""A run folder as somebody sees it who watches: its files are read, and what is asked for is written into its control file."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from lamina.errors import DataError
from lamina.screen import Screen
from lamina.serve import listening
from lamina.training.control import LIVE, ask
from lamina.training.run import open_run

SECONDS_BETWEEN_LOOKS = 0.4
SHOWN = ("task", "size", "steps", "batch", "precision", "legs", "forecast", "revisions")
"""Of the plan."""
PARENT = "LAMINA_SOCKET"
"""The number of the socket that a server is to listen at, which is to end when whoever started it does."""


class Watched:
    """One training, under way or over."""

    def __init__(self, folder: str | os.PathLike) -> None:
        """Raises UsageError where it is no run folder."""
        self.run = open_run(os.fspath(folder))
        self.name = self.run.folder.resolve().name
        self.closing = False
        """Whether the server ends: who listens to events is let go."""

    @property
    def finished(self) -> bool:
        return self.run.finished

    @property
    def model(self) -> Path:
        """Its model, once it is finished."""
        return self.run.path("model.lamina")

    def state(self) -> dict[str, Any]:
        """What does not change with every step: {name, task, minutes, finished, plan, layers, labels, looks}."""
        asked = self.run.request()["settings"]
        plan, network = self._json("plan.json"), self._json(f"{LIVE}/network.json")
        return {
            "name": self.name,
            "task": str(plan.get("task", asked.get("task", ""))),
            "minutes": asked.get("minutes"),
            "finished": self.finished,
            "plan": {name: plan[name] for name in SHOWN if name in plan},
            "layers": network.get("layers", []),
            "labels": network.get("labels", []),
            "looks": len(list(self.run.path(LIVE).glob("[0-9]*.json"))),
        }

    def look(self, number: int) -> dict[str, Any] | None:
        """What was seen at that moment (lamina.explain.moment); None where there is none."""
        return self._json(f"{LIVE}/{number:02}.json") or None

    def ask(self, action: str) -> None:
        """Raises UsageError for an action that does not exist."""
        ask(self.run.folder, action)

    async def events(self, since: int = 0) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """(number, event) of events.jsonl from number `since` on, as they come, until the training is finished."""
        path, at, number, rest = self.run.path("events.jsonl"), 0, 0, b""
        while True:
            over = self.finished
            if path.exists():
                with open(path, "rb") as file:
                    file.seek(at)
                    new = file.read()
                at += len(new)
                *lines, rest = (rest + new).split(b"\n")
                for line in lines:
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(event, dict) and "event" in event:
                        if number >= since:
                            yield number, event
                        number += 1
            if over or self.closing:
                return
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.run.path(name).read_text("utf-8"))
        except (OSError, ValueError, DataError):
            return {}
        return found if isinstance(found, dict) else {}


class Page:
    """A page that watches trainings of this process: a server beside it, which ends when this process does."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.address = screen, ""
        self.server: subprocess.Popen | None = None

    @staticmethod
    def available() -> bool:
        """Whether its libraries are installed."""
        return all(
            importlib.util.find_spec(name) is not None
            for name in ("fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart")
        )

    def open(self, folder: Path) -> None:
        """Watch the training in that run folder; one that was watched before is let go."""
        self.close()
        (folder / LIVE).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "lamina", "serve", str(folder)]
        with listening("127.0.0.1", 0) as own:  # who comes before the server is there waits
            environment = {**os.environ, PARENT: str(own.fileno()), "OMP_NUM_THREADS": "1"}
            self.server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, pass_fds=[own.fileno()]
            )
            self.address = f"http://127.0.0.1:{own.getsockname()[1]}/"
        self.screen.say(f"Watch       {self.address}  (a page, in some seconds)")

    def stay(self) -> None:
        """Until Ctrl-C, where a page is open."""
        if self.server is not None:
            self.screen.say(f"Watch       {self.address}  (Ctrl-C ends it)")
            with contextlib.suppress(KeyboardInterrupt):
                self.server.wait()

    def close(self) -> None:
        if self.server is not None and self.server.stdin is not None:
            self.server.stdin.close()
        self.server = None

"""What the user sees: lines and progress. A terminal gets live bars; a pipe gets plain lines, seldom."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SECONDS_BETWEEN_PLAIN_LINES = 5.0


class Screen:
    """Writes to one stream and nowhere else. `quiet` shows nothing (Python callers, worker processes)."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream
        self.quiet = quiet
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        if self._console is None:
            from rich.console import Console

            stream = self.stream or sys.stdout
            terminal = stream.isatty()
            self._console = Console(file=stream, highlight=False, soft_wrap=not terminal)
        return self._console

    def say(self, text: str = "", style: str = "") -> None:
        if not self.quiet:
            self.console.print(text.encode("utf-8", "backslashreplace").decode(), style=style or None, markup=False)

    def title(self, text: str) -> None:
        self.say(text, "bold")

    def warn(self, text: str) -> None:
        self.say("! " + text, "yellow")

    @contextmanager
    def progress(self, what: str, total: float) -> Iterator[Bar]:
        """A bar for work of `total` units; plain lines where no terminal listens."""
        if self.quiet:
            yield Bar(None, what, total, None)
        elif not self.console.is_terminal:
            yield Bar(self, what, total, None)
        else:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"))
            times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
            with Progress(*columns, *times, console=self.console, transient=True) as rich_progress:
                yield Bar(self, what, total, rich_progress)


class Bar:
    """Progress of one piece of work. `advance(done, note)` takes the units done so far, not the increment."""

    def __init__(self, screen: Screen | None, what: str, total: float, rich_progress: Progress | None) -> None:
        self.screen, self.what, self.total, self.rich = screen, what, max(total, 1e-9), rich_progress
        self.start = self.last = time.monotonic()
        self.task_id = rich_progress.add_task(what, total=total, note="") if rich_progress else None

    def advance(self, done: float, note: str = "") -> None:
        if self.rich is not None and self.task_id is not None:
            self.rich.update(self.task_id, completed=done, note=note)
        elif self.screen is not None and time.monotonic() - self.last >= SECONDS_BETWEEN_PLAIN_LINES:
            self.last = time.monotonic()
            left = (self.last - self.start) * (self.total - done) / max(done, 1e-9)
            self.screen.say(f"{self.what}: {done / self.total:.0%}, {left:.0f} s left  {note}".rstrip())


def one_in(rate: float) -> str:
    """A rate in words: 1 in 100; a large one in percent."""
    return f"1 in {1 / rate:,.0f}" if 0 < rate <= 0.3 else f"{100 * rate:.0f} in 100"


def percent(fraction: float) -> str:
    """0.9412 -> '94.1'; the sign is written once, by the caller."""
    return f"{100 * fraction:.1f}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def bytes_in_words(count: float) -> str:
    """Bytes in the unit that a person would use (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError

"""Work on many values, by several threads where that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")
FIRST, TIMED = 4, 16
"""Values worked on alone, to begin with and then with the clock."""


class Workers:
    """Threads for one kind of work. The first values are worked on alone, the next by all threads; whichever took less does the rest.

    Small pictures are over before threads have agreed whose turn at the interpreter it is: 16 of them took three times as long as one.
    """

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads)
        self.alone: bool | None = True if threads == 1 else None
        """None: not yet known."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        self.pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Given], Made], values: Sequence[Given]) -> list[Made]:
        """What comes of each, in their order."""
        if self.alone is None and len(values) >= 2 * (FIRST + TIMED):
            return self._tried(work, values)
        return [work(value) for value in values] if self.alone else list(self.pool.map(work, values))

    def _tried(self, work: Callable[[Given], Made], values: Sequence[Given]) -> list[Made]:
        made = [work(value) for value in values[:FIRST]]
        start = time.perf_counter()
        made += [work(value) for value in values[FIRST : FIRST + TIMED]]
        between = time.perf_counter()
        rest = values[FIRST + TIMED :]
        made += self.pool.map(work, rest)
        self.alone = (between - start) / TIMED < (time.perf_counter() - between) / len(rest)
        return made

"""Examples: raw data with its answers, read lazily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lamina.data.raw import Raw

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Finding:
    """Something that the audit has to say about one file (or one label, or the whole set)."""

    name: str
    kind: str
    detail: str
    excluded: bool = False
    counts: bool = False
    """Whether it is an unusable file of the modality, which --max-bad counts."""


@dataclass(frozen=True)
class Examples:
    """n raw values with names, answers, given parts ("" = not given) and group keys ("" = none), all of length n."""

    source: str
    """Where the data were read from, as the user gave it."""
    names: Sequence[str]
    raws: Sequence[Raw]
    answers: Sequence[str]
    parts: Sequence[str]
    groups: Sequence[str]
    findings: tuple[Finding, ...] = ()
    """What was noticed while reading: foreign, hidden and missing files."""
    notes: tuple[str, ...] = ()
    """Decisions to say aloud."""
    sense: str = ""
    """The kind of Input that reads the raw values, where the data show it: vector for the rows of a table; "" = the one asked for."""
    told_by: Sequence[str] = ()
    """The group of each example for which the score is told apart (--told-by); empty = none is asked for."""

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | np.ndarray) -> Examples:
        """The examples at `indices`, in that order."""
        chosen = [int(index) for index in indices]

        def pick(values: Sequence) -> list:
            return [values[index] for index in chosen]

        picked: dict[str, Any] = {name: pick(getattr(self, name)) for name in ("names", "raws", "answers", "parts", "groups")}
        return replace(self, **picked, told_by=pick(self.told_by) if self.told_by else ())

    @property
    def labels(self) -> list[str]:
        """The different answers; where there are none beside the data, a single empty one."""
        return sorted(set(self.answers))

"""Every failure that Lamina names, and the one sentence pattern in which it is told.

LaminaError                      exit code 1 (a bug of ours, if it is raised bare)
├── UsageError                   2   a wrong flag, setting or argument
├── DataError                    3   the data cannot be used as they are
├── ModelFileError               4   a .lamina file is damaged, hostile, or of a later format
├── ResourceError                5   disk, memory, device or time do not suffice
├── TrainingBroke                6   the loss was not a number, twice
├── NotAccepted                  7   verify: not the same person
└── Interrupted                  130 Ctrl-C; what was done is saved
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LaminaError(Exception):
    """The root of every error that Lamina raises on purpose."""

    exit_code = 1


class UsageError(LaminaError):
    exit_code = 2


class DataError(LaminaError):
    exit_code = 3


class ModelFileError(LaminaError):
    exit_code = 4


class ResourceError(LaminaError):
    exit_code = 5


class TrainingBroke(LaminaError):
    exit_code = 6


class NotAccepted(LaminaError):
    exit_code = 7


class Interrupted(LaminaError):
    exit_code = 130


def sentence(what: str, must: str, got: object = None, do: str = "") -> str:
    """The pattern of every error: *what* must be *allowed*. Got *value*. *What to do.*

    >>> sentence("`minutes` of the settings", "be above 0", -1, "Try --minutes 5.")
    '`minutes` of the settings must be above 0. Got -1. Try --minutes 5.'
    """
    parts = [f"{what} must {must}."]
    if got is not None:
        shown = str(got) if not isinstance(got, str) else got or "nothing"
        parts.append(f"Got {shown[:200]}{'…' if len(shown) > 200 else ''}.")
    if do:
        parts.append(do)
    return " ".join(parts)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """'Did you mean "x"?' for the nearest choice, or nothing when none is near."""
    near = difflib.get_close_matches(str(word), [choice for choice in choices if choice != str(word)], n=1, cutoff=0.6)
    return f'Did you mean "{near[0]}"?' if near else ""

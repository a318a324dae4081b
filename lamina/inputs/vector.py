"""Rows of a table in: numbers and categories, missing ones among them, as float32 [columns]."""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import numpy as np
from torch import Tensor

from lamina.data.inspection import Inspection
from lamina.data.raw import Raw, RowRaw
from lamina.errors import DataError, ModelFileError, sentence
from lamina.inputs.base import Input, one_tensor
from lamina.layers import Columns, Context, Layer

MISSING = {"", "?", "na", "n/a", "nan", "none", "null", "<na>", "nat"}
TRUTH = {"true": 1.0, "false": 0.0}
REPEATING = 10
"""Rows must repeat when their columns' values go together in fewer ways than so many times the rows."""
LARGEST = 1e30
"""Numbers beyond it count as it: their squares would not fit."""
MOST_CATEGORIES, MOST_KNOWN = 200, 20_000
LEAST_SEEN, OFTEN = 2, 5
"""A category counts as one of its own from LEAST_SEEN training rows on, and beyond the MOST_CATEGORIES most frequent ones of a column from
OFTEN on, at most MOST_KNOWN of them; rarer ones are "other", so that names and ticket numbers are no clue."""
MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class VectorInput(Input):
    """A row as float32 [columns]: a number as it is (NaN: missing), a category as its place from 1 (0: missing or other)."""

    kind: ClassVar[str] = "vector"
    plural: ClassVar[str] = "rows"

    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...] | None, ...] = ()
    """Of each column; None: it holds numbers."""

    # ------------------------------------------------------------ fitting and state

    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> VectorInput:
        """A column is of numbers when every training value that is there is one. Raises DataError without rows or columns."""
        if not raws or not raws[0].columns:
            raise DataError(sentence("The training part", "hold at least one row with at least one column beside the label", len(raws)))
        names = raws[0].columns
        if len(names) > MOST_COLUMNS:
            raise DataError(sentence("The table", f"have at most {MOST_COLUMNS} columns", len(names)))
        found: list[tuple[str, ...] | None] = []
        for place in range(len(names)):
            values = [raw.values[place] for raw in raws]
            if all(_missing(value) or _number(value) is not None for value in values):
                found.append(None)
            else:
                counts = Counter(_word(value) for value in values if not _missing(value))
                kept = sorted((name for name, count in counts.items() if count >= LEAST_SEEN), key=lambda name: (-counts[name], name))
                often = [name for name in kept[MOST_CATEGORIES:MOST_KNOWN] if counts[name] >= OFTEN]
                found.append((*kept[:MOST_CATEGORIES], *often))
        return VectorInput(tuple(names), tuple(found))

    def state(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "categories": [None if each is None else list(each) for each in self.categories]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> VectorInput:
        """Raises ModelFileError when `state` is not one."""
        columns, categories = state.get("columns"), state.get("categories")
        if not (_are_names(columns, MOST_COLUMNS) and columns and isinstance(categories, list) and len(categories) == len(columns)
                and all(each is None or _are_names(each, MOST_KNOWN) for each in categories)):  # fmt: skip
            raise ModelFileError(
                sentence("The table input of the model", "name its columns, each of numbers or with its categories", state)
            )
        return cls(tuple(columns), tuple(None if each is None else tuple(each) for each in categories))

    # ------------------------------------------------------------ reading

    def read(self, raw: Raw) -> np.ndarray:
        """float32 [columns]; columns are found by name. Raises DataError for a row that lacks one."""
        values = self._in_order(raw)
        return np.array(
            [_as_number(value) if places is None else _place(value, places) for value, places in zip(values, self._places, strict=True)],
            np.float32,
        )

    @functools.cached_property
    def _places(self) -> list[dict[str, int] | None]:
        """The place of each category, from 1."""
        return [None if names is None else {name: place + 1 for place, name in enumerate(names)} for names in self.categories]

    def _in_order(self, raw: Raw) -> Sequence[Any]:
        if isinstance(raw, DataError):  # of a table among many
            raise raw
        if not isinstance(raw, RowRaw):
            raise DataError(sentence("A row", "be a row of a table, a dict or a list of numbers", type(raw).__name__))
        if raw.columns == self.columns:
            return raw.values
        own = dict(zip(raw.columns, raw.values, strict=True))
        missing = [name for name in self.columns if name not in own]
        if missing:
            raise DataError(
                sentence("A row", "have the columns that the model learned from", ", ".join(raw.columns), f"Missing: {missing[0]}.")
            )
        return [own[name] for name in self.columns]

    def rows(self, source: Any) -> list[tuple[str, Raw]] | None:
        from lamina.data.tables import read_rows

        return read_rows(source, self.columns)

    def repeats(self, raws: Sequence[Raw]) -> bool:
        """Where the columns' values could be put together in fewer ways than REPEATING times the rows there are."""
        ways = 1
        for column in zip(*(raw.values for raw in raws), strict=True):
            ways *= len({"" if _missing(value) else _word(value) for value in column})
            if ways > REPEATING * len(raws):
                return False
        return True

    def inspect(self, raw: Raw) -> Inspection:
        if all(_missing(value) for value in raw.values):
            return Inspection("empty", "every value is missing")
        plain = "\x1f".join("" if _missing(value) else _word(value) for value in raw.values)
        content = hashlib.blake2b(plain.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return Inspection(content=content, shape=(len(raw.values),))

    # ------------------------------------------------------------ batches

    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """float32 [N, columns]."""
        return one_tensor(items), Context()

    def layer(self, x: Tensor) -> Layer:
        return Columns.measured(x, [0 if each is None else len(each) + 1 for each in self.categories])

    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        """Whole numbers of -8 … 8, and categories."""
        bits, made = np.random.Philox(key=seed), []
        for _ in range(count):
            drawn = np.asarray(bits.random_raw(len(self.columns))).astype(np.uint64).tolist()
            pairs = zip(drawn, self.categories, strict=True)
            row = [value % 17 - 8 if names is None else value % (len(names) + 1) for value, names in pairs]
            made.append(np.array(row, np.float32))
        return made


def _are_names(value: Any, most: int) -> TypeGuard[list[str]]:
    return isinstance(value, list) and len(value) <= most and all(isinstance(name, str) for name in value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in MISSING


def _number(value: Any) -> float | None:
    """The value as a number; None when it is none. True and False are 1 and 0, also as words."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return TRUTH.get(str(value).strip().lower())


def _as_number(value: Any) -> float:
    number = None if _missing(value) else _number(value)
    return math.nan if number is None else min(max(number, -LARGEST), LARGEST)


def _word(value: Any) -> str:
    """A category's name: 3.0 and "3" are one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _place(value: Any, places: dict[str, int]) -> float:
    return float(places.get("" if _missing(value) else _word(value), 0))

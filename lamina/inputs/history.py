"""Histories in: what somebody chose, in its order, as numbers of the items that the training part knows."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lamina.data.inspection import Inspection
from lamina.data.raw import History, Raw
from lamina.errors import DataError, ModelFileError, did_you_mean, sentence
from lamina.inputs.base import Input
from lamina.inputs.text import packed
from lamina.layers import Context, Layer, Tokens, padded

MOST_ITEMS = 2_000_000
LONGEST, SHORTEST = 200, 20
"""Items that a network sees of a history: by the training part, but no more and no fewer."""
USUAL_WIDTH = 64


@dataclass(frozen=True)
class HistoryInput(Input):
    """Numbers [any length]: 0 is where each history begins, then its items in their order; the network sees the last `longest` of them.

    Items that training never saw are left out.
    """

    kind: ClassVar[str] = "history"
    plural: ClassVar[str] = "histories"
    draws: ClassVar[int] = 2

    items: tuple[str, ...] = ()
    """The names of items 1, 2, …"""
    titles: tuple[str, ...] = ()
    """Their titles, where they are known: empty, or one each."""
    about: tuple[str, ...] = ()
    """What else is known of them, as words: empty, or one each."""
    longest: int = 0
    numbers: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.numbers.update({name: place + 1 for place, name in enumerate(self.items)})

    @property
    def count(self) -> int:
        """Different numbers, the beginning among them."""
        return len(self.items) + 1

    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> HistoryInput:
        """The items that were chosen in the training part, the most frequent first."""
        sums = np.zeros(0, np.int64)
        names: Sequence[str] = raws[0].names if raws else ()
        sums = np.zeros(len(names), np.int64)
        for raw in raws:
            np.add.at(sums, raw.chosen, 1)
        order = np.argsort(-sums, kind="stable")
        known = tuple(names[place] for place in order if sums[place])
        if not known or len(known) > MOST_ITEMS:
            raise DataError(sentence("The training part", f"hold 1 to {MOST_ITEMS} different items", len(known)))
        usual = float(np.quantile([len(raw.chosen) for raw in raws], 0.95))
        longest = self.longest or int(np.clip(np.ceil(usual / 10) * 10, SHORTEST, LONGEST))
        return replace(self, items=known, longest=longest, numbers={})

    def decided(self) -> str:
        return f"{len(self.items):,} items that the training part knows; of a history the last {self.longest} are seen"

    def state(self) -> dict[str, Any]:
        return {"items": list(self.items), "titles": list(self.titles), "about": list(self.about), "longest": self.longest}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> HistoryInput:
        """Raises ModelFileError when `state` is not one."""
        items, titles, about, longest = (state.get(name) for name in ("items", "titles", "about", "longest"))
        good = all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in (items, titles, about))
        good = good and 1 <= len(items or []) <= MOST_ITEMS and {len(titles or []), len(about or [])} <= {0, len(items or [])}
        if not good or len(set(items or [])) != len(items or []) or not (isinstance(longest, int) and 1 <= longest <= 100_000):
            raise ModelFileError(sentence("The histories of the model", "have items with different names, and a length", list(state)))
        return cls(tuple(items or ()), tuple(titles or ()), tuple(about or ()), longest)

    # ------------------------------------------------------------ reading

    def inspect(self, raw: Raw) -> Inspection:
        told = hashlib.blake2b(f"{raw.user}\0{raw.part}\0".encode("utf-8", "surrogateescape"), digest_size=16)
        told.update(np.ascontiguousarray(raw.chosen).tobytes())
        return Inspection(content=told.hexdigest(), shape=(len(raw.chosen),))

    def read(self, raw: Raw) -> np.ndarray:
        """int64, 0 and the numbers of the known items. Raises DataError for what is no history."""
        if isinstance(raw, History):
            found = self._table(raw.names)[raw.chosen]
            return np.r_[0, found[found > 0]]
        if not isinstance(raw, (list, tuple)) or not all(isinstance(name, (str, int)) for name in raw):
            raise DataError(sentence("A history", "be a list of items", type(raw).__name__))
        return np.array([0, *(self.number(str(name)) for name in raw)], np.int64)

    def number(self, name: str) -> int:
        """Of an item by its name, or its title where only one has it. Raises DataError with the near miss."""
        if name in self.numbers:
            return self.numbers[name]
        called = self._by_title.get(name.strip().casefold(), [])
        if len(called) == 1:
            return called[0]
        if not called:  # a title without its year, or its beginning
            called = [place for title, places in self._by_title.items() if title.startswith(name.strip().casefold()) for place in places]
        if len(called) == 1:
            return called[0]
        told = f"{name}, which {len(called)} items are called, such as {self.title(called[0])}" if called else name
        near = did_you_mean(name, self.titles or self.items)
        raise DataError(sentence("An item", "be one that the training part knows, by its name or title", told, near))

    def title(self, number: int) -> str:
        """What people call an item."""
        return self.titles[number - 1] if self.titles else self.items[number - 1]

    @functools.cached_property
    def _by_title(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, title in enumerate(self.titles or self.items):
            found.setdefault(title.strip().casefold(), []).append(place + 1)
        return found

    @functools.cached_property
    def _tables(self) -> list[tuple[Sequence[str], np.ndarray]]:
        return []

    def _table(self, names: Sequence[str]) -> np.ndarray:
        """The number of each of a table's items; 0 where training knows none."""
        for known, table in self._tables:
            if known is names:
                return table
        made = np.array([self.numbers.get(name, 0) for name in names], np.int64)
        self._tables[:] = [(names, made)]
        return made

    # ------------------------------------------------------------ batches

    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """int64 [N, steps]: the last `longest` items of each after a 0, padding after them; the length of each in the context."""
        seen = [np.r_[0, np.asarray(item, np.int64)[1:][-self.longest :]] for item in items]
        return padded(seen), Context(torch.tensor([len(each) for each in seen]))

    def augment(self, x: Tensor, context: Context, draws: Tensor, detail: float = 1.0) -> tuple[Tensor, Context]:
        """The same histories side by side in fewer rows, so that hardly a step is padding."""
        assert context.lengths is not None
        return packed(x, context.lengths)

    def layer(self, x: Tensor) -> Layer:
        return Tokens(self.count, USUAL_WIDTH)

    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        bits = np.random.Philox(key=seed)
        made = []
        for number in range(count):
            drawn = np.asarray(bits.random_raw(3 + 2 * number)).astype(np.uint64) % np.uint64(len(self.items))
            made.append(np.r_[0, drawn.astype(np.int64) + 1])
        return made

"""Input: raw value -> tensor. The contract that every sense keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lamina.data.duplicates import few_bits_apart
from lamina.data.inspection import Inspection
from lamina.data.raw import FileRaw, PartRaw, Raw, ZipRaw
from lamina.errors import ModelFileError, did_you_mean, sentence
from lamina.layers import Context, Layer

INPUT_KINDS: dict[str, type[Input]] = {}


class Input(ABC):
    """A frozen value: `fit` returns a new one. Everything that depends on the data is in `state()`."""

    kind: ClassVar[str] = ""
    plural: ClassVar[str] = "examples"
    suffixes: ClassVar[tuple[str, ...]] = ()
    doubt: ClassVar[str] = ""
    """The name of the doubted augmentation, for the screen."""
    draws: ClassVar[int] = 0
    """Random numbers that `augment` uses per example. The first alternates between the halves of [0, 1) from epoch to epoch."""

    overlap: ClassVar[int] = 0
    """Steps of the answering layer by which windows of one value overlap."""
    ragged: ClassVar[bool] = False
    """Whether values differ in length so much that those of a length are put together in training."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "kind" in cls.__dict__:
            INPUT_KINDS[cls.kind] = cls

    @abstractmethod
    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> Input:
        """Decide sizes (or a vocabulary) from training examples; returns the fitted Input."""

    def look(self, raws: Sequence[Raw]) -> Input:
        """What is decided by a look at some raw values before all are inspected; returns the input that inspects."""
        return self

    def inspected_as(self) -> str:
        """What else than the raw value `inspect` depends on; remembered inspections are kept apart by it."""
        return ""

    def decided(self) -> str:
        """What looking and fitting decided, in words for the screen; empty where there is nothing to say."""
        return ""

    @abstractmethod
    def read(self, raw: Raw) -> np.ndarray:
        """Decode one raw value, outside the network. Raises DataError naming the reason."""

    @abstractmethod
    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """Read values -> one batch; a tensor where values of one shape are kept on a device."""

    @abstractmethod
    def layer(self, x: Tensor) -> Layer:
        """The network's first layer, its statistics measured on `x`, a batch of training examples."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON values from which `from_state` makes the same Input."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Input:
        """Raises ModelFileError when `state` is not one."""

    def recognizes(self, head: bytes) -> bool:
        """Whether a file that begins so is of this sense, whatever its name."""
        return False

    def missing_extra(self, suffix: str) -> str:
        """The install line without which files of this suffix cannot be read; empty when they can."""
        return ""

    def extent(self, raw: Raw) -> tuple[str, float]:
        """("pixels" or "seconds", how many) of an encoded value, by its head alone, before anything is decoded; ("", 0) where neither is
        told. Raises DataError."""
        return "", 0.0

    def rows(self, source: Any) -> list[tuple[str, Raw]] | None:
        """(name, raw value) of each row of a table in any form, where the sense reads tables; None where it reads files."""
        return None

    def shown(self, value: np.ndarray, box: tuple[tuple[int, int], ...] = ()) -> str:
        """A picture of a read value for a page, as a data: address, or of the part of it in `box`, (from, to) along each axis; empty where
        it has none."""
        return ""

    def heard(self, value: np.ndarray) -> str:
        """A read value to be played on a page, as a data: address; empty where there is nothing to hear."""
        return ""

    def unfit(self, raw: Raw) -> str:
        """Why this value is too poor to know a person by (too dark, silent, …); empty where it will do. Raises DataError."""
        return ""

    def windows(self, value: np.ndarray) -> list[np.ndarray]:
        """A read value in windows that overlap, where it is too long for one; `Output.joined` puts together what comes out."""
        return [value]

    def pieces(self, raw: Raw) -> list[np.ndarray]:
        """One raw value as all the read values that it is long enough for. Raises DataError."""
        return [self.read(raw)]

    def repeats(self, raws: Sequence[Raw]) -> bool:
        """Whether equal values among these are no copies: there are so few different ones that they must repeat."""
        return False

    def gratings(self) -> tuple[Tensor, Tensor] | None:
        """(values [N, ...] of stripes, as `collate` makes them, their directions [N] in radians), where the sense sees places."""
        return None

    def inspect(self, raw: Raw) -> Inspection:
        """Decode fully and say what is wrong or odd. Used by the audit; never raises for bad data."""
        return Inspection()

    def noticed(self, raws: Sequence[Raw], names: Sequence[str]) -> list[tuple[str, str, str]]:
        """(name, kind, detail) of what is odd about usable values together."""
        return []

    def near(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Which pairs of fingerprints (uint64) may be those of copies; they share 16 bits already."""
        return few_bits_apart(one, other)

    def same(self, first: Raw, second: Raw) -> bool:
        """Whether two values with near fingerprints are copies of one another, compared on the values themselves."""
        return False

    def augment(self, x: Tensor, context: Context, draws: Tensor, detail: float = 1.0) -> tuple[Tensor, Context]:
        """A varied copy of a training batch; `draws` [N, self.draws] are uniform in [0, 1), a function of (seed, step, example).

        `detail` below 1 asks for that share of the full resolution, where the sense has one.
        """
        return x, context

    def coarser(self, x: Tensor, context: Context, detail: float) -> tuple[Tensor, Context]:
        """A batch at `detail` (below 1) of its resolution, where the sense has one."""
        return x, context

    def like(self, other: Any) -> Input | None:
        """The same input with the size of `other`, one of its kind, so that it feeds the same layers; None where that cannot be."""
        return None

    def doubted(self) -> Input | None:
        """The same input with one more augmentation, which keeps the labels of some data only; None when there is none left.

        Mirroring keeps what a photo shows, not what a digit says: training tries it on held-out examples before it is used.
        """
        return None

    def disguise(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        """`x` with the doubted augmentation on every example."""
        return x, context

    def several(self, x: Tensor, context: Context) -> list[tuple[float, Tensor, Context]]:
        """The views of a batch whose answers are averaged: (share, x, context) each, the shares adding up to 1."""
        return [(1.0, x, context)]

    def single(self) -> Input:
        """The same input with one view of each value."""
        return self

    @abstractmethod
    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        """Generated read values, the same for the same seed on every machine: the golden samples of a model file."""

    def outliers(self, count: int, seed: int) -> list[np.ndarray]:
        """Generated read values that are like no real example."""
        return []


def unusable_by_size(raw: Raw, most: int) -> Inspection | None:
    """Why a file of this size is not even opened; None where it is. Raises OSError."""
    size = raw.size() if isinstance(raw, (FileRaw, PartRaw, ZipRaw)) else len(raw) if isinstance(raw, bytes) else 1
    if size == 0:
        return Inspection("empty", "0 bytes")
    return Inspection("over-large", f"{size / 1e9:.1f} GB in one file") if size > most else None


def one_tensor(items: Sequence[np.ndarray] | np.ndarray | Tensor) -> Tensor:
    """Read values of one shape as one batch."""
    if isinstance(items, Tensor):
        return items
    return torch.from_numpy(np.ascontiguousarray(items if isinstance(items, np.ndarray) else np.stack(list(items))))


def build_input(kind: Any, state: Any) -> Input:
    """The Input of that kind. Raises ModelFileError."""
    if kind not in INPUT_KINDS or not isinstance(state, dict):
        raise ModelFileError(
            sentence("The input of the model", "be one of " + ", ".join(sorted(INPUT_KINDS)), kind, did_you_mean(str(kind), INPUT_KINDS))
        )
    return INPUT_KINDS[kind].from_state(state)

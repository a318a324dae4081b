"""Layer and Context: the contract of every building block, `layer(x, context) -> (x, context)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lamina.errors import ModelFileError, did_you_mean, sentence

LAYER_KINDS: dict[str, type[Layer]] = {}


class Context(NamedTuple):
    """What travels beside x. A layer that shortens time returns shortened lengths."""

    lengths: Tensor | None = None
    """[batch] valid steps of each example along its first axis."""
    segments: Tensor | None = None
    """[batch, time] which packed document a step belongs to; attention stays inside one."""
    positions: Tensor | None = None
    """[batch, time] place of a step inside its document."""
    caches: Mapping[str, tuple[Tensor, ...]] | None = None
    """Keys and values of earlier steps by layer name; None outside generation."""

    def first(self, count: int) -> Context:
        """Of the first `count` examples."""
        return self.part(slice(count))

    def part(self, rows: slice | Tensor) -> Context:
        cut = [None if value is None else value[rows] for value in self[:3]]
        return Context(cut[0], cut[1], cut[2])

    def to(self, device: torch.device) -> Context:
        caches = None if self.caches is None else {name: tuple(t.to(device) for t in kept) for name, kept in self.caches.items()}
        first = [None if value is None else value.to(device, non_blocking=True) for value in self[:3]]
        return Context(first[0], first[1], first[2], caches)


def padded(rows: Sequence[Sequence[int] | np.ndarray], value: int = 0) -> Tensor:
    """int64 [N, most steps], `value` beyond the end of each. Filled in NumPy: one tensor, not one for each row."""
    made = np.full((len(rows), max(map(len, rows), default=0)), value, np.int64)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(made)


class Layer(nn.Module):
    """A named building block. Subclasses set `kind` and keep each argument of __init__ as an attribute of the same name.

    The arguments are JSON values, so that a network is saved as a list of (name, kind, arguments).
    """

    kind: ClassVar[str] = ""
    name: str = ""
    """The layer's name in its network; caches are kept under it."""
    no_graph: ClassVar[str] = ""
    """Why it cannot be exported as a graph of tensor operations; empty where it can."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "kind" in cls.__dict__:
            LAYER_KINDS[cls.kind] = cls

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        raise NotImplementedError(f"{type(self).__name__} has no forward pass")

    def arguments(self) -> dict[str, Any]:
        """What __init__ was called with."""
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        return {
            parameter.name: getattr(self, parameter.name) for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "arguments": self.arguments()}


def build_layer(kind: str, arguments: dict[str, Any]) -> Layer:
    """The layer of that kind. Raises ModelFileError for a kind or arguments that do not exist."""
    if kind not in LAYER_KINDS:
        raise ModelFileError(
            sentence("The kind of a layer", "be one of " + ", ".join(sorted(LAYER_KINDS)), kind, did_you_mean(kind, LAYER_KINDS))
        )
    try:
        return LAYER_KINDS[kind](**arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError, ZeroDivisionError) as error:
        raise ModelFileError(sentence(f"The arguments of a layer of kind {kind}", "fit the kind", arguments, str(error))) from error

"""The classical ways to recognize rows of a table."""

from __future__ import annotations

from torch import Tensor

from lamina.classical.fit import Opponent
from lamina.inputs import Input
from lamina.layers import Layer


def _layers(input: Input, x: Tensor) -> list[tuple[str, Layer]]:
    return [("input", input.layer(x))]


TABLE_OPPONENTS = (
    Opponent("the table", _layers, ("boosting", "linear", "kernel"), ("numbers by log of distance from the mean", "one signal a category")),
)

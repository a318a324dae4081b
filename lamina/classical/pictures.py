"""The classical ways to recognize pictures."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lamina.classical.features import PictureFeatures
from lamina.classical.fit import Opponent
from lamina.inputs import ImageInput, Input
from lamina.layers import Layer

_GRADIENTS = (
    "gradients matter, brightness does not",
    "the strongest color's gradient",
    "directions in 9 and 18 steps",
    "cells of an eighth of the side",
    "votes shared between neighbors",
    "blocks of 2 x 2 cells",
    "length 1, clipped at 0.2",
)
_PATTERNS = ("a pixel against its 8 neighbors", "58 uniform patterns", "a 4 x 4 grid")
_COLORS = ("colors in 4 levels each", "a 2 x 2 grid")


def _features(*parts: str) -> Callable[[Input, Tensor], list[tuple[str, Layer]]]:
    def layers(input: Input, x: Tensor) -> list[tuple[str, Layer]]:
        color = isinstance(input, ImageInput) and input.channels == 3
        return [("features", PictureFeatures([part for part in parts if color or part != "color_histograms"]))]

    return layers


PICTURE_OPPONENTS = (
    Opponent("gradient histograms", _features("fine_gradient_histograms"), ("kernel", "linear"), _GRADIENTS),
    Opponent("pixels", _features("pixels"), ("kernel", "linear", "prototypes"), ("the pixels stand still",)),
    Opponent(
        "gradients, patterns and colors",
        _features("fine_gradient_histograms", "binary_patterns", "color_histograms"),
        ("kernel", "linear"),
        (*_GRADIENTS, *_PATTERNS, *_COLORS),
    ),
)
"""In the order in which they are tried: when the seconds end, the later ones are left."""

"""The classical ways to recognize sounds: cepstral coefficients and their statistics, as a layer on the log-mel picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.classical.fit import Opponent
from lamina.inputs import Input
from lamina.layers import Context, Layer

COEFFICIENTS = 20
PARTS = 8
"""Equal stretches of time, each with its mean."""
SOUND_FEATURES = ("statistics", "in_time")
_CEPSTRUM = ("loudness in bands that are even on the mel scale", "its logarithm", "20 cosine coefficients of it")


class CepstralFeatures(Layer):
    """Mel-frequency cepstral coefficients over a recording: [N, 1, bands, F] -> [N, features]. Nothing in it is trained.

    The coefficients (Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420) of each frame; `statistics`: mean and deviation
    of them and of their differences over the recording; `in_time`: their means in eight equal stretches of it.
    """

    kind = "cepstral_features"
    cosines: Tensor

    def __init__(self, bands: int, parts: list[str]) -> None:
        super().__init__()
        if not parts or any(part not in SOUND_FEATURES for part in parts) or not 4 <= bands <= 256:
            raise ValueError(f"parts are some of {', '.join(SOUND_FEATURES)}, got {parts}")
        self.bands, self.parts = bands, list(parts)
        place, number = torch.arange(bands, dtype=torch.float64), torch.arange(min(COEFFICIENTS, bands), dtype=torch.float64)
        cosines = torch.cos(math.pi / bands * (place[:, None] + 0.5) * number) * math.sqrt(2 / bands)
        self.register_buffer("cosines", cosines.float())

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        cepstrum = torch.einsum("nbf,bc->ncf", x[:, 0].float(), self.cosines)
        found = []
        if "statistics" in self.parts:
            change = cepstrum[:, :, 2:] - cepstrum[:, :, :-2] if cepstrum.shape[2] > 2 else torch.zeros_like(cepstrum)
            found += [cepstrum.mean(2), cepstrum.std(2, correction=0), change.std(2, correction=0), change.abs().mean(2)]
        if "in_time" in self.parts:
            found.append(F.adaptive_avg_pool1d(cepstrum, PARTS).flatten(1))
        return torch.cat(found, 1), context


def sound_layers(*parts: str) -> Callable[[Input, Tensor], list[tuple[str, Layer]]]:
    def layers(input: Input, x: Tensor) -> list[tuple[str, Layer]]:
        first = input.layer(x)
        return [("input", first), ("features", CepstralFeatures(first.bands, list(parts)))]  # type: ignore[arg-type]

    return layers


SOUND_OPPONENTS = (
    Opponent(
        "cepstra in time and their statistics",
        sound_layers("statistics", "in_time"),
        ("kernel", "linear"),
        (*_CEPSTRUM, "mean, deviation and change", "8 stretches of time"),
    ),
    Opponent("cepstral statistics", sound_layers("statistics"), ("kernel", "linear"), (*_CEPSTRUM, "mean, deviation and change")),
)
"""In the order in which they are tried."""

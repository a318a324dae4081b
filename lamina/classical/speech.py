"""The classical way to tell what was said: what is said in the training recording that sounds most alike, once time is bent to fit."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.classical.fit import Classical, Opponent, Trial
from lamina.layers import Context, Layer, Same
from lamina.metrics import edits
from lamina.networks import Network
from lamina.outputs import CharactersOutput

if TYPE_CHECKING:
    from lamina.data.batches import Feed

COEFFICIENTS = 13
STRIDE = 3
"""Every third frame is compared."""
MOST_TEMPLATES, MOST_FRAMES = 1_000, 1_000
ASKED = 40
"""Training recordings, left out of the templates, that tell how good the way is."""
SPEECH_OPPONENTS = (
    Opponent(
        "dynamic time warping", lambda input, x: [], ("nearest",),
        ("loudness in bands that are even on the mel scale", "13 cosine coefficients of its logarithm", "time may be bent"),
    ),
)  # fmt: skip


class Cepstra(Layer):
    """Cepstral coefficients of every third frame, less their mean over the recording: [N, 1, bands, F] -> [N, T, coefficients]."""

    kind = "cepstra"
    cosines: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        if not 4 <= bands <= 256:
            raise ValueError("there are 4 to 256 bands")
        self.bands = bands
        place, number = torch.arange(bands, dtype=torch.float64), torch.arange(1, min(COEFFICIENTS, bands - 1) + 1, dtype=torch.float64)
        self.register_buffer("cosines", (torch.cos(math.pi / bands * (place[:, None] + 0.5) * number) * math.sqrt(2 / bands)).float())

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        found = torch.einsum("nbf,bc->nfc", x[:, 0].float(), self.cosines)[:, ::STRIDE]
        lengths = torch.full((len(x),), found.shape[1]) if context.lengths is None else -(-context.lengths // STRIDE)
        real = (torch.arange(found.shape[1], device=x.device) < lengths[:, None])[..., None]
        mean = (found * real).sum(1, keepdim=True) / lengths[:, None, None]
        return (found - mean) * real, context._replace(lengths=lengths)


class Templates(Layer):
    """Which kept recording is nearest under dynamic time warping (Sakoe & Chiba 1978, https://doi.org/10.1109/TASSP.1978.1163055), the cost
    divided by both lengths together: [N, T, features] -> its number [N]."""

    kind = "templates"
    kept: Tensor
    lengths: Tensor

    def __init__(self, count: int, steps: int, features: int) -> None:
        super().__init__()
        if not (1 <= count <= 100_000 and 1 <= steps <= 100_000 and 1 <= features <= 1_024):
            raise ValueError("there are 1 to 100000 templates of as many steps, with at most 1024 features")
        self.count, self.steps, self.features = count, steps, features
        self.register_buffer("kept", torch.zeros(count, steps, features))
        self.register_buffer("lengths", torch.ones(count, dtype=torch.int64))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if x.is_meta:
            return x.new_empty(len(x), dtype=torch.int64), Context()
        lengths = [x.shape[1]] * len(x) if context.lengths is None else context.lengths.tolist()
        return torch.stack([self.costs(row[:length]).argmin() for row, length in zip(x, lengths, strict=True)]), Context()

    def costs(self, one: Tensor) -> Tensor:
        """[count] of a recording [T, features], diagonal by diagonal, for all templates at once."""
        one = one[: MOST_FRAMES // STRIDE]
        apart = torch.cdist(self.kept, one[None])  # [count, steps, T]
        rows, columns = apart.shape[1:]
        last = self.lengths.clamp(1, rows) - 1
        ends = torch.full((self.count,), torch.inf)
        before = before_that = torch.full((self.count, rows + 1), torch.inf)
        for diagonal in range(rows + columns - 1):
            low, high = max(0, diagonal - columns + 1), min(rows - 1, diagonal)
            place = torch.arange(low, high + 1)
            cost = apart[:, place, diagonal - place]
            if diagonal:
                cost = cost + torch.minimum(
                    torch.minimum(before[:, low : high + 1], before[:, low + 1 : high + 2]), before_that[:, low : high + 1]
                )
            now = torch.full((self.count, rows + 1), torch.inf)
            now[:, low + 1 : high + 2] = cost
            if (row := diagonal - columns + 1) >= 0:
                ended = last == row
                ends[ended] = now[ended, row + 1]
            before_that, before = before, now
        return ends / (last + 1 + columns)


class Saying(Layer):
    """The text of a number, as if each letter of it were heard for sure: [N] -> [N, T, 1 + letters]."""

    kind = "saying"
    texts: Tensor

    def __init__(self, count: int, longest: int, outputs: int) -> None:
        super().__init__()
        if not (1 <= count <= 100_000 and 1 <= longest <= 100_000 and 1 <= outputs <= 1 << 16):
            raise ValueError("there are 1 to 100000 texts of as many letters")
        self.count, self.longest, self.outputs = count, longest, outputs
        self.register_buffer("texts", torch.zeros(count, longest, dtype=torch.int64))

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], outputs: int) -> Saying:
        """Of texts as the numbers of their letters."""
        layer = cls(len(texts), max(1, *map(len, texts)), outputs)
        for row, text in zip(layer.texts, texts, strict=True):
            row[: len(text)] = torch.tensor(list(text), dtype=torch.int64)
        return layer

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        number = x.long() if x.ndim == 1 else torch.zeros(len(x), dtype=torch.int64, device=x.device)
        letters = self.texts[number.clamp(0, self.count - 1)]
        path = torch.stack([letters, torch.zeros_like(letters)], 2).flatten(1)  # a blank after each: equal neighbors stay two
        return torch.where(F.one_hot(path.clamp(0, self.outputs - 1), self.outputs) > 0, 20.0, -20.0), Context(
            torch.full((len(x),), path.shape[1], device=x.device)
        )


def trivial_text(feed: Feed, train: np.ndarray) -> tuple[str, Network, str]:
    """The way that never listens: the most frequent text."""
    assert isinstance(feed.output, CharactersOutput)
    text = Counter(tuple(feed.targets[index]) for index in train).most_common(1)[0][0]
    layer = Saying.of([text], len(feed.output.letters) + 1)
    return "the most frequent text", Network([("input", Same()), ("head", layer)]).eval(), "the text that it always says"


def fit_templates(
    opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0
) -> Classical:
    """Keep the training recordings, as many as can be compared with all answers inside the seconds; some of them first ask the others."""
    begun = time.perf_counter()
    assert isinstance(feed.output, CharactersOutput)
    first = feed.input.layer(feed.batch(train[:: max(1, len(train) // 256)]).x)
    cepstra = Cepstra(first.bands)  # type: ignore[arg-type]
    chosen = np.random.Generator(np.random.Philox(key=seed)).permutation(train)[:MOST_TEMPLATES]
    rows = [row for index in chosen for row in _cepstra(feed, [int(index)], first, cepstra)]
    few = rows[: max(2, min(64, len(rows) // 4))]
    layer, started = _kept(few), time.perf_counter()
    layer.costs(rows[-1])
    each = (time.perf_counter() - started) / len(few)
    most = max(16, int(0.5 * seconds / max(1e-9, each * (answers + ASKED))))
    asked = min(ASKED, len(chosen) // 4)
    layer = _kept(rows[asked : asked + most])
    wrong = wanted = 0
    for place in range(asked):
        nearest = chosen[asked + int(layer.costs(rows[place]).argmin())]
        said = [feed.output.text(feed.targets[index]).split() for index in (nearest, chosen[place])]
        wrong, wanted = wrong + edits(*said), wanted + len(said[1])
    promise = max(0.0, 1 - wrong / max(1, wanted))
    searched = time.perf_counter()
    kept = chosen[:most]
    layer = _kept(rows[:most])
    head = Saying.of([feed.targets[index] for index in kept], len(feed.output.letters) + 1)
    network = Network([("input", first), ("cepstra", cepstra), ("nearest", layer), ("head", head)]).eval().requires_grad_(False)
    trial = Trial("dynamic time warping", "nearest", float(len(kept)), 0.0, promise)
    return Classical(
        f"the nearest of {len(kept)} recordings, time bent", network, trial, [trial], opponents[0].features, ("how frames are compared",),
        "the recording that an answer was taken from", searched - begun, time.perf_counter() - searched, len(kept) == len(train), len(kept),
    )  # fmt: skip


def _cepstra(feed: Feed, examples: Sequence[int], first: Layer, cepstra: Layer) -> list[Tensor]:
    batch = feed.batch(np.asarray(examples, np.int64))
    with torch.no_grad():
        x, context = cepstra(*first(batch.x, batch.context))
    assert context.lengths is not None
    return [row[:length][: MOST_FRAMES // STRIDE] for row, length in zip(x, context.lengths.tolist(), strict=True)]


def _kept(rows: Sequence[Tensor]) -> Templates:
    layer = Templates(len(rows), max(map(len, rows)), rows[0].shape[1])
    for number, row in enumerate(rows):
        layer.kept[number, : len(row)] = row
        layer.lengths[number] = len(row)
    return layer

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
from torch import Tensor, nn

from lamina.classical.fit import Classical, Opponent, Trial
from lamina.layers import Context, Layer, Same
from lamina.metrics import edits
from lamina.networks import Network
from lamina.outputs import CharactersOutput
from lamina.training.inference import BATCH

if TYPE_CHECKING:
    from lamina.data.batches import Feed

COEFFICIENTS = 13
STRIDE = 3
"""Every third frame is compared."""
MOST_TEMPLATES, MOST_FRAMES = 1_000, 1_000
CELLS = 1 << 25
"""Steps of pairs of recordings that are compared at once."""
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
    no_graph = "recordings that are laid beside one another step by step"
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
        return self.costs([row[:length] for row, length in zip(x, lengths, strict=True)]).argmin(1), Context()

    def costs(self, asked: Sequence[Tensor]) -> Tensor:
        """[n, count] of recordings [T, features] each, some at once: as many as CELLS allow."""
        found = []
        each = self.count * self.steps * (self.steps + min(MOST_FRAMES // STRIDE, max(map(len, asked), default=1)))
        for first in range(0, len(asked), many := max(1, CELLS // each)):
            rows = [row[: MOST_FRAMES // STRIDE] for row in asked[first : first + many]]
            found.append(self._costs(nn.utils.rnn.pad_sequence(list(rows), batch_first=True), torch.tensor([len(row) for row in rows])))
        return torch.cat(found)

    def _costs(self, asked: Tensor, lengths: Tensor) -> Tensor:
        """[n, count] of n recordings [n, T, features], diagonal by diagonal, for all pairs at once."""
        steps, pairs = asked.shape[1], len(asked) * self.count
        apart = torch.cdist(self.kept[None], asked[:, None]).view(pairs, self.steps, steps)
        wide = F.pad(apart, (0, self.steps), value=torch.inf).flatten(1)  # each row one place further to the right: diagonals are columns
        diagonals = wide[:, : self.steps * (self.steps + steps - 1)].view(pairs, self.steps, -1).permute(2, 0, 1).contiguous().numpy()
        last = (self.lengths.clamp(1, self.steps) - 1).repeat(len(asked)).numpy()
        sizes = lengths.repeat_interleave(self.count).numpy()
        ending = last + sizes - 1
        order = np.argsort(ending, kind="stable")
        reached = np.searchsorted(ending[order], np.arange(len(diagonals) + 1))
        ends = np.full(pairs, np.inf, np.float32)
        now, before, before_that = (np.full((pairs, self.steps + 1), np.inf, np.float32) for _ in range(3))
        for number, diagonal in enumerate(diagonals):  # thousands of small steps: in NumPy they cost a third
            best = now[:, 1:]
            np.minimum(before_that[:, :-1], before[:, :-1], out=best)
            np.minimum(best, before[:, 1:], out=best)
            if number == 0:
                best[:, 0] = 0
            best += diagonal
            here = order[reached[number] : reached[number + 1]]
            ends[here] = now[here, last[here] + 1]
            now, before, before_that = before_that, now, before
        return torch.from_numpy(ends / (last + 1 + sizes)).view(len(asked), self.count)


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
    rows = _cepstra(feed, chosen, first, cepstra)
    layer, started = _kept(rows), time.perf_counter()
    layer.costs(rows[-1:])
    each = (time.perf_counter() - started) / len(rows)
    most = max(16, int(0.5 * seconds / max(1e-9, each * (answers + ASKED))))
    asked = min(ASKED, len(chosen) // 4)
    layer = _kept(rows[asked : asked + most])
    wrong = wanted = 0
    for place, best in enumerate(layer.costs(rows[:asked]).argmin(1).tolist()):
        said = [feed.output.text(feed.targets[index]).split() for index in (chosen[asked + best], chosen[place])]
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


def _cepstra(feed: Feed, examples: np.ndarray, first: Layer, cepstra: Layer) -> list[Tensor]:
    """[T, coefficients] of each, those of a length read together."""
    found: dict[int, Tensor] = {}
    for some in feed.pieces(examples, BATCH):
        batch = feed.batch(examples[some])
        with torch.no_grad():
            x, context = cepstra(*first(batch.x, batch.context))
        assert context.lengths is not None
        cut = (row[: min(length, MOST_FRAMES // STRIDE)] for row, length in zip(x, context.lengths.tolist(), strict=True))
        found.update(zip(some.tolist(), cut, strict=True))
    return [found[place] for place in range(len(examples))]


def _kept(rows: Sequence[Tensor]) -> Templates:
    layer = Templates(len(rows), max(map(len, rows)), rows[0].shape[1])
    for number, row in enumerate(rows):
        layer.kept[number, : len(row)] = row
        layer.lengths[number] = len(row)
    return layer

"""Speech in: recordings of any length, each as long as it is; long ones are heard in windows that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lamina.data.inspection import Inspection
from lamina.data.raw import Raw
from lamina.errors import DataError, ModelFileError, sentence
from lamina.inputs.audio import RATES, AudioInput
from lamina.layers import Context, Layer, LogMel
from lamina.layers.sound import HOP
from lamina.layers.speech import SHORTENED

SPEECH_BANDS = 80
LONGEST_LEARNED = 40.0
"""Seconds: a longer recording is not learned from, for nobody says where in it each word is."""
LONGEST_HEARD = 14_400.0
"""Seconds: so long may be what is only to be transcribed."""
WINDOW, OVERLAP = 30.0, 4.0
"""Seconds that are heard at once of a long recording, and by which one window reaches into the next."""
SLOWEST, FASTEST = 0.9, 1.1
"""Augmentation: how fast a recording is played (Ko et al. 2015, https://doi.org/10.21437/Interspeech.2015-711)."""
MEASURED_SECONDS = 600.0
"""So much of the training part gives each band its mean and deviation."""


@dataclass(frozen=True)
class SpeechInput(AudioInput):
    """Recordings as int16 [samples] of any length; a batch is padded with zeros, and the context says how long each is."""

    kind: ClassVar[str] = "speech"
    plural: ClassVar[str] = "recordings"
    draws: ClassVar[int] = 6
    overlap: ClassVar[int] = round(OVERLAP / (SHORTENED * HOP))
    ragged: ClassVar[bool] = True
    most_seconds: ClassVar[float] = LONGEST_HEARD

    bands: int = SPEECH_BANDS

    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> SpeechInput:
        shapes = [inspection.shape for inspection in inspections]
        if not shapes:
            raise DataError(sentence("The training part", "hold at least one usable recording", 0))
        rate = RATES[0] if np.median([its for _, its, _ in shapes]) < 1.4 * RATES[0] else RATES[1]
        return replace(self, rate=rate, samples=round(WINDOW * rate))

    def state(self) -> dict[str, Any]:
        return {"rate": self.rate, "samples": self.samples, "bands": self.bands}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> SpeechInput:
        """Raises ModelFileError when `state` is not one."""
        whole = [value if isinstance(value := state.get(name), int) else -1 for name in ("rate", "samples", "bands")]
        if not (1_000 <= whole[0] <= 192_000 and 1 <= whole[1] / whole[0] <= 600 and 4 <= whole[2] <= 256):
            raise ModelFileError(sentence("The speech input of the model", "have a rate, a window and 4 to 256 bands", state))
        return cls(whole[0], whole[1], whole[2])

    def inspect(self, raw: Raw) -> Inspection:
        found = super().inspect(raw)
        if not found.problem and (seconds := found.shape[0] / found.shape[1]) > LONGEST_LEARNED:
            told = f"{seconds:.0f} seconds with one text, more than {LONGEST_LEARNED:g}: nobody says where each word is; cut it"
            return replace(found, problem="too-long", detail=told)
        return found

    def read(self, raw: Raw) -> np.ndarray:
        """int16 [any number of samples]. Raises DataError."""
        return self.wave(raw)

    def windows(self, value: np.ndarray) -> list[np.ndarray]:
        step = self.samples - round(OVERLAP * self.rate)
        if len(value) <= self.samples:
            return [value]
        return [value[start : start + self.samples] for start in range(0, len(value) - round(OVERLAP * self.rate), step)]

    # ------------------------------------------------------------ batches

    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """int16 [N, samples of the longest], and in the context the samples of each."""
        waves = [torch.from_numpy(np.ascontiguousarray(item, np.int16)) for item in items]
        least = round(0.05 * self.rate)  # two frames: a shorter value has none
        lengths = torch.tensor([max(len(wave), least) for wave in waves])
        x = torch.zeros(len(waves), int(lengths.max()), dtype=torch.int16)
        for row, wave in zip(x, waves, strict=True):
            row[: len(wave)] = wave
        return x, Context(lengths)

    def layer(self, x: Tensor) -> Layer:
        """Measured on some of the recordings, their padding left out."""
        layer = LogMel(self.rate, self.bands).to(x.device)
        some = x[: max(1, int(MEASURED_SECONDS * self.rate / x.shape[1]))]
        loud = layer(some, Context())[0].transpose(2, 3).flatten(0, 2).double()
        spoken = loud.sum(1) > loud.min() * self.bands + 1e-6
        layer.measure(loud[spoken] if int(spoken.sum()) > 1 else loud)
        return layer

    def augment(self, x: Tensor, context: Context, draws: Tensor, detail: float = 1.0) -> tuple[Tensor, Context]:
        """Each recording a little faster or slower, its pitch with it, louder or softer, every second time with white noise."""
        assert context.lengths is not None
        speed = SLOWEST + (FASTEST - SLOWEST) * draws[:, 5]
        lengths = (context.lengths / speed).long().clamp_min(1)
        place = torch.arange(int(lengths.max()), device=x.device) * speed[:, None]
        before = place.long().clamp_max(x.shape[1] - 1)
        after = (before + 1).clamp_max(x.shape[1] - 1)
        wave = torch.lerp(x.gather(1, before).float(), x.gather(1, after).float(), place - before)
        wave = self.louder(wave, draws)
        inside = torch.arange(wave.shape[1], device=x.device) < lengths[:, None]
        return (wave * inside).round_().clamp_(-32768, 32767).to(torch.int16), Context(lengths)

    def like(self, other: AudioInput) -> AudioInput:
        return replace(self, rate=other.rate, samples=other.samples, bands=other.bands)

    def outliers(self, count: int, seed: int) -> list[np.ndarray]:
        """None: no text is "none of these"."""
        return []

    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        """As of other sounds, of different lengths, some seconds long."""
        made = super().golden(count, seed)
        return [value[: self.rate * (2 + 3 * number % 7) // 2] for number, value in enumerate(made)]

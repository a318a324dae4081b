"""Layers for sound. Shapes: N recordings, S samples, F frames in time, B bands in pitch; log-mel pictures are [N, 1, B, F]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.layers.base import Context, Layer

WINDOW, HOP = 0.025, 0.010
"""Seconds that one frame hears, and from one frame to the next."""
LOWEST = 40.0
"""Hertz, where the lowest band begins."""
FLOOR = 1e-6
"""Added to the power, so that silence has a logarithm (full scale is about 1 and more)."""
TOGETHER = 64
"""Recordings whose frames are computed at once: each needs a hundred times the memory of its log-mel picture."""


class LogMel(Layer):
    """A wave to a picture of sound: int16 [N, S] -> float [N, 1, bands, F], how loud each pitch is at each moment.

    Frames of 25 ms every 10 ms under a Hann window, their power spectrum summed in triangles that are evenly spaced on the mel scale
    (Stevens, Volkmann & Newman 1937, in O'Shaughnessy's formula; Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420),
    the logarithm of it, then each band with mean 0 and deviation 1 over the training recordings. Nothing in it is trained. Where the
    context has lengths, in samples, frames beyond the end of a recording are 0, and the lengths are in frames afterwards.
    """

    kind = "log_mel"
    window: Tensor
    filters: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, rate: int, bands: int) -> None:
        super().__init__()
        if not 1_000 <= rate <= 192_000 or not 4 <= bands <= 256:
            raise ValueError("the rate is 1000 to 192000 samples a second, with 4 to 256 bands")
        self.rate, self.bands = rate, bands
        self.length, self.hop = round(WINDOW * rate), round(HOP * rate)
        self.points = 2 ** math.ceil(math.log2(self.length))
        self.register_buffer("window", torch.hann_window(self.length, periodic=True))
        self.register_buffer("filters", mel_filters(rate, self.points, bands))
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(bands))

    @classmethod
    def measured(cls, x: Tensor, rate: int, bands: int) -> LogMel:
        """Fitted on an int16 batch [N, S] of training recordings."""
        layer = cls(rate, bands).to(x.device)
        layer.measure(layer(x, Context())[0].transpose(2, 3).flatten(0, 2).double())
        return layer

    def measure(self, loud: Tensor) -> None:
        """Mean and deviation from some frames [n, bands]."""
        self.mean.copy_(loud.mean(0))
        self.deviation.copy_(loud.std(0).clamp_min(1e-2))

    def frames(self, samples: int) -> int:
        """How many there are of so many samples."""
        return 1 + max(0, samples - self.length) // self.hop

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # a logarithm of sums needs all of its bits
            parts = [self._exported(x)] if torch.compiler.is_exporting() else [self._loudness(part) for part in x.split(TOGETHER)]
            loud = torch.cat(parts)
            loud = (loud - self.mean[:, None]) / self.deviation[:, None]
            if context.lengths is not None:
                lengths = (1 + (context.lengths - self.length) // self.hop).clamp_min(1)
                context = context._replace(lengths=lengths)
                loud = loud * (torch.arange(loud.shape[2], device=x.device) < lengths[:, None])[:, None]
        return loud[:, None], context

    def _loudness(self, x: Tensor) -> Tensor:
        """int16 [n, S] -> [n, bands, F]."""
        frames = (x.float() / 32768).unfold(1, self.length, self.hop) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames, self.points)).square().sum(-1)
        return torch.log(spectrum @ self.filters + FLOOR).transpose(1, 2)

    def _exported(self, x: Tensor) -> Tensor:
        """The same as filters that glide over the wave, which any software can compute: int16 [n, S] -> [n, bands, F]."""
        turn = 2 * math.pi / self.points * torch.outer(torch.arange(self.points // 2 + 1).double(), torch.arange(self.length).double())
        waves = (torch.cat([turn.cos(), turn.sin()]) * self.window.double()).float()
        parts = F.conv1d((x.float() / 32768)[:, None], waves[:, None], stride=self.hop)
        power = parts.square().unflatten(1, (2, -1)).sum(1)
        return torch.log(power.transpose(1, 2) @ self.filters + FLOOR).transpose(1, 2)


class Masks(Layer):
    """In training, two stretches of time and two of pitch of each picture become its mean, 0: [N, C, B, F] -> the same.

    SpecAugment without warping (Park et al. 2019, https://arxiv.org/abs/1904.08779): no single moment and no single pitch may decide. An
    answer goes through it untouched. Its chance is torch's own generator, which the loop seeds by (seed, step). With `views` above 1 the
    batch goes on so many times over, each time under masks of its own: [views * N, C, B, F].
    """

    kind = "masks"

    def __init__(self, time: float = 0.2, pitch: float = 0.15, count: int = 2, views: int = 1) -> None:
        """Largest share of the frames and of the bands that one mask covers, and how many of each there are."""
        super().__init__()
        if not (0 <= time < 1 and 0 <= pitch < 1 and 0 <= count <= 16 and 1 <= views <= 8):
            raise ValueError("masks cover a share of 0 to 1, at most 16 times, and there are at most 8 views")
        self.time, self.pitch, self.count, self.views = time, pitch, count, views

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if not self.training or not self.count:
            return x, context
        if self.views > 1:
            x = x.repeat(self.views, 1, 1, 1)
            context = context if context.lengths is None else context._replace(lengths=context.lengths.repeat(self.views))
        frames = x.shape[3] if context.lengths is None else context.lengths[:, None, None]
        in_time = self._kept(len(x), frames, x.shape[3], self.time, x)[:, None, None, :]
        return x * (in_time & self._kept(len(x), x.shape[2], x.shape[2], self.pitch, x)[:, None, :, None]), context

    def _kept(self, examples: int, real: int | Tensor, places: int, share: float, x: Tensor) -> Tensor:
        """[examples, places] of bool; the masks lie among the first `real` places."""
        wide = torch.rand(examples, self.count, 1, device=x.device) * share * real
        start = torch.rand(examples, self.count, 1, device=x.device) * (real - wide)
        place = torch.arange(places, device=x.device)
        return ~((place >= start) & (place < start + wide)).any(1)


class TimePool(Layer):
    """What a recording comes to over its time, pitch by pitch: [N, C, B, F] -> [N, C * B], or [N, 2 * C * B] with the deviations.

    The loudest moment (`deviations` off), or mean and deviation over all moments (statistics pooling: Snyder et al. 2017,
    https://doi.org/10.21437/Interspeech.2017-620). A pool over pitch, too, would not know a low tone from a high one.
    """

    kind = "time_pool"

    def __init__(self, deviations: bool = False) -> None:
        super().__init__()
        self.deviations = deviations

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if not self.deviations:
            return x.amax(3).flatten(1), context
        with torch.autocast(x.device.type if not x.is_meta else "cpu", enabled=False):
            x = x.float()
            mean = x.mean(3)
            spread = ((x - mean[..., None]).square().mean(3) + 1e-5).sqrt()
        return torch.cat([mean.flatten(1), spread.flatten(1)], 1), context


def mel_filters(rate: int, points: int, bands: int) -> Tensor:
    """[points // 2 + 1, bands]: triangles over the frequencies of a spectrum, evenly spaced in mel = 2595 log10(1 + f / 700)."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    bottom = 2595 * math.log10(1 + LOWEST / 700)
    edges = 700 * (10 ** (torch.linspace(bottom, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.arange(points // 2 + 1, dtype=torch.float64)[:, None] * rate / points
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    empty = filters.sum(0) == 0  # a band narrower than the spectrum is fine hears the nearest frequency
    nearest = (edges[1:-1][None] - frequency).abs().argmin(0)
    here = torch.arange(len(frequency))[:, None] == nearest
    return torch.where(empty & here, 1.0, filters).float()

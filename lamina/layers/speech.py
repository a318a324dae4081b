"""Layers that hear speech: pictures of sound become steps in time. Shapes: N recordings, B bands in pitch, F frames, T steps, W signals.

Steps beyond the end of a recording are 0, so that an answer does not depend on what stands beside it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer
from lamina.layers.byhand import dropped
from lamina.layers.transformer import EPSILON, Norm, in_fast_format

SHORTENED = 4
"""Frames of a log-mel picture that become one step."""


def real_steps(context: Context, steps: int) -> Tensor | None:
    """bool [N, steps]: which are of a recording, not of the padding; None where all are."""
    if context.lengths is None:
        return None
    return torch.arange(steps, device=context.lengths.device) < context.lengths[:, None]


class Subsample(Layer):
    """Four frames become one step: two convolutions over pitch and time that halve both, then a weighted sum of what they found.

    [N, 1, bands, F] -> [N, T, width], T = F / 4, rounded up twice.
    """

    kind = "subsample"

    def __init__(self, bands: int, filters: int, width: int) -> None:
        super().__init__()
        if not (4 <= bands <= 256 and 1 <= filters <= 4_096 and 1 <= width <= 1 << 16):
            raise ValueError("there are 4 to 256 bands, at most 4096 filters and 65536 signals")
        self.bands, self.filters, self.width = bands, filters, width
        self.first = nn.Conv2d(1, filters, 3, stride=2, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, stride=2, padding=1)
        self.out = nn.Linear(filters * _half(_half(bands)), width)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        for filters in (self.first, self.second):
            x = F.gelu(filters(x))
            if context.lengths is not None:
                context = context._replace(lengths=_half(context.lengths))
                real = real_steps(context, x.shape[3])
                assert real is not None
                x = x * real[:, None, None, :]
        return self.out(x.permute(0, 3, 1, 2).flatten(2)), context


class Nearby(Layer):
    """Each step looks at the few beside it, each signal for itself, through a gate: [N, T, width] -> [N, T, width].

    The convolution module of Gulati et al. 2020 (https://arxiv.org/abs/2005.08100), with RMSNorm, which knows no batch.
    """

    kind = "nearby"

    def __init__(self, width: int, size: int = 15, dropout: float = 0.0, epsilon: float = EPSILON) -> None:
        super().__init__()
        if not (1 <= width <= 1 << 16 and 1 <= size <= 255 and size % 2):
            raise ValueError("the width is at most 65536, and an odd number of steps, at most 255, is looked at")
        self.width, self.size, self.dropout, self.epsilon = width, size, dropout, epsilon
        self.norm, self.inner_norm = Norm(width, epsilon), Norm(width, epsilon)
        self.into = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, size, padding=size // 2, groups=width)
        self.out = nn.Linear(width, width, bias=False)
        if not self.out.weight.is_meta:
            nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        found = F.glu(self.into(in_fast_format(self.norm(x))), -1)
        if (real := real_steps(context, x.shape[1])) is not None:
            found = found * real[..., None]
        found = self._along_time(found)
        found = self.out(F.silu(self.inner_norm(found)))
        return x + dropped(found, self.dropout, self.training), context

    def _along_time(self, x: Tensor) -> Tensor:
        """The depthwise convolution of [N, T, width], as one over rows of one: so its kernels take signals as they lie in memory."""
        weight, bias = self.depthwise.weight[:, :, None], self.depthwise.bias
        found = F.conv2d(x.transpose(1, 2)[:, :, None], weight, bias, padding=(0, self.size // 2), groups=self.width)
        return found[:, :, 0].transpose(1, 2)


def _half(size: Any) -> Any:
    return (size + 1) // 2

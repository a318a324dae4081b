"""Layers for pictures. Shapes: N examples, C channels, H rows, W columns; channels-last in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer


class Standardize(Layer):
    """Bytes to numbers: uint8 [N, H, W, C] -> float [N, C, H, W] with mean 0 and deviation 1 over the training pictures.

    Mean and deviation are measured, not trained.
    """

    kind = "standardize"
    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @classmethod
    def measured(cls, x: Tensor) -> Standardize:
        """Fitted on a uint8 batch [N, H, W, C] of training pictures."""
        layer = cls(x.shape[-1])
        flat = x.reshape(-1, x.shape[-1]).double()
        layer.mean.copy_(flat.mean(0))
        layer.deviation.copy_(flat.std(0).clamp_min(1.0))
        return layer

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return ((x.float() - self.mean) / self.deviation).permute(0, 3, 1, 2), context


class Convolution(Layer):
    """3x3 (or k x k) filters, optional max-pooling by 2, batch normalization, activation: [N, C, H, W] -> [N, outputs, H', W'].

    Batch normalization after Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; pooled before it, which costs less.
    """

    kind = "convolution"

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, pool: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.stride, self.pool = inputs, outputs, kernel, stride, pool
        self.filters = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        x = self.filters(x)
        if self.pool:
            x = F.max_pool2d(x, 2, ceil_mode=True)
        return F.gelu(self.norm(x)), context


class Residual(Layer):
    """Two 3x3 convolutions whose result is added to what came in: [N, C, H, W] -> the same shape.

    He et al. 2015, https://arxiv.org/abs/1512.03385; the second normalization starts at 0, so that the layer starts as the identity.
    """

    kind = "residual"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        inner = F.gelu(self.first_norm(self.first(x)))
        return x + F.gelu(self.second_norm(self.second(inner))), context


class GlobalPool(Layer):
    """The mean and the maximum over all places: [N, C, H, W] -> [N, 2 C]."""

    kind = "global_pool"

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1), context

"""Layers for pictures. Shapes: N examples, C channels, H rows, W columns; channels-last in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer

WHITEN_FLOOR = 5e-4
"""Added to each variance, so that directions in which the pictures hardly vary are not blown up."""


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
        layer = cls(x.shape[-1]).to(x.device)
        flat = x.reshape(-1, x.shape[-1]).double()
        layer.mean.copy_(flat.mean(0))
        layer.deviation.copy_(flat.std(0).clamp_min(1.0))
        return layer

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return ((x.float() - self.mean) / self.deviation).permute(0, 3, 1, 2), context


class Whiten(Layer):
    """Bytes to uncorrelated signals: uint8 [N, H, W, C] -> [N, outputs, H', W'], the network's first filters, measured and not trained.

    The filters are the eigenvectors of the training pictures' patches, each divided by its deviation, and their negatives: what comes
    out is uncorrelated and of one scale, so that the layers above learn faster. (The first layer of Jordan 2024,
    https://arxiv.org/abs/2404.00498, without training its bias: then nothing has to be sent back through the widest maps.)
    """

    kind = "whiten"
    mean: Tensor
    deviation: Tensor
    filters: Tensor

    def __init__(self, channels: int, kernel: int, directions: int, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.kernel, self.directions, self.stride = channels, kernel, directions, stride
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("filters", torch.zeros(self.outputs, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(self.outputs), requires_grad=False)

    @property
    def outputs(self) -> int:
        return 2 * self.directions

    @classmethod
    def measured(cls, x: Tensor, kernel: int, directions: int, stride: int = 1) -> Whiten:
        """Fitted on a uint8 batch [N, H, W, C] of training pictures: the `directions` in which patches vary most."""
        layer = cls(x.shape[-1], kernel, directions, stride).to(x.device)
        standard = Standardize.measured(x)
        layer.mean.copy_(standard.mean)
        layer.deviation.copy_(standard.deviation)
        pictures = standard(x, Context())[0]
        size = layer.channels * kernel**2
        covariance, count = torch.zeros(size, size, dtype=torch.float64, device=x.device), 0
        for some in pictures.split(64):
            patches = F.unfold(some, kernel, stride=stride).transpose(1, 2).reshape(-1, size).double()
            covariance, count = covariance + patches.T @ patches, count + len(patches)
        values, vectors = torch.linalg.eigh(covariance / max(1, count))
        filters = (vectors / (values.clamp_min(0) + WHITEN_FLOOR).sqrt()).T.flip(0)[:directions].reshape(-1, layer.channels, kernel, kernel)
        layer.filters.copy_(torch.cat([filters, -filters]))
        return layer

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        standard = ((x.float() - self.mean) / self.deviation).permute(0, 3, 1, 2)
        return F.silu(F.conv2d(standard, self.filters, self.bias, self.stride, self.kernel // 2 if self.kernel % 2 else 0)), context


class Convolution(Layer):
    """3x3 filters, optional max-pooling by 2, batch normalization, activation: [N, C, H, W] -> [N, outputs, H', W'].

    The first filters pass the signals on unchanged (Zagoruyko & Komodakis 2017, https://arxiv.org/abs/1706.00388). Batch normalization
    after Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, without a trained scale; pooled before it, which costs less.
    """

    kind = "convolution"

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, pool: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.pool = inputs, outputs, kernel, pool
        self.filters = _filters(inputs, outputs, kernel)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        x = self.filters(x)
        if self.pool:
            x = F.max_pool2d(x, 2)
        return F.silu(self.norm(x)), context


class Residual(Layer):
    """Some 3x3 convolutions whose result is added to what came in: [N, C, H, W] -> the same shape.

    He et al. 2015, https://arxiv.org/abs/1512.03385.
    """

    kind = "residual"

    def __init__(self, width: int, convolutions: int = 2) -> None:
        super().__init__()
        self.width, self.convolutions = width, convolutions
        self.filters = nn.ModuleList(_filters(width, width, 3) for _ in range(convolutions))
        self.norms = nn.ModuleList(_norm(width) for _ in range(convolutions))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        inner = x
        for filters, norm in zip(self.filters, self.norms, strict=True):
            inner = F.silu(norm(filters(inner)))
        return x + inner, context


def _filters(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    filters = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    if not filters.weight.is_meta:
        nn.init.dirac_(filters.weight.data[: min(inputs, outputs)])
    return filters


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width)
    norm.weight.requires_grad_(False)
    return norm


class GlobalPool(Layer):
    """The maximum (or mean) over all places: [N, C, H, W] -> [N, C]."""

    kind = "global_pool"

    def __init__(self, mean: bool = False) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return (x.mean((2, 3)) if self.mean else x.amax((2, 3))), context

"""Layers of the mobile family of networks (MobileNetV2, EfficientNet-Lite): thin depthwise filters between cheap 1x1 mixing ones.

Slow to train on a CPU for their computations (docs/log.md), so Lamina grows none of its own from them; they carry borrowed networks.
The statistics of their normalizations stay those of the network that is borrowed: a few pictures would only blur them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer

EPSILON = 1e-3


def same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around, so that ceil(side / stride) places come out; an odd one goes to the right and below (TensorFlow's SAME)."""
    missing = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[2:]]
    down, right = missing
    return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2)) if max(missing) else x


class Borrowed(Layer):
    """A layer whose normalizations keep their statistics while the rest is trained."""

    def train(self, mode: bool = True) -> Borrowed:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class MobileConvolution(Borrowed):
    """Filters, batch normalization, ReLU cut off at 6: [N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""

    kind = "mobile_convolution"

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.stride = inputs, outputs, kernel, stride
        self.filters = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return F.relu6(self.norm(self.filters(same_padding(x, self.kernel, self.stride)))), context


class InvertedResidual(Borrowed):
    """1x1 filters widen `expand` times, depthwise ones look around, 1x1 ones narrow again; added to what came in where shapes allow.

    Sandler et al. 2018, https://arxiv.org/abs/1801.04381. [N, inputs, H, W] -> [N, outputs, H / stride, W / stride].
    """

    kind = "inverted_residual"

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, expand: int = 6) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.stride, self.expand = inputs, outputs, kernel, stride, expand
        wide = inputs * expand
        if expand > 1:
            self.widen = nn.Conv2d(inputs, wide, 1, bias=False)
            self.widen_norm = nn.BatchNorm2d(wide, eps=EPSILON)
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(wide, eps=EPSILON)
        self.narrow = nn.Conv2d(wide, outputs, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        inner = F.relu6(self.widen_norm(self.widen(x))) if self.expand > 1 else x
        inner = F.relu6(self.depthwise_norm(self.depthwise(same_padding(inner, self.kernel, self.stride))))
        inner = self.narrow_norm(self.narrow(inner))
        return (x + inner if self.stride == 1 and self.inputs == self.outputs else inner), context

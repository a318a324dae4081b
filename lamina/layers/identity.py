"""Layers that end in an embedding: a direction in which examples of one person lie together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer
from lamina.layers.byhand import dropped


class Flatten(Layer):
    """Every place keeps its own signals: [N, C, H, W] -> [N, C * H * W]. For pictures whose parts lie where they always lie."""

    kind = "flatten"

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return x.flatten(1), context


class Projection(Layer):
    """Weighted sums without bias, each brought to mean 0 and deviation 1 over the batch: [N, inputs] -> [N, outputs]. Some of what comes in
    is dropped in training."""

    kind = "projection"

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.dropout = inputs, outputs, dropout
        self.weights = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs, affine=False)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return self.norm(self.weights(dropped(x, self.dropout, self.training))), context


class Embedding(Layer):
    """The direction of what comes in, seen from the middle of all people: [N, inputs] -> [N, outputs] of length 1.

    (x / |x| - mean) @ matrix, brought to length 1. Mean and matrix are measured after training: the matrix makes the differences between
    examples of one person equally large in all directions, so that one angle fits everywhere (within-class covariance normalization:
    Hatch, Kajarekar & Stolcke 2006, https://doi.org/10.21437/Interspeech.2006-183). Until then they are 0 and the identity.
    """

    kind = "embedding"
    mean: Tensor
    matrix: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("matrix", torch.eye(inputs, outputs))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            return F.normalize((F.normalize(x.float(), dim=-1) - self.mean) @ self.matrix, dim=-1), context


class Cosine(Layer):
    """How near a direction is to that of each person of the training part: [N, inputs] of length 1 -> [N, outputs] cosines."""

    kind = "cosine"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.weights = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            return x.float() @ F.normalize(self.weights.float(), dim=-1).T, context

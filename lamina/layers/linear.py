"""Plain layers of artificial neurons: weighted sums plus bias, and an activation function or none."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": F.relu,
}


class Linear(Layer):
    """x [..., inputs] -> scale x W + b [..., outputs]. `start` scales the first weights; 0 makes every answer equally likely at first."""

    kind = "linear"

    def __init__(self, inputs: int, outputs: int, start: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.start, self.scale = inputs, outputs, start, scale
        self.weights = nn.Linear(inputs, outputs)
        nn.init.zeros_(self.weights.bias)
        if not self.weights.weight.is_meta:
            self.weights.weight.data.mul_(start)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return self.weights(x if self.scale == 1 else x * self.scale), context


class FullyConnected(Layer):
    """Each unit weighs every signal: x [..., inputs] -> activation(x W + b) [..., outputs]; no normalization.

    Begins after He et al. 2015 (https://arxiv.org/abs/1502.01852) with relu and gelu, else after Glorot & Bengio 2010.
    """

    kind = "fully_connected"

    def __init__(self, inputs: int, outputs: int, activation: str = "relu") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"the activation is one of {', '.join(ACTIVATIONS)}, got {activation}")
        self.inputs, self.outputs, self.activation = inputs, outputs, activation
        self.weights = nn.Linear(inputs, outputs)
        nn.init.zeros_(self.weights.bias)
        if not self.weights.weight.is_meta:
            (nn.init.kaiming_normal_ if activation in ("relu", "gelu") else nn.init.xavier_normal_)(self.weights.weight)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return ACTIVATIONS[self.activation](self.weights(x)), context

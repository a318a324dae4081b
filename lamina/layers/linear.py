"""The plain layer of artificial neurons: weighted sum plus bias."""

from __future__ import annotations

from torch import Tensor, nn

from lamina.layers.base import Context, Layer


class Linear(Layer):
    """x [..., inputs] -> x W + b [..., outputs]. `start` scales the first weights; 0 makes every answer equally likely at first."""

    kind = "linear"

    def __init__(self, inputs: int, outputs: int, start: float = 1.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.start = inputs, outputs, start
        self.weights = nn.Linear(inputs, outputs)
        nn.init.zeros_(self.weights.bias)
        if not self.weights.weight.is_meta:
            self.weights.weight.data.mul_(start)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return self.weights(x), context

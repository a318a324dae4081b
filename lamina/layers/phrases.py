"""Short runs of words: each step of a text with the steps beside it. Shapes: N rows, T steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer
from lamina.layers.transformer import in_fast_format

LARGEST = 1 << 14


class Phrases(Layer):
    """Weighted sums of each step and the steps around it in its own text, `size` together, what is negative cut off:
    [N, T, inputs] -> [N, T, outputs].

    Kim 2014, https://arxiv.org/abs/1408.5882. Beyond the ends of a text there is nothing (0), also where texts stand side by side.
    """

    kind = "phrases"

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        if not all(1 <= number <= LARGEST for number in (inputs, outputs)) or not 1 <= size <= 31 or size % 2 == 0:
            raise ValueError(f"signals are 1 to {LARGEST}, and the size is odd, 1 to 31")
        self.inputs, self.outputs, self.size = inputs, outputs, size
        self.sums = nn.Linear(size * inputs, outputs)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        x, steps, reach = in_fast_format(x), x.shape[1], self.size // 2
        text = context.segments  # which text each step is of
        if text is None:
            real = torch.full((x.shape[0],), steps, device=x.device) if context.lengths is None else context.lengths.to(x.device)
            text = (torch.arange(steps, device=x.device) < real[:, None]).long()
        around, texts = F.pad(x, (0, 0, reach, reach)), F.pad(text, (reach, reach), value=-1)
        seen = [
            around[:, at : at + steps] * (texts[:, at : at + steps] == text)[..., None] if at != reach else x for at in range(self.size)
        ]
        return F.relu(self.sums(torch.cat(seen, -1))), context

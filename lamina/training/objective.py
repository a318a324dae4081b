"""The objective: the one module that the loop, DDP, FSDP2, compile and graph capture see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lamina.layers import Context
from lamina.networks import Network
from lamina.outputs import Output, Progress


class Objective(nn.Module):
    """(x, context, target, progress) -> (loss sum, count). The gradient is divided by the count of the whole step, later."""

    def __init__(self, network: Network, output: Output, precision: str = "fp32", compiled: bool = False) -> None:
        super().__init__()
        self.network, self.output, self.precision = network, output, precision
        if compiled:
            self.compile(dynamic=False)

    def forward(self, x: Tensor, context: Context, target: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            hidden, context = self.network.hidden(x, context)
            return self.output.loss(hidden, self.network.head, target, context, progress)

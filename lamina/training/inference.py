"""What the network puts out for values, in their order: the one way that predict, evaluate, checks and calibration use."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lamina.data.batches import Batch
from lamina.layers import Context
from lamina.networks import Network
from lamina.outputs import Output

BATCH = 256


def values_of(network: Network, output: Output, x: Tensor, context: Context) -> Tensor:
    """fp32 values of the layer that answers come from, on the CPU."""
    with torch.inference_mode():
        until = "" if output.reads == network.head.name else output.reads
        return network(x, context, until)[0].float().cpu()


def run_in_order(network: Network, output: Output, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """(values, targets) of all batches, each example once."""
    was_training = network.training
    network.eval()
    try:
        pairs = [(values_of(network, output, batch.x, batch.context), batch.target.cpu()) for batch in batches]
    finally:
        network.train(was_training)
    return torch.cat([values for values, _ in pairs]), torch.cat([targets for _, targets in pairs])

"""Why this answer: what in the input moved it, and whether the picture of that means anything.

Integrated gradients (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365) by captum; the control is the same method on the same
layers with random weights (Adebayo et al. 2018, https://arxiv.org/abs/1810.03292): where both look alike, the picture tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lamina.layers import Context
from lamina.networks import Network

STEPS = 32
ALIKE = 0.5
"""Rank correlation with the control from which on the picture tells nothing."""


@dataclass(frozen=True)
class Attribution:
    """How much each place of the input moved one value of the answer, up (above 0) or down."""

    values: np.ndarray
    """[places …]: summed over the channels of a place."""
    control: np.ndarray
    """Of the network with random weights."""
    likeness: float
    """Rank correlation of the strengths of both."""

    @property
    def tells(self) -> bool:
        return abs(self.likeness) < ALIKE

    @property
    def sentence(self) -> str:
        with_ = f"likeness to the same network with random weights {self.likeness:.2f}"
        return f"The picture depends on what was learned ({with_})." if self.tells else f"This picture tells nothing ({with_})."


def why(network: Network, control: Network, x: Tensor, context: Context, answer: int) -> Attribution:
    """For one example, x [1, ...] as `Input.collate` makes it; `answer` is the place of the value in what the head puts out."""
    from scipy.stats import spearmanr

    own, other = (_integrated(each, x, context, answer) for each in (network, control))
    strengths = np.abs(own).reshape(-1), np.abs(other).reshape(-1)
    likeness = (
        float(spearmanr(*strengths).statistic) if min(s.std() for s in strengths) > 0 else 1.0
    )  # nothing to compare: it tells nothing
    return Attribution(own, other, likeness)


def _integrated(network: Network, x: Tensor, context: Context, answer: int) -> np.ndarray:
    from captum.attr import IntegratedGradients

    start, rest = _leaf(network.eval(), x, context)
    base = start.mean(dim=tuple(range(1, start.ndim - 1)), keepdim=True).expand_as(start) if start.ndim > 2 else torch.zeros_like(start)
    found = IntegratedGradients(rest).attribute(start, baselines=base, target=answer, n_steps=STEPS, internal_batch_size=STEPS)
    return found[0].sum(-1).detach().numpy() if start.ndim > 2 else found[0].detach().numpy()


def _leaf(network: Network, x: Tensor, context: Context) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """(numbers that can be varied a little, what the head makes of them): the raw values, or the first layer's signals of tokens."""
    if x.dtype in (torch.uint8, torch.float32):
        return x.float(), lambda values: network(values, context)[0]
    first, *layers = network.stack
    with torch.no_grad():
        signals, after = first(x, context)

    def rest(values: Tensor) -> Tensor:
        now = after
        for layer in layers:
            values, now = layer(values, now)
        return values

    return signals, rest

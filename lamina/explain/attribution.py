"""Why this answer: what in the input moved it, and whether the picture of that means anything.

Integrated gradients (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365) by captum; the control is the same method on the same
layers with random weights (Adebayo et al. 2018, https://arxiv.org/abs/1810.03292): where both look alike, the picture tells nothing.
What both share by construction, the distance of the input from the plain one, is left out of the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lamina.errors import UsageError, sentence
from lamina.explain.layers import vary
from lamina.layers import Context
from lamina.networks import Network

STEPS = 32
ALIKE = 0.5
"""Rank correlation with the control from which on the picture tells nothing."""
FEWEST = 30
"""Places below which a rank correlation says nothing."""


@dataclass(frozen=True)
class Attribution:
    """How much each place of the input moved one value of the answer, up (above 0) or down."""

    values: np.ndarray
    """[places …]: summed over the channels of a place."""
    likeness: float | None
    """Rank correlation of the strengths with those of the control; None where there are too few places, or nothing moves the control."""

    @property
    def tells(self) -> bool | None:
        return None if self.likeness is None else abs(self.likeness) < ALIKE

    @property
    def sentence(self) -> str:
        if self.likeness is None:
            return "Whether this picture tells anything cannot be said: there is too little to compare with random weights."
        with_ = f"likeness to the same network with random weights {self.likeness:.2f}"
        return f"The picture depends on what was learned ({with_})." if self.tells else f"This picture tells nothing ({with_})."


def why(network: Network, control: Network, x: Tensor, context: Context, answer: int) -> Attribution:
    """For one example, x [1, ...] as `Input.collate` makes it; `answer` is the place of the value in what the head puts out.

    Raises UsageError for a network that moves in steps, such as trees.
    """
    from scipy.stats import spearmanr

    (slopes, distance), (others, _) = (_integrated(each, x, context, answer) for each in (network, control))
    one, other = slopes.abs().sum(-1).reshape(-1).numpy(), others.abs().sum(-1).reshape(-1).numpy()
    comparable = len(one) >= FEWEST and min(one.std(), other.std()) > 0
    likeness = float(spearmanr(one, other).statistic) if comparable else None
    return Attribution((slopes * distance).sum(-1).numpy(), likeness)


def _integrated(network: Network, x: Tensor, context: Context, answer: int) -> tuple[Tensor, Tensor]:
    """(mean slope from a plain input to this one, this one minus the plain one), both [places …, channels]."""
    from captum.attr import IntegratedGradients

    start, layers, context = vary(network.eval(), x, context)
    plain = start.mean(dim=tuple(range(1, start.ndim - 1)), keepdim=True).expand_as(start) if start.ndim > 2 else torch.zeros_like(start)

    def rest(values: Tensor) -> Tensor:
        now = context
        for layer in layers:
            values, now = layer(values, now)
        if not values.requires_grad:
            raise UsageError(sentence("The model", "move by small steps of its input to say why", "one that jumps, such as trees"))
        return values

    method = IntegratedGradients(rest, multiply_by_inputs=False)
    slopes = method.attribute(start, baselines=plain, target=answer, n_steps=STEPS, internal_batch_size=STEPS)
    together = slopes[0].detach().float(), (start - plain)[0]
    return together if start.ndim > 2 else (together[0][:, None], together[1][:, None])

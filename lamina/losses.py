"""Losses as (sum, count), so that the whole step can be divided by its whole count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1
"""A target that does not count."""


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(sum over the counted targets of -log p, their number). logits [..., classes], target [...] with NOTHING where there is none.

    `weights` [classes] multiply the loss of an example by its target's weight. Label smoothing after Szegedy et al. 2015,
    https://arxiv.org/abs/1512.00567.
    """
    flat, wanted = logits.float().reshape(-1, logits.shape[-1]), target.reshape(-1)
    counted = (wanted != NOTHING).sum().to(torch.float32)
    if weights is None:
        return F.cross_entropy(flat, wanted, ignore_index=NOTHING, reduction="sum", label_smoothing=smoothing), counted
    each = F.cross_entropy(flat, wanted, ignore_index=NOTHING, reduction="none", label_smoothing=smoothing)
    return (each * weights[wanted.clamp_min(0)]).sum(), counted

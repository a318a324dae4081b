"""Losses as (sum, count), so that the whole step can be divided by its whole count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1
"""A target that does not count."""


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """(sum over the counted targets of -log p, their number). logits [..., classes], target [...] with NOTHING where there is none.

    Label smoothing after Szegedy et al. 2015, https://arxiv.org/abs/1512.00567.
    """
    flat, wanted = logits.float().reshape(-1, logits.shape[-1]), target.reshape(-1)
    total = F.cross_entropy(flat, wanted, ignore_index=NOTHING, reduction="sum", label_smoothing=smoothing)
    return total, (wanted != NOTHING).sum().to(torch.float32)

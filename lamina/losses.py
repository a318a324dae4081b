"""Losses as (sum, count), so that the whole step can be divided by its whole count."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1
"""A target that does not count."""
MOST_AT_ONCE = 1 << 20
"""Logits that are made together on a CPU: as many as stay in its cache."""
MOST_KEPT = 1 << 26
"""Logits whose errors are kept until the weights' are made of them."""
LEAST_SHARE = 1e-38


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


def projected_cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """cross_entropy(hidden @ weight.T, target), without ever holding all logits: signals [..., width], weight [classes, width].

    The errors of the signals and weights are made on the way there, a few rows at a time (Hsu et al. 2024, Liger Kernel,
    https://arxiv.org/abs/2410.10989).
    """
    kind = "cpu" if hidden.is_meta else hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden, weight = (each.to(torch.get_autocast_dtype(kind)) for each in (hidden, weight))
    wanted = target.reshape(-1)
    return _Projected.apply(hidden.reshape(-1, hidden.shape[-1]), weight, wanted), (wanted != NOTHING).sum().to(torch.float32)


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        device = hidden.device.type
        wide = torch.promote_types(hidden.dtype, torch.float32)
        kept, few = (max(1, most // len(weight)) for most in (MOST_KEPT, MOST_AT_ONCE if device == "cpu" else MOST_KEPT))
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros(weight.shape, dtype=wide, device=hidden.device)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        with torch.autocast(device, enabled=False):
            for many, wanted, back in zip(hidden.split(kept), target.split(kept), to_hidden.split(kept), strict=True):
                errors = torch.empty(len(many), len(weight), dtype=hidden.dtype, device=hidden.device)
                for some, answer, error in zip(many.split(few), wanted.split(few), errors.split(few), strict=True):
                    counted, place = (answer != NOTHING).to(wide)[:, None], answer.clamp_min(0)[:, None]
                    shares = F.linear(some, weight).softmax(-1, dtype=wide)
                    total -= (shares.gather(1, place).clamp_min(LEAST_SHARE).log() * counted).sum()
                    error.copy_(shares.scatter_add_(1, place, torch.full_like(counted, -1)).mul_(counted))
                torch.mm(errors, weight, out=back)
                to_weight += errors.T @ many
        ctx.save_for_backward(to_hidden, to_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * gradient.to(to_hidden.dtype), to_weight * gradient.to(to_weight.dtype), None

"""Steps of attention with their backward pass written by hand, and dropout: several times as fast on a CPU as what PyTorch makes of them.

PyTorch's own attention on a CPU computes blocks one after the other; here they are a few large matrix products. The formulas are those of
Dao et al. 2022, https://arxiv.org/abs/2205.14135, appendix B.2, without its tiling.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_STEPS = 512
"""Steps up to which all pairs of them are held at once."""


def learns(x: Tensor) -> bool:
    """Whether these steps are for signals x: an error will be sent back to them, on a CPU."""
    return x.requires_grad and x.device.type == "cpu"


def dropped(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout (Srivastava et al. 2014): in training about that share of the signals become 0, the others as much larger.

    On a CPU drawing a number for each signal took 7 % of a step; here one draw does for eight, the share in steps of 1/256.
    """
    if not training or not share or x.device.type != "cpu":
        return F.dropout(x, share, training)
    least = max(1, round(256 * share))
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= least
    return x * kept.to(x.dtype).mul_(256 / (256 - least))


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
    """queries [N, heads, T, size], keys and values [N, groups, all steps, size] -> [N, heads, T, size]: the mean of the values that each
    step looks at, where `mask` (true: may look; [T, T], [N, 1, T or 1, all steps]) lets it, or, without one, at all steps, or where
    `causal` those before it."""
    heads, steps = queries.shape[1:3]
    if learns(queries) and keys.shape[1:3] == (heads, steps) and steps <= MOST_STEPS:
        if mask is None:
            mask = torch.ones(steps, steps, dtype=torch.bool)
            mask = mask.tril() if causal else mask
        added = torch.zeros(mask.shape, dtype=values.dtype).masked_fill_(~mask, -torch.inf)
        return Attended.apply(queries, keys, values, added)
    return F.scaled_dot_product_attention(
        queries.to(values.dtype), keys.to(values.dtype), values, mask, is_causal=causal and mask is None, enable_gqa=heads != keys.shape[1]
    )


class Attended(torch.autograd.Function):
    """(queries, keys, values [N, heads, T, size], mask) -> [N, heads, T, size]: the mean of the values that each step looks at.

    `mask` is 0 where a step may look and minus infinity where not: [T, T] or [N, 1, T or 1, T].
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        rows, heads, steps, size = queries.shape
        queries, keys, values = (each.reshape(-1, steps, size) for each in (queries, keys, values))
        each = mask if mask.ndim == 2 else mask.expand(rows, heads, steps, steps).reshape(-1, steps, steps)
        shares = torch.baddbmm(each, queries, keys.transpose(1, 2), alpha=size**-0.5).softmax(-1)
        found = torch.bmm(shares, values)
        ctx.save_for_backward(queries, keys, values, shares, found)
        return found.view(rows, heads, steps, size)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, shares, found = ctx.saved_tensors
        shape, scale = gradient.shape, queries.shape[-1] ** -0.5
        gradient = gradient.reshape(queries.shape)
        to_values = torch.bmm(shares.transpose(1, 2), gradient)
        to_shares = torch.bmm(gradient, values.transpose(1, 2))
        mean = (gradient * found).sum(-1, keepdim=True)
        to_scores = to_shares.sub_(mean).mul_(shares)
        to_queries, to_keys = torch.bmm(to_scores, keys).mul_(scale), torch.bmm(to_scores.transpose(1, 2), queries).mul_(scale)
        return to_queries.view(shape), to_keys.view(shape), to_values.view(shape), None


class Turned(torch.autograd.Function):
    """(heads [N, T, H, size], weight [size], cosine, sine, epsilon) -> the heads normed (RMSNorm) and turned by their positions.

    `cosine` and `sine` [T or N, T; 1; size / 2]: the first half of each head is paired with the second.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx: Any, heads: Tensor, weight: Tensor, cosine: Tensor, sine: Tensor, epsilon: float) -> Tensor:
        half = heads.shape[-1] // 2
        length = torch.linalg.vector_norm(heads, dim=-1, keepdim=True, dtype=_wide(heads))
        scale = (length.square_() / heads.shape[-1]).add_(epsilon).rsqrt_().to(heads.dtype)
        own = torch.cat([weight[:half] * cosine, weight[half:] * cosine], -1).to(heads.dtype)
        other = torch.cat([weight[half:] * -sine, weight[:half] * sine], -1).to(heads.dtype)
        ctx.save_for_backward(heads, weight, cosine, sine, scale)
        return (heads * own).addcmul_(heads.roll(half, -1), other).mul_(scale)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        heads, weight, cosine, sine, scale = ctx.saved_tensors
        size, half, gradient = heads.shape[-1], heads.shape[-1] // 2, gradient.contiguous()
        own = torch.cat([cosine, cosine], -1).to(heads.dtype)
        other = torch.cat([sine, -sine], -1).to(heads.dtype)
        back = (gradient * own).addcmul_(gradient.roll(half, -1), other)  # to the normed heads times the weight
        normed = heads * scale
        product = back * normed
        to_weight = product.sum(tuple(range(heads.ndim - 1)), dtype=_wide(heads)).to(weight.dtype)
        along = torch.mv(product.view(-1, size), weight.to(heads.dtype) / size).view(scale.shape)
        return back.mul_(weight.to(heads.dtype)).addcmul_(normed, along, value=-1).mul_(scale), to_weight, None, None, None


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)

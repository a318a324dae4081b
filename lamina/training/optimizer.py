"""Optimizers: Muon for filters and matrices; SGD with Nesterov momentum, or AdamW, for the head, tables, biases and norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lamina.networks import Network
from lamina.training.distributed import fill, whole
from lamina.training.plan import Plan

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 3
WIDE = 4
"""From so many times as wide as high on a matrix is made orthogonal through the square matrix of its rows."""
BETAS, EPSILON = (0.9, 0.95), 1e-10
"""Of AdamW."""
LARGEST_TOGETHER = 1 << 18
"""Numbers of a matrix up to which it is made orthogonal together with others of its shape."""
NARROWEST = 8
"""Filters and matrices with fewer rows or columns than this are left to SGD."""


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) in the groups with `orthogonal`, AdamW (Loshchilov & Hutter
    2019, https://arxiv.org/abs/1711.05101) in those with `adam`, else SGD.

    The momentum of a filter [outputs, inputs, k, k], seen as a matrix [outputs, rest], is replaced by the nearest matrix whose
    singular values are all about 1. In a group with `held` the filter itself stays at length sqrt(outputs), so that one rate suits every
    layer; else it shrinks by `weight_decay` times the rate, and tall matrices go farther in a step.
    Each group's rate is `lr`, set by the loop, times its `scale`.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, products: torch.dtype = torch.float32) -> None:
        """`products` is the number format of the matrix products; fp64 parameters use their own."""
        self.products = products
        usual = {"lr": lr, "scale": 1.0, "momentum": 0.0, "weight_decay": 0.0, "orthogonal": False, "held": True, "adam": False}
        super().__init__(groups, usual)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there."""
        for group in self.param_groups:
            rate, momentum, decay = group["lr"] * group["scale"], group["momentum"], group["weight_decay"]
            waiting: list[tuple[Tensor, Tensor]] = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if group["adam"]:
                    _adam(parameter, state, rate, decay)
                    continue
                added = decay and group["held"]
                gradient = parameter.grad.add(parameter, alpha=decay) if added else parameter.grad
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].mul_(momentum).add_(gradient)
                update = gradient.add(state["momentum"], alpha=momentum)
                if group["orthogonal"]:
                    waiting.append((parameter, whole(update)))
                else:
                    _less(parameter, update, rate)
            for (parameter, _), made in zip(waiting, orthogonal_all([update for _, update in waiting], self.products), strict=True):
                value = whole(parameter)
                if group["held"]:
                    fill(parameter, _less(value * (len(value) ** 0.5 / value.norm().clamp_min(1e-7)), made, rate))
                else:
                    tall = max(1.0, len(value) / (value.numel() / len(value))) ** 0.5
                    fill(parameter, _less(value.mul(1 - rate * decay), made, rate * tall))


def _adam(parameter: Tensor, state: dict[str, Any], rate: float | Tensor, decay: float) -> None:
    """A step of AdamW; how many there were is counted on the device, so that captured steps count, too."""
    if "momentum" not in state:
        state.update(momentum=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["count"] = torch.zeros((), device=parameter.device)
    gradient = parameter.grad
    assert gradient is not None
    state["count"] += 1
    state["momentum"].lerp_(gradient, 1 - BETAS[0])
    state["square"].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    first, second = (1 - beta ** state["count"] for beta in BETAS)
    parameter.mul_(1 - rate * decay)
    _less(parameter, (state["momentum"] / first) / ((state["square"] / second).sqrt() + EPSILON), rate)


def _less(value: Tensor, update: Tensor, rate: float | Tensor) -> Tensor:
    """`value` -= rate * update; where steps are captured the rate is a tensor, for a number would be recorded for good."""
    return value.sub_(update * rate) if isinstance(rate, Tensor) else value.sub_(update, alpha=rate)


def orthogonal_all(matrices: list[Tensor], products: torch.dtype = torch.float32) -> list[Tensor]:
    """`orthogonal` of each; on a CPU small ones of one shape together, for there most of the time goes into calls."""
    found: list[Tensor | None] = [None] * len(matrices)
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, matrix in enumerate(matrices):
        if matrix.is_cuda or matrix.numel() > LARGEST_TOGETHER or matrix.dtype == torch.float64:
            found[place] = orthogonal(matrix, products)
        else:
            alike.setdefault(tuple(matrix.shape), []).append(place)
    for places in alike.values():
        made = orthogonal(torch.stack([matrices[place] for place in places]), products, together=True)
        for place, its in zip(places, made, strict=True):
            found[place] = its
    return [each for each in found if each is not None]


def orthogonal(matrix: Tensor, products: torch.dtype = torch.float32, together: bool = False) -> Tensor:
    """The nearest matrix with singular values of about 1, by Newton-Schulz steps; axes beyond the first count as one. `together`: the first
    axis counts matrices."""
    x = matrix.reshape(*matrix.shape[: 2 if together else 1], -1).to(torch.float64 if matrix.dtype == torch.float64 else products)
    upright = x.shape[-2] > x.shape[-1]
    x = x.mT if upright else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    if x.is_cuda or x.shape[-1] < WIDE * x.shape[-2]:
        for _ in range(NEWTON_SCHULZ_STEPS):
            product = x @ x.mT
            if x.is_cuda:  # the same in three kernels instead of eight
                x = torch.addmm(x, torch.addmm(product, product, product, beta=b, alpha=c), x, beta=a)
            else:
                x = a * x + (b * product + c * product @ product) @ x
    else:  # what each step multiplies x by is a polynomial of x @ x.mT: the small square matrices are multiplied, x once
        product = x @ x.mT
        usual = a * torch.eye(product.shape[-1], dtype=x.dtype)
        made = usual
        for number in range(NEWTON_SCHULZ_STEPS):
            factor = usual + b * product + c * product @ product
            made = factor @ made if number else factor
            product = factor @ product @ factor
        x = made @ x
    return (x.mT if upright else x).reshape(matrix.shape).to(matrix.dtype)


def make_optimizer(network: Network, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimizer over the trained parameters: filters and matrices, the head, and the rest. The loop sets the rate in every step.

    Only filters, matrices and the head decay. Embedding tables are no matrices here.
    """
    head = {id(parameter) for parameter in network.head.parameters()}
    tables = {id(module.weight) for module in network.modules() if isinstance(module, torch.nn.Embedding)}
    groups: dict[str, list[Tensor]] = {"filters": [], "head": [], "rest": []}
    for parameter in network.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim > 1 and id(parameter) not in tables and min(len(parameter), parameter[0].numel()) >= NARROWEST
            groups["head" if id(parameter) in head else "filters" if matrix else "rest"].append(parameter)
    muon, adam = plan.optimizer.startswith("muon"), plan.optimizer.endswith("adamw")
    scales = {"filters": 1.0, "head": plan.head_rate / plan.learning_rate or 1.0, "rest": plan.rest_rate / plan.learning_rate or 1.0}
    made: list[dict[str, Any]] = []
    for name, members in groups.items():
        orthogonal = muon and name == "filters"
        momentum = plan.rest_momentum if muon and name != "filters" else plan.momentum
        for matrices in (True, False):
            if part := [parameter for parameter in members if (parameter.ndim > 1) == matrices]:
                decay = plan.weight_decay if matrices and (adam or not orthogonal) else 0.0
                kinds = {"orthogonal": orthogonal, "held": not adam, "adam": adam and not orthogonal}
                made.append({"params": part, "scale": scales[name], "momentum": momentum, "weight_decay": decay, **kinds})
    return Muon(made, plan.learning_rate, torch.bfloat16 if plan.precision == "bf16" else torch.float32)

"""Optimizers, from PyTorch, fused where the device has it."""

from __future__ import annotations

import torch
from torch import nn

from lamina.training.plan import Plan


def make_optimizer(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; only matrices and filters decay. The rate is set anew in every step."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = bool(trained) and trained[0].device.type in ("cpu", "cuda", "mps") and not hasattr(trained[0], "device_mesh")
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=plan.learning_rate,
        momentum=plan.momentum,
        nesterov=plan.momentum > 0,
        fused=fused,
    )

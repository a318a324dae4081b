"""One training step, opened: forward pass, loss, backpropagation, step, layer by layer, on one batch."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Batch
from lamina.layers import Layer
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import Progress
from lamina.training.distributed import World
from lamina.training.loop import training_loop
from lamina.training.objective import Objective
from lamina.training.optimizer import make_optimizer
from lamina.training.plan import Plan


@dataclass(frozen=True)
class LayerStep:
    """What one step does in one layer."""

    name: str
    shape: tuple[int, ...]
    """Of the signals that come out."""
    mean: float
    deviation: float
    passed: float
    """Share of the signals that are above 0."""
    gradient: float
    """Length of the gradient of the layer's weights; 0 where none are trained."""
    weights: float
    """Length of its weights before …"""
    change: float
    """… and of what the step added to them."""


@dataclass(frozen=True)
class Mistake:
    place: int
    """In the batch."""
    probability: float
    """That the network gave to the right answer."""
    loss: float


@dataclass(frozen=True)
class OpenedStep:
    layers: list[LayerStep]
    loss: float
    perfect: float
    """The least loss that any answer could have."""
    clueless: float | None
    after: float
    """On the same batch, after the step."""
    rate: float
    mistakes: list[Mistake]
    """A small, a middling and the worst one."""


def open_step(model: Model, batch: Batch, plan: Plan | None = None, fraction: float = 0.5) -> OpenedStep:
    """Make one optimizer step on a copy of the model's network, as its training would have at `fraction` of its schedule."""
    plan = plan or plan_of(model)
    network = copy.deepcopy(model.network).train()
    objective = Objective(network, model.output, "fp32")
    optimizer = make_optimizer(network, plan)
    progress = Progress(torch.tensor(fraction), torch.tensor(0))
    kept = {name: [value.detach().clone() for value in layer.parameters()] for name, layer in network.layers.items()}
    signals = _signals(network, batch)
    losses = each_loss(model, batch)
    number = round(fraction * plan.total("final"))
    steps = iter([(number, fraction, [batch])])
    made = next(iter(training_loop(objective, steps, optimizer, lambda step: plan.rate("final", step), plan.seed, World())))
    with torch.no_grad():
        total, count = objective(batch.x, batch.context, batch.target, progress)
    after = float(total / count)
    layers = []
    for name, layer in network.layers.items():
        assert isinstance(layer, Layer)
        grads = [value.grad for value in layer.parameters() if value.grad is not None]
        before, now = kept[name], [value.detach() for value in layer.parameters()]
        shape, mean, deviation, passed = signals[name]
        layers.append(
            LayerStep(
                name, shape, mean, deviation, passed, _length(grads), _length(before),
                _length([b - a for a, b in zip(before, now, strict=True)]),
            )
        )  # fmt: skip
    clueless = model.output.clueless(batch.target.tolist()) if batch.target.ndim == 1 else None
    order = np.argsort(losses)
    chosen = [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
    mistakes = [Mistake(place, math.exp(-float(losses[place])), float(losses[place])) for place in chosen]
    return OpenedStep(layers, float(made.loss), model.output.least_loss(), clueless[1] if clueless else None, after, made.rate, mistakes)


def _signals(network: Network, batch: Batch) -> dict[str, tuple[tuple[int, ...], float, float, float]]:
    """(shape, mean, deviation, share above 0) of what each layer puts out for the batch, in training mode."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}  # statistics move in training mode
    with torch.no_grad():
        found = {
            name: (tuple(x.shape[1:]), float(x.float().mean()), float(x.float().std()), float((x > 0).float().mean()))
            for name, x, _ in network.walk(batch.x, batch.context)
        }
    network.load_state_dict(kept)
    return found


def _length(values: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(value.float().square().sum()) for value in values))


def plan_of(model: Model) -> Plan:
    """The plan in the model's card."""
    names = {field.name for field in dataclasses.fields(Plan)}
    values: dict[str, Any] = {name: value for name, value in model.card["plan"].items() if name in names}
    return Plan(**{**values, "revisions": [], "path": ""})


def each_loss(model: Model, batch: Batch) -> np.ndarray:
    """-log of the probability that the network, as it answers, gives to the right class of each example."""
    with torch.no_grad():
        logits = model.network.eval()(batch.x, batch.context)[0].float()
    return torch.nn.functional.cross_entropy(logits, batch.target, reduction="none").numpy()

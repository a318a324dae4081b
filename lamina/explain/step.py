"""One training step, opened: forward pass, loss, backpropagation, step, layer by layer, on one batch."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Batch, step_seed
from lamina.explain.layers import length_of
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import ClassesOutput, Progress
from lamina.training.distributed import World
from lamina.training.loop import training_loop
from lamina.training.objective import Objective
from lamina.training.optimizer import make_optimizer
from lamina.training.plan import Plan, Revision


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
    loss: float
    """As training reckons it."""
    probability: float | None
    """That the network gave to the right answer, where answers are classes."""


@dataclass(frozen=True)
class OpenedStep:
    layers: list[LayerStep]
    loss: float
    perfect: float | None
    """The least loss that any answer could have; None where that is not known."""
    clueless: float | None
    after: float
    """On the same batch, after the step."""
    rate: float
    mistakes: list[Mistake]
    """The least, the middling and the largest: by the probability of the right answer, else by the loss."""


def open_step(model: Model, batches: list[Batch], plan: Plan, fraction: float = 0.5) -> OpenedStep:
    """Make one optimizer step on a copy of the model's network, with the optimizer and the rate of its training at `fraction` of the
    schedule; in fp32, without augmentation and without the momentum that earlier steps would have left. `batches` are its micro-batches.
    """
    network, number = copy.deepcopy(model.network).train(), round(fraction * plan.total("final"))
    objective = Objective(network, model.output, "fp32")
    optimizer = make_optimizer(network, plan)
    progress = Progress(torch.tensor(fraction), torch.tensor(number))
    kept = {layer.name: [value.detach().clone() for value in layer.parameters()] for layer in network.stack}
    signals, mistakes = _signals(network, batches[0]), _mistakes(model, batches, progress)
    with torch.random.fork_rng(devices=[]):
        steps = iter([(number, fraction, batches)])
        made = next(iter(training_loop(objective, steps, optimizer, lambda step: plan.rate("final", step), plan.seed, World())))
        total = count = 0.0
        with torch.no_grad():
            for part, batch in enumerate(batches):
                torch.manual_seed(step_seed(plan.seed, number, part))  # the same signals are dropped as before
                found = objective(batch.x, batch.context, batch.target, progress)
                total, count = total + float(found[0]), count + float(found[1])
    layers = []
    for layer in network.stack:
        before, now = kept[layer.name], [value.detach() for value in layer.parameters()]
        gradient = length_of([value.grad for value in layer.parameters() if value.grad is not None])
        change = length_of([b - a for a, b in zip(before, now, strict=True)])
        layers.append(LayerStep(layer.name, *signals[layer.name], gradient, length_of(before), change))
    clueless = model.output.clueless([target for batch in batches for target in batch.target.tolist()])
    perfect = model.output.least_loss()
    return OpenedStep(layers, float(made.loss), perfect, clueless[1] if clueless else None, total / max(1.0, count), made.rate, mistakes)


def _mistakes(model: Model, batches: list[Batch], progress: Progress) -> list[Mistake]:
    """Of the network as it answers, but with the loss of training."""
    losses: list[float] = []
    shares: list[float | None] = []
    network, output = model.network.eval(), model.output
    with torch.no_grad():
        for batch in batches:
            hidden, context = network.hidden(batch.x, batch.context)
            for row in range(len(batch.x)):
                one = slice(row, row + 1)
                total, count = output.loss(hidden[one], network.head, batch.target[one], context.part(one), progress)
                losses.append(float(total) / max(1.0, float(count)))
            values = network.head(hidden, context)[0]
            if isinstance(output, ClassesOutput):
                told = torch.softmax(values.float() / output.temperature, 1)
                shares += told.gather(1, batch.target[:, None])[:, 0].tolist()
            else:
                shares += [None] * len(batch.x)
    known = [-share for share in shares if share is not None]
    order = np.lexsort((losses, known)) if len(known) == len(losses) else np.argsort(losses)
    return [Mistake(int(place), losses[place], shares[place]) for place in (order[0], order[len(order) // 2], order[-1])]


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


def plan_of(card: dict[str, Any]) -> Plan:
    """The plan of a model's training, from its card."""
    names = {field.name for field in dataclasses.fields(Plan)}
    values: dict[str, Any] = {name: value for name, value in card["plan"].items() if name in names}
    return Plan(**{**values, "revisions": [Revision(**each) for each in values["revisions"]], "path": ""})

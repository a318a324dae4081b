"""verify: is this the same person? Every part of the task on one screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.classical.fit import trivial
from lamina.classical.people import FACE_OPPONENTS, VOICE_OPPONENTS, fit_people
from lamina.data.batches import Feed
from lamina.data.read import read_examples
from lamina.inputs import AudioInput, ImageInput, Input
from lamina.layers import Embedding, Flatten, LogMel, Projection, Whiten
from lamina.networks import Network, conv_net, conv_net_outputs, sound_net, sound_net_outputs
from lamina.outputs import IdentityOutput, Output
from lamina.settings import Settings
from lamina.task import Recipe, Task
from lamina.tasks.verify import answers
from lamina.training.inference import BATCH, run_in_order

SIZES = [12, 16, 24, 32, 48, 64]
WIDTH = 256
"""Numbers of an embedding."""
DROPPED, MANY_FACES = 0.2, 1_000
"""Share of a face's last signals that are dropped in training, where so many are known: their few examples are soon known by heart."""
SHRINKAGE = 1.0
"""How much of the mean variance within people is added to that of each direction before it is made equal in all."""
KNOWN_APART = 4
"""People for each number of an embedding, from which on it is measured how they differ."""
MOST_MEASURED = 10_000
FACE_SIDE = 64


def _input(settings: Settings, kind: str) -> Input:
    if kind == AudioInput.kind:
        return AudioInput(voices=True)
    return ImageInput(side=settings.side or FACE_SIDE, max_pixels=settings.max_pixels, faces=True)


def _network(input: Input, output: Output, size: int, x: Tensor) -> Network:
    first = input.layer(x)
    if isinstance(first, LogMel):
        hidden = sound_net(first.bands, size, deviations=True)
        signals = sound_net_outputs(hidden, first.bands)
    else:
        assert isinstance(input, ImageInput) and isinstance(first, Whiten)
        hidden = conv_net(input.side // first.stride, first.outputs, size)[:-1]
        rows = input.side // first.stride // 2 ** sum("deeper" in name for name, _ in hidden)
        hidden.append(("flatten", Flatten()))
        signals = conv_net_outputs(hidden) * rows * rows
    many = isinstance(output, IdentityOutput) and output.count >= MANY_FACES
    dropped = DROPPED if many and isinstance(input, ImageInput) else 0.0
    last = [("projection", Projection(signals, WIDTH, dropped)), ("embedding", Embedding(WIDTH, WIDTH)), ("head", output.head(WIDTH))]
    return Network([("input", first), *hidden, *last])


def _recipe(examples: int, input: Input) -> Recipe:
    """Tuned on people held out of training parts only (docs/log.md)."""
    few = examples < 4_000
    return Recipe(
        epochs=120 if few else 40,
        least_epochs=60 if few else 30,
        batch=128,
        size=16 if few else 32,
        optimizer="muon",
        learning_rate=0.07,
        momentum=0.6,
        head_rate=0.035,
        rest_rate=0.2,
        rest_momentum=0.85,
        warmup=0.02,
        average=0.03,
        checks=8,
    )


def _finish(network: Network, feed: Feed, train: Any) -> None:
    """Mean and matrix of the embedding, measured on the training part: the differences within people become equal in all directions.

    Of many people it is also measured how much they differ in each direction, and it counts by that: b / (b + 1) where they differ b times
    as much as examples of one do (the shrinkage of two-covariance models: Ioffe 2006, https://doi.org/10.1007/11744085_41).
    """
    layer = network.layers["embedding"]
    assert isinstance(layer, Embedding)
    layer.mean.zero_()
    layer.matrix.copy_(torch.eye(layer.inputs, layer.outputs))
    rows = np.asarray(train)[:: max(1, len(train) // MOST_MEASURED)]
    found = run_in_order(network, feed.input, feed.output, feed.in_order(rows.tolist(), BATCH)).values
    people, counts = torch.unique(torch.tensor([feed.targets[index] for index in rows]), return_inverse=True, return_counts=True)[1:]
    middles = torch.zeros(len(counts), found.shape[1]).index_add_(0, people, found) / counts[:, None]
    within = (found - middles[people])[counts[people] > 1].double()
    layer.mean.copy_(middles.mean(0))
    if len(within) > 1:
        spread = within.T @ within / int((counts - 1).sum())
        everything = (found - found.mean(0)).double()
        between = everything.T @ everything / len(found) - spread
        spread.diagonal().add_(SHRINKAGE * spread.diagonal().mean())
        matrix = torch.linalg.cholesky(torch.linalg.inv(spread))
        if len(counts) >= KNOWN_APART * layer.inputs:
            apart, directions = torch.linalg.eigh(matrix.T @ between @ matrix)
            matrix = matrix @ directions @ (apart.clamp_min(0) / (apart.clamp_min(0) + 1)).sqrt().diag()
        layer.matrix.copy_(matrix)


VERIFY = Task(
    name="verify",
    question="Is this the same person?",
    senses=(ImageInput.kind, AudioInput.kind),
    read=read_examples,
    input=_input,
    output=lambda settings: IdentityOutput(),
    network=_network,
    sizes=lambda input, settings: [settings.width] if settings.width else SIZES,
    recipe=_recipe,
    score=answers.score,
    pairing=answers.pairing,
    trivial=trivial,
    facts=answers.facts,
    evaluate=answers.evaluate,
    instead="Use `lamina enroll`, then `lamina verify` or `lamina identify`.",
    answers="people",
    drawn="people",
    opponents=lambda input: VOICE_OPPONENTS if isinstance(input, AudioInput) else FACE_OPPONENTS,
    search=lambda input: fit_people,
    decisions=lambda input: ("the network's layers", "optimizer, rate and schedule", "the margin"),
    remarks=answers.remarks,
    finish=_finish,
)

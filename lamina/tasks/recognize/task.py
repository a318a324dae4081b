"""recognize: what is this? Every part of the task on one screen."""

from __future__ import annotations

from torch import Tensor

from lamina.classical.fit import trivial
from lamina.classical.pictures import PICTURE_OPPONENTS
from lamina.classical.sounds import SOUND_OPPONENTS
from lamina.classical.tables import TABLE_OPPONENTS
from lamina.classical.texts import TEXT_OPPONENTS, fit_texts
from lamina.data.read import read_examples
from lamina.inputs import AudioInput, ImageInput, Input, TextInput, VectorInput
from lamina.inputs.text import LONGEST
from lamina.layers import Columns, LogMel, Whiten
from lamina.networks import Network, conv_net, conv_net_outputs, dense_net, phrase_net, sound_net, sound_net_outputs
from lamina.outputs import ClassesOutput, Output
from lamina.settings import Settings
from lamina.task import Recipe, Task
from lamina.tasks.recognize import answers
from lamina.tasks.recognize.numbers import are_numbers, numbers_from

MANY = 250
"""Categories of a column from which on it is looked at how categories go together."""
SIZES = [16, 24, 32, 48, 64, 80, 96, 128, 192, 256]
OPPONENTS = {
    ImageInput.kind: PICTURE_OPPONENTS,
    AudioInput.kind: SOUND_OPPONENTS,
    VectorInput.kind: TABLE_OPPONENTS,
    TextInput.kind: TEXT_OPPONENTS,
}


def _input(settings: Settings, kind: str) -> Input:
    made: dict[str, Input] = {
        ImageInput.kind: ImageInput(side=settings.side, max_pixels=settings.max_pixels, views=settings.views),
        AudioInput.kind: AudioInput(),
        VectorInput.kind: VectorInput(),
        TextInput.kind: TextInput(tokens=settings.tokens, longest=settings.context or LONGEST),
    }
    return made[kind]


def _network(input: Input, output: Output, size: int, x: Tensor) -> Network:
    if isinstance(input, TextInput):
        return Network([*phrase_net(input.count, size, input.longest), ("head", output.head(2 * size))])
    first = input.layer(x)
    if isinstance(first, Columns):
        return Network([("input", first), *dense_net(first.outputs, size, _in_pairs(input)), ("head", output.head(size))])
    if isinstance(first, LogMel):
        hidden = sound_net(first.bands, size)
        return Network([("input", first), *hidden, ("head", output.head(sound_net_outputs(hidden, first.bands)))])
    assert isinstance(input, ImageInput)
    assert isinstance(first, Whiten)
    hidden = conv_net(input.side // first.stride, first.outputs, size)
    return Network([("input", first), *hidden, ("head", output.head(conv_net_outputs(hidden)))])


def _in_pairs(input: Input) -> bool:
    """Whether the rows tell of users and items, streets, part numbers: what counts is who meets whom."""
    return isinstance(input, VectorInput) and any(names is not None and len(names) >= MANY for names in input.categories)


def _recipe(examples: int, input: Input) -> Recipe:
    """More examples: larger batches, fewer epochs. Tuned on validation parts only (docs/log.md)."""
    if isinstance(input, TextInput):
        return _recipe_for_texts(examples)
    batch = 32 if examples < 500 else 64 if examples < 4_000 else 128 if examples < 20_000 else 256
    epochs = 60 if examples < 500 else 24 if examples < 4_000 else 16 if examples < 20_000 else 10
    epochs = max(epochs, 20 if _in_pairs(input) else 0)  # each user and each item is met seldom
    size = 32 if examples < 4_000 else 48 if examples < 20_000 else 64
    return Recipe(
        epochs,
        least_epochs=12 if examples < 4_000 else 6 if examples < 20_000 else 4,
        batch=batch,
        size=size,
        optimizer="muon",
        learning_rate=0.1 * (batch / 256) ** 0.5,
        momentum=0.6,
        head_rate=0.02,
        rest_rate=0.3,
        rest_momentum=0.85,
        average=0.03,
        coarse=0.75,
        coarse_until=0.5,
        gpu_batch=1024 if examples >= 20_000 else 0,
    )


def _recipe_for_texts(examples: int) -> Recipe:
    return Recipe(
        epochs=4 if examples >= 10_000 else 12,
        least_epochs=2,
        batch=64 if examples >= 10_000 else 32,
        size=128,
        optimizer="adamw",
        learning_rate=0.002,
        head_rate=0.002,
        rest_rate=0.002,
        weight_decay=0.05,
        warmup=0.05,
        average=0.03,
        checks=8,
    )


def _decisions(input: Input) -> tuple[str, ...]:
    usual = ("the network's layers", "optimizer, rate and schedule")
    varied = {
        ImageInput.kind: ("pictures moved or cropped keep their label",),
        AudioInput.kind: ("frames of 25 ms in bands that are even on the mel scale", "shift, gain and noise keep the label"),
    }
    return (*varied.get(input.kind, ()), *usual)


RECOGNIZE = Task(
    name="recognize",
    question="What is this?",
    senses=(ImageInput.kind, AudioInput.kind, VectorInput.kind, TextInput.kind),
    read=read_examples,
    input=_input,
    output=lambda settings: ClassesOutput(balance=settings.balance),
    network=_network,
    sizes=lambda input, settings: [settings.width] if settings.width else SIZES,
    recipe=_recipe,
    score=answers.score,
    pairing=answers.pairing,
    trivial=trivial,
    facts=answers.facts,
    evaluate=answers.evaluate,
    opponents=lambda input: OPPONENTS[input.kind],
    search=lambda input: fit_texts if isinstance(input, TextInput) else None,
    decisions=_decisions,
    remarks=answers.remarks,
    turned=lambda examples: NUMBER if are_numbers(examples) else None,
)
NUMBER: Task = numbers_from(RECOGNIZE)

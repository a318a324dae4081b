"""transcribe: what was said? Every part of the task on one screen."""

from __future__ import annotations

from torch import Tensor

from lamina.classical.speech import SPEECH_OPPONENTS, fit_templates, trivial_text
from lamina.data.speech import read_speech
from lamina.inputs import Input, SpeechInput
from lamina.networks import Network, speech_net
from lamina.outputs import CharactersOutput, Output
from lamina.task import Recipe, Task
from lamina.tasks.transcribe import answers

HEARD = ("frames of 25 ms in bands that are even on the mel scale", "a little faster or slower keeps the words")
SIZES = [72, 108, 144, 192, 252]


def _network(input: Input, output: Output, size: int, x: Tensor) -> Network:
    assert isinstance(input, SpeechInput)
    return Network([("input", input.layer(x)), *speech_net(input.bands, size), ("head", output.head(size))])


def _recipe(examples: int, input: Input) -> Recipe:
    """Tuned on validation parts only (docs/log.md). Small batches: letters are found after some hundred steps, whatever their size."""
    return Recipe(
        epochs=60 if examples < 5_000 else 30,
        least_epochs=16 if examples < 5_000 else 8,
        batch=8 if examples < 5_000 else 16 if examples < 50_000 else 32,
        size=144,
        optimizer="muon+adamw",
        learning_rate=0.02,
        momentum=0.95,
        head_rate=0.002,
        rest_rate=0.002,
        weight_decay=0.05,
        warmup=0.05,
        average=0.03,
        checks=8,
    )


TRANSCRIBE = Task(
    name="transcribe",
    question="What was said?",
    senses=(SpeechInput.kind,),
    read=read_speech,
    input=lambda settings, kind: SpeechInput(),
    output=lambda settings: CharactersOutput(),
    network=_network,
    sizes=lambda input, settings: [settings.width] if settings.width else SIZES,
    recipe=_recipe,
    score=answers.score,
    pairing=answers.pairing,
    trivial=trivial_text,
    facts=answers.facts,
    evaluate=answers.evaluate,
    answers="texts",
    beside="with what is said in them",
    drawn="speakers or recordings",
    opponents=lambda input: SPEECH_OPPONENTS,
    search=lambda input: fit_templates,
    search_again=False,
    decisions=lambda input: (*HEARD, "the network's layers", "optimizer, rate and schedule"),
    remarks=answers.remarks,
)

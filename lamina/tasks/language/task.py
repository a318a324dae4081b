"""language: what comes next? Every part of the task on one screen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lamina.classical.ngrams import NGRAM_OPPONENTS, fit_ngrams
from lamina.data.batches import Feed
from lamina.data.examples import Examples
from lamina.data.split import Split
from lamina.data.texts import read_texts
from lamina.generation import Continuation
from lamina.inputs import Input, TextInput
from lamina.layers import Attention, GatedMLP, Tokens
from lamina.networks import Network, transformer
from lamina.outputs import NextOutput, Output
from lamina.settings import Sampling, Settings
from lamina.task import Recipe, Task
from lamina.tasks.language import answers
from lamina.training.windows import cut_into_windows

if TYPE_CHECKING:
    from lamina.pipeline.preparation import Prepared
    from lamina.screen import Screen

SIZES = [64, 96, 128, 192, 256, 384, 512, 768]
CONTEXT = 256
"""Tokens of a window."""
TIED_FROM = 0.5
"""The head shares the first layer's table where that has more numbers than this share of those between."""
WIDE, LITTLE, DROPPED = 192, 5_000_000, 0.1
"""Signals of a step, tokens of the training part, and the share of signals that is dropped with so many and so few."""
SHOWN = 60
"""Tokens of a sample while it trains."""
ABILITIES = (
    (300_000, "how such texts are spelled and laid out"),
    (30_000_000, "words and short phrases; most sentences lose their thread"),
    (3_000_000_000, "sentences that mostly hold; what is said is made up"),
)
"""(tokens up to, what can be learned from them)."""


def _input(settings: Settings, kind: str) -> Input:
    return TextInput(tokens=settings.tokens, longest=0)


def _network(input: Input, output: Output, size: int, x: Tensor) -> Network:
    assert isinstance(input, TextInput) and isinstance(output, NextOutput)
    hidden = transformer(size, causal=True)
    inside = sum(value.numel() for _, layer in hidden for value in layer.parameters())
    tied = replace(output, tied=input.count * size > TIED_FROM * inside)
    return Network([("input", Tokens(input.count, size)), *hidden, ("head", tied.head(size))])


def _recipe(examples: int, input: Input) -> Recipe:
    """Tuned on validation parts only (docs/log.md)."""
    return Recipe(
        epochs=20,
        least_epochs=6,
        batch=32,
        size=192,
        optimizer="muon+adamw",
        learning_rate=0.02,
        momentum=0.95,
        head_rate=0.004,
        rest_rate=0.02,
        weight_decay=0.1,
        warmup=0.02,
        flat=0.3,
        average=0.03,
        checks=8,
    )


def _settle(network: Network, feed: Feed, train: Any) -> None:
    """Where a wide network has little to read, and so the same often, some of what each layer adds is dropped in training."""
    assert isinstance(feed.input, TextInput)
    for layer in network.stack:
        if isinstance(layer, (Attention, GatedMLP)) and layer.width >= WIDE and len(train) * feed.input.window < LITTLE:
            layer.dropout = DROPPED


def _arrange(prepared: Prepared, screen: Screen) -> Prepared:
    """The texts of each part as one stream, cut into windows: from here on an example is a window."""
    input, feed, examples = prepared.feed.input, prepared.feed, prepared.report.examples
    assert isinstance(input, TextInput)
    texts = [np.asarray(feed.values.take([index])[0]) for index in range(len(examples))]
    input = replace(input, window=prepared.settings.context or input.window or CONTEXT, talks=texts[0].ndim == 2)
    output = feed.output.of_tokens(input.bytes_of.tolist()) if isinstance(feed.output, NextOutput) else feed.output
    if texts[0].ndim == 2 and (long := sum(text.shape[1] > input.window for text in texts)):
        longest = max(text.shape[1] for text in texts)
        told = f"{long} of {len(texts)} conversations have more than the {input.window} tokens that are seen at once, up to {longest}"
        screen.warn(f"{told}: their beginning is not seen. Train the model that it starts from with a longer --context.")
    made, names, parts = cut_into_windows(texts, examples.names, prepared.split.parts, input, output, feed.device)
    blank = [""] * len(parts)
    split = Split(parts, None, prepared.split.left_out, [], prepared.split.notes)
    return replace(prepared, feed=made, split=split, arranged=Examples(examples.source, names, blank, blank, parts, blank))


def _foretell(parameters: int, tokens: int, seen: int) -> str:
    """In words, by how much there is to read (docs/words.md)."""
    for most, told in ABILITIES:
        if tokens < most:
            read = f"From about {tokens:,} tokens, read {seen / max(1, tokens):.1f} times,"
            return f"{read} {parameters:,} parameters learn {told}; facts and instructions they do not"
    return ""


def _sample(network: Network, input: Input) -> str:
    """A line that the network makes up now."""
    assert isinstance(input, TextInput)
    training = network.training
    network.eval()
    running = Continuation(network, input, [[input.end]], Sampling(tokens=SHOWN), input.window)
    made = [running.step()[0] for _ in range(SHOWN)]
    network.train(training)
    return "it writes: " + " ".join(input.words(made).split())


LANGUAGE = Task(
    name="language",
    question="What comes next?",
    senses=(TextInput.kind,),
    read=lambda data, settings, inputs: read_texts(data, settings, inputs[0]),
    input=_input,
    output=lambda settings: NextOutput(),
    network=_network,
    sizes=lambda input, settings: [settings.width] if settings.width else SIZES,
    recipe=_recipe,
    score=answers.score,
    pairing=answers.pairing,
    trivial=answers.trivial,
    facts=answers.facts,
    evaluate=answers.evaluate,
    instead="Use `lamina generate`.",
    opponents=lambda input: NGRAM_OPPONENTS,
    search=lambda input: fit_ngrams,
    search_again=False,
    promised=lambda nats: f"{-nats:.3f} nats a token",
    answers="nothing",
    beside="",
    drawn="stretches of text",
    arrange=_arrange,
    decisions=lambda input: ("the network's layers", "optimizer, rate and schedule", "what a token is"),
    remarks=answers.remarks,
    foretell=_foretell,
    sample=_sample,
    settle=_settle,
)

"""recommend: what would they choose next? Every part of the task on one screen."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lamina.classical.choices import CHOICE_OPPONENTS, fit_choices, trivial_choice
from lamina.data.choices import read_choices, read_titles
from lamina.errors import DataError, sentence
from lamina.inputs import HistoryInput, Input
from lamina.layers import Tokens
from lamina.networks import Network, transformer
from lamina.outputs import ItemsOutput, Output
from lamina.task import Recipe, Task
from lamina.tasks.recommend import answers
from lamina.training.histories import HistoryFeed

if TYPE_CHECKING:
    from lamina.pipeline.preparation import Prepared
    from lamina.screen import Screen

SIZES = [32, 64, 96, 128, 192]
DEPTH, DROPPED = 2, 0.2
"""Pairs of layers, and the share of signals that are dropped in training."""
STEPS = 5_000
REPEATED = 0.1
"""Share of choices that are of something chosen before, from which on it may be recommended again."""


def _network(input: Input, output: Output, size: int, x: Tensor) -> Network:
    assert isinstance(input, HistoryInput)
    hidden = transformer(size, causal=True, dropout=DROPPED, depth=DEPTH)
    return Network([("input", Tokens(input.count, size, DROPPED)), *hidden, ("head", output.head(size))])


def _recipe(examples: int, input: Input) -> Recipe:
    """Tuned on validation parts only (docs/log.md). A batch is about STEPS choices, whatever the length of the histories."""
    assert isinstance(input, HistoryInput)
    return Recipe(
        epochs=20,
        least_epochs=8,
        batch=min(128, max(16, 1 << round(math.log2(STEPS / input.longest)))),
        size=64,
        optimizer="muon+adamw",
        learning_rate=0.02,
        momentum=0.95,
        head_rate=0.003,
        rest_rate=0.003,
        weight_decay=0.01,
        warmup=0.05,
        average=0.03,
        checks=10,
    )


def _arrange(prepared: Prepared, screen: Screen) -> Prepared:
    """From here on the training part asks for each next item; the items have their titles."""
    feed, settings = prepared.feed, prepared.settings
    input, output = feed.input, feed.output
    assert isinstance(input, HistoryInput) and isinstance(output, ItemsOutput)
    if settings.titles and not input.titles:
        found = read_titles(settings.titles, settings)
        if not (known := sum(name in found for name in input.items)):
            got = f"none; an item looks like {input.items[0]}"
            raise DataError(sentence(f"The titles {settings.titles}", "name some of the items", got))
        titles, about = zip(*(found.get(name, (name, "")) for name in input.items), strict=True)
        input = replace(input, titles=tuple(title or name for title, name in zip(titles, input.items, strict=True)), about=about)
        screen.say(f"Titles      of {known:,} of {len(input.items):,} items, from {settings.titles}")
    learned = prepared.split.indices("train")
    values = [np.asarray(value) for value in feed.values.take(learned)]
    chosen = sum(len(value) - 1 for value in values)
    again = 1 - sum(len(np.unique(value)) - 1 for value in values) / max(1, chosen)
    output = output.of_items(input.items, again=again > REPEATED)
    screen.say(
        f"Answers     all {len(input.items):,} items are ranked; {100 * again:.1f} % of choices are of something chosen before, so that "
        + ("it may be recommended again" if output.again else "it is not recommended again")
    )
    targets = [output.encode(answer) for answer in prepared.report.examples.answers]
    checked = tuple(prepared.split.indices("validation"))
    return replace(prepared, feed=HistoryFeed(feed.values, targets, input, output, feed.device, checked))


RECOMMEND = Task(
    name="recommend",
    question="What would they choose next?",
    senses=(HistoryInput.kind,),
    read=read_choices,
    input=lambda settings, kind: HistoryInput(longest=settings.context),
    output=lambda settings: ItemsOutput(),
    network=_network,
    sizes=lambda input, settings: [settings.width] if settings.width else SIZES,
    recipe=_recipe,
    score=answers.score,
    pairing=answers.pairing,
    trivial=trivial_choice,
    facts=answers.facts,
    evaluate=answers.evaluate,
    instead="Use `lamina recommend`.",
    answers="choices",
    beside="",
    drawn="users",
    arrange=_arrange,
    opponents=lambda input: CHOICE_OPPONENTS,
    search=lambda input: fit_choices,
    search_again=False,
    promised=lambda gain: f"NDCG@10 {gain:.3f}",
    decisions=lambda input: ("the network's layers", "optimizer, rate and schedule", "how much of a history is seen"),
    remarks=answers.remarks,
)

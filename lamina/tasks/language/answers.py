"""What is made of how much stretches of text surprised: the paired comparison, the facts of the report, the score on other texts."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.classical.ngrams import token_shares
from lamina.classical.verdict import ByRatio, Pairing
from lamina.data.batches import Feed
from lamina.data.texts import read_texts
from lamina.errors import DataError, UsageError, sentence
from lamina.inputs import TextInput
from lamina.layers import Same
from lamina.metrics import ratio_interval
from lamina.model import Evaluation, Model
from lamina.networks import Network
from lamina.screen import Screen
from lamina.settings import Settings
from lamina.task import Score
from lamina.training.inference import BATCH, each_batch
from lamina.training.windows import cut_into_windows

if TYPE_CHECKING:
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared


def score(answers: list[Any], truths: list[Any]) -> Score:
    """Bits per byte of UTF-8, its interval by stretches of text drawn anew."""
    nats, _, sizes = np.stack(answers).T
    bits = nats / math.log(2)
    low, high = ratio_interval(bits, sizes)
    return Score("bits per byte", float(bits.sum() / sizes.sum()), low, high, len(truths), better="lower", unit="")


def remarks(answers: list[Any], truths: list[Any]) -> list[str]:
    nats, tokens, sizes = np.stack(answers).sum(0)
    return [f"{nats / tokens:.4f} nats a token, over {tokens:,.0f} tokens ({sizes:,.0f} bytes), each asked for once"]


def pairing(answers: dict[str, list[Any]], truths: list[Any], again: list[list[Any]]) -> Pairing:
    """Stretches of text are drawn anew, together for all ways."""
    sums = {kind: np.stack(own) for kind, own in answers.items()}
    return ByRatio({kind: (own[:, 0] / math.log(2), own[:, 2]) for kind, own in sums.items()}, "bits per byte", "stretches of text")


def trivial(feed: Feed, train: np.ndarray) -> tuple[str, Network, str]:
    """How frequent each token is."""
    network = Network([("input", Same()), ("head", token_shares(feed, train))]).eval()
    return "how frequent each token is", network, "how often each token occurs"


def facts(prepared: Prepared, learned: Learned, other: list[Any], most: int) -> dict[str, Any]:
    """Bits per byte of each stretch of the test part, and the stretches that surprised most and least, as text."""
    ways = {learned.way: np.stack(learned.answers)}
    if other:
        ways["classical" if learned.way == "deep" else "deep"] = np.stack(other)
    bits = {way: (found[:, 0] / np.maximum(1, found[:, 2]) / np.log(2)).tolist() for way, found in ways.items()}
    order = np.argsort(bits[learned.way], kind="stable")
    input = prepared.feed.input
    assert isinstance(input, TextInput)
    return {
        "kind": "texts",
        "names": [prepared.examples.names[index] for index in learned.test],
        "bits": bits,
        "shown": [
            {
                "name": prepared.examples.names[learned.test[place]],
                "bits": bits[learned.way][place],
                "text": input.words(np.asarray(prepared.feed.values.take([learned.test[place]])[0]).tolist()),
            }
            for place in [*order[::-1][: most // 4], *order[: most // 4]]
        ],
    }


def evaluate(model: Model, data: Any, settings: Settings, screen: Screen, against: str) -> Evaluation:
    """How much texts surprise it, each token asked for once."""
    if against:
        raise UsageError(sentence("--against", "be given for answers that are labels", f"a model that does {model.task}"))
    assert isinstance(model.input, TextInput)
    examples = read_texts(data, settings, model.input)
    if not isinstance(data, (str, os.PathLike)) or model.learned_from(os.fspath(data)) or os.path.isdir(data):
        examples = model.tested_only(examples, data, screen)  # else a document's own end is no more of a test than its beginning
    values, errors = model.read_some(examples.raws)
    names = [name for name, error in zip(examples.names, errors, strict=True) if error is None]
    for name, error in zip(examples.names, errors, strict=True):
        if error is not None:
            screen.warn(f"{name}: {error}")
    if not values:
        raise DataError(sentence(f"The data {examples.source}", "hold at least one readable text", 0))
    device = next(iter(model.network.state_dict().values())).device
    feed, places, _ = cut_into_windows(values, names, ["test"] * len(names), model.input, model.output, device)
    batches = feed.in_order(range(len(places)), BATCH)
    answers = [
        each
        for part in each_batch(model.network, model.input, model.output, batches, model.precision)
        for each in model.output.decode(part.values, part.context)
    ]
    return Evaluation(score(answers, [""] * len(answers)), len(errors) - len(values), 0)

"""What is made of ranked items: the paired comparison, the facts of the report, the score on other users."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lamina.classical.choices import popularity
from lamina.classical.verdict import ByMean, Pairing
from lamina.data.choices import read_choices
from lamina.errors import UsageError, sentence
from lamina.inputs import HistoryInput
from lamina.metrics import LISTED, mean_interval
from lamina.model import Evaluation, Model
from lamina.outputs import ItemsOutput, Ranked
from lamina.screen import Screen, percent
from lamina.settings import Settings
from lamina.task import Score
from lamina.training.inference import BATCH, answers_to, each_batch

if TYPE_CHECKING:
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared

LAST_CHOICES = 5
"""Choices of a user that are shown beside their list."""


def score(answers: list[Ranked], truths: list[Any]) -> Score:
    """Mean NDCG@10 over users, among all items; its interval by users."""
    gains = np.array([answer.gain() for answer in answers])
    return Score("NDCG@10", float(gains.mean()), *mean_interval(gains), len(gains), unit="")


def recall(answers: list[Ranked], listed: int) -> float:
    """Share of what a user chose that stands among the first so many, the mean over users."""
    return float(np.mean([(answer.ranks <= listed).sum() / max(1, answer.wanted) for answer in answers]))


def remarks(answers: list[Ranked], truths: list[Any]) -> list[str]:
    """Recall and how many different items are recommended; what could not be found at all."""
    items = len({int(number) for answer in answers for number in answer.top[:10]})
    told = [
        f"recall@10 {percent(recall(answers, 10))} %, recall@20 {percent(recall(answers, LISTED))} %, NDCG@20 "
        f"{np.mean([answer.gain(LISTED) for answer in answers]):.3f}; {items:,} different items stand in the lists of ten"
    ]
    wanted, new = sum(answer.wanted for answer in answers), sum(int(np.isinf(answer.ranks).sum()) for answer in answers)
    if new:
        told.append(f"{percent(new / max(1, wanted))} % of what was chosen cannot be found: new items, or chosen before")
    return told


def pairing(answers: dict[str, list[Any]], truths: list[Any], again: list[list[Any]]) -> Pairing:
    """Users are drawn anew, together for all ways."""
    return ByMean({kind: np.array([each.gain() for each in own]) for kind, own in answers.items()}, "NDCG@10", "users")


def facts(prepared: Prepared, learned: Learned, other: list[Any], most: int) -> dict[str, Any]:
    """NDCG, recall, coverage and novelty of each way, and the lists of some users."""
    input, feed = prepared.feed.input, prepared.feed
    assert isinstance(input, HistoryInput)
    shares = _shares(prepared)
    ways = {learned.way: list(learned.answers)}
    if other:
        ways["classical" if learned.way == "deep" else "deep"] = list(other)
    for name, network in popularity(feed, np.array(prepared.split.indices("train"))).items():
        ways[name] = answers_to(network, replace(feed, device=torch.device("cpu")), feed.output, learned.test, "fp32") if most else []
    shown = []
    for place in np.linspace(0, len(learned.test) - 1, min(most // 2, len(learned.test))).astype(int) if most else []:
        index, answer = learned.test[place], learned.answers[place]
        before = [input.title(int(number)) for number in np.asarray(feed.values.take([index])[0])[1:][-LAST_CHOICES:]]
        wanted = [input.title(number) if number else "(new)" for number in feed.targets[index][:LAST_CHOICES]]
        top = [input.title(int(number)) for number in answer.top[:10] if number]
        shown.append({"name": prepared.examples.names[index], "before": before, "chosen": wanted, "top": top, "gain": answer.gain()})
    return {
        "kind": "choices",
        "users": len(learned.test),
        "items": len(input.items),
        "ways": {way: _measures(own, shares) for way, own in ways.items() if own},
        "shown": shown,
    }


def _shares(prepared: Prepared) -> np.ndarray:
    """How often each item was chosen in the training part, as a share of all choices."""
    values = prepared.feed.values.take(prepared.split.indices("train"))
    sums = np.bincount(np.concatenate([np.asarray(value)[1:] for value in values]), minlength=prepared.feed.input.count)  # type: ignore[attr-defined]
    return np.maximum(sums, 1) / max(1, sums.sum())


def _measures(answers: list[Ranked], shares: np.ndarray) -> dict[str, float]:
    listed = np.concatenate([answer.top[:10] for answer in answers])
    return {
        "NDCG@10": float(np.mean([answer.gain() for answer in answers])),
        "NDCG@20": float(np.mean([answer.gain(LISTED) for answer in answers])),
        "recall@10": recall(answers, 10),
        "recall@20": recall(answers, LISTED),
        "coverage": len(np.unique(listed)) / max(1, len(shares) - 1),
        "novelty": float(-np.log2(shares[listed]).mean()),
    }


def evaluate(model: Model, data: Any, settings: Settings, screen: Screen, against: str) -> Evaluation:
    """The same measures on the users of another table, whom training need not know: each by what they chose before the border."""
    if against:
        raise UsageError(sentence("--against", "be given for answers that are labels", f"a model that does {model.task}"))
    assert isinstance(model.input, HistoryInput) and isinstance(model.output, ItemsOutput)
    examples = read_choices(data, settings)
    tested = examples.take([index for index, part in enumerate(examples.parts) if part == "test"])
    output = model.output.of_items(model.input.items)
    values, targets = [model.input.read(raw) for raw in tested.raws], [output.encode(answer) for answer in tested.answers]
    starts = range(0, len(values), BATCH)
    batches = (model.batch_of(values[first : first + BATCH], targets[first : first + BATCH]) for first in starts)
    found = each_batch(model.network, model.input, output, batches, model.precision)
    answers = [each for part in found for each in output.decode(part.values, part.context)]
    for remark in remarks(answers, []):
        screen.say("            " + remark)
    return Evaluation(score(answers, list(tested.answers)), 0, 0)

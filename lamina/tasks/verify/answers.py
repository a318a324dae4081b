"""What is made of embeddings of the test examples: the paired comparison, the facts of the report, the score on other data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.classical.verdict import ByPeople, Pairing
from lamina.errors import DataError, UsageError, sentence
from lamina.metrics import equal_error_interval, trials_of
from lamina.model import Evaluation, Model
from lamina.report.examples import shown_example
from lamina.screen import Screen, percent
from lamina.settings import Settings
from lamina.task import Score

if TYPE_CHECKING:
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared


def score(answers: list[Any], truths: list[str]) -> Score:
    """Equal error rate over pairs, its interval by people drawn anew."""
    trials = trials_of(np.stack(answers), truths)
    return Score("equal error rate", trials.equal_error(), *equal_error_interval(trials), len(truths), better="lower")


def remarks(answers: list[Any], truths: list[str]) -> list[str]:
    trials = trials_of(np.stack(answers), truths)
    same = int(trials.same.sum())
    told = [f"{same} pairs of one person, {len(trials.same) - same} of strangers, among {trials.people} people whom training never saw"]
    for rate, words in ((0.01, "1 in 100"), (0.001, "1 in 1,000")):
        if len(trials.same) - same >= 3 / rate:
            told.append(f"where {words} strangers is let in, {percent(trials.rejected_at(rate))} % of the right are turned away")
    return told


def pairing(answers: dict[str, list[Any]], truths: list[str], again: list[list[Any]]) -> Pairing:
    """People are drawn anew, together for all ways."""
    return ByPeople(answers, truths)


def facts(prepared: Prepared, learned: Learned, other: list[Any], most: int) -> dict[str, Any]:
    """The curve of false accepts against false rejects, how alike pairs are, and the pairs that were mistaken most."""
    people = [prepared.examples.answers[index] for index in learned.test]
    trials = trials_of(np.stack(learned.answers), people)
    curves = {learned.way: trials}
    if other:
        curves["classical" if learned.way == "deep" else "deep"] = trials_of(np.stack(other), people)
    rates = [rate for rate in np.geomspace(1, 1e-5, 101).tolist() if rate >= 1 / max(1, int((~trials.same).sum()))]
    edges = np.linspace(-1, 1, 81)
    same = trials.same
    mistaken = [*np.flatnonzero(~same)[: most // 2], *np.flatnonzero(same)[::-1][: most // 2]]
    return {
        "kind": "people",
        "people": trials.people,
        "pairs": {"same": int(same.sum()), "other": int((~same).sum())},
        "rates": rates,
        "rejects": {way: [each.rejected_at(rate) for rate in rates] for way, each in curves.items()},
        "likeness": {
            "edges": edges.tolist(),
            "same": np.histogram(trials.likeness[same], edges)[0].tolist(),
            "other": np.histogram(trials.likeness[~same], edges)[0].tolist(),
        },
        "openings": [dataclasses.asdict(opening) for opening in getattr(learned.model.output, "openings", ())],
        "shown": [
            {
                "same": bool(same[pair]),
                "likeness": float(trials.likeness[pair]),
                "examples": [shown_example(prepared, learned.test[place]) for place in trials.places[pair]],
            }
            for pair in mistaken
        ],
    }


def evaluate(model: Model, data: Any, settings: Settings, screen: Screen, against: str) -> Evaluation:
    """The equal error rate on other people. Raises DataError where no two examples are of one person, or all are."""
    if against:
        raise UsageError(sentence("--against", "be given for answers that are labels", f"a model that does {model.task}"))
    examples = model.test_examples(data, settings, screen)
    answers, truths, _ = model.answers_to(examples, screen)
    try:
        return Evaluation(score(answers, truths), len(examples) - len(answers), 0)
    except ValueError as error:
        raise DataError(sentence(f"The data {examples.source}", "show two people, one of them twice", str(error))) from error

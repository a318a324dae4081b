"""What is made of labels told for the test examples: the paired comparison, the facts of the report, the score on other data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.classical.verdict import ByExample, Pairing, against_other
from lamina.data.tables import read_answers
from lamina.metrics import mean_recall, wilson_interval
from lamina.model import Evaluation, Model
from lamina.outputs import Answer
from lamina.report.examples import shown_example
from lamina.screen import Screen, percent
from lamina.settings import Settings
from lamina.task import Score

if TYPE_CHECKING:
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared

UNEVEN = 3
"""Most to least frequent class, from which on the score with every class counted alike is told too."""


def score(answers: list[Answer], truths: list[str]) -> Score:
    """Accuracy with its Wilson interval."""
    found = right(answers, truths)
    return Score("accuracy", sum(found) / len(found), *wilson_interval(sum(found), len(found)), len(found))


def right(answers: list[Answer], truths: list[str]) -> list[bool]:
    """By the best label, "none of these" or not."""
    return [answer.top[0][0] == truth for answer, truth in zip(answers, truths, strict=True)]


def pairing(answers: dict[str, list[Any]], truths: list[str], again: list[list[Any]]) -> Pairing:
    """Each test example is right or wrong."""
    return ByExample({kind: right(own, truths) for kind, own in answers.items()}, [right(each, truths) for each in again])


def remarks(answers: list[Answer], truths: list[str]) -> list[str]:
    """Where classes are uneven: the score with each of them counted alike."""
    counts = Counter(truths)
    if max(counts.values()) < UNEVEN * min(counts.values()):
        return []
    recall = percent(mean_recall([answer.top[0][0] for answer in answers], truths))
    return [f"every class counted alike: {recall} % (mean recall); --balance 1 trains for that"]


def facts(prepared: Prepared, learned: Learned, other: list[Any], most: int) -> dict[str, Any]:
    """All answers, and the most confident mistakes with their pictures."""
    examples = prepared.examples
    labels = [answer.top[0][0] for answer in learned.answers]
    others = [answer.top[0][0] for answer in other]
    truths = [examples.answers[index] for index in learned.test]
    wrong = [place for place, (truth, label) in enumerate(zip(truths, labels, strict=True)) if truth != label]
    wrong.sort(key=lambda place: -learned.answers[place].probability)
    told = []
    for place in wrong[:most]:
        told.append({
            **shown_example(prepared, learned.test[place]), "truth": truths[place], "label": labels[place],
            "probability": learned.answers[place].probability, "other": others[place] if others else "",
        })  # fmt: skip
    return {
        "kind": "classes", "names": [examples.names[index] for index in learned.test], "truths": truths, "labels": labels,
        "probabilities": [answer.probability for answer in learned.answers], "others": others,
        "other": "classical" if learned.way == "deep" else "deep", "shown": told,
    }  # fmt: skip


def evaluate(model: Model, data: Any, settings: Settings, screen: Screen, against: str) -> Evaluation:
    """The accuracy on labeled data, exactly as predict answers. Raises DataError for a label that the model never learned."""
    examples = model.test_examples(data, settings, screen)
    for label in examples.labels:
        model.output.encode(label)
    answers, truths, names = model.answers_to(examples, screen)
    other = None
    if against:
        theirs = [label == truth for label, truth in zip(read_answers(Path(against), names, settings), truths, strict=True)]
        other = against_other(right(answers, truths), theirs, settings.margin / 100)
    unknown = sum(answer.unknown for answer in answers)
    return Evaluation(score(answers, truths), len(examples) - len(answers), unknown, other)

"""How much is it? What recognize becomes where the answers are numbers: another output, other opponents, other measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.classical.fit import trivial
from lamina.classical.numbers import fit_numbers
from lamina.classical.verdict import ByMean, Pairing
from lamina.errors import DataError, UsageError, sentence
from lamina.metrics import mean_interval, resampled
from lamina.model import Evaluation, Model
from lamina.outputs import Amount, NumberOutput
from lamina.outputs.number import number_of
from lamina.report.examples import shown_example
from lamina.screen import Screen, percent
from lamina.settings import Settings
from lamina.task import Score, Task

if TYPE_CHECKING:
    from lamina.data.examples import Examples
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared

MANY, SHARE = 20, 0.02
"""So many different numbers, and as a share of the examples, make answers numbers rather than labels."""


def are_numbers(examples: Examples) -> bool:
    """Whether the answers are amounts: numbers all of them, and too many different ones, or broken ones, to be classes."""
    try:
        values = np.array([number_of(answer) for answer in examples.answers])
    except DataError:
        return False
    different = len(np.unique(values))
    return bool(len(values)) and different > MANY and (different > SHARE * len(values) or not (values == np.round(values)).all())


def score(answers: list[Amount], truths: list[Any]) -> Score:
    """Mean absolute error and its interval."""
    errors = _errors(answers, truths)
    return Score("mean absolute error", float(errors.mean()), *mean_interval(errors), len(errors), better="lower", unit="")


def _errors(answers: Sequence[Amount], truths: Sequence[Any]) -> np.ndarray:
    return np.abs(np.array([answer.value for answer in answers]) - np.array([number_of(truth) for truth in truths]))


def remarks(answers: list[Amount], truths: list[Any]) -> list[str]:
    values, wanted = np.array([answer.value for answer in answers]), np.array([number_of(truth) for truth in truths])
    squares, apart = (values - wanted) ** 2, (wanted - wanted.mean()) ** 2
    error = resampled(lambda some: float(squares[some].mean() ** 0.5), len(values))
    explained = resampled(lambda some: float(1 - squares[some].sum() / max(1e-30, apart[some].sum())), len(values))
    inside = np.mean([answer.low <= truth <= answer.high for answer, truth in zip(answers, wanted, strict=True)])
    return [
        f"RMSE {squares.mean() ** 0.5:.4g} ({error[0]:.4g}-{error[1]:.4g}), R² {1 - squares.sum() / max(1e-30, apart.sum()):.3f} "
        f"({explained[0]:.3f}-{explained[1]:.3f})",
        f"{percent(float(inside))} % of the intervals hold the truth (90 % are to)",
    ]


def pairing(answers: dict[str, list[Any]], truths: list[Any], again: list[list[Any]]) -> Pairing:
    """The same examples' errors, as shares of those of guessing."""
    errors = {kind: _errors(own, truths) for kind, own in answers.items()}
    guessing = max(1e-30, float(errors["trivial"].mean())) if "trivial" in errors else 1.0
    return ByMean({kind: -own / guessing for kind, own in errors.items()}, "points of the error of guessing", "test examples")


def facts(prepared: Prepared, learned: Learned, other: list[Any], most: int) -> dict[str, Any]:
    """All numbers with their intervals, and the examples that were missed by most."""
    examples = prepared.examples
    wanted = [number_of(examples.answers[index]) for index in learned.test]
    errors = _errors(learned.answers, wanted)
    return {
        "kind": "numbers",
        "names": [examples.names[index] for index in learned.test],
        "wanted": wanted,
        "values": [answer.value for answer in learned.answers],
        "lows": [answer.low for answer in learned.answers],
        "highs": [answer.high for answer in learned.answers],
        "others": [answer.value for answer in other],
        "unit": getattr(learned.model.output, "unit", ""),
        "shown": [
            {**shown_example(prepared, learned.test[place]), "wanted": wanted[place], "told": learned.answers[place].label}
            for place in np.argsort(-errors)[:most]
        ],
    }


def evaluate(model: Model, data: Any, settings: Settings, screen: Screen, against: str) -> Evaluation:
    """The errors on other data."""
    if against:
        raise UsageError(sentence("--against", "be given for answers that are labels", f"a model that does {model.task}"))
    examples = model.test_examples(data, settings, screen)
    answers, truths, _ = model.answers_to(examples, screen)
    for remark in remarks(answers, truths):
        screen.say("            " + remark)
    return Evaluation(score(answers, truths), len(examples) - len(answers), 0)


def numbers_from(recognize: Task) -> Task:
    """The same task for answers that are numbers."""
    return replace(
        recognize,
        name="number",
        question="How much is it?",
        output=lambda settings: NumberOutput(unit=settings.unit),
        score=score,
        pairing=pairing,
        trivial=lambda feed, train: ("the mean", trivial(feed, train)[1], "the mean of the training part"),
        facts=facts,
        evaluate=evaluate,
        answers="numbers",
        beside="with numbers",
        search=lambda input: fit_numbers,
        search_again=False,
        promised=lambda error: f"mean error {-error:.3g} deviations",
        remarks=remarks,
        turned=None,
    )

"""What is made of transcripts of the test recordings: the paired comparison, the facts of the report, the score on other recordings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.classical.verdict import ByRatio, Pairing
from lamina.data.speech import read_speech
from lamina.errors import UsageError, sentence
from lamina.metrics import changes, edits, ratio_interval
from lamina.model import Evaluation, Model
from lamina.outputs import Transcript, spoken
from lamina.report.examples import shown_example
from lamina.screen import Screen, percent
from lamina.settings import Settings
from lamina.task import Score

if TYPE_CHECKING:
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared

MOST_CONFUSED = 30


def score(answers: list[Transcript], truths: list[str]) -> Score:
    """Word error rate, its interval by speakers drawn anew (by recordings, where nobody says who speaks)."""
    wrong, words = _by_speaker(answers, truths)
    low, high = ratio_interval(wrong, words)
    return Score("word error rate", float(wrong.sum() / max(1, words.sum())), low, high, len(truths), better="lower")


def _by_speaker(answers: list[Transcript], truths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(wrong words, words) of each speaker."""
    sums: dict[str, list[int]] = {}
    for number, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
        wanted = spoken(truth).split()
        mine = sums.setdefault(getattr(truth, "by", "") or f" {number}", [0, 0])
        mine[0] += edits((answer.label or "").split(), wanted)
        mine[1] += len(wanted)
    wrong, words = np.array([sums[name] for name in sorted(sums)], np.float64).T
    return wrong, words


def remarks(answers: list[Transcript], truths: list[str]) -> list[str]:
    wanted = [spoken(truth) for truth in truths]
    letters = sum(map(len, wanted))
    wrong = sum(edits(answer.label or "", truth) for answer, truth in zip(answers, wanted, strict=True))
    told = [f"{percent(wrong / max(1, letters))} % of the {letters:,} letters wrong (character error rate)"]
    if any(answer.heard != answer.label for answer in answers):
        words = [truth.split() for truth in wanted]
        alone = sum(edits(answer.heard.split(), truth) for answer, truth in zip(answers, words, strict=True))
        told.append(f"{percent(alone / max(1, sum(map(len, words))))} % of the words wrong without what is known of words (greedy)")
    return told


def pairing(answers: dict[str, list[Any]], truths: list[str], again: list[list[Any]]) -> Pairing:
    """Speakers are drawn anew, together for all ways."""
    known = any(getattr(truth, "by", "") for truth in truths)
    sums = {kind: _by_speaker(own, truths) for kind, own in answers.items()}
    return ByRatio(sums, "points", "speakers" if known else "recordings")


def facts(prepared: Prepared, learned: Learned, other: list[Any], most: int) -> dict[str, Any]:
    """All transcripts, what was heard for what, and the worst of them with their sound."""
    examples, texts = prepared.examples, [answer.label or "" for answer in learned.answers]
    truths = [spoken(examples.answers[index]) for index in learned.test]
    wrong = [edits(text.split(), truth.split()) for text, truth in zip(texts, truths, strict=True)]
    order = sorted(range(len(texts)), key=lambda place: (-wrong[place] / max(1, len(truths[place].split())), place))
    confused = Counter(pair for text, truth in zip(texts, truths, strict=True) for pair in changes(text.split(), truth.split()))
    return {
        "kind": "transcripts",
        "names": [examples.names[index] for index in learned.test],
        "texts": texts,
        "spoken": truths,
        "wrong": wrong,
        "others": [answer.label or "" for answer in other],
        "confused": [[found, wanted, count] for (found, wanted), count in confused.most_common(MOST_CONFUSED)],
        "shown": [
            {
                **shown_example(prepared, learned.test[place]), "text": texts[place], "spoken": truths[place],
                "words": [[word.text, word.start, word.end, word.confidence] for word in getattr(learned.answers[place], "words", ())],
            }
            for place in order[:most]
            if wrong[place]
        ],
    }  # fmt: skip


def evaluate(model: Model, data: Any, settings: Settings, screen: Screen, against: str) -> Evaluation:
    """The word error rate on other recordings."""
    if against:
        raise UsageError(sentence("--against", "be given for answers that are labels", f"a model that does {model.task}"))
    examples = model.tested_only(read_speech(data, settings, [model.input], least=1), data, screen)
    answers, truths, _ = model.answers_to(examples, screen)
    return Evaluation(score(answers, truths), len(examples) - len(answers), 0)

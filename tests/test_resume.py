"""A training of every kind that is stopped in the middle goes on to the same bits; test_soak_kill.py kills one at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_language
import test_numbers
import test_recommend
import test_speech
import torch

import lamina
from lamina.errors import Interrupted
from lamina.training import fit as fitting


def speech_of(place: Path) -> Path:
    place.mkdir()
    for number in range(60):
        text = test_speech.sentence_of(number)
        test_speech.soundfile.write(place / f"{number}.wav", test_speech.said(text, number), test_speech.RATE)
        (place / f"{number}.txt").write_text(text)
    return place


def book_of(place: Path) -> Path:
    place.write_text(test_language.book(400))
    return place


KINDS = {
    "language": (lambda place: book_of(place / "book.txt"), test_language.OPTIONS | {"epochs": 2}),
    "transcribe": (lambda place: speech_of(place / "said"), {"task": "transcribe", "width": 72, "epochs": 3, "threads": 1}),
    "recommend": (
        lambda place: test_recommend.table_of(place / "choices.csv"),
        {"task": "recommend", "width": 32, "epochs": 6, "batch": 32, "threads": 1},
    ),
    "number": (
        lambda place: test_numbers.table_of(place / "homes.csv", 400),
        {"label_column": "price", "width": 16, "epochs": 2, "threads": 1},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_training_goes_on_to_the_same_bits(kind, tmp_path):
    make, options = KINDS[kind]
    data = make(tmp_path)
    paths = {"runs": tmp_path / "runs", "cache": str(tmp_path / "c"), "verdict_share": 0.0}
    straight = lamina.train(data, out=tmp_path / "one.lamina", **paths, **options)
    check, checks = fitting._Driver._check, []

    def stop(self):
        checks.append(self.done)
        if len(checks) == 3:
            self._stop()
        return check(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Driver, "_check", stop)
        with pytest.raises(Interrupted):
            lamina.train(data, out=tmp_path / "two.lamina", **paths, **options)
    again = lamina.resume(tmp_path / "runs" / f"{data.stem}-2")
    assert again.card["score"] == straight.card["score"]
    for one, two in zip(straight.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)

"""The demo walks both acts on files that it writes, and skips aloud what it cannot have."""

import dataclasses

import pytest

from lamina import demo
from lamina.data.samples import SAMPLES, sample_folder
from lamina.errors import UsageError
from lamina.screen import Screen
from lamina.settings import Settings


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch, capsys):
    """Short: 400 digits and clothes, two epochs; answers on pictures kept from training."""
    monkeypatch.setattr(demo, "ACTS", [dataclasses.replace(act, pictures=400, settings={"epochs": 2, "width": 8}) for act in demo.ACTS])
    results = demo.demo(tmp_path / "demo", Screen())
    said = capsys.readouterr().out
    there = sample_folder(SAMPLES["fashion-mnist"], Settings()) is not None
    assert [result["act"] for result in results] == (["digits", "fashion-mnist"] if there else ["digits"])
    assert ("Skipped: fashion-mnist" in said) != there
    for words in ("Device", "Audit", "Forecast", "Before", "Score", "none of these", "Saved", "Answers", "it never saw"):
        assert words in said
    assert (tmp_path / "demo" / "digits" / "digits.lamina").exists() and results[0]["new"] == demo.NEW
    monkeypatch.setattr(demo, "ACTS", demo.ACTS[:1])
    monkeypatch.setattr(demo.Page, "available", staticmethod(lambda: False))
    demo.demo(tmp_path / "demo", Screen(), verdict_share=0.0)  # again in the same folder, and without a page
    assert "lamina[serve]" in capsys.readouterr().out


def test_demo_skips_aloud_and_spares_other_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "ACTS", demo.ACTS[1:])
    monkeypatch.setattr(demo, "sample_folder", lambda sample, settings: None)
    assert demo.demo(tmp_path / "demo", Screen()) == []
    assert "lamina samples --fetch fashion-mnist" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(UsageError, match="new, empty"):
        demo.demo(tmp_path / "mine", Screen(quiet=True))

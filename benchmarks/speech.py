"""Speech to text: word error rates, the time that an answer takes, a recognizer of others beside it."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import _seeds, _train
from benchmarks.common import DATA, spread, valid
from benchmarks.people import _manifest, _table, _unpacked


def _an4(place: Path) -> tuple[str, list[dict[str, str]]]:
    """(AN4 as a table with its official parts, its rows)."""
    rows = _manifest("an4")
    _unpacked(DATA / "an4" / "audio.zip", place)
    cells = [(row["path"], row["text"], row["speaker"], row["split"]) for row in rows]
    return _table(place, cells, ("path", "transcript", "speaker", "split")), rows


def an4(options: argparse.Namespace) -> dict[str, Any]:
    """AN4, the official test part (ten speakers never trained on), --minutes 10: word error rate, with and without words."""
    minutes, found = options.minutes or 10.0, []
    with tempfile.TemporaryDirectory() as folder:
        table, _ = _an4(Path(folder))
        for seed in _seeds(options, 3):
            found.append(_train(table, task="transcribe", seed=seed, minutes=minutes))
    greedy = [_greedy(card) for card in found]
    return {
        "minutes": minutes,
        "word error rate": spread([card["score"]["value"] for card in found]),
        "greedy": spread(greedy),
        "tested": found[0]["score"]["n"],
        "remarks": [card["facts"]["remarks"] for card in found],
        "parameters": found[0]["plan"]["forecast"]["parameters"],
        "wall_seconds": spread([card["wall_seconds"] for card in found]),
        "valid": [valid(card["cpu_per_wall"]) for card in found],
        "sentences": [card["verdict"]["sentence"] for card in found],
    }


def _greedy(card: dict[str, Any]) -> float:
    """Word error rate of the likeliest letters alone: as remarked, where words help; else the score itself."""
    told = [remark for remark in card["facts"]["remarks"] if "greedy" in remark]
    return float(told[0].split(" %")[0]) / 100 if told else float(card["score"]["value"])


def hearing(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of computing per second of sound (real-time factor), of recordings one at a time and of one hour, on all cores; the model is
    trained for --minutes 1. Beside it pocketsphinx with the model of its package, on the same test recordings, where it is installed."""
    import lamina
    from lamina.metrics import edits
    from lamina.outputs import spoken

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        table, rows = _an4(place)
        model = lamina.train(
            table, task="transcribe", minutes=options.minutes or 1.0, verdict_share=0.0, out=place / "m.lamina", runs=place / "runs"
        )
        tested = [row for row in rows if row["split"] == "test"]
        waves = [model.input.wave(_file(place / row["path"])) for row in tested]
        seconds = sum(map(len, waves)) / model.input.rate
        factors = []
        for _ in range(options.rounds or 3):
            begun = time.perf_counter()
            for wave in waves:
                model.predict((model.input.rate, wave))
            factors.append((time.perf_counter() - begun) / seconds)
        hour = np.tile(np.concatenate(waves), int(3_600 / seconds) + 1)[: 3_600 * model.input.rate]
        begun = time.perf_counter()
        model.predict((model.input.rate, hour))
        found: dict[str, Any] = {"one at a time": spread(factors), "one hour": (time.perf_counter() - begun) / 3_600}
        try:
            from pocketsphinx import Decoder
        except ImportError:
            return {**found, "pocketsphinx": "not installed"}
        decoder, wrong, words, begun = Decoder(samprate=float(model.input.rate), loglevel="FATAL"), 0, 0, time.perf_counter()
        for row, wave in zip(tested, waves, strict=True):
            decoder.start_utt()
            decoder.process_raw(wave.tobytes(), full_utt=True)
            decoder.end_utt()
            heard, wanted = decoder.hyp(), spoken(row["text"]).split()
            wrong, words = wrong + edits(spoken(heard.hypstr if heard else "").split(), wanted), words + len(wanted)
        theirs = {"word error rate": wrong / words, "real-time factor": (time.perf_counter() - begun) / seconds}
    return {**found, "pocketsphinx": theirs}


def _file(path: Path) -> Any:
    from lamina.data.raw import FileRaw

    return FileRaw(str(path))

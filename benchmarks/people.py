"""Sounds, voices and faces: recognition of sounds, equal error rates of people never seen, promised rates, time of an answer."""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import statistics
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import _seeds, _summary, _train
from benchmarks.common import DATA, spread, timed
from lamina.data.split import bucket

AN4_FOLDS, JOINED = 5, 3.0
HELD_OUT = 0.1
"""Share of the people of peopleDevTrain who are held out of training."""
PROMISED = 0.01


def _manifest(name: str) -> list[dict[str, str]]:
    folder = DATA / name
    if not folder.is_dir():
        raise SystemExit(f"{name} is not at {folder}")
    with open(folder / "manifest.tsv", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _unpacked(archive: Path, place: Path) -> Path:
    with zipfile.ZipFile(archive) as members:
        members.extractall(place)
    return place


def _table(place: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("path", "label", "split")) -> str:
    with open(place / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(place / "table.csv")


# ---------------------------------------------------------------- sounds


def spoken(options: argparse.Namespace) -> dict[str, Any]:
    """FSDD: the official test part within --minutes 5; and each of the six speakers left out once (--minutes 2 each)."""
    rows, minutes = _manifest("fsdd"), options.minutes or 5.0
    with tempfile.TemporaryDirectory() as folder:
        place = _unpacked(DATA / "fsdd" / "recordings.zip", Path(folder))
        official = _table(place, [(row["path"], row["digit"], row["split"]) for row in rows])
        found = {"minutes": minutes, "official": _summary([_train(official, seed=seed, minutes=minutes) for seed in _seeds(options, 3)])}
        alone = {}
        for speaker in sorted({row["speaker"] for row in rows}):
            parts = [(row["path"], row["digit"], "test" if row["speaker"] == speaker else "train") for row in rows]
            alone[speaker] = _summary([_train(_table(place, parts), seed=options.first, minutes=0.4 * minutes)])
        found["speaker left out"] = alone
        found["mean over speakers"] = spread([each["accuracy"]["mean"] for each in alone.values()])
    return found


def commands(options: argparse.Namespace) -> dict[str, Any]:
    """Speech Commands, the official test archive: five folds, speakers apart, --minutes 10 each."""
    rows, minutes = _manifest("speech_commands_v2_test12"), options.minutes or 10.0
    with tempfile.TemporaryDirectory() as folder:
        place = _unpacked(DATA / "speech_commands_v2_test12" / "audio.zip", Path(folder))
        answers = []
        for fold in range(options.rounds or 5):
            parts = [(row["path"], row["label"], "test" if row["fold"] == str(fold) else "train") for row in rows]
            answers.append(_train(_table(place, parts), seed=options.first, minutes=minutes))
    return {"minutes": minutes, **_summary(answers)}


# ---------------------------------------------------------------- people


def voices(options: argparse.Namespace) -> dict[str, Any]:
    """AN4: five folds over all 84 speakers, those tested never trained on; utterances of one speaker joined to 3 s; at most 10 minutes a
    fold. --data NAME.onnx: a borrowed network instead of one of our own."""
    rows = _manifest("an4")
    found: dict[str, list[Any]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = _unpacked(DATA / "an4" / "audio.zip", Path(folder))
        fold_of = _joined_voices(rows, place)
        files = sorted((place / "joined").rglob("*.flac"))
        for seed in _seeds(options):
            errors = []
            for fold in range(options.rounds or AN4_FOLDS):
                parts = [(str(file), file.parent.name, "test" if fold_of[file.parent.name] == fold else "train") for file in files]
                budget = {"minutes": options.minutes} if options.minutes else {}  # without, the recipe's epochs: about a minute
                start = {"start_from": options.data} if options.data else {}
                card = _train(_table(place, parts), task="verify", seed=seed, **budget, **start)
                errors.append(card["score"]["value"])
                found["classical"] += [each["score"]["value"] for each in card["verdict"]["contenders"] if each["kind"] == "classical"]
                found["wall_seconds"].append(card["wall_seconds"])
                found["cpu_per_wall"].append(card["cpu_per_wall"])
                found["remarks"].append(card["facts"]["remarks"])
            found["folds"].append(errors)
    return {
        "start": options.data or "nothing",
        "equal error rate": spread([statistics.mean(errors) for errors in found["folds"]]),
        "of each fold": found["folds"],
        "classical": spread(found["classical"]),
        "wall_seconds": spread(found["wall_seconds"]),
        "cpu_per_wall": found["cpu_per_wall"],
        "remarks": found["remarks"],
    }


def _joined_voices(rows: list[dict[str, str]], place: Path) -> dict[str, int]:
    """Write each speaker's utterances, one after the other, in pieces of 3 s; returns the fold of each speaker."""
    import soundfile

    speakers = sorted({row["speaker"] for row in rows}, key=lambda name: hashlib.md5(name.encode()).hexdigest())
    for speaker in speakers:
        waves = [soundfile.read(place / row["path"], dtype="int16") for row in rows if row["speaker"] == speaker]
        rate = waves[0][1]
        whole, size = np.concatenate([wave for wave, _ in waves]), int(JOINED * waves[0][1])
        (place / "joined" / speaker).mkdir(parents=True)
        for number in range(len(whole) // size):
            soundfile.write(place / "joined" / speaker / f"{number:03}.flac", whole[number * size : (number + 1) * size], rate)
    return {speaker: number % AN4_FOLDS for number, speaker in enumerate(speakers)}


def faces(options: argparse.Namespace) -> dict[str, Any]:
    """LFW, aligned: trained on peopleDevTrain within --minutes 15, tested on the pairs of pairsDevTest; then ORL, started from that model:
    30 people trained on, 10 tested, in 5 draws. --data NAME.onnx: a borrowed network instead of one of our own.

    The pairs' threshold is where false accepts and false rejects are as frequent among those people of peopleDevTrain who are held out:
    on the pairs of pairsDevTrain, of people trained on, anything between two photos of one and of two people would do.
    """
    import lamina
    from lamina.screen import Screen

    minutes = options.minutes or 15.0
    found: dict[str, list[Any]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = _unpacked(DATA / "lfw" / "images.zip", Path(folder) / "lfw")
        orl = _unpacked(DATA / "orl_faces" / "images.zip", Path(folder) / "orl")
        held_out = [pair for pair in _people("train") if bucket(pair[1]) < HELD_OUT]
        rows = [(file, name, "validation" if bucket(name) < HELD_OUT else "train") for file, name in _people("train")]
        table = _table(place, [*rows, *((file, name, "test") for file, name in _people("test"))])
        for seed in _seeds(options, 3):
            paths = {"out": Path(folder) / f"lfw{seed}.lamina", "runs": Path(folder) / "runs"}
            budget = {"start_from": options.data} if options.data else {"minutes": minutes}
            model, times = timed(lambda p={**paths, **budget}, s=seed: lamina.train(table, task="verify", seed=s, screen=Screen(), **p))
            found["accuracy"].append(_pairs_right(model, place, held_out))
            found["equal error rate"].append(model.card["score"]["value"])
            found["remarks"].append(model.card["facts"]["remarks"])
            found["wall_seconds"].append(times["wall_seconds"])
            found["cpu_per_wall"].append(times["cpu_per_wall"])
            found["classical"].append({each.name: each.score.value for each in model.verdict.contenders})
            found["orl"].append([_orl(orl, paths["out"], draw, Path(folder)) for draw in range(options.rounds or 5)])
    return {
        "start": options.data or "nothing",
        "minutes": minutes,
        "pairsDevTest, right": spread([each[0] for each in found["accuracy"]]),
        "pairsDevTest, equal error rate": spread([each[1] for each in found["accuracy"]]),
        "peopleDevTest, equal error rate": spread(found["equal error rate"]),
        "ORL, 10 people never seen, equal error rate": spread([value for draws in found["orl"] for value in draws]),
        "by way": found["classical"],
        "wall_seconds": spread(found["wall_seconds"]),
        "cpu_per_wall": found["cpu_per_wall"],
        "remarks": found["remarks"],
    }


def opponents(options: argparse.Namespace) -> dict[str, Any]:
    """LFW, aligned: each classical way alone, its settings chosen and fitted on peopleDevTrain without the people held out, on the pairs of
    pairsDevTest, by the threshold of the people held out."""
    from lamina.classical.people import FACE_OPPONENTS, fit_people
    from lamina.model import Model
    from lamina.pipeline.preparation import audited, fitted_feed
    from lamina.screen import Screen
    from lamina.settings import make_settings
    from lamina.tasks import find_task

    task, settings, screen = find_task("verify"), make_settings({"task": "verify"}), Screen()
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = _unpacked(DATA / "lfw" / "images.zip", Path(folder))
        held_out = [pair for pair in _people("train") if bucket(pair[1]) < HELD_OUT]
        table = _table(place, [(file, name, "train") for file, name in _people("train") if bucket(name) >= HELD_OUT])
        report, unfitted = audited(table, task, settings, screen)
        everything = range(len(report.examples))
        feed = fitted_feed(report, unfitted, task, settings, everything, screen)
        for seed in _seeds(options, 3):
            for opponent in FACE_OPPONENTS:
                fitted = fit_people((opponent,), feed, np.array(everything), 1e9, seed)
                model = Model("verify", feed.input, fitted.network, feed.output)
                found[fitted.name].append(_pairs_right(model, place, held_out)[0])
    return {"pairsDevTest, right": {name: spread(values) for name, values in found.items()}}


def _people(part: str) -> list[tuple[str, str]]:
    """(file, person) of peopleDevTrain or peopleDevTest."""
    lines = (DATA / "lfw" / f"peopleDev{part.capitalize()}.txt").read_text().splitlines()[1:]
    named = [line.split("\t") for line in lines if line.strip()]
    return [(f"{name}/{name}_{number:04}.jpg", name) for name, count in named for number in range(1, int(count) + 1)]


def _pairs(file: str) -> list[tuple[str, str, bool]]:
    found = []
    for line in (DATA / "lfw" / file).read_text().splitlines():
        cells = line.split("\t")
        if len(cells) in (3, 4):
            one, two = (cells[0], cells[0]) if len(cells) == 3 else (cells[0], cells[2])
            found.append((f"{one}/{one}_{int(cells[1]):04}.jpg", f"{two}/{two}_{int(cells[-1]):04}.jpg", len(cells) == 3))
    return found


def _likeness(model: Any, place: Path, file: str) -> tuple[np.ndarray, np.ndarray]:
    """(likeness, whether it is one person) of the pairs in a protocol file."""
    pairs = _pairs(file)
    one, two = (_embedded(model, [place / pair[side] for pair in pairs]) for side in (0, 1))
    return (one * two).sum(1), np.array([pair[2] for pair in pairs])


def _pairs_right(model: Any, place: Path, held_out: list[tuple[str, str]]) -> tuple[float, float]:
    """(accuracy on pairsDevTest at the threshold of the people held out, its equal error rate)."""
    from lamina.metrics import trials_of

    trials = trials_of(_embedded(model, [place / file for file, _ in held_out]), [name for _, name in held_out])
    threshold = trials.threshold(int(np.argmin(np.abs(np.subtract(*trials.rates())))))
    likeness, same = _likeness(model, place, "pairsDevTest.txt")
    order = np.argsort(-likeness)
    accepts, rejects = np.cumsum(~same[order]) / (~same).sum(), 1 - np.cumsum(same[order]) / same.sum()
    at = int(np.argmin(np.abs(accepts - rejects)))
    return float(((likeness >= threshold) == same).mean()), float(accepts[at] + rejects[at]) / 2


def _orl(orl: Path, start: Path, draw: int, folder: Path) -> float:
    """Equal error rate of 10 people never seen, after a short training on 30 others from the model of LFW."""
    import lamina

    names = sorted(path.name for path in orl.iterdir() if path.is_dir())
    tested = set(np.random.default_rng(draw).permutation(names)[:10])
    rows = [(str(file), name, "test" if name in tested else "train") for name in names for file in sorted((orl / name).glob("*.png"))]
    paths = {"out": folder / f"orl{draw}.lamina", "runs": folder / "runs"}
    model = lamina.train(_table(orl, rows), task="verify", start_from=str(start), seed=draw, verdict_share=0.0, **paths)
    return float(model.card["score"]["value"])


# ---------------------------------------------------------------- promises and time


def promise(options: argparse.Namespace) -> dict[str, Any]:
    """ORL and LFW: a model's thresholds for a wanted rate, measured anew on other people never seen, in --rounds 20 draws.

    One network is trained on a third of LFW's people with several photos; in each draw half of the others set the threshold, and the
    rest are the strangers: enrolled with up to three photos as `lamina enroll` does it, each tried by everybody else's next photo.
    """
    import lamina
    from lamina.metrics import openings, trials_of
    from lamina.screen import Screen

    with tempfile.TemporaryDirectory() as folder:
        place = _unpacked(DATA / "lfw" / "images.zip", Path(folder) / "lfw")
        several = [pair for part in ("train", "test") for pair in _people(part)]
        counts: dict[str, list[str]] = defaultdict(list)
        for file, name in several:
            counts[name].append(file)
        names = sorted(name for name, files in counts.items() if len(files) > 1)
        random = np.random.default_rng(0)
        order = random.permutation(names)
        learned, others = set(order[: len(order) // 3]), [str(name) for name in order[len(order) // 3 :]]
        rows = [(file, name, "") for name in sorted(learned) for file in counts[name]]
        paths = {"out": Path(folder) / "m.lamina", "runs": Path(folder) / "runs"}
        model = lamina.train(_table(place, rows), task="verify", minutes=options.minutes or 5, verdict_share=0.0, screen=Screen(), **paths)
        vectors = {name: _embedded(model, [place / file for file in counts[name][:6]]) for name in others}
        found = []
        for draw in range(options.rounds or 20):
            mixed = [str(name) for name in np.random.default_rng(draw).permutation(others)]
            half = len(mixed) // 2
            calibrated, strangers = mixed[:half], mixed[half:]
            owners = [name for name in calibrated for _ in vectors[name]]
            trials = trials_of(np.concatenate([vectors[name] for name in calibrated]), owners, seed=draw)
            (opening,) = openings(trials, [PROMISED])
            templates = np.stack([vectors[name][:3].mean(0) for name in strangers])
            probes = np.stack([vectors[name][-1] for name in strangers])
            likeness = templates @ probes.T
            outside = ~np.eye(len(strangers), dtype=bool)
            single = np.stack([vectors[name][0] for name in strangers]) @ probes.T
            found.append({
                "promised": opening.rate, "bound": opening.bound, "people": half, "strangers": len(strangers),
                "measured, one photo": float((single >= opening.threshold)[outside].mean()),
                "measured, enrolled": float((likeness >= opening.threshold)[outside].mean()),
            })  # fmt: skip
    return {
        "draws": found,
        "under the bound, one photo": sum(each["measured, one photo"] <= each["bound"] for each in found),
        "under the bound, enrolled": sum(each["measured, enrolled"] <= each["bound"] for each in found),
        "n": len(found),
    }


def _embedded(model: Any, files: list[Path]) -> np.ndarray:
    from lamina.data.raw import FileRaw

    values = model.values([model.input.read(FileRaw(str(file))) for file in files]).numpy()
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds, the median of many: one face and 3 s of a voice verified by a loaded model, from the file; one face identified among
    100,000 templates (made ones: the store's time does not depend on whose they are)."""
    import lamina
    from lamina.people.store import Store

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        orl = _unpacked(DATA / "orl_faces" / "images.zip", Path(folder) / "orl")
        voices = _unpacked(DATA / "an4" / "audio.zip", Path(folder) / "an4")
        _joined_voices(_manifest("an4"), voices)
        sets = {"face": sorted(orl.rglob("*.png")), "voice of 3 s": sorted((voices / "joined").rglob("*.flac"))}
        for sense, files in sets.items():
            width = {"width": 24} if sense == "face" else {}
            rows = [(str(file), file.parent.name, "") for file in files]
            paths = {"out": Path(folder) / f"{sense[:4]}.lamina", "runs": Path(folder) / "runs"}
            table = _table(Path(folder), rows)
            model = lamina.train(table, task="verify", epochs=2, verdict_share=0.0, **width, **paths)
            people = model.people(Path(folder) / f"store {sense}", Path(folder) / "key")
            name = files[0].parent.name
            people.enroll(name, [str(file) for file in files[:3]])
            others = itertools.cycle(map(str, files[3:]))  # another file each time: nothing of it is known from before
            found[sense] = _milliseconds(lambda p=people, n=name, others=others: p.verify(n, next(others)))
        people.store.close()
        count = options.rounds or 100_000
        store = Store(Path(folder) / "large", "model", 256, Path(folder) / "key")
        random = np.random.default_rng(0)
        begun = time.perf_counter()
        store._cipher()  # the key is made in a change of its own
        with store._changing():
            for number in range(count):
                vector = random.normal(size=256).astype(np.float32)
                row = (f"p{number}", store._sealed(f"p{number}", vector / np.linalg.norm(vector), 1), 1, 0.0)
                store._base.execute("INSERT INTO people VALUES (?, ?, ?, ?)", row)
        found["seconds to write"] = time.perf_counter() - begun
        begun = time.perf_counter()
        store.everybody()
        found["seconds to open"] = time.perf_counter() - begun
        probe = random.normal(size=256).astype(np.float32)
        found[f"nearest of {count}"] = _milliseconds(lambda: store.nearest(probe))
    return found


def _milliseconds(work: Any, times: int = 200) -> dict[str, float]:
    work()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - begun))
    return {"p50": statistics.median(taken), "p95": sorted(taken)[int(0.95 * times)], "n": times}

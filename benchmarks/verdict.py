"""The classical opponents and the verdict: accuracy inside a share of the time, planted wrong labels, coverage of intervals."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import DATA, RESULTS, cifar10, spread, timed

PLANTED = 0.05
"""Share of the labels that are made wrong."""


def classical(options: argparse.Namespace) -> dict[str, Any]:
    """Fashion-MNIST, official test: the best classical model inside 20 % of --minutes (10), and given as long as deep (80 %)."""
    minutes = options.minutes or 10.0
    feed, parts = _fashion()
    train, test = (np.array([index for index, part in enumerate(parts) if part == wanted]) for wanted in ("train", "test"))
    found: dict[str, Any] = {"minutes": minutes}
    for name, share in (("share", 0.2), ("as long as deep", 0.8)):
        runs = [_fit(feed, train, test, 60 * share * minutes, seed) for seed in range(options.first, options.first + (options.seeds or 1))]
        found[name] = {
            "accuracy": spread([run["accuracy"] for run in runs]),
            "seconds": spread([run["wall_seconds"] for run in runs]),
            "cpu_per_wall": [run["cpu_per_wall"] for run in runs],
            "chosen": [run["chosen"] for run in runs],
        }
    found["references on pixels"] = _references(feed, train, test)
    return found


def _references(feed: Any, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """scikit-learn's own forest and boosting, with their usual settings, on raw pixels."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    pixels = np.asarray(feed.values.take(np.arange(len(feed.values)))).reshape(len(feed.values), -1)
    wanted = np.array(feed.targets)
    found = {}
    for learner in (RandomForestClassifier(n_jobs=-1, random_state=0), HistGradientBoostingClassifier(random_state=0)):
        _, times = timed(lambda learner=learner: learner.fit(pixels[train], wanted[train]))
        found[type(learner).__name__] = {"accuracy": float(learner.score(pixels[test], wanted[test])), **times}
    return found


def suspects(options: argparse.Namespace) -> dict[str, Any]:
    """5 % wrong labels planted in the training part of Fashion-MNIST: the share of truly planted ones among the first as many suspects."""
    from lamina.classical.suspects import find_suspects
    from lamina.tasks.recognize.task import RECOGNIZE

    feed, parts = _fashion()
    train = np.array([index for index, part in enumerate(parts) if part == "train"])
    own, precision, seconds = list(feed.targets), [], []
    for seed in range(options.first, options.first + (options.seeds or 1)):
        random = np.random.default_rng(seed)
        planted = random.choice(train, int(PLANTED * len(train)), replace=False)
        targets = list(own)
        for index in planted:
            targets[index] = int((own[index] + random.integers(1, 10)) % 10)
        doubted = type(feed)(feed.values, targets, feed.input, feed.output, feed.device)
        found, times = timed(
            lambda doubted=doubted, seed=seed: find_suspects(
                RECOGNIZE.opponents(feed.input), doubted, train, 60 * (options.minutes or 2.0), seed
            )
        )
        first = {suspect.example for suspect in found[: len(planted)]}
        precision.append(len(first & set(planted.tolist())) / len(planted))
        seconds.append(times["wall_seconds"])
    return {"planted": int(PLANTED * len(train)), "precision_at_planted": spread(precision), "wall_seconds": spread(seconds)}


def coverage(options: argparse.Namespace) -> dict[str, Any]:
    """How often the paired interval holds the true difference: nominal 95 and 99 %, 10,000 draws a case."""
    from lamina.metrics import paired_interval

    random, cases = np.random.default_rng(0), []
    for n in (100, 400, 2_000, 10_000):
        for gained, lost in ((0.02, 0.02), (0.05, 0.02), (0.10, 0.05), (0.01, 0.002)):
            held = {0.95: 0, 0.99: 0}
            draws = options.rounds or 10_000
            cells = random.multinomial(n, (gained, lost, 1 - gained - lost), draws)
            for b, c, rest in cells:
                first = np.repeat([True, False, True], (b, c, rest))
                second = np.repeat([False, True, True], (b, c, rest))
                for confidence in held:
                    _, low, high = paired_interval(first, second, confidence)
                    held[confidence] += low <= gained - lost <= high
            cases.append({"n": n, "gained": gained, "lost": lost, **{f"{level:g}": count / draws for level, count in held.items()}})
    return {"cases": cases, "mean": {f"{level:g}": float(np.mean([case[f"{level:g}"] for case in cases])) for level in (0.95, 0.99)}}


def verdicts(options: argparse.Namespace) -> dict[str, Any]:
    """The verdict's sentence on real data, kept beside those of other sets; Fashion-MNIST and CIFAR-10 within --minutes (10)."""
    file = RESULTS / "verdicts.json"
    found: dict[str, Any] = json.loads(file.read_text())["sets"] if file.exists() else {}
    for name in options.data.split(",") if options.data else ("digits", "titanic", "adult", "hymenoptera", "fashion-mnist", "cifar10"):
        timed_set = {"minutes": options.minutes or 10.0} if name in ("fashion-mnist", "cifar10") else {}
        import lamina
        from lamina.screen import Screen

        with tempfile.TemporaryDirectory() as place:
            paths: dict[str, Any] = {"out": Path(place) / "m.lamina", "runs": Path(place) / "runs"}
            model, times = timed(
                lambda name=name, paths=paths, asked=timed_set: lamina.train(data_set(name), screen=Screen(), **paths, **asked)
            )
        verdict = model.verdict
        assert verdict is not None
        scores = {each.kind: {"score": each.score.value, "seconds": each.seconds, "name": each.name} for each in verdict.contenders}
        state = verdict.state()
        kept = {each: state[each] for each in ("kind", "use", "sentence", "difference", "low", "high")}
        found[name] = {**kept, "contenders": scores, **times}
        print(json.dumps({name: found[name]}), flush=True)
    return {"sets": found}


HELD_BACK = {"fashion-mnist": (2_000, 4_000), "cifar10": (2_000, 4_000), "adult": (2_000,)}
"""Examples from which twice as many are forecast, for both families: ten cases."""
CURVE_SMALLEST, CURVE_TESTED = 250, 2_500
CURVE_MINUTES = (0.4, 0.7)
"""For one training: at least, and as much more with the most examples."""


def curves(options: argparse.Namespace) -> dict[str, Any]:
    """Learning curves up to n examples against what 2n then gave (mean of two draws): ten cases, nominal 90 % intervals.

    Of the sets of --data only, beside those that are kept already.
    """
    from lamina.data.audit import audit
    from lamina.data.split import divide
    from lamina.pipeline import read_for
    from lamina.screen import Screen
    from lamina.settings import Settings
    from lamina.start import NOTHING
    from lamina.studies import curve_of, measure_curve
    from lamina.tasks import find_task

    settings, screen = Settings(start_from=NOTHING, threads=options.threads or 0), Screen()
    file = RESULTS / "curves.json"
    points: dict[str, Any] = json.loads(file.read_text())["points"] if file.exists() else {}
    for name in options.data.split(",") if options.data else HELD_BACK:
        levels = HELD_BACK[name]
        examples, input = read_for(data_set(name), find_task("recognize"), settings)
        random = np.random.default_rng(0)
        parts = {part: [i for i, of in enumerate(examples.parts) if (of or "train") == part] for part in ("train", "test")}
        most = 2 * max(levels)
        taken = [*random.permutation(parts["train"])[: most + most // 4], *random.permutation(parts["test"])[:CURVE_TESTED]]
        report = audit(examples.take(sorted(int(index) for index in taken)), input, settings, screen)
        sizes = [CURVE_SMALLEST * 2**power for power in range(12) if CURVE_SMALLEST * 2**power <= most]
        time_for = {size: CURVE_MINUTES[0] + CURVE_MINUTES[1] * size / most for size in sizes}
        points[name] = measure_curve(report.examples, divide(report), time_for, settings, screen)
        file.write_text(json.dumps({"points": points}, indent=1) + "\n")  # an interrupted benchmark keeps what it has
    cases = []
    for name, found in points.items():
        for level in HELD_BACK[name]:
            for kind in ("deep", "classical"):
                curve = curve_of([point for point in found if point["examples"] <= level], kind)
                assert curve is not None
                forecast, low, high = (100 * (1 - error) for error in curve.error(2 * level))
                came = 100 * float(np.mean([point["scores"][kind] for point in found if point["examples"] == 2 * level]))
                case = {"data": name, "way": kind, "examples": level, "forecast": forecast, "low": high, "high": low, "came": came}
                cases.append({**case, "held": high <= came <= low, "width": low - high})
                print(json.dumps(cases[-1]), flush=True)
    return {
        "held": sum(case["held"] for case in cases), "of": len(cases),
        "median_width_points": float(np.median([case["width"] for case in cases])), "cases": cases, "points": points,
    }  # fmt: skip


def data_set(name: str) -> Any:
    """A data set as `lamina.train` takes it."""
    if name in ("digits", "fashion-mnist"):
        return f"sample:{name}"
    if name == "cifar10":
        return cifar10()
    if name == "hymenoptera":
        return str(DATA / "hymenoptera")
    if name == "titanic":
        rows = list(csv.DictReader((DATA / "titanic" / "titanic.csv").open()))
        return _Frame([{("label" if key == "survived" else key): value for key, value in row.items()} for row in rows])
    rows = []
    for part in ("train", "test"):
        with gzip.open(DATA / "adult" / f"adult.{'data' if part == 'train' else part}.gz", "rt") as stream:
            for row in csv.DictReader(stream, skipinitialspace=True):
                label = row.pop("Y").strip().rstrip(".")
                rows.append({**row, "label": label, "split": part})
    return _Frame(rows)


class _Frame:
    """Rows as the least that counts as a data frame: names of columns, and each column's values."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.columns = list(rows[0])
        self.values = {name: [row[name] for row in rows] for name in self.columns}

    def __getitem__(self, name: str) -> list[Any]:
        return self.values[name]


def _fashion() -> tuple[Any, list[str]]:
    """(feed, part of each example) of Fashion-MNIST."""
    import torch

    from lamina.data.batches import Feed
    from lamina.data.cache import Decoded
    from lamina.data.samples import load_sample
    from lamina.inputs import ImageInput
    from lamina.outputs import ClassesOutput
    from lamina.settings import Settings

    examples = load_sample("fashion-mnist", Settings())
    pictures = np.stack([np.asarray(raw) for raw in examples.raws])
    output = ClassesOutput().fit(list(examples.answers))
    targets = [output.encode(answer) for answer in examples.answers]
    return Feed(Decoded.of(list(pictures[..., None])), targets, ImageInput(28, 1), output, torch.device("cpu")), list(examples.parts)


def _fit(feed: Any, train: np.ndarray, test: np.ndarray, seconds: float, seed: int) -> dict[str, Any]:
    from lamina.classical.fit import fit_classical
    from lamina.tasks.recognize.task import RECOGNIZE
    from lamina.training.inference import answers_to

    def run() -> Any:
        fitted = fit_classical(RECOGNIZE.opponents(feed.input), feed, train, seconds, seed, len(test))
        return fitted, answers_to(fitted.network, feed, feed.output, test.tolist(), "fp32")

    (fitted, answers), times = timed(run)
    truths = [feed.output.labels[feed.targets[index]] for index in test]
    right = RECOGNIZE.right(answers, truths)
    return {"accuracy": float(np.mean(right)), "chosen": fitted.name, **times}

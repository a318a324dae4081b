"""What is chosen next, and numbers: full ranking on public sets, times of a list and of all lists, intervals that hold what they say."""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.accuracy import _seeds, _train
from benchmarks.common import DATA, run_lamina, spread, valid

if TYPE_CHECKING:
    from lamina.networks import Network
    from lamina.pipeline.preparation import Prepared

RATING_FOLDS = 5


def _packed(*path: str) -> list[str]:
    file = DATA.joinpath(*path)
    if not file.is_file():
        raise SystemExit(f"{path[-1]} is not at {file}")
    return gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()


def _choices(place: Path, name: str) -> tuple[str, dict[str, Any]]:
    """(the set as a table, the settings of its protocol)."""
    if name == "ml-1m":
        rows = [tuple(line.split()) for line in _packed("ml-1m", "ml-1m.txt.gz")]
        return _written(place, rows, ("user", "item")), {"last_out": True}
    if name == "beauty":
        lines = [line.split() for line in _packed("amazon-beauty-5core", "Beauty.txt.gz")]
        return _written(place, [(line[0], item) for line in lines for item in line[1:]], ("user", "item")), {"last_out": True}
    if name == "gowalla":
        rows = [
            (line.split()[0], item, part)
            for part in ("train", "test")
            for line in _packed("gowalla", f"{part}.txt.gz")
            for item in line.split()[1:]
        ]
        return _written(place, rows, ("user", "item", "split")), {}
    if name == "ml-100k":
        rows = [tuple(line.split("\t")) for line in _packed("ml-100k", "ratings.tsv.gz")[1:]]
        return _written(place, rows, ("user", "item", "rating", "time")), {}
    raise SystemExit(f"--data is some of ml-1m, beauty, gowalla, ml-100k, got {name}")


def _written(place: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    with open(place / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(place / "table.csv")


def choices(options: argparse.Namespace) -> dict[str, Any]:
    """MovieLens-1M and Amazon Beauty 5-core, the last choice of each user held out; Gowalla in its own split; MovieLens-100K held out in
    time; --minutes 10 each; --data names some of them. Every item is ranked."""
    found = {}
    for name in (options.data or "ml-1m,beauty,gowalla,ml-100k").split(","):
        with tempfile.TemporaryDirectory() as folder:
            table, protocol = _choices(Path(folder), name)
            minutes = options.minutes or 10.0
            cards = [_train(table, task="recommend", seed=seed, minutes=minutes, **protocol) for seed in _seeds(options, 3)]
        found[name] = {
            "minutes": minutes,
            "NDCG@10": spread([card["score"]["value"] for card in cards]),
            "remarks": [card["facts"]["remarks"] for card in cards],
            "classical": spread([_classical(card)["score"]["value"] for card in cards]),
            "sentences": [card["verdict"]["sentence"] for card in cards],
            "tested": cards[0]["score"]["n"],
            "parameters": cards[0]["plan"]["forecast"]["parameters"],
            "wall_seconds": spread([card["wall_seconds"] for card in cards]),
            "valid": [valid(card["cpu_per_wall"]) for card in cards],
        }
    return found


def _classical(card: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in card["verdict"]["contenders"] if each["kind"] == "classical")


def opponents_of_choices(options: argparse.Namespace) -> dict[str, Any]:
    """Each classical way alone on the sets of `choices`, its best setting by the validation part: NDCG@10, recall@20, NDCG@20 of the test
    part, and seconds to fit and to evaluate; for Gowalla, whose split has no validation part, also fitted anew on all of its training part.
    """
    from lamina.classical.choices import CHOICE_OPPONENTS, fit_choices, fitted_anew
    from lamina.pipeline.preparation import prepare
    from lamina.screen import Screen
    from lamina.settings import make_settings
    from lamina.tasks.recommend.answers import recall, score
    from lamina.training.inference import BATCH, answers_to
    from lamina.training.run import new_run

    found: dict[str, Any] = {}
    for name in (options.data or "ml-1m,beauty,gowalla,ml-100k").split(","):
        with tempfile.TemporaryDirectory() as folder:
            table, protocol = _choices(Path(folder), name)
            settings = make_settings({"task": "recommend", **protocol})
            run = new_run(Path(folder) / "runs", name, settings, table, Path(folder) / "m.lamina")
            prepared = prepare(table, run, settings, Screen(quiet=True))
            learned, test = np.array(prepared.split.indices("train")), prepared.split.indices("test")
            for opponent in CHOICE_OPPONENTS:
                begun = time.perf_counter()
                try:
                    fitted = fit_choices((opponent,), prepared.feed, learned, 1e9, options.first)
                except ValueError:  # too many items for it, or its library is not installed
                    continue
                middle = time.perf_counter()

                def measured(network: Network, prepared: Prepared = prepared, test: list[int] = test) -> dict[str, float]:
                    answers = answers_to(network, prepared.feed, prepared.feed.output, test, "fp32")
                    gain = statistics.mean(answer.gain(20) for answer in answers)
                    return {"NDCG@10": score(answers, []).value, "recall@20": recall(answers, 20), "NDCG@20": gain}

                found.setdefault(name, {})[opponent.name] = {
                    **measured(fitted.network), "setting": fitted.name, "fit_seconds": fitted.fit_seconds, "search_seconds": middle - begun,
                    "evaluate_seconds": time.perf_counter() - middle, "users": len(test), "batch": BATCH,
                }  # fmt: skip
                if name == "gowalla":
                    found[name][opponent.name]["fitted anew"] = measured(fitted_anew(fitted, prepared.feed, np.array(test)))
    return found


def lists(options: argparse.Namespace) -> dict[str, Any]:
    """A model of MovieLens-1M (--minutes 3.5): milliseconds for one user whom it never saw, without reasons, and seconds for --rounds users
    (a million) of 20 choices each, written to Parquet."""
    import lamina
    from lamina.cli.choices import _write_all

    users = options.rounds or 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        table, protocol = _choices(place, "ml-1m")
        model = lamina.train(
            table,
            task="recommend",
            minutes=options.minutes or 3.5,
            verdict_share=0.0,
            out=place / "m.lamina",
            runs=place / "runs",
            **protocol,
        )
        random = np.random.default_rng(0)
        times = []
        for _ in range(200):
            items = [model.input.items[int(number)] for number in random.integers(0, len(model.input.items), 20)]
            begun = time.perf_counter()
            model.recommend(items, because=0)
            times.append(1_000 * (time.perf_counter() - begun))
        with open(place / "many.csv", "w", encoding="utf-8") as file:
            file.write("user,item\n")
            for user in range(users):
                file.writelines(f"{user},{model.input.items[int(number)]}\n" for number in random.integers(0, len(model.input.items), 20))
        begun = time.perf_counter()
        written = _write_all(model, str(place / "many.csv"), 10, place / "lists.parquet")
        took = time.perf_counter() - begun
    return {
        "p50 milliseconds": statistics.median(times),
        "p99 milliseconds": float(np.quantile(times, 0.99)),
        "users": written,
        "seconds": took,
    }


def rows(options: argparse.Namespace) -> dict[str, Any]:
    """A made table of --rounds rows (10 million choices of 100,000 users among 20,000 items): seconds and peak memory of its audit, and of
    a training within --minutes 8 with its verdict."""
    count, users, items = options.rounds or 10_000_000, 100_000, 20_000
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with open(place / "choices.csv", "w", encoding="utf-8") as file:
            file.write("user,item,timestamp\n")
            for first in range(0, count, 1_000_000):
                size = min(1_000_000, count - first)
                chosen = (items * random.random(size) ** 3).astype(int)  # few are chosen often
                times = 1_000_000_000 + first + np.arange(size)
                file.writelines(
                    f"u{user},i{item},{time}\n" for user, item, time in zip(random.integers(0, users, size), chosen, times, strict=True)
                )
        told = {}
        for name, command in (
            ("audit", ("audit", "choices.csv", "--as", "recommend")),
            ("train", ("train", "choices.csv", "--as", "recommend", "--minutes", str(options.minutes or 8))),
        ):
            found = run_lamina(*command, place=place)
            told[name] = {"wall_seconds": found["wall_seconds"], "peak_memory": found["peak_memory"]}
    return {"rows": count, "users": users, "items": items, **told}


def intervals(options: argparse.Namespace) -> dict[str, Any]:
    """California housing in ten divisions: how many of the nominal 90 % intervals hold the truth; mean absolute error beside the classical
    way's."""
    rows = _packed("california_housing", "housing.csv.gz")
    header, body = rows[0], rows[1:]
    covered, errors, theirs = [], [], []
    for seed in _seeds(options, 10):
        order = np.random.default_rng(seed).permutation(len(body))
        parts = np.where(np.arange(len(body)) < 0.2 * len(body), "test", "train")
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "t.csv"
            table.write_text(
                "\n".join([header + ",split", *(f"{body[row]},{part}" for row, part in zip(order, parts, strict=True))]) + "\n"
            )
            card = _train(str(table), label_column="median_house_value", seed=seed, minutes=options.minutes or 1.0)
        covered.append(float(card["facts"]["remarks"][1].split(" %")[0]) / 100)
        errors.append(card["score"]["value"])
        theirs.append(_classical(card)["score"]["value"])
    return {"covered": spread(covered), "mean absolute error": spread(errors), "classical": spread(theirs)}


def ratings(options: argparse.Namespace) -> dict[str, Any]:
    """MovieLens-100K, ratings as numbers, five folds: root mean squared error of the network and of the classical way."""
    rows = [line.split("\t")[:3] for line in _packed("ml-100k", "ratings.tsv.gz")[1:]]
    found: dict[str, list[float]] = {"RMSE": [], "wall_seconds": []}
    for seed in _seeds(options):
        fold = np.random.default_rng(seed).permutation(len(rows)) % RATING_FOLDS
        for number in range(RATING_FOLDS):
            with tempfile.TemporaryDirectory() as folder:
                cells = [
                    (f"u{user}", f"i{item}", rating, "test" if its == number else "train")
                    for (user, item, rating), its in zip(rows, fold, strict=True)
                ]
                table = _written(Path(folder), cells, ("user", "item", "label", "split"))
                card = _train(table, task="number", seed=seed, minutes=options.minutes or 1.0, verdict_share=0.0)
            found["RMSE"].append(float(card["facts"]["remarks"][0].split()[1]))
            found["wall_seconds"].append(card["wall_seconds"])
    return {name: spread(values) for name, values in found.items()}

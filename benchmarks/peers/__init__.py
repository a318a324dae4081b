"""Other systems on the same pictures, in the same minutes, on the same machine, by turns: each in an environment of its own under .peers/.

A peer gets the pictures as arrays in memory and all training pictures; Lamina gets the sample or the folder, audits it and holds out
its validation part. Minutes are those of the whole command: the start of the interpreter and the test answers are in, installing is not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, cifar10, run_lamina, timed

PLACE = Path(__file__).resolve().parents[2] / ".peers"
HERE = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"
PEERS = {
    "keras": ["keras==3.15.1"],
    "lightning": ["lightning==2.6.6"],
    "fastai": ["fastai==2.8.12", "torchvision==0.28.0"],
    "autogluon": ["autogluon.multimodal==1.6.3", "torchvision==0.28.0"],
}
DATA = ("fashion-mnist", "cifar10")
MINUTES = 10.0
PARTS = "1,0.5,0.25"
"""Lamina's own runs: the whole minutes, and how it stands with a half and a quarter of them."""


def peers(options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy after --minutes (10) of each system of --only (all, Lamina too) on --data (both), kept beside the earlier runs."""
    minutes = options.minutes or MINUTES
    file = RESULTS / "peers.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    for data in options.data.split(",") if options.data else DATA:
        systems = options.only.split(",") if options.only else [*PEERS, "lamina"]
        parts = [minutes * float(part) for part in (options.parts or PARTS).split(",")]
        for system, budget, seed in _turns(systems, minutes, parts, options.seeds or 1):
            found = _lamina(data, budget, seed) if system == "lamina" else _peer(system, data, budget, seed)
            runs = [run for run in runs if (run["data"], run["system"], run["minutes"], run["seed"]) != (data, system, budget, seed)]
            runs.append({"data": data, "system": system, "minutes": budget, "seed": seed, **found})
            print(json.dumps(runs[-1]), flush=True)
            file.write_text(json.dumps({"runs": runs}, indent=1) + "\n")  # an interrupted benchmark keeps what it has
    return {"minutes": MINUTES, "best_peer": {data: _against(runs, data) for data in DATA}, "runs": runs}


def _turns(systems: list[str], minutes: float, parts: list[float], seeds: int) -> Iterator[tuple[str, float, int]]:
    """By turns: a seed of each system, then the next seed."""
    for seed in range(seeds):
        for system in systems:
            for budget in parts if system == "lamina" else [minutes]:
                yield system, budget, seed


def _against(runs: list[dict[str, Any]], data: str) -> dict[str, Any] | None:
    """The best peer after ten minutes, and the least share of them in which Lamina was as accurate."""
    found = [run for run in runs if run["data"] == data]
    rivals = [run for run in found if run["system"] != "lamina" and run["minutes"] == MINUTES]
    if not rivals:
        return None
    best = max(rivals, key=lambda run: run["accuracy"])
    enough = [run["minutes"] for run in found if run["system"] == "lamina" and run["accuracy"] >= best["accuracy"]]
    return {"system": best["system"], "accuracy": best["accuracy"], "lamina_needs": min(enough) / MINUTES if enough else None}


def _lamina(data: str, minutes: float, seed: int) -> dict[str, Any]:
    source = "sample:fashion-mnist" if data == "fashion-mnist" else str(_pictures(data).with_suffix(""))
    with tempfile.TemporaryDirectory() as place:
        cold = ("--cache", str(Path(place) / "cache"))  # a first run: nothing is decoded yet
        answer = run_lamina("train", source, "--minutes", f"{minutes:g}", "--views", "--seed", str(seed), *cold, place=Path(place))
    facts = {name: answer[name] for name in ("wall_seconds", "cpu_per_wall", "peak_memory")}
    return {"accuracy": answer["score"]["value"], "single_view": answer["facts"]["single_view"]["value"], **facts}


def _peer(name: str, data: str, minutes: float, seed: int) -> dict[str, Any]:
    python, pictures = _environment(name), _pictures(data)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "result.json"
        command = [str(python), str(HERE / f"run_{name}.py"), str(pictures), str(minutes), str(seed), str(time.time()), str(out)]
        with open(PLACE / f"{name}-{data}.log", "w") as log:
            _, times = timed(lambda: subprocess.run(command, cwd=place, stdout=log, stderr=log, check=True))
        return {**json.loads(out.read_text()), **times}


def _environment(name: str) -> Path:
    """The interpreter of the peer's environment, made at the first call."""
    folder = PLACE / name
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TORCH, *PEERS[name]], check=True)
        (folder / "installed").touch()
    return python


def _pictures(data: str) -> Path:
    """The .npz of the pictures, and beside it the same as PNG files, train/CLASS/NUMBER.png and test/; made at the first call."""
    from PIL import Image

    file = PLACE / "data" / f"{data}.npz"
    if file.exists():
        return file
    if data == "cifar10":
        examples = cifar10()
    else:
        from lamina.data.samples import load_sample
        from lamina.settings import Settings

        examples = load_sample(data, Settings())
    file.parent.mkdir(parents=True, exist_ok=True)
    labels = sorted(set(examples.answers))
    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        chosen = [index for index, of in enumerate(examples.parts) if of == part]
        stacked = np.stack([np.asarray(examples.raws[index]) for index in chosen])
        arrays[f"x_{part}"] = stacked[..., None] if stacked.ndim == 3 else stacked
        arrays[f"y_{part}"] = np.array([labels.index(examples.answers[index]) for index in chosen])
        for number, (picture, index) in enumerate(zip(stacked, chosen, strict=True)):
            place = file.with_suffix("") / part / examples.answers[index].replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.squeeze()).save(place / f"{number}.png")
    np.savez(file, **arrays)
    return file

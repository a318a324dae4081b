"""SIGKILL at 50 random moments (audit, cache, epoch, checkpoint, saving): resume ends with the bits of the uninterrupted run."""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from test_training import pictures

KILLS = 50
WRAPPER = """
import sys, lamina.training.fit as fit, lamina.data.cache as cache
fit.SECONDS_BETWEEN_CHECKPOINTS = 0.2
cache.BLOCK = 16
from lamina.cli import main
main(sys.argv[1:])
"""
ASKED = ["--epochs", "6", "--precision", "fp32", "--threads", "1", "--width", "16"]


def write_pictures(folder: Path, parted: bool) -> None:
    """300 pictures: cross-fitted, or with a given test part."""
    values, targets = pictures(300)
    for number, (picture, target) in enumerate(zip(values, targets, strict=True)):
        part = ("test" if number % 4 == 0 else "train") if parted else ""
        place = folder / part / "abc"[target]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(place / f"{number:03}.png")


def start(place: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WRAPPER, *arguments]
    return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def learned(place: Path) -> tuple[bytes, str]:
    """Weights and calibrated output of the model file."""
    import json

    with zipfile.ZipFile(place / "m.lamina") as archive:
        return archive.read("weights.safetensors"), json.dumps(json.loads(archive.read("model.json"))["output"])


def train_and_kill(root: Path, name: str, data: Path, after: float) -> tuple[str, tuple[bytes, str]]:
    """(what was there when it was killed, what was learned in the end)."""
    place = root / name
    place.mkdir()
    process = start(place, "train", str(data), "--out", "m.lamina", *ASKED)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run = place / "runs" / f"{data.name}-1"
    names = ["card.json", "checkpoint.safetensors", "plan.json", "split.json", "audit.json", "request.json"]
    stage = next((name for name in names if (run / name).exists()), "nothing yet")
    again = start(place, "resume", str(run)) if stage != "nothing yet" else start(place, "train", str(data), "--out", "m.lamina", *ASKED)
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told[-2000:]
    return stage, learned(place)


@pytest.mark.soak
def test_kill_anywhere_and_resume_to_the_same_bits(tmp_path):
    random.seed(1)
    wanted, seconds = {}, {}
    for parted in (False, True):
        data = tmp_path / ("parted" if parted else "whole")
        write_pictures(data, parted)
        place = tmp_path / f"straight-{data.name}"
        place.mkdir()
        begun = time.monotonic()
        straight = start(place, "train", str(data), "--out", "m.lamina", *ASKED)
        assert straight.communicate(timeout=300) and straight.returncode == 0
        seconds[data], wanted[data] = time.monotonic() - begun, learned(place)
    stages: dict[str, int] = {}
    jobs = [
        (f"kill{number}", data, random.uniform(0.25, 1.15) * seconds[data])
        for number in range(KILLS)
        for data in [list(wanted)[number % 2]]
    ]
    with ThreadPoolExecutor(2) as pool:
        for (_, data, _), (stage, found) in zip(jobs, pool.map(lambda job: train_and_kill(tmp_path, *job), jobs), strict=True):
            stages[stage] = stages.get(stage, 0) + 1
            assert found == wanted[data], f"other bits after a kill with {stage}"
    print(f"\n{KILLS} kills, all bit-equal; the furthest file at the kill: {stages}")
    assert len(stages) >= 3, "the kills are spread over the stages"

"""Eight processes enroll, verify and revoke in one store, and are killed at 50 random moments: nothing is lost or half-written, and nobody
is accepted who is not enrolled."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lamina.people.store import Store

PROCESSES, KILLS, SECONDS = 8, 50, 90
WORKER = """
import json, sys, time
import numpy as np
from pathlib import Path
from lamina.people.store import Store
from lamina.errors import DataError

place, number, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(seed)
own = [f"w{number}-{n}" for n in range(4)]
vector = lambda name: np.sin(np.arange(32) * (1 + sum(map(ord, name)))).astype(np.float32) / 4
store = Store(place / "store", "model", 32, place / "key")
while True:
    name = own[random.integers(len(own))]
    what = random.integers(4)
    # said before and after, so that whoever is killed in between leaves what may or may not have happened
    with open(place / f"log{number}", "a") as log:
        if what < 2:
            log.write(json.dumps(["+?", name]) + chr(10)); log.flush()
            try:
                store.remove(name)
            except DataError:
                pass
            store.add(name, vector(name), 1)
            log.write(json.dumps(["+", name]) + chr(10)); log.flush()
        elif what == 2:
            log.write(json.dumps(["-?", name]) + chr(10)); log.flush()
            try:
                store.remove(name)
            except DataError:
                pass
            log.write(json.dumps(["-", name]) + chr(10)); log.flush()
        else:
            names, matrix = store.everybody()
            for known, row in zip(names, matrix):
                assert np.allclose(row, vector(known), atol=1e-6), known
            try:
                mean, count = store.read(name)
                assert np.allclose(mean, vector(name), atol=1e-6)
                store.note("accepted", name)
            except DataError as error:
                assert "be one of the people enrolled" in str(error), error
"""


def vector(name: str) -> np.ndarray:
    return np.sin(np.arange(32) * (1 + sum(map(ord, name)))).astype(np.float32) / 4


@pytest.mark.soak
def test_killed_in_the_middle(tmp_path):
    chance, seeds = random.Random(1), iter(range(10_000))
    Store(tmp_path / "store", "model", 32, tmp_path / "key").close()

    def start(number: int) -> subprocess.Popen:
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(number), str(next(seeds))]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    workers = [start(number) for number in range(PROCESSES)]
    killed, began = 0, time.monotonic()
    while not all((tmp_path / f"log{number}").exists() for number in range(PROCESSES)):  # a busy machine starts them one by one
        time.sleep(0.2)
        assert time.monotonic() - began < SECONDS
    began = time.monotonic()
    while killed < KILLS or time.monotonic() - began < SECONDS / 3:
        time.sleep(chance.uniform(0.1, 1.2))
        assert time.monotonic() - began < 10 * SECONDS
        for worker in workers:
            if worker.poll() is not None:
                assert worker.returncode == -signal.SIGKILL, worker.stderr.read()
        number = chance.randrange(PROCESSES)
        workers[number].send_signal(signal.SIGKILL)
        workers[number].communicate()
        killed += 1
        workers[number] = start(number)
    time.sleep(3)
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    store = Store(tmp_path / "store", "model", 32, tmp_path / "key")
    assert store._base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    names, matrix = store.everybody()  # every row opens: none is half-written
    for name, row in zip(names, matrix, strict=True):
        assert np.allclose(row, vector(name), atol=1e-6)
    done = 0
    for number in range(PROCESSES):
        last: dict[str, str] = {}
        for line in (tmp_path / f"log{number}").read_text().splitlines():
            try:
                what, name = json.loads(line)
            except ValueError:
                continue
            last[name] = what
            done += what in "+-"
        for name, what in last.items():  # what was said to be done is so; what was under way may be either
            if what in ("+", "-"):
                assert (name in names) == (what == "+"), (name, what)
    print(f"{killed} kills, {done} changes, {len(names)} people at the end")
    assert done > 200

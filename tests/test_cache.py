"""The cache of decoded values: read once, resumed after an interruption, refused when the disk is too small."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import encoded, picture

from lamina.data import cache as cache_module
from lamina.data.cache import BLOCK, Decoded, decode
from lamina.data.files import write_bytes
from lamina.data.workers import Workers
from lamina.errors import ResourceError
from lamina.inputs import ImageInput
from lamina.screen import Screen
from lamina.settings import Settings

SCREEN = Screen(quiet=True)


class Counting:
    """Stands for an Input: raw k reads as the number k, in an array of `shape(k)`; says which were read, breaks where told to."""

    kind, plural = "counting", "numbers"

    def __init__(self, shape: Any = lambda k: (3, 2), breaks_at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.shape, self.breaks_at, self.error = shape, breaks_at, error
        self.seen: list[int] = []

    def state(self) -> dict[str, Any]:
        return {}

    def read(self, raw: int) -> np.ndarray:
        if raw == self.breaks_at:
            raise self.error
        self.seen.append(raw)
        return np.full(self.shape(raw), raw, np.int32)


def run(folder: Path, input: Any, count: int, **settings: Any) -> Decoded:
    raws = list(range(count))
    return decode(raws, [str(raw) for raw in raws], input, Settings(cache=str(folder), threads=2, **settings), SCREEN)


def test_values_equal_reading(tmp_path: Path) -> None:
    """The cache holds what input.read gives, in order, and `take` copies it out."""
    raws = [encoded(picture(seed, 20 + seed)) for seed in range(12)]
    input = ImageInput(side=16, channels=3)
    decoded = decode(raws, [str(n) for n in range(12)], input, Settings(cache=str(tmp_path)), SCREEN)
    expected = np.stack([input.read(raw) for raw in raws])
    assert len(decoded) == 12
    assert decoded.flat.nbytes == expected.nbytes
    assert np.array_equal(decoded.take(range(12)), expected)
    taken = decoded.take([7, 2, 7])
    assert np.array_equal(taken, expected[[7, 2, 7]])
    taken[:] = 0
    assert np.array_equal(decoded.take([7]), expected[[7]])


def test_values_kept_on_a_device_are_the_same(tmp_path: Path) -> None:
    """Small enough, they are taken from a tensor there; too large, from the map as before."""
    raws = [encoded(picture(seed, 20)) for seed in range(8)]
    decoded = decode(raws, [str(n) for n in range(8)], ImageInput(side=16, channels=3), Settings(cache=str(tmp_path)), SCREEN)
    expected = decoded.take([5, 2])
    assert not decoded.keep_on(torch.device("cpu"), decoded.flat.nbytes - 1)
    assert decoded.keep_on(torch.device("cpu"), decoded.flat.nbytes)
    assert np.array_equal(ImageInput(side=16, channels=3).collate(decoded.take([5, 2]))[0].numpy(), expected)
    assert isinstance(decoded.take([0]), torch.Tensor) and np.array_equal(decoded.here().take([5, 2]), expected)


def test_second_call_reads_nothing(tmp_path: Path) -> None:
    """Equal contents and state: the files are not touched. Another state, order or content: they are."""
    run(tmp_path, Counting(), 10)
    assert np.array_equal(run(tmp_path, Counting(breaks_at=0), 10).take([4])[0], np.full((3, 2), 4))
    other = Counting()
    run(tmp_path, other, 11)
    assert set(other.seen) == set(range(11))
    changed = Counting()
    changed.state = lambda: {"side": 9}  # type: ignore[method-assign]
    run(tmp_path, changed, 10)
    assert set(changed.seen) == set(range(10))


@pytest.mark.parametrize("shape", [lambda k: (3,), lambda k: (1 + k % 5, 2)], ids=["even", "ragged"])
def test_goes_on_after_an_interruption(shape: Any, tmp_path: Path) -> None:
    """Blocks that are on the disk are not read again, and the whole equals an uninterrupted reading."""
    count, stop = 3 * BLOCK + 9, 2 * BLOCK + 5
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Counting(shape, breaks_at=stop), count)
    again = Counting(shape)
    decoded = run(tmp_path, again, count)
    assert min(set(again.seen) - {0}) == 2 * BLOCK  # the first is read for its type and size
    values = decoded.take(range(count))
    assert all(np.array_equal(value, np.full(shape(k), k)) for k, value in enumerate(values))
    assert {path.name for path in next(tmp_path.glob("decoded-*/")).iterdir()} == {"data.bin", "index.json"}


@pytest.mark.parametrize("harm", ["torn", "garbage in done", "no data", "half the data"])
def test_torn_remains_are_not_trusted(harm: str, tmp_path: Path) -> None:
    """Bytes after the last sure block are dropped; remains that do not fit together are read anew."""
    count = 2 * BLOCK
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Counting(breaks_at=BLOCK + 1), count)
    folder = next(path for path in tmp_path.glob("decoded-*") if path.is_dir())
    data = folder / "data.bin"
    if harm == "torn":
        data.write_bytes(data.read_bytes() + b"torn")
    elif harm == "garbage in done":
        (folder / "done").write_text("[5, ")
    elif harm == "no data":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[: BLOCK * 12])
    values = run(tmp_path, Counting(), count).take(range(count))
    assert np.array_equal(values[:, 0, 0], np.arange(count))


def test_unfinished_or_damaged_index_is_read_anew(tmp_path: Path) -> None:
    """An index that does not fit the data is not believed."""
    run(tmp_path, Counting(), 8)
    index = next(tmp_path.glob("decoded-*/index.json"))
    index.write_text(json.dumps({**json.loads(index.read_text()), "count": 9}))
    assert np.array_equal(run(tmp_path, Counting(), 8).take(range(8))[:, 0, 0], np.arange(8))


def test_ragged_values(tmp_path: Path) -> None:
    """Values of different shapes come back one by one, with their shapes."""
    decoded = run(tmp_path, Counting(lambda k: (k + 1, 2)), 6)
    assert not decoded.even
    taken = decoded.take([5, 0])
    assert [value.shape for value in taken] == [(6, 2), (1, 2)]
    assert [value.flat[0] for value in taken] == [5, 0]
    kept = Decoded.of([np.full((k + 1, 2), k) for k in range(6)]).take([3])
    assert np.array_equal(kept[0], np.full((4, 2), 3))


def test_disk_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The need is forecast before anything is written; what an interrupted run wrote is not needed twice."""
    usage = type(shutil.disk_usage(tmp_path))
    one = 24 * BLOCK
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9, int(1.5 * one)))
    with pytest.raises(ResourceError, match=r"Free disk space for the cache .* must be at least 24.6 kB. Got 18.4 kB. .*--cache") as caught:
        run(tmp_path, Counting(), 2 * BLOCK)
    assert caught.value.exit_code == 5
    assert not list(tmp_path.glob("decoded-*/data.bin"))
    with monkeypatch.context() as patch:
        patch.setattr(cache_module.shutil, "disk_usage", lambda path: usage(10**9, 0, 10**9))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Counting(breaks_at=BLOCK), 2 * BLOCK)
    assert len(run(tmp_path, Counting(), 2 * BLOCK)) == 2 * BLOCK


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A cache folder that is a file is told in one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="must be writable"):
        run(tmp_path / "file", Counting(), 2)


def test_file_whose_folder_is_a_file(tmp_path: Path) -> None:
    """Writing below a file is told in one sentence, and so is writing over a folder; nothing is left beside."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file/answers.csv", tmp_path / "folder"):
        with pytest.raises(ResourceError, match=r"The file .* must be writable\. Got "):
            write_bytes(path, b"content")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_unused_data_are_forgotten(tmp_path: Path) -> None:
    """Decoded data that nobody opened for a month go when new ones come; used ones stay."""
    run(tmp_path, Counting(), 3)
    run(tmp_path, Counting(), 4)
    old = next(path.parent for path in tmp_path.glob("decoded-*/index.json") if json.loads(path.read_text())["count"] == 3)
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    run(tmp_path, Counting(), 5)
    assert sorted(json.loads(path.read_text())["count"] for path in tmp_path.glob("decoded-*/index.json")) == [4, 5]


WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from lamina.data.cache import decode
from lamina.screen import Screen
from lamina.settings import Settings

place, seen = Path(sys.argv[1]), []

class Numbers:
    kind, plural = "numbers", "numbers"
    def state(self):
        return {}
    def read(self, raw):
        while len(list(place.glob("started-*"))) < 2 and time.monotonic() < stop:
            pass
        seen.append(raw)
        return np.full((3, 2), raw, np.int32)

stop = time.monotonic() + 30
(place / f"started-{sys.argv[2]}").touch()
raws = list(range(600))
decoded = decode(raws, [str(raw) for raw in raws], Numbers(), Settings(cache=str(place), threads=2), Screen(quiet=True))
print(len(seen), int(decoded.take(raws).sum()))
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    """One decodes, the other waits and finds it done; both have the same values."""
    commands = [[sys.executable, "-c", WORKER, str(tmp_path), str(number)] for number in range(2)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    got = sorted(tuple(map(int, worker.communicate(timeout=60)[0].split())) for worker in workers)
    assert got == [(0, 6 * sum(range(600))), (601, 6 * sum(range(600)))]


@pytest.mark.parametrize("shape", [lambda k: (3, 2), lambda k: (1 + k % 4,)])
def test_large_files_are_read_and_not_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Any) -> None:
    """Beyond MAPPED the values are those of the map; a file that became shorter is said."""
    mapped = run(tmp_path, Counting(shape), 20)
    monkeypatch.setattr(cache_module, "MAPPED", 0)
    read = run(tmp_path, Counting(shape), 20)
    assert mapped.file is None and read.file is not None
    order = [7, 0, 19, 7]
    for one, other in zip(mapped.take(order), read.take(np.array(order)), strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype
    with open(read.file.name, "r+b") as file:
        file.truncate(40)
    with pytest.raises(ResourceError, match="shorter file"):
        read.take([19])


def test_work_is_done_alone_where_threads_are_slower():
    """Whichever way was faster, every value is there, in its order."""
    busy = threading.Lock()

    def one_at_a_time(value: int) -> int:
        with busy:
            time.sleep(1e-4 if threading.current_thread() is threading.main_thread() else 1e-3)
        return -value

    with Workers(4) as workers:
        made = [made for start in range(0, 300, 100) for made in workers.map(one_at_a_time, range(start, start + 100))]
        assert made == [-value for value in range(300)] and workers.alone is True
    with Workers(8) as workers:
        workers.map(lambda value: time.sleep(2e-3), range(100))
        assert workers.alone is False

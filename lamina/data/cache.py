"""The cache: each example decoded once into one memory-mapped file, keyed by content and settings.

cache/decoded-KEY/data.bin    the values, one after another
                  index.json  shape and type of each, written last; without it the folder is unfinished
                  done        how many examples are surely on the disk, so that a killed run goes on from there
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lamina.data.files import cache_folder, locked, write_json
from lamina.data.raw import Raw
from lamina.data.workers import Workers
from lamina.errors import ResourceError, sentence
from lamina.screen import Screen, bytes_in_words
from lamina.settings import Settings, cores

if TYPE_CHECKING:
    from lamina.inputs import Input

VERSION = 2
BLOCK = 512
SPARE_DISK = 0.02
UNUSED_DAYS = 30
MAPPED = 200_000_000
"""Bytes up to which a file of values is mapped into memory."""


class Decoded:
    """n read values, memory-mapped. Values of one shape are one array [n, …]; others are read one by one.

    From files larger than MAPPED values are read, not mapped: a touched page may map two megabytes of neighbors, and all of them count as
    memory of this process.
    """

    def __init__(self, flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> None:
        self.flat, self.shapes = flat, shapes
        sizes = [int(np.prod(shape)) for shape in shapes]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.even = len(set(shapes)) == 1
        self.array = flat.reshape(len(shapes), *shapes[0]) if self.even else None
        self.resident: Tensor | None = None
        large = isinstance(flat, np.memmap) and flat.nbytes > MAPPED and hasattr(os, "preadv")
        self.file = open(str(flat.filename), "rb", buffering=0) if large else None  # type: ignore[attr-defined]  # noqa: SIM115

    @classmethod
    def of(cls, values: Sequence[np.ndarray]) -> Decoded:
        """From values in memory."""
        return cls(np.concatenate([np.asarray(value).reshape(-1) for value in values]), [np.shape(value) for value in values])

    def __len__(self) -> int:
        return len(self.shapes)

    def keep_on(self, device: torch.device, most: float) -> bool:
        """Hold all values in the memory of `device` when they share a shape and are at most `most` bytes; whether that is so."""
        if self.array is not None and self.flat.nbytes <= most:
            self.resident = torch.from_numpy(np.array(self.array)).to(device)
        return self.resident is not None

    def here(self) -> Decoded:
        """The same values, without their copy on a device."""
        return self if self.resident is None else Decoded(self.flat, self.shapes)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray | list[np.ndarray] | Tensor:
        """Copies of the values at `indices`: [m, …] when they share a shape, else a list; a tensor where they are kept on a device."""
        if self.resident is not None:
            return self.resident[moved(torch.from_numpy(np.array(indices, np.int64)), self.resident.device)]
        if self.file is not None:
            shapes = [self.shapes[int(index)] for index in indices]
            one = self.array is not None
            values = np.empty((len(shapes), *self.shapes[0]), self.flat.dtype) if one else [np.empty(s, self.flat.dtype) for s in shapes]
            for value, index in zip(values, indices, strict=True):
                self._read(value, int(index))
            return values
        if self.array is not None:
            return self.array[np.asarray(indices, np.int64)]
        return [self.flat[self.starts[i] : self.starts[i + 1]].reshape(self.shapes[i]).copy() for i in map(int, indices)]

    def _read(self, value: np.ndarray, index: int) -> None:
        assert self.file is not None
        found = os.preadv(self.file.fileno(), [value.reshape(-1).view(np.uint8)], int(self.starts[index]) * value.itemsize)  # type: ignore[list-item]
        if found != value.nbytes:
            raise ResourceError(sentence(f"The cache file {self.file.name}", "stay as it was written", "a shorter file", "Run it again."))


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`. A GPU is not waited for: the copy stands in its queue like any other work."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def decode(raws: Sequence[Raw], contents: Sequence[str], input: Input, settings: Settings, screen: Screen) -> Decoded:
    """Read every raw value with the fitted `input`, from the cache where it is there.

    Raises ResourceError before writing when the disk cannot hold it.
    """
    state = json.dumps([VERSION, input.kind, input.state()], sort_keys=True)
    key = hashlib.blake2b((state + "".join(contents)).encode(), digest_size=16).hexdigest()
    folder = cache_folder(settings) / f"decoded-{key}"
    with locked(folder):
        if (decoded := open_decoded(folder)) is None:
            _forget_unused(folder.parent)
            _fill(folder, raws, input, settings, screen)
            decoded = open_decoded(folder)
        assert decoded is not None
        os.utime(folder)
    return decoded


def open_decoded(folder: Path) -> Decoded | None:
    """What a folder of the cache holds; None when it is unfinished or none."""
    try:
        index = json.loads((folder / "index.json").read_text())
        flat = np.memmap(folder / "data.bin", index["dtype"], "r")
        shapes = [tuple(shape) for shape in index["shapes"]] if index["shapes"] else [tuple(index["shape"])] * index["count"]
        return Decoded(flat, shapes) if sum(int(np.prod(shape)) for shape in shapes) == flat.size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fill(folder: Path, raws: Sequence[Raw], input: Input, settings: Settings, screen: Screen) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first = input.read(raws[0])
    done, shapes = _progress(folder, first.itemsize)
    _check_disk(folder, first.nbytes * (len(raws) - done))
    try:
        with open(folder / "data.bin", "r+b" if done else "wb") as file, Workers(cores(settings)) as workers:
            file.seek(sum(int(np.prod(shape)) for shape in shapes) * first.itemsize)
            file.truncate()
            with screen.progress(f"Preparing {len(raws)} {input.plural}", len(raws)) as bar:
                for start in range(done, len(raws), BLOCK):
                    values = workers.map(input.read, raws[start : start + BLOCK])
                    for value in values:
                        file.write(np.ascontiguousarray(value, first.dtype).data)
                        shapes.append(value.shape)
                    file.flush()
                    os.fsync(file.fileno())
                    write_json(folder / "done", [len(shapes), _short(shapes)], indent=None)
                    bar.advance(len(shapes))
    except OSError as error:
        raise ResourceError(
            sentence(
                f"The cache {folder.parent}",
                "be writable",
                error.strerror or str(error),
                "Free some disk space or name another folder with --cache.",
            )
        ) from error
    even = len(set(shapes)) == 1
    write_json(
        folder / "index.json",
        {"dtype": first.dtype.str, "count": len(shapes), "shape": list(shapes[0]), "shapes": None if even else shapes},
        indent=None,
    )
    (folder / "done").unlink(missing_ok=True)


def _short(shapes: list[tuple[int, ...]]) -> list:
    return [shapes[0]] if len(set(shapes)) == 1 else shapes


def _progress(folder: Path, itemsize: int) -> tuple[int, list[tuple[int, ...]]]:
    """How many examples an interrupted run left on the disk, and their shapes."""
    try:
        count, shapes = json.loads((folder / "done").read_text())
        rows = [tuple(shape) for shape in shapes]
        rows = rows * count if len(rows) == 1 else rows
        whole = (folder / "data.bin").stat().st_size >= itemsize * sum(int(np.prod(shape)) for shape in rows)
    except (OSError, ValueError, TypeError):
        return 0, []
    return (count, rows) if whole else (0, [])


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free * (1 - SPARE_DISK):
        raise ResourceError(
            sentence(
                f"Free disk space for the cache {folder.parent}",
                f"be at least {bytes_in_words(needed)}",
                bytes_in_words(free),
                "Free some, or name another folder with --cache.",
            )
        )


def _forget_unused(cache: Path) -> None:
    """Drop decoded data that no run has opened for a month."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for folder in cache.glob("decoded-*"):
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)

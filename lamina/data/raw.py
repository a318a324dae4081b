"""Raw values: where one example's data lie. Nothing is read before it is asked for."""

from __future__ import annotations

import lzma
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PIECE_MARK = " \u00b7 piece "
"""Between a document's name and the number of a piece of it."""
ARCHIVES = threading.local()
DAMAGED = (zipfile.BadZipFile, RuntimeError, EOFError, KeyError, ValueError, zlib.error, lzma.LZMAError, struct.error)
"""What zipfile raises for a damaged, encrypted or vanished member."""


@dataclass(frozen=True)
class FileRaw:
    """A file on disk."""

    path: str

    def read(self, limit: int = -1) -> bytes:
        with open(self.path, "rb") as file:
            return file.read(limit)

    def size(self) -> int:
        return os.stat(self.path).st_size

    def stamp(self) -> str:
        """Changes when the file does, without reading it."""
        stat = os.stat(self.path)
        return f"{os.path.abspath(self.path)}|{stat.st_size}|{stat.st_mtime_ns}"


@dataclass(frozen=True)
class ZipRaw:
    """A member of a zip archive; each thread keeps one archive open."""

    archive: str
    member: str
    stored: str
    """CRC and size from the archive's directory."""

    def read(self, limit: int = -1) -> bytes:
        try:
            with _archive(self.archive).open(self.member) as file:
                return bytes(file.read(limit))
        except DAMAGED as error:
            raise OSError(f"damaged or encrypted member of the archive ({error})") from error

    def size(self) -> int:
        return int(self.stored.split("|")[1])

    def stamp(self) -> str:
        return f"{os.path.abspath(self.archive)}|{self.member}|{self.stored}"


@dataclass(frozen=True)
class PartRaw:
    """A stretch of a file, from byte `start` to before `end`."""

    path: str
    start: int
    end: int

    def read(self, limit: int = -1) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.end - self.start if limit < 0 else min(limit, self.end - self.start))

    def size(self) -> int:
        return self.end - self.start

    def stamp(self) -> str:
        return f"{FileRaw(self.path).stamp()}|{self.start}|{self.end}"


@dataclass(frozen=True)
class RowRaw:
    """A row of a table; the rows of one table share their column names."""

    columns: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class History:
    """What somebody chose, in its order, as numbers of items in a list of names that all histories of a table share."""

    user: str
    chosen: np.ndarray
    names: Sequence[str]
    part: str = ""


@dataclass(frozen=True)
class Talk:
    """A conversation: (role, what was said) in turn; the roles are system, user and assistant."""

    turns: tuple[tuple[str, str], ...]


def name_of(raw: Any) -> str:
    """Where a raw value comes from, for a sentence about it."""
    if isinstance(raw, (FileRaw, PartRaw)):
        return raw.path
    if isinstance(raw, History):
        return raw.user
    return raw.member if isinstance(raw, ZipRaw) else f"({type(raw).__name__})"


def _archive(path: str) -> zipfile.ZipFile:
    """This thread's open archive; opened anew when the file was replaced."""
    stat, opened = os.stat(path), ARCHIVES.__dict__
    stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if path not in opened or opened[path][0] != stamp:
        opened[path] = (stamp, zipfile.ZipFile(path))
    return opened[path][1]


Raw = Any
"""FileRaw, ZipRaw, PartRaw, RowRaw, History, Talk, bytes, a text, a numpy array or a Pillow image."""

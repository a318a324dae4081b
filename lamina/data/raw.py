"""Raw values: where one example's data lie. Nothing is read before it is asked for."""

from __future__ import annotations

import os
import threading
import zipfile
from dataclasses import dataclass
from typing import Any

ARCHIVES = threading.local()


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
        opened = ARCHIVES.__dict__
        if self.archive not in opened:
            opened[self.archive] = zipfile.ZipFile(self.archive)
        try:
            with opened[self.archive].open(self.member) as file:
                return bytes(file.read(limit))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise OSError(f"damaged or encrypted member of the archive ({error})") from error

    def size(self) -> int:
        return int(self.stored.split("|")[1])

    def stamp(self) -> str:
        return f"{os.path.abspath(self.archive)}|{self.member}|{self.stored}"


Raw = Any
"""FileRaw, ZipRaw, bytes, a numpy array or a Pillow image."""

"""Files that survive a kill: written beside, flushed, then renamed; and the folders and locks of the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lamina.errors import ResourceError, sentence
from lamina.settings import Settings


def write_bytes(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a file so that at any moment either the old or the new content is there. Raises ResourceError when the disk refuses."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise ResourceError(
            sentence(f"The file {path}", "be writable", error.strerror or str(error), "Free some disk space or choose another place.")
        ) from error


def check_writable(path: Path) -> None:
    """Raise ResourceError now rather than after an hour of training when `path` cannot be written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()
        if path.is_dir():
            raise IsADirectoryError(0, "a folder of that name is there")
    except OSError as error:
        raise ResourceError(sentence(f"The file {path}", "be writable", error.strerror or str(error), "Choose another place.")) from error


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    write_bytes(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape"))


def cache_folder(settings: Settings) -> Path:
    """Where decoded data lie: --cache, or lamina/ in the user's cache folder."""
    if settings.cache:
        return Path(settings.cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lamina"


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """One process at a time; the lock goes with the process, however it ends. Raises ResourceError when `wait` is off and it is taken."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path) + ".lock")
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise ResourceError(
            sentence(f"The folder {path.parent}", "be free", "another process at work in it", "Wait for it to end.")
        ) from error
    except OSError as error:
        raise ResourceError(
            sentence(f"The folder {path.parent}", "be writable", error.strerror or str(error), "Name another one with --cache.")
        ) from error
    try:
        yield
    finally:
        lock.release()

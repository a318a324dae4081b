"""Where templates lie: one SQLite file, each template sealed, bound to its model and its name; the key lies elsewhere.

FOLDER/people.sqlite    people(name, sealed, examples, added), log(at, what, name), facts(store, model, width)
KEY                     32 bytes in a file that only its owner may read, in the user's configuration folder (or --key)

A template is sealed with AES-256 in Galois/counter mode (NIST SP 800-38D), with the store, the model and the name as associated data: a
row copied to another name, another store or another model does not open. Deleted rows are overwritten (secure_delete), and the log of
writes ahead (WAL) is cut off after a person was revoked.
"""

from __future__ import annotations

import os
import sqlite3
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lamina.errors import DataError, ResourceError, UsageError, did_you_mean, sentence

PEOPLE_EXTRA = "pip install 'lamina[people]'"
FILE = "people.sqlite"
BUSY_SECONDS = 30.0
NONCE = 12
VERSION = b"lamina people 1"
LONGEST_NAME = 200
CUT_TRIES = 200
KINDS = ("enrolled", "revoked", "accepted", "refused", "identified", "unknown")
SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (id INTEGER PRIMARY KEY CHECK (id = 1), store BLOB NOT NULL, model TEXT NOT NULL, width INTEGER NOT NULL,
    sample BLOB);
CREATE TABLE IF NOT EXISTS people (name TEXT PRIMARY KEY, sealed BLOB NOT NULL, examples INTEGER NOT NULL, added REAL NOT NULL);
CREATE TABLE IF NOT EXISTS log (at REAL NOT NULL, what TEXT NOT NULL, name TEXT NOT NULL);
"""


class Store:
    """An open store. Safe with several processes: each change is one transaction. Not shared between threads."""

    def __init__(self, folder: Path, model: str, width: int, key: Path | None = None, create: bool = True) -> None:
        """`model` is the fingerprint of the network that made the templates, `width` their numbers. Makes the store when it is not there
        and may be made. The key is asked for when the first template is opened or sealed: listing and revoking need none.

        Raises DataError (none there, damaged, another model's) and ResourceError (not writable).
        """
        self.folder, self.model, self.width = folder, model, width
        if not create and not (folder / FILE).exists():
            near = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            told = did_you_mean(folder.name, near) or "`lamina enroll` makes it."
            raise DataError(sentence(f"The store {folder}", "be there: nobody is enrolled yet", "nothing there", told))
        self._open()
        self._key_path = key or default_key(self.store)
        self._sealer: Any = None
        self._seen: tuple[int, int] | None = None
        self._names: list[str] = []
        self._matrix = np.empty((0, width), np.float32)

    # ------------------------------------------------------------ people

    def names(self) -> list[str]:
        with self._asking():
            return [name for (name,) in self._base.execute("SELECT name FROM people ORDER BY name")]

    def count(self) -> int:
        with self._asking():
            return int(self._base.execute("SELECT COUNT(*) FROM people").fetchone()[0])

    def listed(self) -> list[dict[str, Any]]:
        with self._asking():
            rows = self._base.execute("SELECT name, examples, added FROM people ORDER BY name").fetchall()
        return [{"name": name, "examples": examples, "added": added} for name, examples, added in rows]

    def read(self, name: str) -> tuple[np.ndarray, int]:
        """(the mean embedding [width], of how many examples). Raises DataError for a name that is not there, or a row that was changed."""
        found = self.find(name)
        if found is None:
            raise self._unknown(name)
        return found

    def find(self, name: str) -> tuple[np.ndarray, int] | None:
        """The same; None for a name that is not there."""
        name = checked_name(name)
        with self._asking():
            row = self._base.execute("SELECT sealed, examples FROM people WHERE name = ?", (name,)).fetchone()
        return None if row is None else self._opened(name, *row)

    def add(self, name: str, mean: np.ndarray, examples: int) -> int:
        """Enroll, or join to what is enrolled under that name; returns how many examples it is of now. Raises DataError."""
        name = checked_name(name)
        self._cipher()
        with self._changing():
            row = self._base.execute("SELECT sealed, examples FROM people WHERE name = ?", (name,)).fetchone()
            if row is not None:
                before, count = self._opened(name, *row)
                mean, examples = (before * count + mean * examples) / (count + examples), count + examples
            sealed = self._sealed(name, mean, examples)
            self._base.execute(
                "INSERT INTO people VALUES (?, ?, ?, ?) "
                "ON CONFLICT(name) DO UPDATE SET sealed = excluded.sealed, examples = excluded.examples",
                (name, sealed, examples, time.time()),
            )
            self._log("enrolled", name)
        return examples

    def remove(self, name: str) -> None:
        """Revoke: the row is overwritten and the log of writes cut off. Raises DataError for a name that is not there."""
        name = checked_name(name)
        with self._changing():
            if not self._base.execute("DELETE FROM people WHERE name = ?", (name,)).rowcount:
                raise self._unknown(name)
            self._log("revoked", name)
        self._cut_log()

    def _unknown(self, name: str) -> DataError:
        names = self.names()
        near = did_you_mean(name, names)
        return DataError(sentence("The name", "be one of the people enrolled", name, near or f"`lamina people` lists all {len(names)}."))

    def note(self, what: str, name: str) -> None:
        """Into the audit log: when, what, whom; nothing of a face or a voice."""
        assert what in KINDS
        with self._changing():
            self._log(what, name)

    def log(self) -> list[tuple[float, str, str]]:
        with self._asking():
            return list(self._base.execute("SELECT at, what, name FROM log ORDER BY rowid"))

    def everybody(self) -> tuple[list[str], np.ndarray]:
        """(names, mean embeddings [people, width]), kept in memory until any process changes the store. Rows that were changed raise."""
        with self._asking():
            now = (int(self._base.execute("PRAGMA data_version").fetchone()[0]), self._base.total_changes)
            if self._seen != now:
                rows = self._base.execute("SELECT name, sealed, examples FROM people ORDER BY name").fetchall()
                self._names = [name for name, *_ in rows]
                self._matrix = np.stack([self._opened(*row)[0] for row in rows]) if rows else np.empty((0, self.width), np.float32)
                self._seen = now
        return self._names, self._matrix

    def nearest(self, embedding: np.ndarray) -> tuple[str, float] | None:
        """(name, likeness) of the most alike; None where nobody is enrolled."""
        names, matrix = self.everybody()
        if not names:
            return None
        alike = matrix @ embedding
        best = int(alike.argmax())
        return names[best], float(alike[best])

    def close(self) -> None:
        self._base.close()

    # ------------------------------------------------------------ the file

    def _open(self) -> None:
        path = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            for file in (path, *(Path(f"{path}{end}") for end in ("-wal", "-shm"))):
                if file.exists() and file.stat().st_mode & 0o077:
                    file.chmod(0o600)  # what lies beside it is made with the mode of the file itself
            if self.folder.stat().st_mode & 0o022:
                raise PermissionError("others may write in the folder")
            self._base = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            raise ResourceError(sentence(f"The store {self.folder}", "be writable", str(error), "Name another with --store.")) from error
        with self._asking():
            self._base.execute("PRAGMA secure_delete = ON")
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            with self._changing():
                for statement in SCHEMA.split(";"):
                    self._base.execute(statement)
                fresh = (os.urandom(16), self.model, self.width)
                self._base.execute("INSERT OR IGNORE INTO facts (id, store, model, width) VALUES (1, ?, ?, ?)", fresh)
            store, model, width = self._base.execute("SELECT store, model, width FROM facts").fetchone()
        if not (isinstance(store, bytes) and isinstance(model, str)):
            raise DataError(sentence(f"The store {self.folder}", "hold its own facts", "others", "Put back a copy, or enroll anew."))
        self.store = store
        if model != self.model or width != self.width:
            raise DataError(
                sentence(
                    f"The store {self.folder}",
                    "have been made with this model: embeddings of different networks cannot be compared",
                    f"templates of model {model[:12]}, not {self.model[:12]}",
                    "Enroll anew with --store, or use the model that made it.",
                )
            )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            kind = ResourceError if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error) else DataError
            raise kind(
                sentence(f"The store {self.folder}", "be a whole, writable SQLite file", str(error), "Put back a copy, or enroll anew.")
            ) from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction: all of it, or nothing."""
        with self._asking():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _log(self, what: str, name: str) -> None:
        self._base.execute("INSERT INTO log VALUES (?, ?, ?)", (time.time(), what, name))

    def _cut_log(self) -> None:
        """Raises ResourceError when other processes never let go of it."""
        with self._asking():
            for _ in range(CUT_TRIES):
                if not self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    return
                time.sleep(0.05)
        raise ResourceError(
            sentence(
                f"The write-ahead log of {self.folder}",
                "be cut off, for it may hold what was revoked",
                "other processes at work in it",
                "The person is revoked. Close the others and revoke anybody, or open the store again.",
            )
        )

    # ------------------------------------------------------------ sealing

    def _cipher(self) -> Any:
        """What seals and opens. The first one to seal makes the key, and leaves a sample by which a wrong key is known.

        Raises UsageError (extra missing), DataError (wrong key, none) and ResourceError.
        """
        if self._sealer is not None:
            return self._sealer
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise UsageError(sentence("Enrolling people", "have `cryptography` installed", "no such package", PEOPLE_EXTRA)) from error
        with self._changing():
            sample = self._base.execute("SELECT sample FROM facts").fetchone()[0]
            sealer = AESGCM(_key(self._key_path, fresh=sample is None))
            if sample is None:
                nonce = os.urandom(NONCE)
                sealed = nonce + sealer.encrypt(nonce, VERSION, self._bound("", 0))
                self._base.execute("UPDATE facts SET sample = ?", (sealed,))
            else:
                try:
                    sealer.decrypt(bytes(sample[:NONCE]), bytes(sample[NONCE:]), self._bound("", 0))
                except (InvalidTag, ValueError, TypeError) as error:
                    raise DataError(
                        sentence(
                            f"The key {self._key_path}",
                            f"be that of the store {self.folder}",
                            "a wrong key",
                            "Put the right one back, or name it with --key.",
                        )
                    ) from error
        self._sealer = sealer
        return sealer

    def _bound(self, name: str, examples: int) -> bytes:
        return b"|".join((VERSION, self.store, self.model.encode(), str(examples).encode(), name.encode("utf-8", "surrogateescape")))

    def _sealed(self, name: str, mean: np.ndarray, examples: int) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher().encrypt(nonce, np.asarray(mean, "<f4").tobytes(), self._bound(name, examples))

    def _opened(self, name: str, sealed: bytes, examples: int) -> tuple[np.ndarray, int]:
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._cipher().decrypt(bytes(sealed[:NONCE]), bytes(sealed[NONCE:]), self._bound(name, examples))
            mean = np.frombuffer(plain, "<f4").astype(np.float32)
            if mean.shape != (self.width,):
                raise ValueError
        except (InvalidTag, ValueError, TypeError, IndexError) as error:
            raise DataError(
                sentence(
                    f"The template of {name} in {self.folder}",
                    f"open with the key {self._key_path}, under its own name and model",
                    "a row that was changed or moved",
                    "Nobody is accepted by it. Revoke and enroll anew.",
                )
            ) from error
        return mean, examples


def checked_name(name: str) -> str:
    """The name as it is kept: composed characters (NFC), no spaces around it. Raises UsageError."""
    kept = unicodedata.normalize("NFC", name).strip()
    if not kept or len(kept) > LONGEST_NAME or not kept.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in kept):
        raise UsageError(sentence("A name", f"have 1 to {LONGEST_NAME} printable characters", ascii(name)))
    return kept


def default_key(store: bytes) -> Path:
    """In the user's configuration folder, so that a copy of the store alone opens nothing."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "lamina" / "keys" / f"{store.hex()}.key"


def _key(path: Path, fresh: bool) -> bytes:
    """32 bytes; made when there is none and nobody is enrolled yet. Raises DataError and ResourceError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if fresh and not path.exists():
            # written whole beside it, then linked: of two processes at once one wins, and both read the same
            beside = path.with_name(f".{path.name}.{os.getpid()}.part")
            file = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                os.write(file, os.urandom(32))
                os.fsync(file)
            finally:
                os.close(file)
            try:
                os.link(beside, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(beside)
        content = path.read_bytes()
        mode = path.stat().st_mode & 0o077
    except FileNotFoundError as error:
        raise DataError(
            sentence(f"The key {path}", "be there, for people are enrolled with it", "nothing there", "Put it back, or name it with --key.")
        ) from error
    except OSError as error:
        raise ResourceError(sentence(f"The key {path}", "be readable and writable", str(error), "Name another with --key.")) from error
    if len(content) != 32:
        raise DataError(sentence(f"The key {path}", "hold 32 bytes", f"{len(content)} bytes", "Put the right one back."))
    if mode:
        raise DataError(sentence(f"The key {path}", "be readable by its owner only", f"mode {mode:03o} for others", f"chmod 600 {path}"))
    return content

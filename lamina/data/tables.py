"""Tables: CSV, TSV, JSON lines and Parquet as columns by name; which column is which; their rows; labels by file name."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.data.raw import Raw, RowRaw
from lamina.errors import DataError, UsageError, did_you_mean, sentence
from lamina.settings import Settings

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PATH_COLUMNS = (
    *("path", "file", "filename", "file_name", "filepath", "image", "image_path", "picture", "photo", "img"),
    *("audio", "audio_path", "recording", "sound", "wav"),
)
DOUBTED_COLUMNS = ("audio", "recording", "sound", "wav")
"""Of these only where their cells are names of files: they may as well hold numbers."""
TEXT_COLUMNS = ("text", "sentence", "review", "message", "document", "content", "body", "comment", "question", "title", "headline", "tweet")
LABEL_COLUMNS = ("label", "class", "category", "target", "answer", "y", "labels", "class_name")
LEAST_WORDS, MANY_WORDS = 3.0, 6.0
"""Mean words of a column's cells from which on they may be texts, and are where no name says so."""
PART_COLUMNS = ("split", "part", "subset", "fold_name")
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_table(content: bytes, path: Path) -> dict[str, list]:
    """Columns by name. CSV and TSV with a header, JSON lines, a JSON list of objects, Parquet (extra `tables`)."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(content, path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            sentence(f"The table {path}", "be UTF-8 text", f"byte {error.start} of another encoding", "Save it as UTF-8.")
        ) from error
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _read_json_lines(text, path) if suffix != ".json" else _read_json(text, path)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    delimiter = "\t" if suffix == ".tsv" else max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise DataError(sentence(f"The table {path}", "be well-formed CSV", str(error), "Check the quotes.")) from error
    if not rows:
        return {}
    header, body = [name.strip() for name in rows[0]], rows[1:]
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise DataError(
                sentence(
                    f"Row {number} of the table {path}",
                    f"have {len(header)} cells like its header",
                    len(row),
                    "Quote cells that contain the delimiter.",
                )
            )
    return {name: [row[column] for row in body] for column, name in enumerate(header)}


def _read_json(text: str, path: Path) -> dict[str, list]:
    try:
        rows = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(sentence(f"The table {path}", "be a JSON list of objects", text[:40], str(error))) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(sentence(f"The table {path}", "be a JSON list of objects", text[:40]))
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _read_json_lines(text: str, path: Path) -> dict[str, list]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(sentence(f"Line {number} of {path}", "be one JSON object", line, str(error))) from error
            if not isinstance(rows[-1], dict):
                raise DataError(sentence(f"Line {number} of {path}", "be one JSON object", line))
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(content: bytes, path: Path) -> dict[str, list]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            sentence(f"The table {path}", "be readable here", "no library for Parquet", "Run: pip install 'lamina[tables]'")
        ) from error
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content) if content else path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(sentence(f"The table {path}", "be a readable Parquet file", str(error))) from error
    return {str(name): table.column(name).to_pylist() for name in table.column_names}


def find_column(columns: dict[str, list], wanted: str, usual: Sequence[str], what: str, where: object) -> str:
    if wanted:
        if wanted in columns:
            return wanted
        raise UsageError(
            sentence(
                f"--{what}-column of {where}", "be one of " + ", ".join(map(str, columns)), wanted, did_you_mean(wanted, map(str, columns))
            )
        )
    by_name = {str(name).strip().lower(): name for name in reversed(list(columns))}
    for name in usual:
        if name in by_name:
            return by_name[name]
    raise DataError(
        sentence(
            f"The table {where}",
            f"have a {what} column (one of {', '.join(usual[:5])} …)",
            "columns " + ", ".join(map(str, columns)),
            f"Name it with --{what}-column.",
        )
    )


def find_text_column(columns: dict[str, list], settings: Settings, where: object) -> str:
    """The column of texts: the one that is asked for, one with a usual name, or the only one there is, where it holds several words; empty
    where the columns are values. Raises UsageError."""
    if settings.text_column:
        return find_column(columns, settings.text_column, TEXT_COLUMNS, "text", where)
    words = {name: _words_in(values) for name, values in columns.items()}
    usual = [name for name in columns if str(name).strip().lower() in TEXT_COLUMNS]
    several = [name for name in columns if words[name] >= MANY_WORDS]
    chosen = usual or (list(columns) if len(columns) == 1 else several if len(several) == 1 else [])
    best = max(chosen, key=lambda name: words[name], default="")
    return best if best and words[best] >= LEAST_WORDS else ""


def _words_in(values: Sequence[Any]) -> float:
    """Mean number of words in the cells of a column; 0 where they are not texts."""
    some = [value for value in values[:: max(1, len(values) // 200)] if cell(value)]
    return sum(len(value.split()) for value in some) / max(1, len(some)) if all(isinstance(value, str) for value in some) else 0.0


def names_files(columns: dict[str, list], settings: Settings) -> bool:
    """Whether a table names files, and is not the data itself."""
    return bool(settings.path_column) or any(
        (word := str(name).strip().lower()) in PATH_COLUMNS and (word not in DOUBTED_COLUMNS or _like_files(values))
        for name, values in columns.items()
    )


def _like_files(values: Sequence[Any]) -> bool:
    """Whether cells look like the names of files."""
    some = [cell(value) for value in values[:20]]
    return any(some) and all(re.search(r"\.[A-Za-z]\w{1,4}$", value) for value in some if value)


def parted(columns: dict[str, list]) -> dict[str, list]:
    """The columns that say of which part each row is: named so, and holding nothing else."""
    return {
        name: values
        for name, values in columns.items()
        if str(name).lower() in PART_COLUMNS and {cell(value).lower() for value in values} <= {*PART_NAMES, ""}
    }


def given_parts(columns: dict[str, list], where: object) -> list[str]:
    """The part of each row as the table's split column says it; "" where there is none."""
    column = next((name for name in columns if name.lower() in PART_COLUMNS), None)
    if column is None:
        return [""] * len(next(iter(columns.values()), []))
    words = [cell(value).lower() for value in columns[column]]
    for row, word in enumerate(words):
        if word and word not in PART_NAMES:
            raise DataError(
                sentence(
                    f"Column {column} of {where}, row {row + 1},",
                    "be train, validation, test or empty",
                    word,
                    did_you_mean(word, PART_NAMES),
                )
            )
    return [PART_NAMES.get(word, "") for word in words]


def cell(value: Any) -> str:
    """A table's cell as text; missing values of any library are empty."""
    if not isinstance(value, str) and (value is None or str(value) in ("nan", "NaT", "<NA>")):
        return ""
    return str(value).strip()


def read_rows(source: Any, columns: Sequence[str]) -> list[tuple[str, Raw]]:
    """(name, row) of a table's path, a folder or glob of tables, a data frame, a dict, a list of dicts, or numbers [n, columns] or
    [columns]. Raises DataError.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if many := _tables_in(path):
            return _rows_of_many(many, columns)
        if not path.is_file():
            near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
            got = "a folder without tables" if path.is_dir() else "nothing there"
            raise DataError(sentence(f"The table {path}", "be a file with a header and rows, a folder or a glob of such", got, near))
        found = read_table(path.read_bytes() if path.suffix.lower() != ".parquet" else b"", path)
    elif hasattr(source, "columns") and hasattr(source, "__getitem__"):
        found = {str(name): list(source[name]) for name in source.columns}
    elif isinstance(source, dict):
        found = {str(name): [value] for name, value in source.items()}
    elif isinstance(source, (list, tuple)) and source and isinstance(source[0], dict):
        found = {str(name): [row.get(name) for row in source] for name in dict.fromkeys(name for row in source for name in row)}
    else:
        values = _numbers(source)
        if values is None or values.shape[1] != len(columns):
            got = type(source).__name__ if values is None else f"{values.shape[1]} columns"
            raise DataError(sentence("The rows", f"be a table, dicts, or numbers in {len(columns)} columns", got))
        found = {name: values[:, place].tolist() for place, name in enumerate(columns)}
    names, where = tuple(found), f"{Path(source).name} " if isinstance(source, (str, os.PathLike)) else ""
    rows: list[tuple[str, Raw]] = [
        (f"{where}row {row + 1}", RowRaw(names, values)) for row, values in enumerate(zip(*found.values(), strict=True))
    ]
    if not rows:
        raise DataError(sentence("The rows", "be at least one, with its columns by name", "none"))
    return rows


def _tables_in(path: Path) -> dict[str, Path]:
    """The tables in a folder (recursively, hidden ones left out) or that a glob matches, by their names in it."""
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*")}
    elif path.exists():
        return {}
    else:
        files = {file: Path(file) for file in glob.glob(os.fspath(path), recursive=True)}
    return {
        name: file
        for name, file in sorted(files.items())
        if file.is_file() and file.suffix.lower() in TABLE_SUFFIXES and not any(piece.startswith(".") for piece in name.split("/"))
    }


def _rows_of_many(tables: dict[str, Path], columns: Sequence[str]) -> list[tuple[str, Raw]]:
    """A table that cannot be read is one row that says so (its error in place of a raw value). Raises DataError where none can."""
    rows: list[tuple[str, Raw]] = []
    errors: list[DataError] = []
    for name, table in tables.items():
        try:
            rows += [(name.removesuffix(table.name) + row, raw) for row, raw in read_rows(table, columns)]
        except DataError as error:
            errors.append(error)
            rows.append((name, error))
    if len(errors) == len(tables):
        raise errors[0]
    return rows


def _numbers(values: Any) -> np.ndarray | None:
    """[n, columns] numbers; None when the values are none."""
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    array = array[None] if array.ndim == 1 else array
    return array if array.ndim == 2 and array.dtype.kind in "biuf" else None


def read_answers(path: Path, names: Sequence[str], settings: Settings) -> list[str]:
    """The answers of another system to the examples of these names, from a table with a file and a label column; in the order of the names.

    An empty label is an answer, too: none of these. Raises DataError naming what is missing.
    """
    found = labels_of(path, names, settings, "answers")
    missing = [name for name, label in zip(names, found, strict=True) if label is None]
    if missing:
        told = f"{len(missing)} of {len(names)} missing, such as {missing[0]}"
        raise DataError(sentence(f"The answers {path}", "name every example that is scored", told))
    return [label or "" for label in found]


def labels_of(path: Path, names: Sequence[str], settings: Settings, what: str) -> list[str | None]:
    """The label that a table with a file and a label column gives to each name; None where it has no such row.

    A name is found as it is, else where one of the two paths ends with the whole of the other.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(sentence(f"The {what} {path}", "be a table with a file and a label column", "nothing there", near))
    columns = read_table(path.read_bytes() if path.suffix.lower() != ".parquet" else b"", path)
    if not columns or not next(iter(columns.values())):
        raise DataError(sentence(f"The {what} {path}", "hold a header and at least one row", "nothing"))
    path_column, label_column = (wanted if wanted in columns else "" for wanted in (settings.path_column, settings.label_column))
    files = [cell(value).replace("\\", "/") for value in columns[find_column(columns, path_column, PATH_COLUMNS, "path", path)]]
    labels = [cell(value) for value in columns[find_column(columns, label_column, LABEL_COLUMNS, "label", path)]]
    whole = dict(zip(files, labels, strict=True))
    ends: dict[str, list[str]] = {}
    for file in whole:
        ends.setdefault(file.rsplit("/", 1)[-1], []).append(file)

    def find(name: str) -> str | None:
        near = ends.get(name.rsplit("/", 1)[-1], [])
        below = [file for file in near if file.endswith("/" + name) or name.endswith("/" + file)]
        return whole[name] if name in whole else whole[below[0]] if len(below) == 1 else None

    return [find(name) for name in names]

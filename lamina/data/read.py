"""Raw data in: a folder of class folders, a table, a zip of these, arrays, a data frame, or a sample's name.

read_examples("photos/", settings, pictures)  ->  Examples
"""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from lamina.data.examples import Examples, Finding
from lamina.data.raw import FileRaw, Raw, RowRaw, ZipRaw
from lamina.data.tables import (
    LABEL_COLUMNS,
    PART_NAMES,
    PATH_COLUMNS,
    TABLE_SUFFIXES,
    cell,
    find_column,
    find_text_column,
    given_parts,
    labels_of,
    names_files,
    parted,
    read_table,
)
from lamina.errors import DataError, UsageError, did_you_mean, sentence
from lamina.settings import Settings

SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "icon\r"}
MAX_TABLE_BYTES = 2_000_000_000


class Modality(Protocol):
    """What reading needs to know of an Input: which files are its own."""

    kind: ClassVar[str]
    plural: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def recognizes(self, head: bytes) -> bool: ...

    def missing_extra(self, suffix: str) -> str: ...


Entry = tuple[str, Raw]
"""A path relative to the root, with forward slashes, and where its bytes lie."""


def read_examples(source: Any, settings: Settings, modalities: Sequence[Modality], least_labels: int = 2) -> Examples:
    """Read `source` into Examples without decoding anything; `least_labels` different labels are asked for (1 to evaluate).

    Of several senses the one of most files is read; it is named in the examples. Raises DataError when there is nothing to learn from,
    naming what is there.
    """
    if isinstance(source, (str, os.PathLike)):
        examples = _from_path(os.fspath(source), settings, modalities)
    else:
        examples = with_groups(_from_memory(source, settings, modalities), settings, None)
    if settings.labels:
        examples = _corrected(examples, settings)
    if len(set(examples.answers)) < least_labels:
        raise DataError(_nothing_to_learn(examples, _of_most(modalities, [examples.sense]), least_labels))
    return examples


def _of_most(modalities: Sequence[Modality], found: Sequence[str]) -> Modality:
    """The sense that most names (or kinds) speak for; the first where none does."""
    suffixes = Counter(name if "." not in name else Path(name).suffix.lower() for name in found)
    return max(modalities, key=lambda each: sum(suffixes[suffix] for suffix in (*each.suffixes, each.kind)))


def _of_values(modalities: Sequence[Modality], raws: Sequence[Any]) -> str:
    """The sense of values in memory: pairs (rate, samples) are sounds, bytes say it themselves; empty where the names must."""
    for raw in raws[:20]:
        if isinstance(raw, tuple):
            return "audio"
        if isinstance(raw, str):
            return "text"
        for each in modalities:
            if isinstance(raw, bytes) and each.recognizes(raw[:64]):
                return each.kind
    return ""


def _from_path(source: str, settings: Settings, modalities: Sequence[Modality]) -> Examples:
    if source.startswith("sample:"):
        from lamina.data.samples import load_sample

        return load_sample(source.removeprefix("sample:"), settings)
    path = Path(source).expanduser()
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            sentence(
                f"The data {source}",
                "be a folder, a table, a zip or sample:NAME that exists",
                "nothing there",
                did_you_mean(path.name, siblings) or "`lamina samples` lists data to start with.",
            )
        )
    if path.is_dir():
        return _from_entries(source, str(path), *walk(path), settings, modalities)
    if path.suffix.lower() == ".zip":
        return _from_entries(source, "", zip_entries(path), [], settings, modalities)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _from_table(
            source, path.read_bytes() if path.suffix.lower() != ".parquet" else b"", path, str(path.parent), settings, modalities
        )
    raise DataError(
        sentence(
            f"The data {source}",
            "be a folder with one folder per class, a table (" + ", ".join(TABLE_SUFFIXES) + ") or a zip of these",
            f"a single {path.suffix or 'nameless'} file",
            "Give the folder that holds your class folders.",
        )
    )


# ---------------------------------------------------------------- folders and archives


def walk(root: Path) -> tuple[list[Entry], list[Finding]]:
    """All files below `root`, sorted, links followed but no folder twice; and the folders that are closed or empty."""
    seen: set[str] = set()
    entries: list[Entry] = []
    findings: list[Finding] = []

    def relative(full: str) -> str:
        return os.path.relpath(full, root).replace(os.sep, "/")

    def closed(error: OSError) -> None:
        findings.append(Finding(relative(error.filename), "unreadable", f"a folder: {error.strerror}", excluded=True, counts=True))

    for folder, folders, files in os.walk(root, followlinks=True, onerror=closed):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        if not folders and not files and not _hidden(relative(folder)):
            findings.append(Finding(relative(folder), "empty", "a folder with nothing in it"))
        for name in sorted(files):
            full = os.path.join(folder, name)
            entries.append((relative(full), FileRaw(full)))
    return entries, findings


def zip_entries(path: Path) -> list[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise DataError(sentence(f"The archive {path}", "be a readable zip file", str(error), "Make the archive again.")) from error
    # file_size is what the archive claims; a member is read to at most its limit, so that a bomb cannot fill memory
    return sorted((_plain(info.filename), ZipRaw(str(path), info.filename, f"{info.CRC}|{info.file_size}")) for info in infos)


def _plain(name: str) -> str:
    """A member's name as a relative path: './cat//1.jpg' and '/cat\\1.jpg' are 'cat/1.jpg'."""
    return "/".join(piece for piece in name.replace("\\", "/").split("/") if piece not in ("", "."))


def _from_entries(
    source: str, base: str, entries: list[Entry], findings: list[Finding], settings: Settings, modalities: Sequence[Modality]
) -> Examples:
    visible, hidden = set_aside_hidden(entries)
    findings = [*hidden, *findings]
    visible = descend(visible)
    tables = [entry for entry in visible if "/" not in entry[0] and Path(entry[0]).suffix.lower() in TABLE_SUFFIXES]
    in_folders = [entry for entry in visible if "/" in entry[0]]
    tops = {name.split("/")[0] for name, _ in in_folders}
    if len(tables) == 1 and (settings.path_column or len(tops) < 2):
        name, raw = tables[0]
        table_base = os.path.dirname(raw.path) if isinstance(raw, FileRaw) else base
        lookup = dict(visible)
        examples = _from_table(source, _read_bytes(raw, name), Path(name), table_base, settings, modalities, lookup)
        return replace(examples, findings=(*findings, *examples.findings))
    modality = _of_most(modalities, [name for name, _ in visible])
    return replace(_class_folders(source, visible, findings, settings, modality), sense=modality.kind)


def _hidden(name: str) -> bool:
    return any(piece.startswith(".") or piece.lower() in SYSTEM_NAMES for piece in name.split("/"))


def set_aside_hidden(entries: list[Entry]) -> tuple[list[Entry], list[Finding]]:
    visible, findings = [], []
    for name, raw in entries:
        if ".." in name.split("/"):
            findings.append(Finding(name, "hidden", "a path that leaves the archive, left out"))
        elif _hidden(name):
            findings.append(Finding(name, "hidden", "a hidden or system file, left out"))
        else:
            visible.append((name, raw))
    return visible, findings


def _read_bytes(raw: FileRaw | ZipRaw, name: str) -> bytes:
    try:
        return raw.read(MAX_TABLE_BYTES)
    except OSError as error:
        raise DataError(sentence(f"The table {name}", "be readable", str(error))) from error


def descend(entries: list[Entry]) -> list[Entry]:
    """Step into a lone wrapping folder (`photos.zip/photos/cat/1.jpg`, or one that holds a table), as archives have it."""
    while entries:
        tops = {name.split("/")[0] for name, _ in entries}
        below = [name.split("/") for name, _ in entries]
        deeper = any(len(pieces) > 2 or (len(pieces) == 2 and Path(pieces[1]).suffix.lower() in TABLE_SUFFIXES) for pieces in below)
        if len(tops) != 1 or not deeper or PART_NAMES.get(next(iter(tops)).lower()) == "train":
            break
        entries = [("/".join(name.split("/")[1:]), raw) for name, raw in entries]
    return entries


def parts_by_folder(names: Sequence[str]) -> list[str]:
    """The part of each file, where the top folders are train and test (or validation); "" where they are something else."""
    tops = [name.split("/")[0].lower() if "/" in name else "" for name in names]
    split = {"train", "training"} & {*tops} and all(top in PART_NAMES for top in tops if top)
    return [PART_NAMES.get(top, "") if split else "" for top in tops]


def _class_folders(source: str, entries: list[Entry], findings: list[Finding], settings: Settings, modality: Modality) -> Examples:
    given = parts_by_folder([name for name, _ in entries])
    split = any(given)
    names, raws, answers, parts, notes = [], [], [], [], []
    heic: list[str] = []
    for (name, raw), part in zip(entries, given, strict=True):
        pieces = name.split("/")
        label_at = 1 if split else 0
        suffix = Path(name).suffix.lower()
        if extra := modality.missing_extra(suffix):
            heic.append(extra)
            findings.append(Finding(name, "needs-extra", f"{suffix} files need {extra}", excluded=True))
        elif suffix not in modality.suffixes and not _looks_like(raw, modality):
            findings.append(Finding(name, "foreign", f"not one of the {modality.plural}, left out", excluded=True))
        elif len(pieces) < label_at + 2:
            findings.append(Finding(name, "no-label", "lies in no class folder", excluded=True, counts=False))
        else:
            names.append(name)
            raws.append(raw)
            answers.append(pieces[label_at])
            parts.append(part)
    if heic:
        notes.append(f"{len(heic)} files are left out until you install what reads them: {heic[0]}")
    if split and "test" not in parts and "validation" in parts:
        parts = ["test" if part == "validation" else part for part in parts]
        notes.append("Your validation folder is used as the test part, opened once; a new validation part is taken from train/.")
    examples = Examples(source, names, raws, answers, parts, [""] * len(names), tuple(findings), tuple(notes))
    return with_groups(examples, settings, None)


def _looks_like(raw: Raw, modality: Modality) -> bool:
    try:
        return not (isinstance(raw, FileRaw) and not os.path.isfile(raw.path)) and modality.recognizes(raw.read(64))
    except OSError:
        return False


def _nothing_to_learn(examples: Examples, modality: Modality, least: int) -> str:
    labels = len(set(examples.answers))
    there = Counter(Path(finding.name).suffix.lower() or "no suffix" for finding in examples.findings if finding.excluded)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in there.most_common(4))
    got = f"{labels} label{'s' if labels != 1 else ''} on {len(examples)} {modality.plural}" + (
        f", and {listed} left out" if listed else ""
    )
    if examples.findings and not len(examples):
        got += f"; {examples.findings[0].name}: {examples.findings[0].detail}"
    extra = next((note for note in examples.notes if "pip install" in note), "")
    return sentence(
        f"The data {examples.source}",
        f"hold {modality.plural} with at least {least} label{'s' if least > 1 else ''}",
        got,
        extra or "Make one folder per class, such as photos/cat/1.jpg and photos/dog/2.jpg, or a table with a path and a label column.",
    )


# ---------------------------------------------------------------- tables


def _from_table(
    source: str,
    content: bytes,
    path: Path,
    base: str,
    settings: Settings,
    modalities: Sequence[Modality],
    lookup: dict[str, Raw] | None = None,
) -> Examples:
    columns = read_table(content, path)
    if not columns or not next(iter(columns.values())):
        raise DataError(sentence(f"The table {path}", "hold a header and at least one row", "nothing", "Write a line such as: path,label"))
    if not names_files(columns, settings):
        examples = _from_rows(source, columns, settings, path)
        if settings.group in columns:
            return _noted(examples, settings.group)
        return with_groups(examples, settings, None)
    path_column = find_column(columns, settings.path_column, PATH_COLUMNS, "path", path)
    label_column = find_column(columns, settings.label_column, LABEL_COLUMNS, "label", path)
    given = given_parts(columns, path)
    names, raws, answers, parts, kept = [], [], [], [], []
    findings: list[Finding] = []
    for row, (file, label) in enumerate(zip(columns[path_column], columns[label_column], strict=True)):
        file, label = cell(file), cell(label)
        raw = _find_file(file, base, lookup)
        if not label:
            findings.append(Finding(file or f"row {row + 1}", "no-label", f"row {row + 1} has an empty label", excluded=True))
        elif raw is None:
            findings.append(
                Finding(
                    file or f"row {row + 1}",
                    "missing",
                    f"row {row + 1} names a file that is not there (looked up from {base or 'the archive'})",
                    True,
                    counts=True,
                )
            )
        else:
            names.append(file)
            raws.append(raw)
            answers.append(label)
            parts.append(given[row])
            kept.append(row)
    groups = {name: [cell(values[row]) for row in kept] for name, values in columns.items()}
    examples = Examples(
        source,
        names,
        raws,
        answers,
        parts,
        [""] * len(names),
        tuple(findings),
        (f"Table: files from column {path_column}, labels from column {label_column}.",),
        _of_most(modalities, names).kind,
    )
    return with_groups(examples, settings, groups)


def _from_rows(source: str, columns: dict[str, list], settings: Settings, where: object) -> Examples:
    """Each row an example: the label column its answer, every other column (but those of parts and groups) a value."""
    label_column = find_column(columns, settings.label_column, LABEL_COLUMNS, "label", where)
    given = given_parts(parted(columns) or {label_column: columns[label_column]}, where)
    aside = {label_column, settings.group, *parted(columns)}
    names = tuple(name for name in columns if name not in aside)
    labels = [cell(value.item() if hasattr(value, "item") else value) for value in columns[label_column]]
    text_column = find_text_column({name: columns[name] for name in names}, settings, where)
    if text_column:
        names = (text_column,)
    rows = list(zip(*(columns[name] for name in names), strict=True)) if names else [()] * len(labels)
    kept = [row for row, label in enumerate(labels) if label]
    findings = tuple(Finding(f"row {row + 1}", "no-label", "its label is empty", True) for row, label in enumerate(labels) if not label)
    groups = [cell(value) for value in columns[settings.group]] if settings.group in columns else [""] * len(labels)
    values = f"texts from column {text_column}" if text_column else f"values from {len(names)} columns"
    raws: list[Raw] = [cell(row[0]) for row in rows] if text_column else [RowRaw(names, row) for row in rows]
    every = Examples(
        source, [f"row {row + 1}" for row in range(len(labels))], raws, labels, given, groups, findings,
        (f"Table: labels from column {label_column}, {values}.",), "text" if text_column else "vector",
    )  # fmt: skip
    return every.take(kept)


def _find_file(file: str, base: str, lookup: dict[str, Raw] | None) -> Raw | None:
    if not file:
        return None
    normal = os.path.normpath(file).replace(os.sep, "/")
    if lookup is not None and normal in lookup:
        return lookup[normal]
    full = file if os.path.isabs(file) else os.path.join(base, file)
    return FileRaw(full) if base and os.path.isfile(full) else None


def _corrected(examples: Examples, settings: Settings) -> Examples:
    """With the labels of the table --labels in place of the data's own."""
    found = labels_of(Path(settings.labels), examples.names, settings, "labels")
    if not any(found):
        raise DataError(
            sentence(f"The labels {settings.labels}", "name some of the examples", "none", f"A name looks like {examples.names[0]}.")
        )
    answers = [label or own for label, own in zip(found, examples.answers, strict=True)]
    changed = sum(label != own for label, own in zip(answers, examples.answers, strict=True))
    note = (
        f"{changed} labels are replaced by those of {settings.labels} ({sum(label is not None for label in found)} examples named there)."
    )
    return replace(examples, answers=answers, notes=(*examples.notes, note))


# ---------------------------------------------------------------- values in memory


def _from_memory(source: Any, settings: Settings, modalities: Sequence[Modality]) -> Examples:
    """(X, y), {"x": X, "y": y}, or any data frame with a path or picture column and a label column."""
    if isinstance(source, Examples):
        return source
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        columns = {str(name): list(source[name]) for name in source.columns}
        if not names_files(columns, settings):
            return _from_rows("(values in memory)", columns, settings, "the data frame")
        path_column = find_column(columns, settings.path_column, PATH_COLUMNS, "path", "the data frame")
        label_column = find_column(columns, settings.label_column, LABEL_COLUMNS, "label", "the data frame")
        values, answers, extra = columns[path_column], columns[label_column], columns
        parts = given_parts(columns, "the data frame") if columns[label_column] else []
    else:
        if isinstance(source, dict) and {"x", "y"} <= set(source):
            source = (source["x"], source["y"])
        if not (isinstance(source, (tuple, list)) and len(source) == 2):
            raise UsageError(
                sentence("The data", 'be a path, sample:NAME, (X, y), {"x": X, "y": y} or a data frame', type(source).__name__)
            )
        if (table := _as_table(source[0], source[1])) is not None:
            return _from_rows("(values in memory)", table, replace(settings, label_column="label", group=""), "the arrays")
        values, answers, extra = list(source[0]), list(source[1]), None
        if len(values) != len(answers):
            raise DataError(sentence("The arrays (X, y)", "have equal lengths", f"{len(values)} and {len(answers)}"))
        parts = [""] * len(values)
    texts = all(isinstance(value, str) for value in values) and not any(os.path.exists(value) for value in values[:20])
    if texts and any(each.kind == "text" for each in modalities) and any(re.search(r"\s", value) for value in values[:20]):
        raws: list[Raw] = list(values)
    else:
        raws = [FileRaw(os.fspath(value)) if isinstance(value, (str, os.PathLike)) else value for value in values]
    names = [raw.path if isinstance(raw, FileRaw) else f"row {row}" for row, raw in enumerate(raws)]
    labels = [cell(answer.item() if hasattr(answer, "item") else answer) for answer in answers]
    findings = tuple(Finding(name, "no-label", "its label is empty", True) for name, label in zip(names, labels, strict=True) if not label)
    kept = [row for row, label in enumerate(labels) if label]
    sense = _of_values(modalities, raws) or _of_most(modalities, names).kind
    examples = Examples("(values in memory)", names, raws, labels, parts, [""] * len(names), findings, sense=sense)
    if extra is not None and (settings.group in extra or settings.told_by):
        examples = with_groups(examples, settings, {name: [cell(v) for v in values] for name, values in extra.items()})
    return examples.take(kept)


def _as_table(values: Any, answers: Any) -> dict[str, list] | None:
    """Columns of (X, y) where X is a data frame, or numbers [n, columns]; None where it holds pictures or files."""
    if hasattr(values, "columns") and hasattr(values, "__getitem__"):
        found = {str(name): list(values[name]) for name in values.columns if str(name) != "label"}
    elif isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "biuf":
        found = {f"x{place}": values[:, place].tolist() for place in range(values.shape[1])}
    else:
        return None
    if any(len(column) != len(answers) for column in found.values()):
        raise DataError(sentence("The arrays (X, y)", "have equal lengths", f"{len(next(iter(found.values())))} and {len(answers)}"))
    return {**found, "label": list(answers)}


# ---------------------------------------------------------------- groups


def with_groups(examples: Examples, settings: Settings, columns: dict[str, list[str]] | None) -> Examples:
    """Fill in the group keys from a table's column or from a pattern on names, and the groups for which the score is told apart."""
    if settings.told_by and not examples.told_by:
        if settings.told_by not in (columns or {}):
            near = did_you_mean(settings.told_by, columns or ())
            raise UsageError(sentence("--told-by", "be a column of a table with a path and a label column", settings.told_by, near))
        examples = replace(examples, told_by=(columns or {})[settings.told_by])
    if not settings.group or any(examples.groups):
        return examples
    groups = columns[settings.group] if columns and settings.group in columns else _groups_by_pattern(examples, settings.group, columns)
    return _noted(replace(examples, groups=groups), settings.group)


def _noted(examples: Examples, by: str) -> Examples:
    count = len(set(examples.groups) - {""})
    return replace(examples, notes=(*examples.notes, f"{count} groups by {by}: none stands on both sides of the split."))


def _groups_by_pattern(examples: Examples, pattern: str, columns: dict[str, list[str]] | None) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(sentence("--group", "be a column or a regular expression", pattern, str(error))) from error
    if compiled.groups != 1:
        near = did_you_mean(pattern, columns or ())
        raise UsageError(sentence("--group", "be a column's name, or a pattern with exactly one (group)", pattern, near))
    matched = [compiled.search(name) for name in examples.names]
    groups = [match.group(1) or "" if match else "" for match in matched]
    if not any(groups):
        raise UsageError(sentence("--group", "match at least one name", pattern, f"A name looks like {examples.names[0]}."))
    return groups

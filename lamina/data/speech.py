"""Recordings with what is said in them: a table with a file and a transcript column, or NAME.wav beside NAME.txt.

read_speech("speech/", settings, sounds)  ->  Examples whose answers are texts, the recordings of one speaker grouped
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamina.data.examples import Examples, Finding
from lamina.data.raw import Raw
from lamina.data.read import Modality, descend, parts_by_folder, read_examples, set_aside_hidden, walk, with_groups, zip_entries
from lamina.data.tables import PATH_COLUMNS, TABLE_SUFFIXES, find_column, read_table
from lamina.errors import DataError, sentence
from lamina.settings import Settings

TRANSCRIPT_COLUMNS = ("transcript", "transcription", "text", "sentence", "normalized_text", "words", "said", "label")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "reader", "voice", "person")
TEXT_SUFFIXES, TOGETHER = (".txt", ".lab"), ".trans.txt"
"""A file beside each recording, or one for a folder, with a name and what is said in each line."""
MOST_BYTES = 10_000_000


class Said(str):
    """What is said in a recording, `by` whom, where that is known."""

    __slots__ = ("by",)
    by: str

    def __new__(cls, text: str, by: str = "") -> Said:
        made = super().__new__(cls, text)
        made.by = by
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Said, (str(self), self.by)


def read_speech(source: Any, settings: Settings, modalities: Sequence[Modality], least: int = 2) -> Examples:
    """Read `source` into Examples without decoding anything; `least` different texts are asked for. Raises DataError when there is nothing
    to learn from, naming what is there."""
    pairs = None
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fspath(source)).expanduser()
        if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
            settings = _with_columns(path.read_bytes() if path.suffix.lower() != ".parquet" else b"", path, settings)
        elif path.is_dir() or path.suffix.lower() == ".zip":
            pairs, settings = _from_entries(os.fspath(source), path, settings, modalities[0])
    examples = pairs if pairs is not None else read_examples(source, settings, modalities, least_labels=0)
    if len(set(examples.answers)) < least:
        first = f"; {examples.findings[0].name}: {examples.findings[0].detail}" if examples.findings else ""
        told = f"{len(examples)} recordings with {len(set(examples.answers))} different texts{first}"
        how = "Put what is said in 1.wav into 1.txt beside it, or write a table with a path and a transcript column."
        raise DataError(sentence(f"The data {examples.source}", f"hold recordings with at least {least} different texts", told, how))
    said = [Said(answer, group) for answer, group in zip(examples.answers, examples.groups, strict=True)]
    return replace(examples, answers=said, sense="audio")


def _with_columns(content: bytes, path: Path, settings: Settings) -> Settings:
    """The settings with the columns of a table named: what is said, and who says it."""
    columns = read_table(content, path)
    if not columns:
        return settings
    files = find_column(columns, settings.path_column, PATH_COLUMNS, "path", path)
    others = {name: values for name, values in columns.items() if name != files}
    label = find_column(others, settings.label_column, TRANSCRIPT_COLUMNS, "label", path)
    by_name = {str(name).strip().lower(): name for name in reversed(list(others))}
    speaker = next((by_name[name] for name in SPEAKER_COLUMNS if name in by_name), "")
    return replace(settings, path_column=files, label_column=label, group=settings.group or speaker)


def _from_entries(source: str, path: Path, settings: Settings, modality: Modality) -> tuple[Examples | None, Settings]:
    """(recordings with a text beside them, or None where a table says what is said; the settings with its columns)."""
    entries, findings = walk(path) if path.is_dir() else (zip_entries(path), [])
    visible, hidden = set_aside_hidden(entries)
    visible = descend(visible)
    tables = [(name, raw) for name, raw in visible if "/" not in name and Path(name).suffix.lower() in TABLE_SUFFIXES]
    if len(tables) == 1:
        name, raw = tables[0]
        return None, _with_columns(raw.read(), Path(name), settings)
    texts, unreadable = _texts(visible)
    sounds = [(name, raw) for name, raw in visible if Path(name).suffix.lower() in modality.suffixes]
    findings = [*hidden, *findings, *unreadable]
    parts = parts_by_folder([name for name, _ in sounds])
    names: list[str] = []
    raws: list[Raw] = []
    answers: list[str] = []
    given: list[str] = []
    for (name, raw), part in zip(sounds, parts, strict=True):
        text = texts.get(str(Path(name).with_suffix("")).replace(os.sep, "/"))
        if extra := modality.missing_extra(Path(name).suffix.lower()):
            findings.append(Finding(name, "needs-extra", f"{Path(name).suffix} files need {extra}", excluded=True))
        elif not text:
            why = "no text beside it" if text is None else "the text beside it is empty"
            findings.append(Finding(name, "no-transcript", f"{why} ({Path(name).stem}.txt)", excluded=True, counts=True))
        else:
            names.append(name)
            raws.append(raw)
            answers.append(text)
            given.append(part)
    notes = (f"{len(names)} recordings with the text beside each.",)
    examples = Examples(source, names, raws, answers, given, [""] * len(names), tuple(findings), notes)
    return with_groups(examples, settings, None), settings


def _texts(entries: Sequence[tuple[str, Raw]]) -> tuple[dict[str, str], list[Finding]]:
    """(what is said, by the name of the recording without its suffix; texts that cannot be read)."""
    found: dict[str, str] = {}
    findings: list[Finding] = []
    for name, raw in entries:
        if Path(name).suffix.lower() not in TEXT_SUFFIXES:
            continue
        try:
            content = raw.read(MOST_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            findings.append(Finding(name, "unreadable", f"a text: {error}", excluded=True, counts=True))
            continue
        if name.lower().endswith(TOGETHER):
            folder = name.rsplit("/", 1)[0] + "/" if "/" in name else ""
            found.update({folder + line.split(" ", 1)[0]: line.split(" ", 1)[1].strip() for line in content.splitlines() if " " in line})
        else:
            found[str(Path(name).with_suffix("")).replace(os.sep, "/")] = " ".join(content.split())
    return found, findings

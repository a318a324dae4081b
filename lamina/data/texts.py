"""Texts without labels in: a text file, a folder of them, a table with a text column, or texts in memory; long files in pieces.

read_texts("book.txt", settings, input)  ->  Examples without answers, the pieces of one document grouped
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamina.data.examples import Examples, Finding
from lamina.data.raw import PIECE_MARK, FileRaw, PartRaw, Raw, Talk, ZipRaw
from lamina.data.read import Modality, descend, parts_by_folder, set_aside_hidden, walk, with_groups, zip_entries
from lamina.data.tables import TABLE_SUFFIXES, TEXT_COLUMNS, cell, find_column, given_parts, parted, read_table
from lamina.errors import DataError, UsageError, did_you_mean, sentence
from lamina.settings import Settings

ROLES = ("system", "user", "assistant")
TALK_COLUMNS = ("messages", "conversation", "conversations", "chat")
PROMPT_COLUMNS, ANSWER_COLUMNS = ("prompt", "instruction", "question", "user"), ("response", "output", "answer", "completion", "assistant")
LEAST_DIVIDED = 200
"""Characters of a text from which on it is divided by place."""
FEW = 8
"""Fewer documents than this are each divided by place."""
PIECE = 1 << 16
"""Bytes of a piece of a long file, about."""
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.02
"""Of a document that is divided by place: its last tenth is the test part; its beginning, far from that, the validation part …"""
MOST_TESTED, MOST_CHECKED = 4_000_000, 500_000
"""… but no more bytes (or characters) than this, which tell the score to a hundredth of a bit."""
NEAR = 4_096
"""A piece ends at the end of a line, if there is one among so many bytes."""


def read_texts(source: Any, settings: Settings, modality: Modality) -> Examples:
    """Read `source` into Examples without decoding anything. Raises DataError when there is no text, naming what is there."""
    if isinstance(source, Examples):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _from_path(os.fspath(source), settings, modality)
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        return _from_columns("(values in memory)", {str(name): list(source[name]) for name in source.columns}, settings, "the data frame")
    if isinstance(source, (list, tuple)) and source and all(isinstance(each, str) for each in source):
        return _documents(
            "(values in memory)", [(f"text {number + 1}", text) for number, text in enumerate(source)], [], [""] * len(source)
        )
    raise UsageError(sentence("The texts", "be a path, a list of texts or a data frame", type(source).__name__))


def _from_path(source: str, settings: Settings, modality: Modality) -> Examples:
    if source.startswith("sample:"):
        from lamina.data.samples import load_sample

        return load_sample(source.removeprefix("sample:"), settings)
    path = Path(source).expanduser()
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(sentence(f"The texts {source}", "be a text file, a folder of them or a table that exists", "nothing there", near))
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return _from_columns(source, read_table(path.read_bytes() if suffix != ".parquet" else b"", path), settings, path)
    if path.is_dir() or suffix == ".zip":
        entries, findings = walk(path) if path.is_dir() else (zip_entries(path), [])
        visible, hidden = set_aside_hidden(entries)
        visible = descend(visible)
        kept = [(name, raw) for name, raw in visible if Path(name).suffix.lower() in modality.suffixes]
        gone = {name for name, _ in visible} - {name for name, _ in kept}
        findings += [*hidden, *(Finding(name, "foreign", "no text file, left out", excluded=True) for name in sorted(gone))]
        parts = parts_by_folder([name for name, _ in kept])
        return _grouped(_documents(source, kept, findings, parts), settings, None)
    return _documents(source, [(path.name, FileRaw(str(path)))], [], [""])


def _from_columns(source: str, columns: dict[str, list], settings: Settings, where: object) -> Examples:
    """Each row's text a document."""
    if not columns or not next(iter(columns.values())):
        raise DataError(sentence(f"The table {where}", "hold a header and at least one row", "nothing"))
    if (talks := _conversations(columns, settings)) is not None:
        return _of_conversations(source, talks, given_parts(parted(columns) or dict(list(columns.items())[:1]), where))
    column = find_column(columns, settings.text_column, TEXT_COLUMNS, "text", where)
    texts, parts = [cell(value) for value in columns[column]], given_parts(parted(columns) or {column: columns[column]}, where)
    rows = [(f"row {row + 1}", text) for row, text in enumerate(texts) if text]
    findings = [Finding(f"row {row + 1}", "empty", "its text is empty", excluded=True) for row, text in enumerate(texts) if not text]
    kept = [row for row, text in enumerate(texts) if text]
    groups = [cell(columns[settings.group][row]) for row in kept] if settings.group in columns else None
    return _grouped(_documents(source, rows, findings, [parts[row] for row in kept]), settings, groups)


def _grouped(examples: Examples, settings: Settings, groups: list[str] | None) -> Examples:
    """With --group: what its column or pattern says of each document, in place of the documents themselves."""
    if not settings.group:
        return examples
    if groups is not None and len(groups) == len(examples):
        return replace(examples, groups=groups)
    return with_groups(replace(examples, groups=[""] * len(examples)), settings, None)


def _conversations(columns: dict[str, list], settings: Settings) -> list[Talk | str] | None:
    """A conversation for each row, or what is wrong with it; None where the table holds none."""
    if settings.text_column:
        return None
    by_name = {str(name).strip().lower(): values for name, values in columns.items()}
    said = next((by_name[name] for name in TALK_COLUMNS if name in by_name), None)
    if said is not None:
        return [_talk(each) for each in said]
    asked, answered = (next((by_name[name] for name in names if name in by_name), None) for names in (PROMPT_COLUMNS, ANSWER_COLUMNS))
    if asked is None or answered is None:
        return None
    added = by_name.get("input", [""] * len(asked)) if asked is not by_name.get("input") else [""] * len(asked)
    rows = [(cell(one), cell(more), cell(other)) for one, more, other in zip(asked, added, answered, strict=True)]
    return [
        Talk((("user", f"{one}\n\n{more}" if more else one), ("assistant", other)))
        if one and other
        else "its prompt or its answer is empty"
        for one, more, other in rows
    ]


def _talk(messages: Any) -> Talk | str:
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        return "its messages are no list of objects"
    turns = [(each.get("role"), each.get("content")) for each in messages]
    wrong = next((role for role, _ in turns if role not in ROLES), None)
    if any(role is None for role, _ in turns):
        return "a message has no role"
    if wrong is not None:
        return f"a message's role is {wrong!r}, not one of {', '.join(ROLES)}"
    if not all(isinstance(said, str) and said.strip() for _, said in turns):
        return "a message says nothing"
    return Talk(tuple((str(role), str(said).strip()) for role, said in turns)) if ("assistant" in dict(turns)) else "nobody answers in it"


def _of_conversations(source: str, talks: Sequence[Talk | str], given: Sequence[str]) -> Examples:
    kept = [row for row, talk in enumerate(talks) if isinstance(talk, Talk)]
    findings = [Finding(f"row {row + 1}", "no-talk", talk, True, counts=True) for row, talk in enumerate(talks) if isinstance(talk, str)]
    if not kept:
        told = f"{len(talks)} rows, such as: {findings[0].detail}"
        raise DataError(sentence(f"The conversations {source}", "hold one with a role and a text in each message", told))
    names = [f"row {row + 1}" for row in kept]
    notes = (f"{len(kept)} conversations: only what the assistant says is learned.",)
    blank = [""] * len(kept)
    parts = [given[row] for row in kept]
    return Examples(source, names, [talks[row] for row in kept], blank, parts, blank, tuple(findings), notes, sense="text")


def _documents(source: str, entries: Sequence[tuple[str, Raw]], findings: list[Finding], parts: Sequence[str]) -> Examples:
    """Examples of documents; long files as several pieces of one group. A single document is divided by place."""
    if not entries:
        there = f"{len(findings)} other files, such as {findings[0].name}" if findings else "nothing"
        raise DataError(sentence(f"The texts {source}", "hold at least one text file (.txt, .md) or row", there))
    by_place: tuple[str, ...] = ("validation", "train", "test") if len(entries) < FEW and not any(parts) else ()
    few = "validation" not in parts and 0 < sum(part != "test" for part in parts) < FEW
    names: list[str] = []
    raws: list[Raw] = []
    given: list[str] = []
    groups: list[str] = []
    for (name, raw), part in zip(entries, parts, strict=True):
        cuts = by_place or (("validation", "train") if few and part != "test" else ())
        pieces = list(_pieces(raw, cuts))
        for number, (piece, place) in enumerate(pieces):
            names.append(f"{name}{PIECE_MARK}{number + 1}" if len(pieces) > 1 else name)
            raws.append(piece)
            given.append(place or part)
            groups.append("" if cuts else name)
    return Examples(source, names, raws, [""] * len(names), given, groups, tuple(findings), sense="text")


def _pieces(raw: Raw, cuts: tuple[str, ...]) -> Iterator[tuple[Raw, str]]:
    """(a piece, its part where a document is divided by place into the parts `cuts`) in their order."""
    size = os.path.getsize(raw.path) if isinstance(raw, FileRaw) and os.path.isfile(raw.path) and os.access(raw.path, os.R_OK) else 0
    begins = raw.read(4) if size and isinstance(raw, FileRaw) else b""
    if not isinstance(raw, FileRaw) or not size or begins[:2] in (b"\xff\xfe", b"\xfe\xff") or begins == b"\x00\x00\xfe\xff":
        text = _small_text(raw) if cuts else None  # values, members of archives, two bytes a character and more
        if not text:
            yield raw, ""
            return
        checks, tests = _divided(len(text))
        tests = tests if "test" in cuts else len(text)
        yield from zip((text[:checks], text[checks:tests], text[tests:]), cuts, strict=False)
        return
    if size <= PIECE and not cuts:
        yield raw, ""
        return
    with open(raw.path, "rb") as file:
        checks, tests = _divided(size)
        places = {(): [size], ("validation", "train"): [checks, size]}.get(cuts, [checks, tests, size])
        start = 0
        for border, part in zip([_whole(file, place) for place in places], cuts or ("",), strict=True):
            while start < border:
                end = border if border - start <= PIECE * 1.5 else _line_end(file, start + PIECE)
                yield PartRaw(raw.path, start, end), part
                start = end


def _divided(size: int) -> tuple[int, int]:
    """(where the training part of a document of so many bytes begins, where it ends)."""
    return max(1, int(min(MOST_CHECKED, size * VALIDATION_SHARE))), int(size - min(MOST_TESTED, size * TEST_SHARE) + 1e-6)


def _small_text(raw: Raw) -> str | None:
    """The text of a value, or of a file that is not cut by bytes; None where it is none."""
    if isinstance(raw, str):
        return raw if len(raw) >= LEAST_DIVIDED else None
    if isinstance(raw, (FileRaw, ZipRaw)):
        try:
            content = raw.read()
            return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except (OSError, UnicodeError):
            return None
    return None


def _whole(file: Any, place: int) -> int:
    """The first byte from `place` on with which a character begins."""
    file.seek(place)
    following = file.read(4)
    return place + next((skip for skip, byte in enumerate(following) if byte & 0xC0 != 0x80), 0)


def _line_end(file: Any, place: int) -> int:
    """The byte after the first line end from `place` on; after the first whole character where lines are long."""
    file.seek(place)
    found = file.read(NEAR).find(b"\n")
    return place + found + 1 if found >= 0 else _whole(file, place)

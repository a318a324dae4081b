"""Who chose what, and when: a table of users and items in, a history for each user out, what is held out of it beside it.

read_choices("ratings.csv", settings)  ->  Examples: for each user what was chosen until the border, and after it
"""

from __future__ import annotations

import csv
import datetime
import itertools
import math
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lamina.data.examples import Examples, Finding
from lamina.data.raw import History, Raw
from lamina.data.tables import PART_COLUMNS, PART_NAMES, TABLE_SUFFIXES, read_table
from lamina.errors import DataError, UsageError, did_you_mean, sentence
from lamina.settings import Settings

COLUMNS = {
    "user": ("user", "user_id", "userid", "customer", "customer_id", "reviewer", "reviewerid", "member", "visitor", "visitorid", "account",
             "session", "session_id", "u"),
    "item": ("item", "item_id", "itemid", "product", "product_id", "productid", "asin", "movie", "movie_id", "movieid", "film", "book",
             "book_id", "isbn", "song", "track", "artist", "article", "sku", "venue", "location", "place", "i"),
    "time": ("time", "timestamp", "date", "datetime", "unixreviewtime", "ts", "when", "t"),
    "rating": ("rating", "stars", "score", "overall", "preference"),
}  # fmt: skip
TITLE_COLUMNS = ("title", "name", "label", "movie_title", "product_name")
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.05
"""Of all choices in their order in time: the last tenth is the test part, the twentieth before it the validation part."""
LEAST_USERS, LEAST_ITEMS = 5, 3
MOST_CHECKED, MOST_TESTED = 10_000, 30_000
"""Users of the validation part, and of a test part that no paper knows."""
MANY = 100.0
"""A user with so many times the median number of choices, and above MANY_LEAST, may be a machine."""
MANY_LEAST = 1_000
NAMED = 20
"""Users of each kind of finding that are named."""


class Choices(NamedTuple):
    """Rows of a table as numbers, in the order of users, then time."""

    users: list[str]
    items: list[str]
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None
    part: np.ndarray | None
    """Of the table's own split column: 0 train, 1 validation, 2 test."""
    rating: np.ndarray | None = None


def read_choices(source: Any, settings: Settings, modalities: Sequence[Any] = ()) -> Examples:
    """Raises DataError where there is nothing to learn from, naming what is there."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "(values in memory)"
    choices, findings = _in_order(*read_rows_of_choices(source, settings))
    if len(choices.users) < LEAST_USERS or len(choices.items) < LEAST_ITEMS:
        told = f"{len(choices.users)} users and {len(choices.items)} items"
        raise DataError(sentence(f"The choices {name}", f"be of at least {LEAST_USERS} users and {LEAST_ITEMS} items", told))
    borders, note = _borders(choices, settings)
    drawn, more = _drawn(choices, borders, settings)
    examples = _held_out(name, choices, borders, drawn, findings, (note, *more))
    if "test" not in examples.parts:
        raise DataError(
            sentence(f"The choices {name}", "leave somebody with a choice after the border in time", "nobody", "Give --last-out.")
        )
    return examples


# ---------------------------------------------------------------- rows


def read_rows_of_choices(source: Any, settings: Settings) -> tuple[Choices, list[Finding]]:
    """(the rows in their own order, what was wrong with some). A row is never held as more than its numbers. Raises DataError."""
    header, rows, where = _rows(source)
    at = {role: _column(header, role, getattr(settings, role), where) for role in COLUMNS}
    by, chosen = at["user"], at["item"]
    assert by is not None and chosen is not None  # `_column` raises where these are missing
    if settings.least_rating is not None and at["rating"] is None:
        raise UsageError(sentence("--least-rating", "be given for a table with ratings", "columns " + ", ".join(header)))
    parted = next((place for place, column in enumerate(header) if column.strip().lower() in PART_COLUMNS), None)
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user, item, time, part, rating = array("i"), array("i"), array("d"), array("b"), array("f")
    wrong: Counter[str] = Counter()
    first: dict[str, int] = {}

    def refuse(kind: str, row: int) -> None:
        wrong[kind] += 1
        first.setdefault(kind, row)

    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            refuse(f"has not the {len(header)} cells of the header", number)
            continue
        who, what = _text(row[by]), _text(row[chosen])
        if not who or not what:
            refuse("names no user" if not who else "names no item", number)
            continue
        stars = _number(row[at["rating"]]) if at["rating"] is not None else 0.0
        if settings.least_rating is not None and not stars >= settings.least_rating:
            continue
        when = _moment(row[at["time"]]) if at["time"] is not None else 0.0
        if math.isnan(when):
            refuse("has no time that can be read", number)
            continue
        if parted is not None:
            part.append(("train", "validation", "test").index(PART_NAMES.get(_text(row[parted]).lower(), "train")))
        user.append(users.setdefault(who, len(users)))
        item.append(items.setdefault(what, len(items)))
        time.append(when)
        rating.append(stars)
    findings = [
        Finding(f"row {first[kind]}", "no-choice", f"{count} rows, this one first: it {kind}", True, counts=True)
        for kind, count in wrong.items()
    ]
    if not user:
        told = findings[0].detail if findings else "no row"
        raise DataError(sentence(f"The choices {where}", "hold rows with a user and an item", told))
    numbers = [np.frombuffer(each, kind) for each, kind in ((user, np.int32), (item, np.int32), (time, np.float64))]
    parts = np.frombuffer(part, np.int8) if parted is not None else None
    stars_of = np.frombuffer(rating, np.float32) if at["rating"] is not None else None
    when_of = numbers[2] if at["time"] is not None else None
    return Choices(list(users), list(items), numbers[0], numbers[1], when_of, parts, stars_of), findings


def _rows(source: Any) -> tuple[list[str], Iterable[Sequence[Any]], object]:
    """(the header, the rows one after the other, what they are called)."""
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        names = [str(name) for name in source.columns]
        return names, zip(*(list(source[name]) for name in source.columns), strict=True), "the data frame"
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(sentence("The choices", "be the path of a table or a data frame", type(source).__name__))
    path = Path(os.fspath(source)).expanduser()
    if not path.is_file() or path.suffix.lower() not in TABLE_SUFFIXES:
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        got = "nothing there" if not path.exists() else "a folder" if path.is_dir() else f"a {path.suffix or 'nameless'} file"
        raise DataError(
            sentence(f"The choices {path}", "be a table (" + ", ".join(TABLE_SUFFIXES) + ")", got, did_you_mean(path.name, siblings))
        )
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = _streamed(path)
        header = next(rows, [])
        if not header:
            raise DataError(sentence(f"The table {path}", "hold a header and at least one row", "nothing"))
        return [str(name).strip() for name in header], rows, path
    columns = read_table(path.read_bytes() if path.suffix.lower() != ".parquet" else b"", path)
    return [str(name) for name in columns], zip(*columns.values(), strict=True), path


def _streamed(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(1 << 20)
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = file.readline()
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=line.count)
        file.seek(0)
        try:
            yield from (row for row in csv.reader(file, delimiter=delimiter) if row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(sentence(f"The table {path}", "be well-formed UTF-8 text", str(error), "Save it as UTF-8 CSV.")) from error


def _column(header: Sequence[str], role: str, wanted: str, where: object) -> int | None:
    """The place of the column of that role; None where there is none and none is needed. Raises DataError, UsageError."""
    if wanted:
        if wanted in header:
            return list(header).index(wanted)
        raise UsageError(sentence(f"--{role} of {where}", "be one of " + ", ".join(header), wanted, did_you_mean(wanted, header)))
    names = [name.split(":")[0].strip().lower() for name in header]  # some libraries write the type behind a colon
    for usual in COLUMNS[role]:
        if usual in names:
            return names.index(usual)
    if role in ("time", "rating"):
        return None
    told = f"have a column of {role}s (one of {', '.join(COLUMNS[role][:5])} …)"
    raise DataError(sentence(f"The table {where}", told, "columns " + ", ".join(header), f"Name it with --{role}."))


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # what a data frame makes of whole numbers beside a missing one
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _moment(value: Any) -> float:
    """Seconds; not a number where it is none."""
    found = _number(value)
    if math.isfinite(found):
        return found
    try:
        made = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value).strip())
        return (made if made.tzinfo else made.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return math.nan


# ---------------------------------------------------------------- order, borders, histories


def order_of(choices: Choices) -> np.ndarray:
    """The rows by user, then time, then as they stand in the table."""
    rows = np.arange(len(choices.user))
    return np.lexsort((rows, choices.user) if choices.time is None else (rows, choices.time, choices.user))


def _in_order(choices: Choices, findings: list[Finding]) -> tuple[Choices, list[Finding]]:
    """By user, then time; rows that say the same again are left out; what is odd is told."""
    order = order_of(choices)
    user, item = choices.user[order], choices.item[order]
    when = choices.time[order] if choices.time is not None else np.zeros(len(order))
    own = np.lexsort((when, item, user))
    again = np.zeros(len(order), bool)
    same = (np.diff(user[own]) == 0) & (np.diff(item[own]) == 0) & (np.diff(when[own]) == 0)
    again[own[1:][same]] = True
    if choices.time is not None and (doubled := int(again.sum())):
        findings.append(Finding(choices.users[user[again][0]], "duplicate", f"{doubled} rows say the same again: each counts once"))
    kept = order[~again] if choices.time is not None else order
    made = choices._replace(
        user=choices.user[kept], item=choices.item[kept], time=None if choices.time is None else choices.time[kept],
        part=None if choices.part is None else choices.part[kept], rating=None if choices.rating is None else choices.rating[kept],
    )  # fmt: skip
    findings += _odd(made)
    return made, findings


def _odd(choices: Choices) -> list[Finding]:
    found = []
    each = np.bincount(choices.user, minlength=len(choices.users))
    many = np.flatnonzero(each > max(MANY_LEAST, MANY * float(np.median(each))))
    for place in many[np.argsort(-each[many])][:NAMED]:
        told = f"{each[place]} choices, {each[place] / max(1, np.median(each)):.0f} times the median of a user: perhaps a machine"
        found.append(Finding(f"user {choices.users[place]}", "very-many", told))
    once = int((np.bincount(choices.item) == 1).sum())
    if once:
        found.append(Finding(f"{once} of {len(choices.items)} items", "chosen-once", "little can be learned of them"))
    if choices.time is not None:
        tied = (np.diff(choices.user) == 0) & (np.diff(choices.time) == 0)
        if tied.any():
            told = f"{100 * tied.mean():.1f} % of neighboring choices of a user have one time: there the order of the table counts"
            found.append(Finding(f"user {choices.users[choices.user[:-1][tied][0]]}", "ties-in-time", told))
        if (choices.time < 0).any():
            early = int((choices.time < 0).sum())
            found.append(Finding(f"{early} rows", "negative-time", "times before 1970, or wrong ones: they are ordered as they are"))
    return found


def _borders(choices: Choices, settings: Settings) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """((for each row whether it is before the validation border, and before the test border), in words)."""
    starts = np.flatnonzero(np.r_[True, np.diff(choices.user) != 0])
    sizes = np.diff(np.r_[starts, len(choices.user)])
    left = np.repeat(starts + sizes, sizes) - np.arange(len(choices.user))  # 1 for the last choice of a user
    if settings.last_out:
        long = np.repeat(sizes, sizes) >= LEAST_ITEMS
        return (~long | (left > 2), ~long | (left > 1)), (
            "Held out: the last choice of each user is the test part, the one before it the validation part (leave-one-out)."
        )
    if choices.part is not None and (choices.part == 2).any():
        before_test = choices.part != 2
        if (choices.part == 1).any():
            return (choices.part == 0, before_test), "Held out: as the table's own split column says."
        kept = np.cumsum(before_test) - np.repeat(np.cumsum(before_test)[starts] - before_test[starts], sizes)
        many = np.repeat(np.add.reduceat(before_test, starts), sizes)
        checked = before_test & (kept > many - np.maximum(1, (many * TEST_SHARE).astype(np.int64))) & (many >= LEAST_ITEMS)
        return (before_test & ~checked, before_test), (
            "Held out: as the table's own split column says; of the rest the last tenth of each user is the validation part."
        )
    if choices.time is None:
        raise UsageError(
            sentence(
                "The choices",
                "have times, to be divided in time",
                "no column of times",
                "Name it with --time; or give --last-out, and the order of the table counts.",
            )
        )
    check, test = np.quantile(choices.time, [1 - TEST_SHARE - VALIDATION_SHARE, 1 - TEST_SHARE])
    told = [
        datetime.datetime.fromtimestamp(each, datetime.UTC).strftime("%Y-%m-%d") if 0 < each < 4e9 else f"{each:g}"
        for each in (check, test)
    ]
    return (choices.time <= check, choices.time <= test), (
        f"Held out in time: choices after {told[1]} are the test part, those from {told[0]} until then the validation part."
    )


def _drawn(choices: Choices, borders: tuple[np.ndarray, np.ndarray], settings: Settings) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """(by part, which users are asked what they chose in it; in words where these are not all): for each every item is ranked, which for
    many would take longer than training. Where a division is asked for, its whole test part is."""
    learned, known = borders
    asked = settings.last_out or (choices.part is not None and bool((choices.part == 2).any()))
    random, drawn, told = np.random.Generator(np.random.Philox(key=settings.seed)), {}, []
    for part, rows, most in (("validation", known & ~learned, MOST_CHECKED), ("test", ~known, None if asked else MOST_TESTED)):
        users = np.unique(choices.user[rows])
        if most is not None and len(users) > most:
            told.append(f"Of the {part} part {most:,} of {len(users):,} users are asked, drawn by the seed.")
            users = random.permutation(users)[:most]
        drawn[part] = np.isin(np.arange(len(choices.users)), users)
    return drawn, tuple(told)


def _held_out(
    name: str, choices: Choices, borders: tuple[np.ndarray, np.ndarray], drawn: dict[str, np.ndarray], findings: list[Finding],
    notes: tuple[str, ...],
) -> Examples:  # fmt: skip
    """For each user an example of the training part, and for those drawn one of each part in which something was chosen."""
    learned, known = borders
    names: list[str] = []
    raws: list[Raw] = []
    answers: list[Any] = []
    parts: list[str] = []
    starts = np.flatnonzero(np.r_[True, np.diff(choices.user) != 0])
    new = 0
    for first, end in itertools.pairwise([*starts.tolist(), len(choices.user)]):
        who = choices.users[choices.user[first]]
        items, in_learned, in_known = choices.item[first:end], learned[first:end], known[first:end]
        pieces = (
            ("train", items[in_learned], items[:0]),
            ("validation", items[in_learned], items[in_known & ~in_learned]),
            ("test", items[in_known], items[~in_known]),
        )
        for part, history, wanted in pieces:
            if (part == "train" and not len(history)) or (part != "train" and not (len(wanted) and drawn[part][choices.user[first]])):
                continue
            new += part == "test" and not len(history)
            names.append(f"user {who}")
            raws.append(History(who, history, choices.items, part))
            answers.append(tuple(choices.items[place] for place in dict.fromkeys(wanted.tolist())))
            parts.append(part)
    tested = parts.count("test")
    told = (
        f"{len(choices.user):,} choices of {len(choices.users):,} users among {len(choices.items):,} items; {tested:,} users are tested"
        + (f", {new:,} of them without any choice before" if new else "") + "."
    )  # fmt: skip
    return Examples(name, names, raws, answers, parts, [""] * len(names), tuple(findings), (told, *notes), sense="history")


def read_titles(source: str, settings: Settings) -> dict[str, tuple[str, str]]:
    """(title, everything else that a table says of it, as words) by item. Raises DataError, UsageError."""
    header, rows, where = _rows(source)
    item = _column(header, "item", settings.item if settings.item in header else "", where)
    by_name = {name.split(":")[0].strip().lower(): place for place, name in reversed(list(enumerate(header)))}
    title = next((by_name[name] for name in TITLE_COLUMNS if name in by_name), None)
    if title is None or item is None:
        raise DataError(sentence(f"The titles {where}", "have a column title (or name)", "columns " + ", ".join(header)))
    others = [place for place in range(len(header)) if place not in (item, title)]
    return {
        _text(row[item]): (_text(row[title]), " ".join(_text(row[place]) for place in others)) for row in rows if len(row) == len(header)
    }

"""The split: decided by the content itself, so that it is the same tomorrow, and no copy or group stands on both sides.

Each *unit* (a group, or copies of one value, or a single value) has a key: its group's name, or the hash of its decoded content.
hash(key) in [0, 1) decides the part. Classes with fewer than 50 units are ranked by hash instead, so that each part gets its share.
Below 2,000 examples without a given test part the examples are cross-fitted: 5 folds, each example tested once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.data.audit import Audit
from lamina.data.duplicates import components
from lamina.data.examples import PARTS
from lamina.errors import DataError, sentence

FOLDS = 5
CROSS_FIT_BELOW = 2000
RANKED_BELOW = 50
TEST_SHARE = 0.15
VALIDATION_SHARE = 0.10
VALIDATION_SHARE_LARGE = 0.05
LARGE = 20_000
VALIDATION_SHARE_PEOPLE = 0.15
LEAST_PEOPLE = 14
"""With two or more examples each, where people are held out: so that validation and test part have two of them each."""


@dataclass(frozen=True)
class Split:
    """The part of each usable example ("train", "validation", "test", or "left-out"), or its fold when cross-fitted."""

    parts: list[str]
    folds: list[int] | None
    """0 … FOLDS - 1 for each example when cross-fitted, else None."""
    left_out: int
    """Training examples that are copies of test examples."""
    near_test: list[int]
    """Test examples of which a near duplicate stands in training (alike by nature, or parts given so)."""
    notes: tuple[str, ...] = ()

    def indices(self, part: str) -> list[int]:
        return [index for index, its in enumerate(self.parts) if its == part]

    def fold(self, number: int) -> tuple[list[int], list[int]]:
        """(training indices, test indices) of one fold."""
        assert self.folds is not None
        return [i for i, its in enumerate(self.folds) if its != number], [i for i, its in enumerate(self.folds) if its == number]


def divide(report: Audit, saved: dict[str, Any] | None = None) -> Split:
    """Split the usable examples. `saved` is what an earlier run's split.json holds: nothing in it moves.

    Where the answers are people, whole answers are held out, none stands in two parts; only labels and numbers are cross-fitted. Raises
    DataError when a part would be empty.
    """
    examples, by_answer = report.examples, report.answers == "people"
    keys, units = _units(report, by_answer)
    given = any(examples.parts)
    cross_fit = report.answers in ("labels", "numbers") and not given and len(examples) < CROSS_FIT_BELOW
    if by_answer:
        _check_people(examples.answers, examples.parts)
        if saved is not None and saved["folds"] is not None:
            raise DataError(sentence("The saved split", "hold people out", "folds of examples", "Leave --split out to make a new one."))
    counts = Counter(examples.answers)  # of people only this matters: those with one example make no pair with themselves
    answers = list(examples.answers) if report.answers == "labels" else [""] * len(examples)
    if by_answer:
        answers = ["one" if counts[answer] == 1 else "several" for answer in examples.answers]
    if saved is not None and not given and not by_answer:
        cross_fit = saved["folds"] is not None
    notes: list[str] = []
    folds: list[int] | None = None
    if cross_fit:
        folds = _folds(answers, keys, units, bool(any(examples.groups)))
        parts = ["train"] * len(examples)
        notes.append(
            f"{len(examples)} examples: too few for one test part. {FOLDS}-fold cross-fitting tests each of them once; "
            "the network that is saved learns from all of them."
        )
    elif given:
        parts = list(examples.parts)
        training = [index for index, part in enumerate(parts) if part in ("", "train")]
        for index in training:
            parts[index] = "train"
        share = _validation_share(len(training), by_answer)
        if "validation" not in parts:
            _place(parts, training, answers, keys, units, {"validation": share})
        if "test" not in parts:
            _place(parts, [i for i in training if parts[i] == "train"], answers, keys, units, {"test": TEST_SHARE})
    else:
        parts = ["train"] * len(examples)
        shares = {"test": TEST_SHARE, "validation": _validation_share(len(examples), by_answer)}
        _place(parts, list(range(len(parts))), answers, keys, units, shares)
    if saved is not None:
        _apply_saved(saved, report, units, parts, folds)
    left_out = _leave_out_copies(report, parts) if folds is None else 0
    if by_answer:
        _check_held_out(examples.answers, parts)
    split = Split(parts, folds, left_out, _near_test(report, parts, folds), tuple(notes))
    for part in ("train", "test") if folds is None else ():
        if not split.indices(part):
            raise DataError(
                sentence(
                    f"The {part} part of {examples.source}",
                    "hold at least one example",
                    0,
                    "Give more examples, or fewer and larger groups." if part == "train" else "Give more groups.",
                )
            )
    return split


def save_split(split: Split, report: Audit) -> dict[str, Any]:
    """What split.json holds: the part (or fold) of each content."""
    contents = [inspection.content for inspection in report.inspections]
    return {
        "version": 1,
        "content_hash": report.content_hash,
        "parts": {content: part for content, part in zip(contents, split.parts, strict=True) if part != "left-out"},
        "folds": None if split.folds is None else dict(zip(contents, split.folds, strict=True)),
    }


def load_split(path: Path) -> dict[str, Any]:
    """A saved split. Raises DataError when the file is not one."""
    try:
        saved = json.loads(path.read_text("utf-8"))
        good = isinstance(saved["parts"], dict) and all(part in (*PARTS, "left-out") for part in saved["parts"].values())
        good = good and (saved["folds"] is None or all(fold in range(FOLDS) for fold in saved["folds"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(sentence(f"The saved split {path}", "be the split.json of a run", str(error))) from error
    if not good:
        raise DataError(sentence(f"The saved split {path}", "name only the parts " + ", ".join(PARTS)))
    return dict(saved)


def bucket(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return (
        int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8, person=b"lamina split").digest(), "big")
        / 2**64
    )


def _validation_share(examples: int, by_answer: bool) -> float:
    if by_answer:
        return VALIDATION_SHARE_PEOPLE
    return VALIDATION_SHARE_LARGE if examples >= LARGE else VALIDATION_SHARE


def _check_people(answers: Sequence[str], parts: Sequence[str]) -> None:
    """Raise DataError where people are too few to hold some out, or stand in two given parts."""
    counts = Counter(answers)
    several = sum(count > 1 for count in counts.values())
    if several < LEAST_PEOPLE:
        raise DataError(
            sentence(
                "The people",
                f"be at least {LEAST_PEOPLE} with two or more examples, for some are held out",
                f"{several} (and {len(counts) - several} with one)",
                "One person alone needs no training: `lamina enroll` with a model that was trained on others.",
            )
        )
    homes: dict[str, set[str]] = defaultdict(set)
    for answer, part in zip(answers, parts, strict=True):
        if part:
            homes[answer].add(part)
    torn = sorted(answer for answer, its in homes.items() if len(its) > 1)
    if torn:
        raise DataError(
            sentence(
                "The parts of the data",
                "hold each person once: nobody who is tested may have been trained on",
                f"{len(torn)} people in two parts, such as {torn[0]}",
                "Divide them by person.",
            )
        )


def _check_held_out(answers: Sequence[str], parts: Sequence[str]) -> None:
    """Raise DataError where somebody stands in two parts (a saved split of other labels), or a part cannot be scored."""
    homes: dict[str, set[str]] = defaultdict(set)
    people: dict[str, Counter[str]] = defaultdict(Counter)
    for answer, part in zip(answers, parts, strict=True):
        if part != "left-out":
            homes[answer].add(part)
            people[part][answer] += 1
    torn = sorted(answer for answer, its in homes.items() if len(its) > 1)
    if torn:
        raise DataError(
            sentence("The split", "hold each person once", f"{len(torn)} people in two parts, such as {torn[0]}", "Leave --split out.")
        )
    for part in ("validation", "test"):
        if len(people[part]) < 2 or max(people[part].values()) < 2:
            raise DataError(
                sentence(
                    f"The {part} part",
                    "hold two people, one of them with two examples",
                    f"{len(people[part])} people, at most {max(people[part].values(), default=0)} examples each",
                    "Give more people, or smaller groups.",
                )
            )


def _units(report: Audit, by_answer: bool = False) -> tuple[list[str], list[int]]:
    """(key, unit) of each example; examples of one unit have equal keys."""
    examples, contents = report.examples, [inspection.content for inspection in report.inspections]
    links: list[Sequence[int]] = list(report.duplicates.exact)
    if report.duplicates.copies:
        links.extend(report.duplicates.near)
    for names in (examples.groups, examples.answers) if by_answer else (examples.groups,):
        by_group: dict[str, list[int]] = defaultdict(list)
        for index, group in enumerate(names):
            if group:
                by_group[group].append(index)
        links.extend(by_group.values())
    units = components(len(examples), links)
    named = examples.answers if by_answer else examples.groups
    own = ["group " + group if group else contents[index] for index, group in enumerate(named)]
    smallest: dict[int, str] = {}
    for index, unit in enumerate(units):
        smallest[unit] = min(smallest.get(unit, own[index]), own[index])
    return [smallest[unit] for unit in units], units


def _unit_labels(among: Sequence[int], answers: Sequence[str], units: Sequence[int]) -> dict[int, str]:
    """The most frequent label of each unit."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for index in among:
        counts[units[index]][answers[index]] += 1
    return {unit: min(count, key=lambda label: (-count[label], label)) for unit, count in counts.items()}


def _place(
    parts: list[str], among: list[int], answers: Sequence[str], keys: Sequence[str], units: Sequence[int], shares: dict[str, float]
) -> None:
    """Move units of `among` into the parts named in `shares`; the rest stays."""
    by_label: dict[str, list[int]] = defaultdict(list)
    key_of = {units[index]: keys[index] for index in among}
    for unit, label in _unit_labels(among, answers, units).items():
        by_label[label].append(unit)
    part_of: dict[int, str] = {}
    for members in by_label.values():
        ranked = len(members) < RANKED_BELOW
        ordered = sorted(members, key=lambda unit: (bucket(key_of[unit]), key_of[unit]))
        for rank, unit in enumerate(ordered):
            place = (rank + 0.5) / len(ordered) if ranked else bucket(key_of[unit])
            edge = 0.0
            for part, share in shares.items():
                edge += share
                if place < edge:
                    part_of[unit] = part
                    break
    for index in among:
        parts[index] = part_of.get(units[index], parts[index])


def _folds(answers: Sequence[str], keys: Sequence[str], units: Sequence[int], grouped: bool) -> list[int]:
    """The fold of each example. Classes of 50 units or more by hash; smaller ones (and groups) dealt out in the order of their hashes."""
    among = list(range(len(answers)))
    key_of = {units[index]: keys[index] for index in among}
    by_label: dict[str, list[int]] = defaultdict(list)
    for unit, label in _unit_labels(among, answers, units).items():
        by_label[label].append(unit)
    fold_of: dict[int, int] = {}
    dealt = 0
    for label in sorted(by_label):
        ordered = sorted(by_label[label], key=lambda unit: (bucket(key_of[unit]), key_of[unit]))
        ranked = grouped or len(ordered) < RANKED_BELOW
        for unit in ordered:
            fold_of[unit] = dealt % FOLDS if ranked else int(bucket(key_of[unit]) * FOLDS)
            dealt += ranked
    if len(fold_of) < FOLDS:
        raise DataError(sentence("The examples", f"form at least {FOLDS} groups (copies count as one)", len(fold_of), "Add examples."))
    return [fold_of[units[index]] for index in among]


def _apply_saved(saved: dict[str, Any], report: Audit, units: Sequence[int], parts: list[str], folds: list[int] | None) -> None:
    """Contents that the saved split knows keep their place; new ones of a known unit (a group, copies) go where it is.

    Given test and validation examples stay there, and their copies in training stay what they are: they are left out afterwards.
    """
    if (saved["folds"] is None) != (folds is None):
        return
    placed: list[Any] = parts if folds is None else folds
    places = {content: place for content, place in saved["parts" if folds is None else "folds"].items() if place != "left-out"}
    known = [places.get(inspection.content) for inspection in report.inspections]
    of_unit = dict(sorted(((unit, place) for unit, place in zip(units, known, strict=True) if place is not None), reverse=True))
    given = {pair for pair in zip(units, report.examples.parts, strict=True) if pair[1] in ("validation", "test")}
    for index, unit in enumerate(units):
        place = of_unit.get(unit) if known[index] is None else known[index]
        if place is not None and not {(unit, place), (unit, report.examples.parts[index])} & given:
            placed[index] = place


def _leave_out_copies(report: Audit, parts: list[str]) -> int:
    """Copies of test examples leave training and validation; copies of validation examples leave training."""
    contents = [inspection.content for inspection in report.inspections]
    left_out = 0
    for protected in ("test", "validation"):
        held = {content for content, part in zip(contents, parts, strict=True) if part == protected}
        before = ("train", "validation") if protected == "test" else ("train",)
        for index, content in enumerate(contents):
            if parts[index] in before and content in held:
                parts[index] = "left-out"
                left_out += 1
    return left_out


def _near_test(report: Audit, parts: Sequence[str], folds: Sequence[int] | None) -> list[int]:
    """Test examples with a near duplicate among what their network learns from."""
    found = set()
    for one, two in report.duplicates.near:
        if folds is not None:
            found |= {one, two} if folds[one] != folds[two] else set()
        elif "test" in (parts[one], parts[two]) and "train" in (parts[one], parts[two]):
            found.add(one if parts[one] == "test" else two)
    return sorted(found)

"""The audit: every value is decoded before a second is spent on training, and what is wrong is said by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.data.duplicates import Duplicates, find_duplicates
from lamina.data.examples import Examples, Finding
from lamina.data.files import cache_folder, locked, write_json
from lamina.data.inspection import Inspection
from lamina.data.raw import FileRaw, PartRaw, ZipRaw
from lamina.data.workers import Workers
from lamina.errors import DataError, sentence
from lamina.screen import Screen, duration
from lamina.settings import Settings, cores

if TYPE_CHECKING:
    from lamina.inputs import Input

BAD_SHARE, BAD_FLOOR = 0.01, 10
"""The default --max-bad: the larger of 1 % and 10 files."""
IMBALANCE = 10
SHOWN = 6
SECONDS_BETWEEN_SAVES = 20.0
MEMORY_VERSION = 4
"""Of the remembered inspections; raised when `inspect` says something else about the same file."""


@dataclass(frozen=True)
class Audit:
    """The usable examples, what was found, and what the split and the cache need to know about them."""

    examples: Examples
    """The usable ones only."""
    inspections: list[Inspection]
    """One per usable example."""
    findings: list[Finding]
    duplicates: Duplicates
    total: int
    seconds: float
    answers: str = "labels"
    """What stands beside the values, as the task says it."""

    @property
    def excluded(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.excluded]

    @property
    def bad(self) -> int:
        """Unusable files of the modality: what --max-bad counts."""
        return sum(finding.counts for finding in self.findings)

    @property
    def content_hash(self) -> str:
        """One hash for all usable examples with their answers and parts, whatever their order."""
        lines = sorted(zip((i.content for i in self.inspections), self.examples.answers, self.examples.parts, strict=True))
        return hashlib.blake2b(json.dumps(lines).encode(), digest_size=16).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What audit.json holds."""
        counts = Counter(self.examples.answers if self.answers in ("labels", "people") else [])
        return {
            "source": self.examples.source,
            "files": self.total,
            "usable": len(self.examples),
            "excluded": len(self.excluded),
            "unusable_of_the_modality": self.bad,
            "labels": dict(sorted(counts.items())),
            "kinds": dict(sorted(Counter(finding.kind for finding in self.findings).items())),
            "exact_duplicates": sum(len(group) - 1 for group in self.duplicates.exact),
            "near_duplicates": {
                "proposed": self.duplicates.proposed,
                "confirmed": len(self.duplicates.near),
                "grouped": bool(self.duplicates.near) and self.duplicates.copies,
            },
            "content_hash": self.content_hash,
            "seconds": round(self.seconds, 3),
            "notes": list(self.examples.notes),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def audit(examples: Examples, input: Input, settings: Settings, screen: Screen, answers: str = "labels") -> Audit:
    """Decode every example in parallel, name what is unusable or odd; `answers`: what stands beside the values, as the task says it.

    Raises DataError above --max-bad (after telling all).
    """
    start = time.monotonic()
    inspections = _inspect_all(examples, input, settings, screen)
    findings = list(examples.findings)
    usable = []
    for index, inspection in enumerate(inspections):
        name = examples.names[index]
        if inspection.problem:
            findings.append(Finding(name, inspection.problem, inspection.detail, excluded=True, counts=True))
        else:
            usable.append(index)
        findings.extend(Finding(name, kind, detail) for kind, detail in inspection.warnings)
    kept = [inspections[index] for index in usable]
    good = examples.take(usable)
    if answers == "labels":
        good, kept = _drop_untrained_labels(good, kept, findings)
    if input.repeats(good.raws):
        good, kept = _tell_apart(good, kept)
    prints = [inspection.fingerprint for inspection in kept]
    duplicates = find_duplicates([i.content for i in kept], prints, lambda a, b: _same(input, good, a, b), input.near)
    findings.extend(_about_duplicates(good, duplicates))
    findings.extend(_about_labels(good) if answers in ("labels", "people") else [])
    findings.extend(Finding(name, kind, detail) for name, kind, detail in input.noticed(good.raws, good.names))
    return Audit(good, kept, findings, duplicates, len(examples) + len(examples.findings), time.monotonic() - start, answers)


def _tell_apart(examples: Examples, inspections: list[Inspection]) -> tuple[Examples, list[Inspection]]:
    """Rows of so few different values that they must repeat are no copies: each gets a content of its own, the first keeps the bare one.

    Equal rows of one label are numbered, so that the order of the rows does not matter.
    """
    seen: Counter[tuple[str, str]] = Counter()
    first: dict[str, str] = {}
    apart = []
    for inspection, answer in zip(inspections, examples.answers, strict=True):
        content, label = inspection.content, str(answer)
        seen[content, label] += 1
        number = seen[content, label]
        first[content] = min(first.get(content, label), label)
        apart.append((content, label, number))
    kept = [
        dataclasses.replace(inspection, content=content if (label, number) == (first[content], 1) else f"{content}-{label}-{number}")
        for inspection, (content, label, number) in zip(inspections, apart, strict=True)
    ]
    repeated = len(inspections) - len(first)
    note = f"{repeated} rows equal another one; of so few different values rows must repeat, so they are no copies."
    return (dataclasses.replace(examples, notes=(*examples.notes, note)) if repeated else examples), kept


def stop_if_bad(report: Audit, settings: Settings) -> None:
    """Raise DataError when more files are unusable than --max-bad allows, or nothing is left to learn."""
    files = len(report.examples) + report.bad
    allowed = max(BAD_SHARE * files, BAD_FLOOR) if settings.max_bad is None else settings.max_bad * files
    worst = next((finding for finding in report.findings if finding.counts), None)
    example = f", such as {worst.name}: {worst.kind} ({worst.detail})" if worst else ""
    if report.bad > allowed:
        rule = "the larger of 1 % and 10 files" if settings.max_bad is None else f"{settings.max_bad:.2%} (--max-bad)"
        raise DataError(
            sentence(
                f"Unusable files in {report.examples.source}",
                f"be at most {rule}",
                f"{report.bad} of {files}{example}",
                "Mend or remove them (audit.json lists all), or raise --max-bad.",
            )
        )
    if not len(report.examples) and report.bad:
        raise DataError(
            sentence(f"The data {report.examples.source}", "hold at least one usable file", f"none of {files}{example}", "Mend them.")
        )
    if len(report.examples.labels) < (2 if any(report.examples.answers) or not len(report.examples) else 1):
        raise DataError(
            sentence(
                f"The usable examples of {report.examples.source}",
                "have at least 2 different labels",
                f"{len(report.examples.labels)}{example}",
                "Add examples of another class.",
            )
        )


def show_audit(report: Audit, screen: Screen) -> None:
    """The audit on the screen: one line of counts, then each kind of finding with its first names."""
    labels = Counter(answer for answer in report.examples.answers if answer and report.answers in ("labels", "people"))
    smallest, largest = min(labels.values(), default=0), max(labels.values(), default=0)
    screen.say(
        f"Audit       {len(report.examples)} usable of {report.total} files"
        + (f" in {len(labels)} classes ({smallest}-{largest} each)" if labels else "")
        + f", {len(report.excluded)} excluded, {duration(report.seconds)}"
    )
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_kind[finding.kind + (" (excluded)" if finding.excluded else "")].append(finding)
    for kind, found in by_kind.items():
        screen.warn(f"{kind}: {len(found)}")
        for finding in found[:SHOWN]:
            screen.say(f"    {finding.name}: {finding.detail}")
        if len(found) > SHOWN:
            screen.say(f"    … and {len(found) - SHOWN} more (all in audit.json)")
    for note in report.examples.notes:
        screen.say("            " + note)


# ---------------------------------------------------------------- decoding all of them, remembering what was seen


def _inspect_all(examples: Examples, input: Input, settings: Settings, screen: Screen) -> list[Inspection]:
    """One Inspection per example; files that did not change since the last time are not decoded again."""
    memory_path = _memory_path(examples, input, settings)
    memory = _remember(memory_path)
    stamps = [_stamp(raw) for raw in examples.raws]
    inspections: list[Inspection | None] = [memory.get(stamp) if stamp else None for stamp in stamps]
    todo = [index for index, inspection in enumerate(inspections) if inspection is None]
    if not todo:
        return [inspection for inspection in inspections if inspection is not None]
    saved = time.monotonic()
    with screen.progress(f"Decoding {len(todo)} {input.plural}", len(todo)) as bar, Workers(cores(settings)) as workers:
        for start in range(0, len(todo), 256):
            chunk = todo[start : start + 256]
            for index, inspection in zip(chunk, workers.map(lambda index: input.inspect(examples.raws[index]), chunk), strict=True):
                inspections[index] = inspection
            bar.advance(start + len(chunk))
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                _keep(memory_path, stamps, inspections)
                saved = time.monotonic()
    _keep(memory_path, stamps, inspections)
    return [inspection for inspection in inspections if inspection is not None]


def _stamp(raw: Any) -> str:
    if not isinstance(raw, (FileRaw, PartRaw, ZipRaw)):
        return ""
    try:
        return raw.stamp()
    except OSError:
        return ""


def _memory_path(examples: Examples, input: Input, settings: Settings) -> Path:
    identity = f"{MEMORY_VERSION}|{os.path.abspath(examples.source)}|{input.kind}|{settings.max_pixels}|{input.inspected_as()}"
    return cache_folder(settings) / f"inspections-{hashlib.blake2b(os.fsencode(identity), digest_size=12).hexdigest()}.json"


def _remember(path: Path) -> dict[str, Inspection]:
    try:
        rows = json.loads(path.read_text("utf-8", "surrogateescape"))
        return {stamp: Inspection(p, d, tuple(map(tuple, w)), c, f, tuple(s)) for stamp, (p, d, w, c, f, s) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(path: Path, stamps: Sequence[str], inspections: Sequence[Inspection | None]) -> None:
    """Only what is usable: a bad file may be mended by new permissions or a new decoder, which its stamp does not show."""
    rows = {
        stamp: dataclasses.astuple(inspection)
        for stamp, inspection in zip(stamps, inspections, strict=True)
        if stamp and inspection and not inspection.problem
    }
    if rows:
        with locked(path):
            write_json(path, rows, indent=None)


# ---------------------------------------------------------------- what is said about the whole


def _drop_untrained_labels(good: Examples, kept: list[Inspection], findings: list[Finding]) -> tuple[Examples, list[Inspection]]:
    """Labels that stand only in a given test or validation part cannot be learned: left out by name."""
    if not any(good.parts):
        return good, kept
    trained = {answer for answer, part in zip(good.answers, good.parts, strict=True) if part in ("", "train")}
    stay = [index for index, answer in enumerate(good.answers) if answer in trained]
    for index in sorted(set(range(len(good))) - set(stay)):
        findings.append(Finding(good.names[index], "untrained-label", f"no training example has the label {good.answers[index]}", True))
    return good.take(stay), [kept[index] for index in stay]


def _same(input: Input, examples: Examples, first: int, second: int) -> bool:
    try:
        return input.same(examples.raws[first], examples.raws[second])
    except DataError:
        return False


def _about_duplicates(examples: Examples, duplicates: Duplicates) -> list[Finding]:
    findings = []
    for group in duplicates.exact:
        for index in group[1:]:
            first = examples.names[group[0]]
            findings.append(Finding(examples.names[index], "duplicate", f"same content as {first}"))
            if examples.answers[index] != examples.answers[group[0]]:
                detail = f"same content as {first}, but labeled {examples.answers[index]}, not {examples.answers[group[0]]}"
                findings.append(Finding(examples.names[index], "contradiction", detail))
    how = "kept on one side of the split" if duplicates.copies else "too many to be copies: reported, not grouped"
    findings.extend(
        Finding(examples.names[second], "near-duplicate", f"looks like {examples.names[first]} ({how})")
        for first, second in duplicates.near
    )
    return findings


def _about_labels(examples: Examples) -> list[Finding]:
    counts = Counter(examples.answers)
    if not any(examples.answers):
        return []
    findings = [
        Finding(label, "single-example", "a label with one example cannot be tested fairly")
        for label, count in sorted(counts.items())
        if count == 1
    ]
    if (counts and max(counts.values()) > IMBALANCE * float(np.median(list(counts.values())))) or (
        counts and max(counts.values()) > IMBALANCE * max(2, min(counts.values()))
    ):
        (most, many), (least, few) = counts.most_common(1)[0], counts.most_common()[-1]
        findings.append(Finding(most, "imbalance", f"{many} examples, but {least} has {few}"))
    folded: dict[str, set[str]] = defaultdict(set)
    for label in counts:
        folded[label.strip().casefold()].add(label)
    findings.extend(
        Finding(min(names), "similar-labels", "labels that differ only in case or spaces: " + ", ".join(sorted(names)))
        for names in folded.values()
        if len(names) > 1
    )
    return findings

"""The split: by content, stable, and without leaks. Properties are tested on audits without files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import made_audit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.data.audit import Audit
from lamina.data.split import FOLDS, TEST_SHARE, VALIDATION_SHARE, Split, bucket, divide, load_split, save_split
from lamina.errors import DataError

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def content(number: int, salt: str = "") -> str:
    return hashlib.blake2b(f"{salt}{number}".encode(), digest_size=16).hexdigest()


@st.composite
def audits(draw: Any, parts: bool | None = None, most: int = 120) -> Audit:
    """Audits with copies, groups, near copies, contradictions and (perhaps) given parts."""
    count = draw(st.integers(30, most))
    salt = str(draw(st.integers(0, 999)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    distinct = max(20, int(count * draw(st.sampled_from([0.5, 0.9, 1.0]))))
    contents = [content(int(number), salt) for number in random.integers(0, distinct, count)]
    answers = [f"label {number}" for number in random.integers(0, draw(st.integers(2, 5)), count)]
    groups = [f"g{number}" if number < 12 else "" for number in random.integers(0, draw(st.sampled_from([13, 40])), count)]
    if draw(st.booleans()):
        groups = [""] * count
    near = []
    for _ in range(draw(st.integers(0, 5))):
        one, two = random.integers(0, count, 2)
        near += [(int(one), int(two))] if contents[one] != contents[two] else []
    given_parts = draw(st.booleans()) if parts is None else parts
    names = draw(st.sampled_from([("train", "test"), ("train", "validation", "test"), ("train", "validation"), ("", "test")]))
    chosen = [names[number] for number in random.integers(0, len(names), count)] if given_parts else []
    return made_audit(contents, answers, chosen, groups, near)


def parted(report: Audit, saved: dict[str, Any] | None = None) -> Split | None:
    """The split, or None where these few units cannot fill the parts (which is told as a DataError)."""
    try:
        return divide(report, saved)
    except DataError:
        return None


def places(split: Split) -> list[Any]:
    return list(split.parts) if split.folds is None else list(split.folds)


def taken(report: Audit, order: list[int]) -> Audit:
    """The same examples in another order (or some of them)."""
    where = {index: place for place, index in enumerate(order)}
    near = [(where[one], where[two]) for one, two in report.duplicates.near if one in where and two in where]
    examples = report.examples.take(order)
    return made_audit([report.inspections[i].content for i in order], examples.answers, examples.parts, examples.groups, near)


def large(count: int = 3000, labels: int = 3, salt: str = "large", **more: Any) -> Audit:
    return made_audit([content(n, salt) for n in range(count)], [f"label {n % labels}" for n in range(count)], **more)


@QUICK
@given(audits())
def test_each_example_has_one_place(report: Audit) -> None:
    """Every example stands in exactly one part, or in exactly one fold whose network is tested on it once."""
    if (split := parted(report)) is None:
        return
    count = len(report.examples)
    assert len(split.parts) == count
    if split.folds is None:
        assert set(split.parts) <= {"train", "validation", "test", "left-out"}
        assert sum(len(split.indices(part)) for part in ("train", "validation", "test", "left-out")) == count
        assert split.left_out == len(split.indices("left-out"))
        assert split.indices("train")
        assert split.indices("test")
    else:
        tested = Counter(index for number in range(FOLDS) for index in split.fold(number)[1])
        assert tested == dict.fromkeys(range(count), 1)
        for number in range(FOLDS):
            learned, held = split.fold(number)
            assert sorted(learned + held) == list(range(count))
            assert held


@QUICK
@given(audits())
def test_copies_never_straddle(report: Audit) -> None:
    """Equal contents stand on one side, given parts or not; training copies of given test examples are left out."""
    if (split := parted(report)) is None:
        return
    sides = defaultdict(set)
    for inspection, place in zip(report.inspections, places(split), strict=True):
        sides[inspection.content].add(place)
    assert all(len(found - {"left-out"}) == 1 for found in sides.values())


@QUICK
@given(audits(parts=True))
def test_given_parts_are_kept(report: Audit) -> None:
    """Given test examples stay in the test part; nothing else is added to it where it is given."""
    if (split := parted(report)) is None:
        return
    for was, now in zip(report.examples.parts, split.parts, strict=True):
        assert (was == "test") == (now == "test") or "test" not in report.examples.parts
        assert was != "validation" or now in ("validation", "left-out")


@QUICK
@given(audits(parts=False))
def test_groups_and_near_copies_never_straddle(report: Audit) -> None:
    """All of one group, and confirmed near copies, stand on one side."""
    if (split := parted(report)) is None:
        return
    side = places(split)
    by_group = defaultdict(set)
    for group, place in zip(report.examples.groups, side, strict=True):
        by_group[group].add(place)
    assert all(len(found) == 1 for group, found in by_group.items() if group)
    assert all(side[one] == side[two] for one, two in report.duplicates.near)
    assert split.near_test == []


@QUICK
@given(audits(), st.randoms(use_true_random=False))
def test_order_does_not_matter(report: Audit, random: Any) -> None:
    """The same data in another order get the same parts."""
    order = list(range(len(report.examples)))
    random.shuffle(order)
    first, second = parted(report), parted(taken(report, order))
    assert (first is None) == (second is None)
    if first and second:
        assert [places(first)[index] for index in order] == places(second)


@QUICK
@given(audits(parts=False, most=160), st.integers(0, 10**6))
def test_saved_split_moves_nothing(report: Audit, number: int) -> None:
    """With the saved split, old examples keep their place when others come, go, or change order, and no group is torn."""
    if (split := parted(report)) is None:
        return
    saved = json.loads(json.dumps(save_split(split, report)))
    count = len(report.examples)
    again = divide(report, saved)
    assert places(again) == places(split)
    contents = [inspection.content for inspection in report.inspections]
    members = [index for index, group in enumerate(report.examples.groups) if group]
    new_group = report.examples.groups[members[number % len(members)]] if members else "new"
    more = made_audit(
        [*contents, content(number, "new"), content(number, "newer"), contents[number % count]],
        [*report.examples.answers, "label 0", "label 1", "label 1"],
        groups=[*report.examples.groups, "", new_group, ""],
        near=[*report.duplicates.near, (number % count, count)],
    )
    later = divide(more, saved)
    side = places(later)
    assert side[:count] == places(split)
    assert side[count] == side[number % count], "a new near copy goes where its original is"
    assert side[count + 2] == side[number % count], "a new copy goes where its original is"
    assert all(side[index] == side[count + 1] for index in members if report.examples.groups[index] == new_group)


@QUICK
@given(audits(parts=True))
def test_saved_split_of_given_parts(report: Audit) -> None:
    """Dividing again with the own saved split (as `resume` does) gives the same parts, copies left out included."""
    if (split := parted(report)) is None:
        return
    saved = json.loads(json.dumps(save_split(split, report)))
    assert set(saved["parts"]) == {inspection.content for inspection in report.inspections}
    assert divide(report, saved).parts == split.parts


@settings(QUICK, max_examples=9)
@given(st.integers(0, 10**9), st.sampled_from([156, 900, 2400]))
def test_new_example_moves_no_other(number: int, count: int) -> None:
    """Without a saved split too, where each class has 50 units or more."""
    before = divide(large(count))
    contents = [content(n, "large") for n in range(count)]
    after = divide(made_audit([content(number, "new"), *contents], ["label 1", *(f"label {n % 3}" for n in range(count))]))
    assert places(after)[1:] == places(before)
    fewer = divide(made_audit(contents[1:], [f"label {n % 3}" for n in range(1, count)]))
    assert places(fewer) == places(before)[1:]


@settings(QUICK, max_examples=6)
@given(st.integers(0, 10**6))
def test_shares(salt: int) -> None:
    """Parts of large classes are near their shares; those of small classes are exact to one example; folds are even."""
    count = 4000
    split = divide(large(count, 2, str(salt)))
    assert split.folds is None
    for part, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        assert abs(len(split.indices(part)) - share * count) < 6 * (count * share * (1 - share)) ** 0.5
    small = large(40 * 60, 60, str(salt))
    parts = divide(small).parts
    for label in small.examples.labels:
        mine = Counter(part for part, answer in zip(parts, small.examples.answers, strict=True) if answer == label)
        assert abs(mine["test"] - TEST_SHARE * 40) <= 1
        assert abs(mine["validation"] - VALIDATION_SHARE * 40) <= 1
    few = divide(large(200, 10, str(salt)))
    assert few.folds is not None
    assert set(Counter(few.folds).values()) == {40}


@QUICK
@given(st.lists(st.text(max_size=20), min_size=1, max_size=50))
def test_bucket(keys: list[str]) -> None:
    """A number in [0, 1) for any text, the same each time."""
    assert all(0 <= bucket(key) < 1 and bucket(key) == bucket(key) for key in keys)
    assert 0 <= bucket("caf\udce9") < 1


def test_bucket_is_the_same_for_ever() -> None:
    """A changed hash would move everyone's test examples."""
    assert bucket("lamina") == 0.2806900928686739


def test_split_is_cross_fitted_below_2000() -> None:
    """Below 2,000 examples five folds, said in a note; a given part or more examples: parts."""
    few = divide(large(1999))
    assert few.folds is not None
    assert set(few.parts) == {"train"}
    assert "cross-fitting" in few.notes[0]
    assert divide(large(2000)).folds is None
    assert divide(large(100, parts=["train"] * 80 + ["test"] * 20)).folds is None


def test_saved_folds_say_nothing_of_given_parts() -> None:
    """A split.json of a cross-fitted run does not pull given test examples into training; one of parts keeps its parts."""
    report = large(100)
    saved = save_split(divide(report), report)
    given_report = large(100, parts=["train"] * 80 + ["test"] * 20)
    assert divide(given_report, saved).indices("test") == list(range(80, 100))
    grown = large(2500)
    assert divide(grown, saved).folds is not None
    of_parts = save_split(divide(grown), grown)
    assert divide(report, of_parts).folds is None


def test_training_copies_of_test_examples_leave() -> None:
    """Given parts: the test example stays, its copies in training and validation are left out and counted; near ones are reported."""
    contents = ["same", "near", "x", "y", "same", "same", "original"]
    parts = ["train", "train", "train", "train", "validation", "test", "test"]
    split = divide(made_audit(contents, ["cat"] * 3 + ["dog"] * 4, parts, near=[(1, 6)]))
    assert split.parts == ["left-out", "train", "train", "train", "left-out", "test", "test"]
    assert (split.left_out, split.near_test) == (2, [6])


def test_too_few_to_split() -> None:
    """Four groups make no five folds, and one group no two parts."""
    with pytest.raises(DataError, match="at least 5 groups"):
        divide(made_audit([content(n) for n in range(40)], ["cat", "dog"] * 20, groups=[f"g{n % 4}" for n in range(40)]))
    with pytest.raises(DataError, match=r"The test part of made must hold at least one example\. Got 0\."):
        divide(large(2100, groups=["one"] * 2100))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", '{"parts": {}}', '{"parts": [], "folds": null}', '{"parts": {"a": "tset"}, "folds": null}',
        '{"parts": {"a": "test"}, "folds": [1]}', '{"parts": {"a": "train"}, "folds": {"a": 5}}',
        '{"parts": {"a": ["train"]}, "folds": null}',
    ],
)  # fmt: skip
def test_saved_split_that_is_none(text: str, tmp_path: Path) -> None:
    """A file that is no split.json is told as such."""
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"The saved split .* must "):
        load_split(tmp_path / "split.json")
    with pytest.raises(DataError, match=r"The saved split .* must "):
        load_split(tmp_path / "nothing.json")


def test_saved_split_that_is_one(tmp_path: Path) -> None:
    """What save_split gives comes back through a file."""
    report = large(300)
    saved = save_split(divide(report), report)
    (tmp_path / "split.json").write_text(json.dumps(saved))
    assert load_split(tmp_path / "split.json") == saved

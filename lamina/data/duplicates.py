"""Copies among the examples: exact ones by content, near ones proposed by fingerprint and confirmed on the values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Near = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(fingerprints uint64, as many others) -> which pairs may be copies."""
MOST_BITS = 3
"""Fingerprints that differ in more bits are not proposed. Four bands of 16 bits find all pairs up to 3 bits apart."""
CROWD = 40
"""A band value shared by more examples than this says 'alike', not 'copied'."""
MOST_CONFIRMED = 2000
TOO_MANY = 0.05
"""When confirmed pairs touch more than this share of the examples, they are alike by nature, not copies."""


@dataclass(frozen=True)
class Duplicates:
    exact: list[list[int]]
    """Groups of indices with the same content."""
    near: list[tuple[int, int]]
    """Confirmed pairs with different content."""
    proposed: int
    """Pairs whose fingerprints are near."""
    copies: bool
    """Whether the near pairs are few enough to be copies (then they are grouped) or alike by nature (then only reported)."""


def few_bits_apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which pairs of fingerprints differ in at most MOST_BITS bits."""
    return np.bitwise_count(one ^ other) <= MOST_BITS


def find_duplicates(
    contents: Sequence[str], fingerprints: Sequence[int], confirm: Callable[[int, int], bool], near: Near = few_bits_apart
) -> Duplicates:
    """Exact and near duplicates among n examples: pairs whose fingerprints share one of four bands of 16 bits and are `near`, where
    `confirm(i, j)`, which compares the two values themselves, says so."""
    by_content: dict[str, list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        by_content[content].append(index)
    exact = [group for group in by_content.values() if len(group) > 1]
    firsts = np.array([group[0] for group in by_content.values()], np.int64)
    pairs, crowded = _propose(np.array([fingerprints[index] for index in firsts], np.uint64), near)
    if len(pairs) > MOST_CONFIRMED:
        chosen = np.random.Generator(np.random.Philox(key=len(pairs))).choice(len(pairs), MOST_CONFIRMED, replace=False)
        pairs, sampled = pairs[np.sort(chosen)], len(pairs) / MOST_CONFIRMED
    else:
        sampled = 1.0
    confirmed = [(int(firsts[i]), int(firsts[j])) for i, j in pairs if confirm(int(firsts[i]), int(firsts[j]))]
    touched = len({index for pair in confirmed for index in pair}) * sampled
    copies = sampled == 1.0 and not (crowded and confirmed) and touched <= max(4, TOO_MANY * len(contents))
    return Duplicates(exact, confirmed, round(len(pairs) * sampled), copies)


def _propose(prints: np.ndarray, near: Near) -> tuple[np.ndarray, bool]:
    """(pairs [m, 2] of positions whose fingerprints are near, whether crowds were passed over)."""
    found: list[np.ndarray] = []
    crowded = False
    for band in range(4):
        values = ((prints >> np.uint64(16 * band)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
        for start, stop in zip(starts, np.r_[starts[1:], len(order)], strict=True):
            members = order[start:stop]
            if len(members) > CROWD:
                crowded = True
                members = members[:CROWD]
            if len(members) > 1:
                first, second = np.triu_indices(len(members), 1)
                alike = near(prints[members[first]], prints[members[second]])
                found.append(np.stack([members[first[alike]], members[second[alike]]], 1))
    if not found:
        return np.empty((0, 2), np.int64), crowded
    pairs = np.unique(np.sort(np.concatenate(found), 1), axis=0)
    return pairs, crowded


def components(count: int, links: Sequence[Sequence[int]]) -> list[int]:
    """For each of `count` items the smallest index of its connected component (union-find)."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for link in links:
        for other in link[1:]:
            one, two = root(link[0]), root(other)
            parent[max(one, two)] = min(one, two)
    return [root(item) for item in range(count)]

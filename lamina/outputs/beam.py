"""From how likely each letter is at each step to a text: the best path, or a search among texts with what is known of words.

Steps are those of CTC (Graves et al. 2006, https://doi.org/10.1145/1143844.1143891): a letter, or nothing (0, the blank); equal neighbors
are one. The search keeps prefixes: Hannun et al. 2014, https://arxiv.org/abs/1408.2873.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lamina.outputs.sentences import BEGIN, ORDER, Sentences

WIDTH, CANDIDATES = 16, 12
"""Prefixes that are kept at each step, and texts that are told at the end."""
LIKELY = -5.0
"""Letters less likely than this (nats below the best) are not looked at."""
SURE = math.log(0.9999)
"""Where the blank is so likely nothing else is looked at."""
NEVER = -1e30


@dataclass(frozen=True)
class Found:
    """One text that the steps may say."""

    text: str
    heard: float
    """Natural logarithm of its probability by the steps."""
    words: float
    """The same by the words that it is made of …"""
    count: int
    """… and how many they are."""

    def worth(self, weight: float, bonus: float) -> float:
        return self.heard + weight * self.words + bonus * self.count


def best_path(chances: np.ndarray) -> list[int]:
    """The letters [T, count] -> the most likely at each step, neighbors joined, blanks left out."""
    best = chances.argmax(1)
    kept = best[np.flatnonzero(np.r_[True, best[1:] != best[:-1]])] if len(best) else best
    return [int(each) for each in kept if each]


def search(chances: np.ndarray, letters: Sequence[str], sentences: Sentences, weight: float, bonus: float) -> list[Found]:
    """Texts with natural logarithms of probabilities [T, 1 + letters], the best first. A space ends a word."""
    beam: dict[str, tuple[float, float]] = {"": (0.0, NEVER)}
    """prefix -> log probability that it ends with a blank, or with its last letter."""
    words: dict[str, tuple[float, int]] = {"": (0.0, 0)}
    """What the words of each prefix that are whole are worth, and how many they are."""

    def known(prefix: str) -> tuple[float, int]:
        if prefix not in words:
            value, count = known(prefix[:-1])
            if prefix[-1] == " " and (pieces := prefix[:-1].split(" "))[-1]:
                before = [BEGIN] * (ORDER - 1) + pieces[:-1]
                value, count = value + sentences.chance(pieces[-1], before[-(ORDER - 1) :]), count + 1
            words[prefix] = (value, count)
        return words[prefix]

    def worth(prefix: str, pair: tuple[float, float]) -> float:
        value, count = known(prefix)
        if part := prefix[prefix.rfind(" ") + 1 :]:
            value, count = value + sentences.begun(part), count + 1
        return _sum(*pair) + weight * value + bonus * count

    for row in chances:
        if row[0] > SURE:
            beam = {prefix: (_sum(*pair) + float(row[0]), NEVER) for prefix, pair in beam.items()}
            continue
        likely = [int(each) for each in np.flatnonzero(row >= row.max() + LIKELY) if each]
        later: dict[str, tuple[float, float]] = {}

        def add(prefix: str, blank: float, letter: float, later: dict[str, tuple[float, float]] = later) -> None:
            one, other = later.get(prefix, (NEVER, NEVER))
            later[prefix] = (_sum(one, blank), _sum(other, letter))

        for prefix, (blank, letter) in beam.items():
            both = _sum(blank, letter)
            add(prefix, both + float(row[0]), NEVER)
            for index in likely:
                chance, sign = float(row[index]), letters[index - 1]
                if sign == " " and prefix[-1:] in ("", " "):  # a pause after a pause, or before the first word, says nothing new
                    add(prefix, both + chance if not prefix else NEVER, both + chance if prefix else NEVER)
                elif prefix[-1:] == sign:
                    add(prefix, NEVER, letter + chance)
                    add(prefix + sign, NEVER, blank + chance)
                else:
                    add(prefix + sign, NEVER, both + chance)
        kept = sorted(later, key=lambda prefix: -worth(prefix, later[prefix]))[:WIDTH]
        beam = {prefix: later[prefix] for prefix in kept}
    found: dict[str, Found] = {}
    for prefix, pair in beam.items():
        text = prefix.strip()
        value, count = known(text + " ") if text else (0.0, 0)
        before = ([BEGIN] * (ORDER - 1) + text.split())[-(ORDER - 1) :]
        one = Found(text, _sum(*pair), value + sentences.chance(BEGIN, before), count)
        if text not in found or one.heard > found[text].heard:
            found[text] = one
    return sorted(found.values(), key=lambda each: -each.worth(weight, bonus))[:CANDIDATES]


def _sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    if one < other:
        one, other = other, one
    return one if other <= NEVER else one + math.log1p(math.exp(other - one))


def aligned(chances: np.ndarray, letters: Sequence[int]) -> list[tuple[int, float]]:
    """(step, natural logarithm of its probability there) of each letter of a text, along the likeliest path [T, count] that says it; empty
    where there are fewer steps than letters (Viterbi)."""
    if not letters or len(chances) < len(letters):
        return []
    signs = np.zeros(2 * len(letters) + 1, np.int64)
    signs[1::2] = letters
    skips = np.r_[False, False, (signs[2:] != 0) & (signs[2:] != signs[:-2])]
    score = np.full(len(signs), NEVER)
    score[:2] = chances[0, signs[:2]]
    came = np.zeros((len(chances), len(signs)), np.int8)
    for step in range(1, len(chances)):
        ways = np.stack([score, np.r_[NEVER, score[:-1]], np.where(skips, np.r_[NEVER, NEVER, score[:-2]], NEVER)])
        came[step] = ways.argmax(0)
        score = ways.max(0) + chances[step, signs]
    place = len(signs) - 1 if score[-1] >= score[-2] else len(signs) - 2
    if score[place] <= NEVER / 2:
        return []
    found: list[tuple[int, float]] = []
    for step in range(len(chances) - 1, -1, -1):
        before = place - int(came[step, place])
        if place % 2 and (step == 0 or before != place):
            found.append((step, float(chances[step, signs[place]])))
        place = before
    return found[::-1]

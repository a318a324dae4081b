"""Which words follow on which: counts of words in the training texts, that help to choose among what was heard."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.errors import ModelFileError, sentence

ORDER = 3
MOST_KEPT = 200_000
"""Runs of words that are kept, the most frequent ones."""
DISCOUNT = 0.75
"""Of interpolated Kneser-Ney smoothing (Ney, Essen & Kneser 1994, https://doi.org/10.1006/csla.1994.1001) …"""
BEGIN, UNKNOWN = "<s>", "<unknown>"
LETTER = math.log(1 / 30)
"""… and what each letter of a word costs that the training texts do not have."""


@dataclass(frozen=True)
class Sentences:
    """Runs of up to ORDER words with how often they stand in the training texts, as (words, count)."""

    runs: tuple[tuple[tuple[str, ...], int], ...] = ()

    @classmethod
    def counted(cls, texts: Iterable[str]) -> Sentences:
        """From normalized texts."""
        counts: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            words = [BEGIN] * (ORDER - 1) + text.split() + [BEGIN]
            for end in range(ORDER - 1, len(words)):
                counts.update(tuple(words[end - size : end + 1]) for size in range(ORDER))
        return cls(tuple(sorted(counts.most_common(MOST_KEPT))))

    def __bool__(self) -> bool:
        return bool(self.runs)

    @functools.cached_property
    def _tables(self) -> tuple[list[dict[tuple[str, ...], float]], list[dict[tuple[str, ...], tuple[float, float]]]]:
        """Per length: count of a run (of shorter ones: after how many words it stands); sum and number of what follows a context."""
        counts: list[dict[tuple[str, ...], float]] = [defaultdict(float) for _ in range(ORDER)]
        for run, count in self.runs:
            size = len(run) - 1
            if size == ORDER - 1:
                counts[size][run] += count
            if size > 0:
                counts[size - 1][run[1:]] += 1
        contexts: list[dict[tuple[str, ...], tuple[float, float]]] = []
        for table in counts:
            sums: dict[tuple[str, ...], tuple[float, float]] = {}
            for run, value in table.items():
                total, kinds = sums.get(run[:-1], (0.0, 0.0))
                sums[run[:-1]] = (total + value, kinds + 1)
            contexts.append(sums)
        return counts, contexts

    def chance(self, word: str, before: Sequence[str]) -> float:
        """Natural logarithm of the probability of a word (or BEGIN: that the text ends) after the words `before`."""
        counts, contexts = self._tables
        known = len(counts[0]) + 1
        found = 1 / known
        for size in range(ORDER):
            context = tuple(before[len(before) - size :]) if size else ()
            if len(context) < size or context not in contexts[size]:
                break
            total, kinds = contexts[size][context]
            value = counts[size].get((*context, word), 0.0)
            found = (max(0.0, value - DISCOUNT) + DISCOUNT * kinds * found) / total
        unseen = LETTER * len(word) if word != BEGIN and (word,) not in counts[0] else 0.0
        return math.log(found) + unseen

    @functools.cached_property
    def _begun(self) -> dict[str, float]:
        """By how words begin: the most that one of them is worth, whatever stands before it."""
        best: dict[str, float] = {}
        for word in (run[0] for run, _ in self.runs if len(run) == 1 and run[0] != BEGIN):
            value = self.chance(word, ())
            for end in range(1, len(word) + 1):
                best[word[:end]] = max(value, best.get(word[:end], value))
        return best

    def begun(self, letters: str) -> float:
        """Natural logarithm of the most that a word which begins with `letters` is worth: so a search does not put off what a word costs
        until it ends (Ortmanns et al. 1996, https://doi.org/10.1109/ICSLP.1996.607215)."""
        return self._begun[letters] if letters in self._begun else self.chance(letters, ())

    def state(self) -> list[list[Any]]:
        return [[" ".join(run), count] for run, count in self.runs]

    @classmethod
    def from_state(cls, state: Any) -> Sentences:
        """Raises ModelFileError when `state` is not one."""
        try:
            runs = tuple((tuple(str(run).split(" ")), int(count)) for run, count in state)
            good = isinstance(state, list) and len(runs) <= MOST_KEPT
            good = good and all(1 <= len(run) <= ORDER and 1 <= count < 10**12 for run, count in runs)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ModelFileError(
                sentence("The words of the model", f"be runs of up to {ORDER} words with their counts", type(state).__name__)
            )
        return cls(runs)

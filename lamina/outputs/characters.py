"""What was said: letters at each step in time, and a text made of them (CTC)."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import ModelFileError, sentence
from lamina.layers import Context, Layer, Linear, padded
from lamina.metrics import edits
from lamina.outputs.base import Answer, Output, Progress
from lamina.outputs.beam import aligned, best_path, search
from lamina.outputs.sentences import Sentences

STEP_SECONDS = 0.04
"""From one step of the answering layer to the next: four frames of 10 ms."""
AGREEMENT = 0.2
"""What it counts that two masked views of a recording are heard alike (Yao et al. 2025, CR-CTC, https://arxiv.org/abs/2410.05101)."""
CUT_FROM, CUT_AFTER = 1_000, 250
"""Steps (of 40 ms) of a recording that are made a text at once, and after which it may be cut where it is longer."""
MOST_LETTERS = 5_000
WEIGHTS, BONUSES = (0.0, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2), (-1.0, 0.0, 1.0, 2.0, 3.0)
"""What words count against what is heard, and each word for itself: chosen on held-out recordings …"""
SEARCHED = (0.5, 1.0)
"""… among the texts that a search with these finds."""
MOST_CHOSEN_ON = 200
NO_SENTENCES = Sentences()
KEPT = re.compile(r"[^\w\s']|_")


def spoken(text: str) -> str:
    """What is compared: NFC, lower case, letters, digits and apostrophes inside words; everything else parts words."""
    bare = KEPT.sub(" ", unicodedata.normalize("NFC", text).replace("’", "'").casefold())
    return " ".join(word.strip("'") for word in bare.split() if word.strip("'"))


@dataclass(frozen=True)
class Word:
    """A word that was heard, its seconds, and how sure."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript(Answer):
    """What was said; `label` is the text, `probability` that of its letters where they were heard, the mean over them."""

    words: tuple[Word, ...] = ()
    heard: str = ""
    """The text of the likeliest letters alone, without what is known of words."""


@dataclass(frozen=True)
class CharactersOutput(Output):
    """A letter or nothing at each step. The letters are those of the training texts; the words, too, help to choose a text."""

    kind: ClassVar[str] = "characters"
    seconds_each: ClassVar[float] = 0.06

    letters: tuple[str, ...] = ()
    """The first is number 1; 0 is the blank."""
    sentences: Sentences = NO_SENTENCES
    weight: float = 0.0
    """What the words count; 0: the likeliest letters are the text."""
    bonus: float = 0.0

    def fit(self, answers: Sequence[Any]) -> CharactersOutput:
        texts = [spoken(answer) for answer in answers]
        return replace(self, letters=tuple(sorted({" "}.union(*texts))), sentences=Sentences.counted(texts))

    def decided(self) -> str:
        told = "".join(letter for letter in self.letters if letter != " ")
        return f"{len(self.letters)} letters: {told} and the space; texts in lower case, without punctuation"

    def encode(self, answer: Any) -> list[int]:
        """The numbers of the letters; those that training does not know are left out."""
        number = {letter: place + 1 for place, letter in enumerate(self.letters)}
        return [number[letter] for letter in spoken(answer) if letter in number]

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """int64 [N, most letters], -1 beyond the end of each."""
        return padded(targets, -1)

    def head(self, width: int) -> Layer:
        return Linear(width, len(self.letters) + 1)

    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        """Summed over letters; where the network makes several views of each recording, of their mean, and how little they agree."""
        logits = head(hidden, context)[0].float()
        views = len(logits) // len(target)
        steps = torch.full((len(logits),), logits.shape[1]) if context.lengths is None else context.lengths
        chances = logits.log_softmax(-1)
        sizes = (target >= 0).sum(1)
        each = F.ctc_loss(
            chances.transpose(0, 1), target.clamp_min(0).repeat(views, 1), steps, sizes.repeat(views), reduction="none", zero_infinity=True
        )
        total = each.sum() / views
        if views == 2:
            real = torch.arange(logits.shape[1], device=logits.device) < steps[: len(target), None].to(logits.device)
            one, other = chances.chunk(2)
            apart = F.kl_div(one, other.detach(), reduction="none", log_target=True) + F.kl_div(
                other, one.detach(), reduction="none", log_target=True
            )
            total = total + AGREEMENT / 2 * (apart.sum(-1) * real).sum()
        return total, sizes.sum().float()

    def right(self, values: Tensor, target: Tensor, context: Context) -> Tensor:
        """1 less the share of wrong letters in each row, at least 0, by the likeliest letters."""
        found = [best_path(row) for row in self._steps(values, context)]
        wanted = [[int(each) for each in row if each >= 0] for row in target.tolist()]
        shares = [max(0.0, 1 - edits(one, other) / max(1, len(other))) for one, other in zip(found, wanted, strict=True)]
        return torch.tensor(shares, device=values.device)

    def decode(self, values: Tensor, context: Context) -> list[Transcript]:
        return [self._transcript(steps) for steps in self._steps(values, context)]

    def tensors(self, values: Tensor, context: Context) -> dict[str, Tensor]:
        """Natural logarithms of probabilities [n, steps, 1 + letters], the first that of nothing; the steps of each, [n]."""
        steps = torch.full((values.shape[0],), values.shape[1]) if context.lengths is None else context.lengths
        return {"log_probabilities": values.log_softmax(-1), "steps": steps}

    def places(self, values: Tensor, context: Context, targets: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
        """(letter, step at which it is heard) of each letter of the texts `targets`; empty where a text is longer than its recording."""
        found = []
        for steps, letters in zip(self._steps(values, context), targets, strict=True):
            heard = aligned(steps, list(letters))
            found.append([(letter, step) for letter, (step, _) in zip(letters, heard, strict=False)])
        return found

    def joined(self, parts: Sequence[Tensor], overlap: int) -> Tensor:
        """Steps [T, count] of windows that overlap by so many, in one: of an overlap the first half is taken from the earlier window."""
        kept = []
        for number, part in enumerate(parts):
            first = overlap // 2 if number else 0
            last = len(part) - (overlap - overlap // 2) if number + 1 < len(parts) else len(part)
            kept.append(part[first:last])
        return torch.cat(kept)

    def calibrate(self, values: Tensor, target: Tensor, outliers: Tensor | None, same_network: bool = True) -> CharactersOutput:
        """How much the words count, so that fewest words of held-out recordings are wrong: of each recording the mean over the texts that
        it may say, by what each is worth. On few recordings the best texts alone tell hardly one weight from another (the same mean is
        trained for by Prabhavalkar et al. 2018, https://arxiv.org/abs/1712.01818)."""
        every = max(1, len(values) // MOST_CHOSEN_ON)
        steps, wanted = self._steps(values[::every], Context()), [self.text(row) for row in target[::every].tolist()]
        if not self.sentences or not any(wanted):
            return self
        lists = [search(each, self.letters, self.sentences, *SEARCHED) for each in steps]
        errors = [np.array([_wrong_words(each.text, text) for each in found]) for found, text in zip(lists, wanted, strict=True)]

        def expected(weight: float, bonus: float) -> float:
            worths = (np.array([each.worth(weight, bonus) for each in found]) for found in lists)
            return sum(float(np.average(wrong, weights=np.exp(worth - worth.max()))) for wrong, worth in zip(errors, worths, strict=True))

        ways = [(0.0, 0.0), *itertools.product(WEIGHTS[1:], BONUSES)]
        weight, bonus = min(ways, key=lambda way: expected(*way))
        return replace(self, weight=weight, bonus=bonus)

    # ------------------------------------------------------------ parts

    def _steps(self, values: Tensor, context: Context) -> list[np.ndarray]:
        """Natural logarithms of probabilities [T, count] of each row, its padding left out: rows of zeros, where no lengths are told."""
        values = values.detach().cpu()
        if context.lengths is not None:
            lengths = context.lengths.tolist()
        else:
            lengths = [int(torch.nonzero(row.any(-1))[-1]) + 1 if row.any() else 0 for row in values]
        return [values[row, :length].float().log_softmax(-1).numpy() for row, length in enumerate(lengths)]

    def text(self, letters: Sequence[int]) -> str:
        """Of the numbers of letters; -1 is none."""
        return " ".join("".join(self.letters[letter - 1] for letter in letters if letter > 0).split())

    def _transcript(self, steps: np.ndarray) -> Transcript:
        """Of a long recording piece by piece."""
        pieces = [(first, self._piece(steps[first:end])) for first, end in itertools.pairwise(cuts_of(steps))]
        if len(pieces) == 1:
            return pieces[0][1]
        later = [
            replace(word, start=word.start + first * STEP_SECONDS, end=word.end + first * STEP_SECONDS)
            for first, piece in pieces
            for word in piece.words
        ]
        text, heard = (" ".join(each for each in told if each) for told in zip(*((p.label or "", p.heard) for _, p in pieces), strict=True))
        return Transcript(text, _mean_confidence(later), words=tuple(later), heard=heard)

    def _piece(self, steps: np.ndarray) -> Transcript:
        text = heard = self.text(best_path(steps))
        if self.weight and len(steps):
            text = search(steps, self.letters, self.sentences, self.weight, self.bonus)[0].text
        number = {letter: place + 1 for place, letter in enumerate(self.letters)}
        places = aligned(steps, [number[letter] for letter in text])
        words, first = [], 0
        for word in text.split(" ") if places else []:
            own = places[first : first + len(word)]
            chance = math.exp(sum(each for _, each in own) / max(1, len(own)))
            words.append(Word(word, own[0][0] * STEP_SECONDS, (own[-1][0] + 1) * STEP_SECONDS, chance))
            first += len(word) + 1
        return Transcript(text, _mean_confidence(words), words=tuple(words), heard=heard)

    def state(self) -> dict[str, Any]:
        return {"letters": list(self.letters), "sentences": self.sentences.state(), "weight": self.weight, "bonus": self.bonus}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CharactersOutput:
        """Raises ModelFileError when `state` is not one."""
        letters, numbers = state.get("letters"), [state.get("weight"), state.get("bonus")]
        good = isinstance(letters, list) and 1 <= len(letters) <= MOST_LETTERS and len(set(map(str, letters))) == len(letters)
        good = good and all(isinstance(letter, str) and len(letter) == 1 for letter in letters or [])
        good = good and all(isinstance(value, (int, float)) and abs(value) < 100 for value in numbers)
        if not good:
            raise ModelFileError(sentence("The output of the model", "have letters and two numbers", list(state)))
        weight, bonus = (float(value or 0) for value in numbers)
        return cls(tuple(letters or ()), Sentences.from_state(state.get("sentences")), weight, bonus)


def cuts_of(steps: np.ndarray) -> list[int]:
    """Where a long recording's steps [T, count] are cut: in the middle of the longest silence (blanks) of each stretch; 0 and T first and
    last."""
    cuts = [0]
    silent = steps[:, 0] > math.log(0.5) if len(steps) else np.zeros(0, bool)
    while len(steps) - cuts[-1] > CUT_FROM:
        first, end = cuts[-1] + CUT_AFTER, cuts[-1] + CUT_FROM
        runs, start = [], None
        for place in range(first, end + 1):
            if place < end and silent[place]:
                start = place if start is None else start
            elif start is not None:
                runs.append((place - start, start))
                start = None
        length, start = max(runs, default=(0, end))
        cuts.append(start + length // 2)
    return [*cuts, len(steps)]


def _mean_confidence(words: Sequence[Word]) -> float:
    """The geometric mean over letters."""
    letters = sum(len(word.text) for word in words)
    return math.exp(sum(len(word.text) * math.log(max(word.confidence, 1e-9)) for word in words) / letters) if letters else 0.0


def _wrong_words(found: str, wanted: str) -> int:
    return edits(found.split(), wanted.split())

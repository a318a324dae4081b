"""What is chosen next, among all items: a score for each of them, the ranks of what was chosen, the ones at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import ModelFileError, sentence
from lamina.layers import Context, Layer, TokenHead, padded
from lamina.losses import NOTHING, projected_cross_entropy
from lamina.metrics import LISTED, gain_at
from lamina.outputs.base import Output, Progress

FULL = 20_000
"""Items up to which every one of them stands in the loss; above, what was chosen stands against SAMPLED others, one set for a batch."""
SAMPLED = 1_024
TOP = 20
"""Items at the top of a list that are kept of each test user …"""
MOST_WANTED = 100
"""… and ranks of what was chosen."""
FEW_AT_ONCE = 1 << 24
"""Scores that are held at once."""


@dataclass(frozen=True)
class Ranked:
    """Of one user: where what was chosen stands among all items, and what stands at the top."""

    ranks: np.ndarray
    """From 1 on; infinite for an item that training does not know."""
    wanted: int
    """How many items were chosen, the unknown ones among them."""
    top: np.ndarray
    """Numbers of items, the best first."""

    def gain(self, listed: int = 10) -> float:
        """NDCG of the first so many."""
        return gain_at(self.ranks, self.wanted, listed)


@dataclass(frozen=True)
class ItemsOutput(Output):
    """Scores of all items after a history. What is kept of an example is where the chosen items stand (full ranking), and the top.

    What somebody chose already is not recommended again, unless people do choose things again in these data.
    """

    kind: ClassVar[str] = "items"
    measured: ClassVar[bool] = True
    checked: ClassVar[str] = "1 - NDCG@10"
    reported: ClassVar[int] = 2

    count: int = 0
    """Different numbers, 0 (the beginning) among them."""
    again: bool = False
    """Whether what was chosen may be recommended again."""
    tied: bool = True
    numbers: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def fit(self, answers: Sequence[Any]) -> ItemsOutput:
        return self

    def of_items(self, items: Sequence[str], again: bool | None = None) -> ItemsOutput:
        """The output for items of these names."""
        numbers = {name: place + 1 for place, name in enumerate(items)}
        return replace(self, count=len(items) + 1, again=self.again if again is None else again, numbers=numbers)

    def encode(self, answer: Any) -> list[int]:
        """The numbers of what was chosen, at most MOST_WANTED; 0 for an item that training does not know."""
        return [self.numbers.get(name, 0) for name in answer[:MOST_WANTED]]

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """int64 [N, most], NOTHING beyond the end of each."""
        return padded(targets, NOTHING)

    def head(self, width: int) -> Layer:
        return TokenHead(width, self.count, self.tied)

    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each next item [N, T]; of many items against some others, drawn anew for each batch, corrected for nothing: all
        are drawn alike (Klenitskiy & Vasilev 2023, https://doi.org/10.1145/3604915.3610644)."""
        assert isinstance(head, TokenHead)
        if self.count <= FULL:
            return projected_cross_entropy(hidden, head.matrix, target)
        counted = target != NOTHING
        signals, wanted = hidden[counted], target[counted]
        others = torch.randint(1, self.count, (SAMPLED,), device=hidden.device)
        own = (signals * head.matrix[wanted].to(signals.dtype)).sum(-1, keepdim=True)
        rest = F.linear(signals, head.matrix[others].to(signals.dtype)).masked_fill(others == wanted[:, None], -torch.inf)
        logits = torch.cat([own, rest], 1).float()
        return (logits.logsumexp(1) - logits[:, 0]).sum(), counted.sum().float()

    def met(self, x: Tensor, hidden: Tensor, head: Layer, target: Tensor, context: Context) -> Tensor:
        """float32 [N, 3 + MOST_WANTED + TOP]: what is missing to an NDCG@10 of 1, how many users this is (1), how many items were chosen,
        their ranks (0 beyond the last), the numbers of the items at the top."""
        found, rows = [], max(1, FEW_AT_ONCE // self.count)
        last = None if context.lengths is None else context.lengths
        for first in range(0, len(x), rows):
            part = slice(first, first + rows)
            scores = self.scores(x[part], hidden[part], head, None if last is None else last[part])
            found.append(self._met(scores, target[part]))
        return torch.cat(found)

    def scores(self, x: Tensor, hidden: Tensor, head: Layer, lengths: Tensor | None) -> Tensor:
        """float32 [N, count] after the last item of each history; what is not to be recommended at minus infinity."""
        made = head(self.last(hidden, lengths), Context(lengths))[0].float().clone()
        made[:, 0] = -torch.inf
        return made if self.again else made.scatter_(1, x.long(), -torch.inf)

    @staticmethod
    def last(hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The signals after the last item of each history, [N, width]."""
        if hidden.ndim != 3:
            return hidden
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[:, -1] if lengths is None else hidden[rows, lengths.to(hidden.device) - 1]

    def _met(self, scores: Tensor, target: Tensor) -> Tensor:
        found = scores.new_zeros(len(scores), 3 + MOST_WANTED + TOP)
        top = scores.topk(min(TOP, scores.shape[1])).indices
        found[:, 3 + MOST_WANTED : 3 + MOST_WANTED + top.shape[1]] = top.float()
        if target.ndim == 2 and target.shape[1]:
            wanted = target != NOTHING
            own = scores.gather(1, target.clamp_min(0))
            ranks = torch.full(target.shape, torch.inf, device=scores.device)
            known = torch.isfinite(own) & (target > 0)
            for place in range(target.shape[1]):  # equal scores stand before what was chosen: a constant must not look good
                rows = known[:, place].nonzero()[:, 0]  # few users chose as many as the one who chose most
                theirs = scores if len(rows) == len(scores) else scores[rows]
                ranks[rows, place] = (theirs >= own[rows, place, None]).sum(1).float()
            found[:, 2] = wanted.sum(1)
            found[:, 3 : 3 + target.shape[1]] = torch.where(wanted, ranks, 0.0)
            each = zip(ranks.cpu().numpy(), found[:, 2].long().tolist(), strict=True)
            found[:, 0] = 1 - torch.tensor([gain_at(row[:many], many) for row, many in each], device=scores.device)
        found[:, 1] = 1
        return found

    def decode(self, values: Tensor, context: Context) -> list[Ranked]:
        rows = values.double().numpy()
        made = []
        for row in rows:
            wanted = int(row[2])
            made.append(Ranked(row[3 : 3 + wanted], wanted, row[3 + MOST_WANTED :].astype(np.int64)[:LISTED]))
        return made

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "again": self.again, "tied": self.tied}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ItemsOutput:
        """Raises ModelFileError when `state` is not one."""
        count, again, tied = (state.get(name) for name in ("count", "again", "tied"))
        if not (isinstance(count, int) and 2 <= count <= 1 << 22 and isinstance(again, bool) and isinstance(tied, bool)):
            raise ModelFileError(sentence("The output of the model", "have a number of items", state))
        return cls(count, again, tied)

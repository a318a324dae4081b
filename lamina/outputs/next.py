"""The next token: a probability for each of all tokens at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import ModelFileError, sentence
from lamina.layers import Context, Layer, NGrams, TokenHead
from lamina.losses import NOTHING, cross_entropy, projected_cross_entropy
from lamina.outputs.base import Output, Progress

MOST_AT_ONCE = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Logits that are computed together where they are only summed up: on a CPU as many as stay in its cache."""


@dataclass(frozen=True)
class NextOutput(Output):
    """Which token comes next, at every step. What is kept of an example is how much it surprised: nats, tokens and bytes."""

    kind: ClassVar[str] = "next"
    measured: ClassVar[bool] = True

    count: int = 0
    """Different tokens."""
    bytes_each: tuple[int, ...] = ()
    """Bytes of UTF-8 that each token stands for, so that models of different tokens can be compared."""
    tied: bool = False
    """Whether the head's weights are the table of the first layer."""

    def fit(self, answers: Sequence[Any]) -> NextOutput:
        return self

    def of_tokens(self, bytes_each: Sequence[int]) -> NextOutput:
        """The output for tokens of so many bytes each."""
        return replace(self, count=len(bytes_each), bytes_each=tuple(int(each) for each in bytes_each))

    def encode(self, answer: Any) -> int:
        return 0

    def head(self, width: int) -> Layer:
        return TokenHead(width, self.count, self.tied)

    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        if isinstance(head, TokenHead) and torch.is_grad_enabled():
            return projected_cross_entropy(hidden, head.matrix, target)
        return cross_entropy(head(hidden, context)[0], target)

    def met(self, x: Tensor, hidden: Tensor, head: Layer, target: Tensor, context: Context) -> Tensor:
        """float32 [N, 3]: nats, tokens and bytes of the counted steps of each row; without targets all but a text's first token count."""
        target = following(x, context) if target.ndim == 1 else target
        table = torch.tensor(self.bytes_each, device=target.device)
        most = MOST_AT_ONCE["cpu" if target.device.type == "cpu" else "cuda"]
        rows, found = max(1, most // max(1, target.shape[1] * self.count)), []
        for signals, y in zip(hidden.split(rows), target.split(rows), strict=True):
            counted = y != NOTHING
            if isinstance(head, NGrams):  # it can tell of one token without the others
                nats = -head.of(signals, y) * counted
            else:
                logits = head(signals, context)[0].float()
                nats = F.cross_entropy(logits.flatten(0, -2), y.flatten(), ignore_index=NOTHING, reduction="none").view(y.shape)
            sizes = table[y.clamp_min(0)] * counted
            found.append(torch.stack([nats.sum(1), counted.sum(1).float(), sizes.sum(1).float()], 1))
        return torch.cat(found)

    def decode(self, values: Tensor, context: Context) -> list[np.ndarray]:
        """float64 [nats, tokens, bytes] for each row."""
        return list(values.double().numpy())

    def tensors(self, values: Tensor, context: Context) -> dict[str, Tensor]:
        """Logits of the token after each, [n, T, count]."""
        return {"logits": values}

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "bytes_each": list(self.bytes_each), "tied": self.tied}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NextOutput:
        """Raises ModelFileError when `state` is not one."""
        count, each, tied = (state.get(name) for name in ("count", "bytes_each", "tied"))
        good = isinstance(each, list) and all(isinstance(size, int) and 0 <= size <= 10_000 for size in each)
        good = good and isinstance(count, int) and count == len(each or []) > 0 and isinstance(tied, bool)
        if not good:
            raise ModelFileError(sentence("The output of the model", "have tokens with their bytes", state))
        return cls(count or 0, tuple(each or ()), bool(tied))


def following(x: Tensor, context: Context) -> Tensor:
    """[N, T] the token after each of rows `x`, in its own text."""
    target = torch.full_like(x, NOTHING)
    target[:, :-1] = x[:, 1:]
    if context.lengths is not None and context.segments is None:
        target[torch.arange(1, x.shape[1] + 1, device=x.device) >= context.lengths[:, None].to(x.device)] = NOTHING
    if context.segments is not None:
        target[:, :-1][(context.segments[:, :-1] != context.segments[:, 1:]) | (context.segments[:, 1:] == 0)] = NOTHING
    return target

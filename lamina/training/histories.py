"""Histories as batches: what is asked for is each next item, and of held-out users what they chose after the border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lamina.data.batches import Batch, Feed
from lamina.data.cache import moved
from lamina.inputs import HistoryInput
from lamina.outputs.next import following


@dataclass(frozen=True)
class HistoryFeed(Feed):
    """Of the training part the targets are the next items, and of a long history any stretch is learned from."""

    checked: tuple[int, ...] = ()
    """The users of the validation part, on whom the classical ways are chosen, too."""

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        assert isinstance(self.input, HistoryInput)
        if draws is None:
            made = super().batch(indices, None, detail)
            if any(self.targets[index] for index in indices):
                return made
            return made._replace(target=following(made.x, made.context))
        longest, stretches = self.input.longest, []
        for value, draw in zip(self.values.take(indices), draws[:, 1], strict=True):
            spare = max(0, len(value) - 1 - longest)
            end = len(value) - int(draw * (spare + 1))
            stretches.append(value[max(0, end - longest - 1) : end] if spare else value)
        x, context = self.input.augment(*self.input.collate(stretches), torch.from_numpy(draws))
        target = following(x, context)
        return Batch(moved(x, self.device), context.to(self.device), moved(target, self.device), indices)

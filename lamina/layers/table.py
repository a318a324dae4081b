"""Layers for rows of a table. Shapes: N rows, C columns."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer
from lamina.layers.byhand import dropped

LARGEST = 20_001
SPARSE = 16
"""Where fewer than one signal in so many is not 0, their rows are looked up in training, not multiplied."""


class Columns(Layer):
    """Numbers scaled, categories spread out: float [N, C] -> [N, features]. Measured on training rows, not trained.

    A number becomes sign(z) log(1 + |z|) of its distance z from the mean in deviations, so that a few huge ones do not outshout the rest;
    a missing one 0, with a signal beside it that says so where training had missing ones. A category of `sizes[c]` places becomes as many
    signals, one of them 1. `sizes[c]` 0: a number.
    """

    kind = "columns"
    mean: Tensor
    deviation: Tensor

    def __init__(self, sizes: list[int], flags: list[int]) -> None:
        super().__init__()
        if any(not 0 <= size <= LARGEST for size in sizes) or not sizes or len(sizes) > LARGEST:
            raise ValueError(f"there are 1 to {LARGEST} columns, each of 0 to {LARGEST} places")
        if len(set(flags)) != len(flags) or any(not 0 <= place < len(sizes) or sizes[place] for place in flags):
            raise ValueError("flags are places of numbers, each once")
        self.sizes, self.flags = list(sizes), list(flags)
        self.numbers = [place for place, size in enumerate(sizes) if size == 0]
        self.register_buffer("mean", torch.zeros(len(self.numbers)))
        self.register_buffer("deviation", torch.ones(len(self.numbers)))

    @property
    def outputs(self) -> int:
        return len(self.numbers) + len(self.flags) + sum(self.sizes)

    @classmethod
    def measured(cls, x: Tensor, sizes: list[int]) -> Columns:
        """Fitted on training rows [N, C]."""
        numbers = [place for place, size in enumerate(sizes) if size == 0]
        layer = cls(sizes, [place for place in numbers if bool(x[:, place].isnan().any())])
        for row, place in enumerate(numbers):
            known = x[:, place].double()
            known = known[~known.isnan()]
            if len(known):
                deviation = known.std(correction=0)
                layer.mean[row], layer.deviation[row] = known.mean(), deviation if deviation > 1e-9 else 1.0
        return layer

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        parts = []
        if self.numbers:
            scaled = ((x[:, self.numbers] - self.mean) / self.deviation).nan_to_num(0.0)
            parts.append(scaled.sign() * scaled.abs().log1p())
        if self.flags:
            parts.append(x[:, self.flags].isnan().float())
        for place, size in enumerate(self.sizes):
            if size:
                chosen = x[:, place, None].long().clamp(0, size - 1)
                parts.append(x.new_zeros((x.shape[0], size)).scatter(1, chosen, 1.0))
        return torch.cat(parts, 1), context


class Pairs(Layer):
    """How signals go together, two by two: [N, inputs] -> [N, 2 * width].

    Each signal has a row of `width` numbers; what comes out are their sum over the signals, and half of its square less the sum of the
    squares, which is every pair's product added up.

    Factorization machines: Rendle 2010, https://doi.org/10.1109/ICDM.2010.127; as a layer: He & Chua 2017,
    https://doi.org/10.1145/3077136.3080777.
    """

    kind = "pairs"

    def __init__(self, inputs: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not (1 <= inputs <= LARGEST * LARGEST and 1 <= width <= LARGEST):
            raise ValueError(f"the width is 1 to {LARGEST}")
        self.inputs, self.width, self.dropout = inputs, width, dropout
        self.rows = nn.Linear(inputs, width, bias=False)
        if not self.rows.weight.is_meta:
            nn.init.normal_(self.rows.weight, std=0.1 * width**-0.5)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        summed, squares = self._looked_up(x) if self.training and not x.requires_grad and x.device.type == "cpu" else self._multiplied(x)
        found = torch.cat([summed, (summed.square() - squares) / 2], 1)
        return dropped(found, self.dropout, self.training), context

    def _multiplied(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.rows(x), F.linear(x.square(), self.rows.weight.square())

    def _looked_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of the signals that are not 0 alone: of thousands of categories one a column is."""
        places = torch.from_numpy(np.flatnonzero((x != 0).numpy()))  # a tenth of the time of nonzero()
        if SPARSE * len(places) > x.numel():
            return self._multiplied(x)
        example, signal = places // x.shape[1], places % x.shape[1]
        each = self.rows.weight.t().index_select(0, signal) * x[example, signal, None]
        empty = each.new_zeros((len(x), self.width))
        return empty.index_add(0, example, each), empty.index_add(0, example, each.square())


class Dense(Layer):
    """A plain hidden layer: weighted sums, batch normalization, activation; some signals are dropped in training.

    [N, inputs] -> [N, outputs].
    """

    kind = "dense"

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.outputs, self.dropout = inputs, outputs, dropout
        self.weights = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        signals = self.weights(x)
        if self.training and len(x) == 1:  # one row has no deviation: the running statistics stand in
            norm = self.norm
            signals = F.batch_norm(signals, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            signals = self.norm(signals)
        return dropped(F.silu(signals), self.dropout, self.training), context

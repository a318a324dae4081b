"""The classical language model as a layer: how often each token followed the few tokens before it. Shapes: N rows, T steps."""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.layers.base import Context, Layer

LARGEST = 1 << 28
AT_ONCE = 1 << 25
"""Probabilities that are made at once."""


class Same(Layer):
    """Nothing is done to what comes in."""

    kind = "same"

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return x, context


class NGrams(Layer):
    """Log-probabilities of the next token, tokens [N, T] -> [N, T, count]; counted, not trained.

    Runs of up to order - 1 tokens are the contexts; each keeps which tokens followed it, discounted, and what share it leaves to the one
    that is a token shorter (interpolated Kneser-Ney with three discounts: Chen & Goodman 1999, https://doi.org/10.1006/csla.1999.0128).
    The runs of n tokens stand sorted by (number of the run without its last token, last token): a key is the one times count + the other.
    """

    kind = "ngrams"
    no_graph = "counts that are searched"

    def __init__(self, count: int, sizes: list[int]) -> None:
        """`sizes[n]`: different runs of n + 1 tokens."""
        super().__init__()
        if not sizes or len(sizes) > 12 or any(not 1 <= size <= LARGEST for size in (count, *sizes)):
            raise ValueError(f"there are 1 to 12 lengths of runs, of 1 to {LARGEST} each")
        self.count, self.sizes = count, list(sizes)
        for level, size in enumerate(sizes):
            contexts = 1 if level == 0 else sizes[level - 1]
            self.register_buffer(f"keys{level}", torch.zeros(size, dtype=torch.int64))
            self.register_buffer(f"shares{level}", torch.zeros(size))
            self.register_buffer(f"rests{level}", torch.ones(contexts))

    def numbers(self, x: Tensor) -> list[Tensor]:
        """For each length n = 1 … order: [N, T] the number of the run of n tokens that ends here, -1 where it was never counted."""
        found: list[Tensor] = []
        before = torch.zeros_like(x)
        for level in range(len(self.sizes)):
            keys = self._of("keys", level)
            wanted = torch.where(before < 0, -1, before * self.count + x)
            place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
            found.append(torch.where((keys[place] == wanted) & (wanted >= 0), place, -1))
            before = torch.cat([torch.full_like(x[:, :1], -1), found[-1][:, :-1]], 1)
        return found

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if x.is_meta:
            return x.new_empty((*x.shape, self.count), dtype=torch.float32), context
        x = x.long()
        ends = [torch.zeros_like(x), *self.numbers(x)[: len(self.sizes) - 1]]
        rows = max(1, AT_ONCE // (x.shape[1] * self.count))
        parts = [self._chances([each[start : start + rows] for each in ends]) for start in range(0, len(x), rows)]
        return torch.cat(parts), context

    def of(self, x: Tensor, wanted: Tensor) -> Tensor:
        """Log-probabilities [N, T] of the tokens `wanted` after those of `x`, without those of all others."""
        x, wanted = x.long(), wanted.long().clamp_min(0)
        chance = torch.full(x.shape, 1 / self.count)
        for level, run in enumerate([torch.zeros_like(x), *self.numbers(x)[: len(self.sizes) - 1]]):
            keys, shares, rests = (self._of(name, level) for name in ("keys", "shares", "rests"))
            known = run >= 0
            key = run.clamp_min(0) * self.count + wanted
            place = torch.searchsorted(keys, key).clamp_max(len(keys) - 1)
            share = torch.where(keys[place] == key, shares[place], 0.0)
            chance = torch.where(known, share + rests[run.clamp_min(0)] * chance, chance)
        return chance.clamp_min(1e-30).log()

    def _chances(self, ends: list[Tensor]) -> Tensor:
        flat = [each.flatten() for each in ends]
        chances = torch.full((len(flat[0]), self.count), 1 / self.count)
        for level, run in enumerate(flat):
            keys, shares, rests = (self._of(name, level) for name in ("keys", "shares", "rests"))
            known = (run >= 0).nonzero().squeeze(1)
            first = torch.searchsorted(keys, run[known] * self.count)
            many = torch.searchsorted(keys, (run[known] + 1) * self.count) - first
            chances[known] *= rests[run[known]][:, None]
            owner = torch.repeat_interleave(torch.arange(len(known)), many)
            within = torch.arange(len(owner)) - (many.cumsum(0) - many)[owner]
            place = first[owner] + within
            chances.index_put_((known[owner], keys[place] % self.count), shares[place], accumulate=True)
        return chances.clamp_min(1e-30).log().view(*ends[0].shape, self.count)

    def _of(self, name: str, level: int) -> Tensor:
        found = getattr(self, f"{name}{level}")
        assert isinstance(found, Tensor)
        return found

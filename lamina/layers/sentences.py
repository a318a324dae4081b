"""Layers of a sentence encoder in the shape of BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805), so that weights of others
can be read. Shapes: N rows, T steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers.base import Context, Layer
from lamina.layers.byhand import attend
from lamina.layers.transformer import ends, is_long, seen_by


class SentenceTokens(Layer):
    """Each token becomes a row of a table, each place adds a row of another, and the sum is brought to one size: whole numbers [N, T] ->
    [N, T, width]. Of texts with more than `places` tokens the middle is left out."""

    kind = "sentence_tokens"

    def __init__(self, count: int, width: int, places: int, epsilon: float = 1e-12) -> None:
        super().__init__()
        if not all(1 <= number <= 1 << 20 for number in (count, width, places)):
            raise ValueError(f"sizes are 1 to {1 << 20}")
        self.count, self.width, self.places, self.epsilon = count, width, places, epsilon
        self.table, self.place_table = nn.Embedding(count, width), nn.Embedding(places, width)
        self.norm = nn.LayerNorm(width, eps=epsilon)

    def shorten(self, places: int) -> None:
        """From now on no more places are known."""
        self.places = min(self.places, places)
        self.place_table = nn.Embedding.from_pretrained(self.place_table.weight[: self.places].detach(), freeze=False)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if context.lengths is not None and context.segments is None and is_long(x, self.places):
            x, lengths = ends(x, context.lengths, self.places)
            context = context._replace(lengths=lengths)
        places = torch.arange(x.shape[1], device=x.device) if context.positions is None else context.positions
        return self.norm(self.table(x.long()) + self.place_table(places.clamp_max(self.places - 1))), context


class SentenceLayer(Layer):
    """Each step looks at all steps of its text, then thinks for itself; after each of the two the sum is brought to one size.

    [N, T, width] -> [N, T, width].
    """

    kind = "sentence_layer"

    def __init__(self, width: int, heads: int, inner: int, epsilon: float = 1e-12) -> None:
        super().__init__()
        if not all(1 <= number <= 1 << 20 for number in (width, heads, inner)) or width % heads:
            raise ValueError("the width is a multiple of the heads")
        self.width, self.heads, self.inner, self.epsilon = width, heads, inner, epsilon
        self.queries, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm, self.last_norm = nn.LayerNorm(width, eps=epsilon), nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        rows, steps = x.shape[:2]
        queries, keys, values = (
            part(x).view(rows, steps, self.heads, -1).transpose(1, 2) for part in (self.queries, self.keys, self.values)
        )
        found = attend(queries, keys, values, seen_by(context, steps, causal=False))
        x = self.norm(x + self.out(found.transpose(1, 2).reshape(rows, steps, -1)))
        return self.last_norm(x + self.down(F.gelu(self.up(x)))), context

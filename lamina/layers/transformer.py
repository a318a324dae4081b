"""Layers of a transformer, in the shape of Qwen3, so that other software loads it. Shapes: N rows, T steps, W signals.

Each hidden layer adds what it found to what came in. Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; RMSNorm: Zhang & Sennrich 2019,
https://arxiv.org/abs/1910.07467; rotary positions: Su et al. 2021, https://arxiv.org/abs/2104.09864; gated MLP: Shazeer 2020,
https://arxiv.org/abs/2002.05202; grouped queries: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245; the whole: Qwen3 technical report,
https://arxiv.org/abs/2505.09388.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.layers import byhand
from lamina.layers.base import Context, Layer
from lamina.layers.byhand import Turned, attend, dropped

EPSILON = 1e-6
LARGEST = 1 << 20
SPREAD = 0.02
"""Deviation of the embeddings and weights before training."""


class Tokens(Layer):
    """Each token becomes a row of a table: whole numbers [N, T] -> [N, T, width]; some signals are dropped in training.

    Of texts with more than `longest` tokens (0: of none) the middle is left out: their ends say most.
    """

    kind = "tokens"

    def __init__(self, count: int, width: int, dropout: float = 0.0, longest: int = 0) -> None:
        super().__init__()
        _check(count, width)
        self.count, self.width, self.dropout, self.longest = count, width, dropout, longest
        self.table = nn.Embedding(count, width)
        nn.init.normal_(self.table.weight, std=SPREAD)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if self.longest and context.lengths is not None and context.segments is None and is_long(x, self.longest):
            x, lengths = ends(x, context.lengths, self.longest)
            context = context._replace(lengths=lengths)
        return dropped(self.table(x.long()), self.dropout, self.training), context


def is_long(x: Tensor, longest: int) -> bool:
    """Whether rows may have more steps than `longest`; an exported graph is for rows of any length."""
    return torch.compiler.is_exporting() or x.shape[1] > longest


def ends(x: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """(texts [N, longest or less], their lengths): the first and the last half of those that are longer."""
    steps = torch.sym_min(longest, x.shape[1])
    place = torch.arange(steps, device=x.device).expand(x.shape[0], steps)
    skipped = (lengths.to(x.device) - longest).clamp_min(0)[:, None]
    return x.gather(1, torch.where(place >= longest // 2, place + skipped, place)), lengths.clamp_max(longest)


class Attention(Layer):
    """Each step looks at the steps before it (all steps where not `causal`) of its own document: [N, T, width] -> [N, T, width].

    `heads` query heads of `size` signals share `groups` heads of keys and values; queries and keys are normed (in Llama's
    shape not), then turned by their position. In generation the keys and values of earlier steps come from the context's
    caches. `rank`: see LowRank.
    """

    kind = "attention"

    def __init__(
        self,
        width: int,
        heads: int,
        groups: int,
        size: int,
        causal: bool = True,
        base: float = 10_000.0,
        dropout: float = 0.0,
        normed: bool = True,
        epsilon: float = EPSILON,
        rank: int = 0,
    ) -> None:
        super().__init__()
        _check(width, heads, groups, size)
        if heads % groups or size % 2:
            raise ValueError("heads are a multiple of groups, and their size is even")
        self.width, self.heads, self.groups, self.size, self.causal, self.base = width, heads, groups, size, causal, base
        self.dropout, self.normed, self.epsilon, self.rank = dropout, normed, epsilon, rank
        self.norm = Norm(width, epsilon)
        self.queries = _weights(width, heads * size, rank=rank)
        self.keys = _weights(width, groups * size, rank=rank)
        self.values = _weights(width, groups * size, rank=rank)
        if normed:
            self.query_norm, self.key_norm = Norm(size, epsilon), Norm(size, epsilon)
        self.out = _weights(heads * size, width, True, rank)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        rows, steps = x.shape[:2]
        normed = in_fast_format(self.norm(x))
        queries = self.queries(normed).view(rows, steps, self.heads, self.size)
        keys = self.keys(normed).view(rows, steps, self.groups, self.size)
        values = self.values(normed).view(rows, steps, self.groups, self.size).transpose(1, 2)
        earlier = None if context.caches is None else context.caches.get(self.name)
        turn = turning(self.size, self.base, steps, context.positions, 0 if earlier is None else earlier[0].shape[2], x)
        if self.normed and byhand.learns(queries):
            queries = Turned.apply(queries, self.query_norm.weight, *turn, self.epsilon)
            keys = Turned.apply(keys, self.key_norm.weight, *turn, self.epsilon)
        else:
            queries, keys = (self.query_norm(queries), self.key_norm(keys)) if self.normed else (queries, keys)
            queries, keys = turned(queries, turn), turned(keys, turn)
        queries, keys = queries.transpose(1, 2), keys.transpose(1, 2)
        if context.caches is not None:
            if earlier is not None:
                keys, values = torch.cat([earlier[0], keys], 2), torch.cat([earlier[1], values], 2)
            context = context._replace(caches={**context.caches, self.name: (keys, values)})
        mask = self._mask(context, steps, keys.shape[2], x.device)
        plain = self.causal and mask is None and steps > 1
        found = attend(queries, keys, values, mask, plain)
        found = self.out(found.transpose(1, 2).reshape(rows, steps, -1))
        return x + dropped(found, self.dropout, self.training), context

    def _mask(self, context: Context, steps: int, known: int, device: torch.device) -> Tensor | None:
        """[N, 1, T, all steps] which step may look at which; None where every step may look at all (before it)."""
        if context.caches is not None:  # there segments say which of all steps are no padding
            real = None if context.segments is None else context.segments[:, None, None, :].bool()
            if steps == 1 or (known == steps and real is None):
                return real
            before = torch.ones(steps, known, dtype=torch.bool, device=device).tril(known - steps)[None, None]
            return before if real is None else before & real | torch.eye(steps, known, dtype=torch.bool, device=device)
        return seen_by(context, steps, self.causal)


def seen_by(context: Context, steps: int, causal: bool) -> Tensor | None:
    """[N, 1, T, T] which step may look at which, of its own text and, where `causal`, not after itself; None where rows are one text."""
    if context.segments is not None:
        same = context.segments[:, :, None] == context.segments[:, None, :]
        return (same.tril() if causal else same)[:, None]
    if context.lengths is None:
        return None
    real = torch.arange(steps, device=context.lengths.device) < context.lengths[:, None]
    before = torch.ones(steps, steps, dtype=torch.bool, device=real.device).tril(0 if causal else steps)
    return real[:, None, None, :] & before


class GatedMLP(Layer):
    """Each step for itself: a gate lets through what it has found, [N, T, width] -> `inner` signals -> [N, T, width]."""

    kind = "gated_mlp"

    def __init__(self, width: int, inner: int, dropout: float = 0.0, epsilon: float = EPSILON, rank: int = 0) -> None:
        super().__init__()
        _check(width, inner)
        self.width, self.inner, self.dropout, self.epsilon, self.rank = width, inner, dropout, epsilon, rank
        self.norm = Norm(width, epsilon)
        self.gate = _weights(width, inner, rank=rank)
        self.up = _weights(width, inner, rank=rank)
        self.down = _weights(inner, width, True, rank)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        normed = in_fast_format(self.norm(x))
        found = self.down(F.silu(self.gate(normed)) * self.up(normed))
        return x + dropped(found, self.dropout, self.training), context


class TextPool(Layer):
    """The mean over the steps of each text of a batch: [N, T, width] -> [N, width], and with `largest` beside it the largest signal of all
    steps, [N, 2 width]; where texts stand side by side in rows, the context says which step is of which. Some are dropped in training."""

    kind = "text_pool"

    def __init__(self, dropout: float = 0.0, largest: bool = False) -> None:
        super().__init__()
        self.dropout, self.largest = dropout, largest

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        found = self._means(x, context)
        if self.largest:
            found = torch.cat([found, one_a_row(x, context, -torch.inf).amax(1).to(found.dtype)], 1)
        return dropped(found, self.dropout, self.training), Context()

    def _means(self, x: Tensor, context: Context) -> Tensor:
        if context.lengths is None:
            return x.mean(1)
        if context.segments is None:
            real = torch.arange(x.shape[1], device=x.device) < context.lengths[:, None]
            return (x.float() * real[..., None]).sum(1) / context.lengths[:, None].clamp_min(1)
        texts = len(context.lengths)
        place = context.segments.flatten().clamp_max(texts)
        sums = x.new_zeros(texts + 1, x.shape[2], dtype=torch.float32).index_add_(0, place, x.flatten(0, 1).float())
        return sums[1:] / context.lengths[:, None].clamp_min(1)


def one_a_row(x: Tensor, context: Context, filling: float) -> Tensor:
    """[texts, steps, width] each text in a row of its own, whether or not several stand side by side in the rows of x; the steps that it
    has not are `filling`."""
    if context.lengths is None:
        return x
    lengths = context.lengths.to(x.device)
    if context.segments is not None:
        order = context.segments.flatten().argsort(stable=True)  # padding first, then text after text
        begins = len(order) - lengths.flip(0).cumsum(0).flip(0)
        longest = int(context.lengths.max())
        places = (begins[:, None] + torch.arange(longest, device=x.device)).clamp_max(len(order) - 1)
        x = x.flatten(0, 1).index_select(0, order[places].flatten()).view(*places.shape, x.shape[2])
    real = torch.arange(x.shape[1], device=x.device) < lengths[:, None].clamp_min(1)
    return x.masked_fill(~real[..., None], filling)


class TokenHead(Layer):
    """How much each token is expected next: [N, T, width] -> [N, T, count]. Begins at 0: all alike. `tied`: with the table of the first
    layer as its weights, which are learned once (Press & Wolf 2017, https://arxiv.org/abs/1608.05859)."""

    kind = "token_head"

    def __init__(self, width: int, count: int, tied: bool = False) -> None:
        super().__init__()
        _check(width, count)
        self.width, self.count, self.tied = width, count, tied
        self.first: list[Tokens] = []
        if not tied:
            self.weights = nn.Linear(width, count, bias=False)
            nn.init.zeros_(self.weights.weight)

    def tie(self, first: Layer) -> None:
        """Take the table of the network's first layer. Raises ValueError where it is of another size."""
        if not isinstance(first, Tokens) or first.table.weight.shape != (self.count, self.width):
            raise ValueError("a tied head has the size of the first layer's table")
        self.first = [first]  # in a list: the table belongs to the first layer alone

    @property
    def matrix(self) -> Tensor:
        """[count, width] its weights."""
        return self.first[0].table.weight if self.tied else self.weights.weight

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return F.linear(x, self.matrix), context


class LastNorm(Layer):
    """The signals of each step brought to one size: [N, T, width] -> [N, T, width]."""

    kind = "last_norm"

    def __init__(self, width: int, epsilon: float = EPSILON) -> None:
        super().__init__()
        _check(width)
        self.width, self.epsilon = width, epsilon
        self.norm = Norm(width, epsilon)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return self.norm(x), context


class Norm(nn.Module):
    """RMSNorm over the last axis."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.width, self.epsilon = width, epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.width,), self.weight.to(x.dtype), self.epsilon)


def turning(size: int, base: float, steps: int, positions: Tensor | None, begun: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """(cosine, sine) [T or N, T; 1; size / 2] of the angles by which the pairs of a head turn; positions count from `begun` without any."""
    speeds = base ** (-torch.arange(0, size, 2, device=x.device, dtype=torch.float32) / size)
    places = torch.arange(begun, begun + steps, device=x.device) if positions is None else positions
    angles = places[..., None].float() * speeds
    return angles.cos().unsqueeze(-2), angles.sin().unsqueeze(-2)


def turned(heads: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """[N, T, heads, size], the first half of each head paired with the second."""
    cosine, sine = (part.to(heads.dtype) for part in turn)
    one, two = heads.chunk(2, -1)
    return torch.cat([one * cosine - two * sine, two * cosine + one * sine], -1)


def in_fast_format(x: Tensor) -> Tensor:
    """In the number format of the matrix products: cast once here rather than before each of them."""
    kind = "cpu" if x.is_meta else x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class LowRank(nn.Module):
    """Weighted sums whose weights stay as they are, and beside them a product of two narrow matrices that is learned; it begins at 0.

    LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685.
    """

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs), requires_grad=False)
        self.narrow = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.wide = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) + F.linear(F.linear(x, self.narrow), self.wide)


def merge(layer: Layer) -> None:
    """What was learned beside the weights of a layer becomes part of them."""
    if isinstance(layer, (Attention, GatedMLP)) and layer.rank:
        for name, each in list(layer.named_children()):
            if isinstance(each, LowRank):
                plain = nn.Linear(each.weight.shape[1], each.weight.shape[0], bias=False)
                plain.weight.data = (each.weight + each.wide @ each.narrow).detach()
                setattr(layer, name, plain)
        layer.rank = 0


def _weights(inputs: int, outputs: int, zero: bool = False, rank: int = 0) -> nn.Linear | LowRank:
    """Weighted sums without bias; those whose results are added to the signals begin at 0 (Zhang et al. 2019,
    https://arxiv.org/abs/1901.09321)."""
    if rank:
        return LowRank(inputs, outputs, rank)
    made = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(made.weight) if zero else nn.init.normal_(made.weight, std=inputs**-0.5)
    return made


def _check(*numbers: int) -> None:
    if any(not 1 <= number <= LARGEST for number in numbers):
        raise ValueError(f"sizes are 1 to {LARGEST}")

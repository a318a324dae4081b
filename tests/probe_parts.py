"""Parts of the contract probes: inputs and outputs without state, and the layers that their networks are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lamina.inputs import Input
from lamina.layers import Context, Layer
from lamina.outputs import Output


class StatelessInput(Input):
    """Raw values are arrays already."""

    def fit(self, raws, inspections):
        return self

    def read(self, raw):
        return np.asarray(raw)

    def state(self):
        return {}

    @classmethod
    def from_state(cls, state):
        return cls()


@dataclass(frozen=True)
class StatelessOutput(Output):
    def fit(self, answers):
        return self

    def encode(self, answer):
        return answer

    def head(self, width):
        raise AssertionError("the probe builds its head itself")

    def state(self):
        return {}

    @classmethod
    def from_state(cls, state):
        return cls()


class Embedding(Layer):
    kind = "probe_embedding"

    def __init__(self, count: int, width: int):
        super().__init__()
        self.count, self.width = count, width
        self.table = nn.Embedding(count, width)

    def forward(self, x, context):
        return self.table(x), context


class Tanh(Layer):
    kind = "probe_tanh"

    def forward(self, x, context):
        return torch.tanh(x), context


class Shift(Layer):
    kind = "probe_shift"

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.by = nn.Parameter(torch.zeros(width))

    def forward(self, x, context):
        return x + self.by, context


class Vectors(StatelessInput):
    """Rows of 8 numbers."""

    kind: ClassVar[str] = "probe_vectors"

    def collate(self, items):
        return torch.from_numpy(np.stack(list(items))), Context()

    def layer(self, x):
        return Shift(8)

    def golden(self, count, seed):
        return [np.linspace(-1, 1, 8, dtype=np.float32) * (1 + number) for number in range(count)]


def ragged(items):
    """Arrays of any length -> (padded batch, context with their lengths)."""
    padded = nn.utils.rnn.pad_sequence([torch.as_tensor(item) for item in items], batch_first=True)
    return padded, Context(lengths=torch.tensor([len(item) for item in items]))


class Attention(Layer):
    kind = "probe_attention"

    def __init__(self, width: int):
        super().__init__()
        self.width, self.mix = width, nn.Linear(width, 3 * width)

    def forward(self, x, context):
        q, k, v = self.mix(x).chunk(3, -1)
        segments = context.segments
        if context.caches is not None:
            before = context.caches.get(self.name, (k[:, :0], v[:, :0], segments[:, :0]))
            k, v, seen = (torch.cat(pair, 1) for pair in zip(before, (k, v, segments), strict=True))
            context = context._replace(caches={**context.caches, self.name: (k, v, seen)})
        else:
            seen = segments
        late = torch.arange(seen.shape[1] - x.shape[1], seen.shape[1])[:, None] >= torch.arange(seen.shape[1])
        mask = late & (segments[:, :, None] == seen[:, None, :])
        return x + F.scaled_dot_product_attention(q, k, v, attn_mask=mask), context


class Normalize(Layer):
    kind = "probe_normalize"

    def forward(self, x, context):
        return F.normalize(x, dim=-1), context


class Cosine(Layer):
    kind = "probe_cosine"

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.inputs, self.outputs, self.weights = inputs, outputs, nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x, context):
        return x @ F.normalize(self.weights, dim=-1).T, context


class Latest(Layer):
    """The last item, and a little of the mean."""

    kind = "probe_latest"

    def forward(self, x, context):
        inside = (torch.arange(x.shape[1]) < context.lengths[:, None])[..., None]
        last = x[torch.arange(len(x)), context.lengths - 1]
        return last + 0.1 * (x * inside).sum(1) / context.lengths[:, None], context


class Subsample(Layer):
    kind = "probe_subsample"

    def __init__(self, width: int):
        super().__init__()
        self.width, self.filters = width, nn.Conv1d(8, width, 3, stride=2, padding=1)

    def forward(self, x, context):
        x = x * (torch.arange(x.shape[1]) < context.lengths[:, None])[..., None]
        return torch.relu(self.filters(x.transpose(1, 2))).transpose(1, 2), context._replace(lengths=(context.lengths + 1) // 2)

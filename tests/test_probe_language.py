"""Contract probe: a packed next-token model with segments, and generation with a key-value cache."""

from typing import ClassVar

import numpy as np
import torch
from contract import check_contract
from probe_parts import Attention, Embedding, StatelessInput, StatelessOutput

from lamina.layers import Context, Linear
from lamina.losses import NOTHING, cross_entropy
from lamina.networks import Network

VOCABULARY = 11


class PackedTokens(StatelessInput):
    """A row [2, time]: tokens, and which packed document each belongs to."""

    kind: ClassVar[str] = "probe_packed_tokens"

    def collate(self, items):
        rows = torch.from_numpy(np.stack(list(items)))
        return rows[:, 0], Context(segments=rows[:, 1])

    layer = lambda self, x: Embedding(VOCABULARY, 32)  # noqa: E731

    def golden(self, count, seed):
        return [np.stack([np.arange(12) % VOCABULARY, np.repeat([0, 1], 6)]) for _ in range(count)]


class NextToken(StatelessOutput):
    kind: ClassVar[str] = "probe_next_token"

    def encode(self, answer):
        following = np.append(answer[0, 1:], NOTHING)
        return np.where(np.append(answer[1, 1:], -1) == answer[1], following, NOTHING)

    def collate(self, targets):
        return torch.from_numpy(np.stack(targets))

    def loss(self, hidden, head, target, context, progress):
        return cross_entropy(head(hidden, context)[0], target)

    def decode(self, values, context):
        return values.argmax(-1).tolist()


def test_packed_next_token_model(tmp_path):
    """Documents count upwards; packed two in a row, they do not see each other; the cache gives what the whole pass gives."""
    starts = np.random.default_rng(0).integers(0, VOCABULARY, (32, 2))
    rows = [np.stack([np.concatenate([(s + np.arange(6)) % VOCABULARY for s in pair]), np.repeat([0, 1], 6)]) for pair in starts]
    build = lambda x: Network([("input", Embedding(VOCABULARY, 32)), ("attention", Attention(32)), ("head", Linear(32, VOCABULARY))])  # noqa: E731
    model = check_contract(PackedTokens(), NextToken(), build, rows, rows, tmp_path)
    tokens, segments = torch.from_numpy(rows[0])[:, None]
    whole = model.network(tokens, Context(segments=segments))[0]
    changed = torch.cat([tokens[:, :6] * 0, tokens[:, 6:]], 1)
    assert torch.equal(model.network(changed, Context(segments=segments))[0][:, 6:], whole[:, 6:])
    context = Context(caches={})
    for t in range(12):
        step, context = model.network(tokens[:, t : t + 1], context._replace(segments=segments[:, t : t + 1]))
        assert torch.allclose(step[:, 0], whole[:, t], atol=1e-5)

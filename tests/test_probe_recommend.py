"""Contract probe: the next item of a history, with a softmax over sampled negatives."""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from contract import check_contract
from probe_parts import Embedding, Latest, StatelessInput, StatelessOutput, ragged

from lamina.layers import Linear
from lamina.networks import Network

ITEMS, NEGATIVES = 40, 12


class Histories(StatelessInput):
    """Items in their order, any number of them."""

    kind: ClassVar[str] = "probe_histories"

    def collate(self, items):
        return ragged(items)

    def layer(self, x):
        return Embedding(ITEMS, 24)

    def golden(self, count, seed):
        return [np.arange(3 + number) % ITEMS for number in range(count)]


class NextItem(StatelessOutput):
    kind: ClassVar[str] = "probe_next_item"

    def loss(self, hidden, head, target, context, progress):
        table, bias = head.weights.weight, head.weights.bias
        negatives = torch.randint(0, ITEMS, (NEGATIVES,))
        wanted = (hidden * table[target]).sum(-1, keepdim=True) + bias[target, None]
        others = (hidden @ table[negatives].T + bias[negatives]).masked_fill(negatives == target[:, None], -1e9)
        zeros = torch.zeros(len(target), dtype=torch.long)
        return F.cross_entropy(torch.cat([wanted, others], 1), zeros, reduction="sum"), torch.tensor(float(len(target)))

    def right(self, values, target, context):
        return values.argmax(1) == target

    def decode(self, values, context):
        return values.topk(5).indices.tolist()


def test_next_item_with_sampled_softmax(tmp_path):
    """Every item is followed by the next number; all items are ranked, though each step saw only a few."""
    rng = np.random.default_rng(3)
    starts, sizes = rng.integers(0, ITEMS, 256), rng.integers(2, 7, 256)
    raws = [(start + np.arange(size)) % ITEMS for start, size in zip(starts, sizes, strict=True)]
    answers = [int((raw[-1] + 1) % ITEMS) for raw in raws]
    build = lambda x: Network([("input", Histories().layer(x)), ("latest", Latest()), ("head", Linear(24, ITEMS))])  # noqa: E731
    model = check_contract(Histories(), NextItem(), build, raws, answers, tmp_path, steps=240, check_every=40, learning_rate=0.3)
    assert (model.values(raws).argmax(1) == torch.tensor(answers)).float().mean() > 0.9

"""Contract probe: characters by CTC, lengths travelling through a layer that shortens time."""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from contract import check_contract
from probe_parts import Shift, StatelessInput, StatelessOutput, Subsample, ragged
from torch import nn

from lamina.layers import Linear
from lamina.networks import Network


class Frames(StatelessInput):
    """[time, 8] of any length."""

    kind: ClassVar[str] = "probe_frames"

    def collate(self, items):
        return ragged(items)

    def layer(self, x):
        return Shift(8)

    def golden(self, count, seed):
        return [np.linspace(-1, 1, 8 * (9 + n), dtype=np.float32).reshape(-1, 8) for n in range(count)]


class Characters(StatelessOutput):
    kind: ClassVar[str] = "probe_characters"

    def collate(self, targets):
        return nn.utils.rnn.pad_sequence([torch.tensor(t) for t in targets], batch_first=True, padding_value=-1)

    def loss(self, hidden, head, target, context, progress):
        logits, context = head(hidden, context)
        log_p = logits.log_softmax(-1).transpose(0, 1)
        total = F.ctc_loss(log_p, target.clamp_min(0), context.lengths, (target >= 0).sum(1), reduction="sum")
        return total, torch.tensor(float(len(target)))

    def decode(self, values, context):
        best = [row[:n].unique_consecutive().tolist() for row, n in zip(values.argmax(-1), context.lengths, strict=True)]
        return ["".join("-abcd"[c] for c in row if c) for row in best]


def test_ctc_with_lengths(tmp_path):
    """Each character is four frames of its own direction; recordings differ in length."""
    rng = np.random.default_rng(1)
    answers = [[int(c) for c in rng.permutation(np.arange(1, 5))[: rng.integers(2, 5)]] for _ in range(48)]
    raws = [np.repeat(np.eye(8, dtype=np.float32)[a], 4, 0) + rng.normal(0, 0.05, (4 * len(a), 8)).astype(np.float32) for a in answers]
    build = lambda x: Network([("input", Frames().layer(x)), ("subsample", Subsample(32)), ("head", Linear(32, 5))])  # noqa: E731
    model = check_contract(Frames(), Characters(), build, raws, answers, tmp_path, learning_rate=0.05, steps=120, check_every=20)
    with torch.no_grad():
        said = model.output.decode(*model.network(*model.input.collate(raws[:20])))
    assert np.mean([text == "".join("-abcd"[c] for c in a) for text, a in zip(said, answers, strict=False)]) > 0.8

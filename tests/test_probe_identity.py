"""Contract probe: identities with an angular margin that warms up, answers read from the embedding."""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from contract import check_contract
from probe_parts import Cosine, Normalize, StatelessOutput, Vectors

from lamina.layers import Linear
from lamina.networks import Network

SCALE, MARGIN = 16.0, 0.3


class Identity(StatelessOutput):
    """CosFace (Wang et al. 2018), the margin growing with progress."""

    kind: ClassVar[str] = "probe_identity"
    reads: ClassVar[str] = "embedding"

    def loss(self, hidden, head, target, context, progress):
        cosine = head(hidden, context)[0]
        cosine = cosine - progress.fraction * MARGIN * F.one_hot(target, cosine.shape[-1])
        return F.cross_entropy(SCALE * cosine, target, reduction="sum"), torch.tensor(float(len(target)))

    def decode(self, values, context):
        return list(values)


def test_identity_with_margin(tmp_path):
    """Embeddings of one person lie nearer to each other than to another's; the loss at the end has the whole margin."""
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(6, 8))
    who = rng.integers(0, 6, 96)
    raws = list((centers[who] + rng.normal(0, 0.3, (96, 8))).astype(np.float32))

    def build(x):
        return Network([("input", Vectors().layer(x)), ("hidden", Linear(8, 32)), ("embedding", Normalize()), ("head", Cosine(32, 6))])

    model = check_contract(Vectors(), Identity(), build, raws, who.tolist(), tmp_path)
    values = model.values(raws)
    assert values.shape == (96, 32) and torch.allclose(values.norm(dim=1), torch.ones(96), atol=1e-5)
    alike = values @ values.T
    same = torch.from_numpy(who[:, None] == who[None, :])
    assert alike[same].mean() > alike[~same].mean() + 0.5

"""prune: what weak connections are worth."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from lamina.experiments.ground import Ground, own_network, right_of, spread, tell
from lamina.explain.layers import is_trained
from lamina.metrics import paired_interval
from lamina.networks import Network
from lamina.report.plots import experiment_bars

SHARES = (0.0, 0.5, 0.8, 0.9)
"""Of the connections, that `prune` removes."""
NOT_WORSE = 0.01
"""A network without some connections that has lost less than this, with 95 %, has not missed them."""


def prune(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """The weakest connections of each layer of the task's own network taken away after training, beside as many taken away by chance."""
    kinds = ("weakest", "by chance")
    pairs = [(kind, share) for share in SHARES for kind in kinds if share or kind == kinds[0]]
    variants = {pair: ground.variant(f"{100 * pair[1]:.0f} % {pair[0]}") for pair in pairs}
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        network, flops = own_network(ground, ground.feed, learned, seed)
        for (kind, share), variant in variants.items():
            cut = without_connections(network, share, seed if kind == "by chance" else None)
            variant.right.append(right_of(cut, ground.feed, tested))
            variant.training_flops, variant.facts = flops, {"removed": share, "kind": kind}
            tell(ground, variant.name, seed, variant.right[-1])
    whole = variants["weakest", 0.0]

    def lost(share: float) -> tuple[float, float, float]:
        return paired_interval(np.concatenate(variants["weakest", share].right), np.concatenate(whole.right), 0.95)

    spared = max((share for share in SHARES[1:] if lost(share)[1] > -NOT_WORSE), default=0.0)
    half, chance = variants["weakest", 0.5], variants["by chance", spared or 0.5]
    without = variants["weakest", spared] if spared else half
    said = (
        f"Without the weakest {without.name.split(' weakest')[0]} of its connections the network has {spread(without)}, with all of them "
    )
    said += f"{spread(whole)}{': they are not missed' if spared else ''}; without as many taken by chance {spread(chance)}."
    ordered = list(variants.values())
    found = {"sentence": said, "variants": [each.state() for each in ordered], "spared": spared}
    return found, [experiment_bars([each.state() for each in ordered], "Connections removed after training")]


def without_connections(network: Network, share: float, seed: int | None = None) -> Network:
    """A copy in which the weakest `share` of the connections of each trained layer are 0; any ones where a `seed` is given."""
    cut = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed or 0)
    with torch.no_grad():
        for layer in cut.stack:
            for value in layer.parameters() if is_trained(layer) else ():
                count = round(share * value.numel())
                if value.ndim > 1 and count:
                    strength = value.abs() if seed is None else torch.rand(value.shape, generator=generator)
                    value.view(-1)[strength.flatten().topk(count, largest=False).indices] = 0
    return cut

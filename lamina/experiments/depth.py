"""depth: what more layers are worth, for about as many FLOPs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.experiments.ground import Ground, flops_of, plain, right_of, spread, tell, train_one
from lamina.layers import Context, Convolution, Dense, GlobalPool, Layer
from lamina.networks import Network
from lamina.report.plots import experiment_bars

DEPTHS, DEPTH_WIDTH = (1, 2, 4, 8), 32


def depth(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """1, 2, 4 and 8 hidden layers, each trained with as many FLOPs: convolutions on maps, else fully connected layers; both normalized."""
    variants = {count: ground.variant(f"{count} layer{'s' * (count > 1)}") for count in DEPTHS}
    feed = plain(ground.feed)
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        x = ground.x(learned)
        reference = flops_of(_deep(ground, x, 2), x)
        budget = (ground.settings.epochs or ground.task.recipe(len(learned), ground.feed.input).epochs) * reference * len(learned)
        for count, variant in variants.items():
            torch.manual_seed(seed)
            network = _deep(ground, x, count)
            epochs = budget / (flops_of(network, x) * len(learned))
            variant.training_flops = train_one(ground, network, feed, learned, seed, epochs)
            variant.right.append(right_of(network, feed, tested))
            variant.facts = {"epochs": round(epochs, 2)}
            tell(ground, variant.name, seed, variant.right[-1])
    one, *deeper = variants.values()
    better = [each.name for each in deeper if each.above(one)]
    numbers = ", ".join(f"{each.name} {spread(each)}" for each in variants.values())
    said = f"For about as many FLOPs: {numbers}. "
    said += f"Layers build on layers here: {', '.join(better)} beat one." if better else "More layers are not shown to help on these data."
    ordered = [each.state() for each in variants.values()]
    found = {"sentence": said, "variants": ordered, "deeper_that_are_clearly_better": better}
    return found, [experiment_bars(ordered, "By number of hidden layers, for about as many FLOPs")]


def _deep(ground: Ground, x: Tensor, count: int) -> Network:
    """The input's own first layer, `count` hidden layers of one width, the head."""
    first = ground.feed.input.layer(x)
    with torch.no_grad():
        signals = first.eval()(x[:2], Context())[0]
    width = ground.settings.width or DEPTH_WIDTH
    inputs = signals.shape[1]
    hidden: list[tuple[str, Layer]] = []
    if signals.ndim == 4:
        pools = max(0, int(math.log2(max(1, min(signals.shape[2:]) // 4))))
        at = {round(place) for place in np.linspace(0, count - 1, min(pools, count))}
        for number in range(count):
            hidden.append((f"hidden{number + 1}", Convolution(inputs if number == 0 else width, width, pool=number in at)))
        hidden.append(("pool", GlobalPool()))
    else:
        for number in range(count):
            hidden.append((f"hidden{number + 1}", Dense(inputs if number == 0 else width, width)))
    return Network([("input", first), *hidden, ("head", ground.feed.output.head(width))])

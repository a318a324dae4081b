"""shuffle: what labels, and what lies beside what, are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lamina.data.batches import Feed
from lamina.experiments.ground import Ground, own_network, plain, right_of, spread, tell
from lamina.report.plots import experiment_bars
from lamina.screen import percent

BY_HEART = 0.2
"""So much more than a guess must be known of training examples with wrong labels to say that they were learned by heart."""


def shuffle(ground: Ground) -> tuple[dict[str, Any], list[str]]:
    """The task's own network on the examples as they are; with labels dealt anew (Zhang et al. 2017, https://arxiv.org/abs/1611.03530);
    and, where raw values have places, with the places of all examples mixed in one and the same way."""
    feeds: dict[str, Callable[[int], Feed]] = {"as they are": lambda seed: plain(ground.feed), "labels dealt anew": ground.labels_mixed}
    if len(ground.feed.values.take([0])[0].shape) > 1:
        feeds["places mixed"] = ground.places_mixed
    variants = {name: ground.variant(name, known=[]) for name in feeds}
    for seed in ground.seeds:
        learned, tested = ground.parts(seed)
        for name, variant in variants.items():
            feed = feeds[name](seed)
            network, variant.training_flops = own_network(ground, feed, learned, seed)
            variant.right.append(right_of(network, replace(feed, targets=ground.feed.targets), tested))
            variant.facts["known"].append(float(right_of(network, feed, learned[:2048]).mean()))
            tell(ground, name, seed, variant.right[-1])
    own, labels = variants["as they are"], variants["labels dealt anew"]
    clueless = ground.feed.output.clueless([ground.feed.targets[index] for index in ground.parts(ground.seeds[0])[1]])
    guess = clueless[0] if clueless else 0.0
    known = float(np.mean(labels.facts["known"]))
    said = f"New examples: {spread(own)} as they are, {spread(labels)} with labels dealt anew (a guess {percent(guess)} %). "
    said += f"Of those that it learned from with labels dealt anew it knew {percent(known)} %"
    by_heart = known > guess + BY_HEART
    said += " by heart: a score on training examples says nothing." if by_heart else ": so little training is not enough to learn by heart."
    if "places mixed" in variants:
        mixed = variants["places mixed"]
        why = "the network uses what lies beside what" if own.above(mixed) else "that it uses what lies beside what is not shown here"
        said += f" With places mixed, the same way in all: {spread(mixed)}: {why}."
    ordered = list(variants.values())
    found = {"sentence": said, "variants": [each.state() for each in ordered]}
    return found, [experiment_bars([each.state() for each in ordered], "Examples as they are, and mixed")]

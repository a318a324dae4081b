"""A network in the middle of its training, for those who watch: its filters, what a line reads, one example followed, one step opened."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Feed
from lamina.explain.filters import seen_filters
from lamina.explain.follow import follow
from lamina.explain.layers import LOOKED_AT, look_at_layers, probe_layers
from lamina.explain.step import open_step
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.training.plan import Plan

PROBED, DRAWN, STEPPED = 300, 150, 32
"""Examples that a line is fitted on, and as many that it is scored on; those of them on the map; those of the opened step."""
FILTERS = 16


class Watcher:
    """Looks at one training at its moments; always at the same examples."""

    def __init__(self, feed: Feed, learned: Sequence[int] | np.ndarray, tested: Sequence[int] | np.ndarray, plan: Plan, task: str) -> None:
        self.feed, self.plan, self.task = feed, plan, task
        self.learned = np.asarray(learned, np.int64)
        self.tested = np.asarray(tested if len(tested) else learned, np.int64)

    def layers(self, network: Network) -> list[dict[str, Any]]:
        """What each layer is (LayerFacts)."""
        x, context = self.feed.input.collate(self.feed.values.take(self.learned[:LOOKED_AT]))
        return [dataclasses.asdict(each) for each in look_at_layers(copy.deepcopy(network).cpu(), x.cpu(), context)]

    def look(self, network: Network, step: int, fraction: float) -> dict[str, Any]:
        """{step, fraction, filters, score, places, truths, followed, shown, opened}: JSON values; the network is left as it is."""
        network = copy.deepcopy(network).cpu().eval()
        with torch.random.fork_rng(devices=[]):
            x, context = self.feed.input.collate(self.feed.values.take(self.learned[:LOOKED_AT]))
            filters = seen_filters(network, x.cpu(), context, most=FILTERS)
            probe, truths = None, []
            if isinstance(self.feed.output, ClassesOutput) and len(network.stack) > 1:
                tested = self.tested[:PROBED]
                probe = probe_layers(network, self.feed, self.learned[:PROBED], tested, network.stack[-2].name)[0]
                truths = [int(self.feed.targets[index]) for index in tested[:DRAWN]]
            one = self.tested[:1]
            value, around = self.feed.input.collate(self.feed.values.take(one))
            size = max(2, min(STEPPED, self.plan.batch, self.plan.micro_batch))
            opened = open_step(
                Model(self.task, self.feed.input, network, self.feed.output), [self.feed.batch(self.learned[:size])], self.plan, fraction
            )
        return {
            "step": step,
            "fraction": fraction,
            "filters": {**filters, "values": np.round(filters["values"], 3).tolist()} if filters else {},
            "score": probe.score if probe else None,
            "places": np.round(probe.places[:DRAWN], 3).tolist() if probe else [],
            "truths": truths,
            "shown": self.feed.input.shown(np.asarray(self.feed.values.take(one)[0])),
            "followed": [dataclasses.asdict(each) for each in follow(network, value.cpu(), around)],
            "opened": dataclasses.asdict(opened),
        }

"""The third contender: layers that others trained, frozen, with a logistic regression on what they see."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lamina.classical.fit import classes_of
from lamina.data.batches import Feed
from lamina.data.split import Split
from lamina.layers import Context
from lamina.model import Model, calibrated
from lamina.networks import Network
from lamina.start import Start, fit_head, linear_head, signals_of
from lamina.task import Task
from lamina.training.inference import Values

PROBE = 32
QUICKEST = 0.01
"""Seconds a picture below which nothing here goes: sets that are too large by this are not even read."""
NEVER = -20.0
"""The logit of a class that a fold did not hold."""
DECISIONS = ("which network to borrow", "the side to which pictures are resized", "the penalty")
INSPECT = "a weight for each signal of layers that others trained"


@dataclass(frozen=True)
class Lent:
    """A packaged network and the examples, read for its input."""

    start: Start
    feed: Feed


@dataclass(frozen=True)
class Borrowed:
    lent: Lent
    model: Model
    values: Tensor
    """Of the test examples [N, classes]."""
    seconds: float


def borrow(task: Task, lend: Callable[[], Lent], split: Split, test: Sequence[int], seconds: float) -> Borrowed | str:
    """Frozen layers with a head fitted on the training part; or, when they would take longer than `seconds`, why not."""
    begun = time.perf_counter()
    used = np.array(sorted({*split.indices("train"), *split.indices("validation"), *test}))
    if QUICKEST * len(used) > seconds:
        return f"{len(used)} pictures would take more than the {seconds:.0f} s that it may"
    lent = lend()
    feed = lent.feed
    network = lent.start.task(task).network(feed.input, feed.output, 0, None).eval()
    at = time.perf_counter()
    signals_of(network, feed, used[:PROBE])
    needed = (time.perf_counter() - at) / min(PROBE, len(used)) * len(used)
    if time.perf_counter() - begun + needed > seconds:
        return f"{len(used)} pictures would take {needed:.0f} s more, and it may {seconds:.0f}"
    signals = signals_of(network, feed, used)
    place = {index: row for row, index in enumerate(used.tolist())}
    wanted = np.array([feed.targets[index] for index in used])

    def rows(examples: Sequence[int]) -> np.ndarray:
        return np.array([place[index] for index in examples], np.int64)

    def values(of: Network, examples: Sequence[int]) -> Values:
        with torch.no_grad():
            found = of.head(torch.from_numpy(signals[rows(examples)]), Context())[0]
        return Values(found, Context(), torch.from_numpy(wanted[rows(examples)]))

    def fit(examples: Sequence[int]) -> None:
        with torch.no_grad():  # a class that is not among these examples must not keep what others said of it
            for parameter in network.head.parameters():
                parameter.fill_(0.0 if parameter.ndim > 1 else NEVER)
        known = wanted[rows(examples)]
        if len(set(known.tolist())) > 1:
            fit_head(network, linear_head().fit(signals[rows(examples)], known))

    if split.folds is None:
        fit(split.indices("train"))
        validation = split.indices("validation")
        output = calibrated(network, feed, values(network, validation) if validation else None, "fp32")
        found = values(network, test)
    else:
        parts = torch.empty(len(test), classes_of(feed))
        for number in range(max(split.folds) + 1):
            learned, tested = split.fold(number)
            fit(learned)
            parts[torch.tensor(tested)] = values(network, tested).values
        fit(split.indices("train"))
        found = Values(parts, Context(), torch.from_numpy(wanted[rows(test)]))
        output = calibrated(network, feed, found, "fp32", same_network=False)
    return Borrowed(lent, Model(task.name, feed.input, network.eval(), output), found.values, time.perf_counter() - begun)

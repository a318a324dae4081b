"""Which labels may be wrong: cross-validated confidence (after Northcutt et al. 2021, https://doi.org/10.1613/jair.1.12125).

Each example is judged by a classical model that was fitted without it. It is a suspect when the label that this model prefers is at
least as likely as that label is, in the mean, for the examples that bear it; the least likely given labels come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from lamina.classical.fit import Classical, Opponent, Sums, fit_classical, signals_in_batches, targets_of
from lamina.data.batches import Feed
from lamina.outputs import ClassesOutput

FOLDS = 5
BATCH = 256
Search = Callable[..., Classical]


@dataclass(frozen=True)
class Suspect:
    """An example whose label may be wrong."""

    example: int
    label: str
    suggested: str
    probability: float
    """Of the given label …"""
    probability_suggested: float
    """… and of the suggested one, both by a model that never saw the example."""


def find_suspects(
    opponents: tuple[Opponent, ...], feed: Feed, examples: np.ndarray, seconds: float, seed: int = 0, search: Search | None = None
) -> list[Suspect]:
    """Suspects among `examples`, the likeliest first; about `seconds` in all. Answers are classes; `search` is the task's own."""
    assert isinstance(feed.output, ClassesOutput)
    labels = feed.output.labels
    shares = held_out_probabilities(opponents, feed, examples, seconds, seed, search)
    given = targets_of(feed, examples)
    own = shares[np.arange(len(given)), given]
    usual = np.array([own[given == label].mean() if (given == label).any() else 1.0 for label in range(len(labels))])
    preferred = shares.argmax(1)
    likely = shares[np.arange(len(given)), preferred]
    doubted = np.flatnonzero((preferred != given) & (likely >= usual[preferred]))
    order = doubted[np.argsort(own[doubted] - likely[doubted], kind="stable")]
    return [Suspect(int(examples[i]), labels[given[i]], labels[preferred[i]], float(own[i]), float(likely[i])) for i in order]


def held_out_probabilities(
    opponents: tuple[Opponent, ...], feed: Feed, examples: np.ndarray, seconds: float, seed: int = 0, search: Search | None = None
) -> np.ndarray:
    """[n, classes] calibrated probabilities of each example by a head that was fitted on the other folds; by a `search` of its own the
    whole model is."""
    assert isinstance(feed.output, ClassesOutput)
    if search is not None:
        return _shares(feed, examples, _searched_anew(search, opponents, feed, examples, seconds, seed))
    linear = tuple(replace(each, heads=tuple(head for head in each.heads if head in ("kernel", "linear"))) for each in opponents)
    fitted = fit_classical(linear, feed, examples, seconds / 2, seed, answers=2 * len(examples))
    below = [(layer.name, layer) for layer in fitted.network.stack[:-1]]
    order = np.random.Generator(np.random.Philox(key=seed + 1)).permutation(len(examples))
    fold = np.empty(len(examples), np.int64)
    fold[order] = np.arange(len(examples)) % FOLDS
    sums: list[Sums | None] = [None] * FOLDS
    classes = len(feed.output.labels)
    for number in range(FOLDS):
        for x, wanted in signals_in_batches(below, feed, examples[fold == number]):
            found, known = Sums.of(x, wanted, classes), sums[number]
            sums[number] = found if known is None else known + found
    heads = []
    for number in range(FOLDS):
        others = [each for place, each in enumerate(sums) if place != number and each is not None]
        total = others[0]
        for each in others[1:]:
            total = total + each
        heads.append(total.solve(fitted.trial.penalty))
    values = torch.empty(len(examples), classes)
    for number, head in enumerate(heads):
        places, at = np.flatnonzero(fold == number), 0
        for x, _ in signals_in_batches(below, feed, examples[places]):
            values[torch.from_numpy(places[at : at + len(x)])] = head.weights(x).detach()
            at += len(x)
    return _shares(feed, examples, values)


def _searched_anew(
    search: Search, opponents: tuple[Opponent, ...], feed: Feed, examples: np.ndarray, seconds: float, seed: int
) -> torch.Tensor:
    fold = np.random.Generator(np.random.Philox(key=seed + 1)).permutation(len(examples)) % FOLDS
    found: dict[int, torch.Tensor] = {}
    for number in range(FOLDS):
        own = np.flatnonzero(fold == number)
        network = search(opponents, feed, examples[fold != number], seconds / FOLDS, seed, len(own)).network
        with torch.no_grad():
            rows = [network(batch.x, batch.context)[0] for batch in feed.in_order(examples[own].tolist(), BATCH)]
        found |= dict(zip(own.tolist(), torch.cat(rows), strict=True))
    return torch.stack([found[place] for place in range(len(examples))])


def _shares(feed: Feed, examples: np.ndarray, values: torch.Tensor) -> np.ndarray:
    output = feed.output.calibrate(values, torch.from_numpy(targets_of(feed, examples)), None)
    assert isinstance(output, ClassesOutput)
    return torch.softmax(values.double() / output.temperature, 1).numpy()

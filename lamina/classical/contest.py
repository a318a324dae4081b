"""The contest: the trivial and the classical way on the same split as the network that was trained, and the verdict."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lamina.classical.borrowed import DECISIONS, Borrowed, Lent, borrow
from lamina.classical.fit import Classical, fit_classical, trivial
from lamina.classical.verdict import Contender, Verdict, compare
from lamina.data.batches import Feed
from lamina.data.split import Split
from lamina.layers import Context
from lamina.model import Model, calibrated
from lamina.networks import Network
from lamina.outputs import Output
from lamina.task import Task
from lamina.training.inference import BATCH, Values, answers_to, in_place, join_values, run_in_order

TIMED_ANSWERS = 30


@dataclass(frozen=True)
class Deep:
    """What the network that was trained brought to the contest."""

    model: Model
    answers: Sequence[Any]
    """Of the test examples, in the order of `test`."""
    test: Sequence[int]
    seconds: float
    training_flops: float


@dataclass(frozen=True)
class Contest:
    verdict: Verdict
    classical: Model
    """Calibrated, ready to be saved."""
    answers: list[Any]
    """Of the classical model to the test examples, in the order of the network's."""
    validation: float | None
    """Its score on the validation part; None when cross-fitted."""


def contest(
    task: Task,
    feed: Feed,
    split: Split,
    truths: Sequence[Any],
    deep: Deep,
    seconds: float,
    margin: float,
    seed: int,
    lend: Callable[[], Lent] | None = None,
    borrow_seconds: float = 0.0,
    notes: tuple[str, ...] = (),
) -> Contest:
    """Fit the opponents of `task` inside about `seconds` and compare. `truths` are the answers of all examples.

    `lend` reads a packaged network's input, where there is one: the third contender, which may take `borrow_seconds`.
    `notes` end the sentence.
    """
    feed = replace(feed, input=feed.input.single(), device=torch.device("cpu"))
    borrowed = borrow(task, lend, split, deep.test, borrow_seconds) if lend else None
    begun = time.perf_counter()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        fitted, output, answers = _fit(task, feed, split, deep.test, seconds, seed)
        validation = split.indices("validation")
        checked = answers_to(fitted.network, feed, output, validation, "fp32")
    took = time.perf_counter() - begun
    wanted = [truths[index] for index in deep.test]
    learned = np.array(split.indices("train"))
    classical = Model(task.name, feed.input, fitted.network, output)
    guess = Model(task.name, feed.input, trivial(feed, learned), feed.output)
    guesses = guess.output.decode(guess.network(torch.zeros(len(wanted), 1), Context())[0], Context())
    items = _some_values(feed, deep.test)
    said: tuple[str, ...] = ()
    if not fitted.complete:
        said += (f"{len(fitted.trials)} points of its grid were tried in its {seconds:.0f} s, not all",)
    if fitted.fitted_on < len(learned):
        said += (f"it was fitted on {fitted.fitted_on} of {len(learned)} training examples, for want of time",)
    if "kernel" in fitted.network.layers:
        said += ("its file holds features of training examples (the kernel's landmarks)",)
    flops = counter.get_total_flops()
    contenders = [
        _contender(
            "deep",
            "the network",
            deep.model,
            task,
            deep.answers,
            wanted,
            items,
            deep.seconds,
            deep.training_flops,
            task.decisions(feed.input),
        ),
        _contender("classical", fitted.name, classical, task, answers, wanted, items, took, flops, fitted.decisions, said),
        _contender("trivial", "the most frequent answer", guess, task, guesses, wanted, items, 0.0, 0.0),
    ]
    every = {"deep": list(deep.answers), "classical": answers, "trivial": guesses}
    right = {kind: task.right(found, wanted) for kind, found in every.items()}
    told = notes
    if isinstance(borrowed, Borrowed):
        name = f"{borrowed.lent.start.name} ({borrowed.lent.start.license})"
        others = _some_values(borrowed.lent.feed, deep.test)
        contenders.insert(
            2, _contender("borrowed", name, borrowed.model, task, borrowed.answers, wanted, others, borrowed.seconds, 0.0, DECISIONS)
        )
        right["borrowed"] = task.right(borrowed.answers, wanted)
    elif borrowed:
        told += (f"a running start was not tried: {borrowed}",)
    held_out = task.score(checked, [truths[index] for index in validation]).value if validation else None
    return Contest(compare(contenders, right, margin, told), classical, answers, held_out)


def _fit(task: Task, feed: Feed, split: Split, test: Sequence[int], seconds: float, seed: int) -> tuple[Classical, Output, list[Any]]:
    """(the winner, its calibrated output, its answers to the test examples); cross-fitted where the network was."""
    learned = np.array(split.indices("train"))
    if split.folds is None:
        fitted = fit_classical(task.opponents(feed.input), feed, learned, seconds, seed, len(split.indices("validation")) + len(test))
        validation = split.indices("validation")
        held_out = _values(fitted.network, feed, validation) if validation else None
        output = calibrated(fitted.network, feed, held_out, "fp32")
        return fitted, output, answers_to(fitted.network, feed, output, test, "fp32")
    folds = max(split.folds) + 1
    parts, order = [], []
    for number in range(folds):
        learned_here, tested = split.fold(number)
        one = fit_classical(task.opponents(feed.input), feed, np.array(learned_here), seconds / (folds + 1), seed, len(tested))
        parts.append(_values(one.network, feed, tested))
        order += tested
    held_out = in_place(join_values(parts), order)
    fitted = fit_classical(task.opponents(feed.input), feed, learned, seconds / (folds + 1), seed)
    output = calibrated(fitted.network, feed, held_out, "fp32", same_network=False)
    return fitted, output, output.decode(held_out.values, held_out.context)


def _values(network: Network, feed: Feed, examples: Sequence[int]) -> Values:
    return run_in_order(network, feed.input, feed.output, feed.in_order(examples, BATCH))


def _contender(
    kind: str,
    name: str,
    model: Model,
    task: Task,
    answers: Sequence[Any],
    truths: Sequence[Any],
    items: list[np.ndarray],
    seconds: float,
    training_flops: float,
    decisions: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Contender:
    size = sum(value.numel() * value.element_size() for value in model.network.state_dict().values())
    score = task.score(list(answers), list(truths))
    milliseconds, flops = _answering(model, items)
    return Contender(kind, name, score, round(seconds, 3), milliseconds, size, float(training_flops), flops, decisions, notes)


def _answering(model: Model, items: list[np.ndarray]) -> tuple[float, float]:
    """(milliseconds, FLOPs) of one answer at a time; the median of some."""
    times = []
    for item in items:
        begun = time.perf_counter()
        model.values([item])
        times.append(1000 * (time.perf_counter() - begun))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.values(items[:2])
    return round(statistics.median(times), 3), counter.get_total_flops() / len(items[:2])


def _some_values(feed: Feed, examples: Sequence[int]) -> list[np.ndarray]:
    taken = feed.values.take(np.array(examples[:TIMED_ANSWERS]))
    return list(taken.cpu().numpy() if isinstance(taken, torch.Tensor) else taken)

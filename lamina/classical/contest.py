"""The contest: the trivial, the classical and the borrowed way on the same split as the network, and the verdict.

The rivals are fitted and asked about the test examples before the network is trained, so that training gets all the time that they
leave; their scores are looked at with the network's, afterwards.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lamina.classical.borrowed import DECISIONS, INSPECT, Borrowed, Lent, borrow
from lamina.classical.fit import Classical, fit_classical
from lamina.classical.verdict import Contender, Verdict, compare
from lamina.data.batches import Feed
from lamina.data.split import Split
from lamina.layers import Context
from lamina.model import Model, calibrated
from lamina.networks import Network
from lamina.outputs import Output
from lamina.task import Score, Task
from lamina.training.device import peak_memory
from lamina.training.inference import BATCH, Values, in_place, join_values, run_in_order, score_cross_fitted

TIMED_ANSWERS = 30
INSPECT_DEEP = "each layer by name: its weights, and its signals for any input"


@dataclass(frozen=True)
class Rival:
    """One way to do the task, fitted and asked about the test examples."""

    kind: str
    """deep, classical, borrowed or trivial."""
    name: str
    model: Model
    """Calibrated, ready to be saved."""
    answers: Sequence[Any]
    """To the test examples, in the split's order."""
    seconds: float
    """To train, search for settings included."""
    milliseconds: float
    """One answer at a time, median, from the read value."""
    answer_flops: float
    training_flops: float = 0.0
    features: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    validation: float | None = None
    """Score on the validation part; None when cross-fitted."""
    promise: float | None = None
    """Of a search: the accuracy of its winner, cross-validated on training examples."""
    memory: int = 0
    inspect: str = ""
    repeats: tuple[list[Any], ...] = ()
    """Answers of the same from further seeds."""
    fitted_on: int = 0
    complete: bool = True
    """Whether the seconds sufficed for the whole search and all training examples."""
    remade: bool = False
    """Whether it is that of a second search, after the training."""
    values: Tensor | None = None
    """What the network says of the test examples, before calibration [N, classes]."""


class Contest:
    """The rivals of one training: fitted on the split's training part, or cross-fitted where the network is."""

    def __init__(self, task: Task, feed: Feed, split: Split, truths: Sequence[Any], seed: int) -> None:
        """`truths` are the answers of all examples."""
        self.task, self.split, self.truths, self.seed = task, split, truths, seed
        self.device = feed.device
        self.feed = replace(feed, input=feed.input.single(), device=torch.device("cpu"))
        self.test = split.indices("test") if split.folds is None else list(range(len(split.parts)))
        self.wanted = [truths[index] for index in self.test]

    def deep(self, model: Model, answers: Sequence[Any], seconds: float, training_flops: float) -> Rival:
        """The network that was trained."""
        return Rival(
            "deep", "the network", model, answers, seconds, *self._answering(model), training_flops,
            decisions=self.task.decisions(self.feed.input), memory=peak_memory(self.device), inspect=INSPECT_DEEP,
        )  # fmt: skip

    def classical(self, seconds: float) -> Rival:
        """The winner of the task's opponents, found inside about `seconds`."""
        begun = time.perf_counter()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            fitted, output, values, known = self._fitted(seconds)
        took, learned = time.perf_counter() - begun, len(self.split.indices("train"))
        notes = fitted.notes
        if not fitted.complete:
            notes += (f"{len(fitted.trials)} points of its grid were tried in its {seconds:.0f} s, not all",)
        if fitted.fitted_on < learned:
            notes += (f"it was fitted on {fitted.fitted_on} of {learned} training examples, for want of time",)
        if "kernel" in fitted.network.layers:
            notes += ("its file holds features of training examples (the kernel's landmarks)",)
        model = Model(self.task.name, self.feed.input, fitted.network, output)
        return Rival(
            "classical", fitted.name, model, output.decode(values.values, values.context), took, *self._answering(model),
            counter.get_total_flops(), fitted.features, fitted.decisions, notes, self._validated(output, known), fitted.trial.score,
            peak_memory(self.feed.device), fitted.inspect, fitted_on=fitted.fitted_on if fitted.fitted_on < learned else 0,
            complete=fitted.complete and fitted.fitted_on == learned, values=values.values,
        )  # fmt: skip

    def trivial(self) -> Rival:
        """The way that knows the training part's answers and never looks at an example."""
        name, network, inspect = self.task.trivial(self.feed, np.array(self.split.indices("train")))
        model = Model(self.task.name, self.feed.input, network, self.feed.output)
        found = self._values(network, self.test)
        return Rival(
            "trivial", name, model, model.output.decode(found.values, found.context), 0.0, *self._answering(model), inspect=inspect
        )

    def borrowed(self, lend: Callable[[], Lent], seconds: float) -> Rival | str:
        """Layers that others trained, which `lend` reads the examples for; or, when they would take longer, why not."""
        found = borrow(self.task, lend, self.split, self.test, seconds)
        if not isinstance(found, Borrowed):
            return found
        model, start, feed = found.model, found.lent.start, found.lent.feed
        validation = self.split.indices("validation")
        known = run_in_order(model.network, feed.input, model.output, feed.in_order(validation, BATCH)) if validation else None
        return Rival(
            "borrowed", f"{start.name} ({start.license})", model, model.output.decode(found.values, Context()), found.seconds,
            *self._answering(model, feed), decisions=DECISIONS, validation=self._validated(model.output, known),
            memory=peak_memory(self.feed.device), inspect=INSPECT, values=found.values,
        )  # fmt: skip

    def verdict(self, rivals: Sequence[Rival], margin: float, notes: tuple[str, ...] = ()) -> Verdict:
        """Every score, cost and the sentence; `notes` end it. The deep, the classical and the trivial way must be among the rivals."""
        answers = {rival.kind: list(rival.answers) for rival in rivals}
        again = [repeated for rival in rivals if rival.kind == "deep" for repeated in rival.repeats]
        return compare([self._contender(rival) for rival in rivals], self.task.pairing(answers, self.wanted, again), margin, notes)

    # ------------------------------------------------------------ parts

    def _fitted(self, seconds: float) -> tuple[Classical, Output, Values, Values | None]:
        """(the winner, its calibrated output, its values for the test examples, and for those of validation); cross-fitted where the
        network is."""
        opponents, split, feed = self.task.opponents(self.feed.input), self.split, self.feed
        learned = np.array(split.indices("train"))
        search = self.task.search(self.feed.input) or fit_classical
        if split.folds is None:
            validation = split.indices("validation")
            fitted = search(opponents, feed, learned, seconds, self.seed, len(validation) + len(self.test))
            known = self._values(fitted.network, validation) if validation else None
            answered = self._values(fitted.network, self.test)
            if feed.output.together and known is not None:  # as the network's own thresholds: on all people held out
                return fitted, calibrated(fitted.network, feed, join_values([known, answered]), "fp32"), answered, known
            return fitted, calibrated(fitted.network, feed, known, "fp32"), answered, known
        folds = max(split.folds) + 1
        parts, order = [], []
        for number in range(folds):
            learned_here, tested = split.fold(number)
            one = search(opponents, feed, np.array(learned_here), seconds / (folds + 1), self.seed, len(tested))
            parts.append(self._values(one.network, tested))
            order += tested
        held_out = in_place(join_values(parts), order)
        fitted = search(opponents, feed, learned, seconds / (folds + 1), self.seed)
        return fitted, calibrated(fitted.network, feed, held_out, "fp32", same_network=False), held_out, None

    def _values(self, network: Network, examples: Sequence[int]) -> Values:
        return run_in_order(network, self.feed.input, self.feed.output, self.feed.in_order(examples, BATCH))

    def _validated(self, output: Output, known: Values | None) -> float | None:
        """The score on the validation part, of its values."""
        if known is None:
            return None
        wanted = [self.truths[index] for index in self.split.indices("validation")]
        return self.task.score(output.decode(known.values, known.context), wanted).value

    def _contender(self, rival: Rival) -> Contender:
        size = sum(value.numel() * value.element_size() for value in rival.model.network.state_dict().values())
        seconds, score = round(rival.seconds, 3), self._score(rival)
        costs = (seconds, rival.milliseconds, size, float(rival.training_flops), rival.answer_flops)
        made = Contender(rival.kind, rival.name, score, *costs, rival.features, rival.decisions, rival.notes)
        return replace(made, memory=rival.memory, inspect=rival.inspect, fitted_on=rival.fitted_on)

    def _score(self, rival: Rival) -> Score:
        if self.split.folds is None or rival.kind == "trivial":
            return self.task.score(list(rival.answers), self.wanted)
        return score_cross_fitted(self.task, self.split, rival.answers, self.wanted)

    def _answering(self, model: Model, feed: Feed | None = None) -> tuple[float, float]:
        """(milliseconds, FLOPs) of one answer at a time; the median of some."""
        taken = (feed or self.feed).values.take(np.array(self.test[:TIMED_ANSWERS]))
        items = list(taken.cpu().numpy() if isinstance(taken, torch.Tensor) else taken)
        times = []
        for item in items:
            begun = time.perf_counter()
            model.values([item])
            times.append(1000 * (time.perf_counter() - begun))
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            model.values(items[:2])
        return round(statistics.median(times), 3), counter.get_total_flops() / len(items[:2])

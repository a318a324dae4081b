"""The doctor: what may be wrong with a training, by name, with the evidence and what to do. It reads what training left, and measures.

Each check is a function of the Evidence and says nothing where it cannot know. The thresholds were set on healthy runs and on planted
faults (`python -m benchmarks doctor`).
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.classical.fit import PENALTIES, Few, deal_out, fit_scale
from lamina.data.batches import Batch, Feed
from lamina.explain.layers import BATCH, is_trained, length_of, readable
from lamina.layers import Context, Pairs, Tokens
from lamina.metrics import mean_recall, wilson_interval
from lamina.networks import Network
from lamina.outputs import CharactersOutput, ClassesOutput, Progress
from lamina.screen import percent
from lamina.training.snapshots import Snapshot, put_snapshot

LOOKED_AT, AT_ONCE = 256, 32
"""Training examples whose signals and gradients are looked at, so many at once …"""
SECONDS = 0.5
"""… and so long, for each of the things that are looked at."""
FEWEST_STEPS = 60
"""With fewer nothing is said of what was learned."""
DEAD = 0.3
"""Share of a layer's units that never change."""
BOUND, SATURATED = 0.02, 0.5
"""This near to the ends of its range a signal is at an end; this share of a layer's signals."""
VANISHING, EXPLODING = 1e-4, 1e3
"""Gradient of the first trained layer for its weights, as a share of the largest of any layer; and of the least."""
TOO_HIGH, EARLY = 1.2, (0.05, 0.5)
"""Median loss between these shares of the training, as a share of that of a clueless guess or of the untrained network."""
LITTLE_LEARNED, LITTLE_MOVED = 0.8, 0.01
"""Last loss as a share of the first; 1 - the cosine of the weights before and after."""
COLLAPSED = 0.95
"""Share of all answers that name one class, while less of the rest than 1 - this is found."""
RISE, GAP, KNOWN = 1.3, 0.3, 0.95
"""Validation loss as a share of its least; score on training examples minus that on others, where that on training examples is KNOWN."""
SUFFICIENT_READS = 6
"""Reads of the loss from which a curve can be judged."""
WAITED = 0.3
"""Share of the time."""
PLATEAU, SUREST = 0.88, 0.98
"""The probability that this share of all answers stays below."""
NO_SIGNAL = 0.4
"""F1 of a class as a share of the mean over the others."""
LEAST_OF_CLASS = 10
SOURCES, COMPARED = 0.6, 400
"""Share of training and test examples that are told apart, at least; so many of each."""
DISAGREE = 0.03
"""Share of answers that differ in bf16."""
SILENT, NORMALLY_SILENT = 0.9, 400
"""Share of transcripts that are empty, and steps until which that is usual."""
NEGLECT = 0.15
"""Score minus mean recall."""


@dataclass(frozen=True)
class Diagnosis:
    """A named fault, by what it was seen, and what to do."""

    name: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Evidence:
    """What a run left. Parts that are not at hand are empty; the checks that need them say nothing."""

    events: Sequence[dict[str, Any]]
    plan: dict[str, Any]
    truths: Sequence[str] = ()
    labels: Sequence[str] = ()
    """Answers to the test examples …"""
    probabilities: Sequence[float] = ()
    """… with their probabilities."""
    texts: Sequence[str] = ()
    """Transcripts of the test examples …"""
    spoken: Sequence[str] = ()
    """… and what is said in them."""
    network: Network | None = None
    feed: Feed | None = None
    learned: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tested: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Examples that the network never saw, where there is a part of them."""
    snapshots: Sequence[Snapshot] = ()

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind of the last leg that there are events of."""
        last = next((event["leg"] for event in reversed(self.events) if "leg" in event), "")
        return [event for event in self.events if event["event"] == kind and event.get("leg") == last]

    @functools.cached_property
    def some(self) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=0)).permutation(self.learned)[:LOOKED_AT]

    def batches(self) -> Iterator[Batch]:
        """Some training examples, a few at once, as long as there is time (the first few in any case)."""
        if self.network is None or self.feed is None or not len(self.some):
            raise Unknown
        start = time.monotonic()
        for place in range(0, len(self.some), AT_ONCE):
            if place and time.monotonic() - start > SECONDS:
                return
            batch = self.feed.batch(self.some[place : place + AT_ONCE])
            yield batch._replace(x=batch.x.cpu(), target=batch.target.cpu())

    @functools.cached_property
    def signals(self) -> dict[str, Signals]:
        """Of each trained layer but the last, for some training examples."""
        network = self.network
        found: dict[str, Signals] = {}
        with torch.no_grad():
            for batch in self.batches():
                assert network is not None
                trained = {layer.name for layer in network.stack[:-1] if is_trained(layer)}
                for name, x, _ in network.eval().walk(batch.x, batch.context):
                    if name in trained:
                        places = x.float().movedim(1, -1).flatten(0, -2) if x.ndim == 4 else x.float().flatten(0, -2)
                        found[name] = found.get(name, Signals.none(places.shape[-1])).with_more(places)
        return found

    @functools.cached_property
    def gradients(self) -> dict[str, float]:
        """By trained layer: length of the gradient for its weights, as a share of their length, early in training on some examples."""
        early = [snapshot for snapshot in self.snapshots if snapshot.step > 0]
        if self.network is None or self.feed is None or not early:
            raise Unknown
        network = copy.deepcopy(self.network).cpu().eval()
        put_snapshot(network, early[0])
        network.zero_grad(set_to_none=True)
        progress = Progress(torch.zeros(()), torch.tensor(early[0].step))
        with torch.enable_grad():
            for batch in self.batches():
                hidden, context = network.hidden(batch.x, batch.context)
                self.feed.output.loss(hidden, network.head, batch.target, context, progress)[0].backward()
        found = {}
        for layer in network.stack:
            matrices = [value for value in layer.parameters() if value.requires_grad and value.ndim > 1 and value.grad is not None]
            length, gradient = (length_of(each) for each in (matrices, [value.grad for value in matrices if value.grad is not None]))
            if length > 0:
                found[layer.name] = gradient / length
        return found

    @functools.cached_property
    def short(self) -> bool:
        """Whether there were too few steps to judge what was learned."""
        finished = self.told("finished")
        return bool(finished) and finished[-1]["step"] < FEWEST_STEPS


class Unknown(Exception):
    """Raised by a check whose evidence is not at hand."""


@dataclass(frozen=True)
class Signals:
    """What is known of the signals of one layer, added up batch by batch; tensors are by unit."""

    count: int
    total: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor
    top: float
    """How many lie within BOUND of 1 …"""
    middle: float
    """… of 0 …"""
    bottom: float
    """… and of -1."""

    @staticmethod
    def none(units: int) -> Signals:
        zeros = torch.zeros(units, dtype=torch.float64)
        return Signals(0, zeros, zeros, torch.full((units,), torch.inf), torch.full((units,), -torch.inf), 0, 0, 0)

    def with_more(self, x: Tensor) -> Signals:
        """With those of x [n, units], too."""
        near = [float(((x - end).abs() < BOUND).sum()) for end in (1.0, 0.0, -1.0)]
        wide = x.double()
        return Signals(
            self.count + len(x), self.total + wide.sum(0), self.squares + wide.square().sum(0), torch.minimum(self.low, x.amin(0)),
            torch.maximum(self.high, x.amax(0)), self.top + near[0], self.middle + near[1], self.bottom + near[2],
        )  # fmt: skip


@dataclass(frozen=True)
class Examination:
    """What the doctor says, and how many of its checks could look."""

    found: list[Diagnosis]
    looked: int


def diagnose(evidence: Evidence) -> Examination:
    """All faults that are seen."""
    found, looked = [], 0
    for check in CHECKS:
        try:
            diagnosis = check(evidence)
        except Unknown:
            continue
        looked += 1
        if diagnosis is not None:
            found.append(diagnosis)
    return Examination(found, looked)


# ---------------------------------------------------------------- the units


def dead_units(seen: Evidence) -> Diagnosis | None:
    worst = ("", 0.0)
    for name, each in seen.signals.items():
        still = float((each.high - each.low <= 1e-6 * (1 + each.high.abs())).float().mean())
        worst = max(worst, (name, still), key=lambda each: each[1])
    if worst[1] < DEAD:
        return None
    return Diagnosis(
        "dead units",
        f"{percent(worst[1])} % of the units of {worst[0]} put out one and the same signal for all training examples looked at",
        "A lower learning rate, or another start of the weights; dead units of that layer cost time and know nothing.",
    )


def saturation(seen: Evidence) -> Diagnosis | None:
    for name, each in seen.signals.items():
        low, high = float(each.low.min()), float(each.high.max())
        if high > 1 + 1e-6 or low < -1 - 1e-6 or high - low < 0.9:  # no function with ends, or far from them
            continue
        bottom = each.bottom if low < -BOUND else each.middle
        share = (each.top + bottom) / max(1, each.count * len(each.low))
        if each.top and bottom and share > SATURATED:
            return Diagnosis(
                "saturation",
                f"{percent(share)} % of the signals of {name} lie at the ends of their range, where nothing moves them",
                "Smaller first weights, normalization before the activation function, or one without ends (relu, gelu).",
            )
    return None


def vanishing_gradient(seen: Evidence) -> Diagnosis | None:
    if len(seen.gradients) < 3:
        raise Unknown
    tables = [] if seen.network is None else [layer.name for layer in seen.network.stack if isinstance(layer, Tokens | Pairs)]
    (first, gradient), *others = (
        (name, each) for name, each in seen.gradients.items() if name not in tables
    )  # of a table few rows are met
    most = max(value for _, value in others)
    if not most > 0 or not gradient < VANISHING * most:
        return None
    return Diagnosis(
        "vanishing gradient",
        f"early in training the error that comes back to {first} moves its weights {gradient / most:.0e} times as much as those above",
        "Normalization or residual layers, activation functions like relu or gelu, or fewer layers.",
    )


def exploding_gradient(seen: Evidence) -> Diagnosis | None:
    broken = [event for event in seen.told("revised") if event["kind"] == "rate"]
    if broken:
        said = f"the loss was no number at step {broken[0]['step']} or soon after it"
    else:
        if len(seen.gradients) < 3:
            raise Unknown
        (first, gradient), *others = seen.gradients.items()
        least = max(1e-12, min(value for _, value in others))
        if gradient <= EXPLODING * least:
            return None
        said = f"early in training the error that comes back to {first} moves its weights {gradient / least:.0e} times as much as others"
    return Diagnosis("exploding gradient", said, "A lower learning rate, smaller first weights, normalization; look for extreme values.")


# ---------------------------------------------------------------- the rate


def _losses(seen: Evidence) -> tuple[float, list[tuple[float, float]]]:
    """(loss of the untrained network or of a clueless guess, the larger; [(share of the steps, loss)])."""
    before = seen.told("before")
    steps = [event for event in seen.told("stepped") if math.isfinite(event["loss"])]
    last = max((event["step"] for event in steps), default=0)
    if not before or len(steps) < SUFFICIENT_READS or seen.short:
        raise Unknown
    return max(before[-1].get("clueless_loss") or 0.0, before[-1]["loss"]), [(event["step"] / last, event["loss"]) for event in steps]


def rate_too_high(seen: Evidence) -> Diagnosis | None:
    clueless, losses = _losses(seen)
    early = [loss for share, loss in losses if EARLY[0] <= share <= EARLY[1]]
    if len(early) < 2:
        raise Unknown
    if not float(np.median(early)) > TOO_HIGH * clueless:
        return None
    return Diagnosis(
        "rate too high",
        f"in the first half of the training the loss was {float(np.median(early)):.3f}, a clueless guess has {clueless:.3f}",
        "A learning rate ten times lower.",
    )


def rate_too_low(seen: Evidence) -> Diagnosis | None:
    clueless, losses = _losses(seen)
    if seen.network is None or len(seen.snapshots) < 2:
        raise Unknown
    moved = weights_moved(seen.network, seen.snapshots)
    if moved > LITTLE_MOVED or losses[-1][1] < LITTLE_LEARNED * clueless:
        return None
    return Diagnosis(
        "rate too low",
        f"the weights hardly turned (1 - cosine {moved:.1e}), and the loss went from {clueless:.3f} to {losses[-1][1]:.3f} only",
        "More steps, or a learning rate ten times higher.",
    )


def weights_moved(network: Network, snapshots: Sequence[Snapshot]) -> float:
    """1 - the cosine of the trained weights at the first and at the last moment, the mean over tensors that did not begin with zeros."""
    away = []
    for name, value in network.named_parameters():
        first, last = (snapshots[place].weights[name].float() for place in (0, -1))
        if value.requires_grad and value.ndim > 1 and bool(first.any()):
            away.append(1 - float((first * last).sum() / (first.norm() * last.norm()).clamp_min(1e-12)))
    return float(np.mean(away)) if away else 0.0


# ---------------------------------------------------------------- the answers


def collapse(seen: Evidence) -> Diagnosis | None:
    if not seen.labels or seen.short:
        raise Unknown
    label, count = Counter(seen.labels).most_common(1)[0]
    others = [told == truth for told, truth in zip(seen.labels, seen.truths, strict=True) if truth != label]
    if count < COLLAPSED * len(seen.labels) or len(others) < LEAST_OF_CLASS or np.mean(others) > 1 - COLLAPSED:
        return None
    return Diagnosis(
        "collapse to the majority",
        f"{percent(count / len(seen.labels))} % of all answers are {label}; of the others {percent(float(np.mean(others)))} % were found",
        "--balance 1, more examples of the rare classes; look whether the inputs hold the answer at all.",
    )


def rare_classes_neglected(seen: Evidence) -> Diagnosis | None:
    counts = Counter(seen.truths)
    if len(counts) < 2 or min(counts.values()) < LEAST_OF_CLASS or seen.short:
        raise Unknown
    if collapse(seen) is not None:
        return None
    score = float(np.mean([told == truth for told, truth in zip(seen.labels, seen.truths, strict=True)]))
    recall = mean_recall(list(seen.labels), list(seen.truths))
    if score - recall < NEGLECT:
        return None
    return Diagnosis(
        "rare classes neglected",
        f"{percent(score)} % are right, but with every class counted alike only {percent(recall)} %",
        "--balance 1, or more examples of the rare classes.",
    )


def class_without_signal(seen: Evidence) -> Diagnosis | None:
    known, told = Counter(seen.truths), Counter(seen.labels)
    right = Counter(truth for truth, label in zip(seen.truths, seen.labels, strict=True) if truth == label)
    if seen.short:
        raise Unknown
    quality = {label: 2 * right[label] / (known[label] + told[label]) for label in known if known[label] >= LEAST_OF_CLASS}
    if len(quality) < 3:
        raise Unknown
    worst = min(quality, key=lambda label: quality[label])
    others = float(np.mean([value for label, value in quality.items() if label != worst]))
    highest = wilson_interval(right[worst], known[worst], 1 - 0.05 / len(quality))[1]  # the worst of so many
    if quality[worst] > NO_SIGNAL * others or highest > 0.6 * others:
        return None
    return Diagnosis(
        "a class without signal",
        f"of {worst} {percent(right[worst] / known[worst])} % were found, while the other classes stand at {percent(others)} % (F1)",
        f"Look at the examples of {worst}: are they what the label says, and is there anything in them to tell them by?",
    )


def label_noise(seen: Evidence) -> Diagnosis | None:
    if len(seen.probabilities) < 50 or seen.short:
        raise Unknown
    most = float(np.quantile(seen.probabilities, SUREST))
    share = float(np.mean([told == truth for told, truth in zip(seen.labels, seen.truths, strict=True)]))
    guess = Counter(seen.truths).most_common(1)[0][1] / len(seen.truths)
    if most > PLATEAU or share < guess + 0.15:
        return None
    return Diagnosis(
        "label noise",
        f"however clear an example is, the network is hardly ever surer than {percent(most)} %, and right in {percent(share)} %: labels "
        "are wrong, or classes overlap",
        "lamina suspects DATA: look at the table that it writes, correct what is wrong, and train again with --labels.",
    )


def over_fitting(seen: Evidence) -> Diagnosis | None:
    checks = [event for event in seen.told("checked") if math.isfinite(event["loss"])]
    remedy = "More examples, fewer epochs, a smaller --width, or --start-from layers that were trained on more."
    if len(checks) >= 4 and checks[-1].get("score") is not None:
        least = min(checks, key=lambda event: event["loss"])
        if checks[-1]["loss"] > RISE * least["loss"] and checks[-1]["step"] >= least["step"] + 2 * checks[0]["step"]:
            said = f"the loss on held-out examples rose from {least['loss']:.3f} at step {least['step']} to {checks[-1]['loss']:.3f}"
            return Diagnosis("over-fitting", said, remedy)
    if seen.network is None or seen.feed is None or not seen.labels or not isinstance(seen.feed.output, ClassesOutput):
        raise Unknown
    right = []
    with torch.no_grad():
        for batch in seen.batches():
            right.append((seen.network.eval()(batch.x, batch.context)[0].argmax(1) == batch.target).float())
    known = float(torch.cat(right).mean())
    new = float(np.mean([told == truth for told, truth in zip(seen.labels, seen.truths, strict=True)]))
    if known < KNOWN or known - new < GAP:
        return None
    return Diagnosis("over-fitting", f"{percent(known)} % of training examples are right, of new ones {percent(new)} %", remedy)


# ---------------------------------------------------------------- the data and the machine


def starved_loader(seen: Evidence) -> Diagnosis | None:
    finished = seen.told("finished")
    if not finished:
        raise Unknown
    if finished[-1]["waited"] < WAITED:
        return None
    return Diagnosis(
        "starved loader",
        f"training waited {percent(finished[-1]['waited'])} % of its time for data",
        "Put the cache on a faster disk (--cache), or make --side smaller.",
    )


def different_sources(seen: Evidence) -> Diagnosis | None:
    if seen.network is None or seen.feed is None or min(len(seen.tested), len(seen.learned)) < COMPARED // 4:
        raise Unknown
    random = np.random.Generator(np.random.Philox(key=2))
    count = min(COMPARED, len(seen.tested), len(seen.learned))
    own, others = random.permutation(seen.learned)[:count], random.permutation(seen.tested)[:count]
    first = seen.network.stack[0]
    parts = []
    with torch.no_grad():
        for batch in seen.feed.in_order([*own.tolist(), *others.tolist()], BATCH):
            parts.append(readable(*first.eval()(batch.x.cpu(), batch.context)))
    x, y = torch.cat(parts).float(), np.repeat([0, 1], count)
    x = fit_scale(x)(x, Context())[0]
    fold, right = deal_out(y, random), 0
    for number in range(int(fold.max()) + 1):
        inside = torch.from_numpy(fold != number)
        head = Few(x[inside], y[fold != number], 2).solve(PENALTIES["linear"][-1])
        right += int((head(x[~inside], Context())[0].argmax(1).numpy() == y[fold == number]).sum())
    if wilson_interval(right, 2 * count, 0.99)[0] < SOURCES:
        return None
    return Diagnosis(
        "train and test from different sources",
        f"a straight line tells training from test examples in {percent(right / (2 * count))} % of cases (50 % where they are alike)",
        "Look at both: another camera, crop, scale or place? The score holds for the test part's source, and training lacks it.",
    )


def bf16_trouble(seen: Evidence) -> Diagnosis | None:
    if seen.network is None or seen.feed is None or not seen.plan or not isinstance(seen.feed.output, ClassesOutput):
        raise Unknown
    if seen.plan.get("precision") != "bf16":
        return None
    network, differing, finite, count = seen.network.eval(), 0, True, 0
    for batch in seen.batches():
        with torch.no_grad():
            exact = network(batch.x, batch.context)[0]
            with torch.autocast("cpu", torch.bfloat16):
                rounded = network(batch.x, batch.context)[0].float()
        differing, count = differing + int((exact.argmax(1) != rounded.argmax(1)).sum()), count + len(batch.x)
        finite = finite and bool(torch.isfinite(rounded).all())
    differ = differing / count
    if finite and differ < DISAGREE:
        return None
    return Diagnosis(
        "bf16 trouble",
        f"{percent(differ)} % of the answers change when the network is computed in bf16, in which it was trained",
        "--precision fp32.",
    )


def says_nothing(seen: Evidence) -> Diagnosis | None:
    if not seen.texts:
        raise Unknown
    empty = float(np.mean([not text for text in seen.texts]))
    if empty < SILENT:
        return None
    steps = max((event["step"] for event in seen.told("finished")), default=0)
    early = steps < NORMALLY_SILENT
    usual = "; every training with this loss (CTC) begins so" if early else ""
    remedy = "Train longer: letters come after some hundred steps."
    if not early:
        remedy = "Look whether the texts belong to the recordings; more data, or a lower learning rate."
    told = f"{percent(empty)} % of the transcripts are empty after {steps} steps: the network says the blank at every step"
    return Diagnosis("says nothing", told + usual, remedy)


def text_longer_than_sound(seen: Evidence) -> Diagnosis | None:
    if seen.feed is None or not isinstance(seen.feed.output, CharactersOutput) or seen.network is None:
        raise Unknown
    found = []
    for batch in seen.batches():
        with torch.no_grad():
            _, context = seen.network.eval().hidden(batch.x, batch.context.to(torch.device("cpu")))
        lengths = [0] * len(batch.target) if context.lengths is None else context.lengths.tolist()
        for row, steps in zip(batch.target.tolist(), lengths, strict=True):
            letters = [letter for letter in row if letter >= 0]
            found.append(steps < len(letters) + sum(one == other for one, other in itertools.pairwise(letters)))
    if not sum(found):
        return None
    return Diagnosis(
        "texts longer than sounds",
        f"{sum(found)} of {len(found)} training recordings looked at have more letters than steps of 40 ms: they are not learned from",
        "Look whether their texts belong to them, and whether they were cut.",
    )


def letters_never_learned(seen: Evidence) -> Diagnosis | None:
    if not seen.spoken or seen.feed is None or not isinstance(seen.feed.output, CharactersOutput):
        raise Unknown
    letters = Counter("".join(seen.spoken))
    strange = {letter: count for letter, count in letters.items() if letter not in seen.feed.output.letters}
    if not strange:
        return None
    told = " ".join(sorted(strange, key=lambda letter: -strange[letter])[:10])
    share = sum(strange.values()) / max(1, sum(letters.values()))
    return Diagnosis(
        "letters never learned",
        f"{percent(share)} % of the letters of the test part stand in no training text, such as {told}",
        "Write all transcripts by one rule (numbers as words or as digits), and let each letter occur in the training part.",
    )


CHECKS: tuple[Callable[[Evidence], Diagnosis | None], ...] = (
    exploding_gradient, vanishing_gradient, dead_units, saturation, rate_too_high, rate_too_low, collapse, rare_classes_neglected,
    class_without_signal, label_noise, over_fitting, starved_loader, different_sources, bf16_trouble, says_nothing, text_longer_than_sound,
    letters_never_learned,
)  # fmt: skip

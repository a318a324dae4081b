"""The verdict: deep against classical, borrowed and trivial on the same split; costs; one sentence by a fixed rule.

The difference is in points of accuracy (for people: of the equal error rate, of which less is better), deep minus classical, with its
99 % paired interval over the test examples
(Agresti & Min 2005; over several trainings of the network with the chance of training in it); delta is the margin.

  nothing      neither is shown to be better than the trivial answer (95 % paired intervals): nothing to learn here
  deep         the interval lies above +delta
  classical    the interval lies below -delta
  equal        the interval lies inside +-delta; the cheaper is named
  too-little   the interval is wider than 4 delta and covers 0: too little data to tell
  close        anything else: neither is shown to be better by delta; the cheaper is named

Borrowed layers, where they were tried, are named instead when they are ahead of the one so named by more than delta.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lamina.metrics import (
    FEW_STRETCHES,
    drawn_ratios,
    mean_interval,
    paired_interval,
    paired_interval_over_trainings,
    paired_test,
    trials_of,
)
from lamina.screen import bytes_in_words, duration, percent
from lamina.task import Score

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Contender:
    """One way to do the task, measured on this data."""

    kind: str
    """deep, classical, borrowed or trivial."""
    name: str
    score: Score
    seconds: float
    """To train, search for settings included."""
    milliseconds: float
    """One answer at a time, median, from the read value."""
    size: int
    """Bytes of the weights."""
    training_flops: float
    answer_flops: float
    features: tuple[str, ...] = ()
    """What somebody had to think of for its features …"""
    decisions: tuple[str, ...] = ()
    """… and the settings that were chosen."""
    notes: tuple[str, ...] = ()
    memory: int = 0
    """Peak memory of the process until it was trained, in bytes; 0 = not measured."""
    inspect: str = ""
    """What of it can be looked at."""
    fitted_on: int = 0
    """Training examples, where the time did not suffice for all; else 0."""

    @property
    def settled(self) -> tuple[str, ...]:
        """By people."""
        return (*self.features, *self.decisions)


@dataclass(frozen=True)
class Verdict:
    """Which way to use on this data, and why."""

    kind: str
    use: str
    """deep, classical, borrowed or trivial: what the sentence says to use."""
    sentence: str
    margin: float
    """delta, as a share (0.005 is half a point)."""
    difference: float
    """Deep minus classical, as a share …"""
    low: float
    high: float
    """… with its 99 % paired interval."""
    p_value: float
    """Of no difference, of the saved network."""
    contenders: tuple[Contender, ...]
    notes: tuple[str, ...] = ()
    unit: str = "points"
    """Of the difference."""
    test: str = ""
    """What the p-value is of."""

    def contender(self, kind: str) -> Contender | None:
        return next((contender for contender in self.contenders if contender.kind == kind), None)

    def state(self) -> dict[str, Any]:
        """JSON values from which `from_state` makes the same Verdict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Verdict:
        contenders = tuple(
            Contender(
                **{
                    **each,
                    "score": Score(**each["score"]),
                    "features": tuple(each.get("features", ())),
                    "decisions": tuple(each["decisions"]),
                    "notes": tuple(each["notes"]),
                }
            )
            for each in state["contenders"]
        )
        return cls(**{**state, "contenders": contenders, "notes": tuple(state["notes"])})

    def __str__(self) -> str:
        return self.sentence


class Pairing(Protocol):
    """The contenders' answers to the same test examples, compared in pairs."""

    kinds: list[str]
    unit: str
    """Of a difference: points (of a share, times 100), or that of the score."""
    test: str
    """How no difference is tested."""

    def apart(self, one: str, other: str, confidence: float) -> tuple[float, float, float]:
        """(difference, low, high): by how much one is better than the other, as a share."""
        ...

    def p_value(self) -> float:
        """Of no difference between deep and classical."""
        ...

    def chance(self) -> str:
        """What the interval covers, as the end of the sentence."""
        ...


class ByExample:
    """Each test example is right or wrong: the difference is in accuracy."""

    unit, test = "points", "exact McNemar test of the saved network"

    def __init__(self, right: Mapping[str, Sequence[bool]], repeats: Sequence[Sequence[bool]] = ()) -> None:
        """`right`: which test examples each kind got right, in the same order; `repeats`: networks of further seeds did."""
        self.right, self.repeats, self.kinds = right, repeats, list(right)

    def apart(self, one: str, other: str, confidence: float) -> tuple[float, float, float]:
        """The network's over all its trainings."""
        if self.repeats and "deep" in (one, other):
            sign = 1 if one == "deep" else -1
            beside = self.right[other if one == "deep" else one]
            middle, low, high = paired_interval_over_trainings([self.right["deep"], *self.repeats], beside, confidence)
            return sign * middle, min(sign * low, sign * high), max(sign * low, sign * high)
        return paired_interval(self.right[one], self.right[other], confidence)

    def p_value(self) -> float:
        return paired_test(self.right["deep"], self.right["classical"])

    def chance(self) -> str:
        return _over_seeds([self.right["deep"], *self.repeats])


class ByPeople:
    """Pairs of examples are accepted or not: the difference is in equal error rate, people drawn anew together for all kinds."""

    unit, test = "points", "by people drawn anew"

    def __init__(self, answers: Mapping[str, Sequence[Any]], people: Sequence[str]) -> None:
        """`answers`: the embeddings of the test examples by kind; `people`: whose they are."""
        self.kinds = list(answers)
        self.found: dict[str, tuple[float, np.ndarray]] = {}
        for kind, embeddings in answers.items():
            trials = trials_of(np.stack(list(embeddings)), people)
            drawn = np.array([trials.equal_error(counts) for counts in trials.resampled()])
            self.found[kind] = (trials.equal_error(), drawn)

    def apart(self, one: str, other: str, confidence: float) -> tuple[float, float, float]:
        (first, firsts), (second, seconds) = self.found[one], self.found[other]
        low, high = np.quantile(seconds - firsts, [0.5 - confidence / 2, 0.5 + confidence / 2])
        return second - first, float(low), float(high)

    def p_value(self) -> float:
        """Twice the share of the drawings in which the difference has the other sign."""
        return _of_other_sign(self.found["classical"][1] - self.found["deep"][1])

    def chance(self) -> str:
        return "; for the network trained here, by people drawn anew."


class ByRatio:
    """The score is a sum over a sum, of which less is better: what is summed is drawn anew together for all kinds."""

    def __init__(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str, drawn: str) -> None:
        """`sums`: what stands above and below, of each stretch of text (or speaker) by kind; `drawn`: what these are, for the sentence."""
        self.kinds, self.unit, self.drawn, self.test = list(sums), unit, drawn, f"by {drawn} drawn anew"
        self.few = len(next(iter(sums.values()))[0]) < FEW_STRETCHES
        self.found = {kind: drawn_ratios(*own) for kind, own in sums.items()}

    def apart(self, one: str, other: str, confidence: float) -> tuple[float, float, float]:
        (first, firsts), (second, seconds) = self.found[one], self.found[other]
        low, high = np.quantile(seconds - firsts, [0.5 - confidence / 2, 0.5 + confidence / 2])
        if self.few:
            return second - first, -first, second
        return second - first, float(low), float(high)

    def p_value(self) -> float:
        """Twice the share of the drawings in which the difference has the other sign."""
        return 1.0 if self.few else _of_other_sign(self.found["classical"][1] - self.found["deep"][1])

    def chance(self) -> str:
        return f"; for the network trained here, by {self.drawn} drawn anew."


class ByMean:
    """The score is a mean over users, of which more is better: the difference of the same users' values."""

    def __init__(self, values: Mapping[str, np.ndarray], unit: str, drawn: str) -> None:
        """`values`: of each test user by kind; `drawn`: what these are, for the sentence."""
        self.kinds, self.values, self.unit, self.drawn = list(values), dict(values), unit, drawn
        self.test = f"paired t test over {drawn}"

    def apart(self, one: str, other: str, confidence: float) -> tuple[float, float, float]:
        apart = self.values[one] - self.values[other]
        return float(apart.mean()), *mean_interval(apart, confidence)

    def p_value(self) -> float:
        """Of a paired t test."""
        from scipy.stats import ttest_rel

        apart = self.values["deep"] - self.values["classical"]
        return 1.0 if len(apart) < 2 or not apart.any() else float(ttest_rel(self.values["deep"], self.values["classical"]).pvalue)

    def chance(self) -> str:
        return f"; for the network trained here, by {self.drawn}."


def _of_other_sign(drawn: np.ndarray) -> float:
    return min(1.0, 2 * float(min((drawn <= 0).mean(), (drawn >= 0).mean())) + 1 / len(drawn))


def compare(contenders: Sequence[Contender], pairing: Pairing, margin: float, notes: tuple[str, ...] = ()) -> Verdict:
    """The verdict; deep, classical and trivial must be among the contenders, all of them in the pairing."""
    deep, classical, trivial = (next(each for each in contenders if each.kind == kind) for kind in ("deep", "classical", "trivial"))
    apart = pairing.apart
    difference, low, high = apart("deep", "classical", CONFIDENCE)
    better = any(apart(each, "trivial", 0.95)[1] > 0 for each in ("deep", "classical"))
    kind = judge(low, high, margin, better)
    cheaper = "classical" if classical.seconds <= deep.seconds else "deep"
    use = "trivial" if kind == "nothing" else kind if kind in ("deep", "classical") else cheaper
    sentence = _sentence(kind, use, deep, classical, trivial, (difference, low, high), margin, pairing.unit)
    sentence += pairing.chance()
    if borrowed := next((each for each in contenders if each.kind == "borrowed"), None):
        rival = use if use in pairing.kinds else "deep"
        found = apart("borrowed", rival, CONFIDENCE)
        ahead = _by_interval(found[1], found[2], margin) == "deep"
        sentence += _of_borrowed(borrowed, rival, found, ahead)
        use = "borrowed" if ahead else use
    sentence += "".join(f" {note[0].upper()}{note[1:]}." for note in notes)
    return Verdict(
        kind, use, sentence, margin, difference, low, high, pairing.p_value(), tuple(contenders), notes, pairing.unit, pairing.test
    )


def _of_borrowed(borrowed: Contender, rival: str, found: tuple[float, float, float], ahead: bool) -> str:
    """What the sentence says of the third contender."""
    by = f"{_points(found[0])} points against {rival} ({_points(found[1])} to {_points(found[2])})"
    told = f"{borrowed.name} with logistic regression, {percent(borrowed.score.value)} %, {by}"
    return f" Better still would be borrowed layers: {told}." if ahead else f" Borrowed layers: {told}."


@dataclass(frozen=True)
class Against:
    """This model and another system's answers to the same examples, paired."""

    kind: str
    """ahead, behind, equal, too-little or close: the rule of the verdict."""
    other: float
    """Accuracy of the other's answers."""
    difference: float
    """This model minus the other, as a share …"""
    low: float
    high: float
    """… with its 99 % paired interval."""
    p_value: float
    sentence: str


def against_other(right: Sequence[bool], theirs: Sequence[bool], margin: float) -> Against:
    """By the rule of the verdict, without its first line: nobody knows how the other learned."""
    difference, low, high = paired_interval(right, theirs, CONFIDENCE)
    kind = {"deep": "ahead", "classical": "behind"}.get(found := _by_interval(low, high, margin), found)
    by = f"{_points(difference)} points ({_points(low)} to {_points(high)}, 99 % paired interval)"
    within = f"{_points(margin, sign=False)} points"
    said = {
        "ahead": f"This model is ahead, by {by}",
        "behind": f"This model is behind, at {by}",
        "equal": f"Equal within {within}, at {by}",
        "too-little": f"Too little data to tell, at {by}",
        "close": f"Close: neither is shown to be better by {within}, at {by}",
    }[kind]
    other = sum(theirs) / max(1, len(theirs))
    return Against(kind, other, difference, low, high, paired_test(right, theirs), f"{said}; the other answers {percent(other)} % right.")


def judge(low: float, high: float, margin: float, better: bool) -> str:
    """The rule at the top of this file; `better` than the trivial answer one of them is."""
    return _by_interval(low, high, margin) if better else "nothing"


def _by_interval(low: float, high: float, margin: float) -> str:
    if low > margin:
        return "deep"
    if high < -margin:
        return "classical"
    if -margin <= low and high <= margin:
        return "equal"
    if high - low > 4 * margin and low <= 0 <= high:
        return "too-little"
    return "close"


def _sentence(
    kind: str, use: str, deep: Contender, classical: Contender, trivial: Contender, found: tuple[float, float, float], margin: float,
    unit: str,
) -> str:  # fmt: skip
    what = "" if deep.score.better == "higher" else f"{deep.score.name}: "
    told = [each.score.told(each.score.value) for each in (deep, classical, trivial)]
    scores = f"{what}deep {told[0]}, classical {told[1]} ({classical.name}), guessing {told[2]}, on {deep.score.n} examples"
    difference = f"{_points(found[0], unit)} {unit} ({_points(found[1], unit)} to {_points(found[2], unit)}, 99 % paired interval)"
    within = f"{_points(margin, unit, sign=False)} {unit}"
    one, other = (classical, deep) if use == "classical" else (deep, classical)
    cheap = f"the {use} model is {_times(other.seconds / max(one.seconds, 1e-9))} cheaper to train, search included: use it"
    said = {
        "nothing": "Nothing to learn here: neither is shown to be better than a guess",
        "deep": f"Use deep learning: ahead by {difference}",
        "classical": f"Use the classical model: deep learning is behind, at {difference}",
        "equal": f"Equal within {within}, at {difference}: {cheap}",
        "too-little": f"Too little data to tell, at {difference}: until there are more, {cheap}",
        "close": f"Close: neither is shown to be better by {within}, at {difference}: {cheap}",
    }[kind]
    return f"{said}. {scores[0].upper()}{scores[1:]}"


def _over_seeds(right: Sequence[Sequence[bool]]) -> str:
    """What the interval covers."""
    if len(right) == 1:
        return "; for the network trained here."
    shares = [100 * sum(one) / max(1, len(one)) for one in right]
    told = f"{statistics.mean(shares):.1f} ± {statistics.stdev(shares):.1f} %"
    return f"; the interval holds chance in training: deep from {len(right)} seeds {told}."


def table(verdict: Verdict) -> list[str]:
    """Lines of the table of costs, one a contender."""
    lines = [f"{'':10} {'score':>7} {'train':>9} {'answer':>9} {'size':>9} {'FLOPs':>8}  settled by people"]
    for each in verdict.contenders:
        lines.append(
            f"{each.kind:10} {each.score.told(each.score.value):>7} {duration(each.seconds):>9} {each.milliseconds:>6.2f} ms "
            f"{bytes_in_words(each.size):>9} {each.training_flops or float('nan'):>8.1e}  {len(each.settled)} things"
        )
    return lines


def _points(share: float, unit: str = "points", sign: bool = True) -> str:
    told = f"{100 * share:+.1f}" if unit.startswith("points") else f"{share:+.3f}"
    return told if sign else told.lstrip("+")


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"

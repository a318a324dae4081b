"""How much: a number, its unit, and an interval that holds nine in ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lamina.errors import DataError, ModelFileError, sentence
from lamina.layers import Context, Layer, Linear
from lamina.outputs.base import Answer, Output, Progress

COVERED = 0.9
"""Share of true numbers that the interval is to hold."""
SKEWED = 1.5
"""From this skewness on, where all are above 0, it is the logarithm that is learned."""
LARGE, FAR = 2.0, 5.0
"""Deviations from which on an error counts by its size and not its square, and beyond which it counts as this for the spread."""
NARROWEST, WIDEST = -6.0, 6.0
"""Logarithms of the spread, in deviations of the training part."""
LEAST_HELD_OUT = 20


@dataclass(frozen=True)
class Amount(Answer):
    """A number; `label` is it in words, `probability` the share of intervals that hold the truth."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class NumberOutput(Output):
    """Two values: the number, in deviations from the mean of the training part, and the logarithm of how uncertain it is.

    The interval is that of split conformal prediction (Vovk et al. 2005; Lei et al. 2018, https://doi.org/10.1080/01621459.2017.1307116):
    as many spreads on either side as hold 90 % of held-out numbers.
    """

    kind: ClassVar[str] = "number"

    unit: str = ""
    mean: float = 0.0
    deviation: float = 1.0
    logarithm: bool = False
    least: float = -math.inf
    most: float = math.inf
    """Of the training part; an answer is never far beyond them."""
    spreads: float = 1.645
    """Half the interval, in spreads; until it is calibrated that of a normal distribution."""
    held_out: int = 0
    """Held-out numbers on which it was calibrated."""

    def fit(self, answers: Sequence[Any]) -> NumberOutput:
        """Raises DataError where an answer is no number, or all are one."""
        values = np.array([number_of(answer) for answer in answers])
        if values.std() <= 1e-12 * max(1.0, abs(float(values.mean()))):
            raise DataError(sentence("The numbers to learn", "differ", f"{values[0]:g} throughout"))
        standard = (values - values.mean()) / values.std()
        logarithm = bool(values.min() > 0 and (standard**3).mean() > SKEWED)
        seen = np.log(values) if logarithm else values
        least, most = float(values.min()), float(values.max())
        return replace(self, mean=float(seen.mean()), deviation=float(seen.std()), logarithm=logarithm, least=least, most=most)

    def decided(self) -> str:
        how = "; what is learned is their logarithm, for they are skewed" if self.logarithm else ""
        return f"numbers from {self.least:g} to {self.most:g}{' ' * bool(self.unit)}{self.unit}{how}"

    def encode(self, answer: Any) -> float:
        """In deviations from the mean. Raises DataError where it is no number."""
        value = number_of(answer)
        if self.logarithm:
            value = math.log(max(value, 1e-3 * self.least))
        return (value - self.mean) / self.deviation

    def collate(self, targets: Sequence[Any]) -> Tensor:
        return torch.tensor(list(targets), dtype=torch.float32)

    def head(self, width: int) -> Layer:
        return Linear(width, 2, start=0.0, scale=width**-0.5)  # an error has no bound as a probability has: one rate suits any width

    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        """Half the squared error, of large ones its tangent (Huber 1964); the spread learns from the errors without moving them."""
        values = head(hidden, context)[0].float()
        error, spread = values[:, 0] - target, values[:, 1].clamp(NARROWEST, WIDEST)
        honest = spread + 0.5 * error.detach().clamp(-FAR, FAR).square() * torch.exp(-2 * spread)
        own = torch.nn.functional.huber_loss(values[:, 0], target, reduction="none", delta=LARGE)
        return (own + honest).sum(), torch.tensor(float(len(target)), device=target.device)

    def decode(self, values: Tensor, context: Context) -> list[Amount]:
        """Raises ModelFileError where there are not two values each."""
        if values.ndim != 2 or values.shape[1] != 2:
            raise ModelFileError(sentence("The last layer", "put out 2 values, a number and its spread", list(values.shape[1:])))
        found = (each.tolist() for each in self.tensors(values.double(), context).values())
        return [
            Amount(told(value, low, high) + f"{' ' * bool(self.unit)}{self.unit}", COVERED, value=value, low=low, high=high)
            for value, low, high in zip(*found, strict=True)
        ]

    def tensors(self, values: Tensor, context: Context) -> dict[str, Tensor]:
        """The number and the ends of its interval, [n] each."""
        middle, half = values[:, 0], self.spreads * values[:, 1].clamp(NARROWEST, WIDEST).exp()
        return {name: self._back(each) for name, each in (("value", middle), ("low", middle - half), ("high", middle + half))}

    def _back(self, standard: Tensor) -> Tensor:
        found = standard * self.deviation + self.mean
        room = self.most - self.least
        if self.logarithm:
            found = found.clamp(max=math.log(self.most) + 3).exp()
        return found.clamp(self.least - room, self.most + room)

    def guess(self, targets: Sequence[Any]) -> Tensor:
        """The mean and the deviation."""
        values = np.asarray(targets, np.float64)
        return torch.tensor([float(values.mean()), math.log(max(1e-6, float(values.std())))])

    def calibrate(self, values: Tensor, target: Tensor, outliers: Tensor | None, same_network: bool = True) -> NumberOutput:
        """So many spreads that 90 % of held-out numbers, and the next one, are inside."""
        if len(values) < LEAST_HELD_OUT:
            return self
        away = (values[:, 0] - target).abs() / values[:, 1].clamp(NARROWEST, WIDEST).exp()
        place = min(len(away), math.ceil((len(away) + 1) * COVERED)) - 1
        return replace(self, spreads=float(away.sort().values[place]), held_out=len(away))

    def state(self) -> dict[str, Any]:
        names = ("unit", "mean", "deviation", "logarithm", "least", "most", "spreads", "held_out")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NumberOutput:
        """Raises ModelFileError when `state` is not one."""
        names = ("mean", "deviation", "least", "most", "spreads")
        numbers = [value for name in names if isinstance(value := state.get(name), (int, float)) and math.isfinite(value)]
        unit, logarithm, held_out = (state.get(name) for name in ("unit", "logarithm", "held_out"))
        good = len(numbers) == len(names) and isinstance(unit, str) and isinstance(logarithm, bool) and isinstance(held_out, int)
        if not good or numbers[1] <= 0 or numbers[2] > numbers[3] or numbers[4] < 0 or (logarithm and numbers[2] <= 0):
            raise ModelFileError(sentence("The number output of the model", "have a mean, a deviation and a range", state))
        given: dict[str, Any] = dict(zip(names, map(float, numbers), strict=True))
        return cls(unit=str(unit), logarithm=bool(logarithm), held_out=int(held_out or 0), **given)


def number_of(answer: Any) -> float:
    """A finite number from a table's cell. Raises DataError."""
    try:
        value = float(str(answer).strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(sentence("An answer", "be a number", answer))
    return value


def told(value: float, low: float, high: float) -> str:
    """As many digits as the interval leaves sense in."""
    room = max(abs(high - low), 1e-12)
    digits = max(0, 2 - math.floor(math.log10(room)))
    return f"{value:,.{min(digits, 6)}f}"

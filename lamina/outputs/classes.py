"""Which of these classes, with a calibrated probability, or "none of these"."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lamina.errors import DataError, ModelFileError, did_you_mean, sentence
from lamina.layers import Context, Layer, Linear
from lamina.losses import cross_entropy
from lamina.outputs.base import Answer, Output, Progress

TOP = 5
MOST_REJECTED = 0.01
"""The threshold turns away at most this share of the held-out examples."""
LEAST_THRESHOLD = -1e6
MEASURES = ("energy", "largest", "probability")


@dataclass(frozen=True)
class ClassesOutput(Output):
    """Softmax over `labels`. Calibrated: temperature, and a threshold below which a value is like none of the classes."""

    kind: ClassVar[str] = "classes"

    labels: tuple[str, ...] = ()
    smoothing: float = 0.1
    balance: float = 0.0
    """Training only: how much rare classes count, from 0 (as often as they occur) to 1 (as much as frequent ones) …"""
    shares: tuple[float, ...] = ()
    """… and how often each occurs."""
    temperature: float = 1.0
    """Logits are divided by it (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
    measure: str = "energy"
    """What the threshold is on: energy (Liu et al. 2020, https://arxiv.org/abs/2010.03759), largest logit, or probability."""
    threshold: float = -math.inf
    outliers_rejected: float = 0.0
    """Share of generated outliers that the threshold turned away when it was chosen."""
    rejected: float = 0.0
    """Share of held-out real examples that it turned away."""

    def fit(self, answers: Sequence[Any]) -> ClassesOutput:
        counts = Counter(answers)
        labels = tuple(sorted(counts))
        return replace(self, labels=labels, shares=tuple(counts[label] / len(answers) for label in labels))

    def encode(self, answer: Any) -> int:
        """Its index among the labels. Raises DataError for a label that training did not see."""
        index = int(np.searchsorted(self.labels, answer)) if isinstance(answer, str) else -1
        if not 0 <= index < len(self.labels) or self.labels[index] != answer:
            shown = ", ".join(self.labels[:8]) + (" …" if len(self.labels) > 8 else "")
            raise DataError(sentence("A label", f"be one that the model learned ({shown})", answer, did_you_mean(str(answer), self.labels)))
        return index

    def head(self, width: int) -> Layer:
        return Linear(width, len(self.labels), start=0.0)

    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        weights = _on(tuple(self._weights()), hidden.device) if self.balance and self.shares else None
        return cross_entropy(head(hidden, context)[0], target, self.smoothing, weights)

    def _weights(self) -> list[float]:
        """Of each class in the loss: the inverse of its share to the power `balance`, 1 in the mean over the examples."""
        raw = [share**-self.balance for share in self.shares]
        mean = sum(share * weight for share, weight in zip(self.shares, raw, strict=True))
        return [weight / mean for weight in raw]

    def decode(self, values: Tensor, context: Context) -> list[Answer]:
        """values [n, classes] are logits. Raises ModelFileError when they are not as many as the labels."""
        if values.ndim != 2 or values.shape[1] != len(self.labels):
            raise ModelFileError(sentence("The last layer", f"put out {len(self.labels)} values, one per label", list(values.shape[1:])))
        probabilities = torch.softmax(values.double() / self.temperature, dim=1)
        best, order = probabilities.topk(min(TOP, len(self.labels)), dim=1)
        known = (self._likeness(values, self.measure) >= self.threshold).tolist()
        answers = []
        for shares, places, fits in zip(best.tolist(), order.tolist(), known, strict=True):
            top = tuple((self.labels[place], share) for place, share in zip(places, shares, strict=True))
            answers.append(Answer(top[0][0] if fits else None, top[0][1], top, not fits))
        return answers

    def tensors(self, values: Tensor, context: Context) -> dict[str, Tensor]:
        """Probabilities [n, classes] in the order of the labels, and how like any of them the value is, [n]: below 0 it is none of them."""
        likeness = (self._likeness(values, self.measure) - max(self.threshold, LEAST_THRESHOLD)).to(values.dtype)
        return {"probabilities": torch.softmax(values / self.temperature, 1), "likeness": likeness}

    def _likeness(self, values: Tensor, measure: str) -> Tensor:
        """[n] how much a value is like the classes at all: larger is more."""
        values = values.double()
        if measure == "energy":
            return torch.logsumexp(values, 1)
        return values.amax(1) if measure == "largest" else torch.softmax(values / self.temperature, 1).amax(1)

    def clueless(self, targets: Sequence[Any]) -> tuple[float, float]:
        counts = np.array(list(Counter(targets).values()), np.float64)
        shares = counts / counts.sum()
        return float(shares.max()), float(-(shares * np.log(shares)).sum())

    def guess(self, targets: Sequence[Any]) -> Tensor:
        """The logarithms of how often each class occurs."""
        counts = np.bincount(np.asarray(targets), minlength=len(self.labels))
        return torch.from_numpy(np.log(np.maximum(counts, 0.5) / counts.sum())).float()

    def least_loss(self) -> float:
        """With smoothed targets even a perfect answer has a loss: their entropy."""
        other = self.smoothing / len(self.labels)
        own = 1 - self.smoothing + other
        return -own * math.log(own) - (len(self.labels) - 1) * other * math.log(other) if other else 0.0

    def right(self, values: Tensor, target: Tensor, context: Context) -> Tensor:
        return values.argmax(1) == target

    def calibrate(self, values: Tensor, target: Tensor, outliers: Tensor | None, same_network: bool = True) -> ClassesOutput:
        """Temperature of least log loss on held-out logits; then, of the measures, the one that turns away most generated outliers."""
        if len(values) < 2:
            return self
        fitted = replace(self, temperature=_best_temperature(values, target))
        turned_away = math.floor(MOST_REJECTED * len(values))
        best = fitted
        measures = MEASURES if same_network else ("probability",)
        for measure in measures if outliers is not None and len(outliers) else ():
            real = fitted._likeness(values, measure).sort().values
            threshold = float(real[turned_away])
            assert outliers is not None
            share = float((fitted._likeness(outliers, measure) < threshold).double().mean())
            if best.threshold == -math.inf or share > best.outliers_rejected:
                rejected = float((real < threshold).double().mean())
                best = replace(fitted, measure=measure, threshold=threshold, outliers_rejected=share, rejected=rejected)
        return best

    def state(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("smoothing", "balance", "temperature", "outliers_rejected", "rejected")}
        threshold = None if self.threshold == -math.inf else self.threshold
        return {"labels": list(self.labels), "shares": list(self.shares), "measure": self.measure, "threshold": threshold, **numbers}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ClassesOutput:
        """Raises ModelFileError when `state` is not one."""
        labels, shares, measure, threshold = (state.get(name) for name in ("labels", "shares", "measure", "threshold"))
        names = ("smoothing", "balance", "temperature", "outliers_rejected", "rejected")
        numbers: dict[str, Any] = {name: float(state[name]) for name in names if _finite(state.get(name))}
        texts = [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []
        often = [float(share) for share in shares if _finite(share) and 0 < share <= 1] if isinstance(shares, list) else []
        whole = len(texts) >= 2 and sorted(set(texts)) == labels and len(numbers) == len(names) and often == shares
        whole = whole and 1e-3 <= numbers["temperature"] <= 1e3
        if not (whole and (threshold is None or _finite(threshold)) and measure in MEASURES):
            raise ModelFileError(sentence("The classes output of the model", "have sorted, distinct labels and finite numbers", state))
        known = -math.inf if threshold is None else float(threshold)
        return cls(tuple(texts), measure=str(measure), threshold=known, shares=tuple(often), **numbers)


@functools.lru_cache(maxsize=8)
def _on(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A tensor that stays on the device: brought there in every step, it would make a GPU wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _best_temperature(values: Tensor, target: Tensor) -> float:
    from scipy.optimize import minimize_scalar

    logits, wanted = values.double().numpy(), target.numpy()

    def log_loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        top = scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled - top).sum(1)) + top[:, 0] - scaled[np.arange(len(wanted)), wanted]).mean())

    return math.exp(minimize_scalar(log_loss, bounds=(math.log(0.05), math.log(20)), method="bounded").x)

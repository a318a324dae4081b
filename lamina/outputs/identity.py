"""Whose it is, among people that training never saw: an embedding, with an angular margin while it is learned."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import DataError, ModelFileError, sentence
from lamina.layers import Context, Cosine, Layer
from lamina.metrics import Opening, openings, smallest_rate, trials_of
from lamina.outputs.base import Output, Progress

RATES = tuple(
    rate for power in range(1, 6) for step in (8, 6, 5, 4, 3, 2.5, 2, 1.5, 1.25, 1) if (rate := round(step * 10**-power, 9)) <= 0.5
)
"""False-accept rates, ten to a power of ten, from one in two to one in 100,000."""
LEAST_SCALE, MARGIN, MANY = 16.0, (0.2, 0.3), 200
"""The margin for fewer and for as many people as MANY."""
STRANGER = 1 << 62
"""From here on are the numbers of people that training does not know."""


@dataclass(frozen=True)
class IdentityOutput(Output):
    """One angle between two embeddings decides. Calibrated: which angle lets in which share of strangers, on people held out.

    The loss is that of CosFace (Wang et al. 2018, https://arxiv.org/abs/1801.09414): the cosine to one's own direction must be ahead by a
    margin. It grows from 0: a full margin from the first step on fails where people are few.
    """

    kind: ClassVar[str] = "identity"
    reads: ClassVar[str] = "embedding"
    together: ClassVar[bool] = True

    people: tuple[str, ...] = ()
    """Of the training part; their names are not kept in a model file."""
    count: int = 0
    scale: float = 24.0
    margin: float = 0.3
    grown: float = 0.5
    """Share of the training after which the margin is whole."""
    openings: tuple[Opening, ...] = ()
    """Thresholds by false-accept rate, falling …"""
    held_out: int = 0
    """… measured on so many people that training never saw …"""
    compared: int = 0
    """… in so many pairs of strangers."""

    def fit(self, answers: Sequence[Any]) -> IdentityOutput:
        """With few people a smaller margin; the scale grows with the logarithm of their number (Zhang et al. 2019, AdaCos,
        https://arxiv.org/abs/1905.00292, doubled to leave room for the margin)."""
        people = tuple(sorted(set(answers)))
        scale = max(LEAST_SCALE, 2 * math.sqrt(2) * math.log(max(2, len(people) - 1)))
        return replace(self, people=people, count=len(people), scale=scale, margin=MARGIN[len(people) >= MANY])

    def encode(self, answer: Any) -> int:
        """The place among the people of the training part; of anybody else a number of their own. Raises DataError for no name."""
        if not isinstance(answer, str) or not answer:
            raise DataError(sentence("A person", "be named by a text", answer))
        place = int(np.searchsorted(self.people, answer)) if self.people else 0
        if place < len(self.people) and self.people[place] == answer:
            return place
        return STRANGER + int.from_bytes(hashlib.blake2b(answer.encode("utf-8", "surrogateescape"), digest_size=7).digest(), "big")

    def head(self, width: int) -> Layer:
        return Cosine(width, max(1, self.count))

    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        cosine = head(hidden, context)[0].float()
        margin = self.margin * (progress.fraction / self.grown).clamp(0, 1)
        known = target < cosine.shape[1]
        own = F.one_hot(target.clamp_max(cosine.shape[1] - 1), cosine.shape[1])
        each = F.cross_entropy(self.scale * (cosine - margin * own), target.clamp_max(cosine.shape[1] - 1), reduction="none")
        return (each * known).sum(), known.sum().float()

    def decode(self, values: Tensor, context: Context) -> list[np.ndarray]:
        """float32 [width] of length 1 for each."""
        return list(F.normalize(values.float(), dim=-1).numpy())

    def tensors(self, values: Tensor, context: Context) -> dict[str, Tensor]:
        """The embedding [n, width], of length 1."""
        return {"embedding": F.normalize(values, dim=-1)}

    def judge(self, values: Tensor, targets: Tensor) -> float | None:
        """1 - EER of people that training never saw; None unless there are two, one of them with two examples."""
        try:
            trials = trials_of(F.normalize(values.float(), dim=-1).numpy(), [str(target) for target in targets.tolist()])
        except ValueError:
            return None
        return 1 - trials.equal_error()

    def guess(self, targets: Sequence[Any]) -> Tensor:
        return torch.ones(1)

    def calibrate(self, values: Tensor, target: Tensor, outliers: Tensor | None, same_network: bool = True) -> IdentityOutput:
        """Thresholds by false-accept rate, for those rates that so many people can tell from 0."""
        try:
            trials = trials_of(F.normalize(values.float(), dim=-1).numpy(), [str(each) for each in target.tolist()])
        except ValueError:
            return self
        compared = int((~trials.same).sum())
        least = smallest_rate(trials.people, compared)
        found = openings(trials, [rate for rate in RATES if rate >= least])
        return replace(self, openings=tuple(found), held_out=trials.people, compared=compared)

    def opening(self, false_accept: float) -> Opening:
        """The threshold for a wanted false-accept rate. Raises DataError where the people held out are too few for it, with the smallest
        rate that they can."""
        least = smallest_rate(self.held_out, self.compared) if self.held_out else 1.0
        fits = [opening for opening in self.openings if opening.wanted <= false_accept * (1 + 1e-9)]
        if not fits:
            told = f"be at least {self.openings[-1].wanted:g}" if self.openings else "be asked of a model with thresholds"
            raise DataError(
                sentence(
                    "--false-accept",
                    f"{told}: the {self.held_out} people held out cannot tell less than {least:.2g} from 0",
                    false_accept,
                    "Train with more people.",
                )
            )
        return fits[0]

    def state(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("count", "scale", "margin", "grown", "held_out", "compared")}
        return {**numbers, "openings": [asdict(opening) for opening in self.openings]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> IdentityOutput:
        """Raises ModelFileError when `state` is not one."""
        try:
            found = tuple(Opening(**{name: float(value) for name, value in each.items()}) for each in state["openings"])
            whole = {name: state[name] for name in ("count", "held_out", "compared")}
            numbers: dict[str, Any] = {name: float(state[name]) for name in ("scale", "margin", "grown")}
            good = all(isinstance(value, int) and 0 <= value < 10**9 for value in whole.values()) and len(found) <= len(RATES)
            good = good and all(map(math.isfinite, numbers.values())) and numbers["grown"] > 0
            good = good and all(
                0 <= each.rate <= each.bound <= 1 and 0 < each.wanted < 1 and abs(each.threshold) <= 1.001 for each in found
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            good = False
        if not good:
            raise ModelFileError(sentence("The identity output of the model", "have counts, a margin and thresholds", state))
        return replace(cls(), count=whole["count"], openings=found, held_out=whole["held_out"], compared=whole["compared"], **numbers)

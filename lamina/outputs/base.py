"""Output: tensor <-> answer, with its loss. The contract that every kind of answer keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lamina.errors import ModelFileError, did_you_mean, sentence
from lamina.layers import Context, Layer

OUTPUT_KINDS: dict[str, type[Output]] = {}


class Progress(NamedTuple):
    """How far training is: 0-D tensors, so that a compiled or captured step does not change with them."""

    fraction: Tensor
    """0 at the first step, towards 1 at the last."""
    step: Tensor


@dataclass(frozen=True)
class Answer:
    """What the network says about one value."""

    label: str | None
    """None: none of these."""
    probability: float
    """Calibrated, of the best label."""
    top: tuple[tuple[str, float], ...] = ()
    """The five best labels with their probabilities."""
    unknown: bool = False


class Output(ABC):
    """A frozen value: `fit` and `calibrate` return new ones."""

    kind: ClassVar[str] = ""
    reads: ClassVar[str] = "head"
    """The named layer that answers come from."""
    measured: ClassVar[bool] = False
    """Whether what is kept of an example is how it was met (`met`) rather than what the network put out."""
    checked: ClassVar[str] = "loss"
    """What checks during training find of held-out examples, less being better: another name where it is not the loss of training."""
    seconds_each: ClassVar[float] = 0.0
    """What making an answer of the network's values takes beside the network, where that is more than nothing."""
    reported: ClassVar[int] = 0
    """Ways beside the network by which the report answers the test part, each as long as the network's own answers at most."""
    together: ClassVar[bool] = False
    """Whether held-out answers can only be judged together (`judge`): training never saw them, so that they have no loss."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "kind" in cls.__dict__:
            OUTPUT_KINDS[cls.kind] = cls

    @abstractmethod
    def fit(self, answers: Sequence[Any]) -> Output:
        """Learn the set of answers."""

    @abstractmethod
    def encode(self, answer: Any) -> Any:
        """One answer -> its target."""

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Targets -> one batch."""
        return torch.as_tensor(targets)

    @abstractmethod
    def head(self, width: int) -> Layer:
        """The network's last layer, named head, for `width` signals."""

    @abstractmethod
    def loss(self, hidden: Tensor, head: Layer, target: Tensor, context: Context, progress: Progress) -> tuple[Tensor, Tensor]:
        """(sum, count) over a batch, from the signals before the head, so that margins, tied and sampled softmax and CTC all fit."""

    def met(self, x: Tensor, hidden: Tensor, head: Layer, target: Tensor, context: Context) -> Tensor:
        """[N, …] how well each example of a batch `x` was met, from the signals before the head, where `measured`: the loss first, then by
        how many it is divided."""
        raise NotImplementedError(f"{type(self).__name__} measures nothing")

    @abstractmethod
    def decode(self, values: Tensor, context: Context) -> list[Any]:
        """What the layer named by `reads` put out, with the context (lengths) beside it -> one answer per row."""

    def tensors(self, values: Tensor, context: Context) -> dict[str, Tensor]:
        """What an answer is made of, as tensors by name, the first axis counting values: what an exported graph puts out."""
        return {"values": values}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON values from which `from_state` makes the same Output."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Output:
        """Raises ModelFileError when `state` is not one."""

    def joined(self, parts: Sequence[Tensor], overlap: int) -> Tensor:
        """What came out for the windows of one value (`Input.windows`), in one; they overlap by so many steps."""
        raise NotImplementedError(f"{type(self).__name__} joins nothing")

    def decided(self) -> str:
        """What fitting decided, in words for the screen; empty where there is nothing to say."""
        return ""

    def clueless(self, targets: Sequence[Any]) -> tuple[float, float] | None:
        """(score, loss) of a guess that knows only how frequent each answer is; None where that has no meaning."""
        return None

    def least_loss(self) -> float | None:
        """What the loss would be for perfect answers; None where that is not known."""
        return None

    def right(self, values: Tensor, target: Tensor, context: Context) -> Tensor | None:
        """Which rows are right, or how right from 0 to 1, for the live score; None where a row is not right or wrong."""
        return None

    def judge(self, values: Tensor, targets: Tensor) -> float | None:
        """How good the values of held-out examples are together, 1 at best; None where there are too few to say."""
        return None

    def guess(self, targets: Sequence[Any]) -> Tensor:
        """The values of one who never looks at an example, from the training part's targets."""
        raise NotImplementedError(f"{type(self).__name__} has no guess")

    def calibrate(self, values: Tensor, target: Tensor, outliers: Tensor | None, same_network: bool = True) -> Output:
        """Fit probabilities and the "none of these" threshold on held-out values.

        `same_network` is off when they come from other networks than the one that will answer (cross-fitting), whose values may
        have another scale.
        """
        return self


def build_output(kind: Any, state: Any) -> Output:
    """The Output of that kind. Raises ModelFileError."""
    if kind not in OUTPUT_KINDS or not isinstance(state, dict):
        raise ModelFileError(
            sentence("The output of the model", "be one of " + ", ".join(sorted(OUTPUT_KINDS)), kind, did_you_mean(str(kind), OUTPUT_KINDS))
        )
    return OUTPUT_KINDS[kind].from_state(state)

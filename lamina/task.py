"""Task: the value that names all parts of a job. Tasks differ in their parts, not in code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamina.screen import percent

if TYPE_CHECKING:
    from lamina.classical.fit import Classical, Opponent
    from lamina.classical.verdict import Pairing
    from lamina.data.batches import Feed
    from lamina.data.examples import Examples
    from lamina.inputs import Input
    from lamina.model import Evaluation, Model
    from lamina.networks import Network
    from lamina.outputs import Output
    from lamina.pipeline.learning import Learned
    from lamina.pipeline.preparation import Prepared
    from lamina.screen import Screen
    from lamina.settings import Settings


@dataclass(frozen=True)
class Score:
    """How well, on how many, and within which interval (95 %)."""

    name: str
    value: float
    low: float
    high: float
    n: int
    better: str = "higher"
    unit: str = "%"
    """Empty: the value is a number of its own, not a share."""

    def __str__(self) -> str:
        return f"{self.name} {self.told(self.value)} ({self.told(self.low, '')}-{self.told(self.high, '')}, 95 % interval)"

    def told(self, value: float, unit: str = " %") -> str:
        """A value of this score in words."""
        return percent(value) + unit if self.unit else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


@dataclass(kw_only=True)
class Schedule:
    """How the weights are stepped: what a recipe proposes and a plan fixes."""

    learning_rate: float
    """Of the filters and matrices; of everything when the optimizer is sgd."""
    optimizer: str = "sgd"
    """muon (filters and matrices by Muon, the head and the rest by SGD), muon+adamw (the rest by AdamW), adamw (all) or sgd."""
    head_rate: float = 0.0
    """Of the last layer …"""
    rest_rate: float = 0.0
    """… and of biases, norms and tables; 0 = the learning rate."""
    momentum: float = 0.9
    rest_momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.0
    """Share of the steps in which the rate rises …"""
    flat: float = 0.0
    """… until which share it then stays, before it falls to 0 in a straight line."""
    average: float = 0.0
    """The weights that answer are the mean over about this share of the steps; 0 = the last ones."""
    coarse: float = 1.0
    """Share of the full resolution at which training begins …"""
    coarse_until: float = 0.0
    """… until this share of the steps."""


@dataclass
class Recipe(Schedule):
    """How to train a network of this task on so many examples."""

    epochs: float
    """Without --minutes or --epochs."""
    least_epochs: float
    """Under --minutes the network is made smaller before fewer are planned."""
    batch: int
    size: int
    """The dial, without --minutes."""
    checks: int = 10
    gpu_batch: int = 0
    """Batch on a GPU, which is idle with few examples; the rates grow with its root. 0 = the usual one."""


@dataclass(frozen=True)
class Task:
    """One row of the table of tasks (docs/design.md), as parts."""

    name: str
    question: str
    senses: tuple[str, ...]
    """The kinds of input whose files it takes; the data say which."""
    read: Callable[[Any, Settings, Sequence[Input]], Examples]
    """(data, settings, unfitted inputs of its senses) -> the examples, nothing decoded yet."""
    input: Callable[[Settings, str], Input]
    """(settings, kind of input) -> the unfitted Input."""
    output: Callable[[Settings], Output]
    """Settings -> the unfitted Output."""
    network: Callable[[Input, Output, int, Any], Network]
    """(fitted input, fitted output, size, a batch of training inputs) -> the network of named layers. The size is one dial."""
    sizes: Callable[[Input, Settings], list[int]]
    """(fitted input, settings) -> sizes from small to large; the plan takes one."""
    recipe: Callable[[int, Input], Recipe]
    """(training examples, fitted input) -> how to train, where the settings are silent."""
    score: Callable[[list[Any], list[Any]], Score]
    """(answers of the network, true answers) -> the score."""
    pairing: Callable[[dict[str, list[Any]], list[Any], list[list[Any]]], Pairing]
    """(answers to the test examples by way, true answers, answers of the network from further seeds) -> their paired comparison."""
    trivial: Callable[[Feed, Any], tuple[str, Network, str]]
    """(feed, indices of training examples) -> the way that never looks at an example: its name, its network, what of it can be seen."""
    facts: Callable[[Prepared, Learned, list[Any], int], dict[str, Any]]
    """(what was prepared, what was learned, the answers of the other way, how many examples to show) -> report.json: what the report
    says of single test examples. Its "kind" names the section of the report."""
    evaluate: Callable[[Model, Any, Settings, Screen, str], Evaluation]
    """(model, data, settings, screen, table of another system's answers or "") -> the score on other data."""
    instead: str = ""
    """What to do instead of `predict`, where no value has an answer by itself."""
    answers: str = "labels"
    """What stands beside the values: labels (few, and training saw those that are tested), numbers, people (training never saw those
    that are tested), texts (a sentence each), choices (of items, after a border in time), or nothing (what follows on what is learned)."""
    beside: str = "with labels"
    """That in words, after the examples; empty: nothing is said."""
    drawn: str = ""
    """What the interval of its score draws anew, where that is not one training or another."""
    turned: Callable[[Examples], Task | None] | None = None
    """What these examples ask for instead, such as numbers where labels were expected; None = nothing else."""
    arrange: Callable[[Prepared, Screen], Prepared] | None = None
    """What is done to the decoded examples before the plan, such as cutting long texts into windows; None = nothing."""
    opponents: Callable[[Input], tuple[Opponent, ...]] = lambda input: ()
    """Fitted input -> the classical ways; without any there is no verdict."""
    search: Callable[[Input], Callable[..., Classical] | None] = lambda input: None
    """Fitted input -> what finds the best of them, called as `fit_classical`; None = that."""
    search_again: bool = True
    """Whether a search that was cut short is made anew after the training, where no --minutes bind it."""
    promised: Callable[[float], str] = lambda share: f"{percent(share)} %"
    """What such a search says of its winner, in words."""
    decisions: Callable[[Input], tuple[str, ...]] = lambda input: ()
    """Fitted input -> the settings that people chose for the network."""
    remarks: Callable[[list[Any], list[Any]], list[str]] = lambda answers, truths: []
    """(answers of the network, true answers) -> lines to say under the score."""
    foretell: Callable[[int, int, int], str] = lambda parameters, tokens, seen: ""
    """(parameters, different values to learn from, values seen in training) -> what such a network can and cannot do, said beforehand."""
    sample: Callable[[Network, Input], str] | None = None
    """(network, fitted input) -> a line of what it makes by itself, told at each check; None = it makes nothing."""
    settle: Callable[[Network, Feed, Any], None] | None = None
    """(network, feed, indices of training examples): what is done to a network before its first step; None = nothing."""
    finish: Callable[[Network, Feed, Any], None] | None = None
    """The same after its last step."""

    @property
    def folded(self) -> bool:
        """Whether few examples are cross-fitted, and further seeds tell the chance of training."""
        return self.answers in ("labels", "numbers")

    @property
    def labels(self) -> bool:
        """Whether its answers are labels that training saw, each right or wrong by itself."""
        return self.answers == "labels"

"""What all experiments stand on: the examples, one training, and a way to do it over all seeds."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Batch, Feed
from lamina.data.split import Split
from lamina.errors import UsageError, sentence
from lamina.layers import Context
from lamina.metrics import corrected_resampled_interval, paired_interval, wilson_interval
from lamina.networks import Network
from lamina.screen import Screen, percent
from lamina.settings import Settings
from lamina.task import Task
from lamina.training.fit import Work, fit
from lamina.training.forecast import SCHEDULE, flops_per_example
from lamina.training.inference import BATCH
from lamina.training.plan import Plan

EXAMPLES = 10_000
"""Most training examples of a run, and most that it is tested on."""
FEWEST_STEPS = 10


@dataclass
class Variant:
    """One way to do it, over all seeds."""

    name: str
    right: list[np.ndarray]
    """By seed: which test examples were answered right."""
    folds: int
    """Parts of cross-fitting, of which each seed was tested on one of its own; 0 = all were tested on the same examples."""
    training_flops: float = 0.0
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> list[float]:
        return [float(each.mean()) for each in self.right]

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Over the seeds."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, for the test examples (Wilson) and for the trainings. Where all seeds are tested on the same examples the variance of the
        mean over trainings is added (normal); where each has a fold of its own, whose trainings share examples, the wider of Wilson's
        and that of Nadeau & Bengio (metrics.corrected_resampled_interval) is told."""
        tested = sum(map(len, self.right)) if self.folds else len(self.right[0])
        low, high = wilson_interval(round(self.mean * tested), tested)
        if len(self.right) < 2:
            return low, high
        if self.folds:
            corrected = corrected_resampled_interval(self.scores, 1 / (self.folds - 1))
            return min(low, corrected[0]), max(high, corrected[1])
        seeds = 1.96 * self.deviation / math.sqrt(len(self.right))
        return max(0.0, self.mean - math.hypot(self.mean - low, seeds)), min(1.0, self.mean + math.hypot(high - self.mean, seeds))

    def above(self, other: Variant) -> bool:
        """Whether it is surely better, 95 %: the whole interval lies above the other's; or, where both were tested on the same folds, their
        differences do so above 0, by examples and by trainings."""
        if not self.folds or len(self.right) != len(other.right) or len(self.right) < 2:
            return self.interval[0] > other.interval[1]
        by_examples = paired_interval(np.concatenate(self.right), np.concatenate(other.right), 0.95)
        differences = [mine - theirs for mine, theirs in zip(self.scores, other.scores, strict=True)]
        return by_examples[1] > 0 and corrected_resampled_interval(differences, 1 / (self.folds - 1))[0] > 0

    def state(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "name": self.name, "scores": self.scores, "mean": self.mean, "deviation": self.deviation, "low": low, "high": high,
            "training_flops": self.training_flops, **self.facts,
        }  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """What all runs of an experiment share."""

    task: Task
    settings: Settings
    feed: Feed
    split: Split
    screen: Screen

    def variant(self, name: str, **facts: Any) -> Variant:
        return Variant(name, [], self.folds, facts=facts)

    @property
    def folds(self) -> int:
        return max(self.split.folds) + 1 if self.split.folds is not None else 0

    @property
    def seeds(self) -> range:
        """At most one for each fold where examples are cross-fitted: they have no others to be tested on."""
        count = min(self.settings.seeds, self.folds or self.settings.seeds)
        return range(self.settings.seed, self.settings.seed + count)

    def parts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(examples to learn from, examples to be tested on); where they are cross-fitted each seed has a fold of its own."""
        if self.split.folds is not None:
            own, tested = self.split.fold(seed % self.folds)
        else:
            own, tested = self.split.indices("train"), self.split.indices("test") or self.split.indices("validation")
        random = np.random.Generator(np.random.Philox(key=self.settings.seed))
        return random.permutation(np.array(own))[:EXAMPLES], random.permutation(np.array(tested))[:EXAMPLES]

    def labels_mixed(self, seed: int) -> Feed:
        """The labels of what is learned from, dealt anew among them."""
        learned, targets = self.parts(seed)[0], list(self.feed.targets)
        order = np.random.Generator(np.random.Philox(key=[7, seed])).permutation(learned)
        for own, other in zip(learned, order, strict=True):
            targets[own] = self.feed.targets[other]
        return plain(replace(self.feed, targets=targets))

    def places_mixed(self, seed: int) -> Feed:
        """The places of every value in one other order; what lies in one place, its channels, stays together."""
        count = math.prod(self.feed.values.take([0])[0].shape[:-1])
        order = torch.from_numpy(np.random.Generator(np.random.Philox(key=[8, seed])).permutation(count))
        feed = self.feed
        return MixedFeed(feed.values, feed.targets, feed.input, feed.output, feed.device, order)

    def x(self, learned: np.ndarray) -> Tensor:
        """A batch of training inputs for first layers to be measured on."""
        return self.feed.input.collate(self.feed.values.take(learned[:2048]))[0].cpu()


class PlainFeed(Feed):
    """Examples as they are: none is varied in training."""

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        return super().batch(indices)


@dataclass(frozen=True)
class MixedFeed(PlainFeed):
    """… and with their places in another order."""

    order: Tensor

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        found = super().batch(indices)
        flat = found.x.flatten(1, -2)
        return found._replace(x=flat[:, self.order].reshape(found.x.shape))


def plain(feed: Feed) -> PlainFeed:
    return PlainFeed(feed.values, feed.targets, feed.input, feed.output, feed.device)


def train_one(ground: Ground, network: Network, feed: Feed, learned: np.ndarray, seed: int, epochs: float, coarse: bool = False) -> float:
    """Train `network` in place for so many epochs by the task's recipe, in fp32, with THE loop; the last weights (their mean) answer.

    Returns the training FLOPs. Raises UsageError for so few epochs that there is hardly a step.
    """
    recipe = ground.task.recipe(len(learned), ground.feed.input)
    batch = min(ground.settings.batch or recipe.batch, len(learned))
    steps = round(epochs * len(learned) / batch)
    if steps < FEWEST_STEPS:
        told = f"{epochs:.2g} epochs = {steps} steps of {batch}"
        raise UsageError(sentence("--epochs", f"give each network at least {FEWEST_STEPS} steps", told, "Give more, or a smaller --batch."))
    schedule = {name: getattr(recipe, name) for name in SCHEDULE}
    if not coarse or isinstance(feed, PlainFeed):  # plain feeds have one resolution
        schedule.update(coarse=1.0, coarse_until=0.0)
    plan = Plan(
        task=ground.task.name, seed=seed, threads=torch.get_num_threads(), device="cpu", precision="fp32", size=0, batch=batch,
        micro_batch=batch, steps=steps, check_every=steps, legs=["final"], **schedule,
    )  # fmt: skip
    sample = feed.batch(learned[:2])
    full = flops_per_example(copy.deepcopy(network), sample.x, sample.context)
    mean = full * plan.mean_cost()
    if plan.coarse < 1:  # by the share of steps at the coarse resolution, as in a plan
        x, context = feed.input.coarser(sample.x, sample.context, plan.coarse)
        small = flops_per_example(copy.deepcopy(network), x, context)
        mean = full * (1 - plan.coarse_until) + small * plan.coarse_until
    fit(network, feed.output, feed, Work("final", learned), plan)
    network.eval()
    return steps * batch * mean


def right_of(network: Network, feed: Feed, tested: np.ndarray) -> np.ndarray:
    """[tested] of bool."""
    found = []
    with torch.no_grad():
        for batch in feed.in_order(tested.tolist(), BATCH):
            found.append(network.eval()(batch.x, batch.context)[0].argmax(1) == batch.target)
    return np.asarray(torch.cat(found).numpy())


def flops_of(network: Network, x: Tensor) -> int:
    return flops_per_example(copy.deepcopy(network), x[:2], Context())


def tell(ground: Ground, name: str, seed: int, right: np.ndarray) -> None:
    ground.screen.say(f"            {name}, seed {seed}: {percent(float(right.mean()))} %")


def spread(variant: Variant) -> str:
    return f"{percent(variant.mean)}{f' ± {100 * variant.deviation:.1f}' if len(variant.right) > 1 else ''} %"


def own_network(ground: Ground, feed: Feed, learned: np.ndarray, seed: int) -> tuple[Network, float]:
    """(the task's own network of the recipe's size, trained; its training FLOPs)."""
    recipe = ground.task.recipe(len(learned), ground.feed.input)
    sizes = ground.task.sizes(feed.input, ground.settings)
    torch.manual_seed(seed)
    x = feed.batch(learned[:2048]).x
    network = ground.task.network(feed.input, feed.output, min(sizes, key=lambda size: abs(size - recipe.size)), x)
    return network, train_one(ground, network, feed, learned, seed, ground.settings.epochs or recipe.epochs, coarse=True)

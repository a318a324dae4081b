"""The Plan: everything the clock, the machine and the data decide, decided once and written down before the first step.

From then on a run is a function of (plan, seed, step). What must change later is appended as a Revision first, with its step.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina.data.files import write_json
from lamina.errors import DataError, sentence
from lamina.task import Schedule


@dataclass(frozen=True)
class Revision:
    """A change of the plan from `step` of `leg` on."""

    leg: str
    step: int
    kind: str
    """steps: a new total; rate: the learning rate times `value`; micro_batch: at most so many examples at once; doubted: whether the
    doubted augmentation is used (1) or not (0)."""
    value: float
    why: str


@dataclass
class Plan(Schedule):
    task: str
    seed: int
    threads: int
    device: str
    precision: str
    size: int
    batch: int
    micro_batch: int
    steps: int
    """Per leg."""
    check_every: int
    legs: list[str]
    """Networks to train one after another: final, or fold1 … fold5 and final, or seed2 … and final."""
    coarse_cost: float = 1.0
    """Time of a step at the coarse resolution, as a share of one at the full; measured."""
    most_steps: int = 0
    """A leg is never made longer than this; 0 = than `steps`."""
    answers: str = "fp32"
    """Number format of the answers after training; checks during training use that of training."""
    compiled: bool = False
    """Whether the objective is compiled; raced on a GPU."""
    captured: bool = False
    """Whether steps are recorded as one CUDA graph and replayed; raced on a GPU."""
    shard: bool = False
    forecast: dict[str, Any] = field(default_factory=dict)
    self_test: dict[str, Any] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    path: str = field(default="", repr=False)
    """Where it is written; empty = nowhere."""

    # ------------------------------------------------------------ what holds at a step

    def revised(self, leg: str, kind: str) -> list[Revision]:
        return [revision for revision in self.revisions if revision.leg == leg and revision.kind == kind]

    def seed_of(self, leg: str) -> int:
        """The legs of further seeds differ in it and in nothing else."""
        return self.seed + (int(leg.removeprefix("seed")) - 1 if leg.startswith("seed") else 0)

    def total(self, leg: str) -> int:
        """The number of steps of the leg, as last revised."""
        revisions = self.revised(leg, "steps")
        return int(revisions[-1].value) if revisions else self.steps

    def fraction(self, leg: str, step: int) -> float:
        """How far through its schedule the leg is at `step`: 0 … 1, bent wherever the number of steps was revised."""
        done, since, total = 0.0, 0, self.steps
        for revision in self.revised(leg, "steps"):
            if revision.step > step:
                break
            done += (1 - done) * (revision.step - since) / max(1, total - since)
            since, total = revision.step, int(revision.value)
        return min(1.0, done + (1 - done) * (step - since) / max(1, total - since))

    def rate(self, leg: str, step: int) -> float:
        """Learning rate: a straight rise over the first `warmup`, level until `flat`, then straight down to 0."""
        fraction = self.fraction(leg, step)
        level = max(self.warmup, self.flat)
        rise = (fraction + 1 / max(1, self.steps)) / self.warmup if fraction < self.warmup else 1.0
        fall = (1 - fraction) / (1 - level) if fraction >= level else 1.0
        scale = 1.0
        for revision in self.revised(leg, "rate"):
            scale *= revision.value if step >= revision.step else 1.0
        return self.learning_rate * min(rise, 1.0) * fall * scale

    def detail(self, leg: str, step: int) -> float:
        """Share of the full resolution at `step`."""
        return self.coarse if self.fraction(leg, step) < self.coarse_until else 1.0

    def cost(self, leg: str, step: int) -> float:
        """Time of the step, as a share of one at full resolution."""
        return self.coarse_cost if self.detail(leg, step) < 1 else 1.0

    def mean_cost(self, fraction: float = 0.0) -> float:
        """Mean time of the steps from `fraction` of the schedule on, as a share of one at full resolution."""
        coarse = max(0.0, self.coarse_until - fraction) / max(1e-9, 1 - fraction) if self.coarse < 1 else 0.0
        return coarse * self.coarse_cost + 1 - coarse

    def time_done(self, leg: str, step: int) -> float:
        """Share of the leg's time that is over at `step`, coarse steps counted as what they cost."""
        left = (self.total(leg) - step) * self.mean_cost(self.fraction(leg, step))
        return 1 - left / max(1.0, self.total(leg) * self.mean_cost())

    def doubted(self, leg: str, step: int) -> bool | None:
        """Whether the doubted augmentation is used at `step`; None when that is not decided yet."""
        decided = [revision for revision in self.revised(leg, "doubted") if revision.step <= step]
        return bool(decided[-1].value) if decided else None

    def micro_batch_at(self, leg: str, step: int) -> int:
        at_most = [int(revision.value) for revision in self.revised(leg, "micro_batch") if step >= revision.step]
        return min([self.micro_batch, *at_most])

    # ------------------------------------------------------------ written down

    def revise(self, revision: Revision) -> None:
        """Append and write before anything acts on it."""
        self.revisions.append(revision)
        self.write()

    def write(self) -> None:
        if self.path:
            write_json(Path(self.path), {**dataclasses.asdict(self), "path": ""})


def load_plan(path: Path) -> Plan:
    """Raises DataError when the file is not a plan."""
    try:
        values = json.loads(path.read_text("utf-8"))
        values["revisions"] = [Revision(**revision) for revision in values["revisions"]]
        return Plan(**{**values, "path": str(path)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(sentence(f"The plan {path}", "be one that this release wrote", str(error), "Train anew.")) from error

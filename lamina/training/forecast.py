"""Making the plan: time a few real steps of the real network here, then decide size and steps, and say beforehand what it will take."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Feed
from lamina.errors import ResourceError, sentence
from lamina.layers import Context
from lamina.networks import Network
from lamina.settings import Settings, cores
from lamina.task import Recipe, Schedule, Task
from lamina.training.capture import WARM
from lamina.training.device import choose_precision, peak_memory
from lamina.training.distributed import World
from lamina.training.fit import EVALUATION, LOOKED_AT, answer_cost, move_average
from lamina.training.inference import COMPARED, answering_precision
from lamina.training.loop import training_loop
from lamina.training.objective import Objective
from lamina.training.optimizer import make_optimizer
from lamina.training.plan import Plan

RACE_SECONDS = (0.8, 4.0)
"""A race takes at least and at most so long, in between RACE_SHARE of the time left."""
RACE_STEPS = 32
ONE_THREAD = 1.05
"""One thread is planned when its step takes at most this many times that of all."""
RACE_SHARE = 0.01
COMPILED_ON = ("cuda",)
"""Where a compiled objective is raced; on a CPU it was never measured to pay …"""
COMPILED_STEPS = 20
"""Timed at least, of what had to be compiled or recorded first."""
COMPILED_FROM = 120.0
"""… and nowhere with fewer seconds left than this, for compiling itself takes half a minute."""
CAPTURED_ON = ("cuda",)
"""Where steps are recorded as one graph, when that is faster: it takes a second."""
HASTE = 0.04
"""With so little time that a race would take more than this share of it, the race is cut to that share."""
SELF_TEST_EXAMPLES = 64
LEAST_STEPS = 10
"""With fewer, and less than one epoch, a training is refused for want of time."""
SAFETY = 0.96
"""Share of the time left that is planned for; the rest is for what the forecast does not know."""
MOST_EPOCHS = 4
"""Under --minutes, at most so many times the recipe's epochs; more would bring nothing. The rest is for a learning curve, or given back."""
CHECKS_AROUND = 2
"""As many times the validation part is answered besides: before training and after it."""
CHECKING_SHARE = 0.4
"""Of the time left for a leg, checks may take so much; where those of the recipe would take more, there are fewer."""
LARGER = 2.5
"""A network larger than the recipe's is taken when it sees the examples this many times as often as at least."""


SCHEDULE = [field.name for field in dataclasses.fields(Schedule)]


@dataclass(frozen=True)
class Amounts:
    train: int
    validation: int
    test: int


def make_plan(
    task: Task, settings: Settings, feed: Feed, train: np.ndarray, amounts: Amounts, legs: list[str], deadline: float | None
) -> Plan:
    """The Plan, from the settings, the recipe and measured steps."""
    recipe = task.recipe(amounts.train, feed.input)
    if feed.device.type == "cuda" and recipe.gpu_batch and not settings.batch:
        recipe = _for_a_gpu(recipe)
    batch = min(settings.batch or recipe.batch, max(1, amounts.train))
    sizes = task.sizes(feed.input, settings)
    size = min(sizes, key=lambda candidate: abs(candidate - recipe.size))
    plan = Plan(
        task=task.name, seed=settings.seed, threads=cores(settings), device=str(feed.device), precision="fp32", size=size, batch=batch,
        micro_batch=min(settings.micro_batch or batch, batch), steps=1, check_every=1, legs=legs,
        **{name: getattr(recipe, name) for name in SCHEDULE},
    )  # fmt: skip
    race = _race_that_fits(task, plan, settings, feed, train, deadline)
    if settings.threads == 0 and plan.threads > 1 and feed.device.type == "cpu":
        race = _try_one_thread(task, plan, settings, feed, train, deadline, race)
    per_epoch = amounts.train / batch
    epochs = settings.epochs or recipe.epochs
    if feed.device.type in CAPTURED_ON:
        race = _try_captured(task, plan, settings, feed, train, deadline, race)
    if deadline is not None:
        size = _fit_to_time(race, plan, recipe, _costs(task, plan, feed, train, sizes), amounts, deadline)
        if size != plan.size:
            plan.size = size
            race = _race_that_fits(task, plan, settings, feed, train, deadline)
    plan.answers = _answering_precision(task, plan, feed, train)
    if feed.device.type in COMPILED_ON:
        race = _try_compiled(task, plan, settings, feed, train, deadline, race, epochs * per_epoch)
    if deadline is not None:
        recipe = _with_fewer_checks(race, plan, recipe, amounts, deadline)
        epochs = min(_affordable(race, plan, recipe, amounts, deadline), recipe.epochs * MOST_EPOCHS)
        least = min(1, recipe.epochs, recipe.least_epochs)
        if epochs < least and epochs * per_epoch < LEAST_STEPS:
            raise ResourceError(_too_little_time(settings, race, amounts, plan, deadline, least))
    plan.steps = max(1, round(epochs * per_epoch))
    plan.most_steps = round(recipe.epochs * MOST_EPOCHS * per_epoch) if deadline is not None else plan.steps
    plan.check_every = max(1, -(-plan.steps // recipe.checks))
    plan.forecast = _forecast(race, plan, recipe, amounts, epochs)
    return plan


def _for_a_gpu(recipe: Recipe) -> Recipe:
    more = (recipe.gpu_batch / recipe.batch) ** 0.5
    rates = {name: getattr(recipe, name) * more for name in ("learning_rate", "head_rate", "rest_rate")}
    return dataclasses.replace(recipe, batch=recipe.gpu_batch, **rates)


def _race_that_fits(task: Task, plan: Plan, settings: Settings, feed: Feed, train: np.ndarray, deadline: float | None) -> Race:
    """The race, with as many examples at once as the memory of a GPU holds."""
    while True:
        try:
            return _race(task, plan, settings, feed, train, deadline)
        except torch.OutOfMemoryError:
            if plan.micro_batch <= 1:
                raise
        plan.micro_batch //= 2
        torch.cuda.empty_cache()


def _too_little_time(settings: Settings, race: Race, amounts: Amounts, plan: Plan, deadline: float, least: float) -> str:
    seconds = len(plan.legs) * race.step * (least * amounts.train + amounts.validation + amounts.test) / plan.batch
    needed = (settings.minutes or 0.0) + (max(seconds, 5.0) * 1.5 - (deadline - time.monotonic())) / 60
    return sentence(
        "--minutes",
        f"leave time to see {'each' if least == 1 else round(least * amounts.train)} of the {amounts.train} examples once",
        f"{settings.minutes:g}",
        f"Try --minutes {max(needed, (settings.minutes or 0) * 1.5):.2g} or more.",
    )


def _try_one_thread(task: Task, plan: Plan, settings: Settings, feed: Feed, train: np.ndarray, deadline: float | None, race: Race) -> Race:
    """A small network is as fast on one thread, and leaves the other cores alone: then one is planned."""
    torch.set_num_threads(1)
    alone = _race(task, plan, settings, feed, train, deadline)
    if alone.step <= race.step * ONE_THREAD:
        plan.threads = 1
        return alone
    torch.set_num_threads(plan.threads)
    return race


def _answering_precision(task: Task, plan: Plan, feed: Feed, train: np.ndarray) -> str:
    batch = feed.batch(train[:COMPARED])
    return answering_precision(
        placed(task.network(feed.input, feed.output, plan.size, batch.x), feed.device), feed.input, feed.output, batch, plan.precision
    )


def _try_compiled(
    task: Task, plan: Plan, settings: Settings, feed: Feed, train: np.ndarray, deadline: float | None, race: Race, steps: float
) -> Race:
    """The objective compiled, against as it is, some steps each; taken when it is faster and wins the time of compiling back."""
    seconds = steps * race.step if deadline is None else deadline - time.monotonic()
    if seconds < COMPILED_FROM:
        return race
    start, coarse_cost = time.monotonic(), plan.coarse_cost
    plan.compiled = True
    try:
        compiled = _race(task, plan, settings, feed, train, deadline)
    except (RuntimeError, ImportError, OSError) as error:  # no compiler for it here: training does without
        plan.compiled, plan.self_test["compiled"] = False, str(error).splitlines()[0]
        return race
    gain = race.step / compiled.step
    plan.compiled = gain > 1 and seconds * (1 - 1 / gain) > time.monotonic() - start
    plan.self_test["compiled_times_faster"] = round(gain, 2)
    if not plan.compiled:
        plan.coarse_cost = coarse_cost  # the race overwrote it
    return compiled if plan.compiled else race


def _try_captured(task: Task, plan: Plan, settings: Settings, feed: Feed, train: np.ndarray, deadline: float | None, race: Race) -> Race:
    """Steps recorded and replayed, against the same as usual; taken when they are faster."""
    coarse_cost = plan.coarse_cost
    plan.captured = True
    try:
        replayed = _race(task, plan, settings, feed, train, deadline)
    except RuntimeError as error:  # something in a step cannot be recorded: training does without
        plan.captured, plan.coarse_cost, plan.self_test["captured"] = False, coarse_cost, str(error).splitlines()[0]
        return race
    plan.self_test["captured_times_faster"] = round(race.step / replayed.step, 2)
    plan.captured = replayed.step < race.step
    if not plan.captured:
        plan.coarse_cost = coarse_cost  # the race overwrote it
    return replayed if plan.captured else race


@dataclass(frozen=True)
class Race:
    """A few real steps, timed."""

    seconds: list[float]
    parameters: int
    flops: int
    """Multiplications and additions of one training step per example, counted by PyTorch; the mean over coarse and full ones."""
    memory: int

    @property
    def step(self) -> float:
        return statistics.median(self.seconds)


def _race(task: Task, plan: Plan, settings: Settings, feed: Feed, train: np.ndarray, deadline: float | None) -> Race:
    """Steps of a network that is thrown away. The first race also chooses the number format. Little time makes it short."""
    left = float("inf") if deadline is None else max(0.0, deadline - time.monotonic())
    most = min(max(RACE_SECONDS[0], RACE_SHARE * left), RACE_SECONDS[1] if deadline is not None else RACE_SECONDS[0], HASTE * left)
    hasty = most < RACE_SECONDS[0]
    torch.manual_seed(plan.seed)
    examples, draws = feed.training(train, plan.seed, 0, plan.batch)
    sample = feed.batch(examples[: plan.micro_batch], draws[: plan.micro_batch])
    network = placed(task.network(feed.input, feed.output, plan.size, sample.x), feed.device)
    if not plan.self_test:
        few = examples[: plan.micro_batch if feed.device.type == "cuda" else SELF_TEST_EXAMPLES]  # a GPU is idle with few
        plan.precision, plan.self_test = choose_precision(network, feed.output, feed.batch(few), settings, most)
    objective = Objective(copy.deepcopy(network), feed.output, plan.precision, plan.compiled)
    optimizer = make_optimizer(objective.network, plan)

    coarse = plan.coarse if plan.coarse_until else 1.0

    def steps() -> Any:
        for number in range(RACE_STEPS + 2):
            chosen, varied = feed.training(train, plan.seed, number, plan.batch)
            size, detail = plan.micro_batch, coarse if number % 2 else 1.0
            yield number, 0.0, [feed.batch(chosen[some], varied[some], detail) for some in feed.pieces(chosen, size)]

    seconds: tuple[list[float], list[float]] = ([], [])
    settled = 2 * (WARM + 1) if plan.captured else 2
    """Steps after which both sizes are compiled and recorded."""
    start = last = time.perf_counter()
    average: dict[str, torch.Tensor] = {}
    for step in training_loop(objective, steps(), optimizer, lambda number: 0.0, plan.seed, World(), plan.captured):
        float(step.loss)
        if plan.average:
            move_average(average, objective.network, 0.5)
        now = time.perf_counter()
        prepared = plan.compiled or plan.captured
        if prepared and step.number == settled - 1:
            start = now
        late = now - start > most and (not prepared or step.number >= settled + COMPILED_STEPS - 1)
        if step.number >= settled or (late and not prepared):
            seconds[step.number % 2 if coarse < 1 else 0].append(now - last)
        last = now
        if late and len(seconds[0]) >= (1 if hasty else 3):
            break
    full, small = (
        _flops(network, feed.batch(examples[:2])),
        _flops(network, feed.batch(examples[:2], draws[:2], coarse)) if coarse < 1 else 0,
    )
    if coarse < 1:
        measured = statistics.median(seconds[1]) / statistics.median(seconds[0]) if seconds[1] and seconds[0] else small / max(1, full)
        plan.coarse_cost = round(min(1.0, measured), 4)
    flops = round(full * (1 - plan.coarse_until) + small * plan.coarse_until) if coarse < 1 else full
    return Race(seconds[0] or seconds[1], sum(p.numel() for p in network.parameters()), flops, peak_memory(feed.device))


def flops_per_example(network: Network, few: torch.Tensor, context: Context) -> int:
    """Multiplications and additions of one training step per example, forward and backward pass, counted by PyTorch on a `few`.

    The network's statistics are touched: it is one that is thrown away.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    network.train()
    with counter, torch.enable_grad():
        network(few, context)[0].float().sum().backward()
    network.zero_grad(set_to_none=True)
    return int(counter.get_total_flops() / max(1, len(few)))


def _flops(network: Network, batch: Any) -> int:
    return flops_per_example(network, batch.x[:2], batch.context.first(2))


def _costs(task: Task, plan: Plan, feed: Feed, train: np.ndarray, sizes: Sequence[int]) -> dict[int, float]:
    """Computations of a training step of each size, as a share of those of the planned one."""
    batch = feed.batch(train[:2])
    counted = {size: _flops(placed(task.network(feed.input, feed.output, size, batch.x), feed.device), batch) for size in sizes}
    return {size: flops / max(1, counted[plan.size]) for size, flops in counted.items()}


def _affordable(race: Race, plan: Plan, recipe: Recipe, amounts: Amounts, deadline: float, cost: float = 1.0) -> float:
    """Epochs that fit before the deadline, all legs, checks and the final test counted."""
    left = (deadline - time.monotonic()) * SAFETY
    one = race.step * cost / plan.batch
    checks = EVALUATION * one * amounts.validation * (recipe.checks + CHECKS_AROUND)
    per_leg = (left - answer_cost(plan) * one * amounts.test) / len(plan.legs) - checks
    return max(0.0, per_leg / (one * plan.mean_cost()) / amounts.train)


def _with_fewer_checks(race: Race, plan: Plan, recipe: Recipe, amounts: Amounts, deadline: float) -> Recipe:
    """The recipe, with as many checks as CHECKING_SHARE has room for, though not without any."""
    check = EVALUATION * race.step / plan.batch * amounts.validation
    room = CHECKING_SHARE * max(0.0, deadline - time.monotonic()) / len(plan.legs)
    if (recipe.checks + CHECKS_AROUND) * check <= room:
        return recipe
    return dataclasses.replace(recipe, checks=max(1, int(room / check) - CHECKS_AROUND))


def _fit_to_time(race: Race, plan: Plan, recipe: Recipe, costs: dict[int, float], amounts: Amounts, deadline: float) -> int:
    """The largest size that still sees the examples often enough."""
    sizes = sorted(costs)
    best = sizes[0]
    for size in sizes:
        enough = recipe.least_epochs * (1 if size <= recipe.size else LARGER)
        if _affordable(race, plan, recipe, amounts, deadline, costs[size]) >= enough:
            best = size
    return best


def _forecast(race: Race, plan: Plan, recipe: Recipe, amounts: Amounts, epochs: float) -> dict[str, Any]:
    """Seconds of training (checks are in, the answers after it are not) and bytes, with nominal 90 % intervals from the timed steps."""
    one = race.step / plan.batch
    looked_at = amounts.validation * recipe.checks * plan.mean_cost() + (amounts.validation or LOOKED_AT)
    answers = one * EVALUATION * looked_at * len(plan.legs)
    steps = plan.steps * len(plan.legs) * plan.mean_cost()
    ordered = sorted(race.seconds)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return {
        "seconds": round(steps * race.step + answers, 2),
        "seconds_low": round((steps * min(low, race.step * 0.9) + answers) * 0.95, 2),
        "seconds_high": round((steps * max(high, race.step * 1.15) + answers) * 1.05, 2),
        "memory": race.memory,
        "memory_high": int(race.memory * 1.3),
        "step_seconds": round(race.step, 6),
        "epochs": round(epochs, 2),
        "parameters": race.parameters,
        "training_flops_per_example": race.flops,
        "training_flops": round(plan.steps * len(plan.legs) * plan.batch * race.flops),
    }


def leg_deadline(deadline: float | None, legs_left: int) -> float | None:
    """When the next of `legs_left` legs must be over."""
    if deadline is None:
        return None
    now = time.monotonic()
    return now + max(0.0, deadline - now) / legs_left


def initial_network(task: Task, plan: Plan, feed: Feed, train: np.ndarray, leg: str = "final") -> Network:
    """The untrained network of a leg: a function of (plan, seed, training examples)."""
    torch.manual_seed(plan.seed_of(leg))
    sample = train[np.linspace(0, len(train) - 1, min(len(train), 2048)).astype(np.int64)]
    x = feed.input.collate(feed.values.take(sample))[0]
    network = placed(task.network(feed.input, feed.output, plan.size, x), feed.device)
    if task.settle is not None:
        task.settle(network, feed, train)
    return network


def placed(network: Network, device: torch.device) -> Network:
    """On the device, the filters of pictures with their channels last in memory."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network

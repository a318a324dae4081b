"""The plan and the training: every leg, calibration on held-out values, the test part opened once."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lamina.data.batches import Feed
from lamina.data.files import write_json
from lamina.data.split import Split
from lamina.explain import Watcher
from lamina.layers import Context
from lamina.model import Model, calibrated
from lamina.networks import Network
from lamina.outputs import Output
from lamina.pipeline.preparation import Prepared
from lamina.screen import Screen, bytes_in_words, duration, percent
from lamina.task import Score
from lamina.training.control import FILE as CONTROL
from lamina.training.control import LIVE
from lamina.training.device import total_memory
from lamina.training.events import Before, Checked, Decided, Event, EventFile, Finished, Revised, Started, Stepped
from lamina.training.fit import Work, count_views, fit
from lamina.training.forecast import Amounts, initial_network, leg_deadline, make_plan
from lamina.training.inference import BATCH, Values, answers_to, in_place, join_values, run_in_order, score_cross_fitted
from lamina.training.plan import Plan, load_plan
from lamina.training.snapshots import FOLDER
from lamina.training.tensorboard import FOLDER as BOARDS
from lamina.training.tensorboard import TensorBoard

TOLD = 0.1
"""The number of steps follows the clock all the time; on the screen stand changes by this share."""


@dataclass(frozen=True)
class Learned:
    """What training came to."""

    model: Model
    score: Score
    facts: dict[str, Any]
    test: list[int]
    answers: list[Any]
    """To the test examples."""
    seconds: float
    validation: float | None
    """Score on the validation part; None when cross-fitted."""
    way: str = "deep"
    repeats: tuple[list[Any], ...] = ()
    """Answers to the test examples of the networks trained from further seeds."""


def planned(prepared: Prepared, deadline: float | None, screen: Screen) -> Plan:
    """The plan: of this run when it has one already, else made here, and told with its forecast."""
    path, split = prepared.run.path("plan.json"), prepared.split
    if path.exists():
        plan = load_plan(path)
        torch.set_num_threads(plan.threads)
        screen.say(f"Plan        as decided before: {plan.steps} steps of {plan.batch}, {plan.precision}")
        return plan
    alone = not prepared.task.folded
    if alone and prepared.settings.seeds > 1:
        screen.say(f"Seeds       --seeds is not used: the interval draws {prepared.task.drawn} anew, not trainings")
    if alone:
        legs = ["final"]
    elif split.folds is None:
        legs = [*(f"seed{number}" for number in range(2, prepared.settings.seeds + 1)), "final"]
    else:
        legs = [*(f"fold{number + 1}" for number in range(max(split.folds) + 1)), "final"]
        if prepared.settings.seeds > 1:
            screen.say("Seeds       --seeds is not used: cross-fitting trains six networks already")
    train_part = np.array(split.indices("train"))
    tests = len(split.parts) if split.folds is not None else len(split.indices("test"))
    tests *= 1 if split.folds is not None else len(legs)
    tests *= 1 + prepared.feed.output.reported
    amounts = Amounts(len(train_part), len(split.indices("validation")), tests * count_views(prepared.feed, decided=False))
    plan = make_plan(prepared.task, prepared.settings, prepared.feed, train_part, amounts, legs, deadline)
    plan.path = str(path)
    plan.write()
    forecast = plan.forecast
    screen.say(
        f"Network     {forecast['parameters']:,} parameters, {f'width {plan.size}, ' if plan.size else ''}{plan.precision}"
        + (f" (self-test: bf16 {plan.self_test['bf16_times_faster']} times as fast)" if "bf16_times_faster" in plan.self_test else "")
    )
    seconds = "{} ({}-{})".format(*(duration(forecast[name]) for name in ("seconds", "seconds_low", "seconds_high")))
    memory = f"{bytes_in_words(forecast['memory'])}-{bytes_in_words(forecast['memory_high'])}"
    networks = f", {len(legs)} networks" if len(legs) > 1 else ""
    screen.say(
        f"Forecast    {forecast['epochs']:g} epochs = {plan.steps} steps of {plan.batch}{networks}: {seconds} of training, "
        f"memory {memory} of {bytes_in_words(total_memory(prepared.feed.device))}"
    )
    each = getattr(prepared.feed.input, "window", 0) or 1  # values of one example
    if told := prepared.task.foretell(forecast["parameters"], len(train_part) * each, plan.steps * plan.batch * each):
        screen.say(f"            {told}")
    return plan


def learn(prepared: Prepared, plan: Plan, deadline: float | None, screen: Screen) -> Learned:
    """Train every leg, calibrate on held-out values, open the test part once."""
    begun = time.monotonic()
    split, feed, answers = prepared.split, prepared.feed, prepared.examples.answers
    if split.folds is None:
        train_part, validation, test = (split.indices(part) for part in ("train", "validation", "test"))
        others = plan.legs[:-1]
        again = [
            _kept_values(leg, train_part, test, prepared, plan, leg_deadline(deadline, len(plan.legs) - place), screen, validation)
            for place, leg in enumerate(others)
        ]
        network, feed = _leg("final", train_part, validation, prepared, plan, leg_deadline(deadline, 1), screen)
        if prepared.task.finish is not None:
            prepared.task.finish(network, feed, np.array(train_part))
        held_out = run_in_order(network, feed.input, feed.output, feed.in_order(validation, BATCH), plan.answers) if validation else None
        output = calibrated(network, feed, held_out, plan.answers)
        opened = run_in_order(network, feed.input, feed.output, feed.in_order(test, BATCH), plan.answers)
        decoded = output.decode(opened.values, opened.context)
        score = prepared.task.score(decoded, [answers[i] for i in test])
        checked = output.decode(held_out.values, held_out.context) if held_out is not None else []
        validated = prepared.task.score(checked, [answers[i] for i in validation]).value if checked else None
        if output.together and held_out is not None:  # a threshold is known the better, the more people it was measured on
            output = calibrated(network, feed, join_values([held_out, opened]), plan.answers)
    else:
        validated, again = None, []
        test, folds = list(range(len(answers))), max(split.folds) + 1
        parts = []
        for number in range(folds):
            learned, tested = split.fold(number)
            leg_ends = leg_deadline(deadline, folds + 1 - number)
            parts.append(_kept_values(f"fold{number + 1}", learned, tested, prepared, plan, leg_ends, screen))
        order = [index for number in range(folds) for index in split.fold(number)[1]]
        held_out = in_place(join_values(parts), order)
        network, feed = _leg("final", test, [], prepared, plan, leg_deadline(deadline, 1), screen)
        if prepared.task.finish is not None:
            prepared.task.finish(network, feed, np.array(test))
        output = calibrated(network, feed, held_out, plan.answers, same_network=False)
        decoded = output.decode(held_out.values, held_out.context)
        score = score_cross_fitted(prepared.task, split, decoded, answers)
    facts = facts_of(prepared, output, test, decoded)
    if prepared.examples.told_by:
        facts["told_by"] = _told_apart(prepared, test, decoded)
    if near := split.near_test:
        kept = [place for place, index in enumerate(test) if index not in set(near)]
        with contextlib.suppress(ValueError):  # too few people are left to score
            without = prepared.task.score([decoded[place] for place in kept], [answers[test[place]] for place in kept])
            facts["without_near_duplicates"] = dataclasses.asdict(without)
    if feed.input.single() is not feed.input and split.folds is None:
        single = answers_to(network, replace(feed, input=feed.input.single()), output, test, plan.answers)
        facts["single_view"] = dataclasses.asdict(prepared.task.score(single, [answers[i] for i in test]))
    _tell_score(score, facts, split, screen)
    model = Model(prepared.task.name, feed.input, network.cpu().eval(), output, precision=plan.answers)
    repeats = tuple(output.decode(values.values, values.context) for values in again)
    return Learned(model, score, facts, test, decoded, time.monotonic() - begun, validated, repeats=repeats)


def _told_apart(prepared: Prepared, test: list[int], decoded: list[Any]) -> dict[str, Any]:
    """The score of each group of test examples; None for one that cannot be scored."""
    examples, task = prepared.examples, prepared.task
    found: dict[str, Any] = {}
    for name in sorted({examples.told_by[index] for index in test}):
        own = [place for place, index in enumerate(test) if examples.told_by[index] == name]
        try:
            score = task.score([decoded[place] for place in own], [examples.answers[test[place]] for place in own])
            found[name or "(empty)"] = dataclasses.asdict(score)
        except ValueError:
            found[name or "(empty)"] = None
    return found


def facts_of(prepared: Prepared, output: Output, test: list[int], decoded: list[Any]) -> dict[str, Any]:
    """What belongs to a score: a guess beside it, "none of these", the task's remarks."""
    clueless = output.clueless([prepared.feed.targets[index] for index in test])
    return {
        "clueless_score": clueless[0] if clueless else None,
        "unknown": sum(getattr(answer, "unknown", False) for answer in decoded) / max(1, len(decoded)),
        "output": output.state(),
        "remarks": prepared.task.remarks(decoded, [prepared.examples.answers[index] for index in test]),
    }


def _leg(
    leg: str, learned: list[int], validation: list[int], prepared: Prepared, plan: Plan, deadline: float | None, screen: Screen
) -> tuple[Network, Feed]:
    """Train one network from the start (or from its checkpoint). The feed that comes back has the augmentations that proved right."""
    feed, run = prepared.feed, prepared.run
    train_part = np.array(learned)
    network = initial_network(prepared.task, plan, feed, train_part, leg)
    write = EventFile(run.path("events.jsonl"))
    board = TensorBoard(run.path(BOARDS)) if prepared.settings.tensorboard else None
    what = "Training" if leg == "final" else f"Training {leg} ({plan.legs.index(leg) + 1} of {len(plan.legs)})"
    with screen.progress(what, 1.0) as bar:
        begun, told = 0, plan.total(leg)

        def tell(event: Event) -> None:
            nonlocal begun, told
            write(event)
            if board is not None:
                board(event)
            if isinstance(event, Started):
                begun = event.step
            elif isinstance(event, Stepped):
                bar.advance(plan.time_done(leg, event.step), f"loss {event.loss:.3f}  {event.examples_per_second:,.0f} examples/s")
            elif isinstance(event, Before) and leg == plan.legs[0]:
                clueless = (
                    f" (a clueless guess: {percent(event.clueless_score)} %, {event.clueless_loss:.3f})"
                    if event.clueless_score is not None
                    else ""
                )
                score = f"score {percent(event.score)} %, " if event.score is not None else ""
                screen.say(f"Before      {score}loss {event.loss:.3f}{clueless}")
            elif isinstance(event, Checked):
                score = f"score {percent(event.score)} %, " if event.score is not None else ""
                screen.say(
                    f"Check       step {event.step} of {plan.total(leg)}: {score}{feed.output.checked} {event.loss:.3f} on validation"
                )
                if prepared.task.sample is not None:
                    screen.say(f"            {prepared.task.sample(network, feed.input)}")
            elif isinstance(event, Decided) and leg == plan.legs[0]:
                found = f"{percent(event.disguised)} % right with it, {percent(event.score)} % without"
                screen.say(f"{feed.input.doubt:<12}{'used' if event.used else 'not used'}: {found}")
            elif isinstance(event, Finished):
                steps = event.step - begun
                speed = f"{steps * plan.batch / max(event.seconds, 1e-9):,.0f} examples/s"
                screen.say(f"Trained     {steps} steps in {duration(event.seconds)}: {speed}, waited {100 * event.waited:.1f} % for data")
            elif isinstance(event, Revised) and (event.kind != "steps" or abs(event.value / told - 1) >= TOLD):
                told = int(event.value) if event.kind == "steps" else told
                screen.warn(f"Plan revised at step {event.step}: {event.kind} {event.value:g} ({event.why})")

        answers_after = len(prepared.split.indices("test")) or len(prepared.split.parts) // len(plan.legs)
        answers_after = answers_after * (1 + feed.output.reported) + len(validation)  # the held-out ones are calibrated on
        kept = run.path(FOLDER) if leg == "final" else None
        look = _looks(prepared, plan, network, train_part, validation) if kept and run.path(LIVE).is_dir() else None
        work = Work(leg, train_part, validation, deadline, answers_after, run.path("checkpoint.safetensors"), kept, run.path(CONTROL), look)
        fitted = fit(network, feed.output, feed, work, plan, tell)
    return network, replace(feed, input=fitted.input)


def _looks(
    prepared: Prepared, plan: Plan, network: Network, learned: np.ndarray, tested: Sequence[int]
) -> Callable[[Network, int, float], None]:
    """What is kept of the moments of a training that is watched: live/network.json, then live/00.json, 01.json, …"""
    folder, watcher = prepared.run.path(LIVE), Watcher(prepared.feed, learned, tested, plan, prepared.task.name)
    labels = list(getattr(prepared.feed.output, "labels", ()))
    write_json(folder / "network.json", {"layers": watcher.layers(network), "labels": labels}, indent=None)

    def look(network: Network, step: int, fraction: float) -> None:
        number = len(list(folder.glob("[0-9]*.json")))
        write_json(folder / f"{number:02}.json", watcher.look(network, step, fraction), indent=None)

    return look


def _kept_values(
    leg: str,
    learned: list[int],
    tested: list[int],
    prepared: Prepared,
    plan: Plan,
    deadline: float | None,
    screen: Screen,
    validation: Sequence[int] = (),
) -> Values:
    """What the network of one fold or seed says of its test examples; kept in the run folder: a resumed run does not train it again."""
    kept = prepared.run.kept_tensors(f"{leg}.safetensors")
    if kept is not None:
        context = Context(kept.get("lengths"), kept.get("segments"), kept.get("positions"))
        return Values(kept["values"], context, kept["targets"])
    network, feed = _leg(leg, learned, list(validation), prepared, plan, deadline, screen)
    found = run_in_order(network, feed.input, feed.output, feed.in_order(tested, BATCH), plan.answers)
    tensors = {"values": found.values, "targets": found.targets, **found.context._asdict()}
    prepared.run.keep_tensors(f"{leg}.safetensors", **{name: value.contiguous() for name, value in tensors.items() if value is not None})
    return found


def _tell_score(score: Score, facts: dict[str, Any], split: Split, screen: Screen) -> None:
    how = "examples, each tested once by a network that never saw it" if split.folds is not None else "test examples, opened once"
    screen.title(f"Score       {score}, {score.n} {how}")
    if "without_near_duplicates" in facts:
        without = facts["without_near_duplicates"]
        screen.say(
            f"            without test examples that are near duplicates of training: {percent(without['value'])} % of {without['n']}"
        )
    for remark in facts["remarks"]:
        screen.say("            " + remark)
    for name, its in facts.get("told_by", {}).items():
        told = (
            f"{percent(its['value'])} % ({percent(its['low'])}-{percent(its['high'])}), {its['n']} examples" if its else "too few to score"
        )
        screen.say(f"            {name}: {told}")
    if "single_view" in facts:
        screen.say(f"            with one view of each: {percent(facts['single_view']['value'])} %")
    if facts["clueless_score"] is not None and score.low <= facts["clueless_score"]:
        screen.warn(f"Not surely better than a clueless guess ({percent(facts['clueless_score'])} %): more time or data may help.")
    state = facts["output"]
    if "rejected" in state:
        shares = (facts["unknown"], state["rejected"], state["outliers_rejected"])
        of = ("test examples", "held-out ones", "generated outliers")
        told = ", ".join(f"{percent(share)} % of {what}" for share, what in zip(shares, of, strict=True))
        screen.say(f'            answered "none of these": {told}')

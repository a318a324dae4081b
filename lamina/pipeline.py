"""THE main path on one screen: read, audit, split, fit, plan, forecast, train, calibrate, judge, save, report."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.classical.borrowed import Lent
from lamina.classical.contest import Contest, Deep, contest
from lamina.classical.verdict import Verdict, table
from lamina.data.audit import Audit, audit, show_audit, stop_if_bad
from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.examples import Examples
from lamina.data.files import check_writable, locked, write_json
from lamina.data.read import read_examples
from lamina.data.split import Split, divide, load_split, save_split
from lamina.errors import DataError, Interrupted, UsageError, sentence
from lamina.inputs import Input
from lamina.layers import Context
from lamina.metrics import corrected_resampled_interval
from lamina.model import Model, calibrated, load
from lamina.networks import Network
from lamina.outputs import Output
from lamina.report.card import write_card
from lamina.report.page import FACTS, write_report
from lamina.screen import Screen, bytes_in_words, duration, percent
from lamina.settings import Settings, cores, make_settings
from lamina.start import NOTHING, PACKAGED, START_EXTRA, are_photos, choose_start, find_start, packaged_is_there
from lamina.task import Score, Task
from lamina.tasks import find_task
from lamina.training.device import choose_device, give_back_memory, keep_memory, total_memory
from lamina.training.events import Before, Checked, Decided, Event, EventFile, Finished, Revised, Started, Stepped, read_events
from lamina.training.fit import Work, count_views, fit
from lamina.training.forecast import Amounts, initial_network, leg_deadline, make_plan
from lamina.training.inference import BATCH, Values, answers_to, in_place, join_values, run_in_order
from lamina.training.plan import Plan, load_plan
from lamina.training.run import Run, new_run, open_run

RESIDENT = 0.4
"""Decoded data move to a device when they take at most this share of its free memory."""
MISTAKES_SHOWN = 24
BORROW_SECONDS = 60.0
"""For borrowed layers, where no --minutes are given."""
LEAST_VERDICT_SECONDS = 10.0
"""For the opponents, where no --minutes are given."""
TAIL_SECONDS = 6.0
"""Kept back from --minutes for saving and the report."""


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first step."""

    task: Task
    settings: Settings
    report: Audit
    split: Split
    feed: Feed
    run: Run


def train(
    data: Any,
    *,
    out: str | os.PathLike = "",
    runs: str | os.PathLike = "runs",
    screen: Screen | None = None,
    begun: float | None = None,
    **settings: Any,
) -> Model:
    """Raw data in, a trained, checked, saved Model out. `settings` are the fields of Settings; `begun` (time.monotonic()) starts --minutes.

    Raises the errors of lamina.errors.
    """
    begun = time.monotonic() if begun is None else begun
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            sentence(
                "`lamina train`",
                "run as one process in this release",
                os.environ["WORLD_SIZE"] + " processes",
                "The loop itself takes several (tests/test_distributed.py); the whole command does not yet.",
            )
        )
    chosen = make_settings(settings)
    find_task(chosen.task)
    if chosen.start_from not in ("", NOTHING):
        find_start(chosen.start_from)  # a name that does not exist is said before the audit
    source = os.fspath(data) if isinstance(data, (str, os.PathLike)) else ""
    name = re.sub(r"[^\w.-]+", "-", Path(source.removeprefix("sample:")).expanduser().resolve().stem if source else "model") or "model"
    out = Path(out) if out else Path(f"{name}.lamina")
    if out.suffix != ".lamina":
        raise UsageError(sentence("--out", "end in .lamina", str(out)))
    check_writable(out)
    run = new_run(Path(runs), name, chosen, source, out)
    try:
        return _run(data, run, chosen, out, screen or Screen(quiet=True), begun)
    except (DataError, UsageError):
        if not run.path("audit.json").exists():  # nothing was seen yet: leave no empty run behind
            shutil.rmtree(run.folder, ignore_errors=True)
        raise


def resume(run: str | os.PathLike, *, data: Any = None, screen: Screen | None = None) -> Model:
    """Go on with a run that was interrupted or killed, to the same bits. `data` only when they were values in memory, or moved."""
    screen = screen or Screen(quiet=True)
    opened = open_run(os.fspath(run))
    asked = opened.request()
    if opened.finished:
        screen.say(f"{opened.folder} is finished; its model is {opened.path('model.lamina')}.")
        return load(opened.path("model.lamina"))
    source = data if data is not None else asked["source"]
    if not isinstance(source, (str, os.PathLike)) or source:
        # the plan stands: the clock, which would bend it, is left alone
        return _run(source, opened, opened.settings(), Path(asked["out"]), screen, None)
    raise UsageError(
        sentence("The data of this run", "be given again", "values in memory are not stored", "Call lamina.resume(run, data=...).")
    )


def _run(data: Any, run: Run, settings: Settings, out: Path, screen: Screen, begun: float | None) -> Model:
    start = time.monotonic() if begun is None else begun
    unplanned = begun is not None or not run.path("plan.json").exists()
    deadline = (
        start + 60 * settings.minutes * (1 - settings.verdict_share) - TAIL_SECONDS if settings.minutes is not None and unplanned else None
    )
    with locked(run.path("run"), wait=False):
        try:
            prepared = prepare(data, run, settings, screen)
            plan = planned(prepared, deadline, screen)
            learned = learn(prepared, plan, deadline, screen)
            found = judged(prepared, plan, learned, time.monotonic() - start, screen)
            learned, others = chosen(prepared, learned, found, screen)
            model = learned.model
        except (Interrupted, KeyboardInterrupt) as error:
            told = str(error) or "Stopped."
            raise Interrupted(f"{told} Nothing is lost. To go on: lamina resume {run.folder}") from error
        card = {"model": str(out), **make_card(prepared, plan, learned, found.verdict if found else None, time.monotonic() - start)}
        model.card = card
        model.save(run.path("model.lamina"))
        model.save(out)
        write_json(run.path(FACTS), report_facts(prepared, learned, others), indent=None)
        write_json(run.path("card.json"), card)
        write_card(card, run.path("card.md"))
        write_json(run.path("result.json"), card)
        write_report(run.folder, card, run.path("report.html"))
    screen.say(f"Saved       {out}, run folder {run.folder}")
    screen.say(f"Report      {run.path('report.html')}")
    return model


def prepare(data: Any, run: Run, settings: Settings, screen: Screen) -> Prepared:
    """Read, audit, split, fit the input and the output, decode once."""
    torch.set_num_threads(cores(settings))
    keep_memory()
    task = find_task(settings.task)
    device = choose_device(settings)
    screen.say(f"Device      {device.line}")
    examples, unfitted = read_for(data, task, settings)
    screen.say(f"Task        {task.name}: {task.question} ({len(examples)} {unfitted.plural} with labels)")
    report = audit(examples, unfitted, settings, screen)
    write_json(run.path("audit.json"), report.summary())
    show_audit(report, screen)
    stop_if_bad(report, settings)
    split = _split(report, run, settings)
    screen.say(f"Split       {_describe_split(split)}")
    for note in split.notes:
        screen.say("            " + note)
    learned = [i for i, part in enumerate(split.parts) if part == "train"]
    input = unfitted.fit([report.examples.raws[i] for i in learned], [report.inspections[i] for i in learned])
    start = choose_start(settings, input, len(learned), screen)
    if start:
        input, task = start.fit_input(input), start.task(task)
    output = task.output(settings).fit([report.examples.answers[i] for i in learned])
    decoded = decode(report.examples.raws, [inspection.content for inspection in report.inspections], input, settings, screen)
    if device.device.type == "cuda":
        decoded.keep_on(device.device, RESIDENT * torch.cuda.mem_get_info(device.device)[0])
    feed = Feed(decoded, [output.encode(answer) for answer in report.examples.answers], input, output, device.device)
    if start and not run.path("plan.json").exists() and (expected := start.expect(task, feed, np.array(learned))):
        screen.say(
            f"            as they are, with a linear head, its layers should reach about {percent(expected[0])} % "
            f"(5-fold on {expected[1]} training examples); training goes on from there"
        )
    return Prepared(task, settings, report, split, feed, run)


def planned(prepared: Prepared, deadline: float | None, screen: Screen) -> Plan:
    """The plan: of this run when it has one already, else made here, and told with its forecast."""
    path, split = prepared.run.path("plan.json"), prepared.split
    if path.exists():
        plan = load_plan(path)
        torch.set_num_threads(plan.threads)
        screen.say(f"Plan        as decided before: {plan.steps} steps of {plan.batch}, {plan.precision}")
        return plan
    legs = ["final"] if split.folds is None else [*(f"fold{number + 1}" for number in range(max(split.folds) + 1)), "final"]
    train_part = np.array(split.indices("train"))
    tests = len(split.parts) if split.folds is not None else len(split.indices("test"))
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
    judging = prepared.settings.verdict_share and prepared.task.opponents(prepared.feed.input)
    verdict = f", then about {duration(_verdict_seconds(prepared.settings, forecast['seconds']))} for the verdict" if judging else ""
    screen.say(
        f"Forecast    {forecast['epochs']:g} epochs = {plan.steps} steps of {plan.batch}{networks}: {seconds} of training{verdict}, "
        f"memory {memory} of {bytes_in_words(total_memory(prepared.feed.device))}"
    )
    return plan


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


def learn(prepared: Prepared, plan: Plan, deadline: float | None, screen: Screen) -> Learned:
    """Train every leg, calibrate on held-out values, open the test part once."""
    begun = time.monotonic()
    split, feed, answers = prepared.split, prepared.feed, prepared.report.examples.answers
    if split.folds is None:
        train_part, validation, test = (split.indices(part) for part in ("train", "validation", "test"))
        network, feed = _leg("final", train_part, validation, prepared, plan, leg_deadline(deadline, 1), screen)
        held_out = run_in_order(network, feed.input, feed.output, feed.in_order(validation, BATCH), plan.answers) if validation else None
        output = calibrated(network, feed, held_out, plan.answers)
        decoded = answers_to(network, feed, output, test, plan.answers)
        score = prepared.task.score(decoded, [answers[i] for i in test])
        checked = output.decode(held_out.values, held_out.context) if held_out is not None else []
        validated = prepared.task.score(checked, [answers[i] for i in validation]).value if checked else None
    else:
        validated = None
        test, folds = list(range(len(answers))), max(split.folds) + 1
        parts, shares = [], []
        for number in range(folds):
            learned, tested = split.fold(number)
            leg_ends = leg_deadline(deadline, folds + 1 - number)
            parts.append(_fold_values(f"fold{number + 1}", learned, tested, prepared, plan, leg_ends, screen))
            shares.append(len(tested) / len(learned))
        order = [index for number in range(folds) for index in split.fold(number)[1]]
        held_out = in_place(join_values(parts), order)
        network, feed = _leg("final", test, [], prepared, plan, leg_deadline(deadline, 1), screen)
        output = calibrated(network, feed, held_out, plan.answers, same_network=False)
        decoded = output.decode(held_out.values, held_out.context)
        score = _cross_fitted_score(prepared, decoded, shares)
    facts = _facts(prepared, output, test, decoded)
    if near := split.near_test:
        kept = [place for place, index in enumerate(test) if index not in set(near)]
        without = prepared.task.score([decoded[place] for place in kept], [answers[test[place]] for place in kept])
        facts["without_near_duplicates"] = dataclasses.asdict(without)
    if feed.input.single() is not feed.input and split.folds is None:
        single = answers_to(network, replace(feed, input=feed.input.single()), output, test, plan.answers)
        facts["single_view"] = dataclasses.asdict(prepared.task.score(single, [answers[i] for i in test]))
    _tell_score(score, facts, split, screen)
    model = Model(prepared.task.name, feed.input, network.cpu().eval(), output, precision=plan.answers)
    return Learned(model, score, facts, test, decoded, time.monotonic() - begun, validated)


def _facts(prepared: Prepared, output: Output, test: list[int], decoded: list[Any]) -> dict[str, Any]:
    """What belongs to a score: a guess beside it, "none of these", the task's remarks."""
    clueless = output.clueless([prepared.feed.targets[index] for index in test])
    return {
        "clueless_score": clueless[0] if clueless else None,
        "unknown": sum(answer.unknown for answer in decoded) / max(1, len(decoded)),
        "output": output.state(),
        "remarks": prepared.task.remarks(decoded, [prepared.report.examples.answers[index] for index in test]),
    }


def chosen(prepared: Prepared, learned: Learned, found: Contest | None, screen: Screen) -> tuple[Learned, list[Any]]:
    """(what is saved, as --use says; the answers of the other way): the best is the one that is better on the validation part."""
    if found is None or prepared.settings.use == "deep":
        return learned, found.answers if found else []
    score = next(each.score for each in found.verdict.contenders if each.kind == "classical")
    deep, classical = learned.validation, found.validation
    how = "on the validation part"
    if deep is None or classical is None:
        deep, classical, how = learned.score.value, score.value, "cross-fitted (there is no validation part)"
    if prepared.settings.use == "best" and deep > classical:
        screen.say(f"Used        deep: {percent(deep)} % {how}, classical {percent(classical)} %")
        return learned, found.answers
    screen.say(f"Used        classical: {percent(classical)} % {how}, deep {percent(deep)} %")
    facts = _facts(prepared, found.classical.output, learned.test, found.answers)
    other = replace(learned, model=found.classical, score=score, facts=facts, answers=found.answers, validation=classical, way="classical")
    return other, learned.answers


def judged(prepared: Prepared, plan: Plan, learned: Learned, spent: float, screen: Screen) -> Contest | None:
    """The verdict against the task's classical opponents, inside --verdict-share of the time; their best is saved in the run folder."""
    settings = prepared.settings
    if not settings.verdict_share or not prepared.task.opponents(prepared.feed.input):
        return None
    trained: dict[str, float] = {}
    for event in read_events(prepared.run.path("events.jsonl")):  # a resumed run did not train everything just now
        if event["event"] == "finished":
            trained[event["leg"]] = max(trained.get(event["leg"], 0.0), event["seconds"])
    learned = replace(learned, seconds=max(learned.seconds, sum(trained.values())))
    usual = _verdict_seconds(settings, learned.seconds)
    lend, notes = _lender(prepared, screen)
    seconds, borrowing = usual, BORROW_SECONDS
    if settings.minutes is not None:
        left = min(usual, 60 * settings.minutes - TAIL_SECONDS - spent)
        borrowing = left / 3 if lend else 0.0
        seconds = left - borrowing
    flops = plan.forecast["training_flops"]
    give_back_memory()
    deep = Deep(learned.model, learned.answers, learned.test, learned.seconds, flops)
    answers = prepared.report.examples.answers
    from threadpoolctl import threadpool_limits

    margin, seed = settings.margin / 100, settings.seed
    try:
        with threadpool_limits(plan.threads):
            found = contest(prepared.task, prepared.feed, prepared.split, answers, deep, seconds, margin, seed, lend, borrowing, notes)
    except (RuntimeError, ValueError, MemoryError) as error:
        if settings.use != "deep":
            raise
        screen.warn(
            f"No verdict: the classical ways could not be fitted ({str(error).splitlines()[0]}). The network is saved all the same."
        )
        return None
    found.classical.save(prepared.run.path("classical.lamina"))
    for line in table(found.verdict):
        screen.say(f"            {line}")
    screen.title(f"Verdict     {found.verdict.sentence}")
    return found


def _verdict_seconds(settings: Settings, training: float) -> float:
    """What the opponents may take, where no --minutes bound it."""
    return max(LEAST_VERDICT_SECONDS, training * settings.verdict_share / (1 - settings.verdict_share))


def _lender(prepared: Prepared, screen: Screen) -> tuple[Callable[[], Lent] | None, tuple[str, ...]]:
    """(what reads the examples for the packaged network, a note where it is not installed); nothing for other data than photos."""
    feed = prepared.feed
    if not are_photos(feed.input):
        return None, ()
    if not packaged_is_there():
        return None, (f"a running start was not tried: {START_EXTRA}",)

    def lend() -> Lent:
        start, report = find_start(PACKAGED), prepared.report
        input = start.fit_input(feed.input.single())
        contents = [inspection.content for inspection in report.inspections]
        decoded = decode(report.examples.raws, contents, input, prepared.settings, screen)
        return Lent(start, Feed(decoded, feed.targets, input, feed.output, torch.device("cpu")))

    return lend, ()


def _leg(
    leg: str, learned: list[int], validation: list[int], prepared: Prepared, plan: Plan, deadline: float | None, screen: Screen
) -> tuple[Network, Feed]:
    """Train one network from the start (or from its checkpoint). The feed that comes back has the augmentations that proved right."""
    feed, run = prepared.feed, prepared.run
    train_part = np.array(learned)
    network = initial_network(prepared.task, plan, feed, train_part)
    write = EventFile(run.path("events.jsonl"))
    what = "Training" if leg == "final" else f"Training {leg} of {len(plan.legs) - 1}"
    with screen.progress(what, 1.0) as bar:
        begun = 0

        def tell(event: Event) -> None:
            nonlocal begun
            write(event)
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
                screen.say(f"Check       step {event.step} of {plan.total(leg)}: {score}loss {event.loss:.3f} on validation")
            elif isinstance(event, Decided) and leg == plan.legs[0]:
                found = f"{percent(event.disguised)} % right with it, {percent(event.score)} % without"
                screen.say(f"{feed.input.doubt:<12}{'used' if event.used else 'not used'}: {found}")
            elif isinstance(event, Finished):
                steps = event.step - begun
                speed = f"{steps * plan.batch / max(event.seconds, 1e-9):,.0f} examples/s"
                screen.say(f"Trained     {steps} steps in {duration(event.seconds)}: {speed}, waited {100 * event.waited:.1f} % for data")
            elif isinstance(event, Revised):
                screen.warn(f"Plan revised at step {event.step}: {event.kind} {event.value:g} ({event.why})")

        answers_after = len(prepared.split.indices("test")) or len(prepared.split.parts) // len(plan.legs)
        work = Work(leg, train_part, validation, deadline, answers_after, run.path("checkpoint.safetensors"))
        fitted = fit(network, feed.output, feed, work, plan, tell)
    return network, replace(feed, input=fitted.input)


def _fold_values(
    leg: str, learned: list[int], tested: list[int], prepared: Prepared, plan: Plan, deadline: float | None, screen: Screen
) -> Values:
    """What one fold's network says of its test examples; kept in the run folder, so that a resumed run does not train it again."""
    kept = prepared.run.kept_tensors(f"{leg}.safetensors")
    if kept is not None:
        context = Context(kept.get("lengths"), kept.get("segments"), kept.get("positions"))
        return Values(kept["values"], context, kept["targets"])
    network, feed = _leg(leg, learned, [], prepared, plan, deadline, screen)
    found = run_in_order(network, feed.input, feed.output, feed.in_order(tested, BATCH), plan.answers)
    tensors = {"values": found.values, "targets": found.targets, **found.context._asdict()}
    prepared.run.keep_tensors(f"{leg}.safetensors", **{name: value.contiguous() for name, value in tensors.items() if value is not None})
    return found


def _cross_fitted_score(prepared: Prepared, decoded: list[Any], shares: list[float]) -> Score:
    """The score over all examples; the wider of its own interval and that of the folds, whose training parts overlap."""
    answers = prepared.report.examples.answers
    pooled = prepared.task.score(decoded, list(answers))
    folds = []
    for number in range(len(shares)):
        _, tested = prepared.split.fold(number)
        folds.append(prepared.task.score([decoded[i] for i in tested], [answers[i] for i in tested]).value)
    low, high = corrected_resampled_interval(folds, float(np.mean(shares)))
    return dataclasses.replace(pooled, low=min(low, pooled.low), high=max(high, pooled.high))


def report_facts(prepared: Prepared, learned: Learned, other: list[Any]) -> dict[str, Any]:
    """What the report says of single test examples: all answers, and the most confident mistakes with their pictures."""
    examples, feed = prepared.report.examples, prepared.feed
    labels = [answer.top[0][0] for answer in learned.answers]
    others = [answer.top[0][0] for answer in other]
    truths = [examples.answers[index] for index in learned.test]
    wrong = [place for place, (truth, label) in enumerate(zip(truths, labels, strict=True)) if truth != label]
    wrong.sort(key=lambda place: -learned.answers[place].probability)
    shown = []
    for place in wrong[:MISTAKES_SHOWN]:
        value = feed.values.take([learned.test[place]])[0]
        picture = feed.input.shown(value.cpu().numpy() if isinstance(value, torch.Tensor) else value)
        shown.append({
            "name": examples.names[learned.test[place]], "truth": truths[place], "label": labels[place],
            "probability": learned.answers[place].probability, "other": others[place] if others else "", "picture": picture,
        })  # fmt: skip
    return {
        "names": [examples.names[index] for index in learned.test], "truths": truths, "labels": labels,
        "probabilities": [answer.probability for answer in learned.answers], "others": others,
        "other": "classical" if learned.way == "deep" else "deep", "shown": shown,
    }  # fmt: skip


def make_card(prepared: Prepared, plan: Plan, learned: Learned, verdict: Verdict | None, seconds: float) -> dict[str, Any]:
    """The facts of this training, as they stand in the model file."""
    report, split = prepared.report, prepared.split
    counts = {part: len(split.indices(part)) for part in ("train", "validation", "test")}
    if split.folds is not None:
        counts["test"] = len(split.parts)
    source = report.examples.source
    return {
        "classes": sorted(set(report.examples.answers)),
        "examples": counts,
        "cross_fitted": split.folds is not None,
        "excluded": len(report.excluded),
        "left_out_of_training": split.left_out,
        "seconds": round(seconds, 2),
        "way": learned.way,
        "input": learned.model.input.kind,
        "score": dataclasses.asdict(learned.score),
        "facts": learned.facts,
        "verdict": verdict.state() if verdict else None,
        "data": {
            "source": source,
            "path": os.path.abspath(source) if os.path.exists(source) else source,
            "content_hash": report.content_hash,
        },
        "settings": dataclasses.asdict(prepared.settings),
        "plan": {**dataclasses.asdict(plan), "path": ""},
        "run": str(prepared.run.folder),
        "versions": {"lamina": version(), "torch": torch.__version__, "python": platform.python_version()},
    }


def audit_data(data: Any, *, screen: Screen | None = None, **settings: Any) -> Audit:
    """The audit alone: decode every example and say what is wrong. Raises DataError when there is nothing to audit."""
    chosen = make_settings(settings)
    return audit(*read_for(data, find_task(chosen.task), chosen), chosen, screen or Screen(quiet=True))


def read_for(data: Any, task: Task, settings: Settings) -> tuple[Examples, Input]:
    """(the examples, the unfitted input that reads them)."""
    usual = task.input(settings, "")
    examples = read_examples(data, settings, usual)
    return examples, task.input(settings, examples.sense) if examples.sense else usual


def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("lamina")
    except PackageNotFoundError:
        return "not installed"


def _split(report: Audit, run: Run, settings: Settings) -> Split:
    """The run's own saved split, the one that the settings name, or a new one; written down in each case."""
    own = run.path("split.json")
    saved = load_split(own) if own.exists() else load_split(Path(settings.split)) if settings.split else None
    if own.exists() and saved is not None and saved.get("content_hash") != report.content_hash:
        raise DataError(
            sentence(
                f"The data of {run.folder}",
                "be what they were when the run began",
                "other content",
                "Put them back, or train anew with --split " + str(own) + ".",
            )
        )
    split = divide(report, saved)
    if not own.exists():
        write_json(own, save_split(split, report))
    return split


def _describe_split(split: Split) -> str:
    if split.folds is not None:
        return f"{len(split.parts)} examples in {max(split.folds) + 1} folds"
    counts = ", ".join(f"{len(split.indices(part))} {part}" for part in ("train", "validation", "test"))
    return counts + (f"; {split.left_out} copies of held-out examples left out" if split.left_out else "")


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

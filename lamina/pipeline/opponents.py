"""The opponents: fitted before the training, so that it gets all the time that they leave; judged with it afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lamina.classical.borrowed import Lent
from lamina.classical.contest import Contest, Rival
from lamina.classical.verdict import Verdict, table
from lamina.data.batches import Feed
from lamina.data.cache import decode
from lamina.data.files import write_json
from lamina.errors import DataError, ModelFileError, ResourceError, UsageError, sentence
from lamina.layers import Context
from lamina.model import load
from lamina.pipeline.learning import Learned, facts_of
from lamina.pipeline.preparation import Prepared
from lamina.screen import Screen, duration
from lamina.settings import Settings, cores
from lamina.start import PACKAGED, START_EXTRA, are_photos, find_start, packaged_is_there
from lamina.training.device import forget_peak_memory, give_back_memory
from lamina.training.events import read_events
from lamina.training.plan import Plan
from lamina.training.run import Run

BORROW_SECONDS = 60.0
"""For borrowed layers, where no --minutes are given; with them a third of the opponents' share."""
LEAST_SECONDS = 10.0
"""For the classical search, where no --minutes are given; afterwards more, if training took long."""
NEAR = 0.05
"""A classical model whose search was cut short and that comes this near is given as long as training had, where no --minutes bind it."""


@dataclass(frozen=True)
class Opposed:
    """The opponents, fitted and asked, and not yet looked at."""

    contest: Contest
    rivals: list[Rival]
    notes: tuple[str, ...]

    def rival(self, kind: str) -> Rival | None:
        return next((rival for rival in self.rivals if rival.kind == kind), None)


def oppose(prepared: Prepared, screen: Screen) -> Opposed | None:
    """Fit the task's opponents inside --verdict-share of the time; they are kept in the run folder. None: there is no verdict to be."""
    settings, run = prepared.settings, prepared.run
    lend, notes = _lender(prepared, screen)
    if settings.use == "borrowed" and lend is None:
        got = notes[0] if notes else "other data"
        raise UsageError(sentence("--use borrowed", "be asked for color photos, with the packaged network installed", got))
    if not settings.verdict_share or not prepared.task.opponents(prepared.feed.input):
        return None
    contest = Contest(prepared.task, prepared.feed, prepared.split, prepared.examples.answers, settings.seed)
    share = 60 * settings.minutes * settings.verdict_share if settings.minutes is not None else None
    rivals, spent, limited = [contest.trivial()], 0.0, _threads(settings)
    try:
        if lend is not None:
            begun, seconds = time.monotonic(), BORROW_SECONDS if share is None else share / 3
            found = _kept("borrowed", contest, run) or contest.borrowed(lend, seconds)
            if isinstance(found, Rival):
                rivals.append(_keep(found, run))
            elif settings.use == "borrowed":
                raise UsageError(sentence("--use borrowed", "leave the packaged network its time", found, "Give more --minutes."))
            else:
                notes += (f"a running start was not tried: {found}",)
            spent = time.monotonic() - begun
        seconds = LEAST_SECONDS if share is None else max(1.0, share - spent)
        classical = _kept("classical", contest, run) or _keep(contest.classical(seconds), run)
    except (RuntimeError, ValueError, MemoryError, DataError, ModelFileError, ResourceError) as error:
        if settings.use != "deep":
            raise
        screen.warn(
            f"No verdict: the classical ways could not be fitted ({str(error).splitlines()[0]}). The network is trained all the same."
        )
        return None
    finally:
        limited.restore_original_limits()
        give_back_memory()
        forget_peak_memory()
    later = (
        ""
        if classical.complete or share is not None or not prepared.task.search_again
        else "; its search was cut short, and may take as long as training, afterwards"
    )
    screen.say(
        f"Classical   {classical.name}: {prepared.task.promised(classical.promise or 0.0)} on training examples held out, "
        f"in {duration(classical.seconds)}; the verdict comes after the training{later}"
    )
    return Opposed(contest, [classical, *rivals], notes)


def judged(
    prepared: Prepared, plan: Plan, learned: Learned, opposed: Opposed | None, screen: Screen
) -> tuple[Verdict | None, Learned, list[Any]]:
    """(the verdict, what is saved as --use says, the answers of the other way to the test examples)."""
    if opposed is None:
        return None, learned, []
    seconds, flops = _spent(prepared, plan, learned)
    deep = opposed.contest.deep(learned.model, learned.answers, seconds, flops)
    deep = replace(deep, validation=learned.validation, repeats=learned.repeats)
    opposed = _more_time(prepared, learned, opposed, seconds, screen)
    verdict = opposed.contest.verdict([deep, *opposed.rivals], prepared.settings.margin / 100, opposed.notes)
    for line in table(verdict):
        screen.say(f"            {line}")
    screen.title(f"Verdict     {verdict.sentence}")
    saved, others = _chosen(prepared, learned, [deep, *opposed.rivals], verdict, screen)
    return verdict, saved, others


def _spent(prepared: Prepared, plan: Plan, learned: Learned) -> tuple[float, float]:
    """(seconds, FLOPs) of the training, a resumed run's earlier stretches counted; of one network where further seeds were trained."""
    events, flops = read_events(prepared.run.path("events.jsonl")), plan.forecast["training_flops"]
    seconds: dict[str, float] = {}
    begun: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    for event in [*events, {"event": "started", "leg": "", "time": 0.0}]:
        if event["event"] == "started":
            if begun is not None and last is not None:
                seconds[begun["leg"]] = seconds.get(begun["leg"], 0.0) + last["time"] - begun["time"]
            begun = event
        last = event
    if prepared.split.folds is None and len(plan.legs) > 1:
        return seconds.get("final", learned.seconds / len(plan.legs)), flops / len(plan.legs)
    return max(learned.seconds, sum(seconds.values())), flops


def _more_time(prepared: Prepared, learned: Learned, opposed: Opposed, trained: float, screen: Screen) -> Opposed:
    """Where no --minutes bind it, a search that was cut short is made anew: in its share of the time, or, near, in as long as training."""
    settings, classical = prepared.settings, opposed.rival("classical")
    if settings.minutes is not None or not prepared.task.search_again or classical is None or classical.complete or classical.remade:
        return opposed
    deep = learned.score.value if learned.validation is None else learned.validation
    deep = 1 - deep if learned.score.better == "lower" else deep  # a promise is a share that is right
    near = (classical.promise or 0.0) >= deep - NEAR
    seconds = trained if near else trained * min(1.0, settings.verdict_share / (1 - settings.verdict_share))
    if seconds < 1.5 * LEAST_SECONDS:
        return opposed
    screen.say(f"Classical   its search was cut short; it is made anew in {duration(seconds)}")
    forget_peak_memory()
    with _threads(settings):
        again = _keep(replace(opposed.contest.classical(seconds), remade=True), prepared.run)
    give_back_memory()
    return replace(opposed, rivals=[again if rival.kind == "classical" else rival for rival in opposed.rivals])


def _chosen(prepared: Prepared, learned: Learned, rivals: list[Rival], verdict: Verdict, screen: Screen) -> tuple[Learned, list[Any]]:
    """(what is saved, the answers of the other way): the best is the one that is better on the validation part."""
    use, ways = prepared.settings.use, {rival.kind: rival for rival in rivals if rival.kind != "trivial"}
    if use == "deep":
        return learned, list(ways["classical"].answers)
    scores = {contender.kind: contender.score for contender in verdict.contenders}
    held_out = {kind: way.validation for kind, way in ways.items() if way.validation is not None}
    how = "on the validation part"
    if len(held_out) < len(ways):
        held_out = {kind: scores[kind].value for kind in ways}
        how = "cross-fitted" if prepared.split.folds is not None else "on the test part, for want of another: its score flatters"
    sign = -1 if learned.score.better == "lower" else 1
    kind = max(held_out, key=lambda each: sign * held_out[each]) if use == "best" else use
    told = learned.score.told
    others = ", ".join(f"{each} {told(score)}" for each, score in held_out.items() if each != kind)
    screen.say(f"Used        {kind}: {told(held_out[kind])} {how}, {others}")
    if kind == "deep":
        return learned, list(ways["classical"].answers)
    way, answers = ways[kind], list(ways[kind].answers)
    facts = facts_of(prepared, way.model.output, learned.test, answers)
    saved = replace(learned, model=way.model, score=scores[kind], facts=facts, answers=answers, validation=way.validation, way=kind)
    return saved, learned.answers


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


def _threads(settings: Settings) -> Any:
    """What scikit-learn and numpy may use from now on, until it is restored or left."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(cores(settings))


# ---------------------------------------------------------------- kept in the run folder, so that a resumed run has the same

TUPLES = ("features", "decisions", "notes")
KEPT = (
    *("name", "seconds", "milliseconds", "answer_flops", "training_flops", "validation", "promise"),
    *("memory", "inspect", "fitted_on", "complete", "remade", *TUPLES),
)


def _keep(rival: Rival, run: Run) -> Rival:
    run.path(f"{rival.kind}.json").unlink(missing_ok=True)
    rival.model.save(run.path(f"{rival.kind}.lamina"))
    assert rival.values is not None
    run.keep_tensors(f"{rival.kind}.safetensors", values=rival.values.contiguous())
    write_json(run.path(f"{rival.kind}.json"), {name: getattr(rival, name) for name in KEPT})  # last: it says that the others are whole
    return rival


def _kept(kind: str, contest: Contest, run: Run) -> Rival | None:
    facts, tensors = run.path(f"{kind}.json"), run.kept_tensors(f"{kind}.safetensors")
    if not facts.exists() or tensors is None:
        return None
    told = json.loads(facts.read_text("utf-8"))
    try:
        model, values = load(run.path(f"{kind}.lamina")), tensors["values"]
    except ModelFileError:  # made on another kind of machine: fitted anew
        return None
    told |= {name: tuple(told[name]) for name in TUPLES}
    return Rival(kind=kind, model=model, answers=model.output.decode(values, Context()), values=values, **told)

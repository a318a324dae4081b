"""fit: drives THE loop. Budget, checks, best weights, checkpoints, the second chance, the stop."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Batch, Feed
from lamina.errors import Interrupted, ResourceError, TrainingBroke, sentence
from lamina.inputs import Input
from lamina.networks import Network
from lamina.outputs import Output, Progress
from lamina.training.checkpoint import State, copied, put_state, put_weights, read_checkpoint, take_state, write_checkpoint
from lamina.training.control import ASKED, PAUSE, STOP, asked
from lamina.training.distributed import current_world, unsharded, whole, wrap
from lamina.training.events import Before, Checked, Decided, Finished, Paused, Revised, Saved, Started, Stepped, Tell
from lamina.training.inference import BATCH
from lamina.training.loop import training_loop
from lamina.training.objective import Objective
from lamina.training.optimizer import make_optimizer
from lamina.training.plan import Plan, Revision
from lamina.training.snapshots import Snapshot, moments_for, write_snapshot

SECONDS_BETWEEN_READS = 0.5
"""The loss is read from the device this seldom."""
SECONDS_BETWEEN_CHECKPOINTS = 20.0
SECONDS_BETWEEN_REVISIONS = 8.0
SPEEDS_KEPT = 40
SECOND_CHANCE = 0.3
"""After a loss that is not a number the rate is multiplied by this, once."""
LOOKED_AT = 512
EVALUATION = 0.33
"""Time of one example of a check, as a share of one example's training step, until a check has measured it."""
FINE_ANSWER = 0.9
"""Time of one answer after training, as such a share, where training is in bf16 and answers are in fp32."""
CAUTION = 1.3
WORTH_ADDING = 0.01
LAST_SHARE = 0.05
"""Asked to stop and keep, training goes on for this share of the steps made, in which the rate falls to 0."""
SECONDS_OF_PAUSE = 0.2
WARM_AVERAGE = 10
"""The running mean of the weights begins with a horizon of a tenth of the steps made."""
DOUBT = 0.02
"""The doubted augmentation keeps the labels when the score falls by at most this (and by what chance explains) under it."""
LATE, EARLY = 1.03, 0.97
"""The number of steps is revised when the forecast leaves this share of the time that is left."""


@dataclass
class Fitted:
    steps: int
    loss: float
    """The last that was read."""
    score: float | None
    """Of the best check."""
    seconds: float
    input: Input
    """With the augmentations that training found to keep the labels."""


@dataclass(frozen=True)
class Work:
    """One leg: which examples to learn from, which to check on, by when, and where to write."""

    leg: str
    train: np.ndarray
    validation: Sequence[int] = ()
    deadline: float | None = None
    """On time.monotonic(): when the leg must be over, with the answers that come after it."""
    answers_after: int = 0
    """Examples to be answered after training and before the deadline, such as the test part."""
    checkpoint: Path | None = None
    snapshots: Path | None = None
    """Folder for the weights at some moments; they cost the time that the event Finished tells."""
    control: Path | None = None
    """A file through which somebody may ask to pause, or to stop and keep (control.py)."""
    look: Callable[[Network, int, float], None] | None = None
    """Called with (network, steps made, fraction) at the moments of the snapshots; its time counts as theirs."""


def move_average(average: dict[str, Tensor], network: Network, share: float) -> None:
    """`average` goes `share` of the way to the weights of `network`; what is no floating number is copied. Empty, it begins with them."""
    now = {name: whole(value).detach() for name, value in network.state_dict().items()}
    if not average:
        average.update({name: value.clone() for name, value in now.items()})
        return
    numbers = [name for name, value in now.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in numbers], [now[name] for name in numbers], share)
    for name in now.keys() - set(numbers):
        average[name].copy_(now[name])


def answer_cost(plan: Plan) -> float:
    """Time of one answer after training, as a share of one example's training step."""
    return EVALUATION if plan.answers == plan.precision else FINE_ANSWER


def count_views(feed: Feed, decided: bool) -> int:
    """How often each example is computed for its answer: once, or every view and one more for the score with a single view.

    As long as the doubted augmentation is not `decided`, with the views that it would add.
    """
    inputs = [feed.input, None if decided else feed.input.doubted()]
    x, context = feed.input.collate(feed.values.take([0]))
    views = max(len(input.several(x, context)) for input in inputs if input is not None)
    return 1 if views == 1 else views + 1


def fit(network: Network, output: Output, feed: Feed, work: Work, plan: Plan, tell: Tell = lambda event: None) -> Fitted:
    """Train `network` in place as `plan` says, going on from the leg's checkpoint when there is one.

    Raises TrainingBroke (the loss was not a number, twice), ResourceError (out of memory with one example) and Interrupted
    (Ctrl-C, after writing a checkpoint).
    """
    return _Driver(network, output, feed, work, plan, tell).run()


class _Driver:
    """Everything around the loop, in the order in which it happens."""

    def __init__(self, network: Network, output: Output, feed: Feed, work: Work, plan: Plan, tell: Tell) -> None:
        self.network, self.output, self.feed, self.work, self.plan, self.tell = network, output, feed, work, plan, tell
        self.world = current_world()
        self.objective = wrap(Objective(network, output, plan.precision, plan.compiled), self.world, plan.shard)
        self.optimizer = make_optimizer(network, plan)
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.average: dict[str, Tensor] = {}
        self.done = 0
        self.unread: list[Tensor] = []
        self.loss = float("nan")
        self.waited, self.waited_before = 0.0, 0.0
        """Seconds that the loop waited for data: since the last read, and until then."""
        self.check_seconds = 0.0
        self.speeds: list[float] = []
        """Steps at full resolution per second, at each of the last reads."""
        self.revised_at = time.monotonic()
        self.moments = moments_for(network.state_dict()) if work.snapshots else ()
        self.snapshot_seconds = 0.0

    def run(self) -> Fitted:
        start = time.monotonic()
        self.network.train()
        state = read_checkpoint(self.work.checkpoint) if self.work.checkpoint else None
        if state is not None and state.leg == self.work.leg:
            self._put(state)
        self.tell(Started(self.work.leg, self.done, self.plan.total(self.work.leg)))
        if self.done == 0:
            self._look_before()
            self._snapshot(0)
        self.kept = self._moments_passed()
        self.good = self._take()
        with _listening() as stop:
            while self.done < self.plan.total(self.work.leg):
                try:
                    self._run_until_something_happens(stop)
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    self._out_of_memory(error)
        self._save(self._take())
        if self.best or self.average:
            put_weights(self.network, self.best or self.average)
        self._snapshot(len(self.moments) - 1)
        seconds = time.monotonic() - start
        waited = round((self.waited_before + self.waited) / max(1e-9, seconds), 4)
        self.tell(Finished(self.work.leg, self.done, seconds, waited, round(self.snapshot_seconds, 4)))
        return Fitted(self.done, self.loss, self.best_score, seconds, self._feed(self.done).input)

    # ------------------------------------------------------------ the steps

    def _run_until_something_happens(self, stop: threading.Event) -> None:
        """Steps until the leg is over, or until the plan was revised in a way that makes the loop begin anew."""
        leg, plan = self.work.leg, self.plan
        last_read = last_saved = time.monotonic()
        steps_at_read = self.done
        for step in training_loop(
            self.objective, self._steps(), self.optimizer, lambda n: plan.rate(leg, n), plan.seed_of(leg), self.world, plan.captured
        ):
            self.done = step.number + 1
            self.unread.append(step.loss)
            self._average_weights()
            if self.kept < (passed := self._moments_passed()) < len(self.moments):
                self._snapshot(passed - 1)
                self.kept = passed
            now = time.monotonic()
            check = self.done % plan.check_every == 0 or self.done == plan.total(leg)
            alone = self.world.size == 1  # several processes act only where all of them do: at checks
            if check or len(self.unread) >= 512 or (alone and now - last_read >= SECONDS_BETWEEN_READS):
                if not self._read_losses():
                    return self._second_chance()
                speed = (self.done - steps_at_read) / max(1e-9, time.monotonic() - last_read)
                waited = min(1.0, self.waited / max(1e-9, time.monotonic() - last_read))
                self.tell(Stepped(leg, self.done, self.loss, step.rate, speed * plan.batch, waited))
                last_read, steps_at_read = time.monotonic(), self.done
                self.waited, self.waited_before = 0.0, self.waited_before + self.waited
                self._keep_to_the_clock(speed * plan.cost(leg, step.number))
                if alone and self.work.control is not None:
                    self._heed(self.work.control, stop)
                    last_read = time.monotonic()
            if check and not self._check():
                return self._second_chance()
            if stop.is_set() if alone else check and float(self.world.sum(torch.tensor(float(stop.is_set())))):
                self._stop()
            if self.work.checkpoint and (check if not alone else time.monotonic() - last_saved >= SECONDS_BETWEEN_CHECKPOINTS):
                self._save(self._take())
                last_saved = time.monotonic()
            if check:
                last_read = time.monotonic()
        return None

    def _steps(self) -> Iterator[tuple[int, float, list[Batch]]]:
        """(number, fraction, micro-batches) from where training stands to the end of the plan."""
        leg, plan = self.work.leg, self.plan
        while self.done < plan.total(leg):
            start = time.monotonic()
            number = self.done
            feed, detail = self._feed(number), plan.detail(leg, number)
            examples, draws = feed.training(self.work.train, plan.seed_of(leg), number, plan.batch, self.world.rank, self.world.size)
            size = max(1, plan.micro_batch_at(leg, number) // self.world.size)
            batches = [feed.batch(examples[some], draws[some], detail) for some in feed.pieces(examples, size)]
            self.waited += time.monotonic() - start
            yield number, plan.fraction(leg, number), batches

    def _feed(self, step: int) -> Feed:
        """The feed, with the doubted augmentation where it is used."""
        doubted = self.feed.input.doubted() if self.plan.doubted(self.work.leg, step) else None
        return replace(self.feed, input=doubted) if doubted else self.feed

    def _average_weights(self) -> None:
        """The running mean of the weights (Polyak & Juditsky 1992, https://doi.org/10.1137/0330046), its horizon growing at first."""
        if not self.plan.average:
            return
        horizon = max(1.0, min(self.plan.average * self.plan.total(self.work.leg), self.done / WARM_AVERAGE))
        move_average(self.average, self.network, 1 / horizon)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Inside, the network holds the weights that would answer if training stopped now, and is in evaluation mode."""
        self.network.eval()
        kept = copied(self.network) if self.average else {}
        if self.average:
            put_weights(self.network, self.average)
        try:
            with unsharded(self.objective), torch.no_grad():
                yield
        finally:
            if kept:
                put_weights(self.network, kept)
            self.network.train()

    def _read_losses(self) -> bool:
        """Read all losses since the last time; False when one is not a number."""
        values = torch.stack(self.unread).cpu() if self.unread else torch.tensor([self.loss])
        self.unread = []
        self.loss = float(values[-1])
        return bool(torch.isfinite(values).all())

    # ------------------------------------------------------------ checks

    def _evaluate(self, examples: Sequence[int], disguised: bool = False, trained: bool = False) -> tuple[float, float | None]:
        """(loss, score) on `examples`, each once, at the resolution and in the number format that training uses now. Of answers that are
        judged together the loss is what is missing to the best score, and of others what Output.checked says; where the examples are
        `trained` on it is the loss of training.

        `disguised`: with the doubted augmentation.
        """
        detail = self.plan.detail(self.work.leg, max(0, self.done - 1))
        found: list[Tensor] = []
        scored, together, measured = True, self.output.together and not trained, self.output.measured and not trained
        values: list[Tensor] = []
        targets: list[Tensor] = []
        end = Progress(torch.ones((), device=self.feed.device), torch.zeros((), device=self.feed.device))
        with self._answering(), torch.autocast(self.feed.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            for batch in (self.feed.batch(some) for some in self._in_batches(examples)):
                x, context = self.feed.input.disguise(batch.x, batch.context) if disguised else (batch.x, batch.context)
                x, context = self.feed.input.coarser(x, context, detail) if detail < 1 else (x, context)
                if together:
                    values.append(self.network(x, context, self.output.reads)[0].float().cpu())
                    targets.append(batch.target.cpu())
                    continue
                hidden, context = self.network.hidden(x, context)
                if measured:  # in pieces: all logits of a check at once may not fit
                    met = self.output.met(x, hidden, self.network.head, batch.target, context).sum(0)
                    found.append(torch.stack([met[0], met[1], torch.zeros_like(met[0])]))
                    scored = False
                    continue
                loss_sum, n = self.output.loss(hidden, self.network.head, batch.target, context, end)
                hits = None if trained else self.output.right(self.network.head(hidden, context)[0], batch.target, context)
                scored = scored and hits is not None
                right = hits.sum() if hits is not None else torch.zeros_like(n)
                kind = torch.promote_types(loss_sum.dtype, torch.float32)
                found.append(torch.stack([value.to(kind) for value in (loss_sum, n, right)]))
        if together:
            judged = self.output.judge(torch.cat(values), torch.cat(targets)) or 0.0
            return 1 - judged, judged
        total, count, right_ones = 0.0, 0.0, 0.0
        for loss, counted, hit in torch.stack(found).tolist():  # read together: each reading makes a GPU wait
            total, count, right_ones = total + loss, count + counted, right_ones + hit
        return total / max(1.0, count), right_ones / len(examples) if scored else None

    def _in_batches(self, examples: Sequence[int]) -> Iterator[np.ndarray]:
        """All of them, each once."""
        chosen = np.asarray(examples, np.int64)
        return (chosen[some] for some in self.feed.pieces(chosen, BATCH))

    def _looked_at(self) -> list[int]:
        """The held-out examples, or some training examples where none are held out."""
        return list(self.work.validation) or self.work.train[:: max(1, len(self.work.train) // LOOKED_AT)].tolist()

    def _look_before(self) -> None:
        """Score and loss of the untrained network, beside those of a clueless guess; on some training examples where none are held out."""
        examples = self._looked_at()
        loss, score = self._evaluate(examples)
        if self.output.together or self.output.checked != "loss":  # held-out examples have no loss of training
            known = self.work.train[:: max(1, len(self.work.train) // LOOKED_AT)].tolist()
            loss = self._evaluate(known, trained=True)[0]
        clueless = self.output.clueless([self.feed.targets[index] for index in examples])
        self.tell(Before(self.work.leg, score, loss, clueless[0] if clueless else None, clueless[1] if clueless else None))

    def _check(self) -> bool:
        """Evaluate, keep the best weights (of those equal but for chance the latest), remember a good state. False when they are broken."""
        start = time.monotonic()
        loss, score = self._evaluate(self.work.validation) if len(self.work.validation) else (self.loss, None)
        self.check_seconds = time.monotonic() - start
        if not np.isfinite(loss):
            return False
        if len(self.work.validation):
            worth = score if score is not None else -loss
            chance = (score * (1 - score) / len(self.work.validation)) ** 0.5 if score is not None else 0.0
            better = self.best_score is None or worth >= self.best_score - chance
            if better:
                self.best_score = worth if self.best_score is None else max(worth, self.best_score)
                self.best = {name: value.clone() for name, value in self.average.items()} or copied(self.network)
            self.tell(Checked(self.work.leg, self.done, loss, score, better))
        if self.plan.doubted(self.work.leg, self.done) is None and self.feed.input.doubted():
            self._decide(score)
        self.good = self._take()
        return True

    def _decide(self, score: float | None) -> None:
        """Try the doubted augmentation on examples that the network does well on without; from then on training uses it, or does not."""
        examples = self._looked_at()
        score = score if score is not None else self._evaluate(examples)[1]
        clueless = self.output.clueless([self.feed.targets[index] for index in examples])
        if score is None or clueless is None or score < clueless[0] + 0.3 * (1 - clueless[0]):
            return
        disguised = self._evaluate(examples, disguised=True)[1] or 0.0
        allowed = DOUBT + 2 * (score * (1 - score) / len(examples)) ** 0.5
        self.plan.revise(Revision(self.work.leg, self.done, "doubted", float(score - disguised <= allowed), f"{score:.4f} {disguised:.4f}"))
        self.tell(Decided(self.work.leg, self.done, score - disguised <= allowed, score, disguised))

    # ------------------------------------------------------------ what can go otherwise

    def _keep_to_the_clock(self, steps_per_second: float) -> None:
        """Fewer (or, not too late, more) steps when the machine is not as fast as it was forecast. One process only.

        The speed is the median of the last reads: a short stall costs its own seconds, not the rest of the plan.
        """
        self.speeds = [*self.speeds[-SPEEDS_KEPT:], steps_per_second]
        now = time.monotonic()
        total = self.plan.total(self.work.leg)
        enough = len(self.speeds) >= 4 or self.done > 0.5 * total
        shortened = [revision for revision in self.plan.revised(self.work.leg, "steps") if revision.why == ASKED]
        if self.work.deadline is None or self.world.size > 1 or not enough or shortened:
            return
        left, seconds = total - self.done, self.work.deadline - now
        speed = statistics.median(self.speeds)
        checked = len(self.work.validation) if self.check_seconds else 0
        one_answer = self.check_seconds / checked if checked else EVALUATION / (speed * self.plan.batch)
        checks = len(self.work.validation) * (left // self.plan.check_every + 1)
        views = count_views(self._feed(self.done), self.plan.doubted(self.work.leg, self.done) is not None)
        answering = one_answer * checks + answer_cost(self.plan) / EVALUATION * one_answer * self.work.answers_after * views
        made = self.output.seconds_each * (self.work.answers_after + 2 * len(self.work.validation))
        mean_cost = self.plan.mean_cost(self.plan.fraction(self.work.leg, self.done))
        room = max(0.0, seconds - CAUTION * answering - made) * speed / mean_cost
        most = max(self.plan.most_steps, self.plan.steps)
        late = left > room * LATE
        early = left < room * EARLY and room - left > WORTH_ADDING * self.plan.steps and total < most
        if (
            left > 1
            and (late or early)
            and (now - self.revised_at >= SECONDS_BETWEEN_REVISIONS or seconds < 2 * SECONDS_BETWEEN_REVISIONS or self.done > 0.9 * total)
        ):
            self.revised_at = now
            why = "the machine is slower than forecast" if late else "the machine is faster than forecast"
            self._revise("steps", self.done, min(most, self.done + max(1, int(room * 0.98))), why)

    def _heed(self, control: Path, stop: threading.Event) -> None:
        """What somebody asks: to wait (the clock waits, too), or to end soon, with the schedule finished."""
        if asked(control) == PAUSE:
            begun = time.monotonic()
            self._save(self._take())
            self.tell(Paused(self.work.leg, self.done, 0.0))
            while asked(control) == PAUSE and not stop.is_set():
                time.sleep(SECONDS_OF_PAUSE)
            waited = time.monotonic() - begun
            self.tell(Paused(self.work.leg, self.done, round(waited, 3)))
            if self.work.deadline is not None:
                self.work = replace(self.work, deadline=self.work.deadline + waited)
        if asked(control) == STOP:
            control.unlink(missing_ok=True)
            soon = self.done + max(1, round(LAST_SHARE * self.done))
            legs = self.plan.legs[self.plan.legs.index(self.work.leg) + 1 :] if self.work.leg in self.plan.legs else []
            for leg in [leg for leg in legs if soon < self.plan.total(leg)]:  # networks that come after it get as many steps
                self.plan.revise(Revision(leg, 0, "steps", soon, ASKED))
            if soon < self.plan.total(self.work.leg):
                self._revise("steps", self.done, soon, ASKED)

    def _second_chance(self) -> None:
        """A loss that is not a number: back to the last good weights with a lower rate, once."""
        leg = self.work.leg
        if self.plan.revised(leg, "rate"):
            raise TrainingBroke(
                sentence(
                    f"The loss of {leg} at step {self.done}",
                    "be a number",
                    "nan or infinite, for the second time",
                    "The rate was lowered once already; look at the data for extreme values, or try --precision fp32.",
                )
            )
        at = self.done
        self._put(self.good)
        self._save(self.good)
        self._revise("rate", self.good.step, SECOND_CHANCE, f"the loss was not a number at step {at}")

    def _out_of_memory(self, error: BaseException) -> None:
        """Half the micro-batch, the same batch; again from the last good weights. Any other error goes on upwards."""
        told = str(error).lower()
        if not (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in told or "out of memory" in told):
            raise error
        self.optimizer.zero_grad(set_to_none=True)
        smaller = self.plan.micro_batch_at(self.work.leg, self.done) // 2
        if smaller < 1:
            raise ResourceError(
                sentence("The memory", "hold a training step with one example", "too little", "Use a smaller --side or --width.")
            ) from error
        if self.feed.device.type == "cuda":
            torch.cuda.empty_cache()
        self._put(self.good)
        self._save(self.good)
        self._revise("micro_batch", self.good.step, smaller, "out of memory")

    def _revise(self, kind: str, step: int, value: float, why: str) -> None:
        self.plan.revise(Revision(self.work.leg, step, kind, value, why))
        self.tell(Revised(self.work.leg, step, kind, value, why))

    def _stop(self) -> None:
        self._save(self._take())
        raise Interrupted(f"Stopped at step {self.done} of {self.plan.total(self.work.leg)} of {self.work.leg}.")

    # ------------------------------------------------------------ states

    def _moments_passed(self) -> int:
        fraction = self.plan.fraction(self.work.leg, self.done)
        return sum(moment <= fraction for moment in self.moments)

    def _snapshot(self, number: int) -> None:
        """Keep the weights as they are now (at the end: those that will answer)."""
        if self.work.snapshots is None or not self.moments:
            return
        start = time.monotonic()
        weights = {name: whole(value).detach() for name, value in self.network.state_dict().items()}
        if self.world.rank == 0:
            fraction = self.plan.fraction(self.work.leg, self.done)
            try:
                write_snapshot(self.work.snapshots, number, Snapshot(self.done, fraction, weights))
                if self.work.look is not None:
                    self.work.look(self.network, self.done, fraction)
            except ResourceError:  # training goes on without them
                self.moments = ()
        self.snapshot_seconds += time.monotonic() - start

    def _take(self) -> State:
        return take_state(self.work.leg, self.done, self.network, self.optimizer, self.best, self.best_score, self.average)

    def _put(self, state: State) -> None:
        put_state(state, self.network, self.optimizer)
        self.done, self.best, self.best_score, self.unread = state.step, dict(state.best), state.best_score, []
        self.average = {name: value.to(self.feed.device, copy=True) for name, value in state.average.items()}

    def _save(self, state: State) -> None:
        if self.work.checkpoint:
            write_checkpoint(state, self.work.checkpoint, self.world)
            self.tell(Saved(state.leg, state.step))


@contextmanager
def _listening() -> Iterator[threading.Event]:
    """An event that Ctrl-C (or a polite kill) sets, so that the step is finished first; the second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

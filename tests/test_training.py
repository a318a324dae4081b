"""The loop and what drives it: gradients, second chances, budgets, and a golden curve."""

import itertools
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import make_plan
from probe_parts import Tanh, Vectors

import lamina
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.errors import DataError, ResourceError, TrainingBroke
from lamina.inputs import ImageInput
from lamina.layers import Linear
from lamina.networks import Network, conv_net, conv_net_outputs
from lamina.outputs import ClassesOutput
from lamina.settings import Settings
from lamina.tasks import find_task
from lamina.training import forecast
from lamina.training.distributed import World
from lamina.training.events import Revised, read_events
from lamina.training.fit import Work, fit
from lamina.training.loop import training_loop
from lamina.training.objective import Objective
from lamina.training.optimizer import make_optimizer
from lamina.training.plan import Plan, Revision, load_plan

MUON = {"optimizer": "muon", "learning_rate": 0.05, "head_rate": 0.02, "rest_rate": 0.1}
GOLDEN_LOSSES = Path(__file__).with_name("golden_losses_recognize.txt")


def pictures(count: int, classes: int = 3, side: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Blurred bars whose direction is their class, with noise."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, count)
    rows, columns = np.mgrid[0:side, 0:side]
    waves = np.cos(
        np.cos(targets * 1.1)[:, None, None] * rows + np.sin(targets * 1.1)[:, None, None] * columns + rng.random((count, 1, 1)) * 6
    )
    return np.clip(128 + 60 * waves + rng.normal(0, 25, waves.shape), 0, 255).astype(np.uint8)[..., None], targets


@pytest.fixture
def feed() -> Feed:
    torch.set_num_threads(1)
    values, targets = pictures(96)
    return Feed(
        Decoded.of(list(values)), targets.tolist(), ImageInput(12, 1, shift=0.1), ClassesOutput(labels=("a", "b", "c")), torch.device("cpu")
    )


def conv(feed: Feed) -> Network:
    torch.manual_seed(1)
    first = feed.input.layer(feed.input.collate(feed.values.take(range(96)))[0])
    hidden = conv_net(12, first.outputs, 8)
    return Network([("input", first), *hidden, ("head", feed.output.head(conv_net_outputs(hidden)))])


def test_accumulated_gradient_is_that_of_the_whole_batch():
    """1 x 64 = 4 x 16 = 64 x 1 in fp64, for a network without batch statistics."""
    rng = np.random.default_rng(0)
    raws, targets = list(rng.normal(size=(64, 8))), rng.integers(0, 3, 64).tolist()
    feed = Feed(Decoded.of(raws), targets, Vectors(), ClassesOutput(labels=("a", "b", "c")), torch.device("cpu"))
    gradients = []
    for size in (64, 16, 1):
        torch.manual_seed(0)
        network = Network([("input", Vectors().layer(None)), ("hidden", Linear(8, 16)), ("tanh", Tanh()), ("head", Linear(16, 3))]).double()
        batches = [feed.batch(np.arange(i, i + size)) for i in range(0, 64, size)]
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        list(training_loop(Objective(network, feed.output), [(0, 0.0, batches)], optimizer, lambda number: 0.0, 0, World()))
        gradients.append(torch.cat([parameter.grad.reshape(-1) for parameter in network.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() < 1e-10
    assert (gradients[0] - gradients[2]).abs().max() < 1e-10


def test_every_weight_changes_and_only_statistics_are_frozen(feed):
    """After 3 steps each trainable tensor has moved; what is not trained is named here."""
    network = conv(feed)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(network, feed.output, feed, Work("final", np.arange(96)), make_plan(steps=3, check_every=3, learning_rate=0.1))
    for name, parameter in network.named_parameters():
        assert torch.equal(before[name], network.state_dict()[name]) != parameter.requires_grad, name
    frozen = {name.removeprefix("layers.") for name, value in network.state_dict().items() if torch.equal(before[name], value)}
    scales = {name for name in frozen if name.endswith(("norm.weight", "norms.0.weight"))}
    assert frozen - scales == {"input.mean", "input.deviation", "input.filters", "input.bias"} and len(scales) == 4


def test_the_loss_falls_on_one_batch(feed):
    """Sixteen pictures learned by heart."""
    network = conv(feed)
    fitted = fit(network, feed.output, feed, Work("final", np.arange(16)), make_plan(steps=60, check_every=60, learning_rate=0.1))
    assert fitted.loss < 0.45  # label smoothing 0.1 leaves 0.42 to a perfect answer


def test_golden_loss_curve(feed):
    """Same seed, fp32, one thread: the same losses as when this was written."""
    network, plan = conv(feed), make_plan(steps=10, **MUON)
    steps = [(n, plan.fraction("final", n), [feed.batch(*feed.training(np.arange(96), plan.seed, n, plan.batch))]) for n in range(10)]
    made = training_loop(
        Objective(network, feed.output), steps, make_optimizer(network, plan), lambda n: plan.rate("final", n), plan.seed, World()
    )
    losses = [float(step.loss) for step in made]
    assert losses == pytest.approx([float(line) for line in GOLDEN_LOSSES.read_text().split()], abs=1e-3)


def test_an_answer_does_not_depend_on_its_neighbors(feed):
    """Values alone and in batches of any size differ by less than 1e-5."""
    from lamina.model import Model

    network = conv(feed)
    fit(network, feed.output, feed, Work("final", np.arange(96)), make_plan(steps=20, check_every=20, **MUON))
    model = Model("recognize", feed.input, network.eval(), feed.output)
    read = list(feed.values.take(range(40)))
    together = model.values(read)
    for size in (1, 2, 7, 33):
        parts = torch.cat([model.values(read[i : i + size]) for i in range(0, 40, size)])
        assert (parts - together).abs().max() < 1e-5


class Poisoned(ClassesOutput):
    """A loss that is not a number from a given call on, so many times."""

    calls, bad_from, bad_count = 0, 10**9, 0

    def loss(self, hidden, head, target, context, progress):
        total, count = super().loss(hidden, head, target, context, progress)
        if hidden.requires_grad:
            Poisoned.calls += 1
            if Poisoned.bad_from <= Poisoned.calls < Poisoned.bad_from + Poisoned.bad_count:
                total = total * float("nan")
        return total, count


def poisoned(feed: Feed, bad_from: int, bad_count: int) -> Feed:
    Poisoned.calls, Poisoned.bad_from, Poisoned.bad_count = 0, bad_from, bad_count
    return Feed(feed.values, feed.targets, feed.input, Poisoned(labels=("a", "b", "c")), feed.device)


def test_one_loss_that_is_not_a_number_is_survived(feed, tmp_path):
    """Back to the last good weights at a lower rate, as a revision in plan.json; the run then ends well."""
    sick, told = poisoned(feed, 25, 1), []
    plan = make_plan(steps=40, path=str(tmp_path / "plan.json"))
    network = conv(feed)
    fitted = fit(network, sick.output, sick, Work("final", np.arange(96)), plan, told.append)
    assert fitted.steps == 40 and np.isfinite(fitted.loss)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert [(r.step, r.value) for r in load_plan(tmp_path / "plan.json").revised("final", "rate")] == [(20, 0.3)]
    assert any(isinstance(event, Revised) for event in told)
    replayed = conv(feed)
    fit(replayed, feed.output, feed, Work("final", np.arange(96)), make_plan(steps=40, revisions=plan.revisions))
    for name, value in network.state_dict().items():
        assert torch.equal(value, replayed.state_dict()[name]), "the run is a function of the plan with its revisions"


def test_a_loss_that_stays_no_number_stops_with_its_cause(feed):
    sick = poisoned(feed, 25, 10**6)
    with pytest.raises(TrainingBroke, match="must be a number"):
        fit(conv(feed), sick.output, sick, Work("final", np.arange(96)), make_plan(steps=40))


class Hungry(ClassesOutput):
    """Out of memory with more than `most` examples at once."""

    most = 4

    def loss(self, hidden, head, target, context, progress):
        if hidden.requires_grad and len(target) > Hungry.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().loss(hidden, head, target, context, progress)


def test_out_of_memory_halves_the_micro_batch(feed, tmp_path):
    """The same batch in smaller pieces, said and written down; with one example too many it is a ResourceError."""
    Hungry.most = 4
    hungry = Feed(feed.values, feed.targets, feed.input, Hungry(labels=("a", "b", "c")), feed.device)
    plan = make_plan(steps=6, path=str(tmp_path / "plan.json"))
    fitted = fit(conv(feed), hungry.output, hungry, Work("final", np.arange(96)), plan)
    assert fitted.steps == 6
    assert [r.value for r in plan.revised("final", "micro_batch")] == [8, 4]
    Hungry.most = 0
    with pytest.raises(ResourceError):
        fit(conv(feed), hungry.output, hungry, Work("final", np.arange(96)), make_plan(steps=6))


def test_the_schedule_ends_with_the_plan_however_it_is_revised():
    """The fraction grows without a jump to 1, and the rate ends near 0."""
    plan = make_plan(steps=100)
    plan.revisions = [Revision("final", 30, "steps", 60, ""), Revision("final", 50, "steps", 90, "")]
    fractions = [plan.fraction("final", step) for step in range(91)]
    assert all(0 <= later - earlier < 0.03 for earlier, later in itertools.pairwise(fractions))
    assert fractions[-1] == pytest.approx(1) and plan.total("final") == 90
    assert plan.rate("final", 89) < 0.05 * plan.learning_rate
    assert plan.rate("other", 30) == make_plan(steps=100).rate("other", 30)


def test_plan_survives_being_written(tmp_path):
    plan = make_plan(path=str(tmp_path / "plan.json"), revisions=[Revision("final", 3, "steps", 9, "because")])
    plan.write()
    assert load_plan(tmp_path / "plan.json") == plan
    assert isinstance(plan, Plan)


def test_each_example_once_an_epoch(feed):
    """Whatever the batch size, each epoch shows every example exactly once, in another order."""
    indices = np.arange(10, 40)
    stream = np.concatenate([feed.training(indices, 5, step, 7)[0] for step in range(30)])
    epochs = stream[: 30 * 7].reshape(-1, 30)
    assert all(sorted(epoch) == list(indices) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    halves = [feed.training(indices, 5, 3, 8, rank, 2)[0] for rank in (0, 1)]
    assert np.array_equal(np.concatenate(halves), feed.training(indices, 5, 3, 8)[0])


def test_variation_is_a_function_of_seed_step_and_example(feed):
    """An example is varied alike in any batch, order or process."""
    examples, draws = feed.training(np.arange(96), 1, 4, 32)
    halves = [feed.training(np.arange(96), 1, 4, 32, rank, 2)[1] for rank in (0, 1)]
    assert np.array_equal(np.concatenate(halves), draws) and draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.1
    whole = feed.batch(examples, draws).x
    assert torch.equal(whole[5:9], feed.batch(examples[5:9], draws[5:9]).x)


def test_minutes_are_kept(tmp_path):
    """The whole command ends inside its budget, with its schedule finished."""
    values, targets = pictures(3000)
    start = time.monotonic()
    model = lamina.train((values[..., 0], targets), minutes=0.5, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    assert time.monotonic() - start < 30
    assert model.card["score"]["value"] > 0.9
    events = [event["event"] for event in read_events(tmp_path / "runs" / "model-1" / "events.jsonl")]
    assert events[0] == "started" and events[1] == "before" and events[-1] == "finished" and "checked" in events


def test_too_little_time_is_said(tmp_path):
    """No untrained network is passed off as a trained one."""
    values, targets = pictures(3000, side=32)
    places = {"out": tmp_path / "m.lamina", "runs": tmp_path / "runs"}
    with pytest.raises(ResourceError, match=r"--minutes must leave time .* Try --minutes"):
        lamina.train((values[..., 0], targets), minutes=0.055, width=64, device="cpu", threads=1, **places)
    assert not (tmp_path / "m.lamina").exists()


def test_resume_refuses_data_that_changed(tmp_path):
    """Contents, labels and parts are those of the beginning, or it is said."""
    values, targets = pictures(60)
    settings = {"epochs": 1, "width": 8, "out": tmp_path / "m.lamina", "runs": tmp_path / "runs", "threads": 1}
    lamina.train((values[..., 0], targets), **settings)
    run = tmp_path / "runs" / "model-1"
    (run / "card.json").unlink()
    changed = targets.copy()
    changed[0] = (changed[0] + 1) % 3
    with pytest.raises(DataError, match="what they were when the run began"):
        lamina.resume(run, data=(values[..., 0], changed))
    assert lamina.resume(run, data=(values[..., 0], targets)).card["score"]["n"] == 60


def test_a_guess_is_called_a_guess(tmp_path, capsys):
    """Labels without sense: the score is told beside that of a clueless guess."""
    from lamina.screen import Screen

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 10, 10), dtype=np.uint8)
    settings = {"epochs": 1, "width": 8, "out": tmp_path / "m.lamina", "runs": tmp_path / "runs", "threads": 1, "screen": Screen()}
    lamina.train((noise, rng.integers(0, 2, 80)), **settings)
    assert "Not surely better than a clueless guess" in capsys.readouterr().out


def test_a_compiled_objective_trains_alike(feed, monkeypatch):
    """Compiled or not, at both resolutions: the same weights but for rounding. Where it is raced, the plan says how that went."""
    curves = []
    for compiled in (False, True):
        plan = make_plan(steps=6, batch=32, micro_batch=32, compiled=compiled, coarse=0.75, coarse_until=0.5, **MUON)
        network = conv(feed)
        fit(network, feed.output, feed, Work("final", np.arange(96)), plan)
        curves.append([value.detach().clone() for value in network.parameters()])
    difference = max(float((one - two).abs().max()) for one, two in zip(*curves, strict=True))
    assert difference < 1e-3
    monkeypatch.setattr(forecast, "COMPILED_ON", ("cpu",))
    monkeypatch.setattr(forecast, "COMPILED_FROM", 0.0)
    amounts = forecast.Amounts(96, 0, 0)
    settings = Settings(epochs=2, width=8, threads=1)
    plan = forecast.make_plan(find_task("recognize"), settings, feed, np.arange(96), amounts, ["final"], None)
    assert plan.self_test["compiled_times_faster"] > 0 and not plan.compiled  # a training of a second never wins compiling back


PAGES = """
import resource, torch
from lamina.training.device import keep_memory
keep_memory()
def step():
    one, other = torch.ones(10_000_000), torch.ones(7_000_000)
    return float(one[0] + other[0])
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_steps_reuse_their_memory():
    """Once warm, a step that allocates 68 MB takes no new pages from the system (16,600 of them where the memory goes back each time)."""
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5 * 5_000

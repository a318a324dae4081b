"""The doctor: each check on evidence in which it must speak, and on evidence in which it must not."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_classical import noisy_stripes

import lamina
from lamina import inside
from lamina.classical.features import PictureFeatures
from lamina.cli.running import _run
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.errors import DataError, UsageError
from lamina.explain import CHECKS, Evidence, diagnose
from lamina.explain.doctor import Unknown, bf16_trouble, dead_units, different_sources, saturation, vanishing_gradient
from lamina.inputs import ImageInput
from lamina.layers import Context, Dense, FullyConnected, Linear, Pairs
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.training.snapshots import Snapshot, write_snapshot

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (400, 8, 8, 1)).astype(np.uint8)


def stack(activation: str, depth: int = 3) -> Network:
    torch.manual_seed(0)
    hidden = [(f"hidden{k + 1}", FullyConnected(64 if k == 0 else 16, 16, activation)) for k in range(depth)]
    return Network([("input", PictureFeatures(["pixels"])), *hidden, ("head", Linear(16, 2))]).eval()


def seen(network: Network, pictures: np.ndarray = PICTURES, **changes) -> Evidence:
    targets = (pictures.reshape(len(pictures), -1).mean(1) > 127).astype(int).tolist()
    feed = Feed(Decoded.of(list(pictures)), targets, ImageInput(8, 1), ClassesOutput(labels=("a", "b")), torch.device("cpu"))
    half = len(pictures) // 2
    found = Evidence([], {}, network=network, feed=feed, learned=np.arange(half), tested=np.arange(half, 2 * half))
    return dataclasses.replace(found, **changes)


def names(evidence: Evidence) -> list[str]:
    return [each.name for each in diagnose(evidence).found]


def stepped(losses, kind="stepped", **more):
    return [{"event": kind, "leg": "final", "step": 10 * k + 10, "loss": loss, **more} for k, loss in enumerate(losses)]


BEFORE = [{"event": "before", "leg": "final", "loss": 0.7, "clueless_loss": 0.69}]


def test_a_plain_network_has_no_fault():
    assert names(seen(stack("relu"), events=[*BEFORE, *stepped([0.6, 0.5, 0.4, 0.35, 0.3, 0.3, 0.3])])) == []
    found = diagnose(Evidence([], {}))
    assert found.found == [] and found.looked == 0, "nothing is said where nothing is known"


def test_dead_units():
    network = stack("relu")
    with torch.no_grad():
        network.layers["hidden2"].weights.bias[:8] = -1e3
    found = dead_units(seen(network))
    assert found is not None and "hidden2" in found.evidence
    assert float(found.evidence.split(" %")[0]) >= 50


def test_saturation():
    network = stack("tanh")
    assert saturation(seen(network)) is None
    with torch.no_grad():
        network.layers["hidden1"].weights.weight.mul_(200)
    assert saturation(seen(network)).name == "saturation"


def test_vanishing_gradient():
    """Ten sigmoid layers against ten of relu, early in training."""
    for activation, faulty in (("sigmoid", True), ("relu", False)):
        network = stack(activation, 10)
        early = Snapshot(1, 0.01, network.state_dict())
        found = vanishing_gradient(seen(network, snapshots=[early]))
        assert (found is not None) == faulty
    with pytest.raises(Unknown):  # without snapshots nothing is known
        vanishing_gradient(seen(stack("sigmoid", 10)))


def test_rows_that_few_examples_meet_have_small_gradients():
    """Of users and items each step meets a few: a small gradient of all their rows is no fault, of another first layer it is."""
    gradients = {"first": 1e-7, "hidden": 1.0, "head": 1.0}
    for layer, faulty in ((Pairs(600, 4), False), (Dense(600, 8), True)):
        network = Network([("first", layer), ("hidden", Dense(8, 8)), ("head", Linear(8, 1))])
        found = vanishing_gradient(SimpleNamespace(network=network, gradients=gradients))
        assert (found is not None) == faulty


@pytest.mark.parametrize(
    ("events", "name"),
    [
        ([*BEFORE, *stepped([5.0, 4.0, 6.0, 5.0, 2.0, 1.0, 0.8])], "rate too high"),
        ([{"event": "revised", "leg": "final", "kind": "rate", "step": 3, "value": 0.3, "why": "nan"}], "exploding gradient"),
        ([{"event": "finished", "leg": "final", "step": 9, "seconds": 9.0, "waited": 0.5}], "starved loader"),
        (stepped([0.7, 0.4, 0.3, 0.5, 0.6, 0.8], "checked", score=0.7), "over-fitting"),
    ],
)
def test_what_events_tell(events, name):
    assert names(Evidence(events, {})) == [name]
    others = [{**event, "leg": "fold1"} for event in events]
    assert names(Evidence([*others, {"event": "started", "leg": "final", "step": 0, "steps": 9}], {})) == [], "the last leg is meant"


def test_rate_too_low():
    """The loss stands still, and so do the weights; where these moved it is not the rate."""
    network = stack("relu")
    still = {name: value.clone() for name, value in network.state_dict().items()}
    other = {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in still.items()}
    events = [*BEFORE, *stepped([0.69] * 7)]
    for last, faulty in ((still, True), (other, False)):
        found = diagnose(seen(network, snapshots=[Snapshot(0, 0.0, still), Snapshot(9, 1.0, last)], events=events))
        assert ("rate too low" in [each.name for each in found.found]) == faulty


def answers(truths, labels, probability=0.97):
    return Evidence([], {}, truths=truths, labels=labels, probabilities=[probability] * len(truths))


def test_what_answers_tell():
    """Collapse, neglect, a class without signal, label noise: by name, and nothing where the answers are good."""
    truths = ["a"] * 90 + ["b"] * 90 + ["c"] * 90
    assert names(answers(truths, truths)) == []
    assert names(answers(["a"] * 90 + ["b"] * 20, ["a"] * 110)) == ["collapse to the majority"]
    assert names(answers(["a"] * 90 + ["b"] * 20, ["a"] * 90 + ["b"] * 6 + ["a"] * 14)) == ["rare classes neglected"]
    mixed = ["a"] * 90 + ["b"] * 90 + ["a", "b", "c"] * 5 + ["a", "b"] * 37 + ["a"]
    found = diagnose(answers(truths, mixed))
    assert [each.name for each in found.found] == ["a class without signal"] and "of c" in found.found[0].evidence
    noisy = truths[:60] + ["b"] * 30 + truths[90:150] + ["c"] * 30 + truths[180:240] + ["a"] * 30
    assert names(answers(truths, noisy, 0.68)) == ["label noise"]


def test_different_sources():
    """Half of the pictures are darker: told; where both halves are alike nothing is."""
    darker = PICTURES.copy()
    darker[200:] //= 2
    assert different_sources(seen(stack("relu"))) is None
    assert different_sources(seen(stack("relu"), darker)).name == "train and test from different sources"


def test_bf16_trouble():
    """Signals far from 0 lose what differs between them."""
    network, plan = stack("relu"), {"precision": "bf16"}
    with torch.no_grad():
        network.layers["head"].weights.weight.normal_()
    assert bf16_trouble(dataclasses.replace(seen(network), plan=plan)) is None
    with torch.no_grad():
        network.layers["hidden1"].weights.bias.add_(3e3)
        x = torch.from_numpy(PICTURES)
        network.layers["head"].weights.bias -= network(x, Context())[0].mean(0)
    assert bf16_trouble(dataclasses.replace(seen(network), plan=plan)).name == "bf16 trouble"
    assert bf16_trouble(dataclasses.replace(seen(network), plan={"precision": "fp32"})) is None


def test_a_training_is_examined(tmp_path, capsys):
    """Told at its end, kept in the card and the report; asked again by run or by model it is the same; of a killed run the events speak."""
    settings = {"out": tmp_path / "m.lamina", "runs": tmp_path / "runs", "epochs": 3, "width": 8, "threads": 1, "verdict_share": 0}
    model = lamina.train(noisy_stripes(1500), screen=lamina.pipeline.Screen(), **settings)
    told = capsys.readouterr().out
    found = model.card["doctor"]
    assert found["found"] == [] and found["looked"] >= 10 and f"{found['looked']} of {len(CHECKS)} checks could look" in told
    assert inside.doctor(model) == found
    run = next((tmp_path / "runs").iterdir())
    assert "Nothing wrong" in (run / "report.html").read_text()
    (run / "card.json").unlink()
    assert inside.doctor(run)["found"] == [] and inside.doctor(run)["looked"] < found["looked"]
    event = {"event": "finished", "time": 0.0, "leg": "final", "step": 1, "seconds": 1.0, "waited": 0.9}
    with open(run / "events.jsonl", "a") as file:
        file.write(json.dumps(event) + "\n")
    assert _run(["doctor", str(run)]) == 0
    assert "starved loader" in capsys.readouterr().out
    assert _run(["doctor", str(tmp_path / "nowhere")]) == 2
    with pytest.raises(UsageError, match="lamina train"):
        inside.doctor(tmp_path)


def test_one_that_breaks_is_named(tmp_path):
    """After a training whose loss was no number twice its run tells why."""
    from lamina import tasks
    from lamina.errors import TrainingBroke
    from lamina.tasks.recognize.task import RECOGNIZE

    def recipe(count, input):
        return dataclasses.replace(RECOGNIZE.recipe(count, input), optimizer="sgd", learning_rate=1e8, head_rate=0.0, rest_rate=0.0)

    tasks.TASKS["broken"] = dataclasses.replace(RECOGNIZE, name="broken", recipe=recipe)
    try:
        with pytest.raises(TrainingBroke):
            lamina.train(noisy_stripes(600), task="broken", out=tmp_path / "m.lamina", runs=tmp_path / "runs", epochs=3, threads=1,
                         width=8, verdict_share=0)  # fmt: skip
    finally:
        del tasks.TASKS["broken"]
    assert "exploding gradient" in [each["name"] for each in inside.doctor(next((tmp_path / "runs").iterdir()))["found"]]


def test_short_trainings_are_not_judged():
    """After a few steps nothing is said of the rate or of classes; a fault of the units is told all the same."""
    events = [*BEFORE, *stepped([0.69] * 7), {"event": "finished", "leg": "final", "step": 12, "seconds": 1.0, "waited": 0.0}]
    network = stack("relu")
    still = network.state_dict()
    moments = [Snapshot(0, 0.0, still), Snapshot(12, 1.0, still)]
    assert names(seen(network, snapshots=moments, events=events)) == []
    with torch.no_grad():
        network.layers["hidden2"].weights.bias[:] = -1e3
    assert "dead units" in names(seen(network, snapshots=moments, events=events))


def test_what_is_damaged_is_left_out(tmp_path):
    """Snapshots of another network, a line that is no event, a damaged snapshot: the doctor says what it still can."""
    settings = {"out": tmp_path / "m.lamina", "runs": tmp_path / "runs", "epochs": 2, "width": 8, "threads": 1, "verdict_share": 0}
    model = lamina.train(noisy_stripes(1200), **settings)
    run = next((tmp_path / "runs").iterdir())
    whole = inside.doctor(model)["looked"]
    with open(run / "events.jsonl", "a") as file:
        file.write('[1]\n{"no": "event"}\n')
    write_snapshot(run / "snapshots", 0, Snapshot(0, 0.0, {"other": torch.ones(3)}))
    assert 0 < inside.doctor(model)["looked"] < whole
    assert inside.layers(model)["replay"] is None
    (run / "report.json").unlink()
    with pytest.raises(DataError, match="report"):
        inside.doctor(run)

"""What every task's parts must hold, checked on made data with the one loop: learn, stop and resume to the same bits, save and load,
answer alone as in a batch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lamina import inside
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.data.split import Split
from lamina.errors import UsageError
from lamina.explain import Evidence, diagnose, look_at_layers, open_unit, replay, seen_filters, telling_units, with_random_weights
from lamina.inputs import Input
from lamina.model import Material, Model, load
from lamina.networks import Network
from lamina.outputs import ClassesOutput, Output, Progress
from lamina.report.film import film_scenes
from lamina.report.inside import inside_section
from lamina.training.checkpoint import read_checkpoint, write_checkpoint
from lamina.training.distributed import World
from lamina.training.events import Checked, Event
from lamina.training.fit import Work, _Driver, fit
from lamina.training.objective import Objective
from lamina.training.plan import Plan
from lamina.training.snapshots import Snapshot


def make_plan(**changes) -> Plan:
    values = {
        "task": "probe", "seed": 3, "threads": 1, "device": "cpu", "precision": "fp32", "size": 0, "batch": 16, "micro_batch": 16,
        "steps": 40,
        "check_every": 10, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "warmup": 0.2, "legs": ["final"],
    }  # fmt: skip
    return Plan(**{**values, **changes})


class Stop(Exception):
    pass


def check_contract(input: Input, output: Output, build, raws, answers, tmp_path: Path, **plan_changes) -> Model:
    """`build(x)` makes the network for a batch of inputs. Returns the trained, saved and loaded model."""
    torch.set_num_threads(1)
    input, output = input.fit(raws, []), output.fit(answers)
    feed = Feed(Decoded.of([input.read(raw) for raw in raws]), [output.encode(a) for a in answers], input, output, torch.device("cpu"))
    everything = np.arange(len(raws))

    def fresh() -> Network:
        torch.manual_seed(0)
        return build(input.collate(feed.values.take(everything))[0])

    straight = fresh()
    before = _loss(straight, output, feed, everything)
    fit(straight, output, feed, Work("final", everything, everything[:8]), make_plan(**plan_changes))
    assert _loss(straight, output, feed, everything) < before, "the loss falls"
    _same_bits(straight, _stop_and_resume(fresh, feed, output, everything, tmp_path, plan_changes))
    model = Model("probe", input, straight.eval(), output)
    opened = load(model.save(tmp_path / "probe.lamina"))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, opened.network.state_dict()[name]), name
    read = [input.read(raw) for raw in raws[:6]]
    together = opened.values(read)
    for row, value in enumerate(read):
        alone = opened.values([value])[0]
        seen = tuple(slice(0, size) for size in alone.shape)
        assert torch.allclose(alone, together[row][seen], atol=1e-5), "an answer does not depend on its neighbors"
    check_inside(straight, feed)
    check_drawn(straight, feed, make_plan(**plan_changes))
    return opened


def check_inside(network: Network, feed: Feed) -> None:
    """What each layer is and sees, with no code of its own for this network or input; the control is another network of the same layers."""
    x, context = feed.input.collate(feed.values.take(np.arange(8)))
    facts = look_at_layers(network, x, context)
    assert [each.name for each in facts] == list(network.layers) and all(each.shape for each in facts)
    assert sum(each.share for each in facts) == pytest.approx(1.0, abs=1e-6) or not any(each.flops for each in facts)
    assert all(max(each.receptive) > 0 for each in facts)
    for each in facts:
        with contextlib.suppress(UsageError):  # said by name where a layer has no plain units
            found = open_unit(network, x[:1], context.first(1), each.name, 0)
            assert np.isfinite(found.passed_on)
    everything = np.arange(len(feed.values))
    units = telling_units(network, feed, everything)
    assert {each.layer for each in units} <= set(network.layers)
    for each in units:
        assert len(each.examples) == len(each.signals) and each.signals == sorted(each.signals, reverse=True)
        assert not each.boxes or all(low < high for box in each.boxes for low, high in box)
    seen_filters(network, x, context)
    moments = [Snapshot(step, step / 2, {name: value.clone() for name, value in network.state_dict().items()}) for step in (0, 1, 2)]
    probed = isinstance(feed.output, ClassesOutput)
    found = replay(network, moments, feed, everything, everything, probed)
    assert [each.step for each in found.frames] == [0, 1, 2] and found.frames[2].distance == pytest.approx(0, abs=1e-6)
    evidence = Evidence([], {"precision": "bf16"}, network=network, feed=feed, learned=everything, tested=everything, snapshots=moments)
    examined = diagnose(evidence)
    assert examined.looked >= 2 and all(each.evidence and each.remedy for each in examined.found)
    control = with_random_weights(network, feed, everything)
    assert control.describe() == network.describe()
    with torch.no_grad():
        assert torch.isfinite(control(x, context)[0]).all()


def check_drawn(network: Network, feed: Feed, plan: Plan) -> None:
    """The same in one piece, as `lamina layers` finds it, on the page and in a film, with no code of its own for this network or input."""
    model = Model("probe", feed.input, network.eval(), feed.output, {"plan": dataclasses.asdict(plan)})
    count = len(feed.values)
    parts = ["validation" if index % 4 == 0 else "train" for index in range(count)]
    model.material = Material(feed, Split(parts, None, 0, []), [f"example {index}" for index in range(count)])
    found = inside.layers(model)
    assert json.dumps(found, allow_nan=False)
    assert [each["name"] for each in found["layers"]] == list(network.layers) and found["step"]["after"] < 10 * found["step"]["loss"]
    page = inside_section(found)
    assert "One training step, opened" in page and all(name in page for name in network.layers)
    if isinstance(feed.output, ClassesOutput):
        learned, tested = np.array(model.material.split.indices("train")), np.array(model.material.split.indices("validation"))
        moments = [Snapshot(step, step / 2, {name: value.clone() for name, value in network.state_dict().items()}) for step in (0, 1, 2)]
        found["replay"] = dataclasses.asdict(replay(network, moments, feed, learned, tested, True))
        card = {"classes": list(feed.output.labels), "examples": {"train": count}, "score": {"name": "accuracy", "value": 0.9, "n": count}}
        scenes = film_scenes(found, card, [(0, 2.0), (1, 1.0)])
        assert len(scenes) >= 6 and "From noise to order" in inside_section(found)


def _loss(network: Network, output: Output, feed: Feed, examples) -> float:
    end = Progress(torch.tensor(1.0), torch.tensor(0))
    batch = feed.batch(examples)
    network.eval()  # looking must not move what normalizations keep
    with torch.no_grad():
        total, count = Objective(network, output)(batch.x, batch.context, batch.target, end)
    network.train()
    return float(total / count)


def _stop_and_resume(fresh, feed, output, everything, tmp_path, plan_changes) -> Network:
    """Train, break off after the second check, and go on from what was written, in a new network."""
    path, plan = tmp_path / "checkpoint.safetensors", make_plan(**plan_changes)
    work = Work("final", everything, everything[:8], checkpoint=path)
    drivers = []

    def tell(event: Event) -> None:
        if isinstance(event, Checked) and event.step >= 20:
            write_checkpoint(drivers[0]._take(), path, World())
            raise Stop

    drivers.append(_Driver(fresh(), output, feed, work, plan, tell))
    with contextlib.suppress(Stop):
        drivers[0].run()
    assert read_checkpoint(path) is not None
    network = fresh()
    fit(network, output, feed, work, plan)
    return network


def _same_bits(one: Network, two: Network) -> None:
    for (name, first), second in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(first, second), f"{name} differs after resume"

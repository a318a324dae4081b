"""On a GPU what holds on a CPU: the same answers, the same bits after a stop. Skipped where there is none, but for what needs none."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import Stop, _same_bits, make_plan
from test_training import MUON, conv, pictures

import lamina
from lamina import inside
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.inputs import ImageInput
from lamina.layers import Standardize, Whiten
from lamina.outputs import ClassesOutput
from lamina.settings import Settings
from lamina.tasks import find_task
from lamina.training import forecast, loop
from lamina.training.checkpoint import write_checkpoint
from lamina.training.device import settle
from lamina.training.distributed import World
from lamina.training.events import Checked, Event
from lamina.training.fit import Work, _Driver, fit

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
COARSE = {"coarse": 0.75, "coarse_until": 0.5, "average": 0.1, "batch": 32, "micro_batch": 32, **MUON}
SGD = {"optimizer": "sgd", "learning_rate": 0.05}


def on(device: str, resident: bool = True) -> Feed:
    torch.set_num_threads(1)
    settle(torch.device(device))
    values, targets = pictures(96)
    decoded = Decoded.of(list(values))
    if resident and device == "cuda":
        assert decoded.keep_on(torch.device(device), 1e9)
    return Feed(decoded, targets.tolist(), ImageInput(12, 1, shift=0.1), ClassesOutput(labels=("a", "b", "c")), torch.device(device))


def placed(feed: Feed) -> lamina.networks.Network:
    return forecast.placed(conv(feed), feed.device)


# ---------------------------------------------------------------- without a GPU


@pytest.mark.parametrize("layer", [Standardize.measured, lambda x: Whiten.measured(x, 2, 4)])
def test_layers_are_measured_where_the_examples_are(layer):
    """The meta device, like a GPU, takes no tensor of the CPU beside its own."""
    measured = layer(torch.zeros(8, 12, 12, 3, dtype=torch.uint8, device="meta"))
    assert {value.device.type for value in measured.state_dict().values()} == {"meta"}


class WithoutGraph:
    """A Recorder that replays nothing: it makes each step as recorded ones are made, with the rate in a tensor."""

    def __init__(self, run, device):
        self.run = run

    def step(self, batch, progress, rate, reseed):
        reseed()
        return self.run(batch, progress, rate)


def test_a_rate_in_a_tensor_trains_alike(monkeypatch):
    monkeypatch.setattr(loop, "Recorder", WithoutGraph)
    curves = []
    for captured in (False, True):
        feed = on("cpu")
        network = conv(feed)
        fit(network, feed.output, feed, Work("final", np.arange(96)), make_plan(steps=6, captured=captured, **COARSE))
        curves.append([value.detach().clone() for value in network.parameters()])
    assert max(float((one - two).abs().max()) for one, two in zip(*curves, strict=True)) < 1e-5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it can be recorded")
def test_what_cannot_be_recorded_is_trained_as_usual(monkeypatch):
    monkeypatch.setattr(forecast, "CAPTURED_ON", ("cpu",))
    amounts, settings = forecast.Amounts(96, 0, 0), Settings(epochs=2, width=8, threads=1)
    plan = forecast.make_plan(find_task("recognize"), settings, on("cpu"), np.arange(96), amounts, ["final"], None)
    assert not plan.captured and plan.self_test["captured"]


# ---------------------------------------------------------------- with one


@gpu
def test_a_gpu_trains_as_a_cpu_does():
    """fp32, some steps: the same weights but for rounding, with the data on the device and beside it.

    SGD, because Muon makes the smallest directions of a gradient, which are rounding, as large as the others.
    """
    curves = []
    for device, resident in (("cpu", False), ("cuda", False), ("cuda", True)):
        feed = on(device, resident)
        network = placed(feed)
        fit(network, feed.output, feed, Work("final", np.arange(96)), make_plan(steps=6, **{**COARSE, **SGD}))
        curves.append([value.detach().cpu().clone() for value in network.parameters()])
    for other in curves[1:]:
        assert max(float((one - two).abs().max()) for one, two in zip(curves[0], other, strict=True)) < 1e-3
    assert all(torch.equal(one, two) for one, two in zip(*curves[1:], strict=True))


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_recorded_step_has_the_bits_of_a_usual_one(precision, monkeypatch):
    """The recorded run, and one in which every step is made as usual with the rate in a tensor."""
    feed = on("cuda")
    networks = []
    for recorder in (loop.Recorder, WithoutGraph):
        monkeypatch.setattr(loop, "Recorder", recorder)
        network = placed(feed)
        fit(network, feed.output, feed, Work("final", np.arange(96)), make_plan(steps=20, captured=True, precision=precision, **COARSE))
        networks.append(network)
    _same_bits(*networks)


@gpu
@pytest.mark.parametrize("captured", [False, True])
def test_a_stopped_run_goes_on_to_the_same_bits(captured, tmp_path):
    feed, everything = on("cuda"), np.arange(96)
    plan = make_plan(steps=40, captured=captured, precision="bf16", **COARSE)
    straight = placed(feed)
    fit(straight, feed.output, feed, Work("final", everything, everything[:8]), plan)
    work = Work("final", everything, everything[:8], checkpoint=tmp_path / "checkpoint.safetensors")
    drivers = []

    def tell(event: Event) -> None:
        if isinstance(event, Checked) and event.step >= 20:
            write_checkpoint(drivers[0]._take(), work.checkpoint, World())
            raise Stop

    drivers.append(_Driver(placed(feed), feed.output, feed, work, plan, tell))
    with contextlib.suppress(Stop):
        drivers[0].run()
    resumed = placed(feed)
    fit(resumed, feed.output, feed, work, plan)
    _same_bits(straight, resumed)


@gpu
@pytest.mark.slow
def test_the_main_path(tmp_path: Path):
    """Pictures to a saved model; its answers on a GPU and on a CPU; its layers and a step, wherever it lies."""
    settings = {"device": "cuda", "epochs": 4, "out": tmp_path / "m.lamina", "runs": tmp_path / "runs"}
    model = lamina.train("sample:digits", **settings)
    assert model.card["plan"]["device"] == "cuda" and model.card["score"]["value"] > 0.9 and model.verdict is not None
    assert inside.layers(model)["layers"]  # with the data as training left them
    opened = lamina.load(tmp_path / "m.lamina")
    samples = opened.input.golden(64, 1)
    here = opened.values(samples)
    opened.network.to("cuda")
    there = opened.values(samples)
    assert float((here - there).abs().max()) < 1e-4 * max(1.0, float(here.abs().max()))
    assert opened.predict(samples[0]).label == model.predict(samples[0]).label
    assert inside.step(opened)["layers"] and inside.layers(opened)["layers"]
    assert next(opened.network.parameters()).device.type == "cuda"


@gpu
def test_rows_of_a_table(tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 6)).astype(np.float32)
    rows[::7, 2] = np.nan
    labels = np.where(rows[:, 0] + rows[:, 1] > 0, "up", "down")
    settings = {"device": "cuda", "epochs": 8, "out": tmp_path / "m.lamina", "runs": tmp_path / "runs", "balance": 1.0}
    table = tmp_path / "rows.csv"
    cells = [["" if np.isnan(value) else f"{value:.5f}" for value in row] + [label] for row, label in zip(rows, labels, strict=True)]
    table.write_text("\n".join(",".join(row) for row in [[*"abcdef", "label"], *cells]))
    model = lamina.train(str(table), label_column="label", **settings)
    assert model.card["score"]["value"] > 0.85


@gpu
def test_a_compiled_and_recorded_objective_trains_alike():
    curves = []
    for compiled in (False, True):
        feed = on("cuda")
        network = placed(feed)
        plan = make_plan(steps=12, compiled=compiled, captured=True, **COARSE)
        fit(network, feed.output, feed, Work("final", np.arange(96)), plan)
        curves.append([value.detach().clone() for value in network.parameters()])
    assert max(float((one - two).abs().max()) for one, two in zip(*curves, strict=True)) < 1e-2

"""A training looked at again: snapshots, telling units, filters on raw numbers, the replay and its film."""

import itertools
import json
import os

import numpy as np
import pytest
import torch
from conftest import encoded, put
from PIL import Image, ImageSequence
from test_classical import noisy_stripes
from test_inside import PICTURES, small_network

import lamina
from lamina import inside
from lamina.cli.running import _run
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.errors import DataError, UsageError
from lamina.explain import replay, seen_filters, telling_units
from lamina.inputs import ImageInput
from lamina.layers import Context, Convolution, GlobalPool, Linear, LogMel, Standardize, Subsample
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.training.snapshots import FOLDER, MOMENTS, Snapshot, moments_for, put_snapshot, read_snapshots, snapshots_of, write_snapshot


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(model, its run folder, its data) of a small training on files."""
    root = tmp_path_factory.mktemp("replay")
    values, labels = noisy_stripes(2200)
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        put(root / "data", f"{label}/{number:04}.png", encoded(value))
    settings = {"epochs": 3, "width": 8, "threads": 1, "verdict_share": 0.1}
    model = lamina.train(root / "data", out=root / "m.lamina", runs=root / "runs", **settings)
    return model, next((root / "runs").iterdir()), root


# ---------------------------------------------------------------- snapshots


def test_snapshots_of_a_training(trained):
    """From before the first step to the weights that answer; their cost is told, and small."""
    model, run, _ = trained
    found = read_snapshots(run / FOLDER)
    assert [each.step for each in found] == sorted({each.step for each in found})
    assert found[0].step == 0 and found[-1].step == model.card["plan"]["steps"] and len(found) >= len(MOMENTS) - 3
    for name, value in model.network.state_dict().items():
        kept = found[-1].weights[name]
        assert torch.allclose(kept.float(), value.float(), rtol=1e-3, atol=1e-3), name
    finished = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines() if '"finished"' in line][-1]
    assert finished["snapshots"] > 0  # how small a share: benchmarks/


def test_snapshots_do_not_touch_training(tmp_path):
    """The same plan and seed with and without them: the same bits."""
    from contract import make_plan

    from lamina.training.fit import Work, fit

    values, labels = noisy_stripes(200)
    output = ClassesOutput().fit(labels)
    feed = Feed(
        Decoded.of(list(values[..., None])), [output.encode(each) for each in labels], ImageInput(12, 1), output, torch.device("cpu")
    )
    networks = []
    for folder in (None, tmp_path / "kept"):
        network = small_network().train()
        fit(network, output, feed, Work("final", np.arange(200), snapshots=folder), make_plan())
        networks.append(network)
    for one, other in zip(networks[0].state_dict().values(), networks[1].state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert len(read_snapshots(tmp_path / "kept")) >= 8


def test_large_networks_get_fewer():
    small, large = {"w": torch.empty(1000, device="meta")}, {"w": torch.empty(10_000_000, device="meta")}
    assert moments_for(small) == MOMENTS
    assert len(moments_for(large)) == 3 and moments_for(large)[0] == 0 and moments_for(large)[-1] == 1
    assert moments_for({"w": torch.empty(10**9, device="meta")}) == (0.0, 1.0)


def test_a_damaged_snapshot_is_named(tmp_path):
    write_snapshot(tmp_path, 0, Snapshot(0, 0.0, {"w": torch.ones(3)}))
    (tmp_path / "01.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="01"):
        read_snapshots(tmp_path)


# ---------------------------------------------------------------- units and filters


def edge_network() -> Network:
    """One convolution with two filters: one for a bright left side, one for a bright right side."""
    network = Network([("input", Standardize(1)), ("one", Convolution(1, 8)), ("pool", GlobalPool()), ("head", Linear(8, 2))]).eval()
    with torch.no_grad():
        network.layers["one"].filters.weight.zero_()
        network.layers["one"].filters.weight[0] = torch.tensor([[1.0, 0, -1]] * 3)
        network.layers["one"].filters.weight[1] = torch.tensor([[-1.0, 0, 1]] * 3)
    return network


def test_filters_lie_on_the_raw_numbers():
    """Of a layer above a plain scaling they are its own filters, times one number."""
    network = edge_network()
    found = seen_filters(network, PICTURES, Context())
    assert found["layer"] == "one" and found["units"] == list(range(8))
    values = np.array(found["values"])
    own = network.layers["one"].filters.weight.detach().numpy()
    for unit in (0, 1):
        assert values[unit].shape == (1, 3, 3)
        ratio = values[unit][own[unit] != 0] / own[unit][own[unit] != 0]
        assert np.allclose(ratio, ratio[0], rtol=1e-4) and ratio[0] > 0
    assert seen_filters(network, PICTURES, Context(), [1])["units"] == [1]


def test_filters_of_sounds_lie_on_their_picture():
    """Their filters have pitches and moments, the high pitches on top; the length of a recording changes nothing."""
    network = Network([("heard", LogMel(8_000, 20)), ("one", Subsample(20, 4, 6)), ("answer", Linear(6, 3))])
    sounds = torch.randint(-3_000, 3_000, (2, 16_000), generator=torch.Generator().manual_seed(0)).short()
    with torch.no_grad():
        network.layers["one"].out.weight[0] = 0.0
        network.layers["one"].out.weight[0, 4] = 1.0  # unit 0 hears the highest pitches alone
    found = np.array(seen_filters(network, sounds, Context(torch.tensor([16_000, 16_000])))["values"])
    assert found.shape == (6, 1, 20, 7)
    assert np.abs(found[0, 0, :7]).max() > 0 and not found[0, 0, 7:].any()
    shorter = np.array(seen_filters(network, sounds[:, :8_000], Context(torch.tensor([8_000, 8_000])))["values"])
    assert shorter.shape == found.shape


def test_telling_units_and_what_moves_them():
    """The unit that answers to one class is found, with examples of that class, at the place where the edge is."""
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 2, 200)
    places = rng.integers(3, 9, 200)
    left = np.arange(12)[None, :] < places[:, None]
    bright = left == (wanted[:, None] == 0)  # class 0: bright up to a column, dark from there on; class 1 the other way round
    pictures = np.where(bright, 200, 50)[:, None, :, None] + rng.normal(0, 3, (200, 12, 12, 1))
    feed = Feed(Decoded.of(list(pictures.astype(np.uint8))), wanted.tolist(), ImageInput(12, 1), ClassesOutput(labels=("a", "b")),
                torch.device("cpu"))  # fmt: skip
    network = edge_network()
    network.layers["input"].mean.fill_(125)
    network.layers["input"].deviation.fill_(75)
    found = [each for each in telling_units(network, feed, np.arange(200), 8) if each.layer == "one"]
    assert {each.number for each in found[:2]} == {0, 1} and all(each.share > 0.1 for each in found[:2])
    for each in found[:2]:
        assert each.answer == each.number and all(wanted[index] == each.number for index in each.examples)
        for index, box in zip(each.examples, each.boxes, strict=True):
            (top, bottom), (left, right), _ = box
            assert bottom - top == 3 and right - left == 3 and left < places[index] < right


# ---------------------------------------------------------------- replay and film


def test_replay_from_noise_to_order(trained):
    """More can be read at the end than before; a single answer goes from a guess to the truth; connections that grew did so."""
    model, run, _ = trained
    found = model.layers()["replay"]
    frames = found["frames"]
    assert frames[-1]["score"] > 0.9 and frames[-1]["score"] >= frames[0]["score"]
    assert frames[0]["answer"] == pytest.approx([0.5, 0.5]) and max(frames[-1]["answer"]) > 0.6
    assert frames[0]["distance"] == pytest.approx(0, abs=1e-6) and frames[-1]["distance"] > 0.01
    assert all(each["strengths"][-1] > each["strengths"][0] for each in found["grew"]) and len(found["grew"]) == 10
    assert all(each["strengths"][-1] < each["strengths"][0] for each in found["faded"]) and len(found["faded"]) == 10
    truth = found["shown"]["truth"]
    assert model.output.labels[int(np.argmax(frames[-1]["answer"]))] == truth and truth in found["shown"]["name"]
    assert np.array(frames[0]["filters"]).shape[0] == 8 and found["layer"] == "stage1"
    page = (run / "report.html").read_text()
    sections = (
        "From noise to order", "One artificial neuron", "One training step, opened", "What moves single units", "Why these answers",
        "How classes come apart", "with random weights", "bigger the mistake",
    )  # fmt: skip
    for words in sections:
        assert words in page, words
    assert len(page) < 8_000_000


def test_what_a_connection_is_called():
    """By the place of the weight that changed."""
    network = edge_network()
    first = {name: value.clone() for name, value in network.state_dict().items()}
    last = {name: value.clone() for name, value in first.items()}
    last["layers.one.filters.weight"][1, 0, 2, 2] = 9.0
    feed = Feed(Decoded.of(list(PICTURES.numpy())), [0, 1] * 4, ImageInput(12, 1), ClassesOutput(labels=("a", "b")), torch.device("cpu"))
    found = replay(network, [Snapshot(0, 0.0, first), Snapshot(5, 1.0, last)], feed, np.arange(8), np.arange(8), True)
    assert found.grew[0].name == "one: unit 1 from signal 0 at row 2, column 2"
    assert torch.equal(network.state_dict()["layers.one.filters.weight"], first["layers.one.filters.weight"]), (
        "the network is left as it is"
    )


def test_film(trained, tmp_path, capsys):
    """An animated WebP of 60 to 90 seconds in which pictures differ; other kinds are refused before anything is read."""
    model, _, root = trained
    path = inside.film(model, tmp_path / "m.webp")
    with Image.open(path) as opened:
        pictures = [(np.asarray(frame.convert("L"), int), frame.info["duration"]) for frame in ImageSequence.Iterator(opened)]
        assert opened.format == "WEBP" and opened.size == (960, 540)
    assert 60_000 <= sum(seconds for _, seconds in pictures) <= 90_000 and path.stat().st_size < 2_000_000
    assert all(np.abs(one - other).mean() > 0.02 for (one, _), (other, _) in itertools.pairwise(pictures))
    assert _run(["film", str(root / "m.lamina"), "--out", str(tmp_path / "n.webp")]) == 0
    assert "n.webp" in capsys.readouterr().out and (tmp_path / "n.webp").exists()
    with pytest.raises(UsageError, match="webp"):
        inside.film(model, tmp_path / "m.gif")


def test_film_as_mp4(trained, tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="the extra `film` is not installed")
    path = inside.film(trained[0], tmp_path / "m.mp4")
    assert path.read_bytes()[4:8] == b"ftyp"


def test_without_snapshots_there_is_no_film(trained, tmp_path):
    """Said in a sentence; the layers can be looked at all the same."""
    model, run, _ = trained
    (run / FOLDER).rename(tmp_path / "away")
    try:
        assert inside.layers(model)["replay"] is None
        with pytest.raises(UsageError, match="snapshots"):
            inside.film(model, tmp_path / "m.webp")
    finally:
        (tmp_path / "away").rename(run / FOLDER)


def test_a_film_of_a_table(tmp_path):
    """Rows have no pictures and no filters: the film has the rest."""
    import pandas
    from test_vector import made_table

    pandas.DataFrame(made_table(2200)).to_csv(tmp_path / "table.csv", index=False)
    model = lamina.train(tmp_path / "table.csv", out=tmp_path / "m.lamina", runs=tmp_path / "runs", epochs=3, threads=1, verdict_share=0)
    found = inside.layers(model)
    assert found["replay"]["frames"][0]["filters"] == [] and found["seen"] == {}
    assert found["unit"] is not None and found["units"][0]["boxes"] == []
    assert inside.film(model).stat().st_size > 10_000


def test_the_command_opens_the_network_where_time_is_left(trained, tmp_path, monkeypatch, capsys):
    """Without --minutes in any case; with too few of them it says how to."""
    _, _, root = trained
    monkeypatch.chdir(tmp_path)
    quick = ["--width", "8", "--threads", "1", "--verdict-share", "0"]
    assert _run(["train", str(root / "data"), "--epochs", "1", *quick]) == 0
    assert "stands in the report" in capsys.readouterr().out
    run = tmp_path / "runs" / "data-1"
    assert (run / "layers.json").exists() and "Why these answers" in (run / "report.html").read_text()
    monkeypatch.setattr(inside, "layers_seconds", lambda model: 1e9)
    monkeypatch.setattr("lamina.cli.training.BEGUN", __import__("time").monotonic())
    assert _run(["train", str(root / "data"), "--minutes", "0.5", *quick]) == 0
    assert "lamina layers" in capsys.readouterr().out and not (tmp_path / "runs" / "data-2" / "layers.json").exists()


def test_snapshots_hold_what_was_measured(tmp_path):
    """Means of millions and deviations of billionths do not fit half precision: the last snapshot answers as the model does."""
    import pandas

    rng = np.random.default_rng(0)
    population, rate = rng.normal(2e6, 3e5, 2200), rng.normal(1e-9, 1e-10, 2200)
    label = np.where((population > 2e6) ^ (rate > 1e-9), "a", "b")
    pandas.DataFrame({"population": population, "rate": rate, "label": label}).to_csv(tmp_path / "t.csv", index=False)
    model = lamina.train(tmp_path / "t.csv", out=tmp_path / "m.lamina", runs=tmp_path / "runs", epochs=4, threads=1, verdict_share=0)
    again = snapshots_of(next((tmp_path / "runs").iterdir()) / FOLDER, model.network)[-1]
    feed = model.material.feed
    x, context = feed.input.collate(feed.values.take(np.arange(200)))
    with torch.no_grad():
        own = torch.softmax(model.network(x, context)[0], 1)
        put_snapshot(model.network, again)
        assert torch.allclose(torch.softmax(model.network(x, context)[0], 1), own, atol=0.01)


def test_names_of_classes_are_only_names(tmp_path):
    """Formulas, markup, a name that is not UTF-8: drawn as they are, on the page and in the film; the command ends well."""
    rng = np.random.default_rng(0)
    names = ["$\\frac{$", "_a", '<b>&"', "\udcfe", "other"]
    for label, tone in zip((name.encode("utf-8", "surrogateescape") for name in names), (30, 80, 130, 180, 230), strict=True):
        folder = os.path.join(os.fsencode(tmp_path), b"data", label)
        os.makedirs(folder)
        for number in range(30):
            picture = np.clip(rng.normal(tone, 30, (12, 12)), 0, 255).astype(np.uint8)
            with open(os.path.join(folder, b"%d.png" % number), "wb") as file:
                file.write(encoded(picture))
    out = ["--out", str(tmp_path / "m.lamina"), "--runs", str(tmp_path / "runs")]
    assert _run(["train", str(tmp_path / "data"), "--epochs", "4", "--threads", "1", "--verdict-share", "0", *out]) == 0
    page = (tmp_path / "runs" / "data-1" / "report.html").read_text()
    assert "How classes come apart" in page and '<b>&"' not in page
    assert _run(["film", str(tmp_path / "m.lamina")]) == 0
    assert _run(["experiment", str(tmp_path / "data"), "activations", "--epochs", "8", "--seeds", "1", "--threads", "1",
                 "--out", str(tmp_path / "e.json")]) == 0  # fmt: skip


def test_a_disk_that_refuses_snapshots_does_not_end_training(tmp_path, monkeypatch):
    from lamina.errors import ResourceError
    from lamina.training import fit

    def refuse(*arguments):
        raise ResourceError("full")

    monkeypatch.setattr(fit, "write_snapshot", refuse)
    model = lamina.train(noisy_stripes(300), out=tmp_path / "m.lamina", runs=tmp_path / "runs", epochs=1, threads=1, verdict_share=0)
    assert model.card["score"]["n"] == 300 and inside.layers(model)["replay"] is None

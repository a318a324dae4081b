"""Experiments: what they claim is so on sets where it is known, and equal budgets are equal."""

import json

import numpy as np
import pytest
import torch
from test_classical import noisy_stripes
from test_vector import made_table

import lamina
from lamina.cli import _run
from lamina.errors import UsageError
from lamina.experiments import experiment as run
from lamina.experiments import how_bent, without_connections
from lamina.layers import ACTIVATIONS, Context, FullyConnected, Linear, Standardize
from lamina.layers.base import build_layer
from lamina.networks import Network

QUICK = {"threads": 1, "seeds": 2}


def moons(count: int = 1200) -> tuple[np.ndarray, list[str]]:
    """Pictures whose class no straight line tells: dark or bright against middling ones."""
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 2, count)
    tone = np.where(wanted == 0, rng.choice([50, 210], count), 130)
    values = np.clip(tone[:, None, None] + rng.normal(0, 12, (count, 10, 10)), 0, 255).astype(np.uint8)
    return values, ["ends" if each == 0 else "middle" for each in wanted]


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    out = tmp_path_factory.mktemp("experiment") / "activations.json"
    return run(moons(), "activations", out=out, epochs=12, width=32, **QUICK), out


def test_without_activation_functions_a_stack_is_straight(activations):
    """Affine to 1e-5, and no better than the linear model; with them the stack is bent, and clearly better where a bend is needed."""
    found, out = activations
    by = {each["name"]: each for each in found["variants"]}
    assert set(by) == {"linear model", *ACTIVATIONS}
    assert max(by["none"]["bent"]) < 1e-5 and min(by["relu"]["bent"]) > 0.05
    assert found["none_is_no_better"] and found["best_is_clearly_better"]
    assert by["none"]["mean"] < 0.75 and by["relu"]["mean"] > 0.95
    assert "straight line" in found["sentence"] and "the bend between layers" in found["sentence"]
    assert len({each["training_flops"] for name, each in by.items() if name != "linear model"}) == 1
    kept = json.loads(out.read_text())
    assert kept["variants"] == json.loads(json.dumps(found["variants"])) and "charts" not in kept
    assert out.with_suffix(".svg").read_text().startswith("<svg") and out.with_suffix(".2.svg").exists()


def test_linear_model_is_scikit_learns(activations):
    """The same score as scikit-learn's own logistic regression on the same numbers, within a few examples."""
    found, _ = activations
    linear = next(each for each in found["variants"] if each["name"] == "linear model")
    assert 0.3 < linear["mean"] < 0.75 and linear["low"] < linear["mean"] < linear["high"]


def test_depth_has_one_budget():
    """Deeper networks see the examples less often, so that all take as many FLOPs."""
    found = run(noisy_stripes(900), "depth", epochs=2, width=8, **QUICK)
    assert [each["name"] for each in found["variants"]] == ["1 layer", "2 layers", "4 layers", "8 layers"]
    assert len({each["training_flops"] for each in found["variants"]}) == 1
    epochs = [each["epochs"] for each in found["variants"]]
    assert epochs == sorted(epochs, reverse=True) and epochs[1] == pytest.approx(2, rel=0.02)


def test_weak_connections_are_missed_less_than_others():
    found = run(noisy_stripes(900), "prune", epochs=6, width=16, **QUICK)
    by = {each["name"]: each["mean"] for each in found["variants"]}
    assert by["0 % weakest"] > 0.85 and by["50 % weakest"] > by["50 % by chance"] and found["spared"] >= 0.5


def test_exactly_the_weakest_are_taken():
    torch.manual_seed(0)
    network = Network([("input", Standardize(1)), ("one", FullyConnected(10, 8)), ("head", Linear(8, 2))])
    before = network.layers["one"].weights.weight.detach()
    after = without_connections(network, 0.5).layers["one"].weights.weight.detach()
    assert int((after == 0).sum()) == 40
    assert float(before.abs()[after == 0].max()) <= float(before.abs()[after != 0].min())
    chance = without_connections(network, 0.5, seed=1).layers["one"].weights.weight
    assert int((chance == 0).sum()) == 40 and not torch.equal(chance, after)


def test_shuffled_labels_teach_nothing():
    found = run(noisy_stripes(900), "shuffle", epochs=8, width=16, **QUICK)
    by = {each["name"]: each for each in found["variants"]}
    assert by["as they are"]["mean"] > 0.85 and by["labels dealt anew"]["low"] < 0.55
    assert all(0 <= known <= 1 for known in by["labels dealt anew"]["known"])
    lower = by["places mixed"]["high"] < by["as they are"]["low"]
    assert ("uses what lies beside what" in found["sentence"]) == lower


def test_rows_of_a_table_have_experiments_too(tmp_path):
    import pandas

    path = tmp_path / "rows.csv"
    pandas.DataFrame(made_table(600)).to_csv(path, index=False)
    found = run(path, "activations", epochs=6, width=16, **QUICK)
    assert max(next(each["bent"] for each in found["variants"] if each["name"] == "none")) < 1e-5
    names = [each["name"] for each in run(path, "shuffle", epochs=3, **QUICK)["variants"]]
    assert names == ["as they are", "labels dealt anew"]


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activation_functions(name):
    """Each is PyTorch's; only none is straight."""
    torch.manual_seed(0)
    layer = FullyConnected(4, 3, name)
    x = torch.randn(64, 4)
    own = {"none": lambda v: v, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu, "relu": torch.relu}[name]
    assert torch.allclose(layer(x, Context())[0], own(x @ layer.weights.weight.T + layer.weights.bias), atol=1e-6)
    again = build_layer(layer.kind, layer.arguments())
    assert again.describe()["arguments"] == layer.arguments()
    network = Network([("a", FullyConnected(4, 4, "none")), ("b", FullyConnected(4, 4, "none")), ("c", layer), ("head", Linear(3, 2))])
    assert (how_bent(network, x) < 1e-5) == (name == "none")


def test_an_activation_function_that_is_not_there():
    with pytest.raises(lamina.errors.ModelFileError, match="relu"):
        build_layer("fully_connected", {"inputs": 2, "outputs": 2, "activation": "rely"})


def test_wrong_names_and_the_command(tmp_path, capsys, monkeypatch):
    """A near miss is named before anything is read; the command writes beside itself and prints a sentence."""
    with pytest.raises(UsageError, match='Did you mean "depth"'):
        run("nowhere", "dept")
    with pytest.raises(UsageError, match="json"):
        run("nowhere", "depth", out=tmp_path / "a.svg")
    monkeypatch.chdir(tmp_path)
    assert _run(["experiment", "sample:digits", "shuffle", "--epochs", "1", "--seeds", "1", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    assert "as they are" in told and (tmp_path / "shuffle.json").exists() and (tmp_path / "shuffle.svg").exists()

"""Experiments: what they claim is so on sets where it is known, and equal budgets are equal."""

import json

import numpy as np
import pytest
import torch
from test_classical import noisy_stripes
from test_vector import made_table

import lamina
from lamina.classical.features import PictureFeatures
from lamina.cli.running import _run
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.errors import UsageError
from lamina.experiments import experiment as run
from lamina.experiments.activations import STRENGTHS, _logistic, how_bent
from lamina.experiments.ground import Variant, plain
from lamina.experiments.prune import without_connections
from lamina.inputs import ImageInput
from lamina.layers import ACTIVATIONS, Context, FullyConnected, Linear, Standardize
from lamina.layers.base import build_layer
from lamina.metrics import wilson_interval
from lamina.networks import Network
from lamina.outputs import ClassesOutput

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
    assert found["none_is_no_better"] and found["full_is_clearly_better"]
    assert by["none"]["mean"] < 0.75 and by["relu"]["mean"] > 0.95
    assert "straight line" in found["sentence"] and "the bend between layers" in found["sentence"]
    flops = {each["training_flops"] for name, each in by.items() if name != "linear model"}
    assert len(flops) == 1 and flops.pop() > 1e6
    kept = json.loads(out.read_text())
    assert kept["variants"] == json.loads(json.dumps(found["variants"])) and "charts" not in kept
    assert out.with_suffix(".svg").read_text().startswith("<svg") and out.with_suffix(".2.svg").exists()


def test_linear_model_is_scikit_learns():
    """Its head answers as scikit-learn's own logistic regression does, with two classes and with three."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)
    below = [("features", PictureFeatures(["pixels"]))]
    for classes in (2, 3):
        y = np.digitize(x.reshape(300, -1)[:, :20].mean(1), [120, 135][: classes - 1])
        output = ClassesOutput(labels=("a", "b", "c")[:classes])
        feed = plain(Feed(Decoded.of(list(x)), y.tolist(), ImageInput(8, 1), output, torch.device("cpu")))
        head = _logistic(below, feed, np.arange(300))
        numbers = x.reshape(300, -1) / 255
        own = [LogisticRegression(C=c, tol=1e-3, max_iter=200).fit(numbers, y).predict(numbers) for c in STRENGTHS]
        told = head(torch.from_numpy(numbers).float(), Context())[0].argmax(1).numpy()
        assert max((told == each).mean() for each in own) > 0.99


def test_intervals_hold_the_chance_of_training():
    """Trainings that scored 100, 0 and 100 % say next to nothing, on the same examples or on a fold each; five equal ones say more."""
    wild = [np.ones(400, bool), np.zeros(400, bool), np.ones(400, bool)]
    for folds in (0, 5):
        low, high = Variant("", wild, folds).interval
        assert low < 0.35 and high > 0.95
        low, high = Variant("", [np.arange(400) % 2 == 0] * 5, folds).interval
        assert 0.44 < low < 0.5 < high < 0.56
    better = [np.arange(400) % 10 < 6 + number % 2 for number in range(5)]
    half = [np.arange(400) % 10 < 5] * 5
    assert Variant("", better, 5).above(Variant("", half, 5)) and not Variant("", half, 5).above(Variant("", half, 5))
    assert not Variant("", wild, 5).above(Variant("", half[:3], 5))
    low, high = Variant("", [np.arange(400) % 2 == 0], 0).interval
    assert (low, high) == pytest.approx(wilson_interval(200, 400))


def test_depth_has_one_budget():
    """Deeper networks see the examples less often, so that all take as many FLOPs."""
    found = run(noisy_stripes(900), "depth", epochs=6, width=8, **QUICK)
    assert [each["name"] for each in found["variants"]] == ["1 layer", "2 layers", "4 layers", "8 layers"]
    flops = [each["training_flops"] for each in found["variants"]]
    assert max(flops) < 1.1 * min(flops), "of the steps that were made"
    epochs = [each["epochs"] for each in found["variants"]]
    assert epochs == sorted(epochs, reverse=True) and epochs[1] == pytest.approx(6, rel=0.02)
    with pytest.raises(UsageError, match="steps"):
        run(noisy_stripes(300), "depth", epochs=0.1, width=8, **QUICK)


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
    assert min(by["as they are"]["known"]) > 0.9
    known = float(np.mean(by["labels dealt anew"]["known"]))
    assert ("by heart: a score on training" in found["sentence"]) == (known > 0.72) and "is not shown here" in found["sentence"]


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
    (tmp_path / "file").touch()
    with pytest.raises(lamina.errors.ResourceError, match="writable"):
        run("nowhere", "depth", out=tmp_path / "file" / "a.json")
    monkeypatch.chdir(tmp_path)
    assert _run(["experiment", "sample:digits", "shuffle", "--epochs", "1", "--seeds", "1", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    assert "as they are" in told and (tmp_path / "shuffle.json").exists() and (tmp_path / "shuffle.svg").exists()

"""Files of classical models: each argument and each tensor of each layer mutated; each is refused in a sentence, or answers as before."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from test_model_file import VALUES, members, places, rewrite

from lamina.classical.features import PICTURE_FEATURES, PictureFeatures
from lamina.classical.fit import Sums, fit_kernel, fit_prototypes, fit_scale, fit_trees
from lamina.errors import ModelFileError
from lamina.inputs import ImageInput, VectorInput
from lamina.layers import Columns, Context, Dense, Linear
from lamina.model import Model, load
from lamina.networks import Network
from lamina.outputs import ClassesOutput

PICTURES = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3)).astype(np.uint8)
ROWS = np.random.default_rng(1).normal(0, 1, (80, 3)).astype(np.float32)
ROWS[:, 2] = np.arange(80) % 3
WANTED = np.arange(80) % 2


def of_pictures(kind: str) -> Model:
    features = PictureFeatures(list(PICTURE_FEATURES))
    x = features(torch.from_numpy(PICTURES), Context())[0]
    hidden = fit_kernel(x, x[:20], 1.0) if kind == "kernel" else fit_scale(x)
    signals = hidden(x, Context())[0]
    last = fit_prototypes(signals, WANTED, 2, 3) if kind == "prototypes" else Sums.of(signals, WANTED, 2).solve(1.0)
    network = Network([("features", features), (kind, hidden), ("head", last)]).eval()
    return Model("recognize", ImageInput(8, 3), network, ClassesOutput(labels=("dark", "light")))


def of_rows(kind: str) -> Model:
    input = VectorInput(("age", "height", "color"), (None, None, ("blue", "red")))
    columns = Columns.measured(torch.from_numpy(ROWS), [0, 0, 3])
    signals = columns(torch.from_numpy(ROWS), Context())[0]
    if kind == "trees":
        rest = [("head", fit_trees(signals, WANTED, 2, 8, 0.1))]
    else:
        torch.manual_seed(0)
        rest = [("dense", Dense(signals.shape[1], 8)), ("head", Linear(8, 2))]
    return Model("recognize", input, Network([("columns", columns), *rest]).eval(), ClassesOutput(labels=("dark", "light")))


MADE = {"kernel": of_pictures, "prototypes": of_pictures, "linear": of_pictures, "trees": of_rows, "dense": of_rows}


@pytest.fixture(scope="module", params=list(MADE))
def saved(request, tmp_path_factory):
    model = MADE[request.param](request.param)
    return model, model.save(tmp_path_factory.mktemp("files") / f"{request.param}.lamina")


def opened(path, content, item):
    """The answer of the mutated file; None when it is refused, in a sentence."""
    broken = path.with_suffix(".broken")
    broken.write_bytes(content)
    try:
        return load(broken).values([item])
    except ModelFileError as error:
        assert "must" in str(error)
        return None


def test_round_trip(saved):
    model, path = saved
    item = model.input.golden(3, 5)
    assert (
        torch.equal(load(path).values(item), model.values(item))
        and model.save(path.with_suffix(".again")).read_bytes() == path.read_bytes()
    )


def test_every_value_of_the_description(saved):
    """Each place in the layers and the input, with values of every kind; no answer differs."""
    model, path = saved
    item = model.input.golden(1, 5)[0]
    expected, original = model.values([item]), json.loads(members(path)["model"])
    trials = opened_ones = 0
    for part in ("layers", "input"):
        for number in range(len(list(places(original[part])))):
            for value in VALUES if number % 3 == 0 else VALUES[::4]:
                description = json.loads(json.dumps(original))
                container, key = list(places(description[part]))[number]
                if container[key] == value and type(container[key]) is type(value):
                    continue
                container[key] = value
                found = opened(path, rewrite(path, model=description), item)
                trials += 1
                if found is not None:
                    opened_ones += 1
                    same = torch.equal(found, expected) or isinstance(value, (int, float, str, list))
                    assert same and torch.isfinite(found).all(), (part, key, value)
    assert trials > 60 and opened_ones < 0.2 * trials


def test_every_tensor(saved):
    """Not a number, infinite, huge, another type, another shape, missing: refused, for the samples in the file no longer come out."""
    model, path = saved
    item = model.input.golden(1, 5)[0]
    expected = model.values([item])
    for name, tensor in model.network.state_dict().items():
        flat = tensor.reshape(-1)
        for number, change in enumerate((float("nan"), float("inf"), 1e30, -7.0)):
            other = flat.clone().double()
            other[:] = change
            tensors = {**model.network.state_dict(), name: other.reshape(tensor.shape).to(tensor.dtype if number < 3 else torch.float64)}
            found = opened(path, rewrite(path, weights=safetensors.torch.save(tensors)), item)
            unused = name.endswith("num_batches_tracked") and found is not None and torch.equal(found, expected)
            assert found is None or unused, (name, change)
        for tensors in (
            {**model.network.state_dict(), name: flat[:-1].contiguous() if flat.numel() > 1 else torch.zeros(2)},
            {each: value for each, value in model.network.state_dict().items() if each != name},
        ):
            assert opened(path, rewrite(path, weights=safetensors.torch.save(tensors)), item) is None, name

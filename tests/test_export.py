"""ONNX: graphs of every task answer as their models do, alone and in batches; the example of the docs runs without PyTorch."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_speech
import test_training
import torch
from PIL import Image
from typer.testing import CliRunner

import lamina
from lamina.cli import app
from lamina.data.raw import History, RowRaw
from lamina.errors import DataError, UsageError
from lamina.export import some_values, write_onnx
from lamina.inputs import AudioInput, HistoryInput, ImageInput, SpeechInput, TextInput, VectorInput
from lamina.model import Model, load
from lamina.outputs import CharactersOutput, ClassesOutput, IdentityOutput, ItemsOutput, NextOutput, NumberOutput
from lamina.settings import make_settings
from lamina.tasks import find_task

pytest.importorskip("onnxscript", reason="an export needs: pip install 'lamina[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime")
DOCS = Path(__file__).parent.parent / "docs"


def untrained(task: str, input, output, raws, **settings) -> Model:
    """A model with random weights, none of them 0: what is exported does not depend on training."""
    its, torch_seed = find_task(task), 0
    torch.manual_seed(torch_seed)
    x, context = input.collate([input.read(raw) for raw in raws])
    network = its.network(input, output, its.sizes(input, make_settings(settings))[0], x)
    with torch.no_grad():
        for value in network.parameters():
            if not value.any():
                value.normal_(std=0.1)
        network.train()(x, context)  # what normalizations keep is no longer 0 and 1
    return Model(task, input, network.eval(), output)


def of_pictures(**changes) -> tuple[Model, list]:
    raws = list(test_training.pictures(24)[0])
    output = replace(ClassesOutput().fit([str(n % 3) for n in range(24)]), temperature=1.7, threshold=0.3)
    input = replace(ImageInput().fit(raws, [ImageInput().inspect(raw) for raw in raws]), **changes)
    return untrained("recognize", input, output, raws), raws


def of_faces() -> tuple[Model, list]:
    model, raws = of_pictures()
    input = replace(model.input, faces=True, mirror=True)
    return untrained("verify", input, IdentityOutput().fit([str(n % 6) for n in range(24)]), raws), raws


def of_sounds() -> tuple[Model, list]:
    noise = np.random.default_rng(0).normal(0, 300, (12, 4_000))
    raws = [(8_000, (3_000 * np.sin(np.arange(4_000) * (0.1 + 0.02 * n)) + noise[n]).astype(np.int16)) for n in range(12)]
    input = AudioInput().fit(raws, [AudioInput().inspect(raw) for raw in raws])
    return untrained("recognize", input, ClassesOutput().fit(list("abcabcabcabc")), raws), raws


def of_speech() -> tuple[Model, list]:
    raws = [(test_speech.RATE, test_speech.said(test_speech.sentence_of(n), n)) for n in range(6)]
    input = SpeechInput().fit(raws, [SpeechInput().inspect(raw) for raw in raws])
    return untrained("transcribe", input, CharactersOutput().fit([test_speech.sentence_of(n) for n in range(6)]), raws), raws


def of_texts() -> tuple[Model, list]:
    pytest.importorskip("tokenizers")
    raws = [" ".join(["fine", "bad", "film", "it", "was"][(n + k) % 5] for k in range(3 + n)) for n in range(12)]
    input = TextInput().fit(raws, [TextInput().inspect(raw) for raw in raws])
    input = replace(input, longest=8)  # the middle of the longer ones is left out, in the graph, too
    return untrained("recognize", input, ClassesOutput().fit(["good", "bad"] * 6), raws), raws


def of_rows() -> tuple[Model, list]:
    raws = [RowRaw(("a", "b"), (str(n % 7), "xyz"[n % 3] if n % 5 else "")) for n in range(24)]
    input = VectorInput().fit(raws, [VectorInput().inspect(raw) for raw in raws])
    return untrained("recognize", input, ClassesOutput().fit(["no", "yes"] * 12), raws), raws


def of_numbers() -> tuple[Model, list]:
    model, raws = of_rows()
    return untrained("number", model.input, NumberOutput().fit([1.0 + n**2 for n in range(24)]), raws), raws


def of_choices() -> tuple[Model, list]:
    names = [f"i{n}" for n in range(30)]
    raws = [History(f"u{n}", np.random.default_rng(n).permutation(30)[: 3 + n % 9], names) for n in range(12)]
    input = HistoryInput().fit(raws, [])
    return untrained("recommend", input, ItemsOutput().of_items(input.items), raws), raws


def of_books() -> tuple[Model, list]:
    pytest.importorskip("tokenizers")
    raws = ["ana sings at 3. ben walks at 5. " * (2 + n) for n in range(8)]
    input = replace(TextInput(longest=0).fit(raws, [TextInput().inspect(raw) for raw in raws]), window=32)
    return untrained("language", input, NextOutput().of_tokens(input.bytes_of.tolist()), raws), raws


MADE = {"pictures": of_pictures, "faces": of_faces, "sounds": of_sounds, "speech": of_speech, "texts": of_texts, "rows": of_rows,
        "numbers": of_numbers, "choices": of_choices, "books": of_books}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_a_graph_answers_as_its_model(kind, tmp_path):
    """Values of differing lengths, one alone and some together: the comparison is the export's own, and it compares real values."""
    model, raws = MADE[kind]()
    equal = write_onnx(model, tmp_path / "m.onnx", model.read_some(raws)[0])
    assert equal.real == len(raws) and equal.compared > equal.real and equal.largest <= 1e-4
    told = json.loads(onnxruntime.InferenceSession(tmp_path / "m.onnx").get_modelmeta().custom_metadata_map["lamina"])
    assert told["task"] == model.task and told["output"]["kind"] == model.output.kind


def test_views_are_in_the_graph(tmp_path):
    model, raws = of_pictures(views=True, mirror=True)
    assert write_onnx(model, tmp_path / "m.onnx", model.read_some(raws)[0]).largest <= 1e-4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of class folders of colored photos, and a model of them."""
    folder, random = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    for number in range(60):
        (folder / "photos" / "rg"[number % 2]).mkdir(parents=True, exist_ok=True)
        values = random.integers(0, 120, (30, 44, 3))
        values[..., number % 2] += 100
        Image.fromarray(values.astype(np.uint8)).save(folder / "photos" / "rg"[number % 2] / f"{number}.png")
    paths = {"out": folder / "photos.lamina", "runs": folder / "runs", "cache": str(folder / "cache")}
    return folder, lamina.train(folder / "photos", epochs=3, width=8, threads=1, verdict_share=0.0, start_from="nothing", **paths)


def test_command(photos, tmp_path):
    """By its name, by the model's kind, or as asked; refusals in one sentence."""
    folder, model = photos
    assert len(some_values(model)) == 60
    ran = CliRunner().invoke(app, ["export", str(folder / "photos.lamina"), str(tmp_path / "p.onnx"), "--json"])
    told = json.loads(ran.stdout)
    assert ran.exit_code == 0 and told["real"] == 60 and told["format"] == "onnx" and told["largest_difference"] <= 1e-4
    assert CliRunner().invoke(app, ["export", str(folder / "photos.lamina")]).exit_code == 0 and (folder / "photos.onnx").exists()
    with pytest.raises(UsageError, match="huggingface, onnx"):
        CliRunner().invoke(app, ["export", str(folder / "photos.lamina"), "--to", "onx"], catch_exceptions=False)


def test_the_example_runs_without_pytorch(photos, tmp_path):
    """The lines of docs/export.md, on a photo: the labels and probabilities that `predict` gives."""
    folder, _ = photos
    model = load(folder / "photos.lamina")
    write_onnx(model, tmp_path / "photos.onnx")
    example = re.search(r"```python\n(.*?)```", (DOCS / "export.md").read_text(), re.S)
    assert example and len(example[1].strip().splitlines()) <= 20
    (tmp_path / "example.py").write_text("import sys\nsys.modules['torch'] = sys.modules['lamina'] = None\n" + example[1], encoding="utf-8")
    for photo in sorted((folder / "photos").rglob("*.png"))[:8]:
        ran = subprocess.run(
            [sys.executable, str(tmp_path / "example.py"), str(tmp_path / "photos.onnx"), str(photo)],
            capture_output=True,
            text=True,
            check=True,
        )
        label, share = ran.stdout.split()
        wanted = model.predict(photo)
        assert label == wanted.top[0][0] and float(share) == pytest.approx(wanted.top[0][1], abs=1e-3)


@pytest.mark.parametrize("use", ["pictures", "rows"])
def test_classical_winners(use, tmp_path):
    """Hand-made features and what scikit-learn fitted are one graph, too."""
    paths = {"runs": tmp_path / "runs", "cache": str(tmp_path / "cache"), "out": tmp_path / "m.lamina"}
    if use == "pictures":
        data: object = test_training.pictures(150)
    else:
        data = tmp_path / "t.csv"
        data.write_text("a,b,kind\n" + "".join(f"{n % 7},{n % 3},{'xy'[n % 7 > 3]}\n" for n in range(150)))
        paths["label_column"] = "kind"
    model = lamina.train(data, epochs=1, width=8, use="classical", threads=1, **paths)
    assert model.card["way"] == "classical"
    assert write_onnx(model, tmp_path / "m.onnx", some_values(model)).largest <= 1e-4


def test_what_has_no_graph_is_named(tmp_path):
    """A layer without one; a graph that answers otherwise."""
    from lamina.layers import Layer

    class Odd(Layer):
        kind = "odd_in_test"
        no_graph = "it asks the moon"

        def forward(self, x, context):
            return x, context

    model, _ = of_rows()
    network = type(model.network)([*list(model.network.layers.items())[:-1], ("odd", Odd()), ("head", model.network.head)])
    with pytest.raises(UsageError, match="asks the moon"):
        write_onnx(replace(model, network=network), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_an_unequal_graph_is_refused(tmp_path, monkeypatch):
    import lamina.export.onnx as exported

    model, _ = of_rows()
    made = exported._graph(model, exported._batch(model, model.input.golden(2, 1)))
    with torch.no_grad():
        model.network.head.weights.weight.mul_(1.5) if hasattr(model.network.head, "weights") else model.network.head.weight.mul_(1.5)
    monkeypatch.setattr(exported, "_graph", lambda model, batch: made)
    with pytest.raises(DataError, match="answer as the model does"):
        write_onnx(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_tensorboard(tmp_path, monkeypatch):
    """The losses of the event stream stand in its files, step by step; without the library the command to install it is told."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    paths = {"runs": tmp_path / "runs", "cache": str(tmp_path / "cache"), "out": tmp_path / "m.lamina"}
    options = {"epochs": 3, "width": 8, "threads": 1, "verdict_share": 0.0, "tensorboard": True}
    model = lamina.train(test_training.pictures(1_300), **options, **paths)
    run = Path(model.card["run"])
    (file,) = (run / "tensorboard" / "final").glob("events.*")
    content, found = file.read_bytes(), {}
    while content:  # length, its checksum, the event, its checksum
        (size,) = struct.unpack("<Q", content[:8])
        event = proto.Event.FromString(content[12 : 12 + size])
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        content = content[16 + size :]
    told = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for event in told:
        if event["event"] == "stepped" and event["leg"] == "final":
            assert found["loss", event["step"]] == pytest.approx(event["loss"], rel=1e-5)
    assert len(found) >= 3
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match="tensorboard"):
        lamina.train(test_training.pictures(100), **options, **paths)

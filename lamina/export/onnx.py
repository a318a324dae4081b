"""A model as one ONNX graph, from what `Input.read` makes of a value to the numbers of its answer. Refused unless it answers alike."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lamina.data.files import check_writable, write_bytes
from lamina.errors import DataError, UsageError, sentence
from lamina.layers import Context
from lamina.outputs import ItemsOutput, NextOutput
from lamina.settings import make_settings

if TYPE_CHECKING:
    from lamina.model import Model

EXTRA = "pip install 'lamina[onnx]'"
DIFFERENCE = 1e-4
"""Largest difference of a number (of the largest of its kind, where that is above 1) with which a graph is still the same model."""
GENERATED, SEED = 16, 7
AT_ONCE = 8
MOST_REAL = 200
OPSET = 20
NAMES = {"image": "pictures", "audio": "waves", "speech": "waves", "text": "tokens", "vector": "rows", "history": "items"}
"""What the first input of a graph is called, by the kind of the model's input."""


@dataclass(frozen=True)
class Equal:
    """How a graph was compared with its model."""

    compared: int
    """Values, of them …"""
    real: int
    """… so many of real data; the others are generated."""
    largest: float
    """Difference of a number."""


class Graph(nn.Module):
    """What is exported: read values, and their lengths where they differ, to named numbers."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network, self.input, self.output = model.network, model.input, model.output

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        context = Context(lengths)
        if isinstance(self.output, ItemsOutput):
            hidden, after = self.network.hidden(x, context)
            return {"scores": self.output.scores(x, hidden, self.network.head, after.lengths)}
        until = "" if self.output.reads == self.network.head.name else self.output.reads
        seen = [(share, self.network(view, around, until)) for share, view, around in self.input.several(x, context)]
        values = seen[0][1][0].float() if len(seen) == 1 else torch.stack([share * its[0].float() for share, its in seen]).sum(0)
        return self.output.tensors(values, seen[0][1][1])


def write_onnx(model: Model, path: str | os.PathLike, values: Sequence[np.ndarray] = ()) -> Equal:
    """Write the graph; returns how it was compared. `values` are read values (`Input.read`) of real data to compare on, beside generated
    ones.

    Raises UsageError for a model with a layer that has no graph or where the libraries are missing, DataError where the graph would not be
    the same model.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(sentence("An export to ONNX", "find its libraries", str(error), f"Run: {EXTRA}")) from error
    for layer in model.network.stack:
        if layer.no_graph:
            raise UsageError(sentence(f"The layer {layer.name} ({layer.kind})", "be one with an ONNX graph", layer.no_graph))
    check_writable(Path(path))
    model.network.eval()
    generated = model.input.golden(GENERATED, SEED)
    batches = [_batch(model, some) for values_ in (generated, list(values)) for some in _pieces(values_)]
    content = _graph(model, _batch(model, generated[:2]))
    proto = onnx.load_from_string(content)
    onnx.helper.set_model_props(proto, {"lamina": json.dumps(described(model), ensure_ascii=False)})
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = max(_difference(model, session, batch) for batch in batches)
    write_bytes(Path(path), content)
    return Equal(len(generated) + len(values), len(values), largest)


def some_values(model: Model, data: Any = None) -> list[np.ndarray]:
    """Read values of `data`, or of the data that the model learned from, to compare on: of the test part where parts are given, of a small
    one's validation part, too; of texts that go on, windows. None where there are no data. Raises DataError where `data` cannot be read."""
    own = model.card.get("data", {}).get("path", "")
    if data is None and not (own.startswith("sample:") or (own and os.path.exists(own))):
        return []
    try:
        examples = model.find_task().read(own if data is None else data, make_settings(model.card.get("settings", {})), [model.input])
    except DataError:
        if data is None and own.startswith("sample:"):  # it was there once
            return []
        raise
    of = {part: [number for number, its in enumerate(examples.parts) if its == part] for part in ("test", "validation")}
    held_out = of["test"] if len(of["test"]) >= MOST_REAL else of["test"] + of["validation"]
    values = model.read_some([examples.raws[number] for number in _spread(held_out or list(range(len(examples))))])[0]
    if not isinstance(model.output, NextOutput):
        return values
    window, texts = _window(model), [np.atleast_2d(value)[0] for value in values]
    starts = [(value, at) for value in texts for at in range(0, max(1, len(value) - window + 1), window)]
    return [value[at : at + window] for value, at in _spread(starts)]


def _spread(values: Sequence[Any]) -> list[Any]:
    """At most MOST_REAL of them, evenly."""
    return [values[number] for number in np.linspace(0, len(values) - 1, min(MOST_REAL, len(values))).astype(int)]


def _window(model: Model) -> int:
    """Tokens of a text that the network sees at once."""
    return getattr(model.input, "window", 0) or 1


def described(model: Model) -> dict[str, Any]:
    """What somebody needs who reads values for the graph, and reads its answers: a property of the file, called lamina."""
    return {
        "task": model.task,
        "input": {"kind": model.input.kind, **model.input.state()},
        "output": {"kind": model.output.kind, **model.output.state()},
    }


def _pieces(values: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
    """The first alone, the others some at a time, so that both are compared."""
    return [some for some in (values[:1], *(values[at : at + AT_ONCE] for at in range(1, len(values), AT_ONCE))) if len(some)]


def _batch(model: Model, values: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """The inputs of the graph, by name."""
    if isinstance(model.output, NextOutput):  # rows of one length, as in generation
        texts = [np.atleast_2d(value)[0][: _window(model)] for value in values]
        least = max(2, min(map(len, texts)))
        values = [np.resize(text, least) for text in texts]
    else:
        values = [model.input.windows(value)[0] for value in values]
    x, context = model.input.collate(values)
    found = {NAMES.get(model.input.kind, "values"): x}
    if context.lengths is not None and not isinstance(model.output, NextOutput):
        found["lengths"] = context.lengths
    return found


def _graph(model: Model, batch: dict[str, Tensor]) -> bytes:
    graph = Graph(model).eval()
    several = torch.export.Dim("count", min=1)
    x = next(iter(batch.values()))
    shapes: list[Any] = [{0: several}]
    if x.ndim == 2 and (len(batch) == 2 or isinstance(model.output, NextOutput)):
        shapes[0][1] = torch.export.Dim.DYNAMIC
    if len(batch) == 2:
        shapes.append({0: several})
    with torch.no_grad():
        names = list(graph(*batch.values()))
    told = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph, tuple(batch.values()), dynamo=True, input_names=list(batch), output_names=names, dynamic_shapes=tuple(shapes),
                opset_version=OPSET, verbose=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise UsageError(sentence("The model", "have layers with an ONNX graph", why, "Report it: every layer should have one.")) from error
    finally:
        logging.disable(logging.NOTSET)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _difference(model: Model, session: Any, batch: dict[str, Tensor]) -> float:
    """The largest difference. Raises DataError where it is too large, or an answer differs."""
    with torch.no_grad():
        wanted = {name: value.numpy() for name, value in Graph(model)(*batch.values()).items()}
    found = dict(zip(wanted, session.run(list(wanted), {name: value.numpy() for name, value in batch.items()}), strict=True))
    largest = 0.0
    for name, own in wanted.items():
        its = np.asarray(found[name])
        if its.shape != own.shape:
            raise DataError(sentence(f"{name} of the graph", f"have the shape {list(own.shape)}", list(its.shape)))
        if own.dtype.kind != "f":
            away = float((its != own).any())
        else:
            real = np.isfinite(own)
            scale = max(1.0, float(np.abs(own[real]).max(initial=0)))
            away = float(np.abs(its[real] - own[real]).max(initial=0)) / scale if np.array_equal(its[~real], own[~real]) else np.inf
            same = own.ndim < 2 or np.array_equal(its.argmax(-1), own.argmax(-1))
            away = away if same else np.inf
        if not away <= DIFFERENCE:
            raise DataError(sentence("The graph", f"answer as the model does within {DIFFERENCE:g}", f"{away:.2g} in {name}"))
        largest = max(largest, away)
    return largest

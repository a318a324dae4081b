"""A network that somebody else trained, as ONNX: run as it is, by onnxruntime, and never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.errors import DataError, UsageError, sentence
from lamina.layers.base import Context, Layer

BORROW_EXTRA = "pip install 'lamina[borrow]'"
LARGEST_GRAPH = 1_000_000_000
INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Where an ONNX file can hold tensors: by message the fields that are messages themselves (onnx.proto, IR version 11)."""
EXTERNAL = (13, 14)
"""Fields of a tensor whose numbers lie in another file, which onnxruntime would open."""
DEEPEST = 64
LAYOUTS = ("NCHW", "NHWC", "NS")
"""Pictures with channels first or last; waves."""


class Onnx(Layer):
    """raw values, as the input reads them, to [N, outputs]: scaled, then run by onnxruntime with its own operators only.

    Pictures uint8 [N, H, W, C]: (x - mean) / deviation for each channel of 0 to 255. Waves int16 [N, S]: x / 32768, then the same. The
    graph lies in the layer as bytes; a graph with weights in other files, or with operators that onnxruntime does not have, is refused.
    """

    kind = "onnx"
    no_graph = "a borrowed network, which is an ONNX file already"
    graph: Tensor

    def __init__(self, size: int, outputs: int, layout: str, mean: list[float], deviation: list[float], one_by_one: bool = False) -> None:
        """`one_by_one`: the graph takes a single value at a time."""
        super().__init__()
        if not (1 <= size <= LARGEST_GRAPH and 1 <= outputs <= 100_000 and layout in LAYOUTS):
            raise ValueError(f"a graph has up to {LARGEST_GRAPH} bytes, up to 100,000 outputs and a layout of {', '.join(LAYOUTS)}")
        if not 1 <= len(mean) == len(deviation) <= 4 or min(map(abs, deviation)) == 0:
            raise ValueError("mean and deviation are of one to four channels, and no deviation is 0")
        self.size, self.outputs, self.layout = size, outputs, layout
        self.mean, self.deviation = [float(value) for value in mean], [float(value) for value in deviation]
        self.register_buffer("graph", torch.zeros(size, dtype=torch.uint8))
        self.one_by_one = bool(one_by_one)
        self._session: Any = None

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if x.is_meta:
            return torch.empty(len(x), self.outputs, device="meta"), context
        found = torch.from_numpy(self.run(x))
        if found.shape[1] != self.outputs:
            raise DataError(sentence("The borrowed network", f"put out {self.outputs} numbers", found.shape[1]))
        return found.to(x.device), context

    def run(self, x: Tensor) -> np.ndarray:
        """float32 [N, outputs] of the graph. Raises DataError where it does not take what it is given."""
        session, values = self.session(), self.scaled(x)
        name = session.get_inputs()[0].name
        try:
            parts = [values[at : at + 1] for at in range(len(values))] if self.one_by_one else [values]
            answers = [np.asarray(session.run(None, {name: part})[0], np.float32).reshape(len(part), -1) for part in parts]
        except Exception as error:  # onnxruntime raises classes of its own for each of its states
            told = str(error).splitlines()[0]
            raise DataError(sentence("The borrowed network", "take what its JSON says", told, "See docs/people.md.")) from error
        return np.concatenate(answers)

    def scaled(self, x: Tensor) -> np.ndarray:
        """What the graph is given: float32, in its layout."""
        values = x.detach().cpu().float()
        if self.layout == "NS":
            return np.ascontiguousarray(((values / 32768 - self.mean[0]) / self.deviation[0]).numpy())
        values = (values - torch.tensor(self.mean)) / torch.tensor(self.deviation)
        return np.ascontiguousarray((values.permute(0, 3, 1, 2) if self.layout == "NCHW" else values).numpy())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a copy opens the graph anew

    def session(self) -> Any:
        """The running graph. Raises UsageError without onnxruntime, DataError for a graph that it refuses."""
        if self._session is None:
            self._session = open_graph(self.graph.cpu().numpy().tobytes())
        return self._session


def open_graph(content: bytes) -> Any:
    """An onnxruntime session on the CPU. Raises UsageError and DataError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(sentence("A borrowed ONNX network", "have onnxruntime installed", "no such package", BORROW_EXTRA)) from error
    try:
        elsewhere = _names_files(memoryview(content), "model")
    except (ValueError, IndexError) as error:
        raise DataError(sentence("The ONNX graph", "run with onnxruntime's own operators", f"no ONNX file ({error})")) from error
    if elsewhere:
        raise DataError(sentence("The ONNX graph", "hold all of its weights", "weights in other files", "Save it as one file."))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own for each of its states
        raise DataError(sentence("The ONNX graph", "run with onnxruntime's own operators", str(error).splitlines()[0])) from error
    if len(session.get_inputs()) != 1:
        raise DataError(sentence("The ONNX graph", "have one input", len(session.get_inputs())))
    return session


def _names_files(content: memoryview, kind: str, depth: int = 0) -> bool:
    """Whether a tensor anywhere in this message has its numbers in another file. Raises ValueError for what is no such message."""
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    for number, value in _fields(content):
        if kind == "tensor":
            if number in EXTERNAL and value != 0:
                return True
        elif number in INSIDE[kind] and isinstance(value, memoryview) and _names_files(value, INSIDE[kind][number], depth + 1):
            return True
    return False


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a protocol buffer; messages, texts and packed numbers are bytes."""
    at = 0

    def whole() -> int:
        nonlocal at
        found = shift = 0
        while True:
            byte = content[at]
            at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    while at < len(content):
        key = whole()
        wire, value = key & 7, 0
        if wire == 0:
            yield key >> 3, whole()
            continue
        size = {1: 8, 5: 4}.get(wire, -1) if wire != 2 else whole()
        if size < 0 or at + size > len(content):
            raise ValueError(f"a field of kind {wire} and {size} bytes at {at}")
        yield key >> 3, content[at : at + size] if wire == 2 else value
        at += size

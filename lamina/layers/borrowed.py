"""A network that somebody else trained, as ONNX: run as it is, by onnxruntime, and never trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.errors import DataError, UsageError, sentence
from lamina.layers.base import Context, Layer

BORROW_EXTRA = "pip install 'lamina[borrow]'"
LARGEST_GRAPH = 1_000_000_000
EXTERNAL = b"\x0a\x08location"
"""How a graph names a file beside it that holds weights."""
LAYOUTS = ("NCHW", "NHWC", "NS")
"""Pictures with channels first or last; waves."""


class Onnx(Layer):
    """raw values, as the input reads them, to [N, outputs]: scaled, then run by onnxruntime with its own operators only.

    Pictures uint8 [N, H, W, C]: (x - mean) / deviation for each channel of 0 to 255. Waves int16 [N, S]: x / 32768, then the same. The
    graph lies in the layer as bytes; a graph with weights in other files, or with operators that onnxruntime does not have, is refused.
    """

    kind = "onnx"
    graph: Tensor

    def __init__(self, size: int, outputs: int, layout: str, mean: list[float], deviation: list[float]) -> None:
        super().__init__()
        if not (1 <= size <= LARGEST_GRAPH and 1 <= outputs <= 100_000 and layout in LAYOUTS):
            raise ValueError(f"a graph has up to {LARGEST_GRAPH} bytes, up to 100,000 outputs and a layout of {', '.join(LAYOUTS)}")
        if not 1 <= len(mean) == len(deviation) <= 4 or min(map(abs, deviation)) == 0:
            raise ValueError("mean and deviation are of one to four channels, and no deviation is 0")
        self.size, self.outputs, self.layout = size, outputs, layout
        self.mean, self.deviation = [float(value) for value in mean], [float(value) for value in deviation]
        self.register_buffer("graph", torch.zeros(size, dtype=torch.uint8))
        self._session: Any = None

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if x.is_meta:
            return torch.empty(len(x), self.outputs, device="meta"), context
        session = self.session()
        answers = session.run(None, {session.get_inputs()[0].name: self.scaled(x)})[0]
        found = torch.from_numpy(np.asarray(answers, np.float32)).reshape(len(x), -1)
        if found.shape[1] != self.outputs:
            raise DataError(sentence("The borrowed network", f"put out {self.outputs} numbers", found.shape[1]))
        return found.to(x.device), context

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
    if EXTERNAL in content:
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

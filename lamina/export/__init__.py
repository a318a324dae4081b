"""Models in the formats of other software; refused unless proved equal."""

from lamina.export.huggingface import write_folder
from lamina.export.onnx import some_values, write_onnx

__all__ = ["some_values", "write_folder", "write_onnx"]

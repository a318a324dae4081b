"""Tensor <-> answer, with its loss."""

from lamina.outputs.base import OUTPUT_KINDS, Answer, Output, Progress, build_output
from lamina.outputs.classes import ClassesOutput

__all__ = ["OUTPUT_KINDS", "Answer", "ClassesOutput", "Output", "Progress", "build_output"]

"""Tensor <-> answer, with its loss."""

from lamina.outputs.base import OUTPUT_KINDS, Answer, Output, Progress, build_output
from lamina.outputs.classes import ClassesOutput
from lamina.outputs.identity import IdentityOutput

__all__ = ["OUTPUT_KINDS", "Answer", "ClassesOutput", "IdentityOutput", "Output", "Progress", "build_output"]

"""Tensor <-> answer, with its loss."""

from lamina.outputs.base import OUTPUT_KINDS, Answer, Output, Progress, build_output
from lamina.outputs.characters import CharactersOutput, Transcript, spoken
from lamina.outputs.classes import ClassesOutput
from lamina.outputs.identity import IdentityOutput
from lamina.outputs.items import ItemsOutput, Ranked
from lamina.outputs.next import NextOutput

__all__ = [
    "OUTPUT_KINDS", "Answer", "CharactersOutput", "ClassesOutput", "IdentityOutput", "ItemsOutput", "NextOutput", "Output", "Progress",
    "Ranked", "Transcript", "build_output", "spoken",
]  # fmt: skip

"""Tensor <-> answer, with its loss."""

from lamina.outputs.base import OUTPUT_KINDS, Answer, Output, Progress, build_output
from lamina.outputs.characters import CharactersOutput, Transcript, spoken
from lamina.outputs.classes import ClassesOutput
from lamina.outputs.identity import IdentityOutput
from lamina.outputs.items import ItemsOutput, Ranked
from lamina.outputs.next import NextOutput
from lamina.outputs.number import Amount, NumberOutput

__all__ = [
    "OUTPUT_KINDS", "Amount", "Answer", "CharactersOutput", "ClassesOutput", "IdentityOutput", "ItemsOutput", "NextOutput", "NumberOutput",
    "Output", "Progress", "Ranked", "Transcript", "build_output", "spoken",
]  # fmt: skip

"""Raw value -> tensor."""

from lamina.inputs.base import INPUT_KINDS, Input, build_input
from lamina.inputs.image import ImageInput

__all__ = ["INPUT_KINDS", "ImageInput", "Input", "build_input"]

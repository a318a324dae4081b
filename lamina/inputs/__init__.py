"""Raw value -> tensor."""

from lamina.inputs.audio import AudioInput
from lamina.inputs.base import INPUT_KINDS, Input, build_input
from lamina.inputs.history import HistoryInput
from lamina.inputs.image import ImageInput
from lamina.inputs.speech import SpeechInput
from lamina.inputs.text import TextInput
from lamina.inputs.vector import VectorInput

__all__ = ["INPUT_KINDS", "AudioInput", "HistoryInput", "ImageInput", "Input", "SpeechInput", "TextInput", "VectorInput", "build_input"]

"""Models in the formats of other software; refused unless proved equal."""

from lamina.export.huggingface import write_folder

__all__ = ["write_folder"]

"""The command line: one function a command; parse, call one public function, print.

Flags are fields of Settings, or parameters of the public function that is called; --as is the field `task`.
PyTorch is imported inside the commands, so that --help answers at once.
"""

from lamina.cli import training, looking, people, choices, texts, serving, data  # isort: skip  (in the order of --help)
from lamina.cli.parts import app
from lamina.cli.running import main

__all__ = ["app", "choices", "data", "looking", "main", "people", "serving", "texts", "training"]

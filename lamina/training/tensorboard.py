"""Events of a training as TensorBoard reads them, for those who ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lamina.errors import UsageError, sentence
from lamina.training.events import Checked, Event, Finished, Started, Stepped

EXTRA = "pip install 'lamina[tensorboard]'"
FOLDER = "tensorboard"


def check_tensorboard() -> None:
    """Raises UsageError where what writes them is missing."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UsageError(sentence("--tensorboard", "find its library", str(error), f"Run: {EXTRA}")) from error


class TensorBoard:
    """Hears events and writes scalars into the run folder: tensorboard --logdir runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def __call__(self, event: Event) -> None:
        from tensorboardX import SummaryWriter

        if isinstance(event, Started):  # what a killed run wrote after its checkpoint is not shown
            self.writer = SummaryWriter(str(self.folder / event.leg), purge_step=event.step or None)
        elif isinstance(event, Stepped):
            self._write(event.step, loss=event.loss, learning_rate=event.rate, examples_per_second=event.examples_per_second)
        elif isinstance(event, Checked):
            self._write(event.step, validation_loss=event.loss, **({} if event.score is None else {"validation_score": event.score}))
        elif isinstance(event, Finished):
            self.writer.close()

    def _write(self, step: int, **values: float) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

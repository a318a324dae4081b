"""Lamina: deep learning that an engineer can check.

    import lamina
    model = lamina.train("photos/", minutes=10)
    model.predict("new.jpg")
    model.save("pets.lamina")
    lamina.load("pets.lamina")

The names below are the public interface; everything else may move. They are imported when they are first used, so that
`import lamina` and `lamina --help` do not wait for PyTorch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lamina import errors
from lamina.errors import LaminaError
from lamina.settings import Settings

if TYPE_CHECKING:
    from lamina.data.audit import Audit
    from lamina.model import Model, Prediction, load
    from lamina.pipeline import audit_data as audit
    from lamina.pipeline import resume, train
    from lamina.task import Score

# Threads that wait for one another spin only shortly, then sleep: where another program wants a core too, training is 3-4 times as fast,
# and not slower where none does (docs/log.md). Read by OpenMP when PyTorch is loaded; yours to set otherwise.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

_WHERE = {
    "Audit": ("lamina.data.audit", "Audit"),
    "Model": ("lamina.model", "Model"),
    "Prediction": ("lamina.model", "Prediction"),
    "Score": ("lamina.task", "Score"),
    "audit": ("lamina.pipeline", "audit_data"),
    "load": ("lamina.model", "load"),
    "resume": ("lamina.pipeline", "resume"),
    "train": ("lamina.pipeline", "train"),
}

__all__ = ["Audit", "LaminaError", "Model", "Prediction", "Score", "Settings", "audit", "errors", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'lamina' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)

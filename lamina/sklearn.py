"""Lamina as a scikit-learn estimator: for rows of numbers [n, features] and for pictures [n, H, W] or [n, H, W, 3].

>>> from lamina.sklearn import LaminaClassifier
>>> LaminaClassifier(epochs=20).fit(X, y).predict(X)
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lamina.data.examples import Examples
from lamina.data.raw import RowRaw
from lamina.errors import DataError, ResourceError, UsageError
from lamina.model import Model, load
from lamina.outputs import ClassesOutput
from lamina.pipeline import train

TOGETHER = 64
TESTED = 0.1
"""Share of the examples that the model's own score is measured on; they are not learned from."""


class LaminaClassifier(ClassifierMixin, BaseEstimator):
    """Trains a network (and the classical ways, where `verdict_share` is above 0) and answers with calibrated probabilities.

    `model_` is the trained Model with its card; pickling carries the bytes of its .lamina file. Parameters are settings of `lamina.train`.
    """

    def __init__(
        self, *, minutes: float | None = None, epochs: float | None = None, use: str = "deep", verdict_share: float = 0.0,
        threads: int = 1, precision: str = "fp32", random_state: int = 0,
    ) -> None:  # fmt: skip
        self.minutes = minutes
        self.epochs = epochs
        self.use = use
        self.verdict_share = verdict_share
        self.threads = threads
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LaminaClassifier:
        """Learn from X and its labels y. Raises ValueError for input that scikit-learn's own classifiers would refuse."""
        X, y = self._checked(X, y)
        check_classification_targets(y)
        self.classes_, places = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"This classifier needs samples of at least 2 classes in the data, but it contains only one class: {self.classes_[0]!r}"
            )
        seed = self.random_state
        if not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        labels = [f"{place:06}" for place in places]
        names = [f"row {row + 1}" for row in range(len(X))]
        examples = Examples("(values in memory)", names, _raws(X), labels, _parts(X, places, seed), [""] * len(X), sense=_sense(X))
        settings = self.get_params() | {"seed": seed, "max_bad": 1.0}
        del settings["random_state"]
        try:
            with tempfile.TemporaryDirectory() as place:
                settings["cache"] = str(Path(place) / "cache")
                self.model_ = train(examples, out=Path(place) / "m.lamina", runs=Path(place) / "runs", **settings)
        except (DataError, UsageError, ResourceError) as error:
            raise ValueError(str(error)) from error
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The label of the highest probability, for each row."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """[n, classes] calibrated probabilities."""
        check_is_fitted(self)
        X = self._checked(X)
        model = self.model_
        assert isinstance(model.output, ClassesOutput)
        read = [model.input.read(raw) for raw in _raws(X)]
        parts = []
        for start in range(0, len(read), TOGETHER):
            some = read[start : start + TOGETHER]  # always as many at once, so that an answer has the same bits in any company
            parts.append(model.values([*some, *[some[0]] * (TOGETHER - len(some))])[: len(some)])
        values = torch.cat(parts)
        shares = np.zeros((len(X), len(self.classes_)))
        shares[:, [int(label) for label in model.output.labels]] = torch.softmax(values.double() / model.output.temperature, 1).numpy()
        return shares

    def _checked(self, X: Any, y: Any = "no_validation") -> Any:
        pictures = getattr(X, "ndim", 2) in (3, 4)
        return validate_data(
            self, X, y, reset=not isinstance(y, str), ensure_2d=not pictures, allow_nd=pictures, dtype=None if pictures else "numeric"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if isinstance(state.get("model_"), Model):
            with tempfile.TemporaryDirectory() as place:
                state["model_"] = self.model_.save(Path(place) / "m.lamina").read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("model_"), bytes):
            with tempfile.TemporaryDirectory() as place:
                file = Path(place) / "m.lamina"
                file.write_bytes(state["model_"])
                state = {**state, "model_": load(file)}
        super().__setstate__(state)


def _sense(X: np.ndarray) -> str:
    return "vector" if X.ndim == 2 else ""


def _raws(X: np.ndarray) -> list[Any]:
    if X.ndim > 2:
        return list(X)
    names = tuple(f"x{place}" for place in range(X.shape[1]))
    return [RowRaw(names, tuple(row)) for row in X.tolist()]


def _parts(X: np.ndarray, places: np.ndarray, seed: int) -> list[str]:
    """A tenth for the test, equal rows together, but of each class one at least to learn from."""
    random = np.random.default_rng(seed)
    unit = np.unique(X.reshape(len(X), -1), axis=0, return_inverse=True)[1].reshape(-1)
    parts = np.array(["train"] * len(places), dtype=object)
    wanted, left = max(1, round(TESTED * len(places))), np.bincount(places)
    for chosen in random.permutation(unit.max() + 1):
        rows = np.flatnonzero(unit == chosen)
        after = left - np.bincount(places[rows], minlength=len(left))
        if wanted > 0 and after.min() >= 1:
            parts[rows] = "test"
            left, wanted = after, wanted - len(rows)
    return parts.tolist()

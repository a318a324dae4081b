"""Is this the same person? Enrolling, verifying and identifying with a model's embedding and the thresholds that it was measured at."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lamina.data.batches import Batch
from lamina.data.raw import FileRaw, Raw
from lamina.errors import DataError, UsageError, did_you_mean, sentence
from lamina.metrics import Opening
from lamina.outputs import IdentityOutput
from lamina.people.store import Store
from lamina.training.inference import BATCH, run_in_order

if TYPE_CHECKING:
    from lamina.model import Model

USUAL = 0.01
"""False accepts, where nothing else is asked for and the people held out support it."""
MOST_EXAMPLES = 100
WARNING = (
    "No liveness detection: a photo of the face, or a recording of the voice, opens this, too. Not measured: relatives, disguises, and "
    "other cameras, microphones and rooms than those of the training data."
)


@dataclass(frozen=True)
class Decision:
    """The answer to: is this that person (or who is it)?"""

    accepted: bool
    name: str | None
    """Of identify: None where it is nobody who is enrolled."""
    likeness: float
    threshold: float
    false_accept: float
    """Share of strangers that the threshold lets in, on people held out in training; of identify, for all who are enrolled together …"""
    bound: float
    """… and at most that, with 99 % confidence."""
    reason: str = ""
    """Why it was not even compared: too dark, silent, …"""


@dataclass(frozen=True)
class Enrollment:
    """What was taken in, and what was not."""

    name: str
    examples: int
    """All that the template is of now."""
    taken: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    """(file, reason)."""
    opening: Opening


class People:
    """The people who are enrolled with a model."""

    def __init__(self, model: Model, store: str | os.PathLike = "", key: str | os.PathLike = "", create: bool = True) -> None:
        """`store` is a folder; without one it lies beside the model's file; without `create` it must be there. Raises UsageError and what
        Store raises."""
        if not isinstance(model.output, IdentityOutput):
            raise UsageError(
                sentence("The model", "tell people apart (`lamina train people/ --as verify`)", f"a model that does {model.task}")
            )
        self.model, self.output = model, model.output
        own = Path(model.path).with_suffix(".people") if model.path else None
        folder = Path(store).expanduser() if store else own
        if folder is None:
            raise UsageError(sentence("The store", "be named", "a model that was neither saved nor loaded", "Give store=FOLDER."))
        layer = model.network.layers[model.output.reads]
        self.store = Store(folder, fingerprint(model), int(layer.outputs), Path(key).expanduser() if key else None, create)  # type: ignore[arg-type]

    def enroll(self, name: str, files: Sequence[str | os.PathLike | Raw], false_accept: float | None = None) -> Enrollment:
        """Take in examples of one person: what is too dark, blurred, short, silent or unlike the others is refused with the reason.

        Raises DataError when none is left.
        """
        opening = self.opening(false_accept)
        raws = _all_files(files, self.model)
        if not 1 <= len(raws) <= MOST_EXAMPLES:
            raise UsageError(sentence("The examples", f"be 1 to {MOST_EXAMPLES} files", len(raws)))
        taken: list[tuple[str, np.ndarray]] = []
        refused: list[tuple[str, str]] = []
        for file, raw in raws:
            try:
                if reason := self.model.input.unfit(raw):
                    refused.append((file, reason))
                else:
                    taken.append((file, self._embedded(raw)))
            except DataError as error:
                refused.append((file, str(error)))
        if (before := self.store.find(name)) is not None:
            like = [float(before[0] @ embedding) >= opening.threshold for _, embedding in taken]
            refused += [(file, f"too unlike what is enrolled as {name}") for (file, _), fits in zip(taken, like, strict=True) if not fits]
            taken = [one for one, fits in zip(taken, like, strict=True) if fits]
        elif len(taken) > 2:  # of two nobody can say which is the odd one
            taken, odd = _without_odd_ones(taken, opening.threshold)
            refused += odd
        if not taken:
            why = f", such as {refused[0][0]}: {refused[0][1]}" if refused else ""
            raise DataError(sentence(f"The examples of {name}", "hold at least one that is good enough", f"none{why}", "Give better ones."))
        mean = np.mean([embedding for _, embedding in taken], axis=0)
        count = self.store.add(name, mean, len(taken))
        return Enrollment(name, count, tuple(file for file, _ in taken), tuple(refused), opening)

    def verify(self, name: str, file: str | os.PathLike | Raw, false_accept: float | None = None) -> Decision:
        """Is this `name`? The likeness is the mean of the cosines to the enrolled examples. Raises DataError."""
        opening = self.opening(false_accept)
        mean, _ = self.store.read(name)
        raw = _raw(file)
        if reason := self.model.input.unfit(raw):
            self.store.note("refused", name)
            return Decision(False, name, 0.0, opening.threshold, opening.rate, opening.bound, reason)
        likeness = float(mean @ self._embedded(raw))
        accepted = likeness >= opening.threshold
        self.store.note("accepted" if accepted else "refused", name)
        return Decision(accepted, name, likeness, opening.threshold, opening.rate, opening.bound)

    def identify(self, file: str | os.PathLike | Raw, false_accept: float | None = None) -> Decision:
        """Who of those enrolled is it, if anybody? `false_accept` is the chance that a stranger is taken for any of them: the more there
        are, the stricter each comparison; where the people held out cannot tell so small a rate, the strictest is used and its chance told.
        """
        raw = _raw(file)
        count = max(1, self.store.count())
        if false_accept is not None:
            self.opening(false_accept)  # a rate that is none, or that the people held out do not support, is refused
        opening = self._strictest_for((USUAL if false_accept is None else false_accept) / count)
        rate, bound = (min(1.0, share * count) for share in (opening.rate, opening.bound))
        if reason := self.model.input.unfit(raw):
            return Decision(False, None, 0.0, opening.threshold, rate, bound, reason)
        if (found := self.store.nearest(self._embedded(raw))) is None:
            return Decision(False, None, 0.0, opening.threshold, rate, bound, "nobody is enrolled")
        name, likeness = found
        accepted = likeness >= opening.threshold
        self.store.note("identified" if accepted else "unknown", name if accepted else "")
        return Decision(accepted, name if accepted else None, likeness, opening.threshold, rate, bound)

    def listed(self) -> list[dict[str, Any]]:
        """[{name, examples, added}]."""
        return self.store.listed()

    def revoke(self, name: str) -> None:
        """Raises DataError for a name that is not there."""
        self.store.remove(name)

    def opening(self, false_accept: float | None) -> Opening:
        """The threshold for a wanted rate. Without one: 1 in 100, or the smallest rate that the people held out support.

        Raises DataError for a rate that they do not support, UsageError for one that is none.
        """
        if false_accept is None:
            return self._strictest_for(USUAL)
        if not 0 < false_accept < 1:
            raise UsageError(sentence("--false-accept", "be a share between 0 and 1, such as 0.01", false_accept))
        return self.output.opening(false_accept)

    def _strictest_for(self, rate: float) -> Opening:
        if not self.output.openings:
            return self.output.opening(rate)  # raises: there is no threshold at all
        try:
            return self.output.opening(rate)
        except DataError:
            return self.output.openings[-1]

    def _embedded(self, raw: Raw) -> np.ndarray:
        """[width]: the mean over the pieces of a long recording."""
        pieces = self.model.input.pieces(raw)[:MOST_EXAMPLES]
        x, context = self.model.input.collate(pieces)
        batches = [Batch(x[at : at + BATCH], context, torch.zeros(len(x[at : at + BATCH])), np.arange(1)) for at in range(0, len(x), BATCH)]
        found = run_in_order(self.model.network, self.model.input, self.output, batches, self.model.precision)
        return np.mean(self.output.decode(found.values, found.context), axis=0)


def fingerprint(model: Model) -> str:
    """A hash of everything that an embedding depends on: another input, layer or weight, and templates cannot be compared."""
    digest = hashlib.sha256()
    layers = [layer.describe() for layer in model.network.stack[:-1]]
    digest.update(json.dumps([model.input.kind, model.input.state(), layers], sort_keys=True).encode())
    for layer in model.network.stack[:-1]:
        for name, value in sorted(layer.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _raw(file: Any) -> Raw:
    """A file's name as a raw value, a value as it is. Raises DataError for a file that is not there."""
    if not isinstance(file, (str, os.PathLike)):
        return file
    path = os.fspath(file)
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        near = did_you_mean(os.path.basename(path), os.listdir(folder)) if os.path.isdir(folder) else ""
        raise DataError(sentence(f"The file {path}", "be there", "nothing there" if not os.path.isdir(path) else "a folder", near))
    return FileRaw(path)


def _all_files(files: Sequence[Any], model: Model) -> list[tuple[str, Raw]]:
    """(name, raw value) of each; a folder stands for the files of the model's sense in it."""
    found: list[tuple[str, Raw]] = []
    for file in files:
        if isinstance(file, (str, os.PathLike)) and os.path.isdir(file):
            inside = sorted(each for each in Path(file).rglob("*") if each.suffix.lower() in model.input.suffixes and each.is_file())
            if not inside:
                raise DataError(sentence(f"The folder {os.fspath(file)}", f"hold {model.input.plural}", "none"))
            found += [(str(each), FileRaw(str(each))) for each in inside]
        else:
            found.append((os.fspath(file) if isinstance(file, (str, os.PathLike)) else "(value)", _raw(file)))
    return found


def _without_odd_ones(taken: list[tuple[str, np.ndarray]], threshold: float) -> tuple[list[tuple[str, np.ndarray]], list[tuple[str, str]]]:
    """(those that most of the others accept, the rest with the reason)."""
    vectors = np.stack([embedding for _, embedding in taken])
    alike = vectors @ vectors.T
    friends = (alike >= threshold).sum(1) - (np.diag(alike) >= threshold)
    least = (len(taken) - 1) / 2 if friends.max() >= (len(taken) - 1) / 2 else 0
    kept = [one for one, count in zip(taken, friends, strict=True) if count >= least]
    odd = [
        (file, f"too unlike the others enrolled: it resembles {count} of {len(taken) - 1} of them")
        for (file, _), count in zip(taken, friends, strict=True)
        if count < least
    ]
    return kept, odd

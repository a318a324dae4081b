"""The run folder: what was asked, decided, seen and done in one training, so that it can be resumed and read later."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.data.files import write_bytes, write_json
from lamina.errors import DataError, ResourceError, UsageError, did_you_mean, sentence
from lamina.settings import Settings, make_settings

FINISHED = "card.json"
"""Written last."""


@dataclass(frozen=True)
class Run:
    """runs/NAME-n: request.json, audit.json, split.json, plan.json, events.jsonl, checkpoint.safetensors; of each opponent (classical,
    borrowed) .lamina, .safetensors, .json; of each network beside the last (foldN, seedN) .safetensors; when it is finished also
    model.lamina, report.json, report.html, card.md, card.json; where a learning curve was made, curve.json."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def finished(self) -> bool:
        return self.path(FINISHED).exists()

    def request(self) -> dict[str, Any]:
        """What was asked: {settings, source, out}. Raises DataError."""
        try:
            return dict(json.loads(self.path("request.json").read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(sentence(f"The run {self.folder}", "hold request.json", str(error), "Train anew.")) from error

    def settings(self) -> Settings:
        return make_settings(self.request()["settings"])

    def keep_tensors(self, name: str, **tensors: Any) -> None:
        from safetensors.torch import save

        write_bytes(self.path(name), save(tensors))

    def kept_tensors(self, name: str) -> dict[str, Any] | None:
        from safetensors.torch import load

        return load(self.path(name).read_bytes()) if self.path(name).exists() else None


def new_run(runs: Path, name: str, settings: Settings, source: str, out: Path) -> Run:
    """A fresh folder NAME-n. Raises ResourceError when it cannot be made."""
    taken = [int(match.group(1)) for path in runs.glob(f"{name}-*") if (match := re.fullmatch(re.escape(name) + r"-(\d+)", path.name))]
    number = max(taken, default=0) + 1
    while True:
        folder = runs / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise ResourceError(sentence(f"The folder {runs}", "be writable", error.strerror or str(error))) from error
        break
    run = Run(folder)
    asked = dataclasses.asdict(settings)
    source = os.path.abspath(source) if source and os.path.exists(source) else source  # resumable from anywhere
    write_json(run.path("request.json"), {"settings": asked, "source": source, "out": os.path.abspath(out)})
    return run


def open_run(folder: str | Path) -> Run:
    """An existing run. Raises UsageError when there is none, with the near miss."""
    run = Run(Path(folder))
    if not run.path("request.json").exists():
        siblings = [path.name for path in run.folder.parent.glob("*")] if run.folder.parent.is_dir() else []
        raise UsageError(
            sentence(
                f"The run {folder}",
                "be a folder that `lamina train` made",
                "nothing there" if not run.folder.exists() else "another folder",
                did_you_mean(run.folder.name, [name for name in siblings if name != run.folder.name])
                or "Runs lie in runs/ where you trained.",
            )
        )
    return run

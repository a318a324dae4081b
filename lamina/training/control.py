"""A small file in the run folder through which somebody who watches asks for something: to pause, to go on, to stop and keep."""

from __future__ import annotations

import json
from pathlib import Path

from lamina.data.files import write_json
from lamina.errors import UsageError, did_you_mean, sentence

FILE = "control.json"
LIVE = "live"
"""Folder in the run folder with what those who watch are shown; where it is not there, nothing is kept for them."""
PAUSE, GO_ON, STOP = "pause", "go-on", "stop"
ACTIONS = (PAUSE, GO_ON, STOP)
ASKED = "somebody asked to stop and keep what is learned"
"""Why a plan that was shortened on request is not lengthened again."""


def ask(folder: Path, action: str) -> None:
    """Raises UsageError for an action that does not exist."""
    if action not in ACTIONS:
        raise UsageError(sentence("What is asked of a training", f"be one of {', '.join(ACTIONS)}", action, did_you_mean(action, ACTIONS)))
    write_json(folder / FILE, {"action": action})


def asked(file: Path) -> str:
    """What is asked now; empty where nothing is, or the file is not one."""
    try:
        found = json.loads(file.read_text("utf-8"))["action"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(found) if found in ACTIONS else ""

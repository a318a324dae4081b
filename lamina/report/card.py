"""The model card in the form of the Hugging Face hub, from the facts of a training (https://huggingface.co/docs/hub/model-cards)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamina.data.files import write_bytes
from lamina.screen import percent
from lamina.task import Score

KINDS = {"vector": "tabular-classification", "audio": "audio-classification", "text": "text-classification"}
LIMITS = (
    "The score holds for data like the test part.",
    "A probability is calibrated on held-out data of the same kind.",
    'Inputs unlike the training data are answered "none of these" only as often as stated below.',
)


def write_card(card: dict[str, Any], out: Path) -> Path:
    """Markdown with a YAML head that the hub reads; strings in it are JSON, which is YAML."""
    score, verdict, data = card["score"], card.get("verdict"), card["data"]
    name = Path(card["model"]).stem
    without = "feature-extraction" if score.get("unit", "%") else "text-generation"
    result = {
        "task": {"type": KINDS.get(card["input"], "image-classification") if card["classes"] else without},
        "dataset": {"name": Path(data["path"] or data["source"]).name or "values in memory", "type": "custom"},
        "metrics": [{"type": score["name"], "value": score["value"]}],
    }
    head = [
        "---",
        "library_name: lamina",
        f"tags: {json.dumps(['lamina', card['way']])}",
        f"metrics: {json.dumps([score['name']])}",
        f"model-index: {json.dumps([{'name': name, 'results': [result]}])}",
        "---",
    ]
    unknown = card["facts"]["output"].get("outliers_rejected")
    parts = ", ".join(f"{count} {part}" for part, count in card["examples"].items())
    measured = Score(**score)
    notes = [f"{each['kind']} ({each['name']}): {note}" for each in (verdict or {"contenders": []})["contenders"] for note in each["notes"]]
    body = [
        f"# {_line(name)}",
        _line(verdict["sentence"]) if verdict else "",
        *([f"- Answers: {_line(', '.join(card['classes'][:50]))}{' …' if len(card['classes']) > 50 else ''}"] if card["classes"] else []),
        f"- Score: {measured} on {score['n']} test examples"
        + (", cross-fitted" if card["cross_fitted"] else ""),
        f"- Examples: {parts}; {card['excluded']} excluded by the audit; content hash `{data['content_hash']}`",
        f"- Way: {card['way']}",
        *(f"- {_line(note)}" for note in notes),
        "",
        "## Limits",
        *(f"- {limit}" for limit in (LIMITS if card["classes"] else LIMITS[:1])),
        *([f"- Of generated outliers {percent(unknown)} % were turned away."] if unknown is not None and card["input"] != "vector" else []),
        "",
        "## How it was made",
        f"{', '.join(f'{each} {version}' for each, version in card['versions'].items())}; "
        f"seed {card['settings']['seed']}; {card['seconds']:.0f} s.",
    ]  # fmt: skip
    write_bytes(out, ("\n".join([*head, *body]) + "\n").encode("utf-8", "backslashreplace"))
    return out


def _line(text: object) -> str:
    """One line of Markdown in which nothing is markup."""
    plain = " ".join(str(text).split())
    return "".join("\\" + letter if letter in "\\`*_[]<>#|" else letter for letter in plain)

"""Single examples in the report: name, picture, sound."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import torch

from lamina.report.html import text

if TYPE_CHECKING:
    from lamina.pipeline.preparation import Prepared


def shown_example(prepared: Prepared, index: int) -> dict[str, str]:
    """An example's name, and its picture and sound as data addresses; empty where it has none."""
    value = prepared.feed.values.take([index])[0]
    read = value.cpu().numpy() if isinstance(value, torch.Tensor) else value
    input = prepared.feed.input
    return {"name": prepared.examples.names[index], "picture": input.shown(read), "sound": input.heard(read)}


def example_section(one: dict[str, Any]) -> str:
    """What `shown_example` found, as HTML."""
    picture = f'<img src="{escape(one["picture"], quote=True)}" alt="test example {text(one["name"])}">' if one["picture"] else ""
    if one.get("sound"):
        picture += f'<audio controls preload="none" src="{escape(one["sound"], quote=True)}" aria-label="{text(one["name"])}"></audio>'
    return picture

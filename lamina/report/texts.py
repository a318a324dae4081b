"""The section about texts: what the network expected least and most of what it had never read."""

from __future__ import annotations

from typing import Any

from lamina.report.html import text

EXCERPT = 400


def texts_section(facts: dict[str, Any]) -> str:
    """From report.json of a training that learned what comes next."""
    items = "".join(
        f"<li><span><b>{each['bits']:.2f} bits per byte</b> <span class='soft'>{text(each['name'])}</span></span>"
        f"<pre>{text(each['text'][:EXCERPT])}</pre></li>"
        for each in facts["shown"]
    )
    return (
        "<h2>What surprised it most, and least</h2><p class='soft'>Stretches of the test part. Many bits: names, rare words, another "
        f"language, or text that is broken. Hardly any: what stands in the training part, too.</p><ul class='mistakes wide'>{items}</ul>"
    )

"""The section about numbers: what was told against what is true, and what was missed by most."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina.report.examples import example_section
from lamina.report.html import text
from lamina.report.plots import against_truth


def numbers_section(facts: dict[str, Any]) -> str:
    """From report.json of a training whose answers are numbers."""
    inside = np.mean([low <= true <= high for low, true, high in zip(facts["lows"], facts["wanted"], facts["highs"], strict=True)])
    point = "Each point is a test example; on the line it would be right."
    caption = f"<figcaption>{point} {100 * inside:.1f} % of the intervals hold the truth; 90 % are to.</figcaption>"
    plot = against_truth(facts["wanted"], facts["values"], facts["unit"])
    told = f"<h2>Told against true</h2><figure>{plot}{caption}</figure>"
    items = "".join(
        f"<li>{example_section(each)}<span>told <b>{text(each['told'])}</b>, true <b>{each['wanted']:g}</b></span>"
        f"<span class='soft'>{text(each['name'])}</span></li>"
        for each in facts["shown"]
    )
    missed = f"<h2>Missed by most</h2><p class='soft'>Some may be wrong in the data: look.</p><ul class='mistakes'>{items}</ul>"
    return told + (missed if items else "")

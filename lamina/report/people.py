"""The section about people: who is let in and who is turned away, at which angle, and the pairs that were mistaken most."""

from __future__ import annotations

from typing import Any

from lamina.report.examples import example_section
from lamina.report.html import table, text
from lamina.report.plots import alike_plot, error_tradeoff
from lamina.screen import one_in, percent

TOLD = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 0.0001)


def people_section(facts: dict[str, Any]) -> str:
    """From report.json of a training whose answers are judged in pairs."""
    pairs = facts["pairs"]
    opened = (
        f"<h2>Who is let in, who is turned away</h2><figure>{error_tradeoff(facts['rates'], facts['rejects'])}<figcaption>Detection error "
        f"tradeoff (DET) on {facts['people']} people whom training never saw, {pairs['same']:,} pairs of one person and "
        f"{pairs['other']:,} of strangers. Both axes are stretched as a normal distribution would be straight; lower is better."
        "</figcaption></figure>"
    )
    alike = facts["likeness"]
    opened += (
        f"<figure>{alike_plot(alike['edges'], alike['same'], alike['other'])}<figcaption>How alike two examples are (the cosine of "
        "the angle between their embeddings), as shares of each kind of pair. Where the hills overlap a threshold must choose.</figcaption>"
        "</figure>"
    )
    return opened + _thresholds(facts["openings"]) + _mistaken(facts["shown"])


def _thresholds(openings: list[dict[str, float]]) -> str:
    if not openings:
        return "<p>People held out are too few for any threshold.</p>"
    chosen = [min(openings, key=lambda each: abs(each["rate"] - rate)) for rate in TOLD if rate >= openings[-1]["rate"] * 0.9]
    rows = [(f"{each['threshold']:.3f}", one_in(each["rate"]), one_in(each["bound"]), f"{percent(each['rejects'])} %") for each in chosen]
    return (
        "<h2>Thresholds</h2>"
        + table(("threshold", "strangers let in", "at most (99 %)", "right ones turned away"), rows)
        + "<p class='soft'>Measured on all people held out. The bound counts people, not pairs. Convenience, not security: nothing "
        "here tells a face from a photo of it, or a voice from a recording (no liveness detection).</p>"
    )


def _mistaken(shown: list[dict[str, Any]]) -> str:
    if not shown:
        return ""
    items = []
    for each in shown:
        seen = "".join(example_section(one) for one in each["examples"])
        what = "one person, and least alike" if each["same"] else "strangers, and most alike"
        names = " and ".join(text(one["name"]) for one in each["examples"])
        items.append(
            f"<li><div class='pair'>{seen}</div><span><b>{each['likeness']:.3f}</b> {what}</span><span class='soft'>{names}</span></li>"
        )
    return f"<h2>Hardest pairs</h2><p class='soft'>Some may be wrong labels: look.</p><ul class='mistakes wide'>{''.join(items)}</ul>"

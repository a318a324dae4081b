"""The section about choices: how good the lists are by several measures, and the lists of some users."""

from __future__ import annotations

from typing import Any

from lamina.report.html import table, text
from lamina.screen import percent

TOLD = {
    "NDCG@10": lambda value: f"{value:.4f}",
    "NDCG@20": lambda value: f"{value:.4f}",
    "recall@10": lambda value: f"{percent(value)} %",
    "recall@20": lambda value: f"{percent(value)} %",
    "coverage": lambda value: f"{percent(value)} %",
    "novelty": lambda value: f"{value:.1f} bits",
}


def choices_section(facts: dict[str, Any]) -> str:
    """From report.json of a training that learned what is chosen next."""
    rows = [(way, *(tell(its[name]) for name, tell in TOLD.items())) for way, its in facts["ways"].items()]
    told = (
        "<h2>How good the lists are</h2>" + table(("way", *TOLD), rows) + f"<p class='soft'>Over {facts['users']:,} test users, each item "
        f"ranked among all {facts['items']:,}. Recall: share of what a user chose that stands in the list. Coverage: share of all items "
        "that stand in any list of ten. Novelty: how rare the listed items are (6.6 bits: one choice in a hundred).</p>"
    )
    items = "".join(
        f"<li><span><b>{text(each['name'])}</b> NDCG@10 {each['gain']:.2f}</span>"
        f"<span>after … {text(', '.join(each['before']) or '(nothing)')}</span><span>chose <b>{text(', '.join(each['chosen']))}</b></span>"
        f"<span class='soft'>recommended: {', '.join(_marked(title, each['chosen']) for title in each['top'])}</span></li>"
        for each in facts["shown"]
    )
    return told + (f"<h2>Lists of some users</h2><ul class='mistakes wide'>{items}</ul>" if items else "")


def _marked(title: str, chosen: list[str]) -> str:
    return f"<mark>{text(title)}</mark>" if title in chosen else text(title)

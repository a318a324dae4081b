"""The section about speech: what was heard for what, and the recordings that were heard worst, to be listened to."""

from __future__ import annotations

from typing import Any

from lamina.metrics import changes
from lamina.report.examples import example_section
from lamina.report.html import table, text

MOST_TOLD = 15


def transcripts_section(facts: dict[str, Any]) -> str:
    """From report.json of a training that learned what is said."""
    confused = [(text(wanted or "(nothing)"), text(found or "(nothing)"), str(count)) for found, wanted, count in facts["confused"]]
    told = (
        "<h2>What was heard for what</h2>" + table(("said", "heard", "times"), confused[:MOST_TOLD])
        if confused
        else "<h2>What was heard</h2><p>Every word of the test part was right.</p>"
    )
    if not facts["shown"]:
        return told
    items = []
    for each in facts["shown"]:
        wrong = {found for found, _ in changes(each["text"].split(), each["spoken"].split()) if found}
        heard = " ".join(f"<mark>{text(word)}</mark>" if word in wrong else text(word) for word in each["text"].split())
        sure = ", ".join(f"{text(word)} {start:.1f} s ({100 * chance:.0f} %)" for word, start, _, chance in each["words"][:12])
        items.append(
            f"<li>{example_section(each)}<span>said <b>{text(each['spoken'])}</b></span><span>heard <b>{heard or '(nothing)'}</b></span>"
            f"<span class='soft'>{text(each['name'])}{': ' + sure if sure else ''}</span></li>"
        )
    return (
        told + "<h2>Heard worst</h2><p class='soft'>Some may have a wrong transcript: listen. Words in yellow are wrong; beside each name "
        f"when a word was heard and how sure.</p><ul class='mistakes wide'>{''.join(items)}</ul>"
    )

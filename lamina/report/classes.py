"""The section about labels: by class, what was told for what, whether the probabilities can be believed, the mistakes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lamina.metrics import wilson_interval
from lamina.report.examples import example_section
from lamina.report.html import scrolling, table, text
from lamina.report.plots import reliability
from lamina.screen import percent

CONFUSION_UP_TO = 20
"""With more classes than this the pairs that are confused most are listed instead of the whole table."""
PAIRS = 15


def classes_section(facts: dict[str, Any]) -> str:
    """From report.json of a training whose answers are labels."""
    return "\n".join([_classes(facts), _confusion(facts), _calibration(facts), _mistakes(facts)])


def _classes(facts: dict[str, Any]) -> str:
    truths, labels = facts["truths"], facts["labels"]
    known, told = Counter(truths), Counter(labels)
    right = Counter(truth for truth, label in zip(truths, labels, strict=True) if truth == label)
    rows = []
    for name in sorted(known, key=lambda name: right[name] / known[name]):
        low, high = wilson_interval(right[name], known[name])
        found = percent(right[name] / known[name])
        precision = f"{percent(right[name] / told[name])} %" if told[name] else "never told"
        rows.append((name, known[name], f"{found} %", f"{percent(low)}-{percent(high)}", precision))
    return "<h2>By class, weakest first</h2>" + table(("class", "examples", "found", "95 % interval", "right when told"), rows)


def _confusion(facts: dict[str, Any]) -> str:
    pairs = Counter(zip(facts["truths"], facts["labels"], strict=True))
    names = sorted(set(facts["truths"]) | set(facts["labels"]))
    if len(names) > CONFUSION_UP_TO:
        wrong = sorted(((count, *pair) for pair, count in pairs.items() if pair[0] != pair[1]), reverse=True)[:PAIRS]
        return "<h2>Confused most</h2>" + table(("it is", "told", "times"), [(truth, told, count) for count, truth, told in wrong])
    known = Counter(facts["truths"])
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    body = []
    for truth in names:
        cells = []
        for told in names:
            count = pairs[truth, told]
            share = count / max(1, known[truth])
            color = f"rgba(59,130,246,{0.75 * share:.2f})" if truth == told else f"rgba(220,60,40,{min(0.8, 4 * share):.2f})"
            cells.append(f'<td style="background:{color}">{count or ""}</td>')
        body.append(f'<tr><th scope="row">{text(truth)}</th>{"".join(cells)}</tr>')
    caption = "<caption>Rows: what it is. Columns: what the network told.</caption>"
    found = f'<table class="confusion">{caption}<tr><td></td>{head}</tr>{"".join(body)}</table>'
    return "<h2>What was told for what</h2>" + scrolling(found, "what was told for what")


def _calibration(facts: dict[str, Any]) -> str:
    right = [truth == label for truth, label in zip(facts["truths"], facts["labels"], strict=True)]
    plot, error = reliability(facts["probabilities"], right)
    return (
        f"<h2>Can its probabilities be believed?</h2><figure>{plot}<figcaption>Points on the dotted line: of the answers told with 80 %, "
        f"80 % are right. Mean difference {100 * error:.1f} points (expected calibration error, ten bins).</figcaption></figure>"
    )


def _mistakes(facts: dict[str, Any]) -> str:
    wrong = sum(truth != label for truth, label in zip(facts["truths"], facts["labels"], strict=True))
    if not wrong:
        return "<h2>Mistakes</h2><p>None on the test examples.</p>"
    items = []
    for each in facts["shown"]:
        other = f"<span class='soft'>{text(facts['other'])}: {text(each['other'])}</span>" if each["other"] else ""
        items.append(
            f"<li>{example_section(each)}<span><b>{text(each['label'])}</b> {percent(each['probability'])} %</span>"
            f"<span>it is {text(each['truth'])}</span>{other}<span class='soft'>{text(each['name'])}</span></li>"
        )
    shown = f"the {len(items)} most confident" if len(items) < wrong else "all of them"
    return (
        f"<h2>Mistakes: {wrong} of {len(facts['truths'])}, {shown}</h2><p class='soft'>Some may be wrong labels: look.</p>"
        f"<ul class='mistakes'>{''.join(items)}</ul>"
    )

"""The page: what a training came to, from the facts in its run folder."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lamina.data.files import write_bytes
from lamina.errors import DataError, sentence
from lamina.report.choices import choices_section
from lamina.report.classes import classes_section
from lamina.report.html import table, text
from lamina.report.inside import inside_section
from lamina.report.numbers import numbers_section
from lamina.report.people import people_section
from lamina.report.plots import against_size, learning_curves, score_bars
from lamina.report.texts import texts_section
from lamina.report.transcripts import transcripts_section
from lamina.screen import bytes_in_words, duration, percent
from lamina.settings import Settings
from lamina.task import Score
from lamina.training.events import read_events

FACTS = "report.json"
"""In the run folder: names, truths, labels, probabilities, others (labels of the other way; empty without a verdict) of the test
examples, and shown."""
LAYERS = "layers.json"
"""In the run folder once `lamina layers MODEL` has made it."""
CURVE = "curve.json"
"""In the run folder once `lamina verdict MODEL --minutes N`, or a training that left time for it, has made it."""
FINDINGS = 20
KINDS = {
    "classes": classes_section, "people": people_section, "texts": texts_section, "transcripts": transcripts_section,
    "choices": choices_section, "numbers": numbers_section,
}  # fmt: skip
"""The section about single test examples, by the kind of facts."""

STYLE = """
:root { color-scheme: light dark;
  --line: color-mix(in srgb, currentColor 18%, transparent);
  --soft: color-mix(in srgb, currentColor 62%, transparent); }
* { box-sizing: border-box; }
html { background: Canvas; color: CanvasText; }
body { margin: 0 auto; max-width: 60rem; padding: 1.2rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
.sentence { font-size: 1.25rem; line-height: 1.4; margin: 0 0 1rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
td { white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, .word { text-align: left; }
tbody th { font-weight: 500; }
td.word { white-space: normal; min-width: 9rem; max-width: 24rem; overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; }
.confusion td { text-align: center; min-width: 2.4rem; } .confusion th { font-weight: 500; }
.plot { width: 100%; max-width: 38rem; height: auto; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; padding: 0; list-style: none; }
.mistakes img { width: 6rem; height: 6rem; image-rendering: pixelated; object-fit: contain; background: var(--line); }
.mistakes span { display: block; font-size: .85rem; overflow-wrap: anywhere; }
.filters { display: flex; flex-wrap: wrap; gap: .25rem; } .filters img { width: 2.2rem; height: 2.2rem; image-rendering: pixelated; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: .8rem; padding: 0; list-style: none; }
.strip img { width: 100%; image-rendering: pixelated; background: var(--line); } .strip span { display: block; font-size: .85rem; }
.mistakes.wide { grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
audio { width: 9rem; height: 2rem; }
.pair { display: flex; gap: .3rem; } .pair img { width: 5rem; height: 5rem; }
code, pre { font-size: .88rem; overflow-wrap: anywhere; white-space: pre-wrap; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, li, tr { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""The page may load nothing, whatever a file's name holds."""


def run_of(card: dict[str, Any]) -> Path | None:
    """The run folder of the training that this card tells of; None where it is gone, or another run has its place."""
    run = Path(card.get("run", ""))
    try:
        own = json.loads((run / "card.json").read_text("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return None
    same = all(own.get(name) == json.loads(json.dumps(card.get(name))) for name in ("data", "seconds", "score"))
    return run if same and (run / FACTS).exists() else None


def write_report(run: Path, card: dict[str, Any], out: Path) -> Path:
    """Write the page of the training in the folder `run`. Raises DataError when its facts are not there."""
    try:
        facts = json.loads((run / FACTS).read_text("utf-8", "surrogateescape"))
        audit = json.loads((run / "audit.json").read_text("utf-8", "surrogateescape"))
        events = read_events(run / "events.jsonl")
        curve, inside = (
            json.loads((run / name).read_text("utf-8", "surrogateescape")) if (run / name).exists() else None for name in (CURVE, LAYERS)
        )
    except (OSError, ValueError) as error:
        raise DataError(sentence(f"The run folder {run}", f"hold {FACTS}, audit.json and events.jsonl", str(error))) from error
    try:
        about = KINDS[facts.get("kind", "classes")](facts)
        sections = [
            _top(card),
            _contenders(card, curve),
            _curve(curve),
            _groups(card),
            about,
            _doctor(card),
            inside_section(inside),
            _training(card, events),
            _audit(audit, card),
            _reproduce(card),
        ]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        raise DataError(sentence(f"The facts in {run}", "be those that this release writes", told, "Train anew.")) from error
    title = text(f"{Path(card['model']).stem}: report")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{title}</title><style>{STYLE}</style></head>\n'
        f"<body><main>\n{chr(10).join(section for section in sections if section)}\n</main></body></html>\n"
    )
    write_bytes(out, page.encode("utf-8", "replace"))
    return out


# ---------------------------------------------------------------- sections


def _top(card: dict[str, Any]) -> str:
    score, verdict = card["score"], card.get("verdict")
    measured = str(Score(**score))
    told = verdict["sentence"] if verdict else f"{measured[0].upper()}{measured[1:]}."
    how = "each tested once by a network that never saw it" if card["cross_fitted"] else "opened once"
    return (
        f'<h1>{text(Path(card["model"]).name)}</h1><p class="sentence">{text(told)}</p>'
        f'<p class="soft">{text(measured)} on {score["n"]} test examples, {how}; '
        f"{text(', '.join(f'{count} {part}' for part, count in card['examples'].items()))}.</p>"
    )


def _contenders(card: dict[str, Any], curve: dict[str, Any] | None) -> str:
    """What each way cost and came to, a column each."""
    verdict = card.get("verdict")
    if not verdict:
        return ""
    ways = verdict["contenders"]
    lower = ways[0]["score"]["better"] == "lower"

    def row(name: str, told: Callable[[dict[str, Any]], object]) -> tuple[object, ...]:
        return (name, *(told(each) for each in ways))

    rows = [
        row("way", lambda each: each["name"]),
        row("score", lambda each: (own := Score(**each["score"])).told(own.value)),
        row("95 % interval", lambda each: f"{(own := Score(**each['score'])).told(own.low, '')}-{own.told(own.high, '')}"),
        row(
            "features thought of by people",
            lambda each: len(each.get("features", ())) or {"deep": "learned", "borrowed": "learned by others"}.get(each["kind"], "none"),
        ),
        row("settings chosen", lambda each: len(each["decisions"]) or "none"),
        *([row("examples to reach the other's score", lambda each: _needed(curve, each["kind"]))] if card.get("classes") else []),
        row("to train", lambda each: duration(each["seconds"])),
        row("FLOPs to train", lambda each: f"{each['training_flops']:.1e}" if each["training_flops"] else "not counted"),
        row("memory, peak until then", lambda each: bytes_in_words(each["memory"]) if each.get("memory") else "not measured"),
        row("an answer", lambda each: f"{each['milliseconds']:.2f} ms"),
        row("FLOPs an answer", lambda each: f"{each['answer_flops']:.1e}"),
        row("size", lambda each: bytes_in_words(each["size"])),
        row("can be looked at", lambda each: each.get("inspect") or "not told"),
    ]
    listed = [(each["kind"], (*each.get("features", ()), *each["decisions"])) for each in ways]
    decided = "".join(f"<li>{text(kind)}: {text('; '.join(things))}</li>" for kind, things in listed if things)
    notes = "".join(f"<p class='soft'>{text(each['kind'])}: {text(note)}</p>" for each in ways for note in each["notes"])
    unit = verdict.get("unit", "points")
    times, test = 100 if unit.startswith("points") else 1, verdict.get("test") or "by examples"
    paired = (
        f"{'Classical minus deep' if lower else 'Deep minus classical'}: {times * verdict['difference']:+.3g} {unit}, "
        f"99 % paired interval {times * verdict['low']:+.3g} to {times * verdict['high']:+.3g}, {test}, p = {verdict['p_value']:.2g}; "
        f"margin {times * verdict['margin']:g} {unit}."
    )
    plot = f"<figure>{score_bars(ways)}</figure>"
    found = table(("", *(each["kind"] for each in ways)), rows, words=range(1, len(ways) + 1), rows_named=True)
    return (
        f"<h2>Deep learning against the other ways</h2>{plot}{found}<p class='soft'>{text(paired)}</p>"
        f"{notes}<p>Settled by people:</p><ul>{decided}</ul>"
    )


def _needed(curve: dict[str, Any] | None, kind: str) -> str:
    """By the learning curve, with its 80 % interval."""
    if kind not in ("deep", "classical"):
        return ""
    if curve is None:
        return "lamina verdict MODEL --minutes N"
    if kind not in (needed := curve.get("needed", {})):
        return "not known: see below" if curve.get("doubt") else "not measured"
    if (found := needed[kind]) is None:
        return "out of reach"
    about, low, high = found
    return f"about {about:,} ({low:,} or more)" if high is None else f"about {about:,} ({low:,}-{high:,})"


def _curve(curve: dict[str, Any] | None) -> str:
    if curve is None:
        return ""
    told = "".join(f"<p>{text(kind)}: {text(advice)}</p>" for kind, advice in curve["advice"].items())
    told += f"<p>{text(curve['doubt'])}</p>" if curve.get("doubt") else ""
    return (
        "<h2>What more examples would bring</h2>"
        f"<figure>{against_size(curve['points'], 'examples')}</figure><figure>{against_size(curve['points'], 'seconds')}</figure>{told}"
    )


def _groups(card: dict[str, Any]) -> str:
    """The score told apart, where it was asked for."""
    groups = card["facts"].get("told_by")
    if not groups:
        return ""
    rows = [
        (name, its["n"], f"{percent(its['value'])} %", f"{percent(its['low'])}-{percent(its['high'])}")
        if its
        else (name, "", "too few", "")
        for name, its in groups.items()
    ]
    return f"<h2>By {text(card['settings']['told_by'])}</h2>" + table(("group", "examples", card["score"]["name"], "95 % interval"), rows)


def _doctor(card: dict[str, Any]) -> str:
    found = card.get("doctor")
    if found is None:
        return ""
    if not found["found"]:
        return f"<h2>Doctor</h2><p>Nothing wrong with this training was found; {found['looked']} checks could look.</p>"
    return "<h2>Doctor</h2>" + table(
        ("what", "seen by", "remedy"), [(each["name"], each["evidence"], each["remedy"]) for each in found["found"]], words=(0, 1, 2)
    )


def _training(card: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    own = [event for event in events if event.get("leg") == "final"]
    losses = [(event["step"], event["loss"]) for event in own if event["event"] == "stepped"]
    scores = [(event["step"], event["score"]) for event in own if event["event"] == "checked" and event["score"] is not None]
    forecast = card["plan"]["forecast"]
    took = sum(event["seconds"] for event in events if event["event"] == "finished")
    low, high = forecast["seconds_low"], forecast["seconds_high"]
    inside = "inside" if low <= took <= high else "outside"
    plot = f"<figure>{learning_curves(losses, scores)}</figure>" if len(losses) > 1 else ""
    layers = f"{forecast['parameters']:,} parameters, {forecast['epochs']:g} epochs, {card['plan']['precision']}"
    return (
        f"<h2>Training</h2>{plot}<p>Forecast {duration(forecast['seconds'])} ({duration(low)}-{duration(high)}), took {duration(took)}: "
        f"{inside} the interval. {text(layers)}. The whole command: {duration(card['seconds'])}.</p>"
    )


def _audit(audit: dict[str, Any], card: dict[str, Any]) -> str:
    findings = audit.get("findings", [])
    rows = [(each["name"], each["kind"], each["detail"]) for each in findings[:FINDINGS]]
    more = f"<p class='soft'>and {len(findings) - FINDINGS} more in audit.json</p>" if len(findings) > FINDINGS else ""
    listed = table(("file", "what", "why"), rows, words=(0, 1, 2)) if rows else "<p>Nothing odd was found.</p>"
    return f"<h2>Audit: {card['excluded']} excluded</h2>{listed}{more}"


def _reproduce(card: dict[str, Any]) -> str:
    usual = dataclasses.asdict(Settings())
    settings = {name: value for name, value in card["settings"].items() if value != usual.get(name)}
    flags = " ".join(
        f"--{'as' if name == 'task' else name.replace('_', '-')}{'' if value is True else ' ' + shlex.quote(str(value))}"
        for name, value in settings.items()
    )
    source = card["data"]["path"] or card["data"]["source"]
    where = source if source.startswith("(") else shlex.quote(source)
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    data = card["data"]
    return (
        f"<h2>How to make it again</h2><pre>lamina train {text(where)} {text(flags)}</pre>"
        f"<p class='soft'>Data: content hash {text(data['content_hash'])}. {text(versions)}. Run folder: {text(card['run'])}. "
        "Same plan, seed, machine and threads: same bits.</p>"
    )

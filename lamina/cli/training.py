"""Train, go on, answer, score, judge."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli.parts import (
    BEGUN,
    READING,
    Data,
    Json,
    ModelPath,
    app,
    open_model,
    print_json,
    screen_for,
    with_settings,
    write_table,
)
from lamina.errors import DataError, Interrupted, LaminaError, UsageError, sentence
from lamina.screen import Screen, duration, percent
from lamina.tell import tell_curve

if TYPE_CHECKING:
    from lamina.model import Model
    from lamina.serve.watched import Page

ANSWER_COLUMNS = ("file", "label", "probability", "unknown", "error", "top")


@app.command()
@with_settings()
def train(
    data: Data,
    out: Annotated[str, typer.Option(help="The .lamina file to write; default ./NAME.lamina.")] = "",
    runs: Annotated[str, typer.Option(help="Folder for the run folders NAME-n.")] = "runs",
    watch: Annotated[bool, typer.Option("--watch", help="Open a page that shows the training as it goes; Ctrl-C ends it.")] = False,
    json_: Json = False,
    **settings: Any,
) -> None:
    """Audit DATA, train a network inside the time budget, score it, judge it against classical ways, and save it as NAME.lamina.
    Without --minutes, or where that leaves enough of them, the network is opened in the report; and a learning curve follows."""
    from lamina.pipeline import train as run

    screen = screen_for(json_)
    page = _page(screen) if watch else None
    model = run(data, out=out, runs=runs, screen=screen, begun=BEGUN, watch=page.open if page else None, **settings)
    _inside_in_time_left(model, settings.get("minutes"), screen)
    curve = _curve_in_time_left(model, data, settings.get("minutes"), screen)
    _print_training(model, json_, curve)
    if page:
        page.stay()


def _page(screen: Screen) -> Page:
    """Raises UsageError where its libraries are missing."""
    from lamina.serve import SERVE_EXTRA
    from lamina.serve.watched import Page

    if not Page.available():
        raise UsageError(sentence("--watch", "find the libraries of the page", "they are not installed", f"Run: {SERVE_EXTRA}"))
    return Page(screen)


def _inside_in_time_left(model: Model, minutes: float | None, screen: Screen) -> None:
    """Without --minutes, or where training left enough of them, the network is opened and drawn in the report. Ctrl-C leaves it out."""
    from lamina import inside

    try:
        needed = inside.layers_seconds(model)
        if minutes is not None and 60 * minutes - (time.monotonic() - BEGUN) < needed:
            screen.say(f"Inside      what each layer is, sees and knows (about {duration(needed)}): lamina layers {model.card['model']}")
            return
        inside.layers(model, screen=screen)
    except KeyboardInterrupt:
        screen.say("Inside      left out; the model and its report are saved")
    except LaminaError as error:  # what was trained stands
        screen.warn(f"Inside: left out. {error}")
    else:
        screen.say("Inside      what each layer is, sees and knows stands in the report, too")


def _curve_in_time_left(model: Model, data: str, minutes: float | None, screen: Screen) -> dict[str, Any] | None:
    """Where training needed so little of --minutes that a learning curve fits into the rest, it is made, too. Ctrl-C leaves it out."""
    from lamina.studies import curve_minutes, learning_curve

    left = (minutes or 0.0) - (time.monotonic() - BEGUN) / 60
    if model.verdict is None or left < curve_minutes(model):
        return None
    screen.say(f"Curve       {left:.1f} minutes are left: what would more examples bring? (Ctrl-C leaves it out)")
    try:
        found = learning_curve(model, left, data=data, screen=screen)
    except (Interrupted, KeyboardInterrupt):
        screen.say("            left out; the model and its report are saved")
    except LaminaError as error:  # too few examples for it, say; what was trained stands
        screen.say(f"            left out: {error}")
    else:
        tell_curve(found, screen)
        return found
    return None


@app.command()
def resume(run: Annotated[str, typer.Argument(help="A run folder, such as runs/photos-1.")], json_: Json = False) -> None:
    """Go on with a training that was stopped or killed, to the same bits."""
    from lamina.pipeline import resume as go_on

    screen = screen_for(json_)
    model = go_on(run, screen=screen)
    if model.material is not None:  # not one that had been finished before
        _inside_in_time_left(model, model.card["settings"]["minutes"], screen)
    _print_training(model, json_)


@app.command()
@with_settings("threads")
def predict(
    model: ModelPath,
    files: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Annotated[str, typer.Option(help="Write the answers to a table (.csv, .tsv or .jsonl).")] = "",
    json_: Json = False,
    **settings: Any,
) -> None:
    """Answer for FILES (- is stdin): label and calibrated probability, the next best, or "none of these"; of speech its text."""
    from lamina.model import Prediction

    opened = open_model(model, settings)
    predictions = []
    for file in files:
        try:
            answer = opened.predict(sys.stdin.buffer.read() if file == "-" else file)
        except DataError as error:
            if len(files) == 1:
                raise
            answer = Prediction(file, None, None, error=str(error))  # one missing file does not cost the answers to the others
        predictions.extend(answer if isinstance(answer, list) else [answer])
    rows = [
        {
            name: value
            for name, value in dataclasses.asdict(prediction).items()
            if name not in ("words", "low", "high") or value not in (None, ())
        }
        for prediction in predictions
    ]
    if out:
        write_table(Path(out), map(_as_cells, rows) if Path(out).suffix.lower() != ".jsonl" else rows, ANSWER_COLUMNS)
    if json_:
        print_json(rows)
    else:
        for row in rows if not out else []:
            top = ", ".join(f"{label} {percent(share)} %" for label, share in row["top"][1:3])
            sure = f"({_short(row['low'])} to {_short(row['high'])}, 90 %)" if "low" in row else f"{percent(row['probability'] or 0.0)} %"
            answer = row["error"] or (f"{row['label']} {sure}" if row["label"] else "none of these")
            print(
                f"{row['file']}: {answer}"
                + (f"  (then {top})" if top and row["label"] else f"  (nearest: {row['top'][0][0]})" if row["top"] else "")
            )
        if out:
            print(f"{len(rows)} answers written to {out}")
    if rows and all(row["error"] for row in rows):
        raise typer.Exit(3)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _as_cells(row: dict[str, Any]) -> dict[str, Any]:
    """An answer as the cells of a table."""
    top = "; ".join(f"{label} {share:.4f}" for label, share in row["top"])
    return {**row, "label": row["label"] or "", "error": row["error"] or "", "top": top}


@app.command()
@with_settings(*READING, "margin")
def evaluate(
    model: ModelPath,
    data: Data,
    against: Annotated[str, typer.Option(help="A table of another system's answers (file, label): compared, example by example.")] = "",
    json_: Json = False,
    **settings: Any,
) -> None:
    """Score MODEL on labeled DATA (its test part, when parts are given) by the best label of what predict answers."""
    from lamina.settings import make_settings

    opened = open_model(model, settings)
    screen = screen_for(json_)
    found = opened.evaluate_data(data, make_settings(settings), screen, against)
    if json_:
        print_json(dataclasses.asdict(found))
    else:
        left_out = f"; {found.unreadable} unreadable files left out" if found.unreadable else ""
        screen.say(f'{found.score}, {found.score.n} examples; {found.unknown} of them answered "none of these"{left_out}')
        if found.against:
            screen.say(found.against.sentence)


@app.command()
@with_settings("minutes", "threads")
def verdict(
    model: ModelPath,
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
    **settings: Any,
) -> None:
    """Was deep learning worth it on this data? The sentence of MODEL's training, and what each way cost; with --minutes also a
    learning curve of both ways, and what more examples should bring."""
    from lamina.classical.verdict import table

    opened = open_model(model, settings)
    found = opened.verdict
    if found is None:
        raise UsageError(
            sentence(f"The model {model}", "have a verdict", "none", "It was trained with --verdict-share 0: train it anew without.")
        )
    screen = screen_for(json_)
    curve = None
    if "minutes" in settings:
        from lamina.studies import learning_curve

        curve = learning_curve(opened, settings["minutes"], data=data or None, screen=screen)
    if json_:
        print_json({**found.state(), "curve": curve})
        return
    screen.title(found.sentence)
    for line in table(found):
        screen.say(line)
    for each in found.contenders:
        if each.settled:
            screen.say(f"{each.kind}, settled by people: {'; '.join(each.settled)}")
        for note in each.notes:
            screen.say(f"{each.kind}: {note}")
    if curve:
        tell_curve(curve, screen)


def _print_training(model: Any, json_: bool, curve: dict[str, Any] | None = None) -> None:
    if json_:
        card = model.card
        names = ("classes", "examples", "excluded", "seconds", "way", "score", "cross_fitted", "facts", "verdict")
        print_json({"task": model.task, "model": card["model"], "run": card["run"], **{name: card[name] for name in names}, "curve": curve})

"""The command line: one function a command; parse, call one public function, print.

Flags are fields of Settings, or parameters of the public function that is called; --as is the field `task`.
PyTorch is imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.errors import DataError, Interrupted, LaminaError, NotAccepted, UsageError, did_you_mean, sentence
from lamina.screen import Screen, duration, percent
from lamina.settings import Sampling, Settings, descriptions, field_types
from lamina.task import Score
from lamina.tell import (
    tell_curve,
    tell_decision,
    tell_doctor,
    tell_enrollment,
    tell_experiment,
    tell_layers,
    tell_people,
    tell_step,
    tell_unit,
)

if TYPE_CHECKING:
    from lamina.model import Model
    from lamina.people import Decision

BEGUN = time.monotonic()
READING = ("path_column", "label_column", "text_column", "group", "max_pixels", "samples_from", "cache", "threads")
"""Fields of Settings that commands which only read data take."""
ANSWER_COLUMNS = ("file", "label", "probability", "unknown", "error", "top")
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
COMMAND_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="lamina", help="Deep learning that an engineer can check: raw data in, audited, trained, scored, saved, answered.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 a bug of ours, 2 usage, 3 data, 4 model file, 5 resources, 6 training broke, 7 not accepted, 130 Ctrl-C.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; everything else goes to stderr.")]
Data = Annotated[str, typer.Argument(help="A folder of class folders, a table, a zip of these, or sample:NAME.")]
ModelPath = Annotated[Path, typer.Argument(help="A .lamina file.")]
FalseAccept = Annotated[
    float | None, typer.Option(help="Share of strangers that may be let in; default 0.01, or the least that the people held out support.")
]
StoreFolder = Annotated[str, typer.Option(help="The folder of the people enrolled; default NAME.people beside the model.")]
KeyFile = Annotated[str, typer.Option(help="The file with the store's key; default in your configuration folder.")]


def with_settings(*names: str, kind: type = Settings) -> Callable[[Callable], Callable]:
    """Give a command a flag for each named field of `kind` (all when none is named), passed on by its name when it was given."""

    def decorate(command: Callable) -> Callable:
        fields = [field for field in dataclasses.fields(kind) if not names or field.name in names]
        own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        flags = []
        for field in fields:
            flag = "--as" if field.name == "task" else "--" + field.name.replace("_", "-")
            option = typer.Option(flag, help=descriptions(kind)[field.name], show_default=False)
            its = field_types(kind)[field.name]
            its = list[str] if its == tuple[str, ...] else its  # what the parser has for a flag that is given several times
            annotation = Annotated[its | None, option]  # type: ignore[valid-type]
            flags.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

        def run(*arguments: Any, **keywords: Any) -> None:
            given = {field.name: keywords.pop(field.name) for field in fields}
            given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
            command(*arguments, **keywords, **{name: value for name, value in given.items() if value not in (None, ())})

        signature = inspect.signature(command, eval_str=True)
        evaluated = [signature.parameters[parameter.name] for parameter in own]
        run.__signature__ = inspect.Signature([*evaluated, *flags])  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*evaluated, *flags]}
        return run

    return decorate


@app.command()
@with_settings()
def train(
    data: Data,
    out: Annotated[str, typer.Option(help="The .lamina file to write; default ./NAME.lamina.")] = "",
    runs: Annotated[str, typer.Option(help="Folder for the run folders NAME-n.")] = "runs",
    json_: Json = False,
    **settings: Any,
) -> None:
    """Audit DATA, train a network inside the time budget, score it, judge it against classical ways, and save it as NAME.lamina.
    Without --minutes, or where that leaves enough of them, the network is opened in the report; and a learning curve follows."""
    from lamina.pipeline import train as run

    screen = _screen(json_)
    model = run(data, out=out, runs=runs, screen=screen, begun=BEGUN, **settings)
    _inside_in_time_left(model, settings.get("minutes"), screen)
    curve = _curve_in_time_left(model, data, settings.get("minutes"), screen)
    _print_training(model, json_, curve)


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

    screen = _screen(json_)
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
    """Answer for FILES: label and calibrated probability, the next best, or "none of these"."""
    from lamina.model import Prediction

    opened = _load(model, settings)
    predictions = []
    for file in files:
        try:
            answer = opened.predict(file)
        except DataError as error:
            if len(files) == 1:
                raise
            answer = Prediction(file, None, None, error=str(error))  # one missing file does not cost the answers to the others
        predictions.extend(answer if isinstance(answer, list) else [answer])
    rows = [dataclasses.asdict(prediction) for prediction in predictions]
    if out:
        _write_table(Path(out), map(_as_cells, rows) if Path(out).suffix.lower() != ".jsonl" else rows, ANSWER_COLUMNS)
    if json_:
        _print_json(rows)
    else:
        for row in rows if not out else []:
            top = ", ".join(f"{label} {percent(share)} %" for label, share in row["top"][1:3])
            answer = row["error"] or (f"{row['label']} {percent(row['probability'])} %" if row["label"] else "none of these")
            print(
                f"{row['file']}: {answer}"
                + (f"  (then {top})" if top and row["label"] else f"  (nearest: {row['top'][0][0]})" if row["top"] else "")
            )
        if out:
            print(f"{len(rows)} answers written to {out}")
    if rows and all(row["error"] for row in rows):
        raise typer.Exit(3)


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

    opened = _load(model, settings)
    screen = _screen(json_)
    found = opened.evaluate_data(data, make_settings(settings), screen, against)
    if json_:
        _print_json(dataclasses.asdict(found))
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

    opened = _load(model, settings)
    found = opened.verdict
    if found is None:
        raise UsageError(
            sentence(f"The model {model}", "have a verdict", "none", "It was trained with --verdict-share 0: train it anew without.")
        )
    screen = _screen(json_)
    curve = None
    if "minutes" in settings:
        from lamina.studies import learning_curve

        curve = learning_curve(opened, settings["minutes"], data=data or None, screen=screen)
    if json_:
        _print_json({**found.state(), "curve": curve})
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


@app.command()
def layers(
    model: ModelPath,
    file: Annotated[str, typer.Argument(help="A file (or a table's path): why this answer.")] = "",
    unit: Annotated[str, typer.Option(help="One artificial neuron, LAYER:NUMBER, for FILE.")] = "",
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """Open MODEL: what each layer is, sees and knows, beside the same layers with random weights; with FILE what moved its answer; with
    --unit one artificial neuron."""
    from lamina import inside

    opened, screen = _load(model, {}), _screen(json_)
    if unit:
        layer, _, number = unit.partition(":")
        if not file or not number.isdecimal():
            raise UsageError(sentence("--unit", "be LAYER:NUMBER, beside a FILE", unit if file else f"{unit} without a file"))
        answered = inside.unit(opened, layer, int(number), file)
        _show(answered, json_, tell_unit, screen)
    elif file:
        found = inside.why_this_answer(opened, file, data or None, screen=screen)
        if json_:
            _print_json(found)
        else:
            screen.title(f"{found['label']}: {found['sentence']}")
            for place, value in found["places"]:
                screen.say(f"  {'up' if value > 0 else 'down':4} by {abs(value):.4f}   at {', '.join(map(str, place))}")
    else:
        answered = inside.layers(opened, data or None, screen=screen)
        _show(answered, json_, tell_layers, screen)


@app.command()
def step(
    model: ModelPath,
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """Open one training step of (a copy of) MODEL on one batch: forward pass, loss, backpropagation, change of the weights."""
    from lamina import inside

    screen = _screen(json_)
    _show(inside.step(_load(model, {}), data or None, screen=screen), json_, tell_step, screen)


@app.command()
def film(
    model: ModelPath,
    out: Annotated[str, typer.Option(help="The .webp (or .mp4) to write; default NAME.webp beside the model.")] = "",
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """The training of MODEL as a film: raw numbers, a guess, loss, the error sent back, from noise to order, the verdict."""
    from lamina import inside

    written = inside.film(_load(model, {}), out, data or None, screen=_screen(json_))
    _print_json({"film": str(written)}) if json_ else print(f"Film: {written}")


@app.command()
def doctor(
    target: Annotated[str, typer.Argument(help="A run folder, such as runs/photos-1, or a .lamina file.")],
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """What may be wrong with a training: named faults, by what they were seen, and what to do."""
    from lamina import inside

    screen = _screen(json_)
    found = inside.doctor(_load(Path(target), {}) if target.endswith(".lamina") else target, data or None, screen=screen)
    _show(found, json_, tell_doctor, screen)


@app.command()
def enroll(
    model: ModelPath,
    name: Annotated[str, typer.Argument(help="Whose examples these are.")],
    files: Annotated[list[str], typer.Argument(help="Pictures or recordings of that person, or folders of them.")],
    false_accept: FalseAccept = None,
    store: StoreFolder = "",
    key: KeyFile = "",
    json_: Json = False,
) -> None:
    """Enroll NAME with some pictures or recordings: what is too dark, blurred, short or unlike the others is refused with the reason.
    Only an encrypted template is kept, no picture and no recording."""
    found = _load(model, {}).people(store, key).enroll(name, files, false_accept)
    _show(dataclasses.asdict(found), json_, tell_enrollment, _screen(json_))


@app.command()
def verify(
    model: ModelPath,
    name: Annotated[str, typer.Argument(help="Who it should be.")],
    file: Annotated[str, typer.Argument(help="A picture or a recording.")],
    false_accept: FalseAccept = None,
    store: StoreFolder = "",
    key: KeyFile = "",
    json_: Json = False,
) -> None:
    """Is FILE of NAME? Exit code 0: accepted; 7: not."""
    found = _load(model, {}).people(store, key, create=False).verify(name, file, false_accept)
    _decided(found, json_)


@app.command()
def identify(
    model: ModelPath,
    file: Annotated[str, typer.Argument(help="A picture or a recording.")],
    false_accept: FalseAccept = None,
    store: StoreFolder = "",
    key: KeyFile = "",
    json_: Json = False,
) -> None:
    """Whose is FILE, of the people enrolled? Exit code 0: somebody's; 7: nobody's."""
    found = _load(model, {}).people(store, key, create=False).identify(file, false_accept)
    _decided(found, json_)


def _decided(found: Decision, json_: bool) -> None:
    """Told, and as the exit code."""
    _show(dataclasses.asdict(found), json_, tell_decision, _screen(json_))
    if not found.accepted:
        raise typer.Exit(NotAccepted.exit_code)


@app.command()
@with_settings(kind=Sampling)
def generate(
    model: ModelPath,
    prompt: Annotated[str, typer.Argument(help="How the text begins; - reads it from stdin; empty: from nothing.")] = "",
    count: Annotated[int, typer.Option(help="So many texts are made at once.")] = 1,
    json_: Json = False,
    **sampling: Any,
) -> None:
    """Go on with PROMPT, token by token, as the model learned from its texts."""
    opened, begun = _load(model, {}), sys.stdin.read() if prompt == "-" else prompt
    if not 1 <= count <= 1024:
        raise UsageError(sentence("--count", "be between 1 and 1024", count))
    made, alone = [""] * count, count == 1 and not json_
    if (tokens := opened.tokens_of(begun)) >= opened.input.window:
        Screen(sys.stderr).warn(f"The prompt has {tokens} tokens; the network sees the last {opened.input.window - 1} of them.")
    stream = opened.stream([begun] * count, **sampling)  # says what is wrong before anything is printed
    print(begun if alone else "", end="", flush=True)
    for row, piece in stream:
        made[row] += piece
        print(piece if alone else "", end="", flush=True)
    if json_:
        _print_json([{"prompt": begun, "text": text} for text in made])
    else:
        print("" if alone else "\n\n".join(f"[{number + 1}]\n{begun}{text}" for number, text in enumerate(made)))


@app.command()
@with_settings(kind=Sampling)
def chat(
    model: ModelPath,
    system: Annotated[str, typer.Option(help="What the assistant is told before the conversation.")] = "",
    json_: Json = False,
    **sampling: Any,
) -> None:
    """Talk with a model that was trained on conversations: a line is a turn; an empty line or Ctrl-D ends it."""
    opened = _load(model, {})
    turns: list[tuple[str, str]] = [("system", system)] if system else []
    asked = sys.stdin.isatty() and not json_
    while said := _asked("> " if asked else ""):
        turns.append(("user", said))
        answer = ""
        for piece in opened.chat(turns, **sampling):
            answer += piece
            print("" if json_ else piece, end="", flush=True)
        turns.append(("assistant", answer.strip() or "…"))
        print("" if json_ else "\n", end="", flush=True)
    if json_:
        _print_json([{"role": role, "content": text} for role, text in turns])


def _asked(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


@app.command()
def export(
    model: ModelPath,
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[str, typer.Option(help="The format: huggingface.")] = "huggingface",
    json_: Json = False,
) -> None:
    """Write MODEL in a format that other software loads; refused unless it answers alike."""
    from lamina.export import write_folder

    if to != "huggingface":
        raise UsageError(sentence("--to", "be huggingface", to))
    largest = write_folder(_load(model, {}), out)
    found = {"folder": str(out), "format": to, "largest_difference": largest}
    _print_json(found) if json_ else print(f"{out}: the largest difference of logits is {largest:.1e}")


@app.command()
def people(model: ModelPath, store: StoreFolder = "", key: KeyFile = "", json_: Json = False) -> None:
    """List the people who are enrolled with MODEL."""
    _show({"people": _load(model, {}).people(store, key, create=False).listed()}, json_, tell_people, _screen(json_))


@app.command()
def revoke(
    model: ModelPath,
    name: Annotated[str, typer.Argument(help="Who is to be forgotten.")],
    store: StoreFolder = "",
    key: KeyFile = "",
    json_: Json = False,
) -> None:
    """Forget NAME: no byte of the template stays in the store."""
    _load(model, {}).people(store, key, create=False).revoke(name)
    _show({"revoked": name}, json_, lambda found, screen: screen.say(f"{found['revoked']} is forgotten."), _screen(json_))


@app.command()
def unlock(
    model: ModelPath,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 0,
    false_accept: FalseAccept = None,
    store: StoreFolder = "",
    key: KeyFile = "",
) -> None:
    """A page on this machine, for its camera or microphone: enroll, unlock, refused. Ctrl-C ends it."""
    from lamina.serve.unlock import Unlock

    server = Unlock(_load(model, {}).people(store, key), port, false_accept)
    print(f"Open {server.address}  (this machine only; Ctrl-C ends it)", flush=True)
    with server:
        server.serve_forever()


@app.command()
@with_settings(*READING, "task", "max_bad", "seed", "seeds", "epochs", "side", "width", "batch")
def experiment(
    data: Data,
    kind: Annotated[str, typer.Argument(help="activations, depth, prune or shuffle.")],
    out: Annotated[str, typer.Option(help="The JSON file to write, its chart (.svg) beside it; default KIND.json.")] = "",
    json_: Json = False,
    **settings: Any,
) -> None:
    """What activation functions, depth, weak connections and order are worth on DATA: equal budgets, several seeds, a chart, a sentence."""
    from lamina.experiments import experiment as run

    screen = _screen(json_)
    out = out or f"{kind}.json"
    found = run(data, kind, out=out, screen=screen, **settings)
    if json_:
        _print_json({name: value for name, value in found.items() if name != "charts"})
    else:
        tell_experiment(found, out, screen)


@app.command()
def report(
    model: ModelPath,
    out: Annotated[str, typer.Option(help="The HTML file to write; default NAME.html beside the model.")] = "",
    run: Annotated[str, typer.Option(help="The run folder of the training, when it was moved.")] = "",
    json_: Json = False,
) -> None:
    """One page to read, print or mail: verdict, scores, mistakes, audit, and how to make MODEL again. It opens without a network."""
    from lamina.report import write_report

    card = _load(model, {}).card
    written = write_report(Path(run or card.get("run", "")), card, Path(out) if out else model.with_suffix(".html"))
    if json_:
        _print_json({"report": str(written)})
    else:
        print(f"Report: {written}")


@app.command()
@with_settings(*READING, "task", "max_bad")
def audit(
    data: Data,
    out: Annotated[str, typer.Option(help="Where to write all findings.")] = "audit.json",
    json_: Json = False,
    **settings: Any,
) -> None:
    """Decode every file of DATA and say by name what is unusable or odd. Exit code 3 above --max-bad."""
    from lamina.data.audit import show_audit, stop_if_bad
    from lamina.data.files import write_json
    from lamina.pipeline import audit_data
    from lamina.settings import make_settings

    screen = _screen(json_)
    report = audit_data(data, screen=screen, **settings)
    write_json(Path(out), report.summary())
    show_audit(report, screen)
    screen.say(f"All findings: {out}")
    stop_if_bad(report, make_settings(settings))
    if json_:
        _print_json(report.summary())


@app.command()
@with_settings(*READING, "task", "max_bad", "minutes", "seed", "side", "labels")
def suspects(
    data: Data,
    out: Annotated[str, typer.Option(help="The table to write (.csv, .tsv or .jsonl).")] = "suspects.csv",
    json_: Json = False,
    **settings: Any,
) -> None:
    """Examples of DATA whose label may be wrong, likeliest first, as a table: correct its labels and give it to train as --labels."""
    from lamina.studies import suspects as find

    screen = _screen(json_)
    rows = find(data, screen=screen, **settings)
    columns = ("file", "label", "suggested", "probability", "probability_suggested")
    _write_table(Path(out), ({name: row[name] for name in columns} for row in rows), columns)
    if json_:
        _print_json(rows)
        return
    for row in rows[:10]:
        suggested, given = percent(row["probability_suggested"]), percent(row["probability"])
        screen.say(f"{row['file']}: {row['label']} ({given} %), rather {row['suggested']} ({suggested} %)")
    screen.say(f"{len(rows)} suspects written to {out}; correct its labels, then: lamina train {data} --labels {out}")


@app.command()
@with_settings("samples_from", "cache")
def samples(
    fetch: Annotated[str, typer.Option(help="Fetch the files of this sample, checked against their SHA-256.")] = "",
    json_: Json = False,
    **settings: Any,
) -> None:
    """List the named data to start with: `lamina train sample:digits`. Nothing is fetched unless named."""
    from lamina.data.samples import SAMPLES, available, fetch_sample
    from lamina.settings import make_settings

    chosen = make_settings(settings)
    if fetch:
        fetch_sample(fetch, chosen)
    rows = [{"name": "sample:" + s.name, "about": s.about, "license": s.license, "source": s.source, "where": available(s, chosen),
             "files": [dataclasses.asdict(file) for file in s.files]} for s in SAMPLES.values()]  # fmt: skip
    if json_:
        _print_json(rows)
    for row in [] if json_ else rows:
        print(f"{row['name']}: {row['about']}\n    {row['license']}; {row['source']}\n    {row['where']}")


@app.command()
def show(model: ModelPath, json_: Json = False) -> None:
    """What a model file holds: its layers, its score, what it was trained on."""
    opened = _load(model, {})
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in opened.network.layers.items()}
    if json_:
        _print_json({"task": opened.task, "layers": opened.network.describe(), "parameters": counts, "input": opened.input.state(),
                     "output": opened.output.state(), "card": opened.card})  # fmt: skip
        return
    card = opened.card
    print(f"{model}: {opened.task}, {sum(counts.values()):,} parameters, {model.stat().st_size / 1e6:.2f} MB")
    for layer in opened.network.describe():
        arguments = ", ".join(f"{name} {value}" for name, value in layer["arguments"].items())
        print(f"    {layer['name']:18} {layer['kind']:14} {counts[layer['name']]:>10,}  {arguments}")
    if "score" in card:
        print(f"Score: {Score(**card['score'])} on {card['score']['n']} examples" + (", cross-fitted" if card["cross_fitted"] else ""))
        if opened.verdict:
            print(f"Verdict: {opened.verdict.sentence}")
        if any(card["classes"]):
            print(f"Classes: {', '.join(card['classes'])}")
        parts = ", ".join(f"{count} {part}" for part, count in card["examples"].items())
        print(f"Data: {card['data']['path']} ({parts}, {card['excluded']} excluded)")
        versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
        print(f"Trained in {card['seconds']:.0f} s ({versions}); run {card['run']}")


@app.command()
@with_settings("seed", "threads", "samples_from", "cache")
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put the demo's files.")] = Path("lamina-demo"),
    json_: Json = False,
    **settings: Any,
) -> None:
    """The main job on data that are already here: digits, then clothes; at most 3 minutes."""
    from lamina.demo import demo as play

    results = play(folder, _screen(json_), **settings)
    if json_:
        _print_json(results)


# ---------------------------------------------------------------- printing


def _screen(json_: bool) -> Screen:
    return Screen(sys.stderr if json_ else sys.stdout)


def _load(model: Path, settings: dict[str, Any]) -> Any:
    import torch

    from lamina.model import load
    from lamina.settings import cores, make_settings

    torch.set_num_threads(cores(make_settings({name: value for name, value in settings.items() if name == "threads"})))
    return load(model)


def _print_training(model: Any, json_: bool, curve: dict[str, Any] | None = None) -> None:
    if json_:
        card = model.card
        names = ("classes", "examples", "excluded", "seconds", "way", "score", "cross_fitted", "facts", "verdict")
        _print_json(
            {"task": model.task, "model": card["model"], "run": card["run"], **{name: card[name] for name in names}, "curve": curve}
        )


def _show(found: dict[str, Any], json_: bool, tell: Callable[[dict[str, Any], Screen], None], screen: Screen) -> None:
    """What was found, as one JSON document or told on the screen."""
    _print_json(found) if json_ else tell(found, screen)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=1) + "\n")
    sys.stdout.flush()


def _as_cells(row: dict[str, Any]) -> dict[str, Any]:
    """An answer as the cells of a table."""
    top = "; ".join(f"{label} {share:.4f}" for label, share in row["top"])
    return {**row, "label": row["label"] or "", "error": row["error"] or "", "top": top}


def _write_table(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    from lamina.data.files import write_bytes

    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl"):
        raise UsageError(sentence("--out", "end in .csv, .tsv or .jsonl", path.name))
    if suffix == ".jsonl":
        write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        return
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row[name] for name in columns)
        writer.writerow("" if cell is None else f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


# ---------------------------------------------------------------- running


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command and leave with the documented exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be characters that the terminal can show
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments or ["--help"], prog_name="lamina", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as leave:
        return leave.exit_code
    except LaminaError as error:
        return _fail(str(error), error.exit_code, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("Stopped.", Interrupted.exit_code, arguments)
    except COMMAND_ERROR as error:
        return _fail(_usage_sentence(error, command, arguments), UsageError.exit_code, arguments)
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _fail(message: str, code: int, arguments: list[str]) -> int:
    if "--json" in arguments:
        _print_json({"error": message, "exit_code": code})
    print(("lamina: " if code != Interrupted.exit_code else "\nlamina: ") + message, file=sys.stderr)
    return code


def _usage_sentence(error: Any, command: Any, arguments: list[str]) -> str:
    """The command parser's complaint, with the near miss."""
    told = (
        error.format_message().rstrip(".")
        or f"The command line must name what it works on; see lamina {arguments[0] if arguments else ''} --help"
    )
    wrong = next((a.split("=")[0] for a in arguments if a.startswith("--") and a.split("=")[0] in told), "")
    context = getattr(error, "ctx", None)
    choices: list[str] = []
    if context is not None:
        choices = (
            [name for parameter in context.command.params for name in parameter.opts]
            if wrong
            else list(getattr(context.command, "commands", {}))
        )
    near = did_you_mean(wrong or (arguments[0] if arguments else ""), choices) if wrong not in choices else ""
    where = f"lamina {context.command.name}" if context is not None and context.command.name not in (None, "lamina") else "lamina"
    return f"{told.split(' (Possible')[0].split(' Did you mean')[0].rstrip('.?')}. {near + ' ' if near else ''}See: {where} --help"

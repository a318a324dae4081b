"""Look at data, and start with some."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from lamina.cli.parts import (
    READING,
    Data,
    Json,
    app,
    print_json,
    screen_for,
    with_settings,
    write_table,
)
from lamina.screen import percent
from lamina.tell import tell_experiment


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

    screen = screen_for(json_)
    report = audit_data(data, screen=screen, **settings)
    write_json(Path(out), report.summary())
    show_audit(report, screen)
    screen.say(f"All findings: {out}")
    stop_if_bad(report, make_settings(settings))
    if json_:
        print_json(report.summary())


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

    screen = screen_for(json_)
    rows = find(data, screen=screen, **settings)
    columns = ("file", "label", "suggested", "probability", "probability_suggested")
    write_table(Path(out), ({name: row[name] for name in columns} for row in rows), columns)
    if json_:
        print_json(rows)
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
        print_json(rows)
    for row in [] if json_ else rows:
        print(f"{row['name']}: {row['about']}\n    {row['license']}; {row['source']}\n    {row['where']}")


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

    screen = screen_for(json_)
    out = out or f"{kind}.json"
    found = run(data, kind, out=out, screen=screen, **settings)
    if json_:
        print_json({name: value for name, value in found.items() if name != "charts"})
    else:
        tell_experiment(found, out, screen)


@app.command()
@with_settings("seed", "threads", "samples_from", "cache")
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put the demo's files.")] = Path("lamina-demo"),
    json_: Json = False,
    **settings: Any,
) -> None:
    """The main job on data that are already here: digits, then clothes; at most 3 minutes."""
    from lamina.demo import demo as play

    results = play(folder, screen_for(json_), **settings)
    if json_:
        print_json(results)

"""Look into what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.parts import (
    Json,
    ModelPath,
    app,
    open_model,
    print_json,
    screen_for,
    show_found,
)
from lamina.errors import UsageError, sentence
from lamina.task import Score
from lamina.tell import tell_doctor, tell_layers, tell_step, tell_unit


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

    opened, screen = open_model(model, {}), screen_for(json_)
    if unit:
        layer, _, number = unit.partition(":")
        if not file or not number.isdecimal():
            raise UsageError(sentence("--unit", "be LAYER:NUMBER, beside a FILE", unit if file else f"{unit} without a file"))
        answered = inside.unit(opened, layer, int(number), file)
        show_found(answered, json_, tell_unit, screen)
    elif file:
        found = inside.why_this_answer(opened, file, data or None, screen=screen)
        if json_:
            print_json(found)
        else:
            screen.title(f"{found['label']}: {found['sentence']}")
            for place, value in found["places"]:
                screen.say(f"  {'up' if value > 0 else 'down':4} by {abs(value):.4f}   at {', '.join(map(str, place))}")
    else:
        answered = inside.layers(opened, data or None, screen=screen)
        show_found(answered, json_, tell_layers, screen)


@app.command()
def step(
    model: ModelPath,
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """Open one training step of (a copy of) MODEL on one batch: forward pass, loss, backpropagation, change of the weights."""
    from lamina import inside

    screen = screen_for(json_)
    show_found(inside.step(open_model(model, {}), data or None, screen=screen), json_, tell_step, screen)


@app.command()
def film(
    model: ModelPath,
    out: Annotated[str, typer.Option(help="The .webp (or .mp4) to write; default NAME.webp beside the model.")] = "",
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """The training of MODEL as a film: raw numbers, a guess, loss, the error sent back, from noise to order, the verdict."""
    from lamina import inside

    written = inside.film(open_model(model, {}), out, data or None, screen=screen_for(json_))
    print_json({"film": str(written)}) if json_ else print(f"Film: {written}")


@app.command()
def doctor(
    target: Annotated[str, typer.Argument(help="A run folder, such as runs/photos-1, or a .lamina file.")],
    data: Annotated[str, typer.Option(help="The data of the training, when they moved.")] = "",
    json_: Json = False,
) -> None:
    """What may be wrong with a training: named faults, by what they were seen, and what to do."""
    from lamina import inside

    screen = screen_for(json_)
    found = inside.doctor(open_model(Path(target), {}) if target.endswith(".lamina") else target, data or None, screen=screen)
    show_found(found, json_, tell_doctor, screen)


@app.command()
def report(
    model: ModelPath,
    out: Annotated[str, typer.Option(help="The HTML file to write; default NAME.html beside the model.")] = "",
    run: Annotated[str, typer.Option(help="The run folder of the training, when it was moved.")] = "",
    json_: Json = False,
) -> None:
    """One page to read, print or mail: verdict, scores, mistakes, audit, and how to make MODEL again. It opens without a network."""
    from lamina.report import write_report

    card = open_model(model, {}).card
    written = write_report(Path(run or card.get("run", "")), card, Path(out) if out else model.with_suffix(".html"))
    if json_:
        print_json({"report": str(written)})
    else:
        print(f"Report: {written}")


@app.command()
def show(model: ModelPath, json_: Json = False) -> None:
    """What a model file holds: its layers, its score, what it was trained on."""
    opened = open_model(model, {})
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in opened.network.layers.items()}
    if json_:
        print_json({"task": opened.task, "layers": opened.network.describe(), "parameters": counts, "input": opened.input.state(),
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

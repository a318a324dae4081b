"""Texts that go on, and conversations."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lamina.cli.parts import (
    Json,
    ModelPath,
    app,
    open_model,
    print_json,
    with_settings,
)
from lamina.errors import UsageError, sentence
from lamina.screen import Screen
from lamina.settings import Sampling


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
    opened, begun = open_model(model, {}), sys.stdin.read() if prompt == "-" else prompt
    if not 1 <= count <= 1024:
        raise UsageError(sentence("--count", "be between 1 and 1024", count))
    made, alone = [""] * count, count == 1 and not json_
    if (tokens := opened.tokens_of(begun)) >= opened.input.window:
        Screen(sys.stderr).warn(f"The prompt has {tokens} tokens; the network sees the last {opened.input.window - 1} of them.")
    stream = opened.stream([begun] * count, **sampling)  # says what is wrong before anything is printed
    print(begun if alone else "", end="", flush=True)
    for piece in stream:
        made[piece.row] += piece.text
        print(piece.text if alone else "", end="", flush=True)
    if json_:
        print_json([{"prompt": begun, "text": text} for text in made])
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
    opened = open_model(model, {})
    turns: list[tuple[str, str]] = [("system", system)] if system else []
    asked = sys.stdin.isatty() and not json_
    while said := _asked("> " if asked else ""):
        turns.append(("user", said))
        answer = ""
        for piece in opened.chat(turns, **sampling):
            answer += piece.text
            print("" if json_ else piece.text, end="", flush=True)
        turns.append(("assistant", answer.strip() or "…"))
        print("" if json_ else "\n", end="", flush=True)
    if json_:
        print_json([{"role": role, "content": text} for role, text in turns])


def _asked(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""

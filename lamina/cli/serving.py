"""Models served to programs and to people, and written for other software."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli.parts import Json, KeyFile, ModelPath, StoreFolder, app, open_model, print_json, with_settings
from lamina.errors import UsageError, did_you_mean, sentence
from lamina.settings import Serving

if TYPE_CHECKING:
    from lamina.serve import Server

FORMATS = ("huggingface", "onnx")


@app.command()
@with_settings(kind=Serving)
def serve(
    models: Annotated[list[Path], typer.Argument(help="Files NAME.lamina, each asked by its NAME, or run folders to watch.")],
    store: StoreFolder = "",
    key: KeyFile = "",
    **serving: Any,
) -> None:
    """Serve MODELS over HTTP: an API, OpenAI's for texts, and a page. Ctrl-C ends it when what is under way is answered."""
    from lamina.serve import Server
    from lamina.serve.watched import PARENT

    given = Serving(**serving)
    handle = os.environ.get(PARENT)
    server = Server(models, given, store, key, socket.socket(fileno=int(handle)) if handle else None)
    print(f"Serving {', '.join(server.names)} at {server.address}  (Ctrl-C ends it)", flush=True)
    if any("enroll" in service.actions for service in server.services) and server.made_token:
        print(f"Enroll at {server.address}/#admin={server.admin_token}", flush=True)
    if handle:
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    server.run()


def _end_with_stdin(server: Server) -> None:
    sys.stdin.read()
    server.stop()


@app.command()
def export(
    model: ModelPath,
    out: Annotated[str, typer.Argument(help="What to write: a folder, or a file NAME.onnx; default beside the model.")] = "",
    to: Annotated[str, typer.Option(help=f"The format, of {', '.join(FORMATS)}; default by the model and by OUT.")] = "",
    data: Annotated[str, typer.Option(help="Data to compare the answers on; default those that the model learned from.")] = "",
    json_: Json = False,
) -> None:
    """Write MODEL in a format that other software loads; refused unless it answers alike."""
    from lamina.export import some_values, write_folder, write_onnx
    from lamina.outputs import NextOutput

    opened = open_model(model, {})
    to = to or ("onnx" if out.endswith(".onnx") or not isinstance(opened.output, NextOutput) else "huggingface")
    if to not in FORMATS:
        raise UsageError(sentence("--to", f"be one of {', '.join(FORMATS)}", to, did_you_mean(to, FORMATS)))
    path = Path(out) if out else model.with_suffix(".onnx" if to == "onnx" else "")
    if to == "huggingface":
        largest = write_folder(opened, path)
        found = {"folder": str(path), "format": to, "largest_difference": largest}
        told = f"{path}: the largest difference of logits is {largest:.1e}"
    else:
        equal = write_onnx(opened, path, some_values(opened, data or None))
        found = {"file": str(path), "format": to, "compared": equal.compared, "real": equal.real, "largest_difference": equal.largest}
        told = f"{path}: answers alike to {equal.compared} values, {equal.real} of them real; the largest difference is {equal.largest:.1e}"
    print_json(found) if json_ else print(told)

"""What commands share: flags from settings, a screen, a model opened, one JSON document or words."""

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
from typing import Annotated, Any

import typer

from lamina.errors import UsageError, sentence
from lamina.screen import Screen
from lamina.settings import Settings, descriptions, field_types

BEGUN = time.monotonic()
READING = ("path_column", "label_column", "text_column", "group", "max_pixels", "samples_from", "cache", "threads")
"""Fields of Settings that commands which only read data take."""

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


def screen_for(json_: bool) -> Screen:
    return Screen(sys.stderr if json_ else sys.stdout)


def open_model(model: Path, settings: dict[str, Any]) -> Any:
    import torch

    from lamina.model import load
    from lamina.settings import cores, make_settings

    torch.set_num_threads(cores(make_settings({name: value for name, value in settings.items() if name == "threads"})))
    return load(model)


def show_found(found: dict[str, Any], json_: bool, tell: Callable[[dict[str, Any], Screen], None], screen: Screen) -> None:
    """What was found, as one JSON document or told on the screen."""
    print_json(found) if json_ else tell(found, screen)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=1) + "\n")
    sys.stdout.flush()


def write_table(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
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

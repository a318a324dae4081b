"""Run a command and leave with the documented exit code."""

from __future__ import annotations

import io
import sys
from typing import Any

import typer

from lamina.cli.parts import app, print_json
from lamina.errors import Interrupted, LaminaError, UsageError, did_you_mean

COMMAND_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""What the command parser raises; its class has no public name."""


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
        print_json({"error": message, "exit_code": code})
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

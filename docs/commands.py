"""Write docs/commands.md from the commands' own help. Run by `make docs`; a test compares."""

import os
import re
from pathlib import Path

PAGE = Path(__file__).with_name("commands.md")


def page() -> str:
    """The whole page, as Markdown."""
    os.environ.update(COLUMNS="100", TERMINAL_WIDTH="100", NO_COLOR="1")
    import typer

    from lamina.cli import app

    command = typer.main.get_command(app)
    parts = ["# Commands\n\nMade by `make docs` from the commands' own help; a test keeps it true.\n"]
    for name in ["", *command.commands]:
        context = command.make_context("lamina", [name] if name else [], resilient_parsing=True)
        chosen = command if not name else command.commands[name]
        inner = context if not name else chosen.make_context(f"lamina {name}", [], parent=None, resilient_parsing=True)
        text = re.sub(r"[ \t]+\n", "\n", chosen.get_help(inner)).strip()
        parts.append(f"## lamina {name}".rstrip() + f"\n\n```\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

"""Pieces of pages: tables that scroll, and text in which nothing is markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(head: Iterable[object], rows: Iterable[Sequence[object]], words: Sequence[int] = (), rows_named: bool = False) -> str:
    top = "".join(
        f'<th scope="col"{" class=word" if place in words else ""}>{text(name)}</th>' if name else "<td></td>"
        for place, name in enumerate(head)
    )

    def cell(place: int, value: object) -> str:
        if rows_named and place == 0:
            return f'<th scope="row">{text(value)}</th>'
        return f'<td class="word">{text(value)}</td>' if place in words else f"<td>{text(value)}</td>"

    body = "".join(f"<tr>{''.join(cell(place, value) for place, value in enumerate(row))}</tr>" for row in rows)
    return scrolling(f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", " and ".join(str(name) for name in head if name))


def scrolling(table: str, words: str) -> str:
    """A table that may be wider than a phone: reachable and named for those who scroll by keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape("Table: " + words, quote=True)}">{table}</div>'


def text(value: object) -> str:
    return escape(str(value).encode("utf-8", "backslashreplace").decode())

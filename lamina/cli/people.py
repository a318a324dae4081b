"""Who is it?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from lamina.cli.parts import (
    FalseAccept,
    Json,
    KeyFile,
    ModelPath,
    StoreFolder,
    app,
    open_model,
    screen_for,
    show_found,
)
from lamina.errors import NotAccepted
from lamina.tell import tell_decision, tell_enrollment, tell_people

if TYPE_CHECKING:
    from lamina.people import Decision


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
    found = open_model(model, {}).people(store, key).enroll(name, files, false_accept)
    show_found(dataclasses.asdict(found), json_, tell_enrollment, screen_for(json_))


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
    found = open_model(model, {}).people(store, key, create=False).verify(name, file, false_accept)
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
    found = open_model(model, {}).people(store, key, create=False).identify(file, false_accept)
    _decided(found, json_)


def _decided(found: Decision, json_: bool) -> None:
    """Told, and as the exit code."""
    show_found(dataclasses.asdict(found), json_, tell_decision, screen_for(json_))
    if not found.accepted:
        raise typer.Exit(NotAccepted.exit_code)


@app.command()
def people(model: ModelPath, store: StoreFolder = "", key: KeyFile = "", json_: Json = False) -> None:
    """List the people who are enrolled with MODEL."""
    show_found({"people": open_model(model, {}).people(store, key, create=False).listed()}, json_, tell_people, screen_for(json_))


@app.command()
def revoke(
    model: ModelPath,
    name: Annotated[str, typer.Argument(help="Who is to be forgotten.")],
    store: StoreFolder = "",
    key: KeyFile = "",
    json_: Json = False,
) -> None:
    """Forget NAME: no byte of the template stays in the store."""
    open_model(model, {}).people(store, key, create=False).revoke(name)
    show_found({"revoked": name}, json_, lambda found, screen: screen.say(f"{found['revoked']} is forgotten."), screen_for(json_))

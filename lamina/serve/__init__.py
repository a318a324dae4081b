"""Models served over HTTP: their answers, an API that OpenAI's clients speak, and pages for people. Reachable from this machine only,
unless a token is set."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lamina.errors import ResourceError, UsageError, sentence
from lamina.settings import Serving

if TYPE_CHECKING:
    from lamina.serve.service import Service

SERVE_EXTRA = "pip install 'lamina[serve]'"
SECONDS_TO_END = 10
"""After Ctrl-C, for what is under way."""


class Server:
    """Some models at one address. `run` listens until Ctrl-C, then answers what is under way and ends."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        serving: Serving | None = None,
        store: str = "",
        key: str = "",
        own: socket.socket | None = None,
    ) -> None:
        """`paths`: model files, and run folders that are watched. `store` and `key`: of the people enrolled, where one model tells people
        apart. `own`: a socket that listens already, in place of the address of `serving`.

        Raises UsageError, ModelFileError, ResourceError.
        """
        try:
            from lamina.serve.app import make_app
            from lamina.serve.connection import Connection
            from lamina.serve.watched import Watched
        except ImportError as error:
            raise UsageError(sentence("`lamina serve`", "find its libraries", str(error), f"Run: {SERVE_EXTRA}")) from error
        serving = serving or Serving()
        token = serving.token or os.environ.get("LAMINA_TOKEN", "")
        if not token and not is_loopback(serving.host):
            told = "Give --token, or listen at 127.0.0.1."
            raise UsageError(sentence("--host", "be this machine's own address where no token is set", serving.host, told))
        self.serving, self.store, self.key = replace(serving, token=token), store, key
        given = serving.admin_token or os.environ.get("LAMINA_ADMIN_TOKEN", "")
        self.admin_token, self.made_token = given or secrets.token_urlsafe(18), not given
        self.socket = own or listening(serving.host, serving.port)
        self.services: list[Service] = []
        self.watched: list[Watched] = []
        for path in paths:
            made: Watched | Service = Watched(path) if Path(path).is_dir() else self._service(Path(path).stem, path)
            if made.name in self.names:
                raise UsageError(sentence("The models", "have different names", f"{made.name} twice", "Rename a file."))
            self.watched.append(made) if isinstance(made, Watched) else self.services.append(made)
        port = self.socket.getsockname()[1]
        self.address = f"http://{f'[{serving.host}]' if ':' in serving.host else serving.host}:{port}"
        hosts = tuple(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")) if is_loopback(serving.host) else ()
        app = make_app(
            self.services, self.serving, self.admin_token, hosts, self.watched, lambda its: self._service(its.name, its.model)
        )  # fmt: skip
        self.server = self._listener(app, Connection)

    def _service(self, name: str, path: str | os.PathLike) -> Service:
        """Of a model file. Raises ModelFileError."""
        from lamina.model import load  # with PyTorch, which who only watches does without
        from lamina.outputs import IdentityOutput
        from lamina.serve.service import Service

        model = load(path)
        opens = (lambda: model.people(self.store, self.key)) if isinstance(model.output, IdentityOutput) else None
        return Service(name, model, self.serving, opens)

    def _listener(self, app: Any, protocol: Any) -> Any:
        """What listens for `app`, and lets go of those who watch once it is to end."""
        import uvicorn

        let_go = self._let_go

        class Ending(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                let_go()
                super().handle_exit(sig, frame)

        return Ending(uvicorn.Config(
            app, http=protocol, ws="none", log_level="warning", access_log=False, server_header=False, date_header=False,
            proxy_headers=False, timeout_graceful_shutdown=SECONDS_TO_END, timeout_keep_alive=int(max(5, min(60, self.serving.timeout))),
        ))  # fmt: skip

    @property
    def names(self) -> list[str]:
        """Of the models and the trainings."""
        return [*(service.name for service in self.services), *(each.name for each in self.watched)]

    def run(self) -> None:
        self.server.run(sockets=[self.socket])

    def stop(self) -> None:
        """From another thread."""
        self._let_go()
        self.server.should_exit = True

    def _let_go(self) -> None:
        """Those who listen to the events of a training would keep the server from ending."""
        for each in self.watched:
            each.closing = True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """Raises ResourceError where the address is taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, so that asyncio sends without waiting (TCP_NODELAY)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(2048)
    except OSError as error:
        raise ResourceError(
            sentence(f"{host}:{port}", "be free to listen at", str(error), "Take another --port; 0 takes a free one.")
        ) from error
    return made


__all__ = ["Server", "is_loopback", "listening"]

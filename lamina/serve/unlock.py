"""A page on this machine that enrolls, unlocks and refuses, with its camera or its microphone. Reachable from this machine only."""

from __future__ import annotations

import dataclasses
import http.server
import json
import re
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lamina.errors import LaminaError, ResourceError, UsageError, sentence
from lamina.people import People
from lamina.people.people import WARNING
from lamina.screen import one_in

LOOPBACK = "127.0.0.1"
LARGEST_BODY = 20_000_000
PAGE = Path(__file__).with_name("unlock.html")
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data: blob:; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Unlock(http.server.HTTPServer):
    """One request after the other; each with the secret of this start, or it is refused."""

    def __init__(self, people: People, port: int = 0, false_accept: float | None = None) -> None:
        """`port` 0 takes a free one. Raises ResourceError when it is taken, DataError for a rate that the people held out do not
        support."""
        self.people, self.false_accept = people, false_accept
        self.opening = people.opening(false_accept)
        self.secret = secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, port), _Answers)
        except (OSError, OverflowError) as error:
            raise ResourceError(sentence("--port", "be free", f"{port} ({error})", "Leave it out to take a free one.")) from error

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}/?secret={self.secret}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no error of ours."""


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Unlock
    server_version, sys_version = "lamina", ""
    timeout = 20

    def do_GET(self) -> None:
        if not self._allowed():
            return
        path = urlsplit(self.path).path
        if path == "/":
            nonce, opening = secrets.token_urlsafe(12), self.server.opening
            told = {
                "sense": self.server.people.model.input.kind,
                "secret": self.server.secret,
                "rate": f"about {one_in(opening.rate)} strangers would be let in, at most {one_in(opening.bound)} (99 %)",
                "warning": WARNING,
            }
            page = PAGE.read_text("utf-8").replace("NONCE", nonce).replace("FACTS", json.dumps(told).replace("<", "\\u003c"))
            self._send(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", POLICY.format(nonce=nonce))
        elif path == "/people":
            self._told({"people": self.server.people.listed()})
        else:
            self._refused(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        if not self._allowed(writes=True):
            return
        address, length = urlsplit(self.path), self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return self._refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body is at most {LARGEST_BODY / 1e6:.0f} MB")
        body = self.rfile.read(int(length))
        name = parse_qs(address.query).get("name", [""])[0].strip()
        people, rate = self.server.people, self.server.false_accept
        try:
            if address.path == "/enroll":
                found = dataclasses.asdict(people.enroll(name, _parts(body), rate))
            elif address.path == "/verify":
                found = dataclasses.asdict(people.verify(name, body, rate))
            elif address.path == "/identify":
                found = dataclasses.asdict(people.identify(body, rate))
            elif address.path == "/revoke":
                people.revoke(name)
                found = {"revoked": name}
            else:
                return self._refused(HTTPStatus.NOT_FOUND, "no such page")
        except LaminaError as error:
            return self._refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        return self._told(found)

    def _allowed(self, writes: bool = False) -> bool:
        """From this very page only: the right host (or a name that leads here could ask), the secret, and no other page's script."""
        host = f"{LOOPBACK}:{self.server.server_address[1]}"
        given = self.headers.get("X-Secret") or parse_qs(urlsplit(self.path).query).get("secret", [""])[0]
        origin = self.headers.get("Origin")
        good = self.headers.get("Host") == host and secrets.compare_digest(given.encode(), self.server.secret.encode())
        if good and (origin in (None, f"http://{host}")) and not (writes and not self.headers.get("X-Secret")):
            return True
        self._refused(HTTPStatus.FORBIDDEN, "open the address that `lamina unlock` printed")
        return False

    def _told(self, found: dict[str, Any]) -> None:
        self._send(HTTPStatus.OK, json.dumps(found).encode(), "application/json")

    def _refused(self, status: HTTPStatus, why: str) -> None:
        self._send(status, json.dumps({"error": why}).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Connection": "close",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is written down but what the store's own log has."""


def _parts(body: bytes) -> list[bytes]:
    """Several pictures or recordings in one body: each after its length in eight hexadecimal digits. Raises UsageError."""
    found, at = [], 0
    while at < len(body):
        told = body[at : at + 8]
        size = int(told, 16) if re.fullmatch(rb"[0-9a-f]{8}", told) else 0
        if not 0 < size <= len(body) - at - 8:
            raise UsageError(sentence("The examples sent", "each follow their length", "something else"))
        found.append(body[at + 8 : at + 8 + size])
        at += 8 + size
    return found

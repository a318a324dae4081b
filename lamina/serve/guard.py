"""Who may ask, and how much: stands before every route. What it refuses is never read whole, decoded or computed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lamina.settings import Serving

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OPEN = ("/health", "/page", "/favicon.ico", "/")
"""What needs no token: nothing of a model is told there."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "cache-control": "no-store",
}
LARGEST_HEAD = 16_384
"""Bytes of a request's head: its address, and its headers."""
SECONDS_OF_DRAINING, TIMES_DRAINED = 2.0, 4
"""For how long, and how many times as much as is allowed, a refused body is still taken."""
STREAMS_LAST = 10
"""Times as long as an answer may take to begin."""
KINDS = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error", 429: "rate_limit_error",
    500: "server_error", 503: "overloaded_error",
}  # fmt: skip


def problem(status: int, message: str, parameter: str | None = None) -> dict[str, Any]:
    """The body of every refusal, in the form of OpenAI's errors."""
    return {"error": {"message": message, "type": KINDS.get(status, "invalid_request_error"), "param": parameter, "code": str(status)}}


class Refused(Exception):
    """A request that is not answered, with its HTTP status and one sentence."""

    def __init__(self, status: int, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.parameter = status, message, parameter


def head_too_large() -> Refused:
    return Refused(431, f"The head of a request must have at most {LARGEST_HEAD:,} bytes.")


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: Any, serving: Serving, hosts: tuple[str, ...], told: Callable[[str, str, int, float], None]) -> None:
        """`hosts`: what the Host header may be (empty: anything); `told` hears (method, route, status, seconds) of each answer."""
        self.app, self.serving, self.hosts, self.told = app, serving, hosts, told
        self.at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                return await self.app(scope, receive, send)
            return None
        begun, answered, body = time.perf_counter(), {"status": 0}, _Body(receive, self._most_bytes)

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False) and answered["status"] >= 400:
                await send({**message, "more_body": True})
                await body.drain(scope)
                message = {"type": "http.response.body", "body": b""}
            if message["type"] == "http.response.start":
                answered["status"] = message["status"]
                present = {name.lower() for name, _ in message.get("headers", [])}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in present]
                if message["status"] in (408, 413) or (message["status"] >= 400 and body.awaited(scope)):
                    more.append((b"connection", b"close"))  # a body that still comes would be taken for the next request
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        refused = self._refused(scope)
        self.at_once += refused is None
        try:
            if refused is not None:
                return await _answer(tell, refused)
            try:
                await self._within_time(scope, body, tell, answered)
            except Refused as error:
                if not answered["status"]:
                    await _answer(tell, error)
        finally:
            self.at_once -= refused is None
            route = "other" if answered["status"] == 404 else getattr(scope.get("route"), "path", "other")
            self.told(scope["method"], route, answered["status"], time.perf_counter() - begun)
        return None

    def _refused(self, scope: Scope) -> Refused | None:
        """Why a request is not even listened to, by its head alone."""
        if (
            len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
            > LARGEST_HEAD
        ):
            return head_too_large()
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts and host not in self.hosts:  # a name that leads here could be somebody else's
            return Refused(403, f"The host must be {self.hosts[0]}.")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
            return Refused(403, "Pages of other addresses may not ask.")
        path = scope["path"]
        is_open = path in OPEN or path.startswith("/page/")
        if self.serving.token and not is_open and not allowed(headers, self.serving.token, b"authorization"):
            return Refused(401, "A token is needed: Authorization: Bearer TOKEN.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return Refused(400, "Content-Length must be a number.")
        if int(length[:20]) > self._most_bytes or len(length) > 20:
            return self._too_large()
        if self.at_once >= self.serving.most_at_once and path != "/health":
            return Refused(503, f"{self.serving.most_at_once} requests are worked on already. Come again in a second.")
        return None

    async def _within_time(self, scope: Scope, body: _Body, tell: Send, answered: dict[str, int]) -> None:
        """The body counted as it comes, and the whole given up when it takes too long; a stream that has begun may go on, for a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.serving.timeout

        async def counted() -> Message:
            if body.whole:
                return await body.receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await body.next()
            except TimeoutError as error:
                raise Refused(408, f"A request must be sent within {self.serving.timeout:g} seconds.") from error
            if body.seen > self._most_bytes:
                raise self._too_large()
            return message

        async def begun(message: Message) -> None:
            if message["type"] == "http.response.start":
                limit.reschedule(deadline + STREAMS_LAST * self.serving.timeout)
            await tell(message)

        try:
            async with asyncio.timeout_at(deadline + 1) as limit:
                await self.app(scope, counted, begun)
        except TimeoutError as error:
            if not answered["status"]:
                raise Refused(503, f"No answer within {self.serving.timeout:g} seconds. Ask for less, or come again.") from error

    @property
    def _most_bytes(self) -> int:
        return int(self.serving.largest_body * 1e6)

    def _too_large(self) -> Refused:
        return Refused(413, f"A request must send at most {self.serving.largest_body:g} MB.")


class _Body:
    """What somebody sends, counted. What was refused is still taken, a while, and thrown away: a connection that is closed while its body
    comes is reset, and the sender would never read why."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive, self.most, self.seen, self.whole = receive, most, 0, False

    async def next(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def awaited(self, scope: Scope) -> bool:
        """Whether nothing was sent yet, and nothing will be: the sender waits for a word (Expect)."""
        return not self.seen and any(name.lower() == b"expect" for name, _ in scope["headers"])

    async def drain(self, scope: Scope) -> None:
        if self.awaited(scope):
            return
        end = time.monotonic() + SECONDS_OF_DRAINING
        with contextlib.suppress(TimeoutError):
            while not self.whole and self.seen < TIMES_DRAINED * self.most and (left := end - time.monotonic()) > 0:
                await asyncio.wait_for(self.next(), left)


def allowed(headers: dict[bytes, bytes], token: str, name: bytes) -> bool:
    """Whether the header shows the token, compared in constant time."""
    given = headers.get(name, b"")
    given = given[7:] if given[:7].lower() == b"bearer " else given if name != b"authorization" else b""
    return secrets.compare_digest(given, token.encode())


async def _answer(send: Send, error: Refused) -> None:
    body = json.dumps(problem(error.status, error.message, error.parameter)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", b"1")] * (error.status == 503) + [(b"www-authenticate", b"Bearer")] * (error.status == 401)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

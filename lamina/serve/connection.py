"""One connection, bounded where nobody counts: heads and trailers, those who send slowly, those who do not read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lamina.serve.guard import LARGEST_HEAD, Refused, head_too_large, problem

SECONDS_OF_HEAD = 10.0
"""From its first byte, or from the opening of the connection, to the end of the head."""
SECONDS_OF_READING = 30.0
"""For which what was answered may lie unread."""


class Connection(HttpToolsProtocol):
    """Closes where a head (or what follows the last chunk of a body) grows too large (431), a head is too slow (408), or what is sent is
    none of HTTP (400); and where answers are not read. A head that comes whole is weighed by the guard."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unknown = 0
        """Bytes since the last read that brought a part of a body, or the end of a head or of a message."""
        self.got_on = self.in_head = False
        self.late: asyncio.TimerHandle | None = None
        self.unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.late = self.loop.call_later(SECONDS_OF_HEAD, self.close_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.got_on = False
        super().data_received(data)
        self.unknown = 0 if self.got_on else self.unknown + len(data)
        if self.unknown > LARGEST_HEAD:
            self.close_with(head_too_large())
        elif self.late is None and not self._answers() and not self.transport.is_closing():
            self.late = self.loop.call_later(SECONDS_OF_HEAD, self.close_late)  # uvicorn has just stopped its own clock

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head = self.got_on = True

    def on_headers_complete(self) -> None:
        self.in_head, self.got_on = False, True
        bodies = (b"content-length", b"transfer-encoding")
        if self.parser.should_upgrade() and any(name in bodies and value != b"0" for name, value in self.headers):
            self.close_with(Refused(400, "A request with a body must be sent without Upgrade."))  # its body would be read as a request
            return
        self._in_time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.got_on = True
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.got_on = True
        if self.cycle is not None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._must_read()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_read()

    def send_400_response(self, msg: str) -> None:
        self.close_with(Refused(400, "This is not an HTTP request."))

    def close_late(self) -> None:
        self.late = None
        if self._answers():  # requests wait in line, and nothing more is taken
            self.late = self.loop.call_later(SECONDS_OF_HEAD, self.close_late)
        elif self.in_head:
            self.close_with(Refused(408, f"The head of a request must be sent within {SECONDS_OF_HEAD:g} seconds."))
        else:
            self.transport.close()

    def close_with(self, error: Refused) -> None:
        if self.transport.is_closing():
            return
        if not self._answers():  # else it would be written into the answer under way
            body = json.dumps(problem(error.status, error.message)).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self._must_read()
        self.transport.close()

    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _must_read(self) -> None:
        if self.unread is None:
            self.unread = self.loop.call_later(SECONDS_OF_READING, self.transport.abort)

    def _is_read(self) -> None:
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def _in_time(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None

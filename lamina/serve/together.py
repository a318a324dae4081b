"""Many who ask at once: their values are computed together in a process beside the server, their texts made in turns in a thread, so that a
model is never used twice at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lamina
from lamina.serve.guard import Refused
from lamina.serve.worker import HEAD, READY, Job, Told, framed, packed
from lamina.settings import Serving

SECONDS_TO_BEGIN, SECONDS_TO_END = 120.0, 5.0
SECRETS = ("LAMINA_TOKEN", "LAMINA_ADMIN_TOKEN")
"""Are not for the process that reads what strangers send."""
WORKER = ("-P", "-m", "lamina.serve.worker")
LAMINA = str(Path(lamina.__file__).parents[1])
LANES = 8
"""Frames under way: what they hold is read while others are computed, then computed together."""
LARGEST_BATCH = 16_000_000
"""Bytes after which a batch takes no more."""
LIMITS = ("most_pixels", "most_seconds", "batch")
"""Of the settings, those that the process keeps to."""


class Ended(Exception):
    """The process ended, or had to be ended, before it answered."""


class _Asked(NamedTuple):
    job: Job
    future: asyncio.Future


class Together:
    """One queue before one process that reads and answers (lamina.serve.worker): what lies there when it is free is answered together.
    Nobody waits for others to come. A value that ends the process is refused, and another process begun."""

    def __init__(self, path: str | os.PathLike, serving: Serving, told: Callable[[int], None] = lambda count: None) -> None:
        """`path`: of the model; `told` hears how many values were computed together."""
        self.path, self.serving, self.told = os.fspath(path), serving, told
        self.waiting: deque[_Asked] = deque()
        self.some = asyncio.Event()
        self.process: subprocess.Popen | None = None
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.lanes: list[asyncio.Task] = []
        self.beginning, self.replies, self.alone = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    async def begin(self) -> None:
        """Until the process is there. Where it cannot be begun, those who ask are told."""
        self.lanes = [asyncio.create_task(self._work()) for _ in range(LANES)]
        self.waiting.append(_Asked((), there := asyncio.get_running_loop().create_future()))
        self.some.set()
        await there

    async def ask(self, *job: Any) -> Told:
        """(status, the answer to one job as JSON or why there is none)."""
        if not self.lanes:
            await self.begin()
        asked = _Asked(job, asyncio.get_running_loop().create_future())
        self.waiting.append(asked)
        self.some.set()
        return await asked.future

    async def stop(self) -> None:
        for lane in self.lanes:
            lane.cancel()
        await self._ended(kindly=True)

    async def _work(self) -> None:
        while True:
            await self.some.wait()
            self.some.clear()
            while self.waiting:
                batch: list[_Asked] = []
                size = 0
                while self.waiting and len(batch) < self.serving.batch and size < LARGEST_BATCH:
                    if not (one := self.waiting.popleft()).future.cancelled():  # who went away is not computed
                        batch.append(one)
                        size += sum(len(part) for part in one.job if isinstance(part, (bytes, str)))
                for one, its in zip(batch, await self._answers(batch), strict=True):
                    if not one.future.done():
                        one.future.set_result(its)

    async def _answers(self, batch: list[_Asked]) -> list[Told]:
        try:
            return await self._sent(batch)
        except Refused as error:
            return [(error.status, error.message)] * len(batch)
        except Ended:
            async with self.alone:  # the others are not to suffer for one of them
                return [await self._alone(one) for one in batch]
        except Exception as error:  # whatever it is, who asked is told and the next are answered
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            await self._ended()
            return [(500, "The process that answers failed.")] * len(batch)

    async def _alone(self, one: _Asked) -> Told:
        if one.future.done():
            return 503, "Nobody waits for it any more."
        try:
            return (await self._sent([one], alone=True))[0]
        except Refused as error:
            return error.status, error.message
        except Ended:
            return 422, "This value ended the process that was to read it, or took too long."

    async def _sent(self, batch: list[_Asked], alone: bool = False) -> list[Told]:
        """Raises Refused where no process can be begun, Ended where it ended before it answered."""
        while not alone and self.alone.locked():
            async with self.alone:
                pass
        async with self.beginning:
            streams = self.streams or await self._begun()
        if not (jobs := [one.job for one in batch if one.job]):
            return [(200, "")] * len(batch)
        try:
            streams[1].write(framed(packed(jobs)))
            async with self.replies:  # they come in the order in which was sent
                if self.streams is not streams:
                    raise ConnectionError
                async with asyncio.timeout(self.serving.timeout + SECONDS_TO_END):
                    count, told = json.loads(await _frame(streams[0]))
            if count:
                self.told(count)
            found = iter(told)
            return [tuple(next(found)) if one.job else (200, "") for one in batch]
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            if self.streams is streams:
                await self._ended()
            raise Ended from error

    async def _begun(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises Refused where it cannot be begun."""
        own, its = socket.socketpair()
        limits = json.dumps({name: getattr(self.serving, name) for name in LIMITS})
        command = [sys.executable, *WORKER, self.path, str(its.fileno()), limits]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
        environment["PYTHONPATH"] = os.pathsep.join([LAMINA, *filter(None, [environment.get("PYTHONPATH")])])
        with its:
            self.process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, env=environment)
        try:
            self.streams = await asyncio.open_unix_connection(sock=own)
            async with asyncio.timeout(SECONDS_TO_BEGIN):
                if await _frame(self.streams[0]) == READY:
                    return self.streams
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        await self._ended()
        raise Refused(503, "The process that answers could not be begun. Come again.")

    async def _ended(self, kindly: bool = False) -> None:
        """The process ends when nobody holds the other end, or at once."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None
        if self.process is not None:
            if not kindly:
                self.process.kill()
            process, self.process = self.process, None
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.get_running_loop().run_in_executor(None, lambda: process.wait(SECONDS_TO_END))
                return
            process.kill()
            process.wait()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(HEAD.unpack(await reader.readexactly(HEAD.size))[0])


class InTurns:
    """Texts that go on side by side: each gets its next piece in turn, so that the first words of a new one do not wait for the end of
    another."""

    def __init__(self) -> None:
        self.running: deque[tuple[Callable[[], Iterator[Any]] | Iterator[Any], Callable[[Any], None], threading.Event]] = deque()
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    async def pieces(self, begin: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
        """What the iterator that `begin` makes gives, piece by piece; leaving early ends it. Raises what it raises."""
        loop, gone = asyncio.get_running_loop(), threading.Event()
        told: asyncio.Queue[Any] = asyncio.Queue()

        def tell(piece: Any) -> None:
            try:
                loop.call_soon_threadsafe(told.put_nowait, piece)
            except RuntimeError:
                gone.set()

        with self.changed:
            self.running.append((begin, tell, gone))
            self.changed.notify()
        try:
            while (piece := await told.get()) is not StopIteration:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            gone.set()

    def stop(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify()
        self.thread.join()

    def _work(self) -> None:
        while True:
            with self.changed:
                while not self.running and not self.ended:
                    self.changed.wait()
                if self.ended:
                    return
                one, tell, gone = self.running.popleft()
            if gone.is_set():
                continue
            try:
                one = one() if callable(one) else one
                tell(next(one))
            except StopIteration:
                tell(StopIteration)
                continue
            except Exception as error:
                tell(error)
                continue
            with self.changed:
                self.running.append((one, tell, gone))

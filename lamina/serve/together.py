"""Many who ask at once: their values are computed together, their texts made in turns. One thread each, so that a model is never used twice
at a time."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple


class _Asked(NamedTuple):
    value: Any
    future: asyncio.Future
    loop: asyncio.AbstractEventLoop


class Together:
    """One queue before one function: what waits when it is free is answered together. Nobody waits for others to come."""

    def __init__(self, answer: Callable[[list[Any]], Sequence[Any]], most: int, told: Callable[[int], None] = lambda count: None) -> None:
        """`answer` takes values and gives as many answers; `most` at once; `told` hears how many were answered together."""
        self.answer, self.most, self.told = answer, most, told
        self.waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    async def ask(self, value: Any) -> Any:
        """The answer to one value; raises what `answer` raised for it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future = loop.create_future()
        self.waiting.put(_Asked(value, future, loop))
        return await future

    def stop(self) -> None:
        """After what waits now."""
        self.waiting.put(None)
        self.thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self.waiting.get()]
            while len(batch) < self.most and batch[-1] is not None:
                try:
                    batch.append(self.waiting.get_nowait())
                except queue.Empty:
                    break
            ended = batch[-1] is None
            wanted = [one for one in batch if one is not None and not one.future.cancelled()]  # who went away is not computed
            if wanted:
                self._answer(wanted)

    def _answer(self, asked: list[_Asked]) -> None:
        try:
            found = self.answer([one.value for one in asked])
        except Exception as error:
            if len(asked) > 1:  # the others are not to suffer for one of them
                for one in asked:
                    self._answer([one])
                return
            self._settle(asked[0], None, error)
            return
        self.told(len(asked))
        for one, its in zip(asked, found, strict=True):
            self._settle(one, its, None)

    @staticmethod
    def _settle(one: _Asked, found: Any, error: Exception | None) -> None:
        def settle() -> None:
            if not one.future.done():
                one.future.set_exception(error) if error is not None else one.future.set_result(found)

        with contextlib.suppress(RuntimeError):  # the loop has ended
            one.loop.call_soon_threadsafe(settle)


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

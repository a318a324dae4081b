"""A process that reads what was sent to one model, and answers it: `python -m lamina.serve.worker MODEL SOCKET LIMITS`.

What breaks a decoder ends this process, not the server; and neither has to wait for the other's turn in the interpreter. Frames of eight
bytes of length and their content go both ways: jobs here; back, for each frame, the JSON of how many values were computed together with its
own (0 where another frame of them tells it) and a list of [status, answer].
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter

from lamina.errors import DataError, LaminaError
from lamina.explain import Followed, follow, open_unit
from lamina.inputs import VectorInput
from lamina.model import Model, load
from lamina.serve.guard import Refused
from lamina.serve.shapes import Prediction
from lamina.settings import Serving

HEAD = struct.Struct(">Q")
READY = b"ready"
SECONDS_OF_A_TURN = 1e-4
"""In the interpreter: computing asks for it hundreds of times a second, and would wait for what is read meanwhile as often."""
LARGE, READERS = 262_144, 4
"""Values of together so many bytes are decoded side by side."""

Job = tuple[Any, ...]
"""("answer", name, raw value), ("follow", raw value) or ("unit", raw value, layer, number)."""
Told = tuple[int, str]
"""An HTTP status, and the answer as JSON or why there is none."""
Read = tuple[str, Any, Told | None]
"""The name, the value and None; or why there is no value."""
Ahead = tuple[list[Job], list[Read]]
"""Jobs, and those of their values that are to be answered."""


@dataclass(frozen=True)
class Through:
    """A value that was followed through a network."""

    shown: str
    """What the network read of it, as a picture or a sound to be put into a page."""
    answer: str | None
    layers: list[Followed]


def framed(content: bytes) -> bytes:
    return HEAD.pack(len(content)) + content


def packed(jobs: Sequence[Job]) -> bytes:
    """The length of a JSON list of jobs, the list, and the bytes that stand in it as their count: each part is [whether bytes, part]."""
    told = [[[True, len(part)] if isinstance(part, bytes) else [False, part] for part in job] for job in jobs]
    content = json.dumps(told).encode()
    return b"".join([HEAD.pack(len(content)), content, *(part for job in jobs for part in job if isinstance(part, bytes))])


def unpacked(content: bytes) -> list[Job]:
    at = HEAD.size + HEAD.unpack(content[: HEAD.size])[0]
    jobs = []
    for told in json.loads(content[HEAD.size : at]):
        parts = []
        for is_bytes, part in told:
            parts.append(content[at : at + part] if is_bytes else part)
            at += part if is_bytes else 0
        jobs.append(tuple(parts))
    return jobs


class Reader:
    """Raw values into what the network takes, limits kept."""

    def __init__(self, model: Model, serving: Serving) -> None:
        self.input, self.serving = model.input, serving

    def read(self, raw: Any) -> Any:
        """Of bytes of a file, a text, or a row as a dict. Raises Refused, DataError."""
        if isinstance(raw, bytes):
            self.weigh(raw)
        if isinstance(self.input, VectorInput):
            return self.input.read(self.input.rows([raw])[0][1])  # type: ignore[index]
        return self.input.read(raw)

    def weigh(self, raw: bytes) -> None:
        """Refuses what is larger than the limits, by its head alone. Raises Refused, DataError."""
        unit, amount = self.input.extent(raw)
        most = {"pixels": self.serving.most_pixels, "seconds": self.serving.most_seconds}.get(unit, float("inf"))
        if amount > most:
            shown = f"{amount:,.0f}" if amount < float("inf") else "far more"
            raise Refused(413, f"A value must have at most {most:,.0f} {unit}, got {shown}.")


class Answerer:
    """All that the process does."""

    def __init__(self, model: Model, serving: Serving) -> None:
        self.model, self.reader = model, Reader(model, serving)
        self.pool = ThreadPoolExecutor(READERS)
        self.threads = torch.get_num_threads()

    def read(self, jobs: Sequence[Job]) -> list[Read]:
        """The values that are to be answered."""
        asked = [job[1:] for job in jobs if job[0] == "answer"]
        large = sum(len(raw) for _, raw in asked if isinstance(raw, bytes)) > LARGE
        return list((self.pool.map if large else map)(self._read, asked))

    def done(self, jobs: Sequence[Job], read: Sequence[Read]) -> list[Told]:
        """Values that were read are computed together, what looks inside one by one. One has all cores; many leave one to the server."""
        torch.set_num_threads(self.threads if len(jobs) == 1 else max(1, self.threads - 1))
        found = iter(self._computed([(name, value) for name, value, told in read if told is None]))
        answers = iter([next(found) if told is None else told for _, _, told in read])
        return [next(answers) if job[0] == "answer" else self._looked(*job) for job in jobs]

    def _looked(self, kind: str, raw: Any, *unit: Any) -> Told:
        try:
            window = self.model.input.windows(self.reader.read(raw))[0]
            batch = self.model.batch_of([window])
            if kind == "unit":
                return 200, json_of(open_unit(self.model.network, batch.x, batch.context, *unit))
            layers = follow(self.model.network, batch.x, batch.context)
            told = not (self.model.output.measured or self.model.output.together)
            label = next(iter(self.model.answers_of([self.reader.read(raw)]))).label if told else None
            return 200, json_of(Through(self.model.input.shown(window), label, layers))
        except Refused as error:
            return error.status, error.message
        except LaminaError as error:
            return 422, str(error)
        except Exception as error:
            return failed(error)

    def _read(self, one: tuple[str, Any]) -> Read:
        name, raw = one
        try:
            return name, self.reader.read(raw), None
        except Refused as error:
            return name, None, (error.status, error.message)
        except DataError as error:
            return name, None, (200, Prediction(file=name, error=str(error)).model_dump_json())

    def _computed(self, values: Sequence[tuple[str, Any]]) -> list[Told]:
        """Of (name, value) each."""
        try:
            answers = self.model.answers_of([value for _, value in values])
            return [(200, Prediction.told(name, its).model_dump_json()) for (name, _), its in zip(values, answers, strict=True)]
        except Exception as error:
            if len(values) > 1:  # the others are not to suffer for one of them
                return [told for value in values for told in self._computed([value])]
            if isinstance(error, LaminaError):
                return [(422, str(error))]
            return [failed(error)]


def failed(error: Exception) -> Told:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return 500, "The model could not answer this value."


def json_of(value: Any) -> str:
    """Of a dataclass."""
    return TypeAdapter(type(value)).dump_json(value).decode()


def main(path: str, handle: str, limits: str) -> None:
    for asked in (signal.SIGINT, signal.SIGTERM):  # what is under way is answered; the server ends this process
        signal.signal(asked, signal.SIG_IGN)
    with socket.socket(fileno=int(handle)) as own, own.makefile("rwb") as stream:
        serving = Serving(**json.loads(limits))
        answerer = Answerer(load(path), serving)
        sys.setswitchinterval(SECONDS_OF_A_TURN)

        def next_jobs() -> Ahead | None:
            if len(head := stream.read(HEAD.size)) < HEAD.size:
                return None
            jobs = unpacked(stream.read(HEAD.unpack(head)[0]))
            return jobs, answerer.read(jobs)

        with contextlib.suppress(BrokenPipeError):
            _send(stream, READY)
            for group in grouped(next_jobs, serving.batch):
                told = iter(answerer.done([job for jobs, _ in group for job in jobs], [each for _, read in group for each in read]))
                for place, (jobs, _) in enumerate(group):
                    count = sum(len(its) for its, _ in group) if not place else 0
                    _send(stream, json.dumps([count, [next(told) for _ in jobs]]).encode())


def grouped(take: Callable[[], Ahead | None], most: int) -> Iterator[list[Ahead]]:
    """What `take` gives until None, taken in a thread while others are worked on; what lies ready is given together, about `most` jobs."""
    ready: queue.SimpleQueue[Ahead | Exception | None] = queue.SimpleQueue()

    def reading() -> None:
        try:
            while (one := take()) is not None:
                ready.put(one)
            ready.put(None)
        except Exception as error:
            ready.put(error)

    threading.Thread(target=reading, daemon=True).start()
    while True:
        group: list[Ahead] = []
        while not group or (sum(len(jobs) for jobs, _ in group) < most and not ready.empty()):
            come = ready.get()
            if isinstance(come, Exception):
                raise come
            if come is None:
                if group:
                    yield group
                return
            group.append(come)
        yield group


def _send(stream: Any, content: bytes) -> None:
    stream.write(framed(content))
    stream.flush()


if __name__ == "__main__":
    main(*sys.argv[1:4])

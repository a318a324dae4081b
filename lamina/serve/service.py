"""What one served model can be asked, limits kept: values are read beside one another, computed together, texts made in turns."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.errors import DataError, LaminaError, UsageError
from lamina.explain import follow, open_unit
from lamina.inputs import HistoryInput, TextInput, VectorInput
from lamina.model import Model, Prediction
from lamina.outputs import IdentityOutput, ItemsOutput, NextOutput
from lamina.report import run_of
from lamina.serve.guard import Refused
from lamina.serve.together import InTurns, Together
from lamina.settings import Sampling, Serving

if TYPE_CHECKING:
    from lamina.generation import Piece
    from lamina.people import People
    from lamina.recommending import Recommendation

READERS = 4
"""Values that are decoded at a time."""
MOST_VALUES = 1_000
"""Values of one request."""
MOST_LISTED = 1_000


class Service:
    """A model that is asked by many. Everything that computes runs in threads of its own, never in the loop that listens."""

    def __init__(
        self,
        name: str,
        model: Model,
        serving: Serving,
        people: Callable[[], People] | None = None,
        told: Callable[[str, int], None] = lambda name, count: None,
    ) -> None:
        """`people` opens those enrolled with a model of people; `told` hears how many values of the model were computed together."""
        self.name, self.model, self.serving, self.open_people = name, model, serving, people
        self.people: People | None = None
        self.apart = ThreadPoolExecutor(1)  # a store of people belongs to one thread
        self.readers = ThreadPoolExecutor(READERS)
        self.together = Together(self._answered, serving.batch, lambda count: told(name, count))
        self.turns = InTurns()

    def stop(self) -> None:
        self.together.stop()
        self.turns.stop()
        for pool in (self.apart, self.readers):
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def actions(self) -> list[str]:
        """What it can be asked."""
        output = self.model.output
        if isinstance(output, IdentityOutput):
            return ["verify", "identify", "enroll"]
        if isinstance(output, ItemsOutput):
            return ["recommend"]
        if isinstance(output, NextOutput):
            return ["generate", *(["chat"] if isinstance(self.model.input, TextInput) and self.model.input.talks else [])]
        return ["transcribe" if self.model.task == "transcribe" else "predict"]

    def check(self, *actions: str) -> None:
        """Raises Refused where the model can do none of them."""
        if not set(actions) & set(self.actions):
            raise Refused(404, f"The model {self.name} does {', '.join(self.actions)}, not {actions[0]}.")

    # ------------------------------------------------------------ values

    async def predict(self, raws: Sequence[tuple[str, Any]]) -> list[Prediction]:
        """The answer to each (name, raw value): bytes of a file, a text, or a row as a dict."""
        if not 1 <= len(raws) <= MOST_VALUES:
            raise Refused(422, f"A request must hold 1 to {MOST_VALUES} values, got {len(raws)}.")
        return list(await asyncio.gather(*(self._one(name, raw) for name, raw in raws)))

    async def _one(self, name: str, raw: Any) -> Prediction:
        try:
            value = await asyncio.get_running_loop().run_in_executor(self.readers, self._read, raw)
        except DataError as error:
            return Prediction(name, None, None, error=str(error))
        return Prediction.of(name, await self.together.ask(value))

    def _read(self, raw: Any) -> Any:
        if isinstance(raw, bytes):
            self.weigh(raw)
        if isinstance(self.model.input, VectorInput):
            return self.model.input.read(self.model.input.rows([raw])[0][1])  # type: ignore[index]
        return self.model.input.read(raw)

    def weigh(self, raw: bytes) -> None:
        """Refuses what is larger than the limits, by its head alone. Raises Refused, DataError."""
        unit, amount = self.model.input.extent(raw)
        most = {"pixels": self.serving.most_pixels, "seconds": self.serving.most_seconds}.get(unit, float("inf"))
        if amount > most:
            raise Refused(
                413, f"A value must have at most {most:,.0f} {unit}, got {f'{amount:,.0f}' if amount < float('inf') else 'far more'}."
            )

    def _answered(self, values: list[Any]) -> list[Any]:
        return list(self.model.answers_of(values))

    # ------------------------------------------------------------ looking inside

    async def follow(self, raw: Any) -> dict[str, Any]:
        """{shown, answer, layers}: what each layer makes of a value. Raises DataError where it cannot be read."""

        def run() -> dict[str, Any]:
            value = self._read(raw)
            window = self.model.input.windows(value)[0]
            batch = self.model.batch_of([window])
            layers = [dataclasses.asdict(each) for each in follow(self.model.network, batch.x, batch.context)]
            answer = None if self.model.output.measured or self.model.output.together else self.model.output
            label = next(iter(self.model.answers_of([value]))).label if answer is not None else None
            return {"shown": self.model.input.shown(window), "answer": label, "layers": layers}

        return dict(await asyncio.get_running_loop().run_in_executor(self.apart, run))

    async def unit(self, layer: str, number: int, raw: Any) -> dict[str, Any]:
        """One artificial neuron for a value (lamina.explain.open_unit)."""

        def run() -> dict[str, Any]:
            batch = self.model.batch_of([self.model.input.windows(self._read(raw))[0]])
            return dataclasses.asdict(open_unit(self.model.network, batch.x, batch.context, layer, number))

        return dict(await asyncio.get_running_loop().run_in_executor(self.apart, run))

    @property
    def report(self) -> Path | None:
        """The report of its training, where its run folder is there."""
        run = run_of(self.model.card) if self.model.card else None
        return run / "report.html" if run and (run / "report.html").exists() else None

    # ------------------------------------------------------------ people, choices

    async def of_people(self, work: Callable[[People], Any]) -> Any:
        """Something done with those enrolled."""

        def run() -> Any:
            assert self.open_people is not None
            self.people = self.people or self.open_people()
            return work(self.people)

        return await asyncio.get_running_loop().run_in_executor(self.apart, run)

    def titles(self, like: str, most: int) -> list[str]:
        """Titles of items that begin with `like`, then those that hold it, whatever the case."""
        input, wanted = self.model.input, like.strip().casefold()
        assert isinstance(input, HistoryInput)
        known = [(title, title.casefold()) for title in input.titles or input.items]
        begin = [title for title, folded in known if folded.startswith(wanted)]
        return (begin + [title for title, folded in known if wanted in folded and not folded.startswith(wanted)])[:most]

    async def recommend(self, **asked: Any) -> list[Recommendation]:
        """See lamina.recommending.recommend."""
        return list(await asyncio.get_running_loop().run_in_executor(self.apart, lambda: self.model.recommend(**asked)))

    # ------------------------------------------------------------ texts

    def sampling(self, **wanted: Any) -> Sampling:
        """Raises Refused for what is outside of its limits."""
        if wanted.get("tokens", 1) > self.serving.most_tokens:
            raise Refused(422, f"At most {self.serving.most_tokens} tokens are made for one request.", "max_tokens")
        try:
            return Sampling(**wanted)
        except UsageError as error:
            raise Refused(422, str(error)) from error

    def generated(self, prompt: str, sampling: Sampling) -> AsyncIterator[Piece]:
        return self.turns.pieces(lambda: self._stream(prompt, sampling))

    def replied(self, turns: Sequence[tuple[str, str]], sampling: Sampling) -> AsyncIterator[Piece]:
        return self.turns.pieces(lambda: self.model.chat(turns, **dataclasses.asdict(sampling)))

    def _stream(self, prompt: str, sampling: Sampling) -> Iterator[Piece]:
        return self.model.stream([prompt], **dataclasses.asdict(sampling))


def hidden(error: LaminaError, services: Sequence[Service]) -> str:
    """The sentence of an error without any path of this machine."""
    told = str(error)
    for service in services:
        places = [Path(service.model.path)] if service.model.path else []
        if service.people is not None:
            places.append(Path(service.people.store.folder))
        for place in places:
            for path in (place.resolve(), place.absolute(), place):
                for shown in (path, path.parent):
                    if len(str(shown)) > 1:
                        told = told.replace(str(shown), shown.name or service.name)
    return told

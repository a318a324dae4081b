"""What one served model can be asked, limits kept: values are computed together in a process of their own, texts made in turns."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.errors import DataError, LaminaError, UsageError, sentence
from lamina.inputs import HistoryInput, TextInput
from lamina.model import Model
from lamina.outputs import IdentityOutput, ItemsOutput, NextOutput
from lamina.report import run_of
from lamina.report.page import LAYERS
from lamina.serve.guard import Refused
from lamina.serve.together import InTurns, Together
from lamina.serve.worker import Reader, Told
from lamina.settings import Sampling, Serving

if TYPE_CHECKING:
    from lamina.generation import Piece
    from lamina.people import People
    from lamina.recommending import Recommendation

MOST_VALUES = 1_000
"""Values of one request."""
MOST_LISTED = 1_000


class Service:
    """A model that is asked by many. Nothing computes in the loop that listens."""

    def __init__(
        self,
        name: str,
        model: Model,
        serving: Serving,
        people: Callable[[], People] | None = None,
    ) -> None:
        """`people` opens those enrolled with a model of people."""
        self.name, self.model, self.serving, self.open_people = name, model, serving, people
        self.people: People | None = None
        self.apart = ThreadPoolExecutor(1)  # a store of people belongs to one thread
        self.reader = Reader(model, serving)
        self.together = Together(model.path, serving)
        self.turns = InTurns()

    async def begin(self) -> None:
        """Until the first to ask need not wait longer than others: the process is there, a first token made. Other models begin a process
        once somebody looks inside."""
        if {"predict", "transcribe"} & set(self.actions):
            await self.together.begin()
        if "generate" in self.actions:
            with contextlib.suppress(LaminaError):  # whoever asks is told
                async for _ in self.generated(" ", Sampling(tokens=1)):
                    pass

    async def stop(self) -> None:
        await self.together.stop()
        for stop in (self.turns.stop, lambda: self.apart.shutdown(wait=True, cancel_futures=True)):
            await asyncio.get_running_loop().run_in_executor(None, stop)

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

    async def predict(self, raws: Sequence[tuple[str, Any]]) -> str:
        """The answer to each (name, raw value), bytes of a file, a text, or a row as a dict, as the JSON of shapes.Predictions. Raises
        Refused."""
        if not 1 <= len(raws) <= MOST_VALUES:
            raise Refused(422, f"A request must hold 1 to {MOST_VALUES} values, got {len(raws)}.")
        asked = [self.together.ask("answer", *raw) for raw in raws]
        found = [self._told(each) for each in (await asyncio.gather(*asked) if len(asked) > 1 else [await asked[0]])]
        return f'{{"model":{json.dumps(self.name)},"predictions":[{",".join(found)}]}}'

    # ------------------------------------------------------------ looking inside

    async def follow(self, raw: Any) -> str:
        """What each layer makes of a value, as the JSON of lamina.serve.worker.Through. Raises Refused."""
        return self._told(await self.together.ask("follow", raw))

    async def unit(self, layer: str, number: int, raw: Any) -> str:
        """One artificial neuron for a value, as the JSON of lamina.explain.Unit. Raises Refused."""
        return self._told(await self.together.ask("unit", raw, layer, number))

    @staticmethod
    def _told(found: Told) -> str:
        if found[0] != 200:
            raise Refused(*found)
        return found[1]

    @property
    def report(self) -> Path | None:
        """The report of its training, where its run folder is there."""
        run = run_of(self.model.card) if self.model.card else None
        return run / "report.html" if run and (run / "report.html").exists() else None

    @property
    def atlas(self) -> Path | None:
        """What was found inside of it after its training, where it was looked for."""
        run = run_of(self.model.card) if self.model.card else None
        return run / LAYERS if run and (run / LAYERS).exists() else None

    def facts(self, file: Path) -> dict[str, Any]:
        """Of its run folder. Raises DataError where they cannot be read."""
        try:
            found = json.loads(file.read_text("utf-8", "surrogateescape"))
        except (OSError, ValueError) as error:
            raise DataError(sentence("The run folder", f"hold {file.name}", type(error).__name__)) from error
        return dict(found)

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

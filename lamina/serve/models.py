"""The routes that ask models. They load PyTorch: a server that only watches does without them (lamina.serve.app)."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute

from lamina.explain import Unit
from lamina.people.people import WARNING, Decision
from lamina.report.page import FACTS
from lamina.screen import one_in
from lamina.serve import shapes
from lamina.serve.app import Site, as_event, shaped
from lamina.serve.guard import Refused
from lamina.serve.service import Service
from lamina.serve.worker import Through

REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; script-src 'none'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)
FILE_KINDS = ("application/octet-stream", "image/*", "audio/*")


class Direct(APIRoute):
    """A route whose endpoint takes the request and the texts of its path, and makes the answer itself: nothing is left to be looked for in
    the request, or to be checked in the answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def answer(request: Request) -> Response:
            return await self.endpoint(request=request, **request.path_params)

        return answer


def add_routes(app: FastAPI, site: Site) -> None:
    """Everything that a model can be asked."""
    for add in (_add_answers, _add_inside, _add_people, _add_texts):
        add(app, site)
    app.openapi_schema = None  # it is made anew, with these


def _add_answers(app: FastAPI, site: Site) -> None:
    """Answers to values and histories."""

    async def predict(name: str, request: Request) -> Response:
        service = site.model(name, "predict", "transcribe")
        return Response(await service.predict(await _values(request)), media_type="application/json")

    async def transcribe(name: str, request: Request) -> Response:
        service = site.model(name, "transcribe")
        return Response(await service.predict(await _values(request)), media_type="application/json")

    for endpoint, summary, taken in (
        (predict, "What is it? How much is it?", shapes.VALUES),
        (transcribe, "What was said?", shapes.RECORDING),
    ):
        app.router.add_api_route(
            f"/models/{{name}}/{endpoint.__name__}", endpoint, methods=["POST"], route_class_override=Direct, summary=summary,
            openapi_extra=taken, response_model=shapes.Predictions,
        )  # fmt: skip

    @app.post("/models/{name}/recommend", summary="What would they choose next?", openapi_extra=shapes.body(shapes.RecommendRequest))
    async def recommend(name: str, request: Request) -> shapes.Recommendations:
        service, asked = site.model(name, "recommend"), await shaped(request, shapes.RecommendRequest)
        found = await service.recommend(items=asked.items, top=asked.top, exclude=asked.exclude, because=asked.because)
        return shapes.Recommendations(recommendations=[shapes.Recommended(**dataclasses.asdict(one)) for one in found])

    @app.get("/models/{name}/items", summary="Titles that begin so, or hold it")
    async def items(name: str, like: str = "") -> shapes.Titles:
        return shapes.Titles(titles=site.model(name, "recommend").titles(like, shapes.MOST_OFFERED))


def _add_inside(app: FastAPI, site: Site) -> None:
    """Looking inside."""

    @app.post("/models/{name}/follow", summary="A value followed through all layers", openapi_extra=shapes.VALUES, response_model=Through)
    async def followed(name: str, request: Request) -> Response:
        service, values = site.model(name), await _values(request)
        return Response(await service.follow(values[0][1]), media_type="application/json")

    @app.post(
        "/models/{name}/units/{layer}/{number}",
        summary="One artificial neuron for a value",
        openapi_extra=shapes.VALUES,
        response_model=Unit,
    )
    async def unit(name: str, layer: str, number: int, request: Request) -> Response:
        service, values = site.model(name), await _values(request)
        return Response(await service.unit(layer, number, values[0][1]), media_type="application/json")

    @app.get("/models/{name}/atlas", summary="What each layer sees and knows, as found after the training")
    async def atlas(name: str) -> shapes.Atlas:
        return shapes.Atlas.of(kept(name, lambda service: service.atlas))

    @app.get("/models/{name}/mistakes", summary="Test examples that were told wrong")
    async def mistakes(name: str) -> shapes.Mistakes:
        return shapes.Mistakes.of(kept(name, lambda service: service.report and service.report.with_name(FACTS)))

    def kept(name: str, where: Callable[[Service], Path | None]) -> dict[str, Any]:
        service = site.model(name)
        file = where(service) if site.hosts else None  # it shows training data: on this machine only
        if file is None:
            raise Refused(404, "That is not there.")
        return service.facts(file)

    @app.get("/models/{name}/report", include_in_schema=False)
    async def report(name: str) -> Response:
        file = site.model(name).report if site.hosts else None  # it shows training data: on this machine only
        if file is None:
            raise Refused(404, "The report is not there.")
        return FileResponse(file, media_type="text/html", headers={"content-security-policy": REPORT, "x-frame-options": "SAMEORIGIN"})


def _add_people(app: FastAPI, site: Site) -> None:
    """Who is enrolled, and who it is."""

    @app.get("/models/{name}/people", summary="Who is enrolled")
    async def people(name: str, request: Request) -> shapes.Enrolled:
        site.admin(request)
        listed, opening = await site.model(name, "verify").of_people(lambda its: (its.listed(), its.opening(None)))
        rate = f"About {one_in(opening.rate)} strangers would be let in, at most {one_in(opening.bound)} (99 %)."
        return shapes.Enrolled(people=listed, rate=rate, warning=WARNING)

    @app.post("/models/{name}/people/{person}", summary="Enroll, with the admin token", openapi_extra=shapes.FILES)
    async def enroll(name: str, person: str, request: Request) -> shapes.Enrollment:
        site.admin(request)
        service, files = site.model(name, "verify"), await _files(request)
        for _, content in files:
            service.reader.weigh(content)
        found = await service.of_people(lambda its: its.enroll(person, [content for _, content in files]))
        return shapes.Enrollment(
            name=found.name, examples=found.examples, taken=len(found.taken), refused=[why for _, why in found.refused]
        )

    @app.delete("/models/{name}/people/{person}", summary="Forget a person, with the admin token")
    async def revoke(name: str, person: str, request: Request) -> shapes.Revoked:
        site.admin(request)
        await site.model(name, "verify").of_people(lambda its: its.revoke(person))
        return shapes.Revoked(revoked=person)

    @app.post("/models/{name}/verify/{person}", summary="Is this that person?", openapi_extra=shapes.FILES)
    async def verify(name: str, person: str, request: Request) -> Decision:
        service, files = site.model(name, "verify"), await _files(request, most=1)
        service.reader.weigh(files[0][1])
        return await service.of_people(lambda its: its.verify(person, files[0][1]))

    @app.post("/models/{name}/identify", summary="Who of those enrolled is it?", openapi_extra=shapes.FILES)
    async def identify(name: str, request: Request) -> Decision:
        service, files = site.model(name, "verify"), await _files(request, most=1)
        service.reader.weigh(files[0][1])
        return await service.of_people(lambda its: its.identify(files[0][1]))


def _add_texts(app: FastAPI, site: Site) -> None:
    """Texts, as OpenAI's clients ask for them."""

    @app.post("/v1/completions", summary="How a text goes on", openapi_extra=shapes.body(shapes.CompletionRequest, streams=True))
    async def completions(request: Request) -> shapes.Completion:
        asked = await shaped(request, shapes.CompletionRequest)
        service = site.model(asked.model, "generate")
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        sampling = [service.sampling(**asked.sampled(number)) for number in range(len(prompts))]
        streams = [service.generated(prompt, its) for prompt, its in zip(prompts, sampling, strict=True)]
        return await _told(request, streams, shapes.Texts("text_completion", f"cmpl-{uuid.uuid4().hex[:24]}", asked))  # type: ignore[return-value]

    @app.post("/v1/chat/completions", summary="What an assistant says next", openapi_extra=shapes.body(shapes.ChatRequest, streams=True))
    async def chat(request: Request) -> shapes.ChatCompletion:
        asked = await shaped(request, shapes.ChatRequest)
        service = site.model(asked.model, "chat")
        streams = [service.replied(asked.turns, service.sampling(**asked.sampled(number))) for number in range(asked.n)]
        return await _told(request, streams, shapes.Texts("chat.completion", f"chatcmpl-{uuid.uuid4().hex[:20]}", asked))  # type: ignore[return-value]


async def _values(request: Request) -> list[tuple[str, Any]]:
    """(name, raw value) of a request: one file as it is, several as a form, rows or texts as JSON, one text as it is."""
    kind = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
    if kind == "application/json":
        asked = await shaped(request, shapes.ValuesRequest)
        if not (values := asked.rows or asked.texts):
            raise Refused(422, "The body must hold rows or texts.")
        return [(f"value {number + 1}", value) for number, value in enumerate(values)]
    if kind == "text/plain":
        try:
            return [("text", (await request.body()).decode("utf-8"))]
        except UnicodeDecodeError as error:
            raise Refused(400, "A text must be in UTF-8.") from error
    return await _files(request)


async def _files(request: Request, most: int = 1_000) -> list[tuple[str, Any]]:
    """(name, content) of the files of a form, or of the one that the body is. Raises Refused."""
    kind = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await request.form(max_files=most + 1, max_fields=16)
        found = [(upload.filename or "file", await upload.read()) for _, upload in form.multi_items() if not isinstance(upload, str)]
    elif kind.startswith(("image/", "audio/")) or kind in ("application/octet-stream", "video/webm"):
        found = [("file", await request.body())]
    else:
        told = f"The content type must be one of {', '.join(FILE_KINDS)} or multipart/form-data, got {kind[:60]}."
        curl = " With curl: -H 'Content-Type: image/jpeg'." if kind == "application/x-www-form-urlencoded" else ""
        raise Refused(415, told + curl)
    if not 1 <= len(found) <= most or not all(content for _, content in found):
        raise Refused(422, f"A request must hold 1 to {most} files, none of them empty.")
    return found


async def _told(request: Request, streams: list[AsyncIterator[Any]], texts: shapes.Texts) -> Response:
    """Texts that are made, all at their end or piece by piece as server-sent events."""
    if not texts.asked.stream:
        for row, made in enumerate(await asyncio.gather(*(_whole(stream) for stream in streams))):
            texts.take(row, made)
        return JSONResponse(texts.whole())
    firsts = [await anext(stream) for stream in streams]  # what is wrong is said before the stream begins

    async def events() -> AsyncIterator[bytes]:
        for row, (first, stream) in enumerate(zip(firsts, streams, strict=True)):
            yield as_event(texts.begun(row)) if texts.asks_roles else b""
            yield as_event(texts.piece(row, first))
            async for piece in stream:
                yield as_event(texts.piece(row, piece))
        if texts.asked.tells_usage:
            yield as_event(texts.usage_alone())
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def _whole(stream: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in stream]

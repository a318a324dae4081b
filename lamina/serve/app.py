"""The server: every route on one screen. What a request may hold stands in shapes.py, what is refused at the door in guard.py."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from lamina.errors import DataError, LaminaError, ModelFileError, ResourceError, UsageError
from lamina.people.people import WARNING, Decision
from lamina.screen import one_in
from lamina.serve import shapes
from lamina.serve.guard import Guard, Refused, allowed, problem
from lamina.serve.service import Service, hidden
from lamina.serve.watched import SECONDS_BETWEEN_LOOKS, Watched
from lamina.settings import Serving

Shape = TypeVar("Shape", bound=BaseModel)
FAILURES = {
    400: "The request is malformed.", 401: "A token is needed.", 403: "Not from this page, this host, or without the admin token.",
    404: "No such model, person or item.", 405: "Another method.", 408: "It was not sent in time.", 413: "More than the limits allow.",
    415: "Another content type.", 422: "A value is outside of what is allowed.", 503: "Busy; come again.",
}  # fmt: skip
OF_ERRORS = {UsageError: 422, DataError: 422, ModelFileError: 422, ResourceError: 503}
RESPONSES: dict[int | str, dict[str, Any]] = {status: {"model": shapes.Problem, "description": told} for status, told in FAILURES.items()}
PAGE = Path(__file__).parent / "page"
PARTS = {**dict.fromkeys(("page.js", "devices.js", "watch.js", "inside.js", "draw.js"), "text/javascript"), "page.css": "text/css"}
REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; script-src 'none'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)
FILE_KINDS = ("application/octet-stream", "image/*", "audio/*")


def make_app(
    services: Sequence[Service],
    serving: Serving,
    admin_token: str,
    hosts: tuple[str, ...] = (),
    watched: Sequence[Watched] = (),
    adopt: Callable[[Watched], Service] | None = None,
) -> Any:
    """The ASGI application; `hosts`: what the Host header may be. Its routes are in `openapi.json`. `watched`: run folders; `adopt` makes a
    service of one that is finished."""
    by_name: dict[str, Service] = {}
    runs = {each.name: each for each in watched}
    metrics = Metrics()

    def take_in(service: Service) -> None:
        service.together.told = lambda count: metrics.batch.labels(service.name).observe(count)
        by_name[service.name] = service

    for service in services:
        take_in(service)

    async def adopt_finished() -> None:
        waiting = list(watched)
        while waiting and adopt is not None:
            for each in [each for each in waiting if each.finished]:
                waiting.remove(each)
                with contextlib.suppress(LaminaError):  # a model that cannot be opened: what was seen of its training stays
                    take_in(await asyncio.get_running_loop().run_in_executor(None, adopt, each))
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        adopting = asyncio.create_task(adopt_finished())
        yield
        adopting.cancel()
        for service in by_name.values():
            await asyncio.get_running_loop().run_in_executor(None, service.stop)

    app = FastAPI(
        title="Lamina", version=version("lamina"), docs_url=None, redoc_url=None, lifespan=living, responses=RESPONSES,
        description="What the served models answer. Every refusal is one sentence, in the form of OpenAI's errors.",
    )  # fmt: skip

    def model(name: str, *actions: str) -> Service:
        if name not in by_name:
            raise Refused(404, f"A model must be one of {', '.join(by_name)}, got {name[:100]}.", "model")
        by_name[name].check(*actions) if actions else None
        return by_name[name]

    def admin(request: Request) -> None:
        if not allowed(dict(request.headers.raw), admin_token, b"x-admin-token"):
            raise Refused(403, "Enrolling and revoking need the admin token: X-Admin-Token.")

    # ------------------------------------------------------------ the page, and about

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/page/{file}", include_in_schema=False)
    async def part(file: str) -> Response:
        if file not in PARTS:
            raise Refused(404, "No such address.")
        return FileResponse(PAGE / file, media_type=PARTS[file])

    @app.get("/health", summary="Whether it answers")
    async def health() -> shapes.Health:
        return shapes.Health(status="ok", version=version("lamina"), models=list(by_name))

    @app.get("/metrics", summary="Counts for Prometheus", response_class=PlainTextResponse)
    async def told_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", summary="The models served")
    async def models() -> shapes.Models:
        return shapes.Models(data=[shapes.about(service) for service in by_name.values()])

    @app.get("/v1/models/{name}", summary="One of them")
    async def one_model(name: str) -> shapes.AboutModel:
        return shapes.about(model(name))

    # ------------------------------------------------------------ answers

    @app.post("/models/{name}/predict", summary="What is it? How much is it?", openapi_extra=shapes.VALUES)
    async def predict(name: str, request: Request) -> shapes.Predictions:
        service = model(name, "predict", "transcribe")
        return shapes.Predictions.of(name, await service.predict(await _values(request)))

    @app.post("/models/{name}/transcribe", summary="What was said?", openapi_extra=shapes.RECORDING)
    async def transcribe(name: str, request: Request) -> shapes.Predictions:
        service = model(name, "transcribe")
        return shapes.Predictions.of(name, await service.predict(await _values(request)))

    @app.post("/models/{name}/recommend", summary="What would they choose next?", openapi_extra=shapes.body(shapes.RecommendRequest))
    async def recommend(name: str, request: Request) -> shapes.Recommendations:
        service, asked = model(name, "recommend"), await _shaped(request, shapes.RecommendRequest)
        found = await service.recommend(items=asked.items, top=asked.top, exclude=asked.exclude, because=asked.because)
        return shapes.Recommendations(recommendations=[shapes.Recommended(**dataclasses.asdict(one)) for one in found])

    @app.get("/models/{name}/items", summary="Titles that begin so, or hold it")
    async def items(name: str, like: str = "") -> shapes.Titles:
        return shapes.Titles(titles=model(name, "recommend").titles(like, shapes.MOST_OFFERED))

    # ------------------------------------------------------------ looking inside

    @app.post("/models/{name}/follow", summary="A value followed through all layers", openapi_extra=shapes.VALUES)
    async def followed(name: str, request: Request) -> shapes.Followed:
        service, values = model(name), await _values(request)
        return shapes.Followed(**await service.follow(values[0][1]))

    @app.post("/models/{name}/units/{layer}/{number}", summary="One artificial neuron for a value", openapi_extra=shapes.VALUES)
    async def unit(name: str, layer: str, number: int, request: Request) -> shapes.Unit:
        service, values = model(name), await _values(request)
        return shapes.Unit(**await service.unit(layer, number, values[0][1]))

    @app.get("/models/{name}/report", include_in_schema=False)
    async def report(name: str) -> Response:
        file = model(name).report if hosts else None  # it shows training data: on this machine only
        if file is None:
            raise Refused(404, "The report is not there.")
        return FileResponse(file, media_type="text/html", headers={"content-security-policy": REPORT, "x-frame-options": "SAMEORIGIN"})

    # ------------------------------------------------------------ trainings that are watched

    def run(name: str) -> Watched:
        if name not in runs:
            raise Refused(404, f"A run must be one of {', '.join(runs) or 'none'}, got {name[:100]}.", "run")
        return runs[name]

    @app.get("/runs", summary="The trainings watched")
    async def all_runs() -> shapes.Runs:
        return shapes.Runs(runs=[shapes.Run(**each.state()) for each in runs.values()])

    @app.get("/runs/{name}", summary="One of them")
    async def one_run(name: str) -> shapes.Run:
        return shapes.Run(**run(name).state())

    @app.get("/runs/{name}/looks/{number}", summary="What was seen at a moment of it")
    async def look(name: str, number: int) -> dict[str, Any]:
        found = run(name).look(number) if 0 <= number < 100 else None
        if found is None:
            raise Refused(404, "There is no such moment yet.", "number")
        return found

    @app.get("/runs/{name}/events", summary="Its events as they come", openapi_extra=shapes.STREAMED)
    async def events(name: str, since: int = 0) -> Response:
        stream = run(name).events(since)

        async def told() -> AsyncIterator[bytes]:
            async for number, event in stream:
                yield _event({"number": number, **event})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.post("/runs/{name}/control", summary="Pause, go on, or stop and keep", openapi_extra=shapes.body(shapes.Control))
    async def control(name: str, request: Request) -> shapes.Control:
        asked, its = await _shaped(request, shapes.Control), run(name)
        its.ask(asked.action)
        return asked

    # ------------------------------------------------------------ people

    @app.get("/models/{name}/people", summary="Who is enrolled")
    async def people(name: str, request: Request) -> shapes.Enrolled:
        admin(request)
        listed, opening = await model(name, "verify").of_people(lambda its: (its.listed(), its.opening(None)))
        rate = f"About {one_in(opening.rate)} strangers would be let in, at most {one_in(opening.bound)} (99 %)."
        return shapes.Enrolled(people=listed, rate=rate, warning=WARNING)

    @app.post("/models/{name}/people/{person}", summary="Enroll, with the admin token", openapi_extra=shapes.FILES)
    async def enroll(name: str, person: str, request: Request) -> shapes.Enrollment:
        admin(request)
        service, files = model(name, "verify"), await _files(request)
        for _, content in files:
            service.weigh(content)
        found = await service.of_people(lambda its: its.enroll(person, [content for _, content in files]))
        return shapes.Enrollment(
            name=found.name, examples=found.examples, taken=len(found.taken), refused=[why for _, why in found.refused]
        )

    @app.delete("/models/{name}/people/{person}", summary="Forget a person, with the admin token")
    async def revoke(name: str, person: str, request: Request) -> shapes.Revoked:
        admin(request)
        await model(name, "verify").of_people(lambda its: its.revoke(person))
        return shapes.Revoked(revoked=person)

    @app.post("/models/{name}/verify/{person}", summary="Is this that person?", openapi_extra=shapes.FILES)
    async def verify(name: str, person: str, request: Request) -> Decision:
        service, files = model(name, "verify"), await _files(request, most=1)
        service.weigh(files[0][1])
        return await service.of_people(lambda its: its.verify(person, files[0][1]))

    @app.post("/models/{name}/identify", summary="Who of those enrolled is it?", openapi_extra=shapes.FILES)
    async def identify(name: str, request: Request) -> Decision:
        service, files = model(name, "verify"), await _files(request, most=1)
        service.weigh(files[0][1])
        return await service.of_people(lambda its: its.identify(files[0][1]))

    # ------------------------------------------------------------ texts, as OpenAI's clients ask for them

    @app.post("/v1/completions", summary="How a text goes on", openapi_extra=shapes.body(shapes.CompletionRequest, streams=True))
    async def completions(request: Request) -> shapes.Completion:
        asked = await _shaped(request, shapes.CompletionRequest)
        service = model(asked.model, "generate")
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        sampling = [service.sampling(**asked.sampled(number)) for number in range(len(prompts))]
        streams = [service.generated(prompt, its) for prompt, its in zip(prompts, sampling, strict=True)]
        return await _told(request, streams, shapes.Texts("text_completion", f"cmpl-{uuid.uuid4().hex[:24]}", asked))  # type: ignore[return-value]

    @app.post("/v1/chat/completions", summary="What an assistant says next", openapi_extra=shapes.body(shapes.ChatRequest, streams=True))
    async def chat(request: Request) -> shapes.ChatCompletion:
        asked = await _shaped(request, shapes.ChatRequest)
        service = model(asked.model, "chat")
        streams = [service.replied(asked.turns, service.sampling(**asked.sampled(number))) for number in range(asked.n)]
        return await _told(request, streams, shapes.Texts("chat.completion", f"chatcmpl-{uuid.uuid4().hex[:20]}", asked))  # type: ignore[return-value]

    # ------------------------------------------------------------ what goes wrong

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(problem(error.status, error.message, error.parameter), error.status)

    @app.exception_handler(LaminaError)
    async def lamina_error(request: Request, error: LaminaError) -> Response:
        status = next((status for kind, status in OF_ERRORS.items() if isinstance(error, kind)), 422)
        return JSONResponse(problem(status, hidden(error, list(by_name.values()))), status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = {404: "No such address.", 405: "This address takes another method."}.get(error.status_code, str(error.detail))
        return JSONResponse(problem(error.status_code, told), error.status_code, headers=error.headers)

    return Guard(app, serving, hosts, metrics.answered)


class Metrics:
    """Counts that say nothing of whom or what was asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("lamina_requests", "Answers by route and status", ["method", "route", "status"], registry=self.registry)
        self.seconds = Histogram("lamina_seconds", "Seconds until the whole answer", ["route"], registry=self.registry)
        self.batch = Histogram(
            "lamina_batch", "Values that were computed together", ["model"], registry=self.registry, buckets=(1, 2, 4, 8, 16, 32, 64, 128)
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)


async def _shaped(request: Request, kind: type[Shape]) -> Shape:
    """The JSON body. Raises Refused."""
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        status = 400 if first["type"] == "json_invalid" else 422
        raise Refused(status, f"{where or 'The body'} must be right: {first['msg']}.", where or None) from error


async def _values(request: Request) -> list[tuple[str, Any]]:
    """(name, raw value) of a request: one file as it is, several as a form, rows or texts as JSON, one text as it is."""
    kind = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
    if kind == "application/json":
        asked = await _shaped(request, shapes.ValuesRequest)
        return [(f"value {number + 1}", value) for number, value in enumerate(asked.rows or asked.texts or [])]
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
        raise Refused(415, f"The content type must be one of {', '.join(FILE_KINDS)} or multipart/form-data, got {kind[:60]}.")
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
            yield _event(texts.begun(row)) if texts.asks_roles else b""
            yield _event(texts.piece(row, first))
            async for piece in stream:
                yield _event(texts.piece(row, piece))
        if texts.asked.tells_usage:
            yield _event(texts.usage_alone())
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def _whole(stream: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in stream]


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"

"""The server: every route on one screen. What a request may hold stands in shapes.py, what is refused at the door in guard.py."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lamina.errors import DataError, LaminaError, ModelFileError, ResourceError, UsageError
from lamina.explain import Unit
from lamina.people.people import WARNING, Decision
from lamina.report.page import FACTS
from lamina.screen import one_in
from lamina.serve import shapes
from lamina.serve.guard import Guard, Refused, allowed, problem
from lamina.serve.service import Service, hidden
from lamina.serve.watched import SECONDS_BETWEEN_LOOKS, Watched
from lamina.settings import Serving

VERSION = version("lamina")
Shape = TypeVar("Shape", bound=BaseModel)
FAILURES = {
    400: "The request is malformed.", 401: "A token is needed.", 403: "Not from this page, this host, or without the admin token.",
    404: "No such model, person or item.", 405: "Another method.", 408: "It was not sent in time.", 413: "More than the limits allow.",
    415: "Another content type.", 431: "A head that is too large.", 422: "A value is outside of what is allowed.", 503: "Busy; come again.",
}  # fmt: skip
OF_ERRORS = {UsageError: 422, DataError: 422, ModelFileError: 422, ResourceError: 503}
RESPONSES: dict[int | str, dict[str, Any]] = {status: {"model": shapes.Problem, "description": told} for status, told in FAILURES.items()}
PAGE = Path(__file__).parent / "page"
PARTS = {**dict.fromkeys(("page.js", "devices.js", "watch.js", "inside.js", "draw.js"), "text/javascript"), "page.css": "text/css"}
REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; script-src 'none'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)
SMALL_BODY, MOST_KEYS = 32_768, 2_000
"""Bytes of JSON that may be wrong in as many ways as they like; fields of one object of a larger one."""
FILE_KINDS = ("application/octet-stream", "image/*", "audio/*")


class Direct(APIRoute):
    """A route whose endpoint takes the request and the texts of its path, and makes the answer itself: nothing is left to be looked for in
    the request, or to be checked in the answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def answer(request: Request) -> Response:
            return await self.endpoint(request=request, **request.path_params)

        return answer


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


@dataclass
class Site:
    """What the routes share: the models by name, the trainings watched, and who may what."""

    serving: Serving
    admin_token: str
    hosts: tuple[str, ...]
    """What the Host header may be; empty where others than this machine reach it."""
    runs: dict[str, Watched]
    metrics: Metrics
    services: dict[str, Service] = field(default_factory=dict)

    def take_in(self, service: Service) -> None:
        service.together.told = self.metrics.batch.labels(service.name).observe
        self.services[service.name] = service

    def model(self, name: str, *actions: str) -> Service:
        """Raises Refused where there is none, or it can do none of the actions."""
        if name not in self.services:
            raise Refused(404, f"A model must be one of {', '.join(self.services)}, got {name[:100]}.", "model")
        self.services[name].check(*actions) if actions else None
        return self.services[name]

    def run(self, name: str) -> Watched:
        """Raises Refused where there is none."""
        if name not in self.runs:
            raise Refused(404, f"A run must be one of {', '.join(self.runs) or 'none'}, got {name[:100]}.", "run")
        return self.runs[name]

    def admin(self, request: Request) -> None:
        """Raises Refused for a request without the admin token."""
        if not allowed(dict(request.headers.raw), self.admin_token, b"x-admin-token"):
            raise Refused(403, "Enrolling and revoking need the admin token: X-Admin-Token.")

    async def adopt_finished(self, adopt: Callable[[Watched], Service]) -> None:
        """Makes a model of every training that ends."""
        waiting = list(self.runs.values())
        while waiting:
            for each in [each for each in waiting if each.finished]:
                waiting.remove(each)
                with contextlib.suppress(LaminaError):  # a model that cannot be opened: what was seen of its training stays
                    service = await asyncio.get_running_loop().run_in_executor(None, adopt, each)
                    await service.begin()
                    self.take_in(service)
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


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
    site = Site(serving, admin_token, hosts, {each.name: each for each in watched}, Metrics())
    for service in services:
        site.take_in(service)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.gather(*(service.begin() for service in services))
        adopting = asyncio.create_task(site.adopt_finished(adopt)) if adopt is not None else None
        yield
        if adopting is not None:
            adopting.cancel()
        for service in site.services.values():
            await service.stop()

    app = FastAPI(
        title="Lamina", version=VERSION, docs_url=None, redoc_url=None, lifespan=living, responses=RESPONSES,
        description="What the served models answer. Every refusal is one sentence, in the form of OpenAI's errors.",
    )  # fmt: skip
    for add in (_add_page, _add_answers, _add_inside, _add_runs, _add_people, _add_texts, _add_failures):
        add(app, site)
    return Guard(app, serving, hosts, site.metrics.answered)


def _add_page(app: FastAPI, site: Site) -> None:
    """The page, and what is told about the server and its models."""

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
        return shapes.Health(status="ok", version=VERSION, models=list(site.services))

    @app.get("/metrics", summary="Counts for Prometheus", response_class=PlainTextResponse)
    async def told_metrics() -> Response:
        return Response(generate_latest(site.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", summary="The models served")
    async def models() -> shapes.Models:
        return shapes.Models(data=[shapes.about(service) for service in site.services.values()])

    @app.get("/v1/models/{name}", summary="One of them")
    async def one_model(name: str) -> shapes.AboutModel:
        return shapes.about(site.model(name))


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
        service, asked = site.model(name, "recommend"), await _shaped(request, shapes.RecommendRequest)
        found = await service.recommend(items=asked.items, top=asked.top, exclude=asked.exclude, because=asked.because)
        return shapes.Recommendations(recommendations=[shapes.Recommended(**dataclasses.asdict(one)) for one in found])

    @app.get("/models/{name}/items", summary="Titles that begin so, or hold it")
    async def items(name: str, like: str = "") -> shapes.Titles:
        return shapes.Titles(titles=site.model(name, "recommend").titles(like, shapes.MOST_OFFERED))


def _add_inside(app: FastAPI, site: Site) -> None:
    """Looking inside."""

    @app.post(
        "/models/{name}/follow", summary="A value followed through all layers", openapi_extra=shapes.VALUES, response_model=shapes.Through
    )
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


def _add_runs(app: FastAPI, site: Site) -> None:
    """Trainings that are watched."""

    @app.get("/runs", summary="The trainings watched")
    async def all_runs() -> shapes.Runs:
        return shapes.Runs(runs=[shapes.Run(**each.state()) for each in site.runs.values()])

    @app.get("/runs/{name}", summary="One of them")
    async def one_run(name: str) -> shapes.Run:
        return shapes.Run(**site.run(name).state())

    @app.get("/runs/{name}/looks/{number}", summary="What was seen at a moment of it")
    async def look(name: str, number: int) -> dict[str, Any]:
        found = site.run(name).look(number) if 0 <= number < 100 else None
        if found is None:
            raise Refused(404, "There is no such moment yet.", "number")
        return found

    @app.get("/runs/{name}/events", summary="Its events as they come", openapi_extra=shapes.STREAMED)
    async def events(name: str, since: int = 0) -> Response:
        stream = site.run(name).events(since)

        async def told() -> AsyncIterator[bytes]:
            async for number, event in stream:
                yield _event({"number": number, **event})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.post("/runs/{name}/control", summary="Pause, go on, or stop and keep", openapi_extra=shapes.body(shapes.Control))
    async def control(name: str, request: Request) -> shapes.Control:
        asked, its = await _shaped(request, shapes.Control), site.run(name)
        its.ask(asked.action)
        return asked


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
        asked = await _shaped(request, shapes.CompletionRequest)
        service = site.model(asked.model, "generate")
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        sampling = [service.sampling(**asked.sampled(number)) for number in range(len(prompts))]
        streams = [service.generated(prompt, its) for prompt, its in zip(prompts, sampling, strict=True)]
        return await _told(request, streams, shapes.Texts("text_completion", f"cmpl-{uuid.uuid4().hex[:24]}", asked))  # type: ignore[return-value]

    @app.post("/v1/chat/completions", summary="What an assistant says next", openapi_extra=shapes.body(shapes.ChatRequest, streams=True))
    async def chat(request: Request) -> shapes.ChatCompletion:
        asked = await _shaped(request, shapes.ChatRequest)
        service = site.model(asked.model, "chat")
        streams = [service.replied(asked.turns, service.sampling(**asked.sampled(number))) for number in range(asked.n)]
        return await _told(request, streams, shapes.Texts("chat.completion", f"chatcmpl-{uuid.uuid4().hex[:20]}", asked))  # type: ignore[return-value]


def _add_failures(app: FastAPI, site: Site) -> None:
    """What goes wrong."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(problem(error.status, error.message, error.parameter), error.status)

    @app.exception_handler(LaminaError)
    async def lamina_error(request: Request, error: LaminaError) -> Response:
        status = next((status for kind, status in OF_ERRORS.items() if isinstance(error, kind)), 422)
        return JSONResponse(problem(status, hidden(error, list(site.services.values()))), status)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = {404: "No such address.", 405: "This address takes another method."}.get(error.status_code, str(error.detail))
        return JSONResponse(problem(error.status_code, told), error.status_code, headers=error.headers)


async def _shaped(request: Request, kind: type[Shape]) -> Shape:
    """The JSON body. Raises Refused."""
    body = await request.body()
    try:
        if len(body) > SMALL_BODY and not _modest(from_json(body)):
            raise Refused(422, f"An object of the body must have at most {MOST_KEYS:,} fields.")
        return kind.model_validate_json(body)
    except ValueError as error:
        if not isinstance(error, ValidationError):
            raise Refused(400, "The body must be right: it is no JSON.") from error
        return _refuse(error)


def _modest(value: Any) -> bool:
    """Whether no object has more than MOST_KEYS fields: each that is wrong would be an error of its own, kept until all are found."""
    if isinstance(value, dict):
        return len(value) <= MOST_KEYS and all(_modest(each) for each in value.values() if isinstance(each, (dict, list)))
    return all(_modest(each) for each in value if isinstance(each, (dict, list))) if isinstance(value, list) else True


def _refuse(error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    status = 400 if first["type"] == "json_invalid" else 422
    raise Refused(status, f"{where or 'The body'} must be right: {first['msg']}.", where or None) from error


async def _values(request: Request) -> list[tuple[str, Any]]:
    """(name, raw value) of a request: one file as it is, several as a form, rows or texts as JSON, one text as it is."""
    kind = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
    if kind == "application/json":
        asked = await _shaped(request, shapes.ValuesRequest)
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

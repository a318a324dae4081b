"""The server: its page, the trainings that are watched, and what goes wrong; the routes that ask models stand in models.py. What a request
may hold stands in shapes.py, what is refused at the door in guard.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lamina.errors import DataError, LaminaError, ModelFileError, ResourceError, UsageError
from lamina.serve import shapes
from lamina.serve.guard import Guard, Refused, allowed, problem
from lamina.serve.watched import SECONDS_BETWEEN_LOOKS, Watched
from lamina.settings import Serving

if TYPE_CHECKING:
    from lamina.serve.service import Service

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
SMALL_BODY, MOST_KEYS = 32_768, 2_000
"""Bytes of JSON that may be wrong in as many ways as they like; fields of one object of a larger one."""


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

    def ask_models(self, app: FastAPI) -> None:
        """Loads PyTorch, once."""
        from lamina.serve.models import add_routes

        add_routes(app, self)

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

    async def adopt_finished(self, adopt: Callable[[Watched], Service], app: FastAPI) -> None:
        """Makes a model of every training that ends."""
        waiting = list(self.runs.values())
        while waiting:
            for each in [each for each in waiting if each.finished]:
                waiting.remove(each)
                with contextlib.suppress(LaminaError):  # a model that cannot be opened: what was seen of its training stays
                    service = await asyncio.get_running_loop().run_in_executor(None, adopt, each)
                    await service.begin()
                    if not self.services:
                        self.ask_models(app)
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
        adopting = asyncio.create_task(site.adopt_finished(adopt, app)) if adopt is not None else None
        yield
        if adopting is not None:
            adopting.cancel()
        for service in site.services.values():
            await service.stop()

    app = FastAPI(
        title="Lamina", version=VERSION, docs_url=None, redoc_url=None, lifespan=living, responses=RESPONSES,
        description="What the served models answer. Every refusal is one sentence, in the form of OpenAI's errors.",
    )  # fmt: skip
    for add in (_add_page, _add_runs, _add_failures):
        add(app, site)
    if services:
        site.ask_models(app)
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
            async for number, its in stream:
                yield as_event({"number": number, **its})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.post("/runs/{name}/control", summary="Pause, go on, or stop and keep", openapi_extra=shapes.body(shapes.Control))
    async def control(name: str, request: Request) -> shapes.Control:
        asked, its = await shaped(request, shapes.Control), site.run(name)
        its.ask(asked.action)
        return asked


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


async def shaped(request: Request, kind: type[Shape]) -> Shape:
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


def as_event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


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

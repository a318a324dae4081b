"""The server: answers as in the process, together under load, refusals in one form, OpenAI's own client, limits, secrets, a polite end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import json
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
import test_language
from PIL import Image

import lamina
from lamina.errors import ResourceError, UsageError
from lamina.settings import Serving

pytest.importorskip("fastapi", reason="serving needs: pip install 'lamina[serve]'")
httpx = pytest.importorskip("httpx")
openai = pytest.importorskip("openai")

from lamina.serve import Server, connection, is_loopback  # noqa: E402
from lamina.serve.together import InTurns, Together  # noqa: E402
from lamina.serve.worker import grouped, packed, unpacked  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, lamina.Model]:
    """Of pictures, of a table, of texts that go on, saved."""
    from test_training import pictures

    folder = tmp_path_factory.mktemp("served")
    paths = {"runs": folder / "runs", "cache": str(folder / "cache"), "verdict_share": 0.0, "threads": 1}
    values, targets = pictures(200)
    made = {
        "shapes": lamina.train((values, targets), epochs=2, width=8, out=folder / "shapes.lamina", **paths),
    }
    (folder / "rows.csv").write_text("a,b,kind\n" + "".join(f"{n % 7},{n % 3},{'xy'[n % 7 > 3]}\n" for n in range(200)))
    made["rows"] = lamina.train(folder / "rows.csv", label_column="kind", epochs=3, width=8, out=folder / "rows.lamina", **paths)
    (folder / "book.txt").write_text(test_language.book(300))
    made["tale"] = lamina.train(folder / "book.txt", epochs=1, out=folder / "tale.lamina", **paths | test_language.OPTIONS)
    return made


def started(server: Server) -> Server:
    threading.Thread(target=server.run, daemon=True).start()
    for _ in range(1_200):
        if server.server.started:
            return server
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="module")
def server(models):
    made = started(
        Server(
            [model.path for model in models.values()], Serving(port=0, largest_body=2, most_pixels=1_000_000, most_tokens=200, timeout=20)
        )
    )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def ask(server):
    with httpx.Client(base_url=server.address, timeout=30) as client:
        yield client


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(stream, "PNG")
    return stream.getvalue()


def bomb(side: int = 40_000) -> bytes:
    """A PNG of a few hundred bytes whose head tells of 1.6 billion pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def refused(answer, status: int, word: str) -> None:
    told = answer.json()["error"]
    assert answer.status_code == status and word in told["message"] and told["code"] == str(status), answer.text
    assert set(told) == {"message", "type", "param", "code"}


def test_answers_are_those_of_the_process(models, ask):
    from test_training import pictures

    files = [png(value) for value in pictures(6)[0]]
    wanted = models["shapes"].predict(files)
    for content, its in zip(files, wanted, strict=True):
        found = ask.post("/models/shapes/predict", content=content, headers={"content-type": "image/png"}).json()["predictions"][0]
        assert found["label"] == its.label and found["probability"] == pytest.approx(its.probability, abs=1e-5)
    many = ask.post("/models/shapes/predict", files=[("file", (f"{n}.png", content)) for n, content in enumerate(files)]).json()
    assert [each["label"] for each in many["predictions"]] == [each.label for each in wanted] and many["predictions"][3]["file"] == "3.png"
    rows = [{"a": 1, "b": 2}, {"a": 6, "b": 0}, {"a": "5"}]
    told = ask.post("/models/rows/predict", json={"rows": rows}).json()["predictions"]
    assert [each["label"] for each in told[:2]] == [each.label for each in models["rows"].predict(rows[:2])] and told[2]["error"]
    about = ask.get("/v1/models").json()
    assert [each["id"] for each in about["data"]] == ["shapes", "rows", "tale"] and about["data"][2]["actions"] == ["generate"]
    assert ask.get("/v1/models/shapes").json()["classes"] == models["shapes"].card["classes"]


def test_what_is_wrong_is_one_sentence(ask):
    refused(ask.post("/models/shape/predict", content=b"x"), 404, "shapes, rows, tale")
    refused(ask.post("/models/rows/recommend", json={}), 404, "not recommend")
    refused(ask.post("/models/shapes/predict", content=b"x" * 3_000_000), 413, "2 MB")
    refused(ask.post("/models/shapes/predict", content=bomb()), 413, "pixels")
    refused(
        ask.post("/models/shapes/predict", content=b"a=1", headers={"content-type": "application/x-www-form-urlencoded"}), 415, "image/*"
    )
    refused(ask.post("/models/rows/predict", content=b"{", headers={"content-type": "application/json"}), 400, "")
    refused(ask.post("/models/rows/predict", json={"row": []}), 422, "row")
    refused(ask.post("/models/shapes/predict", content=b""), 422, "empty")
    refused(ask.get("/nothing"), 404, "address")
    refused(ask.put("/health"), 405, "method")
    refused(ask.post("/v1/completions", json={"model": "tale", "max_tokens": 500}), 422, "200 tokens")
    refused(ask.post("/v1/completions", json={"model": "tale", "temperature": -1}), 422, "temperature")
    refused(ask.get("/health", headers={"host": "evil.example"}), 403, "host")
    refused(ask.get("/health", headers={"origin": "https://evil.example"}), 403, "other addresses")
    broken = ask.post("/models/shapes/predict", content=b"no picture").json()["predictions"][0]
    assert broken["label"] is None and "readable" in broken["error"]


def test_looking_inside(models, ask):
    from test_training import pictures

    content = png(pictures(1)[0][0])
    found = ask.post("/models/shapes/follow", content=content).json()
    assert found["answer"] == models["shapes"].predict(content).label and found["shown"].startswith("data:image")
    assert [each["name"] for each in found["layers"]] == list(models["shapes"].network.layers)
    opened = next(each["name"] for each in found["layers"] if each["opens"])
    unit = ask.post(f"/models/shapes/units/{opened}/1", content=content).json()
    assert unit["number"] == 1 and unit["strongest"]
    refused(ask.post("/models/shapes/units/nothing/1", content=content), 422, "name a layer")
    refused(ask.post("/models/shapes/follow", content=b"no picture"), 422, "readable")
    refused(ask.post("/models/rows/follow", json={}), 422, "rows or texts")
    assert ask.post("/models/tale/follow", content=b"ana", headers={"content-type": "text/plain"}).json()["layers"]
    atlas = ask.get("/models/shapes/atlas")
    assert atlas.status_code in (200, 404) and ask.get("/models/shapes/mistakes").json()["mistakes"] is not None


def test_large_wrong_bodies_are_refused_at_once(ask):
    wrong = json.dumps({"rows": [{str(number): [] for number in range(100_000)}]})
    begun = time.monotonic()
    refused(ask.post("/models/rows/predict", content=wrong, headers={"content-type": "application/json"}), 422, "2,000 fields")
    many = json.dumps({"model": "tale", "stop": [1] * 200_000})
    assert ask.post("/v1/completions", content=many, headers={"content-type": "application/json"}).status_code == 422
    assert time.monotonic() - begun < 10


def test_every_answer_has_its_headers_and_is_counted(ask):
    for path in ("/health", "/v1/models", "/nothing"):
        headers = ask.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store" and "access-control-allow-origin" not in headers and "server" not in headers
    told = ask.get("/metrics").text
    assert (
        'lamina_requests_total{method="GET",route="/v1/models",status="200"}' in told and "lamina_batch" in told and "/nothing" not in told
    )


def test_openais_own_client_writes(models, server):
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)
    assert {each.id for each in client.models.list()} == {"shapes", "rows", "tale"}
    made = client.completions.create(model="tale", prompt="ana ", max_tokens=30, seed=3, temperature=0.7)
    assert made.choices[0].text == models["tale"].generate("ana ", tokens=30, seed=3, temperature=0.7)
    assert (
        made.choices[0].finish_reason in ("stop", "length")
        and made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    )
    assert made.usage.completion_tokens <= 30
    streamed = list(
        client.completions.create(
            model="tale", prompt="ana ", max_tokens=30, seed=3, temperature=0.7, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(each.choices[0].text for each in streamed if each.choices) == made.choices[0].text
    assert streamed[-1].usage == made.usage and len(streamed) > 3
    stopped = client.completions.create(model="tale", prompt="ana ", max_tokens=60, seed=3, temperature=0.7, stop=["at"])
    assert "at" not in stopped.choices[0].text
    both = client.completions.create(model="tale", prompt=["ana ", "ben "], max_tokens=10, temperature=0)
    assert [each.text for each in both.choices] == [models["tale"].generate(each, tokens=10, temperature=0) for each in ("ana ", "ben ")]
    with pytest.raises(openai.NotFoundError, match="must be one of"):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.NotFoundError, match="not chat"):
        client.chat.completions.create(model="tale", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.UnprocessableEntityError):
        client.completions.create(model="tale", prompt="x", max_tokens=100_000)


def test_a_token_is_asked_for(models, tmp_path):
    with pytest.raises(UsageError, match="token"):
        Server([models["rows"].path], Serving(host="0.0.0.0", port=0))
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost") and not is_loopback("0.0.0.0")
    made = started(Server([models["rows"].path], Serving(host="0.0.0.0", port=0, token="secret")))
    address = made.address.replace("0.0.0.0", "127.0.0.1")
    try:
        refused(httpx.get(f"{address}/v1/models"), 401, "token")
        refused(httpx.get(f"{address}/v1/models", headers={"authorization": "Bearer other"}), 401, "token")
        assert httpx.get(f"{address}/v1/models", headers={"authorization": "Bearer secret"}).status_code == 200
        assert httpx.get(f"{address}/health").json()["status"] == "ok"
        with pytest.raises(ResourceError, match="free to listen"):
            Server([models["rows"].path], Serving(port=made.socket.getsockname()[1]))
    finally:
        made.stop()


def test_many_at_once_are_computed_together(models, server):
    from test_training import pictures

    files = [png(value) for value in pictures(24)[0]]
    wanted = [each.label for each in models["shapes"].predict(files)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool, httpx.Client(base_url=server.address, timeout=30) as client:
        found = list(
            pool.map(lambda content: client.post("/models/shapes/predict", content=content).json()["predictions"][0]["label"], files * 4)
        )
    assert found == wanted * 4


def test_a_cut_connection_harms_nobody(server, ask):
    port = server.socket.getsockname()[1]
    for content in (
        b"POST /models/shapes/predict HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 1000\r\n\r\nabc" % port,
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    ):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(content)
    with ask.stream("POST", "/v1/completions", json={"model": "tale", "prompt": "ana", "max_tokens": 200, "stream": True}) as streamed:
        next(streamed.iter_bytes())
    assert ask.get("/health").json()["models"] == ["shapes", "rows", "tale"]
    assert ask.post("/v1/completions", json={"model": "tale", "prompt": "ana", "max_tokens": 5}).status_code == 200


def test_slow_senders_are_given_up(models, monkeypatch):
    made = started(Server([models["rows"].path], Serving(port=0, timeout=1.0)))
    try:
        port = made.socket.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as raw:
            head = b"POST /models/rows/predict HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n" % port
            raw.sendall(head + b"Content-Length: 1000\r\n\r\nabc")
            raw.settimeout(10)
            assert b"408" in raw.recv(4096)
        monkeypatch.setattr(connection, "SECONDS_OF_HEAD", 0.5)
        whole = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port
        for slow, told in ((b"", b""), (b"GET /health HTT", b"408"), (whole, b"200"), (whole + b"\r\n", b"200")):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(slow)
                raw.settimeout(10)
                seen = b""
                while part := raw.recv(4096):  # until it is let go
                    seen += part
                assert told in seen
    finally:
        made.stop()


def test_large_heads_are_refused_wherever_they_end(server):
    port = server.socket.getsockname()[1]
    begun = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port
    whole, endless = b"X: " + b"x" * 20_000 + b"\r\n\r\n", b"X: " + b"x" * 20_000
    for rest, parts in ((whole, 1), (endless, 10)):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(10)
            raw.sendall(begun)
            for _ in range(parts):
                with contextlib.suppress(OSError):
                    raw.sendall(rest)
                    time.sleep(0.02)
            with contextlib.suppress(ConnectionResetError):
                assert b" 431 " in raw.recv(4096)
    with socket.create_connection(("127.0.0.1", port)) as raw:  # what follows the last chunk has no end
        raw.settimeout(10)
        raw.sendall(begun + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 1_000)
        time.sleep(0.3)
        with contextlib.suppress(OSError):
            for _ in range(50):
                raw.sendall(b"x" * 10_000)
                time.sleep(0.01)
            raise AssertionError("it was all taken")
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(10)
        raw.sendall(begun + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nabcde")
        assert b" 400 " in raw.recv(4096)
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(10)
        raw.sendall(b"no HTTP at all\r\n\r\n")
        assert b" 400 " in raw.recv(4096)


def test_one_bad_value_does_not_spoil_its_neighbors(models, tmp_path, monkeypatch):
    """Some values end the process that reads them, one cannot be computed; the others are answered, and so is what comes after."""
    from test_training import pictures

    files = [png(value) for value in pictures(5)[0]]
    wanted = [each.label for each in models["shapes"].predict(files)]
    (tmp_path / "worker.py").write_text(
        "import os, sys\nfrom lamina.serve import worker\nread = worker.Reader.read\n"
        "worker.Reader.read = lambda self, raw: os._exit(1) if raw == b'end' else 'odd' if raw == b'odd' else read(self, raw)\n"
        "worker.main(*sys.argv[1:4])\n"
    )
    monkeypatch.setattr("lamina.serve.together.WORKER", (str(tmp_path / "worker.py"),))
    counts = []

    async def all_of_them():
        together = Together(models["shapes"].path, Serving(batch=8), counts.append)
        await together.begin()
        found = await asyncio.gather(*(together.ask("answer", "file", value) for value in [*files[:3], b"odd", *files[3:], b"end"]))
        await asyncio.gather(*(together.ask("answer", "file", value) for value in files))
        together.process.kill()
        after = await together.ask("answer", "file", files[0])
        process = together.process
        await together.stop()
        return found, after, process.poll()

    found, after, ended = asyncio.run(all_of_them())
    statuses = [status for status, _ in found]
    assert statuses == [200, 200, 200, 500, 200, 200, 422] and "ended the process" in found[-1][1] and max(counts) > 1
    assert [json.loads(told)["label"] for status, told in [*found, after] if status == 200] == [*wanted, wanted[0]] and ended == 0


def test_what_lies_ready_is_worked_on_together_and_no_more():
    coming, wait = iter([5, 3, 2, 4, 1]), threading.Event()

    def take():
        size = next(coming, None)
        if size is None:
            wait.set()
        return None if size is None else ([("answer", "file", "")] * size, [])

    groups = grouped(take, 6)
    first = next(groups)
    wait.wait(5)
    told = [[len(jobs) for jobs, _ in group] for group in (first, *groups)]
    assert [size for group in told for size in group] == [5, 3, 2, 4, 1] and all(sum(group[:-1]) < 6 for group in told) and len(told) < 5

    def broken():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        next(grouped(broken, 6))


def test_jobs_are_the_same_on_the_other_side():
    jobs = [("answer", "a", b"\x00\xff"), ("answer", "b", {"bytes": 2, "x": None}), ("follow", "text"), ("unit", b"", "layer", 3)]
    assert unpacked(packed(jobs)) == jobs


def test_texts_are_made_in_turns():
    order = []

    def text(name, pieces):
        for number in range(pieces):
            order.append(name)
            time.sleep(0.01)
            yield f"{name}{number}"

    async def both():
        turns = InTurns()

        async def whole(name, pieces):
            return [piece async for piece in turns.pieces(lambda: text(name, pieces))]

        async def broken():
            def failing():
                raise ValueError("no")
                yield

            with pytest.raises(ValueError, match="no"):
                await whole_of(failing)

        async def whole_of(make):
            return [piece async for piece in turns.pieces(make)]

        found = await asyncio.gather(whole("a", 6), whole("b", 6), broken())
        turns.stop()
        return found

    found = asyncio.run(both())
    assert found[0] == [f"a{n}" for n in range(6)] and found[1] == [f"b{n}" for n in range(6)]
    assert order.index("b") < 3, "the second does not wait for the end of the first"


def test_people_are_enrolled_by_the_admin_alone(tmp_path, monkeypatch):
    from test_page import with_faces
    from test_people import face

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with_faces().save(tmp_path / "door.lamina")
    made = started(Server([tmp_path / "door.lamina"], Serving(port=0, admin_token="chief"), store=str(tmp_path / "store")))
    admin = {"x-admin-token": "chief"}
    ana, ben = ([png(np.clip(face(person, 0).astype(int) + light, 0, 255).astype(np.uint8)) for light in (0, 3, 6)] for person in (1, 2))
    try:
        with httpx.Client(base_url=made.address, timeout=30) as client:
            files = [("file", ("a.png", content)) for content in ana[:2]]
            refused(client.post("/models/door/people/ana", files=files), 403, "admin token")
            refused(client.get("/models/door/people"), 403, "admin token")
            found = client.post("/models/door/people/ana", files=files, headers=admin).json()
            assert found["taken"] == 2 and found["refused"] == []
            assert [each["name"] for each in client.get("/models/door/people", headers=admin).json()["people"]] == ["ana"]
            assert client.post("/models/door/verify/ana", content=ana[2]).json()["accepted"]
            assert not client.post("/models/door/verify/ana", content=ben[2]).json()["accepted"]
            assert client.post("/models/door/identify", content=ana[2]).json()["name"] == "ana"
            refused(client.post("/models/door/verify/anna", content=ana[2]), 422, "Did you mean")
            assert str(tmp_path) not in client.post("/models/door/verify/anna", content=ana[2]).text
            assert client.delete("/models/door/people/ana", headers=admin).json() == {"revoked": "ana"}
            refused(client.post("/models/door/verify/ana", content=ana[2]), 422, "")
            assert "ana" not in client.get("/metrics").text
    finally:
        made.stop()


def test_openapi_says_every_answer(ask):
    told = ask.get("/openapi.json").json()
    for path, methods in told["paths"].items():
        for method, its in methods.items():
            assert {"200", "404", "413", "422", "503"} <= set(its["responses"]), (path, method)
            assert method != "post" or its["requestBody"]["content"], path
    assert json.dumps(told).count("$ref") > 5


@pytest.mark.slow
def test_requests_made_from_the_openapi(server):
    """Whatever the description allows, and some of what it does not: no error of ours, and no answer that it does not tell of."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi import checks

    wanted = [schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    wanted.append(checks.response_schema_conformance)
    schema, tried = schemathesis.openapi.from_url(f"{server.address}/openapi.json"), 0
    for operation in schema.get_all_operations():

        @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.ok().as_strategy())
        def check(case):
            case.call_and_validate(checks=wanted, timeout=30)

        check()
        tried += 1
    assert tried >= 15

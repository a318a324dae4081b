"""The server: one client, 64 of them, hostile ones among them, texts for 16; exports of every task; what watching costs a training."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import io
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import choices as of_choices
from benchmarks import people as of_people
from benchmarks import speech as of_speech
from benchmarks import words as of_words
from benchmarks.common import DATA, run_lamina

SIDE = 32
HOST = "127.0.0.1"
READY_SECONDS = 60
SETTLED = 30
FAULTS = ("bomb", "cut", "slow", "type", "head")


class Asked(Exception):
    """A connection that ended early."""


async def _ask(streams: Any, request: bytes) -> tuple[int, bytes]:
    """(status, body) over an open connection."""
    reader, writer = streams
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), None)
    if length is not None:
        return status, await reader.readexactly(length)
    body = b""
    while not body.endswith(b"0\r\n\r\n"):  # chunked
        if not (part := await reader.read(65_536)):
            raise Asked("the answer was cut")
        body += part
    return status, body


def _post(port: int, path: str, body: bytes, kind: str = "application/octet-stream", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


@contextlib.contextmanager
def _server(*paths: Path, **flags: Any) -> Any:
    """(port, process) of a server in a process of its own."""
    import socket

    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lamina", "serve", *map(str, paths), "--port", str(port)]
    command += [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(10 * READY_SECONDS):  # it listens before it answers
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health"):
                break
            time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


def _picture_model(place: Path) -> tuple[Path, list[bytes], list[str]]:
    """(a model of 32 x 32 color pictures, some as PNG, its answers to them in this process)."""
    from PIL import Image

    import lamina

    drawn = np.random.default_rng(0)
    values = drawn.integers(0, 120, (2_000, SIDE, SIDE, 3)).astype(np.uint8)
    targets = np.arange(len(values)) % 10
    for number, target in enumerate(targets):
        values[number, 3 * (target // 3) : 3 * (target // 3) + 6, :, target % 3] += 110
    model = lamina.train(
        (values, [f"class{target}" for target in targets]), epochs=2, verdict_share=0.0, out=place / "pictures.lamina", runs=place / "runs"
    )
    files = []
    for picture in values[:256]:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        files.append(stream.getvalue())
    return place / "pictures.lamina", files, [each.top[0][0] for each in model.predict(files)]


def serving(options: argparse.Namespace) -> dict[str, Any]:
    """A model of 32 x 32 pictures: milliseconds of one client; 64 clients' answers a second as a share of those in the process (256 at
    once), and against a server that computes each alone, alternately (--rounds, 3)."""
    import lamina

    with tempfile.TemporaryDirectory() as folder:
        path, files, wanted = _picture_model(Path(folder))
        model = lamina.load(path)
        shares, ratios, together_, alone_, inside_ = [], [], [], [], []
        with _server(path) as (port, _), _server(path, batch=1) as (other, _):
            milliseconds = asyncio.run(_one_client(port, files, 1_000))
            for _ in range(options.rounds or 3):
                begun = time.perf_counter()
                for _ in range(8):
                    model.predict(files)
                inside = 8 * len(files) / (time.perf_counter() - begun)
                together = asyncio.run(_many_clients(port, files, wanted, 64, 8.0))
                alone = asyncio.run(_many_clients(other, files, wanted, 64, 8.0))
                inside_.append(inside), together_.append(together), alone_.append(alone)
                shares.append(together / inside)
                ratios.append(together / alone)
    return {
        "p50 milliseconds": statistics.median(milliseconds), "p99 milliseconds": float(np.quantile(milliseconds, 0.99)),
        "requests": len(milliseconds), "share of the process": statistics.median(shares), "against each alone": statistics.median(ratios),
        "a second": {"process": inside_, "served": together_, "each alone": alone_},
    }  # fmt: skip


async def _one_client(port: int, files: list[bytes], count: int) -> list[float]:
    streams = await asyncio.open_connection(HOST, port)
    times = []
    for number in range(count + 50):
        begun = time.perf_counter()
        status, _ = await _ask(streams, _post(port, "/models/pictures/predict", files[number % len(files)]))
        times.append(1_000 * (time.perf_counter() - begun))
        assert status == 200
    streams[1].close()
    return times[50:]


async def _many_clients(port: int, files: list[bytes], wanted: list[str], clients: int, seconds: float) -> float:
    """Right answers a second."""
    end, answered = time.perf_counter() + seconds, 0

    async def client(first: int) -> None:
        nonlocal answered
        streams = await asyncio.open_connection(HOST, port)
        number = first
        while time.perf_counter() < end:
            status, body = await _ask(streams, _post(port, "/models/pictures/predict", files[number % len(files)]))
            found = json.loads(body)
            assert status == 200 and found["predictions"][0]["top"][0]["label"] == wanted[number % len(files)], found
            answered += 1
            number += 7
        streams[1].close()

    begun = time.perf_counter()
    await asyncio.gather(*(client(4 * number) for number in range(clients)))
    return answered / (time.perf_counter() - begun)


# ---------------------------------------------------------------- hostile


def hostile(options: argparse.Namespace) -> dict[str, Any]:
    """64 clients for 120 seconds (--minutes 2), one in ten hostile (bombs, cut connections, slow writers, wrong types, huge heads): wrong
    answers, statuses, and memory after a quarter and at the end."""
    seconds = 60 * (options.minutes or 2.0)
    with tempfile.TemporaryDirectory() as folder:
        path, files, wanted = _picture_model(Path(folder))
        with _server(path, timeout=5) as (port, process):
            found = asyncio.run(_hostile(port, process, files, wanted, seconds))
            alive = process.poll() is None
            status, _ = asyncio.run(_once(port, _post(port, "/models/pictures/predict", files[0])))
    return {**found, "alive": alive and status == 200, "seconds": seconds}


async def _once(port: int, request: bytes) -> tuple[int, bytes]:
    streams = await asyncio.open_connection(HOST, port)
    try:
        return await _ask(streams, request)
    finally:
        streams[1].close()


def _bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1_000)) + chunk(b"IEND", b"")


def _memory(process: subprocess.Popen) -> int:
    """Resident bytes, of its own processes too."""
    own = [process.pid, *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    return sum(int(Path(f"/proc/{number}/statm").read_text().split()[1]) for number in own) * os.sysconf("SC_PAGE_SIZE")


async def _hostile(port: int, process: subprocess.Popen, files: list[bytes], wanted: list[str], seconds: float) -> dict[str, Any]:
    end, right, wrong, lost = time.perf_counter() + seconds, 0, 0, 0
    statuses: dict[str, dict[str, int]] = {fault: {} for fault in FAULTS}
    memory: list[int] = []

    async def honest(first: int) -> None:
        nonlocal right, wrong, lost
        streams, number = await asyncio.open_connection(HOST, port), first
        while time.perf_counter() < end:
            try:
                status, body = await _ask(streams, _post(port, "/models/pictures/predict", files[number % len(files)]))
                if status == 503:
                    await asyncio.sleep(0.05)
                    continue
                good = status == 200 and json.loads(body)["predictions"][0]["top"][0]["label"] == wanted[number % len(files)]
                right, wrong = right + good, wrong + (not good)
            except (OSError, asyncio.IncompleteReadError, Asked):
                lost += 1
                streams = await asyncio.open_connection(HOST, port)
            number += 7
        streams[1].close()

    async def fault(kind: str) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            if kind == "bomb":
                writer.write(_post(port, "/models/pictures/predict", _bomb()))
            elif kind == "cut":
                writer.write(_post(port, "/models/pictures/predict", files[0][:100], length=len(files[0])))
                await writer.drain()
                return
            elif kind == "slow":
                for byte in _post(port, "/models/pictures/predict", files[0])[:40]:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.1)
                return
            elif kind == "type":
                writer.write(
                    _post(port, "/models/pictures/predict", b"\xff" * 500, random.choice(["text/html", "application/json", "image/png"]))
                )
            else:
                writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: " + b"x" * 200_000 + b"\r\n\r\n")
            await writer.drain()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
            status = head.split(b" ")[1].decode()
            statuses[kind][status] = statuses[kind].get(status, 0) + 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError, IndexError):
            statuses[kind]["cut off"] = statuses[kind].get("cut off", 0) + 1
        finally:
            writer.close()

    async def evil(number: int) -> None:
        while time.perf_counter() < end:
            await fault(FAULTS[number % len(FAULTS)])
            number += 1
            await asyncio.sleep(0.05)

    async def watching() -> None:
        while time.perf_counter() < end:
            memory.append(_memory(process))
            await asyncio.sleep(1)

    await asyncio.gather(watching(), *(honest(number) if number % 10 else evil(number // 10) for number in range(64)))
    quarter = memory[len(memory) // 4]
    return {
        "right": right, "wrong": wrong, "lost": lost, "statuses": statuses, "memory after a quarter": quarter,
        "memory at the end": memory[-1], "grown": memory[-1] / quarter - 1,
    }  # fmt: skip


# ---------------------------------------------------------------- texts


def endpoint(options: argparse.Namespace) -> dict[str, Any]:
    """16 clients of the language endpoint for 60 seconds (--minutes 1), streaming, one request in ten cut off: errors, milliseconds to the
    first token, tokens a second, memory after a quarter and at the end. The model is trained on tiny Shakespeare for a minute."""
    seconds = 60 * (options.minutes or 1.0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run_lamina("train", *_book(place), "--minutes", "1", place=place)
        with _server(place / "book.lamina") as (port, process):
            return asyncio.run(_endpoint(port, process, seconds))


async def _endpoint(port: int, process: subprocess.Popen, seconds: float) -> dict[str, Any]:
    end, firsts, tokens, errors, cut, memory = time.perf_counter() + seconds, [], 0, 0, 0, []
    body = {"model": "book", "prompt": "ROMEO:", "max_tokens": 100, "stream": True}

    async def client(number: int) -> None:
        nonlocal tokens, errors, cut
        while time.perf_counter() < end:
            reader, writer = await asyncio.open_connection(HOST, port)
            begun, first = time.perf_counter(), None
            writer.write(_post(port, "/v1/completions", json.dumps({**body, "seed": number}).encode(), "application/json"))
            number += 16
            stops, seen = number % 10 == 0, b""
            try:
                while b"[DONE]" not in seen[-64:]:
                    part = await asyncio.wait_for(reader.read(65_536), 30)
                    if not part:
                        raise OSError("cut")
                    seen += part
                    if first is None and b"data:" in seen:
                        first = time.perf_counter() - begun
                        firsts.append(1_000 * first)
                    if stops and seen.count(b"data:") > 10:
                        cut += 1
                        break
                else:
                    tokens += seen.count(b"data: {")
            except (OSError, TimeoutError):
                errors += 1
            writer.close()

    async def watching() -> None:
        while time.perf_counter() < end:
            memory.append(_memory(process))
            await asyncio.sleep(1)

    await asyncio.gather(watching(), *(client(number) for number in range(16)))
    quarter = memory[len(memory) // 4]
    return {
        "errors": errors, "cut off": cut, "texts": len(firsts), "first token p50 ms": statistics.median(firsts),
        "first token p95 ms": float(np.quantile(firsts, 0.95)), "tokens a second": tokens / seconds,
        "memory after a quarter": quarter, "memory at the end": memory[-1], "grown": memory[-1] / quarter - 1,
    }  # fmt: skip


# ---------------------------------------------------------------- watching


def watched(options: argparse.Namespace) -> dict[str, Any]:
    """A training of Fashion-MNIST (--minutes 2) with its page open in a browser on the same machine: seconds for which the training stood
    still to be looked at, and the CPU seconds of the server and of the browser, for those are taken from it. What they are of ten minutes
    is reckoned: there are as many looks then, and the rest goes on as after the first SETTLED seconds. Paired trainings tell nothing on a
    machine whose speed changes by a tenth from one to the next."""
    from lamina.explain import Watcher

    looks: list[float] = []

    def timed(name: str) -> Any:
        own = getattr(Watcher, name)

        def call(*given: Any) -> Any:
            begun = time.perf_counter()
            found = own(*given)
            looks.append(time.perf_counter() - begun)
            return found

        return mock.patch.object(Watcher, name, call)

    with tempfile.TemporaryDirectory() as folder, timed("look"), timed("layers"):
        spent = _train_watched(Path(folder), options.minutes or 2.0)
    settled = next(row for row in spent if row[0] >= SETTLED)
    later = [now - then for now, then in zip(spent[-1], settled, strict=True)]
    server, browser = (settled[each] + later[each] / later[0] * (600 - SETTLED) for each in (1, 2))
    return {
        "looks": {"n": len(looks), "seconds": sum(looks), "longest": max(looks)},
        "cpu seconds": {"server": spent[-1][1], "browser": spent[-1][2], "after": spent[-1][0]},
        "of ten minutes": (sum(looks) + server) / 600, "the same with the browser": (sum(looks) + server + browser) / 600,
    }  # fmt: skip


def _train_watched(place: Path, minutes: float) -> list[tuple[float, float, float]]:
    """(seconds, CPU seconds of the server, of the browser until then) as the training goes."""
    from lamina.pipeline import train
    from lamina.screen import Screen
    from lamina.serve.watched import Page

    page, over, spent = Page(Screen(quiet=True)), threading.Event(), [(0.0, 0.0, 0.0)]
    browsers: list[subprocess.Popen] = []

    def begin(run: Path) -> None:
        page.open(run)
        command = ["chromium", "--headless=new", "--no-sandbox", f"--user-data-dir={place / 'browser'}", "--remote-debugging-port=0"]
        browsers.append(subprocess.Popen([*command, page.address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        threading.Thread(target=count, daemon=True).start()

    def count() -> None:
        assert page.server is not None
        begun, server, browser = time.perf_counter(), page.server.pid, browsers[0].pid
        while not over.wait(1):
            spent.append((time.perf_counter() - begun, _cpu_seconds(server), _cpu_seconds(browser)))

    settings = {"minutes": minutes, "verdict_share": 0.0, "out": place / "m.lamina", "runs": place / "runs"}
    train("sample:fashion-mnist", watch=begin, **settings)
    over.set()
    page.close()
    for each in browsers:
        each.terminate()
        each.wait()
    return spent


def _cpu_seconds(process: int) -> float:
    """Of the process and all that it started, directly or not, and that are still there."""
    parents, ticks = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            parents[int(file.parent.name)], ticks[int(file.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])

    def own(each: int) -> bool:
        return each == process or (each in parents and own(parents[each]))

    return sum(spent for each, spent in ticks.items() if own(each)) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- exports


def exported(options: argparse.Namespace) -> dict[str, Any]:
    """A small training of every task on real data beside the project, exported to ONNX and compared on 200 held-out values each: labels,
    and the largest difference of a number. --data names some of them, between semicolons. How well they learn does not matter here."""
    wanted = options.data.split(";") if options.data else list(EXPORTED)
    found: dict[str, Any] = {}
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            source, *flags = EXPORTED[name](place)
            run_lamina("train", source, *flags, "--epochs", "0.1" if name in LONG else "1", "--out", "m.lamina", place=place)
            its = run_lamina("export", "m.lamina", "m.onnx", "--to", "onnx", place=place)
            found[name] = {field: its[field] for field in ("compared", "real", "largest_difference")}
    return found


def _colors(place: Path) -> list[str]:
    """CIFAR-10's first 60 training photos of each class, and 300 of its test photos, as files."""
    from PIL import Image

    from benchmarks.common import cifar10

    examples = cifar10(60)
    kept = [*range(600), *range(len(examples) - 300, len(examples))]
    for index in kept:
        file = place / "photos" / examples.parts[index] / examples.answers[index] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(examples.raws[index]).save(file)
    return [str(place / "photos")]


def _speech(place: Path) -> list[str]:
    return [of_speech._an4(place / "an4")[0], "--as", "transcribe", *DEEP_ALONE]


def _rows_of(name: str, *cells: str) -> Callable[[Path], list[str]]:
    """A table of recordings: their paths, and a column of the manifest."""
    archive, column, *flags = cells

    def write(place: Path) -> list[str]:
        of_people._unpacked(DATA / name / archive, place)
        rows = [(row["path"], row[column], "" if flags else row["split"]) for row in of_people._manifest(name)]
        return [
            of_people._table(place, rows if not flags else [row[:2] for row in rows], ("path", "label", "split")[: 2 + (not flags)]),
            *flags,
        ]

    return write


def _faces(place: Path) -> list[str]:
    of_people._unpacked(DATA / "orl_faces" / "images.zip", place / "faces")
    return [str(place / "faces"), "--as", "verify"]


def _unzipped(name: str, file: str, *flags: str) -> Callable[[Path], list[str]]:
    def write(place: Path) -> list[str]:
        (place / "table.csv").write_bytes(gzip.decompress((DATA / name / file).read_bytes()))
        return [str(place / "table.csv"), *flags]

    return write


def _book(place: Path) -> list[str]:
    (place / "book.txt").write_bytes(gzip.decompress((DATA / "tinyshakespeare" / "input.txt.gz").read_bytes()))
    return [str(place / "book.txt"), "--as", "language", *DEEP_ALONE]


def _picks(place: Path) -> list[str]:
    source, protocol = of_choices._choices(place, "ml-100k")
    return [source, "--as", "recommend", *["--last-out"] * bool(protocol.get("last_out")), *DEEP_ALONE]


LONG = ("pictures", "language")
"""Of which a tenth of an epoch will do."""
DEEP_ALONE = ("--verdict-share", "0")
EXPORTED: dict[str, Callable[[Path], list[str]]] = {
    "pictures": lambda place: ["sample:fashion-mnist", *DEEP_ALONE],
    "colors": lambda place: [*_colors(place), *DEEP_ALONE],
    "colors, classical": lambda place: [*_colors(place), "--use", "classical"],
    "sounds": _rows_of("fsdd", "recordings.zip", "digit"),
    "speech": _speech,
    "faces": _faces,
    "voices": _rows_of("an4", "audio.zip", "speaker", "--as", "verify"),
    "texts": lambda place: [of_words._table(place, "sst2"), *DEEP_ALONE],
    "rows": lambda place: [str(DATA / "titanic" / "titanic.csv"), "--label-column", "survived", *DEEP_ALONE],
    "rows, classical": lambda place: [str(DATA / "titanic" / "titanic.csv"), "--label-column", "survived", "--use", "classical"],
    "numbers": _unzipped("california_housing", "housing.csv.gz", "--label-column", "median_house_value", *DEEP_ALONE),
    "choices": _picks,
    "language": _book,
}
"""By name, what writes its data into a folder and says how `lamina train` is called."""


# ---------------------------------------------------------------- the page


def painted(options: argparse.Namespace) -> dict[str, Any]:
    """The page opened in a new browser without anything kept (--rounds, 20): milliseconds until it is first painted, on a desktop and on a
    phone's screen."""
    import shutil

    from playwright.sync_api import sync_playwright

    told = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    found: dict[str, list[float]] = {"desktop": [], "phone": []}
    with tempfile.TemporaryDirectory() as folder, _server(_picture_model(Path(folder))[0]) as (port, _), sync_playwright() as playwright:
        playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]).close()  # read from the disk once
        for _ in range(options.rounds or 20):
            for name, size in (("desktop", {"width": 1200, "height": 900}), ("phone", {"width": 390, "height": 800})):
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page(viewport=size)
                page.goto(f"http://{HOST}:{port}/")
                page.locator("#controls input").first.wait_for()
                found[name].append(float(page.evaluate(told)))
                browser.close()
    return {name: {"median": statistics.median(values), "largest": max(values), "n": len(values)} for name, values in found.items()}

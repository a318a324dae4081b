"""The page in a real browser, with fake devices: a training watched, a network looked into, a 7 drawn, a face and a voice enrolled,
unlocked and refused; nothing is asked of another address, and a screen reader finds its way on every view."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_people import face

import lamina
from lamina.inputs import AudioInput, ImageInput
from lamina.layers import Embedding, Flatten, LogMel, Standardize, TimePool
from lamina.metrics import Opening
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import IdentityOutput
from lamina.settings import Serving

pytest.importorskip("fastapi", reason="serving needs: pip install 'lamina[serve]'")
from lamina.serve import Server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SHOTS = Path(__file__).parent / "shots"
"""Where pictures of the page are put, when the folder is there: to be looked at."""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
OUTPUT = IdentityOutput(openings=(Opening(0.01, 0.01, 0.03, 0.97, 0.05),) * 18, held_out=30, compared=20_000)


def with_faces() -> Model:
    """Compares pixels, which is enough for faces that do not move."""
    first = Standardize(1)
    first.mean.fill_(127)
    first.deviation.fill_(60)
    layers = [("input", first), ("flatten", Flatten()), ("embedding", Embedding(24 * 24, 24 * 24)), ("head", OUTPUT.head(24 * 24))]
    return Model("verify", ImageInput(24, 1, faces=True), Network(layers).eval(), OUTPUT)


def with_voices() -> Model:
    """Compares how loud each pitch is on average."""
    input = AudioInput(16_000, 48_000, 40, voices=True)
    layers = [("input", LogMel(16_000, 40)), ("pool", TimePool()), ("embedding", Embedding(40, 40)), ("head", OUTPUT.head(40))]
    network = Network(layers).eval()
    network.layers["embedding"].mean.copy_(torch.full((40,), -0.15))
    loose = replace(OUTPUT, openings=(Opening(0.01, 0.01, 0.03, 0.8, 0.05),) * 18)  # a device played in real time is never twice the same
    return Model("verify", input, network, loose)


@contextmanager
def serving(paths, **options):
    server = Server(paths, Serving(port=0, admin_token="chief"), **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.server.started:
        time.sleep(0.02)
    yield server
    server.stop()
    thread.join(20)


class Browser:
    """A page of Chromium; what it says in its console, and what it asks of other addresses, are faults."""

    def __init__(self, playwright, address: str, device: str = "", phone: bool = False, dark: bool = False) -> None:
        arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--no-sandbox"]
        arguments += [f"--use-file-for-fake-{device}"] * bool(device)
        self.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        size = {"width": 390, "height": 800} if phone else {"width": 1200, "height": 900}
        self.page = self.browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        own = (address.split("#", maxsplit=1)[0], "data:", "blob:")
        self.page.on("request", lambda asked: None if asked.url.startswith(own) else self.faults.append(asked.url))
        self.page.goto(address)

    def check(self, name: str) -> None:
        """No fault, nothing that a screen reader or a keyboard cannot reach, nothing wider than the screen."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        assert not found, (name, [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found])
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the screen"
        assert not self.faults, self.faults
        if SHOTS.is_dir():
            self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@contextmanager
def browsing(address: str, **how):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = Browser(playwright, address, **how)
        yield made
        made.browser.close()
        assert not made.faults, made.faults


SEVEN = ((80, 40), (200, 40), (120, 245))
"""A 7, as corners of a line on the pad."""


@pytest.mark.slow
def test_the_whole_of_it(tmp_path):
    """Digits are trained while they are watched; the network is looked into, the verdict read, a 7 drawn and told."""
    from playwright.sync_api import expect

    command = [sys.executable, "-m", "lamina", "train", "sample:digits", "--watch", "--epochs", "12", "--threads", "1"]
    command += ["--out", str(tmp_path / "digits.lamina"), "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    with open(tmp_path / "said.txt", "w", encoding="utf-8") as said:
        training = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        address = _address(tmp_path / "said.txt")
        with browsing(address) as browser:
            page = browser.page
            expect(page.locator("#watch-title")).to_be_visible(timeout=30_000)
            expect(page.locator("#seen")).to_contain_text("Step", timeout=120_000)
            expect(page.locator(".network button").first).to_be_visible(timeout=60_000)
            browser.check("watch")
            page.get_by_role("button", name="One step in slow motion").click(timeout=120_000)
            expect(page.locator(".motion")).to_contain_text("Backward", timeout=60_000)
            expect(page.locator("#seen")).to_contain_text("Finished", timeout=300_000)
            page.get_by_role("button", name="Try it").click(timeout=60_000)
            page.get_by_role("button", name="Draw", exact=True).click()
            _draw(page, SEVEN)
            browser.check("try")
            page.locator("#controls").get_by_role("button", name="What is it?").click()
            expect(page.locator("#answer .large")).to_have_text("7", timeout=20_000)
            page.get_by_role("button", name="Verdict").click()
            expect(page.locator("#sentence")).to_contain_text("classical")
            expect(page.locator("#chart circle")).to_have_count(3)
            expect(page.locator("#mistakes li").first).to_contain_text("it is", timeout=20_000)
            browser.check("verdict")
            _until_looked_into(address + "v1/models/digits-1")
            page.get_by_role("button", name="Inside").click()
            within = page.locator("#within")
            within.get_by_role("button", name="Draw", exact=True).click()
            _draw(page, SEVEN, "#within ")
            within.get_by_role("button", name="What is it?").click()
            expect(within.locator(".stages canvas.map").first).to_be_visible(timeout=20_000)
            expect(within.locator(".movers img").first).to_be_visible()
            expect(within.locator(".reads").last).to_contain_text("with random weights")
            within.locator("button.unit").first.click()
            expect(within.get_by_text("One artificial neuron")).to_be_visible(timeout=20_000)
            within.get_by_text("The whole report").click()
            expect(within.frame_locator("iframe").get_by_role("heading", name="Inside")).to_be_visible(timeout=20_000)
            browser.check("inside")
    finally:
        training.terminate()
        training.wait(30)


def _address(said: Path) -> str:
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:\d+/", said.read_text("utf-8")):
            for _ in range(300):
                try:
                    urllib.request.urlopen(found[0] + "health", timeout=2).close()
                    return found[0]
                except OSError:
                    time.sleep(0.1)
        time.sleep(0.1)
    raise AssertionError(said.read_text("utf-8"))


def _until_looked_into(address: str) -> None:
    for _ in range(600):
        with urllib.request.urlopen(address) as told:
            if json.load(told)["atlas"]:
                return
        time.sleep(0.1)
    raise AssertionError("layers.json did not come")


def _draw(page, corners, within: str = "#try ") -> None:
    box = page.locator(within + "canvas.pad").bounding_box()
    page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=8)
    page.mouse.up()


@pytest.mark.slow
def test_pause_and_stop(tmp_path):
    """A training that is told to wait waits, goes on when told, and ends early with a saved model when told to stop and keep."""
    from lamina.training.control import ask
    from lamina.training.events import read_events

    random = np.random.default_rng(0)
    values, targets = random.integers(0, 255, (400, 12, 12, 1)).astype(np.uint8), np.arange(400) % 2
    box: list[lamina.Model] = []
    seen: list[Path] = []

    def begin(folder: Path) -> None:
        (folder / "live").mkdir()
        seen.append(folder)

    options = {"epochs": 4_000, "width": 8, "threads": 1, "verdict_share": 0.0, "cache": str(tmp_path / "cache")}
    from lamina.pipeline import train

    thread = threading.Thread(
        target=lambda: box.append(train((values, targets), out=tmp_path / "m.lamina", runs=tmp_path / "runs", watch=begin, **options))
    )
    thread.start()

    def steps() -> list[dict]:
        return [event for event in read_events(seen[0] / "events.jsonl") if event["event"] == "stepped"] if seen else []

    def until(true, seconds: float = 60) -> None:
        for _ in range(int(seconds * 20)):
            if true():
                return
            time.sleep(0.05)
        raise AssertionError("it did not come")

    until(lambda: len(steps()) >= 2)
    ask(seen[0], "pause")
    until(lambda: any(event["event"] == "paused" for event in read_events(seen[0] / "events.jsonl")))
    waits = len(steps())
    time.sleep(1.5)
    assert len(steps()) == waits
    ask(seen[0], "go-on")
    until(lambda: len(steps()) > waits)
    ask(seen[0], "stop")
    thread.join(60)
    assert box and (tmp_path / "m.lamina").exists() and not (seen[0] / "control.json").exists()
    finished = [event for event in read_events(seen[0] / "events.jsonl") if event["event"] == "finished"][-1]
    planned = 4_000 * 0.8 * 400 / 256
    assert finished["step"] < planned / 2
    assert (seen[0] / "live" / "network.json").exists() and (seen[0] / "live" / "00.json").exists()


def opinions(count: int = 80) -> list[tuple[str, str]]:
    words = {"good": ("wonderful", "lovely", "bright"), "bad": ("dull", "awful", "grey")}
    return [(f"a {words[kind][n % 3]} film, number {n}", kind) for n in range(count) for kind in words]


@pytest.mark.slow
def test_rows_texts_histories_and_talk(tmp_path):
    """A table filled in, a text typed, films picked, a text gone on with, a talk: each kind of model is asked in its own way."""
    import test_language
    import test_recommend
    from playwright.sync_api import expect

    options = {"runs": tmp_path / "runs", "cache": str(tmp_path / "cache"), "verdict_share": 0.0, "threads": 1}
    (tmp_path / "rows.csv").write_text(
        "size,color,kind\n" + "".join(f"{n % 7},{('red', 'blue')[n % 2]},{'xy'[n % 7 > 3]}\n" for n in range(200))
    )
    lamina.train(tmp_path / "rows.csv", label_column="kind", epochs=10, width=8, out=tmp_path / "rows.lamina", **options)
    (tmp_path / "opinions.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in opinions()))
    lamina.train(tmp_path / "opinions.csv", epochs=6, out=tmp_path / "opinions.lamina", **options)
    test_recommend.table_of(tmp_path / "choices.csv")
    (tmp_path / "titles.csv").write_text("item,title\n" + "".join(f"i{n},Film {n:02d} (1990)\n" for n in range(test_recommend.ITEMS)))
    lamina.train(
        tmp_path / "choices.csv",
        task="recommend",
        titles=str(tmp_path / "titles.csv"),
        epochs=2,
        width=32,
        out=tmp_path / "films.lamina",
        **options,
    )
    (tmp_path / "book.txt").write_text(test_language.book(200))
    tale = lamina.train(tmp_path / "book.txt", epochs=1, out=tmp_path / "tale.lamina", **options | test_language.OPTIONS)
    tale.input = replace(tale.input, talks=True)
    tale.save(tmp_path / "talk.lamina")
    paths = [tmp_path / f"{name}.lamina" for name in ("rows", "opinions", "films", "tale", "talk")]
    with serving(paths) as server, browsing(server.address + "/") as browser:
        page = browser.page

        def opened(name: str) -> None:
            page.locator("#models").get_by_role("button", name=name, exact=True).click()

        opened("rows")
        page.locator("#try").get_by_label("size").fill("6")
        page.locator("#try").get_by_label("color").select_option("red")
        page.get_by_role("button", name="What is it?").first.click()
        expect(page.locator("#answer .large")).to_have_text("y", timeout=20_000)
        browser.check("rows")
        page.get_by_role("button", name="Inside").click()
        page.locator("#within").get_by_label("size").fill("1")
        page.locator("#within").get_by_role("button", name="What is it?").click()
        expect(page.locator(".stages canvas.map").first).to_be_visible(timeout=20_000)
        browser.check("rows-inside")
        opened("opinions")
        page.locator("#try").get_by_label("A text").fill("an awful film, dull and grey")
        page.locator("#try").get_by_role("button", name="What is it?").click()
        expect(page.locator("#answer .large")).to_have_text("bad", timeout=20_000)
        browser.check("opinions")
        opened("films")
        for title in ("Film 07 (1990)", "Film 08 (1990)"):
            page.get_by_label("What was chosen").fill(title[:6])
            page.get_by_label("What was chosen").fill(title)
            expect(page.locator(".chips li").last).to_contain_text(title, timeout=10_000)
        page.get_by_role("button", name="What next?").click()
        expect(page.locator("#answer tbody tr")).to_have_count(10, timeout=20_000)
        browser.check("films")
        opened("tale")
        page.get_by_label("How it begins").fill("Once ")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#answer .said")).to_have_text(re.compile("Once .{20}", re.DOTALL), timeout=30_000)
        browser.check("tale")
        opened("talk")
        page.get_by_label("You").fill("Who are you?")
        page.get_by_label("You").press("Enter")
        expect(page.locator("#controls .said").last).to_have_text(re.compile(".{5}", re.DOTALL), timeout=30_000)
        browser.check("talk")


def video(path, picture: np.ndarray) -> None:
    """A camera that sees one picture, as YUV4MPEG2."""
    high, wide = picture.shape
    frame = b"FRAME\n" + picture.tobytes() + b"\x80" * (high * wide // 2)
    path.write_bytes(f"YUV4MPEG2 W{wide} H{high} F10:1 Ip A1:1 C420jpeg\n".encode() + 30 * frame)


def seen_by_camera(person: int) -> np.ndarray:
    return np.kron(face(person, 0), np.ones((10, 10), np.uint8))


def of_people(server: Server, device: str, name: str, button: str, shot: str = "") -> str:
    """Open the page with a fake device; press a button; what it says."""
    from playwright.sync_api import expect

    with browsing(server.address + "/#admin=chief", device=device, phone=True, dark=True) as browser:
        page = browser.page
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#answer .large")).to_be_visible(timeout=40_000)
        if shot:
            browser.check(shot)
        return page.inner_text("#answer")


@pytest.mark.slow
def test_camera_enrolls_unlocks_and_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    video(tmp_path / "ana.y4m", seen_by_camera(1))
    video(tmp_path / "ben.y4m", seen_by_camera(2))
    with_faces().save(tmp_path / "door.lamina")
    ana, ben = (f"video-capture={tmp_path / name}.y4m" for name in ("ana", "ben"))
    with serving([tmp_path / "door.lamina"], store=str(tmp_path / "store")) as server:
        assert "ana is enrolled with 3 examples" in of_people(server, ana, "ana", "Enroll", "enroll")
        assert "Unlocked: ana" in of_people(server, ana, "ana", "Unlock as this person")
        assert "Refused" in of_people(server, ben, "ana", "Unlock as this person", "refused")
        assert "Refused" in of_people(server, ben, "ben", "Who is it?")


@pytest.mark.slow
def test_microphone_enrolls_unlocks_and_refuses(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    moment = np.arange(48_000 * 3) / 48_000
    for name, pitches in (("ana", (220, 440, 900)), ("ben", (150, 1_500, 3_200))):
        wave = sum(np.sin(2 * np.pi * pitch * moment) for pitch in pitches) * 0.15
        soundfile.write(tmp_path / f"{name}.wav", wave.astype(np.float32), 48_000)
    with_voices().save(tmp_path / "door.lamina")
    ana, ben = (f"audio-capture={tmp_path / name}.wav" for name in ("ana", "ben"))
    with serving([tmp_path / "door.lamina"], store=str(tmp_path / "store")) as server:
        assert "ana is enrolled with 2 examples" in of_people(server, ana, "ana", "Enroll")
        assert "Unlocked: ana" in of_people(server, ana, "ana", "Unlock as this person")
        assert "Refused" in of_people(server, ben, "ana", "Unlock as this person")

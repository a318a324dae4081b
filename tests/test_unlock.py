"""The page that unlocks: who may ask, and the whole of it in a real browser with fake devices."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import soundfile
import torch
from test_people import face

from lamina.inputs import AudioInput, ImageInput
from lamina.layers import Embedding, Flatten, LogMel, Standardize, TimePool
from lamina.metrics import Opening
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import IdentityOutput
from lamina.serve.unlock import LARGEST_BODY, Unlock

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
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


@pytest.fixture
def served(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    ready, box = threading.Event(), []

    def serve() -> None:  # a store belongs to the thread that opened it
        server = Unlock(request.param().people(tmp_path / "store"))
        box.append(server)
        ready.set()
        server.serve_forever(poll_interval=0.05)
        server.server_close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    yield box[0]
    box[0].shutdown()
    thread.join()


def asked(server, method, path, body=b"", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


@pytest.mark.parametrize("served", [with_faces], indirect=True)
def test_only_this_page_may_ask(served):
    """Without the secret, from another host's name or another page's script: refused. Broken bodies get one sentence."""
    secret = {"X_Secret": served.secret}
    assert urlsplit(served.address).hostname == "127.0.0.1" and parse_qs(urlsplit(served.address).query)["secret"] == [served.secret]
    for headers in ({}, {"X_Secret": "guess"}, {**secret, "Host": "evil.example"}, {**secret, "Origin": "http://evil.example"}):
        assert asked(served, "GET", "/people", **headers)[0].status == 403
        assert asked(served, "POST", "/revoke?name=ana", **headers)[0].status == 403
    assert asked(served, "POST", f"/revoke?name=ana&secret={served.secret}")[0].status == 403, "a form cannot send the header"
    page, content = asked(served, "GET", f"/?secret={served.secret}")
    assert page.status == 200 and b"Is this the same person" in content and page.getheader("Cache-Control") == "no-store"
    assert "frame-ancestors 'none'" in page.getheader("Content-Security-Policy") and b"http" not in content.replace(b"http-equiv", b"")
    assert asked(served, "POST", "/verify?name=ana", b"no picture", **secret)[0].status == 422
    told = json.loads(asked(served, "POST", "/enroll?name=ana", b"zzzzzzzzx", **secret)[1])
    assert "each follow their length" in told["error"]
    for body in (b"-0000008" + b"x" * 20, b"00000000", b"0000ffff" + b"x"):  # lengths that are none, and beyond the end
        assert asked(served, "POST", "/enroll?name=ana", body, **secret)[0].status == 422
    assert asked(served, "POST", "/verify?name=ana", b"", **secret, Content_Length=str(LARGEST_BODY + 1))[0].status == 413
    assert asked(served, "POST", "/other", b"", **secret)[0].status == 404 and asked(served, "GET", "/other", **secret)[0].status == 404
    assert asked(served, "GET", "/people", **secret)[0].status == 200, "and it still answers"


def video(path, picture: np.ndarray) -> None:
    """A camera that sees one picture, as YUV4MPEG2."""
    high, wide = picture.shape
    frame = b"FRAME\n" + picture.tobytes() + b"\x80" * (high * wide // 2)
    path.write_bytes(f"YUV4MPEG2 W{wide} H{high} F10:1 Ip A1:1 C420jpeg\n".encode() + 30 * frame)


def seen_by_camera(person: int) -> np.ndarray:
    return np.kron(face(person, 0), np.ones((10, 10), np.uint8))


def in_browser(served, device, name, button):
    """Open the page with a fake device; press a button; what it says."""
    from playwright.sync_api import expect, sync_playwright

    arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-{device}", "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(served.address)
        expect(page.locator("#answer")).to_have_text("Ready.", timeout=20_000)
        page.fill("#name", name)
        page.click(button)
        expect(page.locator("#answer")).to_have_class(re.compile("yes|no"), timeout=30_000)
        expect(page.locator("#enroll")).to_be_enabled(timeout=20_000)
        said, listed = page.inner_text("#answer"), page.inner_text("#people")
        problems = []
        if button == "#enroll":
            from axe_playwright_python.sync_playwright import Axe

            problems = [each["id"] for each in Axe().run(page).response["violations"]]
        browser.close()
    assert not errors and not problems, (errors, problems)
    return said, listed


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("served", [with_faces], indirect=True)
def test_camera_enrolls_unlocks_and_refuses(served, tmp_path):
    video(tmp_path / "ana.y4m", seen_by_camera(1))
    video(tmp_path / "ben.y4m", seen_by_camera(2))
    said, listed = in_browser(served, f"video-capture={tmp_path / 'ana.y4m'}", "ana", "#enroll")
    assert "ana is enrolled with 5 examples" in said and "ana (5 examples)" in listed
    assert "Unlocked: ana" in in_browser(served, f"video-capture={tmp_path / 'ana.y4m'}", "ana", "#verify")[0]
    assert "Refused" in in_browser(served, f"video-capture={tmp_path / 'ben.y4m'}", "ana", "#verify")[0]
    assert "Refused" in in_browser(served, f"video-capture={tmp_path / 'ben.y4m'}", "ben", "#identify")[0]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("served", [with_voices], indirect=True)
def test_microphone_enrolls_unlocks_and_refuses(served, tmp_path):
    time = np.arange(48_000 * 3) / 48_000
    for name, pitches in (("ana", (220, 440, 900)), ("ben", (150, 1_500, 3_200))):
        wave = sum(np.sin(2 * np.pi * pitch * time) for pitch in pitches) * 0.15
        soundfile.write(tmp_path / f"{name}.wav", wave.astype(np.float32), 48_000)
    said, _ = in_browser(served, f"audio-capture={tmp_path / 'ana.wav'}", "ana", "#enroll")
    assert "ana is enrolled with 2 examples" in said
    assert "Unlocked: ana" in in_browser(served, f"audio-capture={tmp_path / 'ana.wav'}", "ana", "#verify")[0]
    assert "Refused" in in_browser(served, f"audio-capture={tmp_path / 'ben.wav'}", "ana", "#verify")[0]

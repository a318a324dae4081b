"""The report: one page that loads nothing, whatever the files are called, and fits a phone."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import encoded, put
from playwright.sync_api import sync_playwright
from test_classical import noisy_stripes

import lamina
from lamina.errors import DataError
from lamina.report import write_report

HOSTILE = "<script>alert(1)</script>&\"'"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(model, page) of a training on files with hostile names, one of them broken."""
    root = tmp_path_factory.mktemp("report")
    values, labels = noisy_stripes(120)
    flipped = np.random.default_rng(0).random(120) < 0.1
    for number, (value, label, wrong) in enumerate(zip(values, labels, flipped, strict=True)):
        name = "columns" if (label == "columns") != wrong else HOSTILE.replace("/", "")
        put(root / "data", f"{name}/{HOSTILE.replace('/', '')}-{number}.png", encoded(value))
    put(root / "data", f"columns/{HOSTILE.replace('/', '')}.png", b"\x89PNG\r\n\x1a\nbroken")
    model = lamina.train(root / "data", epochs=2, width=8, out=root / "m.lamina", runs=root / "runs", threads=1)
    model.layers()
    return model, Path(model.card["run"]) / "report.html"


def test_page_holds_what_matters(made):
    """The sentence on top, every section, the broken file by name, the mistakes with their pictures; at most 5 MB."""
    text = made[1].read_text()
    assert len(text) < 5_000_000 and text.count("<h1>") == 1
    assert text.index('class="sentence"') < text.index("Deep learning against the other ways")
    for words in (
        "By class",
        "What was told for what",
        "probabilities be believed",
        "Mistakes",
        "Training",
        "Audit: 1 excluded",
        "make it again",
        "From noise to order",
        "Why these answers",
    ):
        assert words in text
    assert "data:image/png;base64," in text and text.count('role="img"') >= 3
    assert "truncated" in text or "unreadable" in text


def test_page_loads_nothing_and_names_are_text(made):
    """No address outside, a policy that forbids loading, and names of files and classes that stay text."""
    text = made[1].read_text()
    assert "default-src 'none'" in text and "<script" not in text and "&lt;script&gt;" in text
    assert all(address.startswith("data:image/png") for address in re.findall(r'(?:src|href|action)="([^"#]*)"', text) if address)
    assert "url(http" not in text and "@import" not in text


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_page_in_a_browser(made, browser, width, scheme):
    """Nothing is wider than the window, nothing is asked for but the page itself, the console stays empty, and axe finds nothing that a
    screen reader, a keyboard or weak eyes could not use (WCAG 2.1 A and AA)."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    asked, console = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.goto(made[1].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [made[1].as_uri()] and not console
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert not found.response["violations"], found.generate_report()
    context.close()


def test_page_by_keyboard(made, browser):
    """Tab reaches each table that may scroll, in order, by name, and shows where it is; an arrow key scrolls it."""
    page = browser.new_page(viewport={"width": 375, "height": 900})
    page.goto(made[1].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    regions = page.locator("[role=region], summary")
    for number in range(regions.count()):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == regions.nth(number).get_attribute("aria-label")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    wide = [n for n in range(regions.count()) if regions.nth(n).evaluate("e => e.scrollWidth > e.clientWidth")]
    regions.nth(wide[0]).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert regions.nth(wide[0]).evaluate("e => e.scrollLeft") > 0
    page.close()


def test_report_of_a_model(made, tmp_path):
    """Written again from the run folder, to the same bytes; a folder that holds no facts is said."""
    model, page = made
    again = write_report(Path(model.card["run"]), model.card, tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes()
    with pytest.raises(DataError, match=r"report\.json"):
        write_report(tmp_path, model.card, tmp_path / "none.html")
    for name in ("report.json", "audit.json", "events.jsonl"):
        shutil.copy(page.parent / name, tmp_path / name)
    facts = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({name: value for name, value in facts.items() if name != "labels"}))
    with pytest.raises(DataError, match="this release"):
        write_report(tmp_path, model.card, tmp_path / "none.html")


def test_report_without_a_verdict(tmp_path):
    x, y = noisy_stripes(40)
    model = lamina.train((x, y), epochs=1, width=8, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1, verdict_share=0)
    text = (Path(model.card["run"]) / "report.html").read_text()
    assert "against the other ways" not in text and "By class" in text


def test_model_card(made):
    """card.json is the card; card.md has a head that YAML reads (JSON is YAML) and names that are no markup."""
    model, page = made
    assert json.loads((page.parent / "card.json").read_text()) == json.loads(json.dumps(model.card))
    text = (page.parent / "card.md").read_text()
    _, head, body = text.split("---\n", 2)
    values = dict(line.split(": ", 1) for line in head.strip().splitlines())
    results = json.loads(values["model-index"])[0]["results"][0]
    assert values["library_name"] == "lamina" and results["metrics"][0]["value"] == model.card["score"]["value"]
    assert "<script>" not in body.replace("\\<script\\>", "") and "cross-fitted" in body and "Limits" in body

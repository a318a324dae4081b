"""People: metrics of pairs, thresholds and their bounds, the store and everything that must be refused, the commands."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import lamina
from lamina import studies
from lamina.cli import app
from lamina.data.audit import audit
from lamina.data.examples import Examples
from lamina.data.raw import FileRaw
from lamina.data.split import divide, save_split
from lamina.errors import DataError, ModelFileError, ResourceError, UsageError
from lamina.experiments import experiment
from lamina.inputs import AudioInput, ImageInput
from lamina.inputs.faces import EYES, FACES_EXTRA, eyes_of, finder_available
from lamina.layers import Context, Embedding, Flatten
from lamina.metrics import equal_error_interval, openings, smallest_rate, trials_of
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import ClassesOutput, IdentityOutput
from lamina.people import People
from lamina.people.store import FILE, Store
from lamina.screen import Screen
from lamina.settings import Settings

PEOPLE, EACH = 24, 8
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def embeddings(people: int, each: int, width: int = 16, noise: float = 0.6, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    middle = random.normal(size=(people, 1, width))
    made = (middle + noise * random.normal(size=(people, each, width))).reshape(-1, width).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True), [f"p{number // each}" for number in range(people * each)]


def face(person: int, number: int, side: int = 48) -> np.ndarray:
    """A drawn face: brows, eyes and mouth where the person has them, moved and lit a little differently each time."""
    own, random = np.random.default_rng(person), np.random.default_rng(1_000 * person + number)
    y, x = np.mgrid[0:side, 0:side] / side
    picture = np.full((side, side), 0.35)
    head = ((x - 0.5) / own.uniform(0.3, 0.45)) ** 2 + ((y - 0.5) / own.uniform(0.38, 0.48)) ** 2 < 1
    picture[head] = own.uniform(0.55, 0.9)
    dx, dy = random.normal(0, 0.012, 2)
    for place in (-1, 1):
        gap, high = own.uniform(0.12, 0.2), own.uniform(0.36, 0.45)
        picture[((x - 0.5 - dx - place * gap) / own.uniform(0.05, 0.1)) ** 2 + ((y - high - dy) / 0.05) ** 2 < 1] = 0.1
        picture[(abs(x - 0.5 - dx - place * gap) < 0.09) & (abs(y - high - dy + own.uniform(0.07, 0.14)) < 0.02)] = 0.2
    wide, low = own.uniform(0.08, 0.2), own.uniform(0.66, 0.78)
    picture[(abs(x - 0.5 - dx) < wide) & (abs(y - low - dy) < own.uniform(0.015, 0.05))] = 0.15
    picture = picture * random.uniform(0.85, 1.1) + 0.1 * random.uniform(-1, 1) * (x - 0.5) + random.normal(0, 0.03, picture.shape)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder a person, and the model trained on it."""
    folder = tmp_path_factory.mktemp("album")
    for person in range(PEOPLE):
        (folder / "faces" / f"p{person:02d}").mkdir(parents=True)
        for number in range(EACH):
            Image.fromarray(face(person, number)).save(folder / "faces" / f"p{person:02d}" / f"{number}.png")
    model = lamina.train(
        folder / "faces", task="verify", epochs=12, width=12, side=48, threads=1, out=folder / "door.lamina", runs=folder / "runs",
        cache=str(folder / "cache"),
    )  # fmt: skip
    return folder, model


@pytest.fixture
def people(album, tmp_path, monkeypatch):
    folder, _ = album
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return lamina.load(folder / "door.lamina").people(tmp_path / "store")


# ---------------------------------------------------------------- metrics


def test_equal_error_of_what_is_known():
    """By hand: perfect, blind, and one of four pairs wrong on each side."""
    perfect = trials_of(np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32), ["a", "a", "b", "b"])
    assert perfect.equal_error() == 0 and perfect.rejected_at(0.01) == 0
    blind = trials_of(np.ones((6, 1), np.float32), ["a", "a", "b", "b", "c", "c"])
    assert blind.equal_error() == 0.5 and blind.rejected_at(0.5) == 1
    made, names = embeddings(40, 5)
    trials = trials_of(made, names)
    accepts, rejects = trials.rates()
    likeness, same = made @ made.T, np.array(names)[:, None] == np.array(names)
    above = np.triu(np.ones_like(same), 1).astype(bool)
    for cut in (100, 2_000, 9_000):
        threshold = trials.threshold(cut)
        assert accepts[cut] == pytest.approx((likeness[~same & above] >= threshold).mean(), abs=1e-6)
        assert rejects[cut] == pytest.approx((likeness[same & above] < threshold).mean(), abs=1e-6)
    low, high = equal_error_interval(trials)
    assert low < trials.equal_error() < high
    with pytest.raises(ValueError, match="two people"):
        trials_of(made[:3], ["a", "a", "a"])


@pytest.mark.slow
def test_the_bound_covers_people_never_seen():
    """Simulated: thresholds at 1 in 20 from 25 people; the rate among 1,000 others stays under the 99 % bound (nominal 1 in 100 misses)."""
    random = np.random.default_rng(3)
    crowd, _ = embeddings(1_000, 1, seed=99)
    alike = np.sort((crowd @ crowd.T)[np.triu_indices(1_000, 1)])
    missed = 0
    for _ in range(60):
        made, names = embeddings(25, 5, seed=int(random.integers(1 << 30)))
        (opening,) = openings(trials_of(made, names), [0.05])
        assert opening.rate <= 0.05 and opening.bound > opening.rate
        missed += 1 - np.searchsorted(alike, opening.threshold) / len(alike) > opening.bound
    assert missed <= 3


def test_a_rate_that_so_few_people_cannot_support_is_refused():
    made, names = embeddings(12, 6)
    output = IdentityOutput().fit(["x", "y"]).calibrate(torch.from_numpy(made), torch.tensor([int(name[1:]) for name in names]), None)
    assert output.held_out == 12 and smallest_rate(12, output.compared) == pytest.approx(3 / 66)
    assert output.opening(0.1).rate <= 0.1
    with pytest.raises(DataError, match=r"at least 0\.05: the 12 people held out cannot tell less than 0\.045"):
        output.opening(0.01)
    with pytest.raises(DataError, match="a model with thresholds"):
        IdentityOutput().opening(0.5)
    assert IdentityOutput.from_state(json.loads(json.dumps(output.state()))).openings == output.openings
    for broken in ({}, {**output.state(), "openings": [{"rate": 2}]}, {**output.state(), "held_out": -1}):
        with pytest.raises(ModelFileError):
            IdentityOutput.from_state(broken)


def test_names_of_people_are_no_part_of_the_model(album):
    folder, model = album
    content = (folder / "door.lamina").read_bytes()
    assert b"p03" not in content and model.card["classes"] == []


# ---------------------------------------------------------------- split and training


def _report(answers, parts=None, groups=None):
    raws = [np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8) for number in range(len(answers))]
    blank = [""] * len(answers)
    examples = Examples("(test)", [f"n{number}" for number in range(len(answers))], raws, answers, parts or blank, groups or blank)
    return audit(examples, ImageInput(), Settings(threads=1), Screen(quiet=True), "people")


def test_nobody_stands_in_two_parts():
    answers = [f"p{number // 3}" for number in range(120)]
    split = divide(_report(answers))
    homes = {}
    for answer, part in zip(answers, split.parts, strict=True):
        homes.setdefault(answer, set()).add(part)
    assert all(len(its) == 1 for its in homes.values()) and split.folds is None
    assert {part: split.parts.count(part) for part in ("train", "validation", "test")}["test"] >= 12
    families = [f"f{int(answer[1:]) // 4}" for answer in answers]
    split = divide(_report(answers, groups=families))
    assert all(len({part for part, family in zip(split.parts, families, strict=True) if family == one}) == 1 for one in set(families))
    with pytest.raises(DataError, match="One person alone needs no training"):
        divide(_report([f"p{number // 3}" for number in range(9)]))
    by_examples = save_split(divide(replace(_report(answers), answers="labels")), _report(answers))
    with pytest.raises(DataError, match="hold people out"):
        divide(_report(answers), by_examples)
    report = _report(answers)
    saved = save_split(divide(report), report)
    moved = replace(report, examples=replace(report.examples, answers=[answers[(number + 1) % 120] for number in range(120)]))
    with pytest.raises(DataError, match="hold each person once"):
        divide(moved, saved)
    lonely = [f"p{number // 2}" if number < 32 else f"q{number}" for number in range(132)]
    for part in ("validation", "test"):  # people with one example make no pair: those with several stand in both parts
        own = [answer for answer, its in zip(lonely, divide(_report(lonely)).parts, strict=True) if its == part]
        assert max(own.count(answer) for answer in own) == 2 and len(set(own)) > 2
    torn = ["train" if number % 3 else "test" for number in range(120)]
    with pytest.raises(DataError, match="40 people in two parts"):
        divide(_report(answers, parts=torn))


def test_training_tells_people_apart(album):
    """Equal error of people never seen far below a guess; opponents, report and card are there; evaluate says the same."""
    folder, model = album
    score = model.card["score"]
    assert score["name"] == "equal error rate" and score["value"] < 0.2 and score["better"] == "lower"
    kinds = {each.kind: each for each in model.verdict.contenders}
    assert set(kinds) == {"deep", "classical", "trivial"} and kinds["trivial"].score.value == 0.5
    lines = (folder / "runs" / "faces-1" / "events.jsonl").read_text().splitlines()
    before = next(event for event in map(json.loads, lines) if event["event"] == "before")
    assert before["loss"] > 1 and before["score"] > 0.3, "the loss is that of training, for the doctor compares them"
    page = (folder / "runs" / "faces-1" / "report.html").read_text()
    assert "Who is let in" in page and "Hardest pairs" in page and "no liveness detection" in page
    again = lamina.load(folder / "door.lamina")
    assert again.evaluate(folder / "faces", cache=str(folder / "cache")).value < 0.25
    with pytest.raises(UsageError, match="answers with labels"):
        studies.learning_curve(again, 5)
    with pytest.raises(UsageError, match="among labels"):
        studies.suspects(folder / "faces", task="verify")
    with pytest.raises(UsageError, match="examples with classes"):
        experiment(folder / "faces", "depth", task="verify", cache=str(folder / "cache"))
    with pytest.raises(UsageError, match="lamina enroll"):
        again.predict(folder / "faces" / "p00" / "0.png")


def test_the_score_is_told_apart_by_a_column(album, tmp_path):
    """Errors of each group where a column is given; a column that is not there is said with the near miss."""
    folder, _ = album
    files = sorted((folder / "faces").rglob("*.png"))
    rows = [f"{file},{file.parent.name},{'even' if int(file.parent.name[1:]) % 2 else 'odd'}" for file in files]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,kind", *rows]))
    settings = {
        "task": "verify",
        "epochs": 1,
        "width": 12,
        "side": 48,
        "threads": 1,
        "verdict_share": 0.0,
        "cache": str(tmp_path / "cache"),
    }
    paths = {"out": tmp_path / "m.lamina", "runs": tmp_path / "runs"}
    model = lamina.train(tmp_path / "t.csv", told_by="kind", **settings, **paths)
    assert set(model.card["facts"]["told_by"]) == {"even", "odd"}
    assert any(its and 0 <= its["value"] <= 1 for its in model.card["facts"]["told_by"].values())
    assert "<h2>By kind</h2>" in (tmp_path / "runs" / "t-1" / "report.html").read_text()
    with pytest.raises(UsageError, match='Did you mean "kind"'):
        lamina.train(tmp_path / "t.csv", told_by="kinds", **settings, **paths)


def test_the_better_way_is_saved_also_where_less_is_better(tmp_path):
    """Color faces, for which nothing is borrowed unasked; --use best takes the way with the lower error."""
    for person in range(PEOPLE):
        (tmp_path / "faces" / f"p{person:02}").mkdir(parents=True)
        for number in range(4):
            gray = face(person, number).astype(np.float32)
            Image.fromarray(np.stack([gray, 0.8 * gray, 0.6 * gray], 2).astype(np.uint8)).save(
                tmp_path / "faces" / f"p{person:02}" / f"{number}.png"
            )
    model = lamina.train(
        tmp_path / "faces", task="verify", epochs=1, width=12, side=48, threads=1, use="best", out=tmp_path / "m.lamina",
        runs=tmp_path / "runs", cache=str(tmp_path / "cache"),
    )  # fmt: skip
    ways = {each.kind: each.score.value for each in model.verdict.contenders}
    assert set(ways) == {"deep", "classical", "trivial"} and model.input.channels == 3
    assert model.card["way"] == min(("deep", "classical"), key=lambda kind: ways[kind]) or abs(ways["deep"] - ways["classical"]) < 0.1
    lamina.load(tmp_path / "m.lamina").people(tmp_path / "store", tmp_path / "key").enroll("ana", [tmp_path / "faces" / "p01"])


def test_embedding_layer():
    layer = Embedding(4, 3)
    x = torch.randn(5, 4)
    out = layer(x, Context())[0]
    assert (
        out.shape == (5, 3)
        and torch.allclose(out.norm(dim=1), torch.ones(5))
        and torch.allclose(layer(3 * x, Context())[0], out, atol=1e-6)
    )


# ---------------------------------------------------------------- enrolling


def some(folder, person, numbers):
    return [folder / "faces" / f"p{person:02d}" / f"{number}.png" for number in numbers]


def test_enroll_verify_identify_revoke(album, people):
    folder, _ = album
    ana = people.enroll("ana", some(folder, 1, range(4)))
    assert ana.examples == 4 and not ana.refused and ana.opening.bound > ana.opening.rate
    people.enroll("ben", some(folder, 2, range(4)))
    right = [people.verify("ana", file).accepted for file in some(folder, 1, range(4, EACH))]
    wrong = [people.verify("ana", file).accepted for person in range(5, 15) for file in some(folder, person, range(2))]
    assert np.mean(right) >= 0.75 and np.mean(wrong) <= 0.3
    found = people.identify(some(folder, 2, [6])[0])
    assert found.name in ("ben", None) and found.false_accept >= ana.opening.rate
    assert people.enroll("ana", some(folder, 1, [4])).examples == 5
    assert [each["name"] for each in people.listed()] == ["ana", "ben"]
    people.revoke("ana")
    with pytest.raises(DataError, match="be one of the people enrolled"):
        people.verify("ana", some(folder, 1, [5])[0])
    with pytest.raises(DataError, match="be one of the people enrolled"):
        people.revoke("ana")
    assert [what for _, what, _ in people.store.log()][:2] == ["enrolled", "enrolled"]
    with pytest.raises(DataError, match="people held out"):
        people.verify("ben", some(folder, 2, [5])[0], false_accept=0.00001)
    with pytest.raises(UsageError, match="share between 0 and 1"):
        people.verify("ben", some(folder, 2, [5])[0], false_accept=2)


def test_what_is_too_poor_is_refused_with_the_reason(album, people, tmp_path):
    folder, _ = album
    good = face(1, 0).astype(np.float32)
    blurred = Image.fromarray(face(1, 0)).resize((6, 6)).resize((48, 48), Image.Resampling.BICUBIC)
    cases = {
        "dark": Image.fromarray((good * 0.05).astype(np.uint8)),
        "bright": Image.fromarray((250 + good * 0.01).astype(np.uint8)),
        "contrast": Image.fromarray((120 + good * 0.02).astype(np.uint8)),
        "blurred": blurred,
        "small": Image.fromarray(face(1, 0)).resize((12, 12)),
    }
    for reason, picture in cases.items():
        picture.save(tmp_path / f"{reason}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\nnothing")
    found = people.enroll("ana", [*some(folder, 1, range(4)), *tmp_path.glob("*.png")])
    reasons = {os.path.basename(file): reason for file, reason in found.refused}
    assert found.examples == 4 and set(reasons) == {*(f"{reason}.png" for reason in cases), "broken.png"}
    for reason in cases:
        assert reason in reasons[f"{reason}.png"], reasons
    odd = people.enroll("cleo", [*some(folder, 3, range(5)), *some(folder, 9, [0])])
    assert [os.path.basename(os.path.dirname(file)) for file, _ in odd.refused] in ([], ["p09"])
    with pytest.raises(DataError, match="at least one that is good enough"):
        people.enroll("dan", [tmp_path / "dark.png"])
    decision = people.verify("ana", tmp_path / "dark.png")
    assert not decision.accepted and "too dark" in decision.reason
    with pytest.raises(DataError, match="be there"):
        people.enroll("dan", [tmp_path / "none.png"])
    with pytest.raises(DataError, match=r'Did you mean "dark\.png"'):
        people.verify("ana", tmp_path / "darc.png")
    with pytest.raises(UsageError, match="printable"):
        people.enroll("a\nb", some(folder, 1, [0]))
    rate = 8_000
    voice = AudioInput(rate, 3 * rate, voices=True)
    assert "silent" in voice.unfit((rate, np.zeros(rate, np.float32)))
    assert "too short" in voice.unfit((rate, np.r_[np.zeros(rate), 0.5 * np.sin(np.arange(2_000))].astype(np.float32)))


# ---------------------------------------------------------------- the store


def test_templates_are_sealed_and_bound(album, people, tmp_path, monkeypatch):
    """A template moved to another name, a changed row, another key, another model, a cut-off file: refused with the cause."""
    folder, _ = album
    people.enroll("ana", some(folder, 1, range(3)))
    people.enroll("ben", some(folder, 2, range(3)))
    mean, _ = people.store.read("ana")
    path = tmp_path / "store" / FILE
    people.store.close()
    content = b"".join(file.read_bytes() for file in (tmp_path / "store").iterdir())
    assert mean.tobytes() not in content and mean.tobytes()[:16] not in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = (tmp_path / "config" / "lamina" / "keys").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32

    def reopened(**how) -> People:
        return lamina.load(folder / "door.lamina").people(tmp_path / "store", **how)

    whole = path.read_bytes()

    def with_changed(statement: str) -> None:
        path.write_bytes(whole)
        base = sqlite3.connect(path)
        base.execute(statement)
        base.commit()
        base.close()

    with_changed("UPDATE people SET sealed = (SELECT sealed FROM people WHERE name = 'ben') WHERE name = 'ana'")
    with pytest.raises(DataError, match="The template of ana"):
        reopened().verify("ana", some(folder, 2, [4])[0])
    with_changed("UPDATE people SET examples = 99 WHERE name = 'ana'")
    with pytest.raises(DataError, match="changed or moved"):
        reopened().verify("ana", some(folder, 1, [4])[0])
    with_changed("UPDATE people SET sealed = zeroblob(5) WHERE name = 'ana'")
    with pytest.raises(DataError, match="The template of ana"):
        reopened().identify(some(folder, 1, [4])[0])
    path.write_bytes(whole)
    with_changed("UPDATE facts SET store = 'text'")
    with pytest.raises(DataError, match="hold its own facts"):
        reopened()
    path.write_bytes(whole)
    wrong = tmp_path / "wrong.key"
    wrong.write_bytes(os.urandom(32))
    wrong.chmod(0o600)
    with pytest.raises(DataError, match="wrong key"):
        reopened(key=wrong).verify("ana", some(folder, 1, [4])[0])
    wrong.chmod(0o644)
    with pytest.raises(DataError, match="owner only"):
        reopened(key=wrong).enroll("cleo", some(folder, 1, [4]))
    with pytest.raises(DataError, match="be there, for people are enrolled"):
        reopened(key=tmp_path / "no.key").verify("ana", some(folder, 1, [4])[0])
    path.chmod(0o644)
    listing = reopened(key=tmp_path / "no.key")  # nobody needs a key to be listed, or forgotten
    assert [each["name"] for each in listing.listed()] == ["ana", "ben"] and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="whole, writable SQLite file"):
        reopened().identify(some(folder, 1, [4])[0])
    path.write_bytes(b"this was a store once" * 300)
    with pytest.raises(DataError, match="whole, writable SQLite file"):
        reopened()
    path.write_bytes(whole)
    other = lamina.load(folder / "door.lamina")
    with torch.no_grad():
        other.network.layers["projection"].weights.weight.add_(1e-3)
    with pytest.raises(DataError, match="have been made with this model"):
        other.people(tmp_path / "store")
    assert reopened().verify("ana", some(folder, 1, [1])[0]).accepted


def test_nobody_joins_a_name_that_is_not_theirs(album, people, tmp_path):
    """More examples under a name must resemble what is enrolled; names are one whatever their spaces and accents; a store is not made by
    looking for it."""
    folder, _ = album
    people.enroll("ana", some(folder, 1, range(3)))
    with pytest.raises(DataError, match="too unlike what is enrolled as ana"):
        people.enroll("ana", some(folder, 17, range(4)))
    assert people.store.read("ana")[1] == 3 and people.enroll(" ana ", some(folder, 1, [3])).name in ("ana", " ana ")
    people.enroll("Jose\u0301", some(folder, 2, range(3)))
    assert people.store.read("Jos\u00e9")[1] == 3
    for name in ("", " ", "a\nb", "\udcff", "x" * 300):
        for ask in (people.store.read, people.store.remove):
            with pytest.raises(UsageError, match="printable"):
                ask(name)
    with pytest.raises(DataError, match=r"Did you mean \"store\""):
        people.model.people(tmp_path / "stor", create=False)
    assert not (tmp_path / "stor").exists()
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ResourceError, match="others may write"):
        people.model.people(tmp_path / "open")


def test_a_collapsed_network_is_saved_and_opened():
    """All embeddings alike: nobody is told from anybody, no rate is promised that is not held, and the state is one."""
    output = IdentityOutput(count=3).calibrate(torch.ones(60, 4), torch.arange(20).repeat_interleave(3), None)
    assert all(opening.rate == 0 and opening.rejects == 1 for opening in output.openings)
    assert IdentityOutput.from_state(json.loads(json.dumps(output.state()))).openings == output.openings


def test_after_revoking_no_byte_is_left(album, people, tmp_path):
    folder, _ = album
    people.enroll("ana", some(folder, 1, range(3)))
    people.enroll("ben", some(folder, 2, range(3)))
    (sealed,) = people.store._base.execute("SELECT sealed FROM people WHERE name = 'ana'").fetchone()
    pieces = [sealed[at : at + 16] for at in range(0, len(sealed) - 16, 16)]
    held = lambda: b"".join(file.read_bytes() for file in (tmp_path / "store").iterdir())  # noqa: E731
    assert all(piece in held() for piece in pieces)
    people.revoke("ana")
    assert not any(piece in held() for piece in pieces)


def test_search_sees_what_other_processes_change(tmp_path):
    """The matrix in memory is made anew after another connection has written."""
    key = tmp_path / "key"
    one, two = (Store(tmp_path / "s", "m", 4, key) for _ in range(2))
    one.add("a", np.array([1, 0, 0, 0], np.float32), 1)
    assert one.everybody()[0] == ["a"] == two.everybody()[0]
    two.add("b", np.array([0, 1, 0, 0], np.float32), 1)
    names, matrix = one.everybody()
    assert names == ["a", "b"] and matrix.shape == (2, 4)
    assert one.everybody()[1] is matrix, "kept while nothing changes"
    two.remove("a")
    assert one.everybody()[0] == ["b"]


def test_commands(album, tmp_path, monkeypatch):
    """The commands, their exit codes and what they say."""
    folder, _ = album
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    door, store = str(folder / "door.lamina"), ["--store", str(tmp_path / "s")]

    def run(*arguments, code=0):
        found = CliRunner().invoke(app, [*map(str, arguments), *store])
        assert found.exit_code == code, found.output
        return found.output

    said = run("enroll", door, "ana", *some(folder, 1, range(4)))
    assert "convenience, not security" in said and "No liveness detection" in said and "strangers would be let in" in said
    assert "ana  4 examples" in run("people", door)
    answers = [CliRunner().invoke(app, ["verify", door, "ana", str(file), *store]).exit_code for file in some(folder, 1, range(4))]
    assert answers.count(0) >= 3
    dark = tmp_path / "dark.png"
    Image.fromarray((face(1, 0) * 0.05).astype(np.uint8)).save(dark)
    assert "too dark" in run("verify", door, "ana", dark, code=7)
    assert json.loads(run("verify", door, "ana", some(folder, 1, [0])[0], "--json"))["threshold"] > 0
    found = CliRunner().invoke(app, ["identify", door, str(some(folder, 1, [0])[0]), "--json", *store])
    assert (json.loads(found.stdout)["name"], found.exit_code) in (("ana", 0), (None, 7))
    assert "ana is forgotten" in run("revoke", door, "ana")
    assert "Nobody is enrolled" in run("people", door)


def test_another_model_has_no_people():
    model = Model("recognize", ImageInput(16, 1), Network([("head", Flatten())]), ClassesOutput(("a", "b")))
    with pytest.raises(UsageError, match="tell people apart"):
        model.people("somewhere")


# ---------------------------------------------------------------- faces in photos


@pytest.mark.skipif(not finder_available(), reason=f"the face finder is not installed: {FACES_EXTRA}")
@pytest.mark.skipif(not (SHARED / "orl_faces" / "images.zip").exists(), reason="the ORL faces are not beside the checkout")
def test_faces_are_found_turned_and_cropped(tmp_path):
    """Real faces pasted into larger pictures, turned and in several sizes: found, and their eyes brought to one place."""
    with zipfile.ZipFile(SHARED / "orl_faces" / "images.zip") as archive:
        crops = {
            f"s{p:02}": [Image.open(io.BytesIO(archive.read(f"s{p:02}/{n:02}.png"))).copy() for n in range(1, 7)] for p in range(1, 13)
        }
    random = np.random.default_rng(0)
    for name, pictures in crops.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            photo = Image.fromarray(random.integers(90, 130, (320, 400), np.uint8))
            size = random.uniform(1.0, 1.6)
            turned = picture.resize((round(92 * size), round(112 * size))).rotate(random.uniform(-15, 15), fillcolor=110)
            photo.paste(turned, (int(random.integers(0, 250)), int(random.integers(0, 130))))
            photo.save(tmp_path / "photos" / name / f"{number}.png")
    Image.fromarray(random.integers(0, 255, (300, 300), np.uint8)).save(tmp_path / "photos" / "s01" / "no_face.png")
    raws = [FileRaw(str(file)) for file in sorted((tmp_path / "photos").rglob("*.png"))]
    input = ImageInput(side=64, faces=True).look(raws)
    assert input.find and input.eyes == EYES and "found in the photos" in input.decided()
    seen = [input.inspect(raw) for raw in raws]
    assert [os.path.basename(raw.path) for raw, its in zip(raws, seen, strict=True) if its.problem == "no-face"] == ["no_face.png"]
    fitted = input.fit(raws, [its for its in seen if not its.problem])
    cropped = [fitted._brought(Image.open(raw.path))[0] for raw, its in zip(raws, seen, strict=True) if not its.problem]
    eyes = np.array([found for picture in cropped if (found := eyes_of(picture)) is not None])
    assert len(eyes) > 0.9 * len(cropped) and np.abs(np.median(eyes, 0) - EYES).max() < 0.02 and eyes.std(0).max() < 0.04
    assert "no face" in fitted.unfit(FileRaw(str(tmp_path / "photos" / "s01" / "no_face.png"))) and not fitted.unfit(raws[10])
    ready = ImageInput(side=64, faces=True).look([picture for pictures in crops.values() for picture in pictures])
    assert not ready.find and len(ready.eyes) == 4 and "ready crops" in ready.decided()
    assert ImageInput.from_state(json.loads(json.dumps(fitted.state()))) == fitted

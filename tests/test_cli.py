"""The command line: one JSON document, documented exit codes, one sentence for every mistake, Ctrl-C that loses nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lamina
from lamina.cli.running import _run

COMMANDS = ("train", "resume", "predict", "evaluate", "verdict", "report", "audit", "suspects", "samples", "show", "demo")
TINY = ("--width", "8", "--threads", "1")
STARTED = 60
"""Seconds after which a command that was started has surely begun to train."""


def lamina_(*arguments, **options):
    """Run the command line in a process of its own."""
    line = [sys.executable, "-m", "lamina", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """60 small pictures in two class folders."""
    root, generator = tmp_path_factory.mktemp("cli") / "photos", np.random.default_rng(0)
    for number in range(60):
        values = generator.integers(0, 64, (10, 10)).astype(np.uint8)
        values[:, :5] += 190 * (number % 2)
        (root / ("dark", "light")[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / ("dark", "light")[number % 2] / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def trained(photos):
    """(the finished `lamina train --json`, the model that it wrote)."""
    out = photos.parent / "tiny.lamina"
    done = lamina_("train", photos, "--epochs", "1", *TINY, "--out", out, "--runs", photos.parent / "runs", "--json")
    assert done.returncode == 0, done.stderr
    return done, out


@pytest.fixture
def picture(photos):
    """One of the pictures."""
    return photos / "light" / "01.png"


@pytest.fixture
def say(capsys):
    """say(*arguments) -> (exit code, stdout, stderr) of a command in this process."""

    def run(*arguments):
        capsys.readouterr()
        code = _run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def fails(say):
    """fails(code, word, *arguments): the command ends so, with one sentence on stderr; with --json also one document on stdout."""

    def check(code, word, *arguments):
        got, out, err = say(*arguments)
        assert got == code, err
        sentence = next(line for line in err.splitlines() if line.startswith("lamina: "))
        assert err.count("lamina: ") == 1 and word in sentence and "Traceback" not in err, err
        if "--json" in arguments:
            assert json.loads(out) == {"error": sentence.removeprefix("lamina: "), "exit_code": code}
        return sentence

    return check


# ---------------------------------------------------------------- help


def test_help_without_torch():
    """--help lists every command and loads no heavy library."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "lamina", "--help"], capture_output=True, text=True, check=True)
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS) and "Exit codes" in done.stdout
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded and not loaded & {"torch", "numpy", "sklearn", "scipy", "PIL", "safetensors"}


def test_help_of_every_command(say):
    """Every command explains itself and its flags; no arguments at all are a call for help."""
    for command in COMMANDS:
        code, out, err = say(command, "--help")
        assert (code, err) == (0, "") and out.startswith(f"Usage: lamina {command}") and "--json" in out
    assert say() == say("--help")
    assert "--micro-batch" in say("train", "--help")[1] and "--as" in say("train", "--help")[1]


# ---------------------------------------------------------------- commands


def test_train(trained, photos):
    """stdout is one JSON document with what matters; the lines of progress go to stderr; the run folder holds the run."""
    done, out = trained
    told = json.loads(done.stdout)
    assert (told["task"], told["model"], told["classes"], told["excluded"]) == ("recognize", str(out), ["dark", "light"], 0)
    assert set(told["examples"]) == {"train", "validation", "test"} and told["seconds"] > 0
    assert set(told["score"]) == {"name", "value", "low", "high", "n", "better", "unit"}
    assert 0 <= told["score"]["low"] <= told["score"]["value"] <= told["score"]["high"] <= 1 and told["score"]["n"] == 60
    run = Path(told["run"])
    assert run == photos.parent / "runs" / "photos-1" and (run / "model.lamina").read_bytes() == out.read_bytes()
    for word in ("Device", "Audit", "Split", "Forecast", "Score", "Verdict", "Saved", "Report"):
        assert f"\n{word} " in "\n" + done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def test_train_in_words(photos, tmp_path, say):
    """Without --json everything is told on stdout and nothing on stderr; the second run has the next number."""
    for number in (1, 2):
        code, out, err = say("train", photos, "--epochs", 1, *TINY, "--out", tmp_path / "a.lamina", "--runs", tmp_path / "runs")
        assert (code, err) == (0, "") and "95 % interval" in out and f"photos-{number}" in out


def test_evaluate(trained, photos, say):
    """The score in JSON and in words."""
    code, out, err = say("evaluate", trained[1], photos, "--threads", 1, "--json")
    told = json.loads(out)
    assert code == 0 and set(told["score"]) == {"name", "value", "low", "high", "n", "better", "unit"} and told["score"]["n"] == 60
    assert told["unreadable"] == 0 and "flatters" in err
    code, out, err = say("evaluate", trained[1], photos, "--threads", 1)
    assert code == 0 and "accuracy" in out and "60 examples" in out and err == ""


def test_evaluate_against_other_answers(trained, photos, tmp_path, say, fails):
    """Its own answers are equal; wrong ones behind; a table that names too few examples, or is not there, is said."""
    files = sorted(photos.rglob("*.png"))
    rows = [(str(file.relative_to(photos)), file.parent.name) for file in files]

    def table(name, chosen):
        (tmp_path / name).write_text("file,label\n" + "".join(f"{file},{label}\n" for file, label in chosen))
        return tmp_path / name

    wrong = table("wrong.csv", [(file, "light" if label == "dark" else "dark") for file, label in rows])
    code, out, _ = say("evaluate", trained[1], photos, "--threads", 1, "--against", wrong, "--json")
    told = json.loads(out)["against"]
    assert code == 0 and told["other"] == 0 and told["kind"] == "ahead" and told["low"] > 0.005
    right = table("right.csv", rows)
    assert "the other answers 100.0 % right" in say("evaluate", trained[1], photos, "--threads", 1, "--against", right)[1]
    fails(3, "59 of 60 missing", "evaluate", trained[1], photos, "--threads", 1, "--against", table("few.csv", rows[:1]))
    fails(3, "Did you mean", "evaluate", trained[1], photos, "--threads", 1, "--against", tmp_path / "rigth.csv")


def test_verdict(trained, say):
    """The sentence with the table of costs, and as JSON; `show` has the sentence, too."""
    told = json.loads(say("verdict", trained[1], "--json")[1])
    assert {each["kind"] for each in told["contenders"]} == {"deep", "classical", "trivial"}
    code, out, err = say("verdict", trained[1])
    assert (code, err) == (0, "") and told["sentence"] in out and "settled by people" in out
    assert told["sentence"] in say("show", trained[1])[1]


def test_report(trained, tmp_path, say, fails):
    """A page beside the model or where it is wanted; without the run folder it cannot be made, and says so."""
    code, out, err = say("report", trained[1], "--out", tmp_path / "page.html")
    assert (code, err) == (0, "") and "page.html" in out and (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    fails(3, "report.json", "report", trained[1], "--run", tmp_path, "--out", tmp_path / "none.html")


def test_predict(trained, photos, picture, tmp_path):
    """A list of answers in JSON; a name that is no UTF-8 is told all the same; unreadable files have their row."""
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    strange.write_bytes(picture.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"broken")
    done = lamina_("predict", trained[1], picture, tmp_path, photos / "dark" / "*.png", "--threads", 1, "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 0 and len(rows) == 33 and done.stderr == ""
    assert all(set(row) == {"file", "label", "probability", "top", "unknown", "error"} for row in rows)
    assert rows[0]["file"] == str(picture) and rows[0]["top"][0][0] in ("dark", "light") and rows[0]["error"] is None
    assert rows[1]["file"] == str(tmp_path / "broken.png") and rows[1]["error"] and rows[1]["label"] is None
    assert rows[2]["file"] == str(strange) and rows[2]["top"] == rows[0]["top"]
    done = lamina_("predict", trained[1], strange, "--threads", 1, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "") and r"\udcff.png: " in done.stdout


def test_predict_into_tables(trained, photos, tmp_path, say):
    """--out writes the answers as CSV, TSV and JSON lines; other endings are refused; when nothing can be read the exit code is 3."""
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        code, out, _ = say("predict", trained[1], photos, "--threads", 1, "--out", tmp_path / f"answers{suffix}")
        assert code == 0 and "60 answers" in out
        with open(tmp_path / f"answers{suffix}", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        assert len(rows) == 60 and set(rows[0]) == {"file", "label", "probability", "unknown", "error", "top"}
        assert 0 <= float(rows[0]["probability"]) <= 1 and rows[0]["file"] == str(photos / "dark" / "00.png")
    code, out, _ = say("predict", trained[1], photos, "--threads", 1, "--out", tmp_path / "answers.jsonl", "--json")
    assert code == 0 and json.loads(out) == [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert say("predict", trained[1], photos, "--threads", 1, "--out", tmp_path / "answers.xlsx")[0] == 2
    (tmp_path / "broken.png").write_bytes(b"broken")
    code, out, _ = say("predict", trained[1], tmp_path / "broken.png", "--threads", 1, "--json")
    assert code == 3 and len(json.loads(out)) == 1


def test_audit(photos, tmp_path, say):
    """The report in JSON is what audit.json holds."""
    code, out, _ = say("audit", photos, "--threads", 1, "--out", tmp_path / "audit.json", "--json")
    told = json.loads(out)
    assert code == 0 and told == json.loads((tmp_path / "audit.json").read_text())
    assert (told["files"], told["usable"], told["excluded"], told["labels"]) == (60, 60, 0, {"dark": 30, "light": 30})
    code, out, _ = say("audit", photos, "--threads", 1, "--out", tmp_path / "audit.json")
    assert code == 0 and "60 usable of 60" in out and "All findings" in out


def test_samples(say):
    """The list of samples, in JSON and in words, fetches nothing."""
    code, out, _ = say("samples", "--json")
    rows = json.loads(out)
    assert code == 0 and rows[0]["name"] == "sample:digits" and all(row["license"] and row["source"] for row in rows)
    assert "sample:digits" in say("samples")[1]


def test_show(trained, say):
    """What the file holds, in JSON and in words."""
    code, out, _ = say("show", trained[1], "--json")
    told = json.loads(out)
    assert code == 0 and told["card"]["classes"] == told["output"]["labels"] == ["dark", "light"]
    assert [layer["name"] for layer in told["layers"]] == list(told["parameters"]) and told["task"] == "recognize"
    code, out, _ = say("show", trained[1])
    assert code == 0 and all(word in out for word in ("convolution", "accuracy", "dark, light", "photos-1"))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("code", "word", "arguments"),
    [
        (2, 'Did you mean "--minutes"?', ["train", "DATA", "--minuts", "3"]),
        (2, 'Did you mean "--epochs"?', ["train", "DATA", "--epoch=3", "--json"]),
        (2, 'Did you mean "train"?', ["trian", "DATA"]),
        (2, 'Did you mean "predict"?', ["predikt", "--json"]),
        (2, "valid number", ["train", "DATA", "--minutes", "soon"]),
        (2, "data", ["train"]),
        (2, "files", ["predict", "MODEL"]),
        (2, "recognize", ["train", "DATA", "--as", "recognise", "--json"]),
        (2, "--minutes", ["train", "DATA", "--minutes", "0"]),
        (2, "not both", ["train", "DATA", "--minutes", "1", "--epochs", "1"]),
        (2, "--device", ["train", "DATA", "--device", "gpu"]),
        (2, "lamina train", ["resume", "DATA"]),
        (2, "nothing there", ["resume", "ROOT/runs/none-1", "--json"]),
        (3, 'Did you mean "photos"?', ["train", "ROOT/fotos", "--json"]),
        (3, 'Did you mean "photos"?', ["audit", "ROOT/phots", "--out", "TMP/audit.json"]),
        (3, 'Did you mean "digits"?', ["train", "sample:digit"]),
        (3, 'Did you mean "photos"?', ["predict", "MODEL", "ROOT/photo"]),
        (3, 'Did you mean "photos"?', ["evaluate", "MODEL", "ROOT/phottos", "--json"]),
        (4, 'Did you mean "tiny.lamina"?', ["show", "ROOT/tinny.lamina", "--json"]),
        (4, ".lamina file", ["predict", "TMP/none.lamina", "DATA"]),
        (5, "writable", ["predict", "MODEL", "DATA", "--threads", "1", "--out", "MODEL/answers.csv", "--json"]),
        (5, "writable", ["train", "DATA", "--runs", "MODEL/runs"]),
        (5, "writable", ["audit", "DATA", "--out", "MODEL/audit.json", "--threads", "1", "--json"]),
    ],
)
def test_mistakes(code, word, arguments, trained, photos, tmp_path, monkeypatch, fails):
    """Each gives its exit code and one sentence with what to do."""
    monkeypatch.chdir(tmp_path)
    places = {"DATA": photos, "MODEL": trained[1], "ROOT": photos.parent, "TMP": tmp_path}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    sentence = fails(code, word, *arguments)
    assert not any(f'Did you mean "{argument}"' in sentence for argument in arguments), "what was typed is no near miss"


def test_unwritable_model(photos, trained, tmp_path, fails):
    """A training whose model cannot be written where it should says so."""
    fails(5, "writable", "train", photos, "--epochs", 1, *TINY, "--out", trained[1] / "a.lamina", "--runs", tmp_path)


def test_damaged_model(trained, photos, tmp_path, fails):
    """A damaged file is refused by every command that opens one."""
    broken = tmp_path / "broken.lamina"
    broken.write_bytes(trained[1].read_bytes()[:-100])
    for arguments in (["show", broken], ["predict", broken, photos], ["evaluate", broken, photos]):
        fails(4, "whole .lamina file", *arguments, "--json")


def test_unusable_data(photos, tmp_path, fails):
    """One class only, and too many bad files, are said before training; the audit is written all the same."""
    one = tmp_path / "one"
    one.mkdir()
    (one / "dark").symlink_to(photos / "dark")
    fails(3, "at least 2", "train", one, *TINY, "--runs", tmp_path / "runs", "--json")
    bad = tmp_path / "bad"
    for label in ("dark", "light"):
        (bad / label).mkdir(parents=True)
        for number in range(10):
            (bad / label / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
            (bad / label / f"good{number}.png").write_bytes(
                (photos / label).joinpath(f"{2 * number + (label == 'light'):02}.png").read_bytes()
            )
    fails(3, "20 of 40", "train", bad, *TINY, "--runs", tmp_path / "runs", "--json")
    fails(3, "20 of 40", "audit", bad, "--out", tmp_path / "audit.json", "--json")
    assert json.loads((tmp_path / "audit.json").read_text())["unusable_of_the_modality"] == 20


# ---------------------------------------------------------------- Ctrl-C


def test_stop_and_resume(photos, tmp_path, say):
    """Ctrl-C ends with 130 and names the command that goes on; that finishes, and once more only says that it is finished."""
    line = [sys.executable, "-m", "lamina", "train", photos, "--epochs", "150", *TINY, "--out", tmp_path / "a.lamina", "--runs", tmp_path]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a test run in the background is started deaf to Ctrl-C
    with subprocess.Popen([*map(str, line), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard) as training:
        events, latest = tmp_path / "photos-1" / "events.jsonl", time.monotonic() + STARTED
        while not (events.exists() and '"fold2"' in events.read_text()) and time.monotonic() < latest and training.poll() is None:
            time.sleep(0.01)
        training.send_signal(signal.SIGINT)
        out, err = training.communicate(timeout=60)
    assert training.returncode == 130, err
    assert f"lamina resume {tmp_path / 'photos-1'}" in err and "Traceback" not in err
    assert json.loads(out)["exit_code"] == 130 and not (tmp_path / "a.lamina").exists()
    code, out, err = say("resume", tmp_path / "photos-1", "--json")
    assert code == 0 and json.loads(out)["model"] == str(tmp_path / "a.lamina"), err
    assert lamina.load(tmp_path / "a.lamina").card["score"] == json.loads(out)["score"]
    assert say("resume", tmp_path / "photos-1", "--json")[:2] == (0, out)

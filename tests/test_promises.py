"""What documents and structure promise, compared with the code."""

import ast
import importlib.util
import json
import multiprocessing
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import typer
from PIL import Image
from test_people import face
from test_speech import said, sentence_of

import lamina

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lamina"
README = (ROOT / "README.md").read_text()
ORDER = re.search(r"Import order\*\*: `(.*?)`", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[1].replace(",", "").split()  # type: ignore[index]
LATE = {("model", "tasks"), ("model", "classical"), ("model", "inside")}
"""The one exception: a model looks up its task when it is asked to score, and binds later verbs (its verdict)."""


def imports(path: Path) -> list[tuple[str, bool]]:
    """(top module of lamina, whether only for type checking) that a file imports."""
    tree = ast.parse(path.read_text())
    typing_only = {id(node) for branch in ast.walk(tree) if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
                   for node in ast.walk(branch)}  # fmt: skip
    found = []
    for node in ast.walk(tree):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [(name.split(".")[1], id(node) in typing_only) for name in names if name.startswith("lamina.")]
    return found


def test_import_order():
    """Each module imports only from its own folder and from those to its left."""
    places = {name: place for place, name in enumerate(ORDER)}
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for other, typing_only in imports(path):
            if places[other] > places[own] and not typing_only and (own, other) not in LATE:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_public_names_exist_and_are_all():
    """Each name of __all__ is there, and help is said for another."""
    for name in lamina.__all__:
        assert getattr(lamina, name) is not None
    with pytest.raises(AttributeError, match="train"):
        _ = lamina.trian


def test_who_only_watches_does_not_load_torch():
    """A training must not wait for the page that shows it."""
    code = "import sys, lamina.serve.app, lamina.serve.connection, lamina.serve.watched; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_and_help_do_not_load_torch():
    code = "import sys, lamina, lamina.cli; assert not {'torch', 'numpy', 'scipy', 'sklearn', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readme_is_short_and_its_tree_is_true():
    """At most 150 lines; the tree names exactly what lies in the package."""
    assert len(README.splitlines()) <= 150
    tree = re.search(r"```\nlamina/\n(.*?)\ntests/", README, re.S)
    assert tree
    named = {line.split()[0].rstrip("/") for line in tree.group(1).splitlines()}
    there = {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "__init__.py", "__main__.py")}
    assert named == there


def of_docs(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commands_page_is_the_help():
    module = of_docs("commands")
    assert module.PAGE.read_text() == module.page(), "run `make docs`"


def test_understand_says_what_was_measured():
    """The page and its notebook are made from the facts that a measurement left; their pictures are there, their commands exist."""
    from lamina.cli import app

    module = of_docs("understand")
    facts = json.loads(module.FACTS.read_text())
    page = module.PAGE.read_text()
    assert page == module.page(facts) and module.NOTEBOOK.read_text() == module.notebook(facts), "run `make docs`"
    pictures = re.findall(r"\]\(figures/([^)]+)\)", page)
    assert len(pictures) > 15 and all((module.FIGURES / name).exists() for name in pictures)
    assert {path.name for path in module.FIGURES.iterdir()} == set(pictures), "no picture that nobody sees"
    names = set(typer.main.get_command(app).commands)
    commands = re.findall(r"^lamina (\w+)", page, re.M)
    assert len(commands) >= 10 and set(commands) <= names
    cells = json.loads(module.NOTEBOOK.read_text())["cells"]
    assert [cell["cell_type"] for cell in cells[:2]] == ["markdown", "code"] and len(cells) > 20


def test_files_named_in_the_documents_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for name in re.findall(r"`((?:tests|lamina|docs|benchmarks)/[\w/.-]+\.\w+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def command_line(line: str, place: Path, environment: dict[str, str]) -> None:
    """What a shell does with a line, in a process that has PyTorch already: each start of it takes seconds."""
    from lamina.cli import main

    os.chdir(place)
    os.environ.update(environment)
    runpy.run_path(str(place / "offline" / "sitecustomize.py"))
    sys.stdout = sys.stderr = (place / "told").open("w")
    main(shlex.split(line)[1:])


@pytest.mark.slow
def test_readme_commands_run(tmp_path):
    """Every `lamina` line of the README, and its Python block, on a small folder and in less time; nothing reaches for the network."""
    readme = README.replace("--minutes 10", "--epochs 4").replace("minutes=10", "epochs=4, verdict_share=0.0")
    for task, short in (
        ("verify", "--epochs 4 --width 16"), ("language", "--epochs 2 --width 64"), ("transcribe", "--epochs 1 --width 72"),
        ("recommend", "--epochs 2"),
    ):  # fmt: skip
        readme = readme.replace(f"--as {task} ", f"--as {task} --verdict-share 0 {short} ")
    rng = np.random.default_rng(0)
    (tmp_path / "speech").mkdir()
    for number in range(30):
        soundfile.write(tmp_path / "speech" / f"{number}.wav", said(sentence_of(number), number), 16_000)
        (tmp_path / "speech" / f"{number}.txt").write_text(sentence_of(number))
    films = ("Alien", "Brazil", "Casablanca", "Diva", "Elf", "Fargo", "Gandhi", "Heat")
    chosen = [(day, user, films[int(rng.integers(8))]) for user in range(40) for day in range(user, user + 6)]
    (tmp_path / "ratings.csv").write_text("user,item,date\n" + "".join(f"{user},{film},{86_400 * day}\n" for day, user, film in chosen))
    for label, tone in (("cat", 60), ("dog", 180)):
        for folder in ("photos", "test"):
            (tmp_path / folder / label).mkdir(parents=True)
            for number in range(30):
                picture = np.clip(rng.normal(tone, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(tmp_path / folder / label / f"{number}.jpg")
    Image.fromarray(picture).save(tmp_path / "new.jpg")
    for person in range(20):
        folder = tmp_path / ("people" if person else ".") / (f"p{person}" if person else "ana")
        folder.mkdir(parents=True)
        for number in range(5):
            Image.fromarray(face(person, number)).save(folder / f"{number}.png")
    Image.fromarray(face(0, 5)).save(tmp_path / "face.png")
    (tmp_path / "book.txt").write_text("".join(f"Once there was {n} and one is {n + 1}.\n" for n in range(400)))
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / "sitecustomize.py").write_text(
        "import socket\ndef refuse(*a, **k):\n    raise AssertionError('the network was reached for')\nsocket.socket.connect = refuse\n"
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "PYTHONPATH": f"{tmp_path / 'offline'}{os.pathsep}{ROOT}"}
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload(["torch", "lamina.cli", "lamina.pipeline"])
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("lamina ")]
    assert len(lines) >= 7
    for line in lines:
        if line != "lamina demo":  # test_demo runs it
            command = started.Process(target=command_line, args=(line, tmp_path, environment))
            command.start()
            command.join()
            allowed = (0, 7) if line.startswith("lamina verify") else (0,)  # a network of a minute may turn the right one away
            assert command.exitcode in allowed, f"{line}: {(tmp_path / 'told').read_text()}"
    python = re.search(r"```python\n(.*?)```", readme, re.S)
    assert python
    done = subprocess.run(
        [sys.executable, "-c", python.group(1)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and 'label="' in done.stdout.replace("'", '"'), done.stderr


def test_no_part_fetches_unasked(monkeypatch, tmp_path):
    """Listing and loading samples opens no connection."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was reached for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from lamina.cli.running import _run

    assert _run(["samples", "--json"]) == 0
    assert _run(["audit", "sample:digits", "--out", str(tmp_path / "audit.json")]) == 0
    assert (tmp_path / "audit.json").exists()

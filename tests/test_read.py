"""Reading: class folders, archives, tables, values in memory, groups; and each error is one sentence of the right class."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import encoded, picture, put
from PIL import Image

import lamina
from lamina.data.examples import Examples
from lamina.data.read import read_examples
from lamina.errors import DataError, LaminaError, UsageError
from lamina.inputs import ImageInput
from lamina.settings import Settings

PNG = encoded(picture(1))
ROWS = [("a.png", "cat"), ("b.png", "dog"), ("sub/c.png", "cat"), ("sub/d e,f.png", "dog")]


def read(source: Any, least: int = 2, **settings: Any) -> Examples:
    return read_examples(source, Settings(**settings), [ImageInput()], least)


def fill(root: Path, *names: str) -> Path:
    """Good pictures (reading does not decode, so all may be the same) at these names."""
    for name in names:
        put(root, name, PNG)
    return root


def labeled(examples: Examples) -> dict[str, tuple[str, str]]:
    return {name: (label, part) for name, label, part in zip(examples.names, examples.answers, examples.parts, strict=True)}


def kinds(examples: Examples) -> dict[str, str]:
    return {finding.name: finding.kind for finding in examples.findings}


def told(error: type[LaminaError], *words: str, **call: Any) -> str:
    """What reading raises: of that class, one sentence of the pattern, with these words in it."""
    with pytest.raises(error) as caught:
        read(**call)
    text = str(caught.value)
    assert type(caught.value) is error
    assert re.fullmatch(r"[A-Z-].+? must [^\n]+?\.( Got [^\n]+\.)?( [^\n]+)?", text), text
    assert " at 0x" not in text
    for word in words:
        assert word in text, text
    return text


def zipped(path: Path, *names: str, content: bytes = PNG, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)
        for name, other in others.items():
            archive.writestr(name.replace("__", "."), other)
    return path


# ---------------------------------------------------------------- folders


def test_class_folders(tmp_path: Path) -> None:
    """The top folder is the label, however deep the file; names are relative paths, sorted."""
    fill(tmp_path, "dog/1.png", "cat/2.png", "cat/deep/er/1.JPG", "cat/1.png")
    examples = read(tmp_path)
    assert labeled(examples) == {
        "cat/1.png": ("cat", ""),
        "cat/2.png": ("cat", ""),
        "cat/deep/er/1.JPG": ("cat", ""),
        "dog/1.png": ("dog", ""),
    }
    assert examples.names == ["cat/1.png", "cat/2.png", "cat/deep/er/1.JPG", "dog/1.png"]
    assert examples.labels == ["cat", "dog"]
    assert not examples.findings


def test_train_and_test_folders(tmp_path: Path) -> None:
    """train/ and test/ give the parts."""
    fill(tmp_path, "train/cat/1.png", "train/dog/1.png", "Test/cat/2.png", "test-notes.txt")
    examples = read(tmp_path)
    assert labeled(examples) == {
        "train/cat/1.png": ("cat", "train"),
        "train/dog/1.png": ("dog", "train"),
        "Test/cat/2.png": ("cat", "test"),
    }
    assert kinds(examples) == {"test-notes.txt": "no-label"}


def test_validation_folder_becomes_the_test_part(tmp_path: Path) -> None:
    """train/ and val/ alone: val/ is the test part, and it is said."""
    fill(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/2.png")
    examples = read(tmp_path)
    assert set(examples.parts) == {"train", "test"}
    assert "used as the test part" in examples.notes[0]
    fill(tmp_path, "test/cat/3.png")
    assert set(read(tmp_path).parts) == {"train", "validation", "test"}


def test_classes_named_like_parts(tmp_path: Path) -> None:
    """Class folders of which one happens to be called test are class folders."""
    fill(tmp_path, "test/1.png", "real/1.png")
    assert labeled(read(tmp_path)) == {"test/1.png": ("test", ""), "real/1.png": ("real", "")}


def test_lone_wrapping_folder(tmp_path: Path) -> None:
    """A folder that only wraps the class folders is stepped into; so is a lone test/, whose name is no label."""
    fill(tmp_path, "photos/cat/1.png", "photos/dog/1.png")
    assert labeled(read(tmp_path)) == {"cat/1.png": ("cat", ""), "dog/1.png": ("dog", "")}
    fill(tmp_path / "other", "test/cat/1.png", "test/dog/1.png")
    assert set(read(tmp_path / "other").answers) == {"cat", "dog"}
    fill(tmp_path / "third", "train/cat/1.png", "train/dog/1.png")
    assert set(read(tmp_path / "third").parts) == {"train"}


def test_links_in_a_circle(tmp_path: Path) -> None:
    """Folder links are followed, none twice."""
    fill(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "dog/again").symlink_to(tmp_path)
    (tmp_path.parent / f"{tmp_path.name}-outside").mkdir()
    fill(tmp_path.parent / f"{tmp_path.name}-outside", "2.png")
    (tmp_path / "cat/outside").symlink_to(tmp_path.parent / f"{tmp_path.name}-outside")
    assert sorted(read(tmp_path).names) == ["cat/1.png", "cat/outside/2.png", "dog/1.png"]


def test_folder_errors(tmp_path: Path) -> None:
    """Nothing there, a near miss, one label, no pictures, a single file."""
    fill(tmp_path, "photos/cat/1.png")
    told(DataError, 'Did you mean "photos"?', source=tmp_path / "photo")
    told(DataError, "lamina samples", source=tmp_path / "nowhere/at/all")
    told(DataError, "at least 2 labels", "Got 1 label on 1 pictures", "photos/cat/1.jpg", source=tmp_path / "photos")
    told(DataError, "single .png file", "folder that holds", source=tmp_path / "photos/cat/1.png")
    (tmp_path / "empty").mkdir()
    told(DataError, "Got 0 labels", source=tmp_path / "empty")
    put(tmp_path / "texts", "a/1.txt", b"hello")
    put(tmp_path / "texts", "b/1.txt", b"hello")
    told(DataError, "2 .txt left out", source=tmp_path / "texts")
    assert read(tmp_path / "photos", least=1).labels == ["cat"]


def test_sample_that_does_not_exist() -> None:
    """A sample's name has its near miss."""
    told(DataError, 'Did you mean "digits"?', source="sample:digit")


# ---------------------------------------------------------------- archives


def test_zip_with_wrapping_folder(tmp_path: Path) -> None:
    """A zip reads like the folder that it holds, and its pictures are audited."""
    examples = read(zipped(tmp_path / "photos.zip", "photos/cat/1.png", "photos/dog/1.png", "__MACOSX/photos/cat/._1.png"))
    assert labeled(examples) == {"cat/1.png": ("cat", ""), "dog/1.png": ("dog", "")}
    assert kinds(examples) == {"__MACOSX/photos/cat/._1.png": "hidden"}
    assert len(lamina.audit(tmp_path / "photos.zip").examples) == 2


def test_zip_written_by_odd_tools(tmp_path: Path) -> None:
    """Leading ./ or /, doubled slashes and backslashes change nothing."""
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("./cat/1.png", "/cat/2.png", "dog//3.png"):
            archive.writestr(zipfile.ZipInfo(name), PNG)
        info = zipfile.ZipInfo("placeholder")
        info.filename = "dog\\4.png"
        archive.writestr(info, PNG)
    assert sorted(read(path).names) == ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]
    assert len(lamina.audit(path).examples) == 4


def test_zip_slip(tmp_path: Path) -> None:
    """Members that leave the archive are set aside by name; nothing is ever unpacked."""
    examples = read(zipped(tmp_path / "slip.zip", "cat/1.png", "dog/1.png", "../../evil.png", "cat/../../evil.png"))
    slipped = [finding for finding in examples.findings if ".." in finding.name]
    assert [finding.detail for finding in slipped] == ["a path that leaves the archive, left out"] * 2
    assert examples.names == ["cat/1.png", "dog/1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slip.zip"]


def test_zip_damaged(tmp_path: Path) -> None:
    """No zip at all is an error; a damaged member is an unreadable file by name."""
    told(DataError, "readable zip file", source=put(tmp_path, "no.zip", b"not a zip"))
    path = tmp_path / "hurt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.bmp", encoded(picture(number), ".bmp"))
        start = archive.getinfo("cat/1.bmp").header_offset + 30 + len("cat/1.bmp")
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    report = lamina.audit(path)
    assert [(finding.name, finding.kind) for finding in report.findings] == [("cat/1.bmp", "unreadable")]


def test_zip_replaced_while_open(tmp_path: Path) -> None:
    """A zip that is written anew is read anew by the same process."""
    path = zipped(tmp_path / "data.zip", "cat/1.png", "dog/1.png")
    before = [raw.read() for raw in read(path).raws]
    other = encoded(picture(2))
    zipped(path, "cat/1.png", "dog/1.png", "dog/2.png", content=other)
    assert [raw.read() for raw in read(path).raws] == [other] * 3 != before


# ---------------------------------------------------------------- tables


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The same rows in the format of the suffix."""
    names = list(rows[0])
    suffix = path.suffix
    if suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        delimiter = {".tsv": "\t", ".csv": ","}[suffix]
        cells = [names, *([row[name] or "" for name in names] for row in rows)]
        path.write_text("\n".join(delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in line) for line in cells) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables(suffix: str, tmp_path: Path) -> None:
    """Each format gives the same examples: paths beside the table, given parts, missing files and empty labels by name."""
    fill(tmp_path, *(name for name, _ in ROWS))
    rows: list[dict[str, Any]] = [
        {"file": name, "class": label, "split": part} for (name, label), part in zip(ROWS, ("train", "train", "VAL", "test"), strict=True)
    ]
    rows += [{"file": "gone.png", "class": "cat", "split": None}, {"file": "a.png", "class": None, "split": None}]
    examples = read(write_table(tmp_path / f"table{suffix}", rows))
    assert labeled(examples) == {
        "a.png": ("cat", "train"),
        "b.png": ("dog", "train"),
        "sub/c.png": ("cat", "validation"),
        "sub/d e,f.png": ("dog", "test"),
    }
    assert kinds(examples) == {"gone.png": "missing", "a.png": "no-label"}
    assert [finding.counts for finding in examples.findings] == [True, False]
    assert "files from column file, labels from column class" in examples.notes[0]


def test_table_of_a_spreadsheet(tmp_path: Path) -> None:
    """A byte order mark, semicolons, quoted cells, blank lines, Windows line ends and odd characters in names are read."""
    fill(tmp_path, "ä;1.png", "b\u20282.png", "c\x853.png")
    lines = ["Image;Label", '"ä;1.png";cat', "", "b\u20282.png; dog ", 'c\x853.png;"big\ndog"', ""]
    (tmp_path / "table.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert labeled(read(tmp_path / "table.csv")) == {
        "ä;1.png": ("cat", ""),
        "b\u20282.png": ("dog", ""),
        "c\x853.png": ("big\ndog", ""),
    }
    (tmp_path / "table.jsonl").write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in ({"path": "b\u20282.png", "y": 0}, {"path": "ä;1.png", "y": 1})), "utf-8"
    )
    assert labeled(read(tmp_path / "table.jsonl")) == {"b\u20282.png": ("0", ""), "ä;1.png": ("1", "")}


def test_table_in_a_folder_or_zip(tmp_path: Path) -> None:
    """A lone table among its pictures is found, in a folder, a zip and a zip with a wrapping folder."""
    table = b"path,label\npictures/1.png,cat\n./pictures/2.png,dog\n../outside.png,dog\n"
    root = fill(tmp_path / "data", "pictures/1.png", "pictures/2.png", "pictures/.hidden.png")
    put(root, "labels.csv", table)
    pictures = {"pictures/1.png": ("cat", ""), "./pictures/2.png": ("dog", "")}
    assert labeled(read(root)) == pictures
    assert kinds(read(root)) == {"../outside.png": "missing", "pictures/.hidden.png": "hidden"}
    fill(tmp_path, "outside.png")
    path = zipped(tmp_path / "a.zip", "pictures/1.png", "pictures/2.png", labels__csv=table)
    assert labeled(read(path)) == pictures
    assert kinds(read(path)) == {"../outside.png": "missing"}
    flat = b"path,label\n1.png,cat\n2.png,dog\n"
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, content in (("data/labels.csv", flat), ("data/1.png", PNG), ("data/2.png", PNG)):
            archive.writestr(name, content)
    assert labeled(read(tmp_path / "b.zip")) == {"1.png": ("cat", ""), "2.png": ("dog", "")}
    assert len(lamina.audit(tmp_path / "b.zip").examples) == 2


def test_table_in_a_zip_reaches_nothing_outside(tmp_path: Path) -> None:
    """An absolute path in an archive's table is a missing file, not one of this machine."""
    outside = put(tmp_path, "secret.png", PNG)
    path = zipped(tmp_path / "a.zip", "1.png", "2.png", t__csv=f"path,label\n1.png,cat\n2.png,dog\n{outside},dog\n".encode())
    assert kinds(read(path)) == {str(outside): "missing"}


def test_named_columns(tmp_path: Path) -> None:
    """--path-column and --label-column win over the usual names; a wrong one has its near miss."""
    fill(tmp_path, "1.png", "2.png")
    table = put(tmp_path, "t.csv", b"path,label,where,species\nx,y,1.png,cat\nx,y,2.png,dog\n")
    assert labeled(read(table, path_column="where", label_column="species")) == {"1.png": ("cat", ""), "2.png": ("dog", "")}
    told(UsageError, "--label-column", 'Did you mean "species"?', source=table, label_column="specis")
    told(UsageError, "--path-column", "path, label, where, species", source=table, path_column="file")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", ["a header and at least one row"]),
        ("t.csv", b"path,label\n", ["a header and at least one row"]),
        ("t.csv", b"a,b\n1,2\n", ["have a label column", "columns a, b", "--label-column"]),
        ("t.csv", b"path,b\n1,2\n", ["have a label column", "--label-column"]),
        ("t.csv", b"path,label\n1.png,cat\n2.png\n", ["Row 3", "2 cells", "Got 1."]),
        ("t.csv", b"path,label\n1.png,c\xe4t\n", ["UTF-8", "byte 18"]),
        ("t.csv", b"path,label,split\n1.png,cat,trian\n2.png,dog,test\n", ["row 1", "train, validation, test", 'Did you mean "train"?']),
        ("t.csv", b"path,label\n3.png,cat\n4.png,dog\n", ["Got 0 labels", "3.png: row 1 names a file that is not there"]),
        ("t.jsonl", b'{"path": "1.png", "label": "cat"}\n{"path": \n', ["Line 2"]),
        ("t.jsonl", b'{"path": "1.png", "label": "cat"}\n[1, 2]\n', ["Line 2", "one JSON object"]),
        ("t.parquet", b"PAR1 nothing", ["readable Parquet"]),
    ],
)
def test_table_errors(name: str, content: bytes, words: list[str], tmp_path: Path) -> None:
    """What is wrong in a table is told with its row, line or column."""
    fill(tmp_path, "1.png", "2.png")
    told(DataError, *words, source=put(tmp_path, name, content))


# ---------------------------------------------------------------- values in memory


def test_arrays_and_dictionaries() -> None:
    """(X, y), its dictionary, tensors and numpy labels give the same labels; empty labels are left out by name."""
    pictures = np.stack([picture(seed) for seed in range(4)])
    for source in (
        (pictures, ["0", "1", "0", "1"]),
        (pictures, np.array([0, 1, 0, 1])),
        (list(pictures), [0, 1, 0, 1]),
        {"x": pictures, "y": (0, 1, 0, 1)},
        (torch.from_numpy(pictures), torch.tensor([0, 1, 0, 1])),
    ):
        examples = read(source)
        assert list(examples.answers) == ["0", "1", "0", "1"]
        assert examples.names == ["row 0", "row 1", "row 2", "row 3"]
        assert len(lamina.audit(source).examples) == 4
    examples = read((pictures, ["cat", None, float("nan"), "dog"]))
    assert labeled(examples) == {"row 0": ("cat", ""), "row 3": ("dog", "")}
    assert kinds(examples) == {"row 1": "no-label", "row 2": "no-label"}


def test_paths_in_memory(class_folders: Callable[..., Path]) -> None:
    """X may hold paths, as text or Path, and bytes or Pillow pictures."""
    root = class_folders()
    paths = sorted(root.rglob("*.png"))[3:7]
    for values in (paths, [str(path) for path in paths], [path.read_bytes() for path in paths], [Image.open(path) for path in paths]):
        assert len(lamina.audit((values, [0, 0, 1, 1])).examples) == 4


def test_data_frame(class_folders: Callable[..., Path]) -> None:
    """A pandas frame: paths or pictures, given parts, groups by column, missing labels of every kind."""
    pandas = pytest.importorskip("pandas")
    root = class_folders()
    paths = [str(root / f"{label}/{number}.png") for label in ("cat", "dog") for number in range(5)]
    frame = pandas.DataFrame(
        {"path": paths, "label": ["cat"] * 5 + ["dog"] * 5, "split": ["train"] * 8 + ["test"] * 2, "who": list("aabbccddee")}
    )
    examples = read(frame, group="who")
    assert list(examples.parts) == ["train"] * 8 + ["test"] * 2
    assert list(examples.groups) == list("aabbccddee")
    assert len(lamina.audit(frame).examples) == 10
    frame["label"] = frame["label"].astype("string")
    frame.loc[3, "label"] = pandas.NA
    assert kinds(read(frame)) == {paths[3]: "no-label"}
    frame["split"] = ["trian"] * 10
    told(DataError, 'Did you mean "train"?', source=frame)
    told(DataError, "have a label column", source=frame.drop(columns="label"))
    pictures = pandas.DataFrame({"image": [picture(seed) for seed in range(4)], "target": [1, 2, 1, 2]})
    assert labeled(read(pictures)) == {f"row {row}": (str(1 + row % 2), "") for row in range(4)}


def test_memory_errors() -> None:
    """Unequal lengths and values that are no data."""
    told(DataError, "equal lengths", "2 and 3", source=([1, 2], [1, 2, 3]))
    told(UsageError, "Got int", source=5)
    told(UsageError, "Got dict", source={"X": [], "y": []})
    told(DataError, "Got 0 labels", source=([], []))
    told(DataError, "Got 1 label ", source=([picture(1), picture(2)], ["cat", "cat"]))


# ---------------------------------------------------------------- groups


def test_groups(tmp_path: Path) -> None:
    """--group is a table's column, or a pattern on names; what matches nothing stands alone."""
    fill(tmp_path, "cat/ana_1.png", "cat/ana_2.png", "dog/ben_1.png", "dog/other.png")
    examples = read(tmp_path, group=r"/(\w+)_\d+\.png")
    assert list(examples.groups) == ["ana", "ana", "ben", ""]
    assert "2 groups by" in examples.notes[-1]
    table = put(tmp_path, "t.csv", b"path,label,person\ncat/ana_1.png,cat,7\ngone.png,cat,8\ncat/ana_2.png,cat, 7\ndog/other.png,dog,\n")
    assert list(read(table, group="person").groups) == ["7", "7", ""]
    assert list(read(table, group="(ana)").groups) == ["ana", "ana", ""]
    pictures = [picture(1), picture(2)]
    assert list(read({"x": pictures, "y": [0, 1]}, group=r"row (\d)").groups) == ["0", "1"]


def test_group_errors(tmp_path: Path) -> None:
    """A pattern that is none, has no group, or matches nothing; a column's near miss."""
    fill(tmp_path, "cat/1.png", "dog/1.png")
    told(UsageError, "regular expression", source=tmp_path, group="(")
    told(UsageError, "exactly one (group)", source=tmp_path, group="[0-9]+")
    told(UsageError, "match at least one name", "A name looks like cat/1.png", source=tmp_path, group="(zebra)")
    table = put(tmp_path, "t.csv", b"path,label,person\ncat/1.png,cat,7\ndog/1.png,dog,8\n")
    told(UsageError, 'Did you mean "person"?', source=table, group="persn")


def test_the_sense_is_said_by_the_data(tmp_path):
    """Numbers in a column called sound are numbers; names of recordings are recordings; bytes say what they are."""
    from lamina.inputs import AudioInput

    def sense(source) -> str:
        return read_examples(source, Settings(), [ImageInput(), AudioInput()]).sense

    (tmp_path / "numbers.csv").write_text("temperature,sound,label\n" + "1.5,2.5,a\n2.5,3.5,b\n" * 9)
    assert sense(tmp_path / "numbers.csv") == "vector"
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    (tmp_path / "files.csv").write_text("sound,label\na.wav,a\nb.wav,b\n")
    assert sense(tmp_path / "files.csv") == "audio"
    wave = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 20
    assert sense(([wave] * 4, ["a", "b"] * 2)) == "audio" and sense(([b"\x89PNG\r\n"] * 4, ["a", "b"] * 2)) == "image"

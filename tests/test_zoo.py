"""A zoo of bad and odd files, made here: the audit excludes each or warns of it by name, and decodes good variety rightly."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import encoded, made_audit, picture, put
from PIL import Image

import lamina
from lamina.data.audit import stop_if_bad
from lamina.data.examples import Finding
from lamina.errors import DataError
from lamina.inputs import ImageInput
from lamina.inputs import image as image_module
from lamina.settings import Settings

SEED = 70
FIRST = picture(1)
"""What the first good file, cat/0.png, holds."""


def flipped(content: bytes, at: int, count: int = 4) -> bytes:
    return content[:at] + bytes(byte ^ 0x55 for byte in content[at : at + count]) + content[at + count :]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(wide: int, high: int) -> bytes:
    header = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def with_number(content: bytes, at: int, form: str, *numbers: int) -> bytes:
    packed = struct.pack(form, *numbers)
    return content[:at] + packed + content[at + len(packed) :]


def tiff_without_pixels() -> bytes:
    content = encoded(picture(SEED), ".tif")
    start = struct.unpack("<I", content[4:8])[0]
    for entry in range(struct.unpack("<H", content[start : start + 2])[0]):
        at = start + 2 + 12 * entry
        if struct.unpack("<H", content[at : at + 2])[0] == 273:  # StripOffsets
            content = with_number(content, at + 8, "<I", 10**8)
    return content


def half(suffix: str, **options: Any) -> bytes:
    content = encoded(picture(SEED, 64), suffix, **options)
    return content[: len(content) // 2]


class Odd(NamedTuple):
    """One odd file: where it is put, what it holds, and what the audit must say."""

    name: str
    content: bytes | Callable[[Path], object]
    kinds: str | tuple[str, ...]
    excluded: bool = True


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
PNG = encoded(picture(SEED))
ZOO = (
    Odd("cat/empty.jpg", b"", "empty"),
    Odd("cat/half.jpg", half(".jpg"), "truncated"),
    Odd("cat/half.png", half(".png"), "truncated"),
    Odd("cat/half.gif", half(".gif"), "truncated"),
    Odd("cat/half.webp", half(".webp"), "truncated"),
    Odd("cat/half.avif", half(".avif"), "truncated"),
    Odd("cat/half.bmp", half(".bmp"), "truncated"),
    Odd("cat/half.jp2", half(".jp2"), "truncated"),
    Odd("cat/header-only.png", PNG[:20], "truncated"),
    Odd("cat/flipped.png", flipped(PNG, PNG.index(b"IDAT") + 400), ("truncated", "unreadable")),
    Odd("cat/flipped-end.png", flipped(PNG, PNG.index(b"IEND") - 11), ("truncated", "unreadable")),
    Odd("cat/offsets.tif", with_number(encoded(picture(SEED), ".tif"), 4, "<I", 2**31), ("truncated", "unreadable")),
    Odd("cat/strips.tif", tiff_without_pixels(), ("truncated", "unreadable")),
    Odd("cat/random.jpg", np.random.default_rng(5).bytes(3000), "mistyped"),
    Odd("cat/text.jpg", b"This is no picture.\n" * 20, "mistyped"),
    Odd("cat/page.png", b"<!DOCTYPE html><html><body>404</body></html>", "mistyped"),
    Odd("cat/paper.png", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n", "mistyped"),
    Odd("cat/zip.jpg", b"PK\x03\x04" + bytes(range(256)), "mistyped"),
    Odd("cat/program.png", encoded(picture(SEED), ".eps"), "mistyped"),
    Odd("cat/zeros.jpg", bytes(4000), "unreadable"),
    Odd("cat/really-a-png.jpg", PNG, "mistyped", excluded=False),
    Odd("cat/no-suffix", PNG, "mistyped", excluded=False),
    Odd("cat/constant.png", encoded(np.full((24, 24, 3), 77, np.uint8)), "constant"),
    Odd("cat/dot.png", encoded(picture(SEED, 1)), "constant"),
    Odd("cat/nan.tif", encoded(np.full((24, 24), np.nan, np.float32), ".tif"), "constant"),
    Odd("cat/bomb.png", png_that_claims(50_000, 50_000), "over-large"),
    Odd("cat/large.png", png_that_claims(11_000, 11_000), "over-large"),
    Odd("cat/huge.bmp", with_number(encoded(picture(SEED), ".bmp"), 18, "<ii", 2**31 - 1, 2**31 - 1), ("over-large", "unreadable")),
    Odd("cat/notes.txt", b"BMW and Mini, taken in May", "foreign"),
    Odd("cat/table.csv", b"a,b\n1,2\n", "foreign"),
    Odd("cat/clip.mp4", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mp41" + bytes(500), "foreign"),
    Odd("cat/.DS_Store", b"\0\0\0\1Bud1", "hidden", excluded=False),
    Odd("cat/Thumbs.db", b"\xd0\xcf\x11\xe0", "hidden", excluded=False),
    Odd("cat/._0.jpg", b"\0\5\x16\7", "hidden", excluded=False),
    Odd("__MACOSX/cat/0.jpg", b"\0\5\x16\7", "hidden", excluded=False),
    Odd("stray.png", PNG, "no-label"),
    Odd("cat/copy.png", encoded(FIRST, compress_level=1), "duplicate", excluded=False),
    Odd("cat/copy.bmp", encoded(FIRST, ".bmp"), "duplicate", excluded=False),
    Odd("dog/copy.png", encoded(FIRST), "contradiction", excluded=False),
    Odd("cat/recompressed.jpg", encoded(FIRST, ".jpg", quality=85), "near-duplicate", excluded=False),
    Odd("cat/brighter.png", encoded(FIRST + 2), "near-duplicate", excluded=False),
    Odd("cat/dangling.jpg", lambda path: path.symlink_to("nowhere.jpg"), "unreadable"),
    Odd("cat/folder.jpg", lambda path: path.mkdir(), "empty", excluded=False),
    Odd("cat/pipe.jpg", os.mkfifo, "empty"),
    Odd("cat/pipe", os.mkfifo, "foreign"),
)


def findings_of(report: lamina.Audit, name: str) -> dict[str, Finding]:
    return {finding.kind: finding for finding in report.findings if finding.name == name}


@pytest.mark.parametrize("odd", ZOO, ids=[odd.name for odd in ZOO])
def test_zoo(odd: Odd, class_folders: Callable[..., Path]) -> None:
    """Each odd file is excluded or warned of by name, and the good ones stay."""
    root = class_folders()
    if callable(odd.content):
        odd.content(root / odd.name)
    else:
        put(root, odd.name, odd.content)
    report = lamina.audit(root)
    kinds = (odd.kinds,) if isinstance(odd.kinds, str) else odd.kinds
    found = [finding for kind, finding in findings_of(report, odd.name).items() if kind in kinds]
    assert found, report.findings
    assert found[0].detail
    assert " at 0x" not in found[0].detail
    assert found[0].excluded == odd.excluded
    assert odd.name not in report.examples.names or not odd.excluded
    good = {f"{label}/{number}.png" for label in ("cat", "dog") for number in range(5)}
    assert good <= set(report.examples.names)
    assert {finding.name for finding in report.findings} & good == set()


def test_zoo_is_large() -> None:
    """At least 28 kinds of odd files."""
    assert len(ZOO) >= 28


def test_whole_zoo_at_once(class_folders: Callable[..., Path]) -> None:
    """All of them in one folder: every one is named, the training would stop."""
    root = class_folders()
    for odd in ZOO:
        if not callable(odd.content):
            put(root, odd.name, odd.content)
    report = lamina.audit(root)
    named = {finding.name for finding in report.findings}
    assert {odd.name for odd in ZOO if not callable(odd.content)} <= named
    assert report.bad > 20
    assert report.summary()["unusable_of_the_modality"] == report.bad
    with pytest.raises(DataError, match="at most the larger of 1 % and 10 files"):
        stop_if_bad(report, Settings())
    assert lamina.audit(root).summary()["findings"] == report.summary()["findings"]


def test_labels_that_are_odd(class_folders: Callable[..., Path]) -> None:
    """One example, imbalance, and labels that differ only in case or spaces are said by the label's name."""
    root = class_folders(cat=4, bird=1, eel=21)
    put(root, "cat /0.png", encoded(picture(99)))
    report = lamina.audit(root)
    assert "single-example" in findings_of(report, "bird")
    assert "imbalance" in findings_of(report, "eel")
    assert "similar-labels" in findings_of(report, "cat")
    report = lamina.audit(([picture(seed) for seed in range(4)], ["cat", "Cat", "dog", "dog"]))
    assert "similar-labels" in findings_of(report, "Cat")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(class_folders: Callable[..., Path]) -> None:
    """A closed file is unreadable by name, and usable once it is opened."""
    root = class_folders()
    path = put(root, "cat/closed.png", PNG)
    path.chmod(0)
    assert findings_of(lamina.audit(root), "cat/closed.png")["unreadable"].excluded
    path.chmod(0o600)
    assert "cat/closed.png" in lamina.audit(root).examples.names


def test_closed_file_and_folder_by_refusal(class_folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses to open (said even to root) is named; nothing of it is remembered when it opens again."""
    root = class_folders()
    put(root, "cat/closed.png", PNG)
    put(root, "dog/closed/1.png", PNG)
    read, scan = image_module.FileRaw.read, os.scandir

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(image_module.FileRaw, "read", lambda raw, *a: refuse(raw.path) if raw.path.endswith("closed.png") else read(raw, *a))
        patch.setattr(os, "scandir", lambda path: refuse(path) if str(path).endswith("closed") else scan(path))
        report = lamina.audit(root)
    assert "Permission denied" in findings_of(report, "cat/closed.png")["unreadable"].detail
    assert "Permission denied" in findings_of(report, "dog/closed")["unreadable"].detail
    assert report.bad == 2
    assert {"cat/closed.png", "dog/closed/1.png"} <= set(lamina.audit(root).examples.names)


def test_heic_without_the_extra(class_folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """HEIC files are told to need the extra, whatever their name says, and the install line is given."""
    monkeypatch.setattr(image_module, "heif_available", lambda: False)
    root = class_folders()
    put(root, "cat/phone.heic", HEIC)
    put(root, "cat/phone.jpg", HEIC)
    report = lamina.audit(root)
    for name in ("cat/phone.heic", "cat/phone.jpg"):
        assert "pip install 'lamina[heic]'" in findings_of(report, name)["needs-extra"].detail
        assert name not in report.examples.names
    assert any("pip install" in note for note in report.examples.notes)


def test_name_that_is_not_utf_8(class_folders: Callable[..., Path]) -> None:
    """A file name in another encoding neither stops the audit nor hides the file."""
    root = class_folders()
    try:
        Path(os.fsdecode(os.fsencode(root / "cat") + b"/caf\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    for _ in range(2):
        assert "empty" in findings_of(lamina.audit(root), os.fsdecode(b"cat/caf\xe9.jpg"))


def test_missing_file_of_a_table(class_folders: Callable[..., Path]) -> None:
    """A table's row without its file is named and counted."""
    root = class_folders()
    rows = [f"{label}/{number}.png,{label}" for label in ("cat", "dog") for number in range(5)]
    table = put(root.parent, "table.csv", "\n".join(["path,label", *("photos/" + row for row in rows), "gone.png,cat"]).encode())
    report = lamina.audit(table)
    assert findings_of(report, "gone.png")["missing"].counts
    assert (len(report.examples), report.bad, report.total) == (10, 1, 11)


def test_untrained_label(class_folders: Callable[..., Path]) -> None:
    """A label that stands only in the given test part is left out by name."""
    root = class_folders("photos/train")
    put(root.parent, "test/owl/1.png", PNG)
    put(root.parent, "test/cat/1.png", encoded(picture(98)))
    report = lamina.audit(root.parent)
    assert findings_of(report, "test/owl/1.png")["untrained-label"].excluded
    assert report.examples.labels == ["cat", "dog"]


def test_second_audit_decodes_nothing(class_folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that did not change are remembered; a changed one is decoded again."""
    root = class_folders()
    first = lamina.audit(root)
    seen: list[str] = []
    inspect = ImageInput.inspect
    monkeypatch.setattr(ImageInput, "inspect", lambda self, raw: (seen.append(raw.path), inspect(self, raw))[1])
    put(root, "cat/0.png", PNG)
    second = lamina.audit(root)
    assert [Path(path).name for path in seen] == ["0.png"]
    assert second.inspections[1:] == first.inspections[1:]
    assert second.inspections[0] != first.inspections[0]
    assert second.content_hash != first.content_hash


# ---------------------------------------------------------------- good variety, decoded rightly

COLOUR, GREY = picture(11, 32), picture(12, 32, channels=1)
ALPHA = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
OTHER = picture(13, 32)
PALETTE = np.random.default_rng(3).integers(0, 256, (256, 3)).astype(np.uint8)
BITS = GREY > 128


def read(content: bytes | np.ndarray | Image.Image, channels: int = 3) -> np.ndarray:
    values = ImageInput(side=32, channels=channels).read(content)
    assert values.dtype == np.uint8
    return values[..., 0] if channels == 1 else values


def on_white(values: np.ndarray) -> np.ndarray:
    alpha = ALPHA[..., None] / 255.0 if values.ndim == 3 else ALPHA / 255.0
    return values * alpha + 255 * (1 - alpha)


def paletted() -> Image.Image:
    made = Image.fromarray(GREY).copy()
    made = Image.frombytes("P", made.size, made.tobytes())
    made.putpalette(PALETTE.tobytes())
    return made


def cmyk() -> tuple[bytes, np.ndarray]:
    inks = np.dstack([COLOUR, np.full((32, 32), 60, np.uint8)])
    return encoded(Image.fromarray(inks, "CMYK"), ".jpg", quality=98, subsampling=0), (255.0 - COLOUR) * (255 - 60) / 255


def moving(suffix: str) -> bytes:
    frames = [Image.fromarray(values) for values in (GREY, GREY[::-1].copy(), GREY.T.copy())]
    return encoded(frames[0], suffix, save_all=True, append_images=frames[1:], duration=100)


VARIETY: dict[str, tuple[Any, np.ndarray, float]] = {
    "png": (encoded(COLOUR), COLOUR, 0),
    "bmp": (encoded(COLOUR, ".bmp"), COLOUR, 0),
    "tga": (encoded(COLOUR, ".tga"), COLOUR, 0),
    "ppm": (encoded(COLOUR, ".ppm"), COLOUR, 0),
    "tiff": (encoded(COLOUR, ".tif"), COLOUR, 0),
    "tiff lzw": (encoded(COLOUR, ".tif", compression="tiff_lzw"), COLOUR, 0),
    "jpeg": (encoded(COLOUR, ".jpg", quality=98, subsampling=0), COLOUR, 3),
    "progressive jpeg": (encoded(COLOUR, ".jpg", quality=98, subsampling=0, progressive=True), COLOUR, 3),
    "gray jpeg": (encoded(GREY, ".jpg", quality=98), GREY, 3),
    "jpeg 2000": (encoded(COLOUR, ".jp2"), COLOUR, 0),
    "webp": (encoded(COLOUR, ".webp", lossless=True), COLOUR, 0),
    "avif": (encoded(COLOUR, ".avif", quality=98, subsampling="4:4:4"), COLOUR, 4),
    "16 bits": (encoded(GREY.astype(np.uint16) * 257), GREY, 0),
    "16 bits tiff": (encoded(GREY.astype(np.uint16) * 257, ".tif"), GREY, 0),
    "16 bits in mode I": (encoded(Image.fromarray(GREY.astype(np.int32) * 257), ".tif"), GREY, 0),
    "palette": (encoded(paletted()), PALETTE[GREY], 0),
    "palette gif": (encoded(paletted(), ".gif"), PALETTE[GREY], 0),
    "palette with transparency": (
        encoded(paletted(), transparency=int(GREY[0, 0])),
        np.where((GREY[0, 0] == GREY)[..., None], 255, PALETTE[GREY]),
        0,
    ),
    "cmyk": (*cmyk(), 4),
    "rgba": (encoded(np.dstack([COLOUR, ALPHA])), on_white(COLOUR), 1),
    "rgba webp": (encoded(np.dstack([COLOUR, ALPHA]), ".webp", lossless=True, exact=True), on_white(COLOUR), 1),
    "la": (encoded(Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA)))), on_white(GREY), 1),
    "one bit": (encoded(Image.fromarray(BITS)), BITS * 255, 0),
    "one bit tiff": (encoded(Image.fromarray(BITS), ".tif", compression="group4"), BITS * 255, 0),
    "float tiff": (encoded(GREY.astype(np.float32) / 255, ".tif"), GREY, 0),
    "float tiff to 255": (encoded(GREY.astype(np.float32), ".tif"), GREY, 0),
    "animated gif": (moving(".gif"), GREY, 0),
    "animated png": (moving(".png"), GREY, 0),
    "array": (COLOUR, COLOUR, 0),
    "array channels first": (COLOUR.transpose(2, 0, 1), COLOUR, 0),
    "array of floats": (COLOUR / 255.0, COLOUR, 0),
    "array of bits": (BITS, BITS * 255, 0),
    "array gray": (GREY[..., None], GREY, 0),
    "pillow": (Image.fromarray(COLOUR), COLOUR, 0),
}


@pytest.mark.parametrize("name", VARIETY)
def test_good_variety_is_decoded_rightly(name: str) -> None:
    """Every common depth, color space and container gives the pixels that were put in, and passes the audit."""
    content, expected, near = VARIETY[name]
    assert ImageInput().inspect(content).problem == ""
    values = read(content, 3 if np.ndim(expected) == 3 else 1).astype(float)
    difference = np.abs(values - expected)
    assert difference.max() <= near if near <= 1 else difference.mean() <= near


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_exif_rotation(suffix: str) -> None:
    """All eight orientations give the upright picture, in the audit's content too."""
    turns = [(), "h", "rr", "v", "hr", "r", "vr", "rrr"]
    contents = set()
    for orientation, turn in enumerate(turns, start=1):
        values = COLOUR
        for step in turn:
            values = {"h": values[:, ::-1], "v": values[::-1], "r": np.rot90(values)}[step]
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {".jpg": {"quality": 98, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
        content = encoded(np.ascontiguousarray(values), suffix, exif=exif, **options)
        assert np.abs(read(content).astype(float) - COLOUR).mean() <= (2 if suffix == ".jpg" else 0), orientation
        contents.add(ImageInput().inspect(content).content)
    assert len(contents) == 1 or suffix == ".jpg"


@pytest.mark.parametrize("garbage", [b"garbage", b"II*\0\x08\0\0\0\xff\xff\x12\x01\3\0", b"MM\0*\xff\xff\xff\xff"])
def test_damaged_exif_does_not_cost_the_picture(garbage: bytes) -> None:
    """Only the orientation is lost."""
    content = encoded(COLOUR, ".jpg", quality=98, subsampling=0, exif=b"Exif\0\0" + garbage)
    assert ImageInput().inspect(content).problem == ""
    assert np.abs(read(content).astype(float) - COLOUR).mean() <= 3


def test_heic_with_the_extra(class_folders: Callable[..., Path]) -> None:
    """HEIC is decoded where the extra is installed."""
    heif = pytest.importorskip("pillow_heif")
    try:
        content = heif.from_pillow(Image.fromarray(picture(14, 64))).save
        path = class_folders() / "cat/phone.heic"
        content(path, quality=95)
    except (RuntimeError, OSError) as error:
        pytest.skip(f"no HEIC encoder: {error}")
    values = ImageInput(side=64, channels=3).read(path.read_bytes())
    assert np.abs(values.astype(float) - picture(14, 64)).mean() < 6
    assert "cat/phone.heic" in lamina.audit(path.parent.parent).examples.names


def test_same_pixels_have_the_same_content() -> None:
    """The content hash is of the pixels: the container, gray stored as color and an opaque alpha change nothing."""
    gray = [encoded(GREY), encoded(GREY, ".bmp"), encoded(np.dstack([GREY] * 3)), encoded(np.dstack([GREY] * 3 + [GREY * 0 + 255])), GREY]
    assert len({ImageInput().inspect(content).content for content in gray}) == 1
    assert ImageInput().inspect(encoded(OTHER)).content != ImageInput().inspect(encoded(COLOUR)).content


# ---------------------------------------------------------------- --max-bad


def report_with(usable: int, bad: int, foreign: int = 0) -> lamina.Audit:
    findings = [Finding(f"bad {n}.jpg", "truncated", "half of it", excluded=True, counts=True) for n in range(bad)]
    findings += [Finding(f"{n}.txt", "foreign", "not one of the pictures", excluded=True) for n in range(foreign)]
    return made_audit([str(n) for n in range(usable)], ["cat" if n % 2 else "dog" for n in range(usable)], findings=findings)


@pytest.mark.parametrize(
    ("usable", "bad", "max_bad", "stops"),
    [
        (90, 10, None, False),
        (90, 11, None, True),
        (1980, 20, None, False),
        (1979, 21, None, True),
        (99, 1, 0.01, False),
        (98, 2, 0.01, True),
        (100, 1, 0.0, True),
        (100, 0, 0.0, False),
        (50, 50, 0.5, False),
        (49, 51, 0.5, True),
    ],
)
def test_max_bad(usable: int, bad: int, max_bad: float | None, stops: bool) -> None:
    """Unset: the larger of 1 % and 10 files. An explicit rate has no floor."""
    settings = Settings(max_bad=max_bad)
    if not stops:
        return stop_if_bad(report_with(usable, bad), settings)
    with pytest.raises(DataError, match=r"must be at most .* Got \d+ of \d+, such as bad 0.jpg: truncated .*--max-bad") as caught:
        stop_if_bad(report_with(usable, bad), settings)
    assert caught.value.exit_code == 3


def test_foreign_files_do_not_count() -> None:
    """Text files beside pictures are named, but never stop a training."""
    stop_if_bad(report_with(20, 0, foreign=500), Settings(max_bad=0.0))


def test_one_label_left_stops() -> None:
    """When the audit leaves fewer than two labels, there is nothing to learn."""
    with pytest.raises(DataError, match="at least 2 different labels"):
        stop_if_bad(made_audit(["a", "b"], ["cat", "cat"]), Settings())

"""Samples: named data to start with. Embedded, installed, or in a folder that you name; fetched only when asked for by name."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamina.data.examples import Examples
from lamina.data.files import cache_folder, write_bytes
from lamina.errors import DataError, ResourceError, did_you_mean, sentence
from lamina.settings import Settings


@dataclass(frozen=True)
class SampleFile:
    name: str
    address: str
    sha256: str
    """Of the decompressed content."""


@dataclass(frozen=True)
class Sample:
    name: str
    about: str
    license: str
    source: str
    files: tuple[SampleFile, ...] = ()
    installed: str = ""
    """A folder in which a system package puts the files."""


FASHION = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_LABELS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("digits", "1,797 handwritten digits, 8 x 8 gray, 10 classes", "CC BY 4.0 (UCI)",
               "E. Alpaydin and C. Kaynak 1998, inside scikit-learn"),
        Sample("fashion-mnist", "70,000 pictures of clothes, 28 x 28 gray, 10 classes, test part given", "MIT",
               "Xiao, Rasul & Vollgraf 2017, https://github.com/zalandoresearch/fashion-mnist",
               tuple(SampleFile(name, FASHION + name, digest) for name, digest in (
                   ("train-images-idx3-ubyte.gz", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
                   ("train-labels-idx1-ubyte.gz", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
                   ("t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
                   ("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"))),
               "/usr/share/datasets/fashion-mnist"),
    )
}  # fmt: skip


def sample_folder(sample: Sample, settings: Settings) -> Path | None:
    """Where the sample's files lie, or None: --samples-from (itself or a folder of the sample's name), the system's, the fetched."""
    places = [cache_folder(settings) / "samples" / sample.name]
    if sample.installed:
        places.insert(0, Path(sample.installed))
    if settings.samples_from:
        named = Path(settings.samples_from).expanduser()
        places[:0] = [named / sample.name, named]
    return next((place for place in places if sample.files and all((place / file.name).is_file() for file in sample.files)), None)


def available(sample: Sample, settings: Settings) -> str:
    """Where it comes from here, or how to get it."""
    if not sample.files:
        return "embedded"
    folder = sample_folder(sample, settings)
    return str(folder) if folder else f"not here: lamina samples --fetch {sample.name}"


def load_sample(name: str, settings: Settings) -> Examples:
    """The sample as Examples. Raises DataError when it is unknown, not here, or not the pinned content."""
    sample = find_sample(name)
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        labels = [str(label) for label in digits.target]
        return _examples(name, list(pictures), labels, [""] * len(labels), "digit")
    folder = sample_folder(sample, settings)
    if folder is None:
        raise DataError(
            sentence(
                f"The sample {name}",
                "be on this machine",
                "no such files",
                f"Run: lamina samples --fetch {name}, or name a folder with --samples-from.",
            )
        )
    pictures, labels, parts = [], [], []
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, answers = (_read_idx(folder / file.name, file) for file in sample.files if file.name.startswith(prefix))
        pictures.extend(images)
        labels.extend(FASHION_LABELS[answer] for answer in answers)
        parts.extend([part] * len(answers))
    return _examples(name, pictures, labels, parts, "picture")


def find_sample(name: str) -> Sample:
    if name not in SAMPLES:
        raise DataError(sentence("The name of a sample", "be one of " + ", ".join(SAMPLES), name, did_you_mean(name, SAMPLES)))
    return SAMPLES[name]


def fetch_sample(name: str, settings: Settings, timeout: float = 30) -> Path:
    """Fetch a sample's files into the cache and check each against its pinned SHA-256. Only ever called by name."""
    import urllib.error
    import urllib.request

    sample = find_sample(name)
    if (folder := sample_folder(sample, settings)) is not None or not sample.files:
        return folder or Path()
    folder = cache_folder(settings) / "samples" / sample.name
    for file in sample.files:
        try:
            with urllib.request.urlopen(file.address, timeout=timeout) as answer:
                content = answer.read(200_000_000)
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise ResourceError(
                sentence(
                    f"The address {file.address}",
                    "be reachable",
                    str(error),
                    "Try later, or put the file into a folder and name it with --samples-from.",
                )
            ) from error
        _check_pinned(content, file, file.address)
        write_bytes(folder / file.name, content)
    return folder


def write_class_folders(examples: Examples, folder: Path) -> None:
    """Write pictures held in memory as PNG files in class folders (under train/ and test/ when parts are given)."""
    from PIL import Image

    for name, picture, label, part in zip(examples.names, examples.raws, examples.answers, examples.parts, strict=True):
        place = folder / part / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{name}.png", compress_level=1)


def _examples(name: str, pictures: list[np.ndarray], labels: list[str], parts: list[str], word: str) -> Examples:
    names = [f"{word}-{number:05d}" for number in range(len(labels))]
    return Examples(f"sample:{name}", names, pictures, labels, parts, [""] * len(labels))


def _check_pinned(content: bytes, file: SampleFile, where: object) -> bytes:
    try:
        plain = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(sentence(f"The file {where}", "be a whole gzip file", str(error), "Get it again.")) from error
    digest = hashlib.sha256(plain).hexdigest()
    if digest != file.sha256:
        raise DataError(sentence(f"The content of {where}", f"have SHA-256 {file.sha256}", digest, "Get it again from its source."))
    return plain


def _read_idx(path: Path, file: SampleFile) -> np.ndarray:
    """The IDX format of LeCun's MNIST page: magic, sizes (big endian), bytes."""
    plain = _check_pinned(path.read_bytes(), file, os.fspath(path))
    axes = plain[3]
    shape = [int.from_bytes(plain[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    return np.frombuffer(plain, np.uint8, offset=4 + 4 * axes).reshape(shape)

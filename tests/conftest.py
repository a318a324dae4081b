"""What all tests share: a cache of their own, made pictures, class folders of them, and audits without files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.data.audit import Audit
from lamina.data.duplicates import find_duplicates
from lamina.data.examples import Examples, Finding
from lamina.data.inspection import Inspection


def pytest_configure(config: pytest.Config) -> None:
    """Where some test at a time, each has a core of its own: two that share two cores wait for one another's threads."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[int(worker.removeprefix("gw")) % len(mine)]})
        torch.set_num_threads(1)


LONGEST = ("test_promises.py", "test_page.py", "test_demo.py", "test_classical.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: at the end nobody waits for one of them."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test touches the user's cache, nor waits ten seconds for each opponent's search."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr("lamina.pipeline.opponents.LEAST_SECONDS", 2.5)
        yield folder


def picture(seed: int, side: int = 24, channels: int = 3) -> np.ndarray:
    """A smooth random picture with a little noise, uint8 [side, side, channels] (or [side, side] for one channel)."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(20, 236, (4, 4, 3)).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(coarse).astype(int) + generator.integers(-4, 5, (side, side, 3)), 0, 255).astype(np.uint8)
    return values if channels == 3 else np.ascontiguousarray(values[..., 0])


def encoded(values: np.ndarray | Image.Image, suffix: str = ".png", **options: Any) -> bytes:
    """The bytes of a picture file."""
    stream = io.BytesIO()
    made = values if isinstance(values, Image.Image) else Image.fromarray(values)
    made.save(stream, Image.registered_extensions()[suffix], **options)
    return stream.getvalue()


def put(root: Path, name: str, content: bytes) -> Path:
    """Write a file below `root`, its folders made."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def class_folders(tmp_path: Path) -> Callable[..., Path]:
    """A maker of class folders with different pictures: class_folders(cat=5, dog=5) -> the root."""

    def make(root: str = "photos", side: int = 24, seed: int = 0, **counts: int) -> Path:
        for label, count in (counts or {"cat": 5, "dog": 5}).items():
            for number in range(count):
                seed += 1
                put(tmp_path / root, f"{label}/{number}.png", encoded(picture(seed, side)))
        return tmp_path / root

    return make


def made_audit(
    contents: Sequence[str],
    answers: Sequence[str],
    parts: Sequence[str] = (),
    groups: Sequence[str] = (),
    near: Sequence[tuple[int, int]] = (),
    findings: Sequence[Finding] = (),
) -> Audit:
    """An Audit of examples that have no files: content hashes, labels, given parts, groups and near pairs as said."""
    count = len(contents)
    blank = [""] * count
    names = [f"{number}.png" for number in range(count)]
    examples = Examples("made", names, [b""] * count, list(answers), list(parts) or blank, list(groups) or blank)
    duplicates = find_duplicates(contents, [0] * count, lambda a, b: False)
    duplicates = type(duplicates)(duplicates.exact, list(near), len(near), copies=True)
    inspections = [Inspection(content=content, shape=(8, 8, 1)) for content in contents]
    return Audit(examples, inspections, list(findings), duplicates, count + len(findings), 0.0)

"""The demo: the main path on embedded data, written out as files in class folders, so that it walks where a user's own data walk."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamina import inside
from lamina.data.examples import Examples
from lamina.data.samples import SAMPLES, load_sample, sample_folder, write_class_folders
from lamina.errors import UsageError, sentence
from lamina.pipeline import train
from lamina.screen import Screen, duration, percent
from lamina.serve import SERVE_EXTRA
from lamina.serve.watched import Page
from lamina.settings import Settings, make_settings

NEW = 12
"""Pictures kept from each act's training, to answer at its end."""
FASHION_PICTURES = 10_000
FASHION_MINUTES = 1.4
MARK = ".lamina-demo"


@dataclass(frozen=True)
class Act:
    title: str
    sample: str
    pictures: int
    """How many of the sample's training pictures; 0 = all."""
    settings: dict[str, Any]


ACTS = (
    Act("Act one: 1,797 real handwritten digits, 8 x 8 pixels", "digits", 0, {}),
    Act("Act two: 10,000 pictures of clothes, 28 x 28 pixels", "fashion-mnist", FASHION_PICTURES, {"minutes": FASHION_MINUTES}),
)


def demo(folder: Path, screen: Screen, **settings: Any) -> list[dict[str, Any]]:
    """Run both acts in `folder`. Returns what each came to. An act whose data are not on this machine is skipped aloud."""
    chosen = make_settings(settings)
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError(
            sentence(
                f"The demo's folder {folder}",
                "be new, empty or an earlier demo's",
                "a folder with other files",
                "Choose another with --folder.",
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    results = []
    page = Page(screen)
    for act in ACTS:
        screen.say()
        screen.title(act.title)
        sample = SAMPLES[act.sample]
        if sample.files and sample_folder(sample, chosen) is None:
            screen.warn(
                f"Skipped: {sample.name} is not on this machine. To have it: lamina samples --fetch {sample.name} "
                "(Debian and Ubuntu: the package dataset-fashion-mnist)."
            )
            continue
        results.append(_play(act, folder, page, chosen, settings))
    page.close()
    screen.say()
    if results and Page.available():
        screen.say(f"Look inside, draw, read the verdict in a browser: lamina serve {' '.join(each['model'] for each in results)}")
    elif results:
        screen.say(f"The page on which all this is seen while it trains: {SERVE_EXTRA}")
    screen.say(f"Your own pictures: lamina train FOLDER, with one folder per class. All that was made here lies in {folder}.")
    return results


def _play(act: Act, folder: Path, page: Page, chosen: Settings, settings: dict[str, Any]) -> dict[str, Any]:
    start, screen = time.monotonic(), page.screen
    place = folder / act.sample
    shutil.rmtree(place, ignore_errors=True)
    known, new = choose(load_sample(act.sample, chosen), act.pictures)
    write_class_folders(known, place / "pictures")
    write_class_folders(new, place / "new")
    screen.say(f"Files       {len(known)} PNG files in class folders: {place / 'pictures'}")
    asked = {**act.settings, **{name: value for name, value in settings.items() if value is not None}}
    model = train(
        place / "pictures",
        out=place / f"{act.sample}.lamina",
        runs=folder / "runs",
        screen=screen,
        watch=page.open if Page.available() else None,
        **asked,
    )
    predictions = model.predict(place / "new")
    screen.say(f"Answers     on {len(new)} pictures that it never saw:")
    right = 0
    for prediction in predictions:
        truth = Path(prediction.file).parent.name
        right += prediction.label == truth
        answer = (
            f"{prediction.label} ({percent(prediction.probability)} %)"
            if prediction.label
            else f"none of these (nearest: {prediction.top[0][0]})"
        )
        screen.say(f"            {Path(prediction.file).name:22} {answer:28} {'right' if prediction.label == truth else 'it is ' + truth}")
    screen.say(f"            {right} of {len(predictions)} right")
    film = inside.film(model, place / f"{act.sample}.webp")
    screen.say(f"Inside      every layer, a unit, a step, random weights beside them: {Path(model.card['run']) / 'report.html'}")
    screen.say(f"Film        {film}: the training from noise to order (it opens in a browser)")
    screen.say(f"Next        lamina predict {place / (act.sample + '.lamina')} FILE")
    screen.say(f"            {act.sample} took {duration(time.monotonic() - start)} in all")
    return {
        "act": act.sample,
        "model": str(place / f"{act.sample}.lamina"),
        "film": str(film),
        "score": model.card["score"],
        "new_right": right,
        "new": len(predictions),
        "seconds": round(time.monotonic() - start, 1),
    }


def choose(examples: Examples, pictures: int) -> tuple[Examples, Examples]:
    """(what the network learns and is tested from, a few that it never sees), drawn with a fixed seed; given parts are set aside."""
    order = np.random.Generator(np.random.Philox(key=5)).permutation(len(examples))
    new, known = order[:NEW], order[NEW : NEW + pictures] if pictures else order[NEW:]

    def unparted(chosen: np.ndarray) -> Examples:
        taken = examples.take(np.sort(chosen))
        return Examples(taken.source, taken.names, taken.raws, taken.answers, [""] * len(taken), taken.groups)

    return unparted(known), unparted(new)

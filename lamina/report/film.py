"""The film of a training: raw numbers, a guess, loss, the error sent back, from noise to order, the verdict; an animated WebP, or MP4."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.data.files import write_bytes
from lamina.errors import ResourceError, UsageError, sentence
from lamina.report.plots import COLORS, by_logarithm, draw_map, drawable, mosaic_pixels, reach

SIZE = (960, 540)
"""Pixels."""
PLAIN, FAINT, GROUND = "#1f2937", "#6b7280", "#ffffff"
ANSWERS = 5
"""Labels shown beside a bar."""
RATE = 4
"""Pictures a second of an MP4; a WebP holds each as long as it is shown."""
SUFFIXES = (".webp", ".mp4")
Scene = tuple[Any, float]
"""(RGB [rows, columns, 3], seconds)."""


def check_film(out: Path) -> None:
    """Raises UsageError for another kind of file, ResourceError without the extra that MP4 needs: before an hour of work, not after it."""
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(sentence("--out", "end in .webp or .mp4", out.name))
    if out.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise ResourceError(sentence("An MP4", "be written with imageio-ffmpeg", "none", "pip install 'lamina[film]'.")) from error


def write_film(found: dict[str, Any], card: dict[str, Any], losses: Sequence[tuple[int, float]], out: Path) -> Path:
    """`found` as layers.json has it, with a replay; `losses` are (step, loss). Raises UsageError where the training left no snapshots."""
    check_film(out)
    if not found.get("replay"):
        raise UsageError(sentence("The training", "have left snapshots for a film", "none", "Only networks trained here have them."))
    scenes = film_scenes(found, card, losses)
    if out.suffix.lower() == ".mp4":
        _write_mp4(scenes, out)
        return out
    from PIL import Image

    pictures = [Image.fromarray(pixels) for pixels, _ in scenes]
    stream = io.BytesIO()
    durations = [round(1000 * seconds) for _, seconds in scenes]
    pictures[0].save(stream, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=70, method=3)
    write_bytes(out, stream.getvalue())
    return out


def _write_mp4(scenes: Sequence[Scene], out: Path) -> None:
    import imageio_ffmpeg

    beside = out.with_name(f".{out.stem}.part.mp4")
    writer = imageio_ffmpeg.write_frames(str(beside), SIZE, fps=RATE, macro_block_size=4, output_params=["-loglevel", "error"])
    writer.send(None)
    for pixels, seconds in scenes:
        for _ in range(max(1, round(seconds * RATE))):
            writer.send(np.ascontiguousarray(pixels))
    writer.close()
    write_bytes(out, beside.read_bytes())
    beside.unlink()


def film_scenes(found: dict[str, Any], card: dict[str, Any], losses: Sequence[tuple[int, float]]) -> list[Scene]:
    found, card = drawable(found), drawable(card)
    replay, labels = found["replay"], found["maps"]["labels"]
    frames, classes = replay["frames"], card["classes"]
    made = [_scene("Deep learning, watched", lambda figure: _words(figure, _opening(card, classes)), 5)]
    made.append(_scene("What goes in: numbers, and nothing else", lambda figure: _raw(figure, found), 7))
    if frames[0]["answer"]:
        said = "Before training: a guess. Nobody has told it what to look for"
        made.append(_scene(said, lambda figure: _guess(figure, replay, labels, frames[0]), 6))
    if found["step"] and all(each["probability"] is not None for each in found["step"]["mistakes"]):
        made.append(_scene("The loss says how wrong: the bigger the mistake, the bigger the loss", lambda figure: _loss(figure, found), 6))
    if found["step"]:
        said = "The error is sent back, layer by layer (backpropagation), and each weight moves a little"
        made.append(_scene(said, lambda figure: _sent_back(figure, found["step"]), 6))
    far = reach([frame["places"] for frame in frames])
    for number, frame in enumerate(frames):
        first, last = number == 0, number == len(frames) - 1
        moment = "before the first step" if first else "after the last step" if last else f"after step {frame['step']:,}"
        said = f"The loop again and again: from noise to order, {moment}"

        def draw(figure: Any, frame: dict[str, Any] = frame) -> None:
            _moment(figure, found, frame, losses, far)

        made.append(_scene(said, draw, 3.5 if first or last else 2.5))
    if replay["grew"] and replay["faded"]:
        made.append(_scene("The connections that grew, and that faded most", lambda figure: _connections(figure, replay), 5))
    if frames[-1]["answer"]:
        said = "The same example again, after training"
        made.append(_scene(said, lambda figure: _guess(figure, replay, labels, frames[-1]), 5))
    made.append(_scene("Was deep learning worth it?", lambda figure: _verdict(figure, card), 8))
    return made


def _scene(caption: str, draw: Callable[[Any], None], seconds: float) -> Scene:
    """One picture with a caption below it."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor=GROUND)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context({"text.parse_math": False}):  # names of classes are no formulas
        draw(figure)
    figure.text(0.5, 0.07, "\n".join(textwrap.wrap(caption, 72)), ha="center", va="center", fontsize=16, color=PLAIN)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]), seconds


def _axes(figure: Any, left: float, bottom: float, wide: float, high: float, title: str = "", bare: bool = False) -> Any:
    axes = figure.add_axes((left, bottom, wide, high))
    axes.set_title(title, fontsize=12, color=FAINT)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=10)
    if bare:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        axes.spines[["top", "right"]].set_visible(False)
    return axes


def _opening(card: dict[str, Any], classes: Sequence[str]) -> str:
    named = ", ".join(classes[:10]) + (" …" if len(classes) > 10 else "")
    counts = card["examples"]
    return (
        f"{counts.get('train') or counts.get('test'):,} examples of {len(classes)} classes:\n{named}\n\nNo feature is thought of by people."
    )


def _words(figure: Any, words: str) -> None:
    lines = [line for part in words.split("\n") for line in (textwrap.wrap(part, 62) or [""])]
    figure.text(0.5, 0.56, "\n".join(lines), ha="center", va="center", fontsize=19, color=PLAIN, linespacing=1.5)


def _raw(figure: Any, found: dict[str, Any]) -> None:
    example = found["replay"].get("shown") or {}
    picture = _decoded(example.get("picture", ""))
    left = 0.32
    if picture is not None:
        axes = _axes(figure, 0.05, 0.2, 0.36, 0.68, "what a person sees", bare=True)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        left = 0.5
    rows = example.get("raw") or found["raw"]
    shape = " x ".join(map(str, found["input"]))
    axes = _axes(figure, left, 0.2, 0.44, 0.68, f"what the network gets: {shape} numbers, some of them", bare=True)
    axes.set_xlim(-0.5, 7.5)
    axes.set_ylim(7.5, -0.5)
    for down, row in enumerate(rows):
        for right, value in enumerate(row):
            axes.text(right, down, "?" if value is None else f"{value:g}", ha="center", va="center", fontsize=11, color=PLAIN)


def _guess(figure: Any, replay: dict[str, Any], labels: Sequence[str], frame: dict[str, Any]) -> None:
    example = replay.get("shown") or {}
    picture = _decoded(example.get("picture", ""))
    if picture is not None:
        axes = _axes(figure, 0.06, 0.2, 0.34, 0.66, f"it is: {example['truth']}", bare=True)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    _bars(_axes(figure, 0.58, 0.2, 0.36, 0.66, "its answer, in %"), frame["answer"], labels, example.get("truth", ""))


def _bars(axes: Any, shares: Sequence[float], labels: Sequence[str], truth: str, most: int = 10) -> None:
    order = sorted(np.argsort(shares)[::-1][:most].tolist())
    if truth in labels and labels.index(truth) not in order:
        order[-1] = labels.index(truth)
    colors = [COLORS["classical"] if labels[at] == truth else COLORS["deep"] for at in order]
    axes.barh(range(len(order)), [100 * shares[at] for at in order], color=colors)
    axes.set_yticks(range(len(order)), [textwrap.shorten(labels[at], 18, placeholder="…") for at in order])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)


def _loss(figure: Any, found: dict[str, Any]) -> None:
    mistakes = found["step"]["mistakes"]
    axes = _axes(figure, 0.1, 0.24, 0.52, 0.64)
    across = np.geomspace(0.003, 1, 200)
    axes.plot(100 * across, -np.log(across), color=FAINT)
    for each in mistakes:
        value = max(0.003, each["probability"])
        axes.plot([100 * value], [-np.log(value)], "o", color=COLORS["classical"], markersize=9)
    axes.set_xlabel("probability that it gave to the right answer, in %", color=FAINT, fontsize=11)
    axes.set_ylabel("loss", color=FAINT, fontsize=11)
    for place, (each, word) in enumerate(zip(mistakes, ("least", "middling", "largest"), strict=False)):
        picture = _decoded(each["picture"])
        if picture is not None:
            inset = _axes(figure, 0.7, 0.66 - 0.24 * place, 0.12, 0.2, bare=True)
            inset.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        figure.text(
            0.84, 0.76 - 0.24 * place, f"{word} loss\n{-np.log(max(1e-6, each['probability'])):.3f}", va="center", fontsize=12, color=PLAIN
        )


def _sent_back(figure: Any, step: dict[str, Any]) -> None:
    layers = [each for each in step["layers"] if each["gradient"] > 0]
    axes = _axes(figure, 0.24, 0.24, 0.66, 0.6, "length of the gradient of each layer's weights, in one step")
    axes.barh(range(len(layers)), [each["gradient"] for each in layers], color=COLORS["deep"])
    axes.set_yticks(range(len(layers)), [each["name"] for each in layers])
    told = f"loss on {step['examples']} examples: {step['loss']:.4f} before the step, {step['after']:.4f} after it"
    figure.text(0.57, 0.14, told, ha="center", fontsize=13, color=FAINT)


def _moment(figure: Any, found: dict[str, Any], frame: dict[str, Any], losses: Sequence[tuple[int, float]], far: float) -> None:
    """Filters, map, loss and answer at one moment."""
    replay, labels = found["replay"], found["maps"]["labels"]
    if frame["filters"]:
        axes = _axes(figure, 0.03, 0.22, 0.3, 0.62, f"filters of {replay['layer']}", bare=True)
        axes.imshow(mosaic_pixels(frame["filters"]), interpolation="nearest")
        axes.axis("off")
    if frame["places"]:
        score = f"\na straight line reads {100 * frame['score']:.0f} %"
        axes = _axes(figure, 0.36, 0.22, 0.31, 0.62, f"classes coming apart{score}", bare=True)
        draw_map(axes, frame["places"], found["maps"]["truths"], far, 9)
    if losses:
        axes = _axes(figure, 0.75, 0.6, 0.22, 0.26, "loss")
        axes.plot([step for step, _ in losses], [loss for _, loss in losses], color="#d1d5db")
        done = [each for each in losses if each[0] <= max(frame["step"], losses[0][0])]
        axes.plot([step for step, _ in done], [loss for _, loss in done], color=COLORS["deep"])
        axes.plot([done[-1][0]], [done[-1][1]], "o", color=COLORS["deep"])
        axes.set_xticks([])
    if frame["answer"]:
        truth = (replay.get("shown") or {}).get("truth", "")
        _bars(_axes(figure, 0.79, 0.2, 0.18, 0.28, f"answer ({truth})"), frame["answer"], labels, truth, ANSWERS)


def _connections(figure: Any, replay: dict[str, Any]) -> None:
    steps = [frame["step"] for frame in replay["frames"]]
    axes = _axes(figure, 0.1, 0.24, 0.62, 0.62, "share of the layer's strength")
    for changes, color, label in ((replay["grew"], COLORS["classical"], "grew"), (replay["faded"], COLORS["deep"], "faded")):
        for place, each in enumerate(changes):
            axes.plot(steps, each["strengths"], color=color, linewidth=1.2, label=label if place == 0 else None)
    by_logarithm(axes, steps[-1])
    axes.set_xlabel("step", color=FAINT)
    axes.legend(frameon=False, fontsize=11)
    lines = [*(f"+ {each['name']}" for each in replay["grew"][:4]), *(f"− {each['name']}" for each in replay["faded"][:4])]
    figure.text(0.74, 0.56, "\n\n".join("\n".join(textwrap.wrap(line, 30)) for line in lines), va="center", fontsize=9.5, color=PLAIN)


def _verdict(figure: Any, card: dict[str, Any]) -> None:
    verdict, score = card.get("verdict"), card["score"]
    if not verdict:
        told = f"{score['name'].capitalize()} {100 * score['value']:.1f} % on {score['n']:,} examples that it never saw."
        _words(figure, told + "\n\nNo verdict was asked for.")
        return
    ways = verdict["contenders"]
    axes = _axes(figure, 0.2, 0.56, 0.7, 0.34)
    for place, each in enumerate(reversed(ways)):
        value, low, high = (100 * each["score"][name] for name in ("value", "low", "high"))
        color = COLORS.get(each["kind"], FAINT)
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color, capsize=4, markersize=8)
    axes.set_yticks(range(len(ways)), [each["kind"] for each in reversed(ways)])
    axes.set_ylim(-0.6, len(ways) - 0.4)
    axes.set_xlabel("accuracy in %, 95 % interval", color=FAINT, fontsize=11)
    lines = "\n".join(textwrap.wrap(verdict["sentence"], 88))
    figure.text(0.5, 0.28, lines, ha="center", va="center", fontsize=13, color=PLAIN, linespacing=1.5)


def _decoded(address: str) -> Any:
    """The pixels of a data: address; None where there is none."""
    from PIL import Image

    if not address.startswith("data:image/"):
        return None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))))

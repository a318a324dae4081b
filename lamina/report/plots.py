"""Plots as SVG text that stands inside the page, in colors that read on white and on black; ink is the page's."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

INK = "#808080"
COLORS = {"deep": "#3b82f6", "classical": "#d97706", "borrowed": "#10b981", "trivial": "#9ca3af"}
WIDE, HIGH = 5.2, 2.8


def score_bars(contenders: Sequence[dict[str, Any]]) -> str:
    """Score of each contender with its 95 % interval."""

    def draw(axes: Any) -> None:
        for place, each in enumerate(reversed(contenders)):
            score = each["score"]
            value, low, high = (100 * score[name] for name in ("value", "low", "high"))
            color = COLORS.get(each["kind"], INK)
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color, capsize=4, markersize=7)
        axes.set_yticks(range(len(contenders)), [each["kind"] for each in reversed(contenders)])
        axes.set_ylim(-0.6, len(contenders) - 0.4)
        axes.set_xlabel("accuracy in %, with 95 % interval")

    words = "; ".join(f"{each['kind']} {100 * each['score']['value']:.1f} %" for each in contenders)
    return _svg(draw, f"Accuracy by contender: {words}", high=1.8)


def against_size(points: Sequence[dict[str, Any]], by: str) -> str:
    """Error of each family against examples or seconds, both axes by logarithm."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    kinds = [kind for kind in COLORS if kind != "trivial" and any(kind in point["scores"] for point in points)]

    def draw(axes: Any) -> None:
        for kind in kinds:
            own = [point for point in points if kind in point["scores"]]
            places = [point["examples"] if by == "examples" else max(point["seconds"][kind], 1e-3) for point in own]
            errors = [max(100 * (1 - point["scores"][kind]), 0.01) for point in own]
            axes.loglog(places, errors, "o", color=COLORS[kind], label=kind, markersize=5)
        axes.set_xlabel("training examples" if by == "examples" else "seconds to train")
        axes.set_ylabel("error in %")
        axes.legend(frameon=False, labelcolor=INK)
        for axis in (axes.xaxis, axes.yaxis):  # 1, 2 and 5 times powers of ten, in plain numbers
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())

    last = points[-1]
    words = ", ".join(f"{kind} {100 * last['scores'][kind]:.1f} %" for kind in kinds if kind in last["scores"])
    return _svg(draw, f"Error against {by}; with {last['examples']} examples: {words}")


def reliability(probabilities: Sequence[float], right: Sequence[bool], bins: int = 10) -> tuple[str, float]:
    """(the plot of how often answers of each probability are right, the expected calibration error)."""
    shares: list[tuple[float, float, int]] = []
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, p in enumerate(probabilities) if low < p <= high or (number == 0 and p == 0)]
        if inside:
            shares.append((sum(probabilities[i] for i in inside) / len(inside), sum(right[i] for i in inside) / len(inside), len(inside)))
    error = sum(count * abs(said - held) for said, held, count in shares) / max(1, len(probabilities))

    def draw(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":")
        largest = max(count for *_, count in shares)
        sizes = [20 + 130 * count / largest for *_, count in shares]
        axes.scatter([100 * said for said, *_ in shares], [100 * held for _, held, _ in shares], s=sizes, color=COLORS["deep"])
        axes.set_xlabel("probability told, in %")
        axes.set_ylabel("right, in %")
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 104)

    return _svg(draw, f"Probability told against share right; mean difference {100 * error:.1f} points"), error


def probes_by_layer(trained: Sequence[dict[str, Any]], control: Sequence[dict[str, Any]]) -> str:
    """How much of the answer a straight line reads after each layer, with 95 % intervals, beside random weights."""

    def draw(axes: Any) -> None:
        places = range(len(trained))
        for probes, color, label in ((trained, COLORS["deep"], "this model"), (control, COLORS["trivial"], "random weights")):
            if not probes:
                continue
            scores = [100 * each["score"] for each in probes]
            reach = [[100 * (each["score"] - each["low"]) for each in probes], [100 * (each["high"] - each["score"]) for each in probes]]
            axes.errorbar(places, scores, yerr=reach, fmt="o-", color=color, label=label, capsize=3, markersize=5)
        axes.set_xticks(places, [each["name"] for each in trained], rotation=30, ha="right")
        axes.set_ylabel("a straight line reads, in %")
        axes.legend(frameon=False, labelcolor=INK)

    ends = f"{100 * trained[-1]['score']:.0f} %" + (f", {100 * control[-1]['score']:.0f} % with random weights" if control else "")
    return _svg(draw, f"What a straight line reads after each layer; at the end {ends}")


def filter_picture(values: Sequence[Any]) -> str:
    """One filter [channels, rows, columns] as a data: address; in color where it has three channels, else of the first one."""
    import numpy as np
    from PIL import Image

    filters = np.asarray(values, np.float32)
    scaled = np.clip(127.5 + 127.5 * filters / max(1e-9, float(np.abs(filters).max())), 0, 255).astype(np.uint8)
    shown = scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled[0]
    stream = io.BytesIO()
    Image.fromarray(shown).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def learning_curves(losses: Sequence[tuple[int, float]], scores: Sequence[tuple[int, float]]) -> str:
    """(step, loss) of training steps and (step, score) on validation."""

    def draw(axes: Any) -> None:
        axes.plot([step for step, _ in losses], [loss for _, loss in losses], color=INK, linewidth=1)
        axes.set_xlabel("step")
        axes.set_ylabel("training loss")
        if scores:
            other = axes.twinx()
            other.plot([step for step, _ in scores], [100 * score for _, score in scores], "o-", color=COLORS["deep"], markersize=4)
            other.set_ylabel("validation accuracy in %", color=COLORS["deep"])
            _plain(other)

    end = f"; validation accuracy ends at {100 * scores[-1][1]:.1f} %" if scores else ""
    return _svg(draw, f"Loss falls from {losses[0][1]:.2f} to {losses[-1][1]:.2f} in {losses[-1][0]} steps{end}")


def _plain(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_color(INK)
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)
    axes.tick_params(colors=INK, which="both")
    axes.xaxis.label.set_color(INK)


def _svg(draw: Callable[[Any], None], words: str, high: float = HIGH) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lamina", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(WIDE, high), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        _plain(axes)
        axes.yaxis.label.set_color(INK)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    body = text[text.index("<svg") :].replace(INK, "currentColor")  # the page's own, light or dark
    return body.replace("<svg ", f'<svg role="img" aria-label="{escape(words, quote=True)}" class="plot" ', 1)

"""Plots as SVG text that stands inside the page, in colors that read on white and on black; ink is the page's."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

INK = "#808080"
COLORS = {"deep": "#3b82f6", "classical": "#d97706", "borrowed": "#10b981", "trivial": "#9ca3af"}
WIDE, HIGH = 5.2, 2.8
MOST_POINTS = 2_000
RC: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "lamina", "font.family": "sans-serif", "font.size": 10,
    "text.parse_math": False,  # names of classes are no formulas
}  # fmt: skip
PALETTE = ("#3b82f6", "#d97706", "#10b981", "#dc2626", "#8b5cf6", "#a16207", "#ec4899", "#6b7280", "#84cc16", "#06b6d4")
"""For classes, again from the start beyond ten."""


def score_bars(contenders: Sequence[dict[str, Any]]) -> str:
    """Score of each contender with its 95 % interval."""
    times = 100 if contenders[0]["score"].get("unit", "%") else 1

    def draw(axes: Any) -> None:
        for place, each in enumerate(reversed(contenders)):
            score = each["score"]
            value, low, high = (times * score[name] for name in ("value", "low", "high"))
            color = COLORS.get(each["kind"], INK)
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color, capsize=4, markersize=7)
        axes.set_yticks(range(len(contenders)), [each["kind"] for each in reversed(contenders)])
        axes.set_ylim(-0.6, len(contenders) - 0.4)
        axes.set_xlabel(f"{contenders[0]['score']['name']}{' in %' if times > 1 else ''}, with 95 % interval")

    words = "; ".join(f"{each['kind']} {times * each['score']['value']:.4g}{' %' if times > 1 else ''}" for each in contenders)
    return _svg(draw, f"{contenders[0]['score']['name'].capitalize()} by contender: {words}", high=1.8)


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


def against_truth(wanted: Sequence[float], values: Sequence[float], unit: str) -> str:
    """A point for each example, some thousand at most: what is true across, what was told upwards."""
    every = max(1, len(wanted) // MOST_POINTS)
    across, up = list(wanted)[::every], list(values)[::every]

    def draw(axes: Any) -> None:
        low, high = min(across), max(across)
        axes.plot([low, high], [low, high], color=INK, linewidth=1)
        axes.plot(across, up, ".", color=COLORS["deep"], markersize=3, alpha=0.5)
        axes.set_xlabel(f"true{', ' + unit if unit else ''}")
        axes.set_ylabel("told")

    return _svg(draw, f"What was told against what is true, for {len(across)} test examples", high=3.4)


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


def error_tradeoff(rates: Sequence[float], rejects: dict[str, Sequence[float]]) -> str:
    """False rejects against false accepts of each way (Martin et al. 1997, 'The DET curve in assessment of detection task performance')."""
    from scipy.stats import norm

    least = 10**-4.5
    ticks = [value for value in (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8) if value >= min(rates) * 0.9]

    def place(values: Sequence[float]) -> Any:
        return norm.ppf([min(max(value, least), 1 - least) for value in values])

    def draw(axes: Any) -> None:
        for way, own in rejects.items():
            axes.plot(place(rates), place(own), color=COLORS.get(way, INK), label=way)
        axes.plot(place([min(ticks), 0.5]), place([min(ticks), 0.5]), color=INK, linewidth=1, linestyle=":")
        axes.set_xticks(place(ticks), [f"{100 * value:g}" for value in ticks])
        high = [value for value in (0.001, 0.01, 0.05, 0.2, 0.5, 0.8) if value <= max(max(own) for own in rejects.values())]
        axes.set_yticks(place(high), [f"{100 * value:g}" for value in high])
        axes.set_xlim(*place([min(ticks), 0.6]))
        axes.set_xlabel("strangers let in, in % (false accepts)")
        axes.set_ylabel("right ones turned away, in %")
        axes.legend(frameon=False, labelcolor=INK)

    def at_one_percent(own: Sequence[float]) -> str:
        return f"{100 * own[min(range(len(rates)), key=lambda at: abs(rates[at] - 0.01))]:.1f} %"

    words = "; ".join(f"{way} turns {at_one_percent(own)} away where 1 % of strangers are let in" for way, own in rejects.items())
    return _svg(draw, f"Detection error tradeoff: {words}", high=3.4)


def alike_plot(edges: Sequence[float], same: Sequence[int], other: Sequence[int]) -> str:
    """How alike pairs of one person and of strangers are."""
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]

    def draw(axes: Any) -> None:
        for counts, color, label in ((other, COLORS["classical"], "strangers"), (same, COLORS["deep"], "one person")):
            shares = [100 * count / max(1, sum(counts)) for count in counts]
            axes.fill_between(middles, shares, color=color, alpha=0.45, label=label, step="mid")
        axes.set_xlabel("cosine of two embeddings")
        axes.set_ylabel("pairs, in %")
        axes.legend(frameon=False, labelcolor=INK)

    return _svg(draw, "How alike two examples are: strangers and pairs of one person")


def probes_by_layer(trained: Sequence[dict[str, Any]], control: Sequence[dict[str, Any]], kind: str = "") -> str:
    """How much of the answer a straight line reads after each layer (kind "people": how well it tells them apart; "letters"), with 95 %
    intervals, beside random weights."""

    def draw(axes: Any) -> None:
        places = range(len(trained))
        for probes, color, label in ((trained, COLORS["deep"], "this model"), (control, COLORS["trivial"], "random weights")):
            if not probes:
                continue
            scores = [100 * each["score"] for each in probes]
            reach = [[100 * (each["score"] - each["low"]) for each in probes], [100 * (each["high"] - each["score"]) for each in probes]]
            axes.errorbar(places, scores, yerr=reach, fmt="o-", color=color, label=label, capsize=3, markersize=5)
        axes.set_xticks(places, [each["name"] for each in trained], rotation=30, ha="right")
        labels = {"people": "people told apart, 100 - EER in %", "letters": "letters read, in %"}
        axes.set_ylabel(labels.get(kind, "a straight line reads, in %"))
        axes.legend(frameon=False, labelcolor=INK)

    ends = f"{100 * trained[-1]['score']:.0f} %" + (f", {100 * control[-1]['score']:.0f} % with random weights" if control else "")
    return _svg(draw, f"What a straight line reads after each layer; at the end {ends}")


def filter_pixels(values: Any) -> Any:
    """One filter [channels, rows, columns] as uint8 [rows, columns, 3]; gray is 0; colored where there are three channels."""
    import numpy as np

    filters = np.asarray(values, np.float32)
    scaled = np.clip(127.5 + 127.5 * filters / max(1e-9, float(np.abs(filters).max())), 0, 255).astype(np.uint8)
    return np.ascontiguousarray((scaled if len(scaled) == 3 else scaled[[0, 0, 0]]).transpose(1, 2, 0))


def filter_picture(values: Any) -> str:
    """One filter as a data: address."""
    return _address(filter_pixels(values))


def mosaic_pixels(filters: Sequence[Any], wide: int = 4) -> Any:
    """Filters side by side with a line between them, uint8 [rows, columns, 3]."""
    import numpy as np

    tiles = [np.pad(filter_pixels(each), ((0, 1), (0, 1), (0, 0)), constant_values=255) for each in filters]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % wide)
    return np.concatenate([np.concatenate(tiles[at : at + wide], 1) for at in range(0, len(tiles), wide)], 0)


def mosaic(filters: Sequence[Any]) -> str:
    return _address(mosaic_pixels(filters))


def heat_pixels(values: Any) -> Any:
    """[rows, columns] as uint8 [rows, columns, 3]: orange moved the answer up, blue down, white not at all."""
    import numpy as np

    heat = np.asarray(values, np.float32)
    heat = np.clip(heat / max(1e-12, float(np.quantile(np.abs(heat), 0.99))), -1, 1)[..., None]
    up, down = np.array([217, 119, 6], np.float32), np.array([59, 130, 246], np.float32)
    return np.where(heat > 0, 255 + heat * (up - 255), 255 - heat * (down - 255)).astype(np.uint8)


def heat(values: Any) -> str:
    return _address(heat_pixels(values))


def _address(pixels: Any) -> str:
    """uint8 [rows, columns, 3] as a data: address."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def class_maps(layers: Sequence[dict[str, Any]], truths: Sequence[int], labels: Sequence[str]) -> str:
    """Flat maps of the same examples after some layers, of this model above and with random weights below."""
    rows = 2 if any(each["random"] for each in layers) else 1
    far = reach([each[name] for each in layers for name in ("trained", "random")])

    def draw(panels: Any) -> None:
        for row, name in enumerate(("trained", "random")[:rows]):
            for column, each in enumerate(layers):
                draw_map(panels[row][column], each[name], truths, far)
                if row == 0:
                    panels[row][column].set_title(each["name"], fontsize=9, color=INK)
            panels[row][0].set_ylabel("this model" if row == 0 else "random weights", color=INK)

    words = f"Maps of {len(truths)} examples of {len(labels)} classes after {', '.join(each['name'] for each in layers)}"
    return _svg_panels(draw, words, rows, len(layers), 1.7)


def reach(maps: Sequence[Sequence[Sequence[float]]]) -> float:
    """Where the border of maps is drawn, so that nearly all examples lie inside."""
    import numpy as np

    values = [abs(value) for places in maps for place in places for value in place]
    return 1.1 * float(np.quantile(values, 0.99)) if values else 1.0


def draw_map(axes: Any, places: Sequence[Sequence[float]], truths: Sequence[int], reach: float, size: float = 6) -> None:
    """One flat map into `axes`."""
    if places:
        across, up = zip(*places, strict=True)
        axes.scatter(across, up, s=size, c=[PALETTE[truth % len(PALETTE)] for truth in truths[: len(places)]], linewidths=0)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def film_maps(frames: Sequence[dict[str, Any]], truths: Sequence[int], points: int = 120) -> str:
    """The map of the last hidden layer at each moment of the training."""
    wide = 6
    rows = -(-len(frames) // wide)
    far = reach([frame["places"] for frame in frames])

    def draw(panels: Any) -> None:
        for place in range(rows * wide):
            axes = panels[place // wide][place % wide]
            if place >= len(frames):
                axes.set_axis_off()
                continue
            frame = frames[place]
            draw_map(axes, frame["places"][:points], truths, far, 4)
            axes.set_title(f"step {frame['step']}: {100 * frame['score']:.0f} %", fontsize=8, color=INK)

    ends = f"{100 * frames[0]['score']:.0f} % at first, {100 * frames[-1]['score']:.0f} % at the end"
    return _svg_panels(draw, f"Maps of examples at {len(frames)} moments of the training; a straight line reads {ends}", rows, wide, 1.25)


def loss_and_mistakes(mistakes: Sequence[dict[str, Any]]) -> str:
    """The loss against the probability given to the right answer, with single examples on it."""

    def draw(axes: Any) -> None:
        import numpy as np

        least = min(0.005, *(max(1e-6, each["probability"]) for each in mistakes))
        across = np.geomspace(least, 1, 200)
        axes.plot(100 * across, -np.log(across), color=INK, linewidth=1)
        for place, (each, word) in enumerate(zip(mistakes, ("least", "middling", "largest"), strict=False)):
            value = max(1e-6, each["probability"])
            axes.plot([100 * value], [-np.log(value)], "o", color=COLORS["classical"])
            axes.annotate(
                word,
                (100 * value, -np.log(value)),
                xytext=(-12, 10 + 13 * place),
                textcoords="offset points",
                ha="right",
                color=INK,
                fontsize=9,
            )
        axes.set_xlabel("probability given to the right answer, in %")
        axes.set_ylabel("loss (cross-entropy)")

    return _svg(draw, "The bigger the mistake, the bigger the loss: minus the logarithm of the probability given to the right answer")


def changes_over_time(grew: Sequence[dict[str, Any]], faded: Sequence[dict[str, Any]], steps: Sequence[int]) -> str:
    """The connections that grew and that faded most, over the moments of the training."""

    def draw(axes: Any) -> None:
        for changes, color, label in ((grew, COLORS["classical"], "grew most"), (faded, COLORS["deep"], "faded most")):
            for place, each in enumerate(changes):
                axes.plot(steps, each["strengths"], color=color, linewidth=1, label=label if place == 0 else None)
        by_logarithm(axes, steps[-1])
        axes.set_xlabel("step")
        axes.set_ylabel("share of the layer's strength")
        axes.legend(frameon=False, labelcolor=INK)

    return _svg(draw, f"Strength of the {len(grew)} connections that grew and the {len(faded)} that faded most")


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
    """One pair of axes."""

    def alone(panels: Any) -> None:
        draw(panels[0][0])
        _plain(panels[0][0])
        panels[0][0].yaxis.label.set_color(INK)

    return _svg_panels(alone, words, 1, 1, high, WIDE)


def _svg_panels(draw: Callable[[Any], None], words: str, rows: int, columns: int, high: float, wide: float = 0.0) -> str:
    """rows x columns axes, each `high` (and `wide`, or else as wide) inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(columns * (wide or high), rows * high), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        draw(panels)
        if rows * columns > 1:
            for axes in panels.flat:
                for spine in axes.spines.values():
                    spine.set_color(INK)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    found = stream.getvalue()
    body = found[found.index("<svg") :].replace(INK, "currentColor")  # the page's own, light or dark
    return body.replace("<svg ", f'<svg role="img" aria-label="{escape(words, quote=True)}" class="plot" ', 1)


def drawable(value: Any) -> Any:
    """The same with all its strings such that fonts can draw them: names of files need not be UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {drawable(name): drawable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [drawable(each) for each in value] if value and not isinstance(value[0], (int, float)) else list(value)
    return value


def by_logarithm(axes: Any, last: int) -> None:
    """Steps from 0 on, the early ones spread out, in plain numbers."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("symlog", linthresh=max(1, last / 200))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def experiment_bars(variants: Sequence[dict[str, Any]], title: str) -> str:
    """Score of each variant with its 95 % interval, the seeds as dots."""

    def draw(axes: Any) -> None:
        for place, each in enumerate(reversed(variants)):
            value, low, high = (100 * each[name] for name in ("mean", "low", "high"))
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=COLORS["deep"], capsize=4, markersize=6)
            axes.plot([100 * score for score in each["scores"]], [place] * len(each["scores"]), "|", color=INK, markersize=9)
        axes.set_yticks(range(len(variants)), [each["name"] for each in reversed(variants)])
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.set_xlabel("accuracy in %, 95 % interval; strokes: seeds")
        axes.set_title(title, fontsize=10, color=INK)

    words = "; ".join(f"{each['name']} {100 * each['mean']:.1f} %" for each in variants)
    return _svg(draw, f"{title}: {words}", high=0.9 + 0.28 * len(variants))


def boundaries(plane: dict[str, Any]) -> str:
    """Where networks change their preference between two classes, on a flat cut through the space of inputs."""
    import numpy as np

    plane = drawable(plane)
    names = list(plane["prefers"])

    def draw(panels: Any) -> None:
        across, up = plane["reach"]
        points, second = np.array(plane["points"]), np.array(plane["second"], bool)
        for axes, name in zip(panels[0], names, strict=True):
            values = np.array(plane["prefers"][name])
            grid = [np.linspace(-reach, reach, len(values)) for reach in (across, up)]
            for chosen, color, label in ((~second, PALETTE[0], plane["labels"][0]), (second, PALETTE[1], plane["labels"][1])):
                axes.scatter(*points[chosen].T, s=5, color=color, linewidths=0, label=" " + label)
            axes.contour(*grid, values, levels=[0], colors=[INK])
            axes.set_xlim(-across, across)
            axes.set_ylim(-up, up)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title("no activation function" if name == "none" else name, fontsize=10, color=INK)
        panels[0][0].legend(frameon=False, labelcolor=INK, fontsize=8)

    words = f"The line between {' and '.join(plane['labels'])}: straight without activation functions, bent with {names[-1]}"
    return _svg_panels(draw, words, 1, len(names), 2.6)

"""Write docs/understand.md and its notebook from real trainings (`make docs`); with --measure the figures are made anew, those of
faces and voices with --measure people, those of speech with --measure speech.

What was measured stands in understand.json; the page and the notebook are made from it alone, and a test compares them.
"""

import base64
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FACTS, PAGE, NOTEBOOK, FIGURES = (HERE / name for name in ("understand.json", "understand.md", "understand.ipynb", "figures"))
PICTURES, EPOCHS = 10_000, 8
EXPERIMENTS = {"activations": {"epochs": 5}, "depth": {"epochs": 2}, "prune": {"epochs": 3}, "shuffle": {"epochs": 4}}
CURVE_MINUTES = 5
INK = "#6b7280"
SHOWN_UNITS = 1
"""Of each layer."""


# ---------------------------------------------------------------- measuring


def measure() -> dict[str, Any]:
    """Train on clothes as files, open everything, make the figures. About a quarter of an hour on two cores."""
    import lamina
    from lamina import inside
    from lamina.data.samples import load_sample, write_class_folders
    from lamina.demo import choose
    from lamina.experiments import experiment
    from lamina.report.plots import against_size, class_maps, film_maps, learning_curves, loss_and_mistakes, probes_by_layer, score_bars
    from lamina.screen import Screen
    from lamina.settings import Settings
    from lamina.studies import learning_curve
    from lamina.training.events import read_events

    FIGURES.mkdir(exist_ok=True)
    begun = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            known, new = choose(load_sample("fashion-mnist", Settings()), PICTURES)
            write_class_folders(known, Path("clothes"))
            write_class_folders(new, Path("new"))
            model = lamina.train("clothes", epochs=EPOCHS, screen=Screen())
            found = inside.layers(model)
            run = Path(model.card["run"])
            events = [event for event in read_events(run / "events.jsonl") if event.get("leg") == "final"]
            inside.film(model, FIGURES / "film.webp")
            _unit_strips(found)
            for place_in, frame in ((0, "first"), (-1, "last")):
                _filters(found["replay"]["frames"][place_in]["filters"], FIGURES / f"filters-{frame}.png")
            _picture(found["replay"]["shown"]["picture"], FIGURES / "example.png")
            for each in found["answers"]:
                _answer(each, FIGURES / f"why-{each['what'].replace(' ', '-')}.png")
            losses = [(event.get("step", 0), event["loss"]) for event in events if event["event"] in ("before", "stepped")]
            scores = [(event["step"], event["score"]) for event in events if event["event"] == "checked"]
            _figure("loss-and-mistakes", loss_and_mistakes(found["step"]["mistakes"]))
            _figure("training", learning_curves(losses, scores))
            _figure("probes", probes_by_layer(found["probes"], found["control"]))
            _figure("maps", class_maps(found["maps"]["layers"], found["maps"]["truths"], found["maps"]["labels"]))
            _figure("replay", film_maps(found["replay"]["frames"], found["maps"]["truths"]))
            _figure("contenders", score_bars(model.card["verdict"]["contenders"]))
            told = {}
            for kind, settings in EXPERIMENTS.items():
                result = experiment("clothes", kind, screen=Screen(), **settings)
                for number, chart in enumerate(result["charts"]):
                    _figure(f"{kind}{number + 1 if number else ''}", chart)
                told[kind] = {name: value for name, value in result.items() if name != "charts"}
            curve = learning_curve(model, CURVE_MINUTES, screen=Screen())
            _figure("examples", against_size(curve["points"], "examples"))
        finally:
            os.chdir(begun)
    shown = found["replay"]["shown"]
    frames = found["replay"]["frames"]
    kept = ("name", "kind", "shape", "parameters", "receptive", "share", "trained")
    whole = json.loads((HERE.parent / "benchmarks" / "results" / "fashion-verdict.json").read_text())
    return {
        "whole": {"command": whole["command"].split(";")[0], "sentence": whole["verdict"]["sentences"][0]},
        "versions": model.card["versions"], "examples": model.card["examples"], "classes": model.card["classes"],
        "score": model.card["score"], "verdict": model.card["verdict"]["sentence"], "contenders": _contenders(model.card),
        "doctor": model.card["doctor"], "shown": {"name": Path(shown["name"]).name, "truth": shown["truth"], "raw": shown["raw"]},
        "labels": found["maps"]["labels"], "answer_before": frames[0]["answer"], "answer_after": frames[-1]["answer"],
        "layers": [{name: each[name] for name in kept} for each in found["layers"]], "probes": found["probes"],
        "control": found["control"], "gain": found["gain"], "probed": found["probed"],
        "unit": {name: value for name, value in found["unit"].items() if name not in ("picture", "name")},
        "units": [{name: each[name] for name in ("layer", "number", "label", "share")} for each in _first_of_each(found["units"])],
        "step": {name: value for name, value in found["step"].items() if name != "mistakes"},
        "mistakes": [{name: each[name] for name in ("loss", "probability")} for each in found["step"]["mistakes"]],
        "losses": [losses[0], losses[-1]], "checks": scores,
        "moments": [{name: each[name] for name in ("step", "score", "low", "high")} for each in frames],
        "grew": found["replay"]["grew"][0], "faded": found["replay"]["faded"][0],
        "why": [{name: each[name] for name in ("what", "label", "truth", "likeness", "tells")} for each in found["answers"]],
        "experiments": told, "curve": {name: curve[name] for name in ("points", "advice", "doubt")},
    }  # fmt: skip


def measure_people() -> dict[str, Any]:
    """Train on faces and on voices from beside the checkout, and open what was trained. About half an hour. No picture of anybody is kept."""
    import csv

    import lamina
    from benchmarks.common import DATA
    from benchmarks.people import _joined_voices, _manifest, _people, _table, _unpacked  # the same protocol as the published figures
    from lamina import inside
    from lamina.report.plots import error_tradeoff, probes_by_layer
    from lamina.screen import Screen

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        faces = _unpacked(DATA / "lfw" / "images.zip", Path(folder) / "faces")
        voices = _unpacked(DATA / "an4" / "audio.zip", Path(folder) / "voices")
        fold_of = _joined_voices(_manifest("an4"), voices)
        spoken = [(str(file), file.parent.name) for file in sorted((voices / "joined").rglob("*.flac"))]
        tables = {
            "faces": _table(faces, [(file, name, part) for part in ("train", "test") for file, name in _people(part)]),
            "voices": _table(voices, [(file, name, "test" if fold_of[name] == 0 else "train") for file, name in spoken]),
        }
        for name, table in tables.items():
            budget = {"minutes": 10} if name == "faces" else {}
            paths = {"out": Path(folder) / f"{name}.lamina", "runs": Path(folder) / "runs"}
            model = lamina.train(table, task="verify", screen=Screen(), **budget, **paths)
            opened = inside.layers(model)
            told = json.loads((Path(model.card["run"]) / "report.json").read_text())
            _figure(f"probes-{name}", probes_by_layer(opened["probes"], opened["control"], "people"))
            _figure(f"det-{name}", error_tradeoff(told["rates"], told["rejects"]))
            if drawn := bool(opened["seen"]) and name == "faces":  # of sounds they are too narrow to show anything
                _filters(opened["seen"]["values"], FIGURES / f"filters-{name}.png")
            kept = ("name", "kind", "shape", "parameters", "receptive")
            with open(table, encoding="utf-8") as file:
                people = len({row["label"] for row in csv.DictReader(file) if row["split"] == "train"})
            found[name] = {
                "learned": people, "examples": model.card["examples"], "score": model.card["score"], "verdict": model.card["verdict"]["sentence"],
                "remarks": model.card["facts"]["remarks"], "people": told["people"], "probes": opened["probes"], "control": opened["control"],
                "layers": [{key: each[key] for key in kept} for each in opened["layers"]], "filters": drawn,
                "openings": [each for each in told["openings"] if each["rate"] <= 0.0101][:1],
            }  # fmt: skip
    return found


def measure_speech() -> dict[str, Any]:
    """Train on AN4 from beside the checkout (some minutes more than its ten), and read letters after each layer. No recording is kept."""
    import lamina
    from benchmarks.speech import _an4  # the same table as the published figures
    from lamina import inside
    from lamina.report.plots import probes_by_layer
    from lamina.screen import Screen

    with tempfile.TemporaryDirectory() as folder:
        table, rows = _an4(Path(folder))
        paths = {"out": Path(folder) / "an4.lamina", "runs": Path(folder) / "runs"}
        model = lamina.train(table, task="transcribe", screen=Screen(), minutes=10, **paths)
        opened = inside.layers(model)
        told = json.loads((Path(model.card["run"]) / "report.json").read_text())
    _figure("probes-speech", probes_by_layer(opened["probes"], opened["control"], "letters"))
    order = sorted(range(len(told["texts"])), key=lambda place: (told["wrong"][place], told["names"][place]))
    kept = ("name", "kind", "shape", "parameters")
    return {
        "examples": model.card["examples"], "seconds": sum(float(row["seconds"]) for row in rows if row["split"] == "train"),
        "score": model.card["score"], "remarks": model.card["facts"]["remarks"], "verdict": model.card["verdict"]["sentence"],
        "probes": opened["probes"], "control": opened["control"], "confused": told["confused"][:6],
        "layers": [{key: each[key] for key in kept} for each in opened["layers"]],
        "heard": [[told["spoken"][place], told["texts"][place]] for place in (order[len(order) // 4], order[len(order) // 2], order[-4])],
    }  # fmt: skip


def _contenders(card: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"kind": each["kind"], "name": each["name"], "score": each["score"]} for each in card["verdict"]["contenders"]]


def _first_of_each(units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, list[dict[str, Any]]] = {}
    for each in units:
        seen.setdefault(each["layer"], []).append(each)
    return [unit for group in seen.values() for unit in group[:SHOWN_UNITS]]


def _figure(name: str, svg: str) -> None:
    """As a file of its own, in a gray that reads on white and on black."""
    start = svg.replace("currentColor", INK).replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)
    (FIGURES / f"{name}.svg").write_text(
        start if "xmlns=" in start else start.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    )


def _pixels(address: str) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))).convert("RGB")


def _enlarged(picture: Any, side: int) -> Any:
    from PIL import Image

    return picture.resize((side, side), Image.Resampling.NEAREST)


def _picture(address: str, path: Path, side: int = 224) -> None:
    _enlarged(_pixels(address), side).save(path, optimize=True)


def _filters(filters: list[Any], path: Path) -> None:
    from PIL import Image

    from lamina.report.plots import mosaic_pixels

    _enlarged(Image.fromarray(mosaic_pixels(filters)), 240).save(path, optimize=True)


def _answer(answer: dict[str, Any], path: Path) -> None:
    """The picture and beside it what moved the answer."""
    from PIL import Image

    from lamina.report.plots import heat_pixels

    both = Image.new("RGB", (340, 168), "white")
    both.paste(_enlarged(_pixels(answer["picture"]), 168), (0, 0))
    both.paste(_enlarged(Image.fromarray(heat_pixels(answer["values"])), 168), (172, 0))
    both.save(path, optimize=True)


def _unit_strips(found: dict[str, Any], side: int = 56) -> None:
    """One strip for each layer: what moves its most telling unit."""
    from PIL import Image

    for each in _first_of_each(found["units"]):
        strip = Image.new("RGB", ((side + 4) * len(each["pictures"]), side), "white")
        for number, address in enumerate(each["pictures"]):
            strip.paste(_enlarged(_pixels(address), side), ((side + 4) * number, 0))
        strip.save(FIGURES / f"unit-{each['layer']}.png", optimize=True)


# ---------------------------------------------------------------- telling


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def variant(facts: dict[str, Any], kind: str, name: str) -> str:
    each = next(each for each in facts["experiments"][kind]["variants"] if each["name"] == name)
    return share(each["mean"]) + (f" ± {100 * each['deviation']:.1f}" if len(each["scores"]) > 1 else "")


def sections(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """(Markdown, command or code that shows it; "" for none) in their order."""
    shown, unit, step = facts["shown"], facts["unit"], facts["step"]
    labels, truth = facts["labels"], facts["labels"].index(facts["shown"]["truth"])
    numbers = "\n".join("    " + " ".join("   ?" if value is None else f"{value:4.0f}" for value in row) for row in shown["raw"])
    probes, control = ({each["name"]: each for each in facts[name]} for name in ("probes", "control"))
    layers = "\n".join(
        f"| {each['name']} | {' x '.join(map(str, each['shape']))} | {each['parameters']:,} | {' x '.join(map(str, each['receptive'][:2]))} | "
        f"{share(probes[each['name']]['score'])} | {share(control[each['name']]['score'])} |"
        for each in facts["layers"]
    )
    strips = "\n".join(
        f"| {each['layer']}:{each['number']} | ![what moves it](figures/unit-{each['layer']}.png) | {each['label']} | {share(each['share'])} |"
        for each in facts["units"]
    )
    connections = "\n".join(
        f"| {each['source']} | {each['signal']:+.3f} | {each['weight']:+.3f} | {each['signal'] * each['weight']:+.3f} |"
        for each in unit["strongest"][:5]
    )
    gradients = "\n".join(
        f"| {each['name']} | {each['mean']:.2f} ± {each['deviation']:.2f} | {100 * each['passed']:.0f} % | {each['gradient']:.3f} | {each['change']:.3f} |"
        for each in step["layers"]
        if each["gradient"] > 0
    )
    moments = facts["moments"]
    gain = [100 * value for value in facts["gain"]]
    whys = "\n".join(
        f"| {each['what']} | ![picture and what moved the answer](figures/why-{each['what'].replace(' ', '-')}.png) | {each['label']} | "
        f"{each['truth']} | {each['likeness']:.2f} | {'depends on what was learned' if each['tells'] else 'tells nothing'} |"
        for each in facts["why"]
    )
    points = facts["curve"]["points"]
    sizes = sorted({point["examples"] for point in points})
    curve = "\n".join(f"| {size:,} | {_mean(points, size, 'deep')} | {_mean(points, size, 'classical')} |" for size in sizes)
    contenders = {each["kind"]: each for each in facts["contenders"]}
    activations, depth = facts["experiments"]["activations"], facts["experiments"]["depth"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return [
        (
            f"""# How deep learning works, on one real picture and one real training

For engineers who have never trained a network. Each claim below is followed by the command that shows it, the figure that it gave, and its picture. All
of it was measured on {facts["examples"]["train"]:,} small photos of clothes ([Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist), MIT) with {versions}; `make docs`
writes this page from `understand.json`, and measures anew when asked to (`python docs/understand.py --measure`). [The same as a notebook](understand.ipynb).

![A training from noise to order](figures/film.webp)

The idea fits into one paragraph. Raw data go in as numbers (the input layer). They pass through layers of simple units, each of which adds up what comes in,
weighted, and bends the sum a little (hidden layers). The last layer says an answer (output layer). A single number says how wrong that was (the loss). From it one can
reckon, for every weight in every layer, in which direction it should move for the loss to fall (backpropagation); it moves a little, and the
loop begins again with the next examples. Nobody tells the layers what to look for. The price is more data and more arithmetic.""",
            "",
        ),
        (
            f"""## 1. What goes in: numbers

![the example](figures/example.png)

This is {shown["name"]}, a {shown["truth"]}. The network has never seen it. It gets {facts["layers"][0]["shape"][1]} x {facts["layers"][0]["shape"][2]} numbers between 0 (black) and 255 (white), and nothing
else. The {len(shown["raw"])} x {len(shown["raw"][0])} in the middle:

{numbers}

Before training its answer is a guess: {share(facts["answer_before"][truth])} for {shown["truth"]}, as for every other of the {len(labels)} classes. After training:
{share(facts["answer_after"][truth])} for {shown["truth"]}.""",
            f"lamina train clothes/ --epochs {EPOCHS}",
        ),
        (
            f"""## 2. One artificial neuron

A unit multiplies each signal that comes in by a weight of its own, adds up the products and a number of its own (bias), and passes the sum on through a
bend (activation function). Unit {unit["number"]} of the layer {unit["layer"]} has {unit["inputs"]} such connections. The strongest of them, for the example that moves it most:

| signal from below | signal | x weight | = |
|---|---|---|---|
{connections}

All together {unit["total"]:+.3f}; after normalization and activation function it passes on {unit["passed_on"]:+.3f}. That is all there is to a unit; everything else is what
many of them do in layers.""",
            f"lamina layers clothes.lamina new.png --unit {unit['layer']}:{unit['number']}",
        ),
        (
            f"""## 3. Layers build on layers

The first layer sees 3 x 3 pixels; each next one sees more, because it looks at what the one below made of them. For one unit of each layer, the training
pictures that move it most, cut to the part that it sees:

| unit | what moves it | most by | of its variance between classes |
|---|---|---|---|
{strips}

Bits of edges, then corners and soles, then whole shoes: nobody asked for that. How much of the answer can be read after each layer by the simplest reader
there is, a straight line (a linear probe)? And how much in the same network with random weights, which has learned nothing?

| layer | puts out | weights | sees | a line reads | with random weights |
|---|---|---|---|---|---|
{layers}

After the last hidden layer the line reads {gain[0]:+.0f} points more than with random weights ({gain[1]:+.0f} to {gain[2]:+.0f}, 95 % interval; {facts["probed"]["tested"]:,} pictures that the network
never learned from).

![probes by layer](figures/probes.svg)

The same as a map: every dot is a picture, its color the class. Above what training made, below random weights.

![maps of classes](figures/maps.svg)""",
            "lamina layers clothes.lamina",
        ),
        (
            f"""Are more layers better? For about as many multiplications: one layer {variant(facts, "depth", "1 layer")}, two {variant(facts, "depth", "2 layers")}, four {variant(facts, "depth", "4 layers")},
eight {variant(facts, "depth", "8 layers")} (accuracy on new pictures, mean ± deviation over {len(depth["seeds"])} seeds). {"Up to a point they are: each layer is also more to learn." if depth["deeper_that_are_clearly_better"] else "Here that is not shown."}

![depth](figures/depth.svg)""",
            f"lamina experiment clothes/ depth --epochs {EXPERIMENTS['depth']['epochs']}",
        ),
        (
            f"""## 4. Without a bend there is no depth

Weighted sums of weighted sums are weighted sums: without activation functions three layers are one straight line, however long they are trained. It is
easy to check. Without: {variant(facts, "activations", "none")}, no better than a linear model with {variant(facts, "activations", "linear model")}. With {activations["full"]}: {variant(facts, "activations", activations["full"])}.

![activation functions](figures/activations.svg)

On a flat cut through the space of pictures, the border between the two classes that are mixed up most: straight without, bent with activation functions.

![straight and bent](figures/activations2.svg)""",
            f"lamina experiment clothes/ activations --epochs {EXPERIMENTS['activations']['epochs']}",
        ),
        (
            f"""## 5. How wrong was that? The loss

The loss is minus the logarithm of the probability that the network gave to the right answer (cross-entropy): nothing for a sure right answer, a lot for a
sure wrong one. The bigger the mistake, the bigger the loss. Three pictures of one batch: the smallest mistake gave {share(facts["mistakes"][0]["probability"])} to the right answer, the middling
one {share(facts["mistakes"][1]["probability"])}, the worst {share(facts["mistakes"][2]["probability"])}.

![loss and mistakes](figures/loss-and-mistakes.svg)""",
            "lamina step clothes.lamina",
        ),
        (
            f"""## 6. One turn of the loop

{step["examples"]} pictures go forward; the loss is {step["loss"]:.4f}. The error goes back, layer by layer, and says for every weight how the loss would change if it moved
(its gradient). Each moves a little. The same pictures again: {step["after"]:.4f}. ({step["perfect"]:.3f} would be perfect here, as training wants no answer to be quite sure; {step["clueless"]:.3f}
is a guess.)

| layer | signals | above 0 | gradient | change of the weights |
|---|---|---|---|---|
{gradients}""",
            "lamina step clothes.lamina",
        ),
        (
            f"""## 7. The loop lowers the loss

From {facts["losses"][0][1]:.2f} before the first step to {facts["losses"][1][1]:.2f} after {facts["losses"][1][0]:,} steps; accuracy on pictures that it does not learn from went from {share(facts["checks"][0][1])} at the first check to
{share(facts["checks"][-1][1])}.

![training](figures/training.svg)

What a straight line reads after the last hidden layer: {share(moments[0]["score"])} before the first step, {share(moments[len(moments) // 2]["score"])} after {moments[len(moments) // 2]["step"]:,} steps, {share(moments[-1]["score"])} at the end.

![from noise to order](figures/replay.svg)

The filters that changed most, before and after, as if they lay on the pixels:

![filters before](figures/filters-first.png) ![filters after](figures/filters-last.png)

The connection that grew most ({facts["grew"]["name"]}) had {100 * facts["grew"]["strengths"][0]:.2f} % of its layer's strength at first and {100 * facts["grew"]["strengths"][-1]:.2f} % at the end; the one that faded most ({facts["faded"]["name"]})
{100 * facts["faded"]["strengths"][0]:.2f} % and {100 * facts["faded"]["strengths"][-1]:.2f} %.""",
            "lamina film clothes.lamina",
        ),
        (
            f"""What was learned does not hang on single connections. Without the weakest half of them: {variant(facts, "prune", "50 % weakest")} instead of {variant(facts, "prune", "0 % weakest")}; without as many taken by chance:
{variant(facts, "prune", "50 % by chance")}. Without the weakest 80 %: {variant(facts, "prune", "80 % weakest")}.

![prune](figures/prune.svg)""",
            f"lamina experiment clothes/ prune --epochs {EXPERIMENTS['prune']['epochs']}",
        ),
        (
            f"""## 8. A score on what was learned says nothing

With labels dealt anew there is nothing to learn but the pictures by heart. After {EXPERIMENTS["shuffle"]["epochs"]} epochs the network knew {_known(facts)} of those that it learned from, and {variant(facts, "shuffle", "labels dealt anew")} of new ones: a
guess. That is why every score in Lamina is one on examples that no step ever saw. With the pixels of all pictures mixed in one and the same way a person sees noise;
the network still has {variant(facts, "shuffle", "places mixed")} instead of {variant(facts, "shuffle", "as they are")}: it uses what lies beside what, but not only that.

![shuffle](figures/shuffle.svg)""",
            f"lamina experiment clothes/ shuffle --epochs {EXPERIMENTS['shuffle']['epochs']}",
        ),
        (
            f"""## 9. Why this answer, and when a picture means nothing

What in a picture moved the answer (integrated gradients)? Such pictures look convincing even for networks that have learned nothing. So the same is reckoned for
the same layers with random weights; where both look alike, the picture tells nothing, and Lamina says so.

| which | picture, and what moved the answer (orange up, blue down) | answer | truth | likeness to random weights | verdict |
|---|---|---|---|---|---|
{whys}""",
            "lamina layers clothes.lamina new.png",
        ),
        (
            f"""## 10. Was it worth it?

{facts["verdict"]}

![contenders](figures/contenders.svg)

Features thought of by people need fewer examples; layers that learn their own need more, and then go further. The score on the same test pictures after
learning from fewer of them:

| examples | deep | classical, hand-made features |
|---|---|---|
{curve}

![examples](figures/examples.svg)

{facts["curve"]["advice"].get("deep", "")} {facts["curve"]["doubt"]}

With all 60,000 pictures and ten minutes the verdict was (`{facts["whole"]["command"]}`): {facts["whole"]["sentence"]} So what was learned beats hand-made
features when data suffice, and not before. On which side of that line your data are is measured in every training: here, with {facts["examples"]["train"]:,} pictures, the best
classical way had {share(contenders["classical"]["score"]["value"])} ({contenders["classical"]["name"]}), and the network {share(contenders["deep"]["score"]["value"])}. [When not to use it](limits.md).""",
            f"lamina verdict clothes.lamina --minutes {CURVE_MINUTES}",
        ),
    ]


def _mean(points: list[dict[str, Any]], size: int, kind: str) -> str:
    own = [point["scores"][kind] for point in points if point["examples"] == size and kind in point["scores"]]
    return share(sum(own) / len(own)) if own else "not measured"


def _known(facts: dict[str, Any]) -> str:
    known = next(each for each in facts["experiments"]["shuffle"]["variants"] if each["name"] == "labels dealt anew")["known"]
    return share(sum(known) / len(known))


def _read_by_layer(its: dict[str, Any], told: Callable[[dict[str, Any]], str]) -> str:
    """Rows of a table: each probed layer, what it puts out, what is `told` of it, what a probe reads, and the same with random weights."""
    probes, control = ({each["name"]: share(each["score"]) for each in its[kind]} for kind in ("probes", "control"))
    return "\n".join(
        f"| {layer['name']} | {' x '.join(map(str, layer['shape']))} | {told(layer)} | {probes[layer['name']]} | {control[layer['name']]} |"
        for layer in its["layers"]
        if layer["name"] in probes
    )


def of_people(facts: dict[str, Any]) -> str:
    """The section on faces and voices, measured where their data lay beside the checkout; empty where they were not."""
    if "people" not in facts:
        return ""
    parts = []
    for name, what, sense in (("faces", "photos", "edges become faces"), ("voices", "recordings", "pitches become a voice")):
        its = facts["people"][name]
        rows = _read_by_layer(its, lambda layer: " x ".join(map(str, layer["receptive"][:2])))
        filters = f"\n![filters](figures/filters-{name}.png)\n" if its["filters"] else ""
        opening = its["openings"][0] if its["openings"] else None
        at = (
            f"At the threshold for 1 stranger in {1 / opening['rate']:.0f} (at most 1 in {1 / opening['bound']:.0f} with 99 % confidence) "
            f"{share(opening['rejects'])} of the right ones are turned away. "
            if opening
            else ""
        )
        parts.append(
            f"""### {name.capitalize()}: {sense}

{its["learned"]} people, {its["examples"]["train"]:,} {what} to learn from; tested on {its["people"]} people whom nothing was fitted on. How well a linear projection of each layer's
signals tells those apart (100 % minus the equal error rate; a guess has 50 %), beside the same layers with random weights:

| layer | puts out | sees of the input | people told apart | with random weights |
|---|---|---|---|---|
{rows}

![people told apart by layer](figures/probes-{name}.svg)
{filters}
{its["verdict"]} {at}

![who is let in, who is turned away](figures/det-{name}.svg)"""
        )
    told = "\n\n".join(parts)
    return f"""## 11. Is this the same person?

The same layers learn to tell people apart when the loss asks for it: two pictures of one person should point the same way, and those of others elsewhere. What they
learn is used on people whom they never saw ([People](people.md)). Measured on Labeled Faces in the Wild and on the speakers of AN4; no picture and no recording of them stands here.

{told}

```sh
lamina train people/ --as verify
lamina layers people.lamina
lamina report people.lamina
```"""


def of_speech(facts: dict[str, Any]) -> str:
    """The section on speech, measured where its data lay beside the checkout; empty where they did not."""
    if "speech" not in facts:
        return ""
    its = facts["speech"]
    rows = _read_by_layer(its, lambda layer: f"{layer['parameters']:,}")
    heard = "\n".join(f"| {said} | {told} |" for said, told in its["heard"])
    confused = ", ".join(f"{told or 'nothing'} for {said or 'nothing'} ({count})" for told, said, count in its["confused"])
    return f"""## 12. What was said?

A loss that adds up every way in which the letters of a text can lie in a recording (CTC) needs nobody to say where each letter is: {its["examples"]["train"]:,} recordings of AN4's
training part of {its["seconds"] / 60:.0f} minutes, each with its text and no more ([Speech](speech.md)). How well a straight line tells, from each layer's signals at the step where a letter is heard, which letter it is, in recordings that
nothing was fitted on, beside the same layers with random weights:

| layer | puts out | weights | letters read | with random weights |
|---|---|---|---|---|
{rows}

![letters read by layer](figures/probes-speech.svg)

Sounds become letters on the way up, and letters words. Of ten speakers who were never heard in training, {share(its["score"]["value"])} of the words were wrong ({its["score"]["low"] * 100:.1f}-{its["score"]["high"] * 100:.1f} %,
speakers drawn anew); {"; ".join(its["remarks"])}. {its["verdict"]}

| said | heard |
|---|---|
{heard}

Heard for what was said most often: {confused}.

```sh
lamina train speech/ --as transcribe --minutes 10
lamina layers speech.lamina
lamina report speech.lamina
```"""


def page(facts: dict[str, Any]) -> str:
    parts = []
    for told, command in sections(facts):
        parts.append(told)
        if command:
            parts.append(f"```sh\n{command}\n```")
    parts += [told for told in (of_people(facts), of_speech(facts)) if told]
    return "\n\n".join(parts) + "\n"


def notebook(facts: dict[str, Any]) -> str:
    """The same text, with cells that run the commands on clothes written out as files."""
    first = (
        "from pathlib import Path\n\nfrom lamina.data.samples import load_sample, write_class_folders\nfrom lamina.demo import choose\n"
        "from lamina.settings import Settings\n\n"
        f'known, new = choose(load_sample("fashion-mnist", Settings()), {PICTURES})\nwrite_class_folders(known, Path("clothes"))\n'
        'write_class_folders(new, Path("new"))\n!cp "$(ls new/*/*.png | head -1)" new.png'
    )
    cells: list[dict[str, Any]] = []
    for told, command in sections(facts):
        cells.append({"cell_type": "markdown", "metadata": {}, "source": told.splitlines(keepends=True)})
        code = f"!{command}" if command else first
        cells.append(
            {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": code.splitlines(keepends=True)}
        )
    for told in (of_people(facts), of_speech(facts)):
        if told:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": told.splitlines(keepends=True)})
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02}"
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    before = json.loads(FACTS.read_text()) if FACTS.exists() else {}
    apart = {"people": measure_people, "speech": measure_speech}
    if sys.argv[1:2] == ["--measure"] and sys.argv[2:] and sys.argv[2] in apart:
        sys.path.insert(0, str(HERE.parent))
        FACTS.write_text(json.dumps({**before, sys.argv[2]: apart[sys.argv[2]]()}, indent=1, ensure_ascii=False) + "\n")
    elif "--measure" in sys.argv or not before:
        kept = {name: before[name] for name in apart if name in before}
        FACTS.write_text(json.dumps({**measure(), **kept}, indent=1, ensure_ascii=False) + "\n")
    known_facts = json.loads(FACTS.read_text())
    PAGE.write_text(page(known_facts))
    NOTEBOOK.write_text(notebook(known_facts))

"""The section of the report that opens the network, from layers.json."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from lamina.report.html import scrolling, table, text
from lamina.report.plots import (
    changes_over_time,
    class_maps,
    film_maps,
    filter_picture,
    heat,
    loss_and_mistakes,
    mosaic,
    probes_by_layer,
)
from lamina.screen import percent

CHOOSIER = 0.02
"""So much more must layers care about the direction of stripes for the page to say that they do."""


def inside_section(found: dict[str, Any] | None) -> str:
    """The layers, from the raw numbers to the answer."""
    if found is None:
        return "<h2>Inside</h2><p class='soft'>What each layer is, sees and knows: lamina layers MODEL puts it here.</p>"
    parts = (
        _raw(found), _filters(found["filters"]), _layers(found), _gain(found), _probes(found), _maps(found), _stripes(found),
        _seen(found["seen"]), _units(found["units"]), _unit(found["unit"]), _step(found["step"]), _replay(found),
        _answers(found["answers"]),
    )  # fmt: skip
    return "<h2>Inside</h2>" + "".join(parts)


def _raw(found: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr>{''.join(f'<td>{value:g}</td>' if value is not None else '<td>missing</td>' for value in row)}</tr>" for row in found["raw"]
    )
    caption = f"What goes in: numbers, some of the {_by(found['input'])} of one input."
    return scrolling(f"<table><caption>{caption}</caption>{rows}</table>", "the raw numbers of one input")


def _layers(found: dict[str, Any]) -> str:
    probes, control = ({each["name"]: each for each in found[name]} for name in ("probes", "control"))
    kinds = {"deep": "", "borrowed": ", trained by others"}
    rows = [
        (
            each["name"],
            each["kind"] + ("" if each["trained"] else kinds.get(found["way"]) or ", not trained"),
            _by(each["shape"]),
            f"{each['parameters']:,}",
            _by(each["receptive"]) if each["receptive"] else "not by a gradient",
            f"{100 * each['share']:.0f} %",
            *([_read(probes[each["name"]]) if each["name"] in probes else ""] if probes else []),
            *([_read(control[each["name"]]) if each["name"] in control else ""] if control else []),
        )
        for each in found["layers"]
    ]
    head = ["layer", "kind", "puts out", "weights", "sees of the input", "of the FLOPs"]
    head += [next((told for name, told in READ.items() if found["probed"].get(name)), "a line reads")] * bool(probes)
    head += ["with random weights"] * bool(control)
    return table(head, rows, words=(0, 1))


READ = {"people": "people told apart", "letters": "letters read"}
CAPTIONS = {
    "people": "How well a linear projection of each layer's signals tells apart people whom nothing was fitted on: 100 % minus the equal "
    "error rate; a guess is 50 %.",
    "letters": "Sounds become letters: which letter is said, read by a straight line from each layer's signals where it is heard, in "
    "recordings on which nothing was fitted.",
}


def _probes(found: dict[str, Any]) -> str:
    if not found["probes"]:
        return ""
    kind = next((name for name in READ if found["probed"].get(name)), "")
    caption = f"<figcaption>{CAPTIONS[kind]}</figcaption>" if kind else ""
    return f"<figure>{probes_by_layer(found['probes'], found['control'], kind)}{caption}</figure>"


def _maps(found: dict[str, Any]) -> str:
    maps = found["maps"]
    if not maps["layers"]:
        return ""
    said = (
        "Flat maps of the signals after some layers: each class pulls its examples towards its own point of a circle as much as a straight "
        "line reads it there. Each dot is one example, its color the class that it is of."
    )
    held = "" if found["probed"]["held_out"] else " The network learned from these examples."
    return (
        f"<h3>How classes come apart</h3><figure>{class_maps(maps['layers'], maps['truths'], maps['labels'])}"
        f"<figcaption>{said}{held}</figcaption></figure>"
    )


def _seen(seen: dict[str, Any]) -> str:
    if not seen:
        return ""
    words = (
        f"The filters of {text(seen['layer'])}, the first trained layer, as if they lay on the input: what its units answer to, "
        "near a plain input."
    )
    pictures = "".join(f'<img src="{filter_picture(values)}" alt="">' for values in seen["values"])
    return f'<figure><div class="filters" role="img" aria-label="{words}">{pictures}</div><figcaption>{words}</figcaption></figure>'


def _units(units: Sequence[dict[str, Any]]) -> str:
    """What moves the most telling units, where the sense has pictures."""
    items = []
    for each in units:
        if not any(each["pictures"]):
            continue
        pictures = "".join(f'<img src="{escape(one, quote=True)}" alt="">' for one in each["pictures"] if one)
        told = (
            f", most by {text(each['label'])} ({100 * each['share']:.0f} % of its variance lies between classes)" if each["label"] else ""
        )
        words = f"{text(each['layer'])}:{each['number']}{told}"
        items.append(
            f'<figure><div class="filters" role="img" aria-label="{words}">{pictures}</div><figcaption>{words}</figcaption></figure>'
        )
    if not items:
        return ""
    said = "For the most telling units of each layer, the training examples that move them most, cut to the part that the unit sees."
    return f"<h3>What moves single units</h3><p class='soft'>{said}</p>{''.join(items)}"


def _unit(unit: dict[str, Any] | None) -> str:
    if unit is None:
        return ""
    rows = [
        (each["source"], f"{each['signal']:+.3f}", f"{each['weight']:+.3f}", f"{each['signal'] * each['weight']:+.3f}")
        for each in unit["strongest"]
    ]
    onward = ", ".join(f"{text(each['source'])} ({each['weight']:+.2f})" for each in unit["onward"])
    place = f" at row {unit['place'][0]}, column {unit['place'][1]}" if len(unit["place"]) == 2 else ""
    return (
        f"<h3>One artificial neuron: {text(unit['layer'])}:{unit['number']}</h3><p>For {text(unit['name'])}{place}, the strongest of its "
        f"{unit['inputs']} connections:</p>{table(('signal from below', 'signal', 'x weight', '='), rows, words=(0,))}"
        f"<p>All together {unit['total']:+.3f}, bias {unit['bias']:+.3f}; after normalization and activation function it passes on "
        f"<b>{unit['passed_on']:+.3f}</b>{f', to {onward}' if onward else ''}. "
        f"<code>lamina layers MODEL FILE --unit {text(unit['layer'])}:{unit['number']}</code></p>"
    )


def _step(step: dict[str, Any] | None) -> str:
    if step is None:
        return ""
    rows = [
        (
            each["name"], _by(each["shape"]), f"{each['mean']:.2f} ± {each['deviation']:.2f}", f"{100 * each['passed']:.0f} %",
            f"{each['gradient']:.2g}", f"{each['weights']:.3g}", f"{each['change']:.2g}",
        )
        for each in step["layers"]
    ]  # fmt: skip
    head = ("layer", "puts out", "signals", "above 0", "gradient", "weights", "change")
    clueless = f", {step['clueless']:.3f} for a clueless one" if step["clueless"] is not None else ""
    perfect = f"{step['perfect']:.3f} for a perfect answer" if step["perfect"] is not None else "not known for a perfect answer"
    plot = ""
    more = f"; training adds {step['perfect']:.3f}, as it wants no answer to be quite sure" if step["perfect"] else ""
    caption = f"The bigger the mistake, the bigger the loss{more}."
    if all(each["probability"] is not None for each in step["mistakes"]):
        plot = f"<figure>{loss_and_mistakes(step['mistakes'])}<figcaption>{caption}</figcaption></figure>"
    items = "".join(
        f"<li>{_picture(each['picture'])}<span>{word} loss: {each['loss']:.3f}</span><span class='soft'>{text(each['name'])}</span></li>"
        for word, each in zip(("least", "middling", "largest"), step["mistakes"], strict=False)
    )
    return (
        f"<h3>One training step, opened</h3><p>On {step['examples']} training examples: forward pass, loss {step['loss']:.4f} ({perfect}"
        f"{clueless}), the error sent back (backpropagation), one step with the rate {step['rate']:.3g}; the loss on the same examples "
        f"after it: <b>{step['after']:.4f}</b>.</p>{table(head, rows, words=(0,))}{plot}<ul class='mistakes'>{items}</ul>"
    )


def _replay(found: dict[str, Any]) -> str:
    replay = found["replay"]
    if not replay:
        return ""
    frames = replay["frames"]
    parts = ["<h3>From noise to order: the training again</h3>"]
    if frames[0]["filters"]:
        items = "".join(
            f'<li><img src="{mosaic(frame["filters"])}" alt="filters at step {frame["step"]}"><span>step {frame["step"]}</span></li>'
            for frame in frames
        )
        words = f"{len(frames[0]['filters'])} filters of {text(replay['layer'])} that changed most, as if they lay on the input."
        parts.append(f"<p class='soft'>{words}</p><ul class='strip'>{items}</ul>")
    if frames[0]["places"]:
        caption = "The map after the last hidden layer, and what a straight line reads there."
        maps = film_maps(frames, found["maps"]["truths"])
        parts.append(f"<figure>{maps}<figcaption>{caption}</figcaption></figure>")
    if replay["grew"] and replay["faded"]:
        plot = changes_over_time(replay["grew"], replay["faded"], [frame["step"] for frame in frames])
        rows = [
            (what, each["name"], f"{each['strengths'][0]:.4f}", f"{each['strengths'][-1]:.4f}")
            for what, changes in (("grew", replay["grew"]), ("faded", replay["faded"]))
            for each in changes
        ]
        listed = table(("", "connection", "before", "after"), rows, words=(0, 1))
        parts.append(f"<figure>{plot}</figure><details><summary>Which connections</summary>{listed}</details>")
    return "".join(parts)


def _answers(answers: Sequence[dict[str, Any]]) -> str:
    items = []
    for each in answers:
        values = each["values"]
        flat = not (values and isinstance(values[0], list) and values[0] and not isinstance(values[0][0], list))
        drawn = f'<img src="{heat(values)}" alt="what moved the answer">' if not flat and each["picture"] else ""
        items.append(
            f"<li><div class='pair'>{_picture(each['picture'])}{drawn}</div><span>{text(each['what'])}: <b>{text(each['label'])}</b> "
            f"{percent(each['probability'])} %, it is {text(each['truth'])}</span><span>{text(each['sentence'])}</span>"
            f"<span class='soft'>{text(each['name'])}</span></li>"
        )
    if not items:
        return ""
    said = (
        "Integrated gradients: orange moved the answer up, blue down. The same is reckoned on the network with random weights; where both "
        "look alike, the picture tells nothing."
    )
    return f"<h3>Why these answers</h3><p class='soft'>{said}</p><ul class='mistakes'>{''.join(items)}</ul>"


def _picture(address: str) -> str:
    return f'<img src="{escape(address, quote=True)}" alt="">' if address else ""


def _gain(found: dict[str, Any]) -> str:
    """What the probes say, where there is something to compare."""
    probed = found["probed"]
    if found["gain"] is not None:
        gain, low, high = (100 * value for value in found["gain"])
        return (
            f"<p>After the last hidden layer a straight line reads {gain:+.0f} points of the answer more than after the same layers with "
            f"random weights ({low:+.0f} to {high:+.0f}, 95 % paired interval; {probed['learned']} examples learned, {probed['tested']} "
            "held out).</p>"
        )
    if found["control"]:
        return "<p class='soft'>The network learned from all these examples: what lines read here says nothing of new ones.</p>"
    return ""


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes) or "1"


def _read(probe: dict[str, Any]) -> str:
    return f"{percent(probe['score'])} % ({percent(probe['low'])}-{percent(probe['high'])})"


def _filters(filters: dict[str, Any]) -> str:
    """The first filters as pictures, where there are some."""
    if not filters:
        return ""
    how = "trained" if filters["trained"] else "from the data, not trained"
    pictures = "".join(f'<img src="{filter_picture(values)}" alt="">' for values in filters["values"])
    words = f"The first filters ({text(filters['layer'])}): {how}."
    return f'<figure><div class="filters" role="img" aria-label="{words}">{pictures}</div><figcaption>{words}</figcaption></figure>'


def _stripes(found: dict[str, Any]) -> str:
    """Whether early layers see edges, measured."""
    if not found["gratings"] or not found["control"]:
        return ""

    def told(value: float | None) -> str:
        return "silent" if value is None else f"{value:.2f}"

    rows = [(each["name"], told(each["trained"]), told(each["random"])) for each in found["gratings"]]
    trained = {each["name"] for each in found["layers"] if each["trained"]}
    hidden = [each for each in found["gratings"][:-1] if each["name"] in trained and None not in (each["trained"], each["random"])]
    half = len(hidden) // 2
    if half == 0:
        said = "Too few layers were trained to say whether early ones see edges."
    else:
        early, late = (sum(each["trained"] for each in part) / len(part) for part in (hidden[:half], hidden[half:]))
        plain = sum(each["random"] for each in hidden[:half]) / half
        does = early > late + CHOOSIER and early > plain + CHOOSIER
        said = (
            f"The first half of the trained layers {'answers' if does else 'does not answer'} to the direction of stripes more than the "
            f"second half and than random weights do{'' if does else ': this network does not show that early layers see edges'}."
        )
    head = ("layer", "choosy about the direction of stripes", "with random weights")
    return f"<h3>Do early layers see edges?</h3><p>{said}</p>{table(head, rows, words=(0,))}"

"""How results are put on the screen: one function for each kind of them."""

from __future__ import annotations

import time
from typing import Any

from lamina.screen import Screen, one_in, percent


def tell_curve(curve: dict[str, Any], screen: Screen) -> None:
    for kind, told in curve["advice"].items():
        screen.say(f"{kind}: {told}")
    if curve["doubt"]:
        screen.warn(curve["doubt"])


def tell_layers(found: dict[str, Any], screen: Screen) -> None:
    screen.title(f"What goes in: {' x '.join(map(str, found['input']))} numbers, some of them:")
    for row in found["raw"]:
        screen.say("  " + " ".join("  none" if value is None else f"{value:>6g}" for value in row))
    screen.title(f"{'layer':16} {'kind':14} {'puts out':>14} {'weights':>9} {'sees':>12} {'FLOPs':>6}  a line reads   random weights")
    probes, controls = ({each["name"]: each for each in found[name]} for name in ("probes", "control"))
    for each in found["layers"]:
        shape, sees = (" x ".join(map(str, each[name])) for name in ("shape", "receptive"))
        line = f"{each['name']:16} {each['kind']:14} {shape:>14} {each['parameters']:>9,} {sees:>12} {100 * each['share']:>4.0f} %"
        if probe := probes.get(each["name"]):
            line += f"  {percent(probe['score']):>5} ({percent(probe['low'])}-{percent(probe['high'])})"
        screen.say(line + (f"  {percent(controls[each['name']]['score']):>5}" if each["name"] in controls else ""))
    stripes = [each for each in found["gratings"] if None not in (each["trained"], each["random"])]
    if stripes:
        told = ", ".join(f"{each['name']} {each['trained']:.2f} ({each['random']:.2f})" for each in stripes)
        screen.say(f"Choosy about the direction of stripes (with random weights): {told}")
    for each in found["units"]:
        if each["label"]:
            screen.say(f"    {each['layer']}:{each['number']} is moved most by {each['label']}, such as {each['names'][0]}")
    if probes and not found["probed"]["held_out"]:
        screen.say("The network learned from all these examples: what lines read here says nothing of new ones.")


def tell_unit(found: dict[str, Any], screen: Screen) -> None:
    screen.say(f"{found['layer']}:{found['number']}" + (f" at {tuple(found['place'])}" if found["place"] else ""))
    for each in found["strongest"]:
        screen.say(f"  {each['signal']:+9.4f} x {each['weight']:+8.4f} = {each['signal'] * each['weight']:+9.4f}   {each['source']}")
    screen.say(f"  … {found['inputs']} inputs in all: sum {found['total']:+.4f}, bias {found['bias']:+.4f}")
    screen.say(f"  after normalization and activation function it passes on {found['passed_on']:+.4f}")
    for each in found["onward"]:
        screen.say(f"  -> {each['source']}: weight {each['weight']:+.4f}")


def tell_step(found: dict[str, Any], screen: Screen) -> None:
    screen.title(f"One step on {found['examples']} examples, learning rate {found['rate']:.4g}")
    screen.say(f"{'layer':16} {'puts out':>14} {'mean':>8} {'spread':>8} {'passed':>7} {'gradient':>9} {'weights':>9} {'change':>9}")
    for each in found["layers"]:
        shape = " x ".join(map(str, each["shape"]))
        screen.say(
            f"{each['name']:16} {shape:>14} {each['mean']:>8.3f} {each['deviation']:>8.3f} {100 * each['passed']:>5.0f} % "
            f"{each['gradient']:>9.4f} {each['weights']:>9.3f} {each['change']:>9.4f}"
        )
    clueless = f", clueless {found['clueless']:.3f}" if found["clueless"] is not None else ""
    perfect = f", perfect {found['perfect']:.3f}" if found["perfect"] is not None else ""
    screen.say(f"Loss        {found['loss']:.4f} before, {found['after']:.4f} on the same examples after the step{clueless}{perfect}")
    for word, each in zip(("least", "middling", "largest"), found["mistakes"], strict=True):
        told = f", {100 * each['probability']:.1f} % for the right answer" if each["probability"] is not None else ""
        screen.say(f"            {word} loss {each['loss']:.3f}{told} ({each['name']})")
    screen.say("            In fp32, without augmentation, and without what earlier steps would have left in the optimizer.")


def tell_experiment(found: dict[str, Any], out: str, screen: Screen) -> None:
    screen.title(found["sentence"])
    for each in found["variants"]:
        told = f"{percent(each['mean'])} % ({percent(each['low'])}-{percent(each['high'])}) ± {100 * each['deviation']:.1f}"
        screen.say(f"    {each['name']:20} {told:28} {each['training_flops']:.1e} FLOPs")
    count = len(found["seeds"])
    screen.say(f"{found['learned']:,} examples learned, {found['tested']:,} tested, {count} seeds; 95 % intervals, ± over seeds.")
    screen.say(f"Written     {out}, with its chart beside it")


def tell_doctor(found: dict[str, Any], screen: Screen) -> None:
    if not found["found"]:
        screen.say(f"Nothing wrong was found; {found['looked']} checks could look.")
    for each in found["found"]:
        screen.title(each["name"])
        screen.say(f"    seen by  {each['evidence']}")
        screen.say(f"    remedy   {each['remedy']}")


def tell_enrollment(found: dict[str, Any], screen: Screen) -> None:
    from lamina.people.people import WARNING

    for file, reason in found["refused"]:
        screen.warn(f"{file}: refused, {reason}")
    screen.title(f"{found['name']} is enrolled with {found['examples']} examples.")
    opening = found["opening"]
    screen.say(f"At the threshold {opening['threshold']:.3f} {strangers(opening['rate'], opening['bound'])}: convenience, not security.")
    screen.say(f"{percent(opening['rejects'])} % of the pictures (recordings) of the right people held out were turned away there.")
    screen.say(WARNING)


def tell_decision(found: dict[str, Any], screen: Screen) -> None:
    who = found["name"] or "nobody who is enrolled"
    if found["reason"]:
        screen.title(f"Refused: {found['reason']}.")
        return
    told = f"likeness {found['likeness']:.3f}, threshold {found['threshold']:.3f}"
    screen.title(
        f"{'Accepted' if found['accepted'] else 'Not accepted'}: {who} ({told}; {strangers(found['false_accept'], found['bound'])})."
    )


def tell_people(found: dict[str, Any], screen: Screen) -> None:
    for each in found["people"]:
        added = time.strftime("%Y-%m-%d", time.localtime(each["added"]))
        screen.say(f"{each['name']}  {each['examples']} examples, since {added}")
    if not found["people"]:
        screen.say("Nobody is enrolled.")


def strangers(rate: float, bound: float) -> str:
    """A false-accept rate and its bound in words."""
    return f"about {one_in(rate)} strangers would be let in, at most {one_in(bound)} with 99 % confidence"

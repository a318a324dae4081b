"""The model file: the same after a round trip, and a damaged or hostile one gives a ModelFileError, never code or memory.

MUTATIONS holds every way in which a file is damaged here. Run as a script (`test_model_file.py MODEL COUNT`) this file opens COUNT
mutated files one after the other and prints what came of them as JSON; the tests do so in a subprocess, to measure its memory.
"""

import dataclasses
import functools
import hashlib
import io
import json
import re
import resource
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import lamina
from lamina.errors import ModelFileError
from lamina.layers import Convolution, GlobalPool, Linear, Standardize
from lamina.model import load
from lamina.networks import Network

NAMES = {"manifest": "manifest.json", "model": "model.json", "weights": "weights.safetensors", "golden": "golden.safetensors"}
PICTURE = np.arange(100, dtype=np.uint8).reshape(10, 10)
MOST_MEMORY = 500e6
WHOLE = 2000
"""Mutations of the soak test."""


def made_pictures(count=60, seed=0):
    """Small pictures whose left half is dark or light, and their labels."""
    generator = np.random.default_rng(seed)
    pictures = [generator.integers(0, 64, (side, side)).astype(np.uint8) for side in generator.integers(8, 13, count)]
    for picture in pictures[::2]:
        picture[:, : len(picture) // 2] += 190
    return pictures, ["dark" if index % 2 else "light" for index in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where this module's files lie."""
    return tmp_path_factory.mktemp("model-file")


@pytest.fixture(scope="module")
def model(folder):
    """A tiny trained model, saved as tiny.lamina."""
    return lamina.train(made_pictures(), epochs=1, width=8, threads=1, out=folder / "tiny.lamina", runs=folder / "runs")


@pytest.fixture(scope="module")
def path(model, folder):
    """The file of the tiny model."""
    return folder / "tiny.lamina"


# ---------------------------------------------------------------- taking a file apart and putting it together


def members(path):
    """The content of each member, by its short name."""
    with zipfile.ZipFile(path) as archive:
        return {short: archive.read(name) for short, name in NAMES.items()}


def pack(parts, method=zipfile.ZIP_STORED):
    """A zip archive of (name, content) pairs, as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, method)
    return buffer.getvalue()


def as_bytes(value):
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode()


def rewrite(path, names=NAMES, **changed):
    """The archive's bytes with these members changed, and with the SHA-256 of the new ones in the manifest (unless it is changed too)."""
    parts = {**members(path), **{short: as_bytes(value) for short, value in changed.items()}}
    if "manifest" not in changed:
        manifest = json.loads(parts["manifest"])
        for short in ("model", "weights", "golden"):
            manifest["members"][NAMES[short]] = {"sha256": hashlib.sha256(parts[short]).hexdigest(), "size": len(parts[short])}
        parts["manifest"] = json.dumps(manifest).encode()
    return pack([(names[short], parts[short]) for short in NAMES])


def unpacked(tensors):
    """(header, data) of a safetensors file."""
    length = int.from_bytes(tensors[:8], "little")
    return json.loads(tensors[8 : 8 + length]), tensors[8 + length :]


def packed(header, data, length=None):
    """A safetensors file of a header (JSON or bytes) and data."""
    header = as_bytes(header)
    return struct.pack("<Q", len(header) if length is None else length) + header + data


# ---------------------------------------------------------------- the mutations

MUTATIONS = {}
"""Name -> function(path, generator) -> the mutated file's bytes."""
OFTEN = {}
"""Name -> how often it stands in one round; one where it is not named."""
HARMLESS = set()
"""Mutations that may leave the file as good as it was: it opens, and answers the same."""
CHANGED = set()
"""Mutations that may make another model, which opens and answers."""


def mutation(name, often=1, harmless=False, changed=False):
    def keep(function):
        MUTATIONS[name] = function
        OFTEN[name] = often
        HARMLESS.update([name] if harmless else [])
        CHANGED.update([name] if changed else [])
        return function

    return keep


def somewhere(content, generator):
    return int(generator.integers(len(content)))


@mutation("bytes: truncated", often=6)
def _(path, generator):
    content = path.read_bytes()
    return content[: somewhere(content, generator)]


@mutation("bytes: truncated near the end", often=2)
def _(path, generator):
    return path.read_bytes()[: -int(generator.integers(1, 400))]


@mutation("bytes: one bit flipped", often=8, harmless=True)
def _(path, generator):
    content = bytearray(path.read_bytes())
    content[somewhere(content, generator)] ^= 1 << int(generator.integers(8))
    return bytes(content)


@mutation("bytes: one bit flipped outside the weights", often=8, harmless=True)
def _(path, generator):
    content = bytearray(path.read_bytes())
    begin = content.find(b"weights.safetensors")
    places = [*range(begin + 200), *range(len(content) - 800, len(content))]
    content[places[somewhere(places, generator)]] ^= 1 << int(generator.integers(8))
    return bytes(content)


@mutation("bytes: inserted", often=4, harmless=True)
def _(path, generator):
    content = path.read_bytes()
    at = somewhere(content, generator)
    return content[:at] + generator.bytes(int(generator.integers(1, 100))) + content[at:]


@mutation("bytes: removed", often=4, harmless=True)
def _(path, generator):
    content = path.read_bytes()
    at = somewhere(content, generator)
    return content[:at] + content[at + int(generator.integers(1, 100)) :]


@mutation("bytes: zeroed", often=2, harmless=True)
def _(path, generator):
    content = bytearray(path.read_bytes())
    at = somewhere(content, generator)
    content[at : at + 64] = bytes(len(content[at : at + 64]))
    return bytes(content)


@mutation("bytes: garbage in front", harmless=True)
def _(path, generator):
    return generator.bytes(1000) + path.read_bytes()


@mutation("bytes: garbage behind", harmless=True)
def _(path, generator):
    return path.read_bytes() + generator.bytes(1000)


@mutation("bytes: nothing but noise")
def _(path, generator):
    return generator.bytes(int(generator.integers(0, 5000)))


@mutation("zip: contents swapped, manifest kept")
def _(path, generator):
    parts = members(path)
    return pack([(NAMES[a], parts[b]) for a, b in zip(NAMES, ("manifest", "model", "golden", "weights"), strict=True)])


@mutation("zip: contents swapped, manifest fitting")
def _(path, generator):
    parts = members(path)
    return rewrite(path, weights=parts["golden"], golden=parts["weights"])


@mutation("zip: members in another order", harmless=True)
def _(path, generator):
    parts = members(path)
    return pack([(NAMES[short], parts[short]) for short in generator.permutation(list(NAMES)).tolist()])


@mutation("zip: member twice")
def _(path, generator):
    parts = members(path)
    twice = list(NAMES)[somewhere(NAMES, generator)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pack([(NAMES[short], parts[short]) for short in [*NAMES, twice]])


@mutation("zip: member missing")
def _(path, generator):
    parts = members(path)
    gone = list(NAMES)[somewhere(NAMES, generator)]
    return pack([(NAMES[short], parts[short]) for short in NAMES if short != gone])


@mutation("zip: member more")
def _(path, generator):
    parts = members(path)
    return pack([*((NAMES[short], parts[short]) for short in NAMES), ("run.pkl", b"\x80\x04N.")])


@mutation("zip: no member at all")
def _(path, generator):
    return pack([])


@mutation("zip: absolute or parent names")
def _(path, generator):
    prefix = ("/", "../", "a/../", "./", "C:\\")[int(generator.integers(5))]
    return rewrite(path, names={short: prefix + name for short, name in NAMES.items()})


@mutation("zip: compressed")
def _(path, generator):
    return pack([(NAMES[short], content) for short, content in members(path).items()], zipfile.ZIP_DEFLATED)


@functools.cache
def bomb(path):
    """The archive with a gigabyte of zeros, compressed, as its weights."""
    buffer, zeros = io.BytesIO(), bytes(1 << 22)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for short, content in members(path).items():
            with archive.open(NAMES[short], "w") as file:
                for piece in [zeros] * 256 if short == "weights" else [content]:
                    file.write(piece)
    return buffer.getvalue()


@mutation("zip: bomb of 1 GB")
def _(path, generator):
    return bomb(path)


def directory_entry(content, generator):
    """Where the archive's directory speaks of one of its members."""
    places = [match.start() for match in re.finditer(b"PK\x01\x02", content)][-4:]
    return places[somewhere(places, generator)]


@mutation("zip: wrong declared sizes", often=2)
def _(path, generator):
    content = bytearray(path.read_bytes())
    size = (0, 1, 10**6, 2**31, 2**32 - 1)[int(generator.integers(5))]
    entry = directory_entry(content, generator)
    content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
    return bytes(content)


@mutation("zip: both sizes wrong at both places")
def _(path, generator):
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02", 0, content.rfind(b"golden.safetensors"))
    local = struct.unpack("<I", content[entry + 42 : entry + 46])[0]
    for place in (entry + 20, local + 18):
        content[place : place + 8] = struct.pack("<II", 10**9, 10**9)
    return bytes(content)


@mutation("zip: marked as encrypted")
def _(path, generator):
    content = bytearray(path.read_bytes())
    content[directory_entry(content, generator) + 8] |= 1
    return bytes(content)


@mutation("zip: unknown compression")
def _(path, generator):
    content = bytearray(path.read_bytes())
    entry = directory_entry(content, generator)
    content[entry + 10 : entry + 12] = struct.pack("<H", (8, 12, 14, 97, 99)[int(generator.integers(5))])
    return bytes(content)


@mutation("zip: all members begin at the same place")
def _(path, generator):
    content = bytearray(path.read_bytes())
    for entry in [match.start() for match in re.finditer(b"PK\x01\x02", content)]:
        content[entry + 42 : entry + 46] = bytes(4)
    return bytes(content)


def of_manifest(name, change):
    """A mutation that changes the manifest (in place, or by returning another value)."""

    @mutation("manifest: " + name)
    def _(path, generator):
        manifest = json.loads(members(path)["manifest"])
        other = change(manifest)
        return rewrite(path, manifest=manifest if other is None else other)


of_manifest("future format", lambda m: m.update(format=2))
of_manifest("format number of 4,000 digits", lambda m: m.update(format=10**4000))
of_manifest("format 0", lambda m: m.update(format=0))
of_manifest("format below 0", lambda m: m.update(format=-1))
of_manifest("format of another type", lambda m: m.update(format="1"))
of_manifest("no format", lambda m: m.pop("format") and None)
of_manifest("no members", lambda m: m.pop("members") and None)
of_manifest("one member not named", lambda m: m["members"].pop("weights.safetensors") and None)
of_manifest("another SHA-256", lambda m: m["members"]["model.json"].update(sha256="0" * 64))
of_manifest("SHA-256 of another type", lambda m: m["members"]["model.json"].update(sha256=None))
of_manifest("another size", lambda m: m["members"]["model.json"].update(size=1))
of_manifest("a list", lambda m: [])
of_manifest("a number", lambda m: "7")
of_manifest("deep nesting", lambda m: "[" * 200_000)
of_manifest("no JSON", lambda m: b"\xff\xfe{")
of_manifest("empty", lambda m: b"")


def of_tensors(member, name, change):
    """A mutation that makes other tensors: change(header, data, generator) -> the bytes of the file."""

    @mutation(f"{member}: {name}")
    def _(path, generator):
        return rewrite(path, **{member: change(*unpacked(members(path)[member]), generator)})


def in_header(**entries):
    """Entries of one tensor in the header, changed."""

    def change(header, data, generator):
        names = [name for name in header if name != "__metadata__"]
        name = names[somewhere(names, generator)]
        header[name].update({key: value(header[name][key]) for key, value in entries.items()})
        return packed(header, data)

    return change


def reshuffled(change):
    """A mutation of the header as a whole."""

    def apply(header, data, generator):
        change(header)
        return packed(header, data)

    return apply


def filled(value):
    """All floats of the tensors replaced."""

    def apply(header, data, generator):
        return packed(header, np.full(len(data) // 4, value, "<f4").tobytes() + data[len(data) // 4 * 4 :])

    return apply


def one_value(value):
    """One float of the head's weights replaced."""

    def apply(header, data, generator):
        name = "values" if "values" in header else "layers.head.weights.weight"
        at = header[name]["data_offsets"][0]
        return packed(header, data[:at] + struct.pack("<f", value) + data[at + 4 :])

    return apply


for member in ("weights", "golden"):
    of_tensors(member, "header length of 2**64 - 1", lambda h, d, g: packed(h, d, 2**64 - 1))
    of_tensors(member, "header length of 1 GB", lambda h, d, g: packed(h, d, 10**9))
    of_tensors(member, "header length too small", lambda h, d, g: packed(h, d, 5))
    of_tensors(member, "header deeply nested", lambda h, d, g: packed('{"a":' * 100_000, d))
    of_tensors(member, "header a list", lambda h, d, g: packed([], d))
    of_tensors(member, "header empty", lambda h, d, g: packed(b"", d))
    of_tensors(member, "shorter than a length", lambda h, d, g: b"abc")
    of_tensors(member, "data cut off", lambda h, d, g: packed(h, d[:-4]))
    of_tensors(member, "data too long", lambda h, d, g: packed(h, d + bytes(64)))
    of_tensors(member, "negative offsets", in_header(data_offsets=lambda o: [o[0] - o[1], 0]))
    of_tensors(member, "huge offsets", in_header(data_offsets=lambda o: [o[0] + 2**62, o[1] + 2**62]))
    of_tensors(member, "offsets of the wrong type", in_header(data_offsets=lambda o: ["0", None]))
    of_tensors(member, "offsets the wrong way round", in_header(data_offsets=lambda o: [o[1], o[0]]))
    of_tensors(member, "huge shape", in_header(shape=lambda s: [10**12, 10**12]))
    of_tensors(member, "negative shape", in_header(shape=lambda s: [-1, *s]))
    of_tensors(member, "unknown type of number", in_header(dtype=lambda d: "F33"))
    of_tensors(member, "no tensors", lambda h, d, g: packed({}, b""))
    of_tensors(member, "a tensor of another name", reshuffled(lambda h: h.update(other=h.pop(next(iter(h))))))
    of_tensors(member, "all values NaN", filled(np.nan))
    of_tensors(member, "one value NaN", one_value(np.nan))
    of_tensors(member, "one value infinite", one_value(np.inf))
    of_tensors(member, "one value otherwise", one_value(-7.5))

of_tensors("weights", "overlapping tensors", reshuffled(lambda h: h["layers.stage1_deeper.filters.weight"].update(
    data_offsets=h["layers.stage1.filters.weight"]["data_offsets"])))  # fmt: skip
of_tensors("weights", "whole numbers for floats", reshuffled(lambda h: h["layers.head.weights.weight"].update(dtype="I32")))
of_tensors("weights", "floats for the step counter", reshuffled(lambda h: h["layers.stage1.norm.num_batches_tracked"].update(dtype="F64")))
of_tensors("golden", "whole numbers for floats", reshuffled(lambda h: h["values"].update(dtype="I32")))
of_tensors("golden", "truth values for floats", reshuffled(lambda h: h["values"].update(dtype="BOOL", shape=[4, 8])))
of_tensors("golden", "one row less", lambda h, d, g: packed({"values": {**h["values"], "shape": [3, 2], "data_offsets": [0, 24]}}, d[:24]))


def of_model(name, change):
    """A mutation of model.json, in place or by returning other content."""

    @mutation("model: " + name)
    def _(path, generator):
        description = json.loads(members(path)["model"])
        other = change(description)
        return rewrite(path, model=description if other is None else other)


def layer(number, **arguments):
    return lambda d: d["layers"][number]["arguments"].update(arguments)


def state(part, **values):
    return lambda d: d[part]["state"].update(values)


of_model("deep nesting", lambda d: '{"a":' * 200_000)
of_model("deep nesting, closed", lambda d: json.dumps(d)[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
of_model("a number of 100,000 digits", lambda d: json.dumps(d)[:-1] + ', "x": ' + "9" * 100_000 + "}")
of_model("no JSON", lambda d: b"\x00\xff")
of_model("a list", lambda d: [])
of_model("unknown kind of layer", lambda d: d["layers"][1].update(kind="convoluton"))
of_model("kind of layer of the wrong type", lambda d: d["layers"][1].update(kind=["linear"]))
of_model("unknown kind of input", lambda d: d["input"].update(kind="imag"))
of_model("kind of input of the wrong type", lambda d: d["input"].update(kind={"a": 1}))
of_model("unknown kind of output", lambda d: d["output"].update(kind="class"))
of_model("unknown argument", layer(1, color="red"))
of_model("missing argument", lambda d: d["layers"][1]["arguments"].pop("outputs") and None)
of_model("arguments of the wrong type", layer(1, inputs="1", outputs=[8]))
of_model("a width of 10**12", layer(1, outputs=10**12))
of_model("a width of 10**12 everywhere", lambda d: [entry["arguments"].update(width=10**12) for entry in d["layers"]] and None)
of_model("a width of 10**30", layer(3, width=10**30))
of_model("a width of 0", layer(3, width=0))
of_model("a negative width", layer(3, width=-16))
of_model("a width of 16.5", layer(3, width=16.5))
of_model("an infinite width", layer(3, width=float("inf")))
of_model("a filter of 10**9", layer(1, kernel=10**9))
of_model("a filter of 0", layer(1, kernel=0))
of_model("a stride of 0", layer(1, stride=0))
of_model("a stride of 10**30", layer(1, stride=10**30))
of_model("a layer's name twice", lambda d: d["layers"][2].update(name="stage1"))
of_model("a layer's name a path", lambda d: d["layers"][2].update(name="../stage1"))
of_model("a layer's name a number", lambda d: d["layers"][2].update(name=7))
of_model("a layer's name of Python's own", lambda d: d["layers"][2].update(name="__class__"))
of_model("a layer's name of the container's own", lambda d: d["layers"][2].update(name="pop"))
of_model("no layers", lambda d: d.update(layers=[]))
of_model("20,000 layers", lambda d: d.update(layers=d["layers"] * 2500))
of_model("10,000 layers without weights", lambda d: d.update(
    layers=[{"name": f"p{n}", "kind": "global_pool", "arguments": {}} for n in range(10_000)]))  # fmt: skip
of_model("layers in another order", lambda d: d["layers"].reverse())
of_model("the head missing", lambda d: d["layers"].pop() and None)
of_model("the pool missing", lambda d: d["layers"].pop(-2) and None)
of_model("golden count 10**9", lambda d: d["golden"].update(count=10**9))
of_model("golden count 0", lambda d: d["golden"].update(count=0))
of_model("golden count of the wrong type", lambda d: d["golden"].update(count="4"))
of_model("golden seed below 0", lambda d: d["golden"].update(seed=-1))
of_model("another golden seed", lambda d: d["golden"].update(seed=1))
of_model("labels unsorted", lambda d: d["output"]["state"]["labels"].reverse())
of_model("labels twice", state("output", labels=["dark", "dark"]))
of_model("a label too many", state("output", labels=["dark", "light", "night"]))
of_model("a label that is a number", state("output", labels=["dark", 7]))
of_model("a million labels", state("output", labels=[f"{n:07}" for n in range(1_000_000)]))
of_model("temperature 0", state("output", temperature=0))
of_model("temperature NaN", state("output", temperature=float("nan")))
of_model("threshold infinite", state("output", threshold=float("inf")))
of_model("threshold of 4,000 digits", state("output", threshold=10**4000))
of_model("unknown measure", state("output", measure="entropy"))
of_model("side 1024", state("input", side=1024))
of_model("side 1024, 64 golden samples", lambda d: state("input", side=1024)(d) or d["golden"].update(count=64))
of_model("side 10**9", state("input", side=10**9))
of_model("side of the wrong type", state("input", side="8"))
of_model("side NaN", state("input", side=float("nan")))
of_model("3 channels", state("input", channels=3))
of_model("max_pixels of 4,000 digits", state("input", max_pixels=10**4000))


@mutation("model: signals of 2 GB")
def _(path, generator):
    network = Network([("input", Standardize(1)), ("stem", Convolution(1, 512, 1)), ("pool", GlobalPool()), ("head", Linear(512, 2))])
    description = json.loads(members(path)["model"])
    description["layers"], description["input"]["state"]["side"] = network.describe(), 1024
    return rewrite(path, model=description, weights=safetensors.torch.save(network.state_dict()))


for key in ("task", "input", "layers", "output", "golden", "card"):
    of_model(f"no {key}", lambda d, key=key: d.pop(key) and None)
    for value in (None, 7, [7]):
        of_model(f"{key} of the wrong type ({value})", lambda d, key=key, value=value: d.update({key: value}))
for key in ("classes", "examples", "excluded", "seconds", "score", "data", "versions", "run", "model"):
    of_model(f"card: {key} of the wrong type", lambda d, key=key: d["card"].update({key: [None]}))

VALUES = (None, True, -1, 0, 3, 1e308, 10**12, 10**30, float("nan"), "", "dark", "x" * 1000, "\ud800", [], [[]], {}, {"a": 1})


def places(value):
    """(container, key) of every place in a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


@mutation("model: another value at a random place", often=12, changed=True)
def _(path, generator):
    description = json.loads(members(path)["model"])
    choice = list(places(description))
    container, key = choice[somewhere(choice, generator)]
    container[key] = VALUES[somewhere(VALUES, generator)]
    return rewrite(path, model=description)


@mutation("weights: another value at a random place of the header", often=6, changed=True)
def _(path, generator):
    header, data = unpacked(members(path)["weights"])
    choice = list(places(header))
    container, key = choice[somewhere(choice, generator)]
    container[key] = VALUES[somewhere(VALUES, generator)]
    return rewrite(path, weights=packed(header, data))


ROUND = [name for name in MUTATIONS for _ in range(OFTEN[name])]
"""One round; the fuzz goes round and round."""


def fuzz(path, count, seed=7):
    """Opens `count` mutated files. Returns how many of each kind were refused and opened, all that is wrong, and memory above the start."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(seed)
    expected = load(path).predict(PICTURE)
    refused, opened, wrong, messages = Counter(), Counter(), [], set()
    broken = path.with_name("broken.lamina")
    bomb(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        name = ROUND[number % len(ROUND)]
        broken.write_bytes(MUTATIONS[name](path, generator))
        try:
            answer = load(broken).predict(PICTURE)
        except ModelFileError as error:
            refused[name] += 1
            messages.add(str(error))
            if not str(error).startswith("The ") and "must" not in str(error):
                wrong.append(f"{number} {name}: no sentence: {error}")
        except Exception as error:
            wrong.append(f"{number} {name}: {type(error).__name__}: {error}"[:300])
        else:
            opened[name] += 1
            if name not in CHANGED and not (name in HARMLESS and answer == expected):
                wrong.append(f"{number} {name}: opened")
    unit = 1 if sys.platform == "darwin" else 1024
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    return {"refused": refused, "opened": opened, "wrong": wrong, "memory": memory, "messages": len(messages)}


def fuzz_beside(path, count):
    """`fuzz` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, str(path), str(count)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


# ---------------------------------------------------------------- tests


def test_round_trip(model, path):
    """What is loaded puts out the same values, answers the same and says the same of itself."""
    opened = load(path)
    values = model.input.golden(5, 1)
    assert (opened.values(values) == model.values(values)).all()
    assert opened.predict(PICTURE) == model.predict(PICTURE)
    assert (opened.task, opened.input, opened.output, opened.network.describe()) == (
        model.task, model.input, model.output, model.network.describe())  # fmt: skip
    assert opened.card == json.loads(json.dumps(model.card))


def test_same_bytes(model, path, tmp_path):
    """A model saved twice, and one that was loaded and saved again, are the same file."""
    first = model.save(tmp_path / "a.lamina").read_bytes()
    assert first == model.save(tmp_path / "b.lamina").read_bytes() == path.read_bytes()
    assert first == load(path).save(tmp_path / "c.lamina").read_bytes()


def test_strange_labels(model, tmp_path):
    """Labels in any script, and from folder names that are not UTF-8, survive."""
    labels = tuple(sorted(('"quoted"\n', "b\udcff\udc80")))
    strange = dataclasses.replace(model, output=dataclasses.replace(model.output, labels=labels))
    assert load(strange.save(tmp_path / "strange.lamina")).output.labels == labels


def test_only_json_and_safetensors(path):
    """Four members, stored plainly; two are JSON, two are safetensors; nothing is a pickle."""
    with zipfile.ZipFile(path) as archive:
        assert [info.filename for info in archive.infolist()] == list(NAMES.values())
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    parts = members(path)
    for short in ("manifest", "model"):
        assert isinstance(json.loads(parts[short]), dict)
    for short in ("weights", "golden"):
        header, data = unpacked(parts[short])
        assert max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__") == len(data)
    assert not any(content.startswith(b"\x80") for content in parts.values())


def test_source_never_unpickles():
    """No line of the package loads a pickle or evaluates text; others' packaged weights are read as tensors only."""
    loads = r"torch\.(load|save)\((?!.*weights_only=True)|\bimport (pickle|dill|marshal|shelve|joblib)\b|allow_pickle=True"
    dangerous = re.compile(loads + r"|(?<![\w.])(eval|exec)\(")
    for file in Path(lamina.__file__).parent.rglob("*.py"):
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
            assert not dangerous.search(line), f"{file}:{number}: {line}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model: unknown kind of layer", 'Did you mean "convolution"?'),
        ("model: unknown kind of input", 'Did you mean "image"?'),
        ("model: unknown kind of output", 'Did you mean "classes"?'),
        ("manifest: future format", "Update"),
        ("manifest: another SHA-256", "SHA-256"),
        ("zip: member more", "run.pkl"),
        ("zip: bomb of 1 GB", "stored plainly"),
        ("model: signals of 2 GB", "signals"),
        ("model: golden count 10**9", "1 to 64"),
        ("model: a label too many", "one per label"),
        ("weights: whole numbers for floats", "layers.head.weights.weight"),
        ("golden: one value otherwise", "golden"),
    ],
)
def test_what_is_said(name, said, path, tmp_path):
    """The sentence names what is wrong."""
    broken = tmp_path / "broken.lamina"
    broken.write_bytes(MUTATIONS[name](path, np.random.default_rng(0)))
    with pytest.raises(ModelFileError, match=re.escape(said)):
        load(broken)


def test_no_file(path):
    """A missing file is told with the near miss; a folder is no model."""
    with pytest.raises(ModelFileError, match="Did you mean"):
        load(path.with_name("tinny.lamina"))
    with pytest.raises(ModelFileError):
        load(path.parent)


def check(found, count):
    """All mutated files were tried, none did harm, and memory stayed small."""
    assert sum(found["refused"].values()) + sum(found["opened"].values()) + len(found["wrong"]) >= count
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["memory"] < MOST_MEMORY


def test_mutations(path):
    """Every kind of mutation once: a ModelFileError, or a file that answers as before; nothing else, and no memory."""
    found = fuzz_beside(path, len(ROUND))
    check(found, len(ROUND))
    assert found["messages"] > 40, "mutations stop at the same check"


@pytest.mark.soak
def test_mutations_at_length(path):
    """2,000 mutated files; prints the counts per kind."""
    found = fuzz_beside(path, WHOLE)
    for name in MUTATIONS:
        print(f"{name:60} {found['refused'].get(name, 0):4} refused {found['opened'].get(name, 0):4} opened")
    print(f"memory above the start: {found['memory'] / 1e6:.0f} MB")
    check(found, WHOLE)


if __name__ == "__main__":
    print(json.dumps(fuzz(Path(sys.argv[1]), int(sys.argv[2]))))

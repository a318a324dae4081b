"""Model: what training returns and a .lamina file holds. Opening one never runs code.

NAME.lamina     zip, stored, not compressed
  manifest.json       format version, SHA-256 and size of the others
  model.json          task, input, expanded layer list, output, card
  weights.safetensors
  golden.safetensors  fp32 values that the network put out for samples which the input generates from a seed
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Batch, Feed
from lamina.data.examples import Examples
from lamina.data.files import write_bytes
from lamina.data.raw import FileRaw, Raw
from lamina.data.read import read_examples
from lamina.data.split import Split
from lamina.errors import DataError, LaminaError, ModelFileError, UsageError, did_you_mean, sentence
from lamina.inputs import Input, TextInput, build_input
from lamina.layers import Context
from lamina.networks import Network, build_network
from lamina.outputs import NextOutput, Output, build_output
from lamina.screen import Screen
from lamina.settings import Sampling, Settings, make_settings
from lamina.task import Score
from lamina.training.device import bf16_is_native, keep_memory
from lamina.training.inference import BATCH, Values, each_batch, join_values, run_in_order

if TYPE_CHECKING:
    from lamina.classical.verdict import Against, Verdict
    from lamina.generation import Piece
    from lamina.people import Decision, Enrollment, People
    from lamina.task import Task

FORMAT = 1
OUTLIERS = 200
MEMBERS = ("manifest.json", "model.json", "weights.safetensors", "golden.safetensors")
MAX_JSON = 64_000_000
MAX_HEADER = 32_000_000
MAX_SIGNALS = 1_000_000_000
"""Bytes of all signals of one golden sample together; more is refused before anything is allocated."""
TENSOR_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
GOLDEN_COUNT = 4
GOLDEN_SEED = 20_240_229
GOLDEN_DIFFERENCE = 1e-3
MALFORMED = (
    zipfile.BadZipFile,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    RuntimeError,
    EOFError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    MemoryError,
    StopIteration,
)
"""Everything that a damaged or hostile file makes the readers raise."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one value."""

    file: str
    label: str | None
    """None: none of these, or an error."""
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    unknown: bool = False
    error: str | None = None
    words: tuple[Any, ...] = ()
    """Of speech: each word with its seconds and how sure."""
    low: float | None = None
    high: float | None = None
    """Of numbers: the interval that holds nine in ten."""

    @classmethod
    def of(cls, file: str, answer: Any) -> Prediction:
        """From what the output made of a value."""
        more = {name: getattr(answer, name) for name in ("words", "low", "high") if hasattr(answer, name)}
        return cls(file, answer.label, answer.probability, answer.top, answer.unknown, **more)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    score: Score
    unreadable: int
    """Files named on the screen and left out."""
    unknown: int
    """Answers "none of these"; the score counts their best label."""
    against: Against | None = None
    """The paired comparison with another system's answers."""


WINDOWS = 8
"""Windows of a long value that are computed at once."""


class Material(NamedTuple):
    """The examples of a training as its own input reads them, their split and their names."""

    feed: Feed
    split: Split
    names: Sequence[str]


@dataclass
class Model:
    task: str
    input: Input
    network: Network
    output: Output
    card: dict[str, Any] = field(default_factory=dict)
    """Facts of the training: score, classes, examples, excluded, seconds, data, plan, settings, run, versions."""
    precision: str = "fp32"
    """Number format of the answers: bf16 where training proved it right and an answer does not depend on its neighbors in it.
    A machine that cannot compute in bf16 opens the model as fp32; the answers are the same but for rounding."""
    material: Material | None = field(default=None, repr=False, compare=False)
    """What it learned from, as long as the process of its training lives: a loaded model reads it again."""
    path: str = field(default="", repr=False, compare=False)
    """Its file, once it was saved or loaded."""

    @property
    def verdict(self) -> Verdict | None:
        """Deep against classical and trivial on this data; None when training was asked for none."""
        from lamina.classical.verdict import Verdict

        state = self.card.get("verdict")
        return Verdict.from_state(state) if state else None

    # ------------------------------------------------------------ looking inside (lamina.inside)

    def layers(self, item: Any = None, *, data: Any = None) -> dict[str, Any]:
        """What each layer is, sees and knows, as layers.json has it; with an `item`, why the answer to it."""
        from lamina.inside import layers, why_this_answer

        return layers(self, data) if item is None else why_this_answer(self, item, data)

    def unit(self, layer: str, number: int, item: Any) -> dict[str, Any]:
        """One artificial neuron for one value."""
        from lamina.inside import unit

        return unit(self, layer, number, item)

    def step(self, *, data: Any = None) -> dict[str, Any]:
        """One training step of a copy, opened."""
        from lamina.inside import step

        return step(self, data)

    def film(self, out: str | os.PathLike = "", *, data: Any = None) -> Path:
        """The training as a film, .webp or .mp4; returns the file."""
        from lamina.inside import film

        return film(self, out, data)

    def doctor(self, *, data: Any = None) -> dict[str, Any]:
        """What may be wrong with the training: {found: [{name, evidence, remedy}], looked}."""
        from lamina.inside import doctor

        return doctor(self, data)

    # ------------------------------------------------------------ people (lamina.people)

    def people(self, store: str | os.PathLike = "", key: str | os.PathLike = "", create: bool = True) -> People:
        """Those who are enrolled: .enroll(name, files), .verify(name, file), .identify(file), .listed(), .revoke(name). Without `create`
        the store must be there."""
        from lamina.people import People

        return People(self, store, key, create)

    def enroll(self, name: str, files: Sequence[Any], false_accept: float | None = None) -> Enrollment:
        """Take in examples of one person, into the store beside the model's file."""
        return self.people().enroll(name, files, false_accept)

    def verify(self, name: str, file: Any, false_accept: float | None = None) -> Decision:
        """Is this that person?"""
        return self.people().verify(name, file, false_accept)

    def identify(self, file: Any, false_accept: float | None = None) -> Decision:
        """Who of those enrolled is it, if anybody?"""
        return self.people().identify(file, false_accept)

    def revoke(self, name: str) -> None:
        """Forget a person: no byte of the template stays in the store."""
        self.people().revoke(name)

    # ------------------------------------------------------------ texts (lamina.generation)

    def generate(self, prompt: str | Sequence[str] = "", **sampling: Any) -> Any:
        """How a text goes on, without the prompt: one text, or a list for a list of prompts. `sampling` are the fields of Sampling."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        made = [""] * len(prompts)
        for piece in self.stream(prompts, **sampling):
            made[piece.row] += piece.text
        return made[0] if isinstance(prompt, str) else made

    def tokens_of(self, text: str) -> int:
        """How many tokens a text has."""
        self._speaks()
        assert isinstance(self.input, TextInput)
        return len(self.input.ids(text))

    def stream(self, prompts: Sequence[str], **sampling: Any) -> Iterator[Piece]:
        """The next piece of each text, as they are made."""
        from lamina.generation import generate

        self._speaks()
        return generate(self, prompts, Sampling(**sampling))

    def chat(self, turns: Sequence[tuple[str, str]], **sampling: Any) -> Iterator[Piece]:
        """What the assistant says after these turns of (role, text), piece by piece."""
        from lamina.generation import reply

        self._speaks()
        return reply(self, turns, Sampling(**sampling))

    def recommend(self, items: Sequence[str] | str | None = None, **asked: Any) -> list[Any]:
        """What somebody may choose next who chose `items`; see lamina.recommending.recommend for what else can be asked."""
        from lamina.recommending import recommend

        return recommend(self, items=items, **asked)

    def _speaks(self) -> None:
        if not isinstance(self.output, NextOutput):
            raise UsageError(
                sentence("The model", "be one that learned what comes next", f"a model that does {self.task}", "Use `lamina predict`.")
            )

    # ------------------------------------------------------------ answers

    def predict(self, source: Any) -> Any:
        """Answers for a file, a folder, a glob, bytes, an array [H, W] or [H, W, C], a Pillow image, a pair (rate, samples), or a list;
        where the model learned from a table: for a table's path, a folder or glob of tables, a data frame, a dict, a list of dicts, or
        numbers [n, columns]. A model of people has no answer to one value alone: `verify` and `identify` compare.

        One value gives one Prediction; a folder, a glob, a list or an array of several pictures gives a list. A file that
        cannot be read gives a Prediction with `error`. Raises DataError when nothing matches.
        """
        if instead := self.find_task().instead:
            raise UsageError(sentence("The model", "answer one value alone", f"a model that does {self.task}", instead))
        if (rows := self.input.rows(source)) is not None:
            found = self._predict_all([name for name, _ in rows], [raw for _, raw in rows])
            alone = isinstance(source, dict) or (isinstance(source, np.ndarray) and source.ndim == 1)
            alone = alone or (isinstance(source, str) and rows[0][1] == source)
            return found[0] if alone else found
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            if os.path.isfile(path):
                return self._predict_all([path], [FileRaw(path)])[0]
            files = self._find(path)
            return self._predict_all(files, [FileRaw(file) for file in files])
        if isinstance(source, np.ndarray) and (
            source.ndim == 4 or (source.ndim == 3 and not {1, 3, 4} & {source.shape[0], source.shape[2]})
        ):
            source = list(source)
        wave = isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], (int, np.integer))  # (rate, samples)
        if isinstance(source, (list, tuple)) and not wave:
            names = [os.fspath(value) if isinstance(value, (str, os.PathLike)) else f"item {i}" for i, value in enumerate(source)]
            raws = [FileRaw(name) if isinstance(value, (str, os.PathLike)) else value for name, value in zip(names, source, strict=True)]
            return self._predict_all(names, raws)
        return self._predict_all([f"({type(source).__name__})"], [source])[0]

    def evaluate(self, data: Any, **settings: Any) -> Score:
        """The score on labeled data, exactly as predict answers; of the test part when parts are given. Raises DataError."""
        return self.evaluate_data(data, make_settings(settings), Screen(quiet=True)).score

    def evaluate_data(self, data: Any, settings: Settings, screen: Screen, against: str = "") -> Evaluation:
        """The score with what belongs to it; `against` is a table of another system's answers to the same examples. Raises DataError."""
        return self.find_task().evaluate(self, data, settings, screen, against)

    def find_task(self) -> Task:
        from lamina.tasks import find_task

        return find_task(self.task)

    def answers_to(self, examples: Examples, screen: Screen) -> tuple[list[Any], list[Any], list[str]]:
        """(what the output makes of each example, its true answer, its name); what cannot be read is told and left out."""
        answers, truths, names = [], [], []
        for name, truth, (answer, error) in zip(examples.names, examples.answers, self._answered(examples.raws), strict=True):
            if error is None:
                answers.append(answer)
                truths.append(truth)
                names.append(name)
            else:
                screen.warn(f"{name}: {error}")
        if not answers:
            raise DataError(sentence(f"The data {examples.source}", "hold at least one readable example", 0))
        return answers, truths, names

    def test_examples(self, data: Any, settings: Settings, screen: Screen) -> Examples:
        """The labeled examples to score: the test part of `data`, where parts are given."""
        return self.tested_only(read_examples(data, settings, [self.input], least_labels=1), data, screen)

    def tested_only(self, examples: Examples, data: Any, screen: Screen) -> Examples:
        """Their test part, where parts are given; all of them else."""
        test = [index for index, part in enumerate(examples.parts) if part == "test"]
        if test:
            screen.say(f"Only the test part is scored: {len(test)} of {len(examples)} examples.")
        elif isinstance(data, (str, os.PathLike)) and self.learned_from(os.fspath(data)):
            screen.warn("These are the data that the model learned from: the score flatters it. The honest one stands in `lamina show`.")
        return examples.take(test) if test else examples

    def learned_from(self, source: str) -> bool:
        """Whether these are the data of its own training."""
        known = self.card.get("data", {})
        return source == known.get("source") or os.path.realpath(source) == os.path.realpath(known.get("path", ""))

    def _find(self, pattern: str) -> list[str]:
        """The files of the model's sense in a folder (recursively), or those that a glob matches."""
        if os.path.isdir(pattern):
            found = sorted(
                os.path.join(folder, name) for folder, _, names in os.walk(pattern) for name in names if not name.startswith(".")
            )
            found = [file for file in found if Path(file).suffix.lower() in self.input.suffixes]
        else:
            found = sorted(file for file in glob.glob(pattern, recursive=True) if os.path.isfile(file))
        if not found:
            folder = os.path.dirname(pattern) or "."
            near = did_you_mean(os.path.basename(pattern), os.listdir(folder)) if os.path.isdir(folder) else ""
            raise DataError(
                sentence(f"The files {pattern}", f"name a file, or a folder or glob with {self.input.plural}", "nothing there", near)
            )
        return found

    def _predict_all(self, names: Sequence[str], raws: Sequence[Raw]) -> list[Prediction]:
        return [
            Prediction(name, None, None, error=error) if error is not None else Prediction.of(name, answer)
            for name, (answer, error) in zip(names, self._answered(raws), strict=True)
        ]

    def _answered(self, raws: Sequence[Raw]) -> Iterator[tuple[Any, str | None]]:
        """(what the output makes of each, None), or (None, why it cannot be read)."""
        for start in range(0, len(raws), BATCH):
            values, errors = self.read_some(raws[start : start + BATCH])
            answers = iter(self.answers_of(values))
            yield from ((next(answers), None) if error is None else (None, error) for error in errors)

    def answers_of(self, values: Sequence[np.ndarray]) -> Iterator[Any]:
        """What the output makes of values that `input.read` made, in their order; what is too long for one look is put together from
        windows."""
        windows = [self.input.windows(value) for value in values]
        short = [value for value, its in zip(values, windows, strict=True) if len(its) == 1]
        parts = each_batch(self.network, self.input, self.output, self._batches(short), self.precision)
        answers = iter([answer for part in parts for answer in self.output.decode(part.values, part.context)])
        for its in windows:
            if len(its) == 1:
                yield next(answers)
                continue
            steps = []
            some = (self.batch_of(its[first : first + WINDOWS]) for first in range(0, len(its), WINDOWS))
            for found in each_batch(self.network, self.input, self.output, some, self.precision):
                lengths = [found.values.shape[1]] * len(found) if found.context.lengths is None else found.context.lengths.tolist()
                steps += [row[:length] for row, length in zip(found.values, lengths, strict=True)]
            yield self.output.decode(self.output.joined(steps, self.input.overlap)[None], Context())[0]

    def read_some(self, raws: Sequence[Raw]) -> tuple[list[np.ndarray], list[str | None]]:
        """(those that can be read, why not or None for each)."""
        values: list[np.ndarray] = []
        errors: list[str | None] = []
        for raw in raws:
            try:
                values.append(self.input.read(raw))
                errors.append(None)
            except DataError as error:
                errors.append(str(error))
        return values, errors

    def _batches(self, values: Sequence[np.ndarray]) -> Iterator[Batch]:
        for start in range(0, len(values), BATCH):
            yield self.batch_of(values[start : start + BATCH])

    def batch_of(self, values: Sequence[np.ndarray], targets: Sequence[Any] | None = None) -> Batch:
        """Read values as a batch where the network is, with what is asked for of each."""
        x, context = self.input.collate(values)
        device = next(iter(self.network.state_dict().values())).device
        target = torch.zeros(len(x)) if targets is None else self.output.collate(targets).to(device)
        return Batch(x.to(device), context.to(device), target, np.arange(len(x)))

    def values(self, read_values: Sequence[np.ndarray]) -> Tensor:
        """What the answering layer puts out for values that `input.read` or `input.golden` made."""
        return run_in_order(self.network, self.input, self.output, self._batches(read_values), self.precision).values

    def golden(self, count: int, seed: int) -> Values:
        """What it puts out in fp32 for generated samples, one at a time: little memory, and no padding but between the answers."""
        samples = self.input.golden(count, seed)
        return join_values([run_in_order(self.network, self.input, self.output, self._batches([sample])) for sample in samples])

    # ------------------------------------------------------------ the file

    def save(self, path: str | os.PathLike) -> Path:
        """Write the .lamina file, whole or not at all. Raises ResourceError."""
        from safetensors.torch import save

        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        golden = self.golden(GOLDEN_COUNT, GOLDEN_SEED).values
        contents = {
            "model.json": json.dumps(self._description(), ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace"),
            "weights.safetensors": save(weights),
            "golden.safetensors": save({"values": golden.contiguous()}),
        }
        digests = {name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in contents.items()}
        manifest = json.dumps({"format": FORMAT, "made_by": "lamina", "members": digests}, indent=1).encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in {"manifest.json": manifest, **contents}.items():
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)  # a fixed date: same model, same bytes
        write_bytes(Path(path), buffer.getbuffer())
        self.path = os.fspath(path)
        return Path(path)

    def _description(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "input": {"kind": self.input.kind, "state": self.input.state()},
            "layers": self.network.describe(),
            "output": {"kind": self.output.kind, "state": self.output.state()},
            "golden": {"seed": GOLDEN_SEED, "count": GOLDEN_COUNT},
            "precision": self.precision,
            "card": self.card,
        }


def calibrated(network: Network, feed: Feed, held_out: Values | None, precision: str, same_network: bool = True) -> Output:
    """The output, calibrated on held-out values and checked on generated outliers."""
    if held_out is None:
        return feed.output
    strange = feed.input.outliers(OUTLIERS, seed=1)
    model = Model("", feed.input, network, feed.output, precision=precision)
    return feed.output.calibrate(held_out.values, held_out.targets, model.values(strange) if strange else None, same_network)


def load(path: str | os.PathLike) -> Model:
    """Open a .lamina file. Every failure is a ModelFileError; nothing in the file is executed, and sizes are checked before allocation."""
    if not os.path.isfile(path):
        folder = os.path.dirname(os.path.abspath(path))
        near = did_you_mean(os.path.basename(path), os.listdir(folder)) if os.path.isdir(folder) else ""
        raise ModelFileError(
            sentence(f"The model {os.fspath(path)}", "be a .lamina file", "nothing there", near or "`lamina train DATA` makes one.")
        )
    keep_memory()
    try:
        contents = _read_members(os.fspath(path))
        description = json.loads(contents["model.json"])
        model = _build(description, contents["weights.safetensors"])
        _compare_golden(model, description["golden"], contents["golden.safetensors"])
        model.path = os.fspath(path)
        return model
    except LaminaError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"The model {os.fspath(path)} is damaged. {error}") from error
    except MALFORMED as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelFileError(
            sentence(f"The model {os.fspath(path)}", "be a whole .lamina file", told, "Copy it again, or train anew.")
        ) from error


def _read_members(path: str) -> dict[str, bytes]:
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if sorted(info.filename for info in infos) != sorted(MEMBERS):
            raise ModelFileError(
                sentence(f"The members of {path}", "be " + ", ".join(MEMBERS), ", ".join(info.filename for info in infos)[:200])
            )
        for info in infos:
            if (
                info.compress_type != zipfile.ZIP_STORED
                or info.file_size != info.compress_size
                or info.file_size > size
                or info.flag_bits & 1
            ):
                raise ModelFileError(
                    sentence(f"{info.filename} of {path}", "be stored plainly, no larger than the file", f"{info.file_size} bytes")
                )
            if info.filename.endswith(".json") and info.file_size > MAX_JSON:
                raise ModelFileError(sentence(f"{info.filename} of {path}", f"be at most {MAX_JSON} bytes", info.file_size))
        if sum(info.file_size for info in infos) > size:
            raise ModelFileError(sentence(f"The members of {path}", "not overlap", f"{size} bytes"))
        contents = {info.filename: archive.read(info) for info in infos}
    manifest = json.loads(contents["manifest.json"])
    if not isinstance(manifest.get("format"), int) or not 1 <= manifest["format"] <= FORMAT:
        raise ModelFileError(
            sentence(f"The format of {path}", f"be 1 to {FORMAT}", manifest.get("format"), "Update: pip install -U lamina")
        )
    for name in MEMBERS[1:]:
        named, content = manifest["members"][name], contents[name]
        if named["size"] != len(content) or named["sha256"] != hashlib.sha256(content).hexdigest():
            raise ModelFileError(
                sentence(f"{name} of {path}", "have the SHA-256 and size of the manifest", "another content", "Copy the file again.")
            )
    return contents


def _build(description: dict[str, Any], weights: bytes) -> Model:
    """The model, its shapes compared on the meta device (which allocates nothing) before the weights are read."""
    import lamina.tasks  # noqa: F401  (registers the kinds of all tasks)

    input = build_input(description["input"]["kind"], description["input"]["state"])
    output = build_output(description["output"]["kind"], description["output"]["state"])
    with torch.device("meta"):
        network = build_network(description["layers"])
    expected = {name: (tuple(value.shape), value.dtype) for name, value in network.state_dict().items()}
    _check_header(weights, expected)
    _check_signals(input, network)
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        tensors = {name: value.clone() for name, value in load_tensors(weights).items()}
    except SafetensorError as error:
        raise ModelFileError(sentence("The weights of the model", "be a whole safetensors file", str(error))) from error
    network.load_state_dict(tensors, strict=True, assign=True)
    if output.reads != network.head.name and output.reads not in network.layers:
        raise ModelFileError(sentence("The layer that answers come from", "be one of the network's", output.reads))
    card, task = description.get("card"), description.get("task")
    if not isinstance(card, dict) or not isinstance(task, str):
        raise ModelFileError(sentence("The card of the model", "be a JSON object beside the task's name", type(card).__name__))
    if card:
        _check_card(card)
    precision = description.get("precision", "fp32")
    if precision not in ("fp32", "bf16"):
        raise ModelFileError(sentence("The precision of the model", "be fp32 or bf16", precision))
    return Model(task, input, network.eval(), output, card, precision if bf16_is_native() else "fp32")


def _check_card(card: dict[str, Any]) -> None:
    """What `lamina show`, `evaluate` and `resume` read of a card is there, and of its type."""
    score, versions, data = Score(**card["score"]), card["versions"], card["data"]
    texts = (score.name, card["model"], card["run"], data["source"], data["path"], versions["lamina"], versions["torch"], *card["classes"])
    numbers = (score.value, score.low, score.high, score.n, card["excluded"], card["seconds"], *card["examples"].values())
    good = all(isinstance(text, str) for text in texts) and all(isinstance(number, (int, float)) for number in numbers)
    if card.get("verdict") is not None:
        from lamina.classical.verdict import Verdict

        told = Verdict.from_state(card["verdict"])
        measured = [
            (each.seconds, each.milliseconds, each.size, each.training_flops, each.score.value, each.score.n) for each in told.contenders
        ]
        good = good and isinstance(told.sentence, str) and all(isinstance(v, (int, float)) for each in measured for v in each)
    if not (good and isinstance(card["facts"], dict) and isinstance(card["cross_fitted"], bool)):
        raise ModelFileError(sentence("The card of the model", "hold the facts of a training", card))


def _check_header(weights: bytes, expected: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
    """The safetensors header names exactly the network's tensors, with their shapes, inside the bytes that are there."""
    length = int.from_bytes(weights[:8], "little")
    if len(weights) < 8 or length > min(MAX_HEADER, len(weights) - 8):
        raise ModelFileError(sentence("The header of the weights", f"be at most {MAX_HEADER} bytes and inside the file", length))
    header = json.loads(weights[8 : 8 + length])
    header.pop("__metadata__", None)
    if set(header) != set(expected):
        odd = sorted(set(header) ^ set(expected))[:3]
        raise ModelFileError(
            sentence("The tensors of the weights", "be those of the layer list", ", ".join(map(str, odd)) + " in one of them only")
        )
    for name, (shape, dtype) in expected.items():
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        begin, end = header[name]["data_offsets"]
        if tuple(header[name]["shape"]) != shape or end - begin != size or not 0 <= begin <= end <= len(weights) - 8 - length:
            raise ModelFileError(sentence(f"The tensor {name}", f"have shape {list(shape)}", header[name].get("shape")))
        if header[name]["dtype"] != TENSOR_TYPES[dtype]:
            raise ModelFileError(sentence(f"The tensor {name}", f"be of type {TENSOR_TYPES[dtype]}", header[name]["dtype"]))


def _check_signals(input: Input, network: Network) -> None:
    """Walk the golden pass on the meta device and refuse a network whose signals would not fit into memory."""
    x, context = input.collate(input.golden(1, GOLDEN_SEED))
    total = 0
    with torch.device("meta"):
        for name, signals, _ in network.eval().walk(x.to("meta"), context.to(torch.device("meta"))):
            total += signals.numel() * signals.element_size()
            if total > MAX_SIGNALS:
                raise ModelFileError(
                    sentence(f"The signals up to layer {name}", f"need at most {MAX_SIGNALS / 1e9:.0f} GB", f"{total / 1e9:.1f} GB")
                )


def _compare_golden(model: Model, golden: dict[str, Any], content: bytes) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    if not (
        isinstance(golden["count"], int) and 1 <= golden["count"] <= 64 and isinstance(golden["seed"], int) and 0 <= golden["seed"] < 2**63
    ):
        raise ModelFileError(sentence("The golden samples", "be 1 to 64 from a seed", golden))
    try:
        wanted = load_tensors(content)["values"]
    except SafetensorError as error:
        raise ModelFileError(sentence("The golden values", "be a whole safetensors file", str(error))) from error
    if len(wanted) != golden["count"]:
        raise ModelFileError(sentence("The golden values", f"be those of {golden['count']} samples", len(wanted)))
    found = model.golden(golden["count"], golden["seed"])
    model.output.decode(found.values, found.context)  # raises when the output does not fit the network
    got = found.values
    whole = got.shape == wanted.shape and bool(torch.isfinite(wanted).all())
    largest = float((got - wanted).abs().max()) if whole else float("inf")
    if not (whole and largest <= GOLDEN_DIFFERENCE * max(1.0, float(wanted.abs().max()))):
        raise ModelFileError(
            sentence(
                "The answers to the golden samples",
                f"equal those at saving within {GOLDEN_DIFFERENCE} (of the largest, when that is above 1)",
                f"a difference of {largest:.3g}",
                "This machine computes otherwise, or the file was changed.",
            )
        )

"""Every knob of a training, once: flags, help, documents and the model's card are made from this dataclass."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import os
import types
import typing
from dataclasses import dataclass
from typing import Any

from lamina.errors import UsageError, did_you_mean, sentence


@dataclass(frozen=True)
class Settings:
    task: str = "auto"
    """What to learn: auto, recognize (what is this?), number (how much is it?), verify (is this the same person?), transcribe (what was
    said?), recommend (what would they choose next?) or language (what comes next?)."""
    minutes: float | None = None
    """Time for the whole command, in minutes; may be a fraction."""
    epochs: float | None = None
    """How often each training example is seen; instead of --minutes."""
    seed: int = 0
    """Start of every random number. Same plan, seed, machine and threads: same bits."""
    threads: int = 0
    """CPU threads for the arithmetic; 0 = all cores that this process may use."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or mps."""
    precision: str = "auto"
    """Number format of training: auto (a self-test decides), fp32 or bf16."""
    batch: int = 0
    """Examples per optimizer step; 0 = from the data."""
    micro_batch: int = 0
    """Examples computed at once; 0 = the whole batch. Smaller needs less memory."""
    side: int = 0
    """Side in pixels to which pictures are resized; 0 = from the data."""
    width: int = 0
    """Channels of the network's first stage; 0 = from the examples and the time."""
    views: bool = False
    """Answer from several shifted (and mirrored) copies of each picture: slower, a little better."""
    balance: float = 0.0
    """How much rare classes count in training: 0 = as often as they occur, 1 = each class alike."""
    start_from: str = ""
    """Layers to begin with: a .lamina or .onnx file, a folder with safetensors, efficientnet-lite0 or nothing; empty = by the data."""
    low_rank: int = 0
    """With --start-from a language model: learn only so many directions beside each matrix (LoRA); 0 = all, or 16 where memory is short."""
    seeds: int = 1
    """Networks to train from different seeds, so that the verdict's interval holds chance in training, too; --minutes are for all."""
    verdict_share: float = 0.2
    """Share of the time, at most, for the opponents of the verdict; training gets what they leave; 0 = no verdict."""
    use: str = "deep"
    """Which model is saved: deep, classical, borrowed or best (by the validation part; where examples are cross-fitted, by that score)."""
    margin: float = 0.5
    """The verdict's margin, in points of accuracy: smaller differences count as none."""
    path_column: str = ""
    """Table only: the column with the file of each example; empty = found by its name."""
    label_column: str = ""
    """Table only: the column with the label of each example; empty = found by its name."""
    unit: str = ""
    """Numbers: what they are counted in, such as years or USD."""
    text_column: str = ""
    """Table only: the column with the text of each example; empty = found by its name or its content."""
    user: str = ""
    """Choices: the column that says who chose; empty = found by its name."""
    item: str = ""
    """Choices: the column that says what was chosen; empty = found by its name."""
    time: str = ""
    """Choices: the column that says when; empty = found by its name; without one the order of the table counts."""
    rating: str = ""
    """Choices: the column of ratings; empty = found by its name. Every row is a choice, whatever its rating, without --least-rating."""
    least_rating: float | None = None
    """Choices: only rows with at least this rating count as choices."""
    titles: str = ""
    """Choices: a table with the title (and what else is known) of each item."""
    last_out: bool = False
    """Choices: hold out the last choice of each user (leave-one-out), to compare with papers, instead of the latest stretch of time."""
    tokens: str = "auto"
    """Texts: what one token is: auto (from the data), characters, bytes, or how many pieces of text are learned, such as 4096."""
    context: int = 0
    """Texts: tokens that the network sees at once; 0 = from the task."""
    labels: str = ""
    """A table of corrected labels (file, label), such as suspects.csv: they replace those of the data."""
    group: str = ""
    """What never straddles the split: a column, or a pattern on names with one (group), such as '(.*)_[0-9]+'."""
    told_by: str = ""
    """Table only: a column of groups (such as sex or age) for which the score is told apart, too."""
    split: str = ""
    """A split.json of an earlier run: its parts are kept, only new examples are placed."""
    max_bad: float | None = None
    """Largest share of unusable files (0-1) before stopping; unset = the larger of 1 % and 10 files."""
    max_pixels: int = 100_000_000
    """Pictures with more pixels than this are excluded as over-large, before they are decoded."""
    samples_from: str = ""
    """A folder with the files of the named samples, for `sample:NAME`."""
    cache: str = ""
    """Folder for decoded data; empty = lamina/ in the user's cache folder."""
    tensorboard: bool = False
    """Also write losses and scores for TensorBoard, into the run folder."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name))
        _check(self.minutes is None or 0 < self.minutes <= 100_000, "minutes", "be above 0", self.minutes)
        _check(self.epochs is None or 0 < self.epochs <= 1_000_000, "epochs", "be above 0", self.epochs)
        _check(self.minutes is None or self.epochs is None, "minutes", "stand alone: give --minutes or --epochs, not both", "both")
        _check(0 <= self.seed < 2**31, "seed", "be between 0 and 2147483647", self.seed)
        _check(1 <= self.seeds <= 20, "seeds", "be between 1 and 20", self.seeds)
        _check(0 <= self.threads <= 1024, "threads", "be between 0 (all) and 1024", self.threads)
        most = {"batch": 1 << 20, "micro_batch": 1 << 20, "side": 1024, "width": 1024, "low_rank": 1024, "context": 1 << 17}
        for name, high in most.items():
            _check(0 <= getattr(self, name) <= high, name, f"be between 0 (from the data) and {high}", getattr(self, name))
        known = self.tokens in ("auto", "characters", "bytes") or _is_count(self.tokens)
        _check(known, "tokens", "be auto, characters, bytes, or a number from 257 to 262144", self.tokens)
        _check(self.side == 0 or self.side >= 8, "side", "be 0 (from the data) or at least 8 pixels", self.side)
        _check(0 <= self.balance <= 1, "balance", "be between 0 and 1", self.balance)
        _check(0 <= self.verdict_share <= 0.9, "verdict_share", "be between 0 (no verdict) and 0.9", self.verdict_share)
        _check(self.use == "deep" or self.verdict_share > 0, "use", "be deep where --verdict-share is 0", self.use)
        _check(0 < self.margin <= 50, "margin", "be above 0 and at most 50 points", self.margin)
        _check(self.max_bad is None or 0 <= self.max_bad <= 1, "max_bad", "be between 0 and 1", self.max_bad)
        _check(
            64 <= self.max_pixels <= 178_000_000, "max_pixels", "be between 64 and 178000000 (more the decoder refuses)", self.max_pixels
        )
        for name, allowed in (
            ("device", ("auto", "cpu", "cuda", "mps")),
            ("precision", ("auto", "fp32", "bf16")),
            ("use", ("deep", "classical", "borrowed", "best")),
        ):
            value = getattr(self, name)
            _check(value in allowed, name, "be one of " + ", ".join(allowed), value, did_you_mean(value, allowed))


@dataclass(frozen=True)
class Sampling:
    """How the next token of a text is drawn. What is not likely enough by any of the limits is not drawn at all."""

    tokens: int = 200
    """At most so many tokens are made (200)."""
    temperature: float = 0.8
    """Below 1 the likely becomes more likely; 0: always the likeliest (0.8)."""
    top_k: int = 0
    """Only the so many likeliest tokens; 0 = all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751)."""
    min_p: float = 0.0
    """Only tokens with at least this share of the likeliest's probability (Nguyen et al. 2024, https://arxiv.org/abs/2407.01082)."""
    repetition_penalty: float = 1.0
    """Tokens that were there already count so many times less (Keskar et al. 2019, https://arxiv.org/abs/1909.05858)."""
    stop: tuple[str, ...] = ()
    """The text ends before this; may be given several times."""
    seed: int = 0
    """The same seed makes the same text."""

    def __post_init__(self) -> None:
        for name, low, high in (("tokens", 1, 1 << 20), ("temperature", 0, 100), ("top_k", 0, 1 << 20), ("top_p", 1e-9, 1), ("min_p", 0, 1),
                                ("repetition_penalty", 0.01, 100), ("seed", 0, 2**63 - 1)):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                allowed = f"be above 0 and at most {high}" if 0 < low < 1e-6 else f"be between {low} and {high}"
                raise UsageError(sentence(f"--{name.replace('_', '-')}", allowed, value))


@dataclass(frozen=True)
class Serving:
    """Where models are served, who may ask, and how much."""

    host: str = "127.0.0.1"
    """The address to listen at; any other than this machine's own demands a token (127.0.0.1)."""
    port: int = 8000
    """0 takes a free one (8000)."""
    token: str = ""
    """Whoever asks must show it (Authorization: Bearer …); empty = the environment's LAMINA_TOKEN, or none."""
    admin_token: str = ""
    """Whoever enrolls or revokes people must show it; empty = the environment's LAMINA_ADMIN_TOKEN, or one made at the start."""
    largest_body: float = 20.0
    """Megabytes that one request may send (20)."""
    most_pixels: int = 50_000_000
    """Pixels of one picture; larger ones are refused before they are decoded (50000000)."""
    most_seconds: float = 600.0
    """Seconds of one recording (600)."""
    most_tokens: int = 4096
    """Tokens that one request may ask for (4096)."""
    most_at_once: int = 128
    """Requests that are worked on or wait; more are told to come again (128)."""
    timeout: float = 60.0
    """Seconds after which a request that was not sent, or not answered, whole is given up (60)."""
    batch: int = 64
    """Values that are computed together when many ask at once; 1 = each alone (64)."""

    def __post_init__(self) -> None:
        limits = (
            ("port", 0, 65_535), ("largest_body", 0.001, 10_000), ("most_pixels", 1, 1 << 40), ("most_seconds", 0.01, 1e6),
            ("most_tokens", 1, 1 << 20), ("most_at_once", 1, 1 << 16), ("timeout", 0.1, 86_400), ("batch", 1, 4_096),
        )  # fmt: skip
        for name, low, high in limits:
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(sentence(f"--{name.replace('_', '-')}", f"be between {low:g} and {high:g}", value))
        for name in ("token", "admin_token"):
            if getattr(self, name) and not getattr(self, name).isascii():
                raise UsageError(sentence(f"--{name.replace('_', '-')}", "be of ASCII characters", "others"))


def _is_count(text: str) -> bool:
    return text.isdecimal() and 257 <= int(text) <= 1 << 18


def cores(settings: Settings) -> int:
    """Threads to use: --threads, or all cores that this process may use."""
    if settings.threads:
        return settings.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_settings(values: dict[str, Any]) -> Settings:
    """Settings from keyword arguments. Raises UsageError for a name that does not exist, with the near miss."""
    names = [field.name for field in dataclasses.fields(Settings)]
    for name in values:
        if name not in names:
            raise UsageError(sentence(f"Setting `{name}`", "be one of " + ", ".join(names), name, did_you_mean(name, names)))
    return Settings(**values)


@functools.cache
def descriptions(kind: type = Settings) -> dict[str, str]:
    """The line under each field of a dataclass of knobs, by field name."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, line in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(line, ast.Expr):
            found[field.target.id] = str(ast.literal_eval(line.value))
    return found


@functools.cache
def field_types(kind: type = Settings) -> dict[str, Any]:
    """The type of each field of a dataclass of knobs, by field name (`float | None` stays a union)."""
    return typing.get_type_hints(kind)


def _check_type(name: str, value: object) -> None:
    allowed = field_types()[name]
    members = typing.get_args(allowed) if isinstance(allowed, types.UnionType) else (allowed,)
    if float in members:
        members = (*members, int)
    if not isinstance(value, members) or (isinstance(value, bool) and bool not in members):
        words = " or ".join("nothing" if member is type(None) else member.__name__ for member in members)
        raise UsageError(sentence(f"`{name}` of the settings", f"be of type {words}", f"{value!r} ({type(value).__name__})"))


def _check(holds: bool, name: str, must: str, got: object, do: str = "") -> None:
    if not holds:
        raise UsageError(sentence(f"`{name}` of the settings (--{name.replace('_', '-')})", must, got, do))

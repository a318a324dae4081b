"""Texts in: files, cells and values as whole numbers, one a token; which pieces of text are tokens is learned from the training part."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lamina.data.inspection import Inspection
from lamina.data.raw import PIECE_MARK, FileRaw, PartRaw, Raw, RowRaw, Talk, ZipRaw, name_of
from lamina.data.tables import TABLE_SUFFIXES, TEXT_COLUMNS, cell, find_column, find_text_column, read_table
from lamina.errors import DataError, ModelFileError, sentence
from lamina.inputs.base import Input, unusable_by_size
from lamina.layers import Context, Layer, Tokens, ends, padded
from lamina.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXT_EXTRA = "pip install 'lamina[text]'"
SUFFIXES = (".txt", ".text", ".md", ".rst", ".log")
LARGEST_FILE = 1_000_000_000
LONGEST_LINE = 20_000
"""Characters: a longer line is warned of."""
MOST_CONTROL = 0.02
"""Share of control characters above which a file is no text."""
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"))  # fmt: skip
END, TURN, OVER = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
"""Stands before and after a text; before the role of a turn of a conversation; after what was said there (ChatML)."""
FEW_CHARACTERS, FEW_KINDS = 3_000_000, 300
"""Texts of fewer characters, of fewer different ones, are read character by character."""
LEAST_PIECES, MOST_PIECES, CHARACTERS_EACH, FEWER_CHARACTERS = 512, 8_192, 400, 100
"""Pieces of text that are learned: one for so many characters of the training part (fewer where texts are recognized: whole words tell
most), between these."""
LEARNED_FROM = 20_000_000
"""Characters that pieces are learned from, at most."""
MOST_TOKENS = 1 << 14
"""Tokens that are kept of one text that is recognized."""
USUAL_WIDTH = 64
"""Of the first layer, where a network asks for no other."""
LONGEST = 512
"""Tokens of a text that a network which recognizes texts sees."""
SHINGLE, PRINT_WORDS, COPY_ALIKE = 3, 2_000, 0.7
"""Two texts are copies when they share this much of their runs of three words (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900)."""
LEAST_SHARED = 3
"""Of eight least hashes (of runs of words): texts that share fewer are not looked at as copies."""
FACTORS = np.random.Generator(np.random.Philox(key=8)).integers(0, 2**63, 8, np.uint64) * np.uint64(2) + np.uint64(1)
MOST_REPLACES, MOST_REPLACED = 4, 8
"""Replacements that a tokenizer may make in a text, and characters that one may put in."""
SURROGATE = re.compile("[\ud800-\udfff]")
CARDS = "numbers of bank cards"
LOOKED_THROUGH, OFTEN, LEAST_OFTEN, LONG_LINE = 500, 0.2, 5, 25
"""Of so many texts a line of at least so many characters is boilerplate that stands in this share of them, and in at least so many."""
PERSONAL = (
    ("e-mail addresses", re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{0,64}\w")),
    (CARDS, re.compile(r"\b(?:\d[ -]?){13,19}\b")),
    ("telephone numbers", re.compile(r"(?<![\d.])(?<!\d[ -])(?:\+\d{1,3}[ -]?)?(?:\(\d{2,4}\)|\d{2,4})[ -]\d{3,4}[ -]\d{3,4}(?![ -]?\d)")),
)


def tokens_available() -> bool:
    """Whether texts can be cut into tokens."""
    try:
        import tokenizers
    except ImportError:
        return False
    return bool(tokenizers)


@dataclass(frozen=True)
class TextInput(Input):
    """A text as whole numbers [tokens]. Fitted: which characters, or pieces of text, are tokens.

    Characters that training never saw are read as the bytes of their UTF-8, so that no text is unreadable and none is lost.
    """

    kind: ClassVar[str] = "text"
    plural: ClassVar[str] = "texts"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    draws: ClassVar[int] = 2
    """The second says where a window begins; the first has but two values for each example."""

    tokens: str = "auto"
    """auto, characters, bytes, or how many pieces are learned."""
    tokenizer: str = ""
    """As JSON, in the form of the library tokenizers."""
    longest: int = LONGEST
    """Tokens of a text that a network sees, the middle of longer ones left out; 0 = all, for texts that are cut into windows."""
    window: int = 0
    """Tokens that a network which says what comes next sees at once; 0 = not decided."""
    places: int = 0
    """Rows of the table of tokens, where they are more than there are tokens."""
    framed: bool = False
    """Whether the tokenizer's own marks stand around each text, as sentence encoders want it."""
    marks: tuple[str, str, str] = (END, TURN, OVER)
    """What stands for END, TURN and OVER; a tokenizer of somebody else may call them otherwise, or have none."""
    talks: bool = False
    """Whether conversations were learned from."""

    # ------------------------------------------------------------ fitting and state

    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> TextInput:
        if not raws:
            raise DataError(sentence("The training part", "hold at least one usable text", 0))
        _need_tokens()
        total = sum(inspection.shape[0] for inspection in inspections)
        step = max(1, math.ceil(total / LEARNED_FROM))
        chosen = self.tokens
        if chosen == "auto":
            kinds = set().union(*(set(text_of(raw)) for raw in raws)) if total <= FEW_CHARACTERS and not self.longest else set()
            few = 0 < len(kinds) <= FEW_KINDS
            each = CHARACTERS_EACH if not self.longest else FEWER_CHARACTERS
            pieces = int(np.clip(total // each, LEAST_PIECES, MOST_PIECES)) // 64 * 64
            chosen = "characters" if few else str(pieces)
        texts = (text_of(raw) for raw in raws[::step])
        return replace(self, tokens=chosen, tokenizer=learned_tokenizer(chosen, texts))

    def decided(self) -> str:
        if not self.tokenizer:
            return ""
        named = {"characters": "single characters", "bytes": "single bytes"}.get(
            self.tokens, "pieces of text, learned from the training part"
        )
        return f"{self.count:,} different tokens: {named}"

    @property
    def count(self) -> int:
        """Different tokens."""
        return max(self.places, self.cutter.get_vocab_size())

    @property
    def cutter(self) -> Tokenizer:
        """What cuts a text into tokens and joins them again."""
        return _cutter(self.tokenizer)

    @property
    def end(self) -> int:
        """The token that stands where a text ends."""
        return self.special(0)

    def state(self) -> dict[str, Any]:
        numbers = {"longest": self.longest, "window": self.window, "places": self.places}
        kinds = {"framed": self.framed, "marks": list(self.marks), "talks": self.talks}
        return {"tokens": self.tokens, "tokenizer": self.tokenizer, **numbers, **kinds}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TextInput:
        """Raises ModelFileError when `state` is not one."""
        tokens, cutter, marks = state.get("tokens"), state.get("tokenizer"), state.get("marks", [END, TURN, OVER])
        numbers = [state.get(name, 0) for name in ("longest", "window", "places")]
        good = isinstance(tokens, str) and isinstance(cutter, str) and all(isinstance(n, int) and 0 <= n <= 1 << 21 for n in numbers)
        framed, talks = state.get("framed", False), state.get("talks", False)
        good = good and isinstance(framed, bool) and isinstance(talks, bool) and isinstance(marks, list) and len(marks) == 3
        if not (good and all(isinstance(mark, str) for mark in marks)):
            raise ModelFileError(sentence("The text input of the model", "have tokens, a tokenizer, its marks and sizes", state))
        _need_tokens()
        longest, window, places = numbers
        made = cls(str(tokens), str(cutter), longest, window, places, framed, (marks[0], marks[1], marks[2]), talks)
        try:
            good = made.cutter.token_to_id(marks[0]) is not None and tokenizer_is_tame(str(cutter))
            made.cutter.encode("a b", add_special_tokens=framed)
        except BaseException as error:  # the library raises nothing narrower for JSON that is no tokenizer, and panics of its own
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise ModelFileError(sentence("The tokenizer of the model", "be one that the library tokenizers reads", str(error))) from error
        if not good:
            raise ModelFileError(
                sentence("The tokenizer of the model", f"know the token {marks[0]}, and not make much out of little", "another")
            )
        return made

    def like(self, other: TextInput) -> TextInput:
        return replace(other, longest=other.longest if other.framed else self.longest)

    # ------------------------------------------------------------ reading

    def missing_extra(self, suffix: str) -> str:
        return "" if tokens_available() else TEXT_EXTRA

    def read(self, raw: Raw) -> np.ndarray:
        """uint16 (or int32 where there are more than 65,535 tokens) [tokens]; of a conversation int32 [2, tokens], with 1 in the second row
        where the assistant speaks. Raises DataError."""
        if isinstance(raw, Talk):
            return self.spoken(raw)
        try:
            text = text_of(raw)
        except (_NoText, OSError) as error:
            raise DataError(sentence(f"The text {name_of(raw)}", "be readable", str(error), "Save it as plain text in UTF-8.")) from error
        found = np.array(self.cutter.encode(text, add_special_tokens=self.framed).ids, np.uint16 if self.count <= 1 << 16 else np.int32)
        if self.longest and len(found) > MOST_TOKENS:  # the end of a text says as much as its beginning
            found = np.concatenate([found[: MOST_TOKENS // 2], found[len(found) - MOST_TOKENS // 2 :]])
        return found if len(found) else np.array([self.end], found.dtype)

    def spoken(self, talk: Talk, answer: bool = False) -> np.ndarray:
        """int32 [2, tokens] of a conversation; with `answer` it ends where the assistant is to begin."""
        tokens: list[int] = []
        own: list[int] = []
        for role, said in (*talk.turns, ("assistant", "")) if answer else talk.turns:
            begun = [self.special(1), *self.ids(role + "\n")]
            rest = [*self.ids(said), self.special(2)] if said else []
            tokens += begun + rest + (self.ids("\n") if said else [])
            own += [0] * len(begun) + [int(role == "assistant")] * len(rest)
            own += [0] * (len(tokens) - len(own))
        return np.array([tokens, own], np.int32)

    def special(self, number: int) -> int:
        """The token of END, TURN or OVER. Raises DataError where the tokenizer has none."""
        found = self.cutter.token_to_id(self.marks[number])
        if found is None:
            told = "Start from a model that knows conversations."
            raise DataError(sentence("The tokenizer", f"know the token {self.marks[number]}", "none", told))
        return int(found)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, nothing around them."""
        return list(self.cutter.encode(text, add_special_tokens=False).ids)

    def rows(self, source: Any) -> list[tuple[str, Raw]] | None:
        """Of a table its texts; what names no file is a text itself."""
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
                return self._cells(read_table(path.read_bytes() if path.suffix.lower() != ".parquet" else b"", path), path)
            return [(source, source)] if isinstance(source, str) and _is_text(source) else None
        if hasattr(source, "columns") and hasattr(source, "__getitem__"):
            return self._cells({str(name): list(source[name]) for name in source.columns}, "the data frame")
        if isinstance(source, (list, tuple)) and source and all(isinstance(each, str) and _is_text(each) for each in source):
            return [(f"text {number + 1}", each) for number, each in enumerate(source)]
        return None

    def _cells(self, columns: dict[str, list], where: object) -> list[tuple[str, Raw]]:
        column = find_text_column(columns, Settings(), where) or find_column(columns, "", TEXT_COLUMNS, "text", where)
        return [(f"row {row + 1}", cell(value)) for row, value in enumerate(columns[column])]

    def words(self, tokens: Iterable[int]) -> str:
        """The text of tokens; those that stand around texts are left out."""
        return str(self.cutter.decode([int(token) for token in tokens], skip_special_tokens=True))

    @functools.cached_property
    def bytes_of(self) -> np.ndarray:
        """int64 [count]: how many bytes of UTF-8 each token stands for; the end token none."""
        return np.array([len(spelled) for spelled in self.spelled], np.int64)

    @property
    def spelled(self) -> list[bytes]:
        """The bytes of UTF-8 that each token stands for; of those that stand around texts none."""
        plain = json.loads(self.tokenizer)
        special = {each["content"] for each in plain.get("added_tokens", ()) if each.get("special")}
        decoder = json.dumps(plain.get("decoder"))
        letters, words = "ByteLevel" in decoder, "WordPiece" in decoder
        names = [self.cutter.id_to_token(token) or "" for token in range(self.count)]
        if words:  # a piece that begins a word has a space before it
            names = [name[2:] if name.startswith("##") else "\u2581" + name if name not in special else name for name in names]
        return [b"" if name in special else _spelled(name, letters) for name in names]

    def inspect(self, raw: Raw) -> Inspection:
        try:
            if (found := unusable_by_size(raw, LARGEST_FILE)) is not None:
                return found
            text = text_of(raw)
        except _NoText as error:
            return Inspection(error.problem, error.detail)
        except (OSError, DataError) as error:
            return Inspection("unreadable", str(error))
        if not text.strip():
            return Inspection("empty", "nothing but spaces" if text else "no characters")
        warnings = []
        if (longest := max(map(len, text.split("\n")))) > LONGEST_LINE:
            warnings.append(("long-line", f"a line of {longest:,} characters"))
        personal = [what for what, pattern in PERSONAL if any(what != CARDS or _luhn(seen.group()) for seen in pattern.finditer(text))]
        if personal:
            warnings.append(("personal-data", f"looks as if it held {' and '.join(personal)}"))
        said = text if not isinstance(raw, Talk) else json.dumps(raw.turns)  # who says it matters
        content = hashlib.blake2b(said.encode("utf-8"), digest_size=16).hexdigest()
        return Inspection("", "", tuple(warnings), content, _fingerprint(text), (len(text),))

    def noticed(self, raws: Sequence[Raw], names: Sequence[str]) -> list[tuple[str, str, str]]:
        """Lines that stand in many of the texts, such as headers and licenses."""
        step = max(1, len(raws) // LOOKED_THROUGH)
        texts = {name.split(PIECE_MARK)[0]: set(_long_lines(text_of(raw))) for raw, name in zip(raws[::step], names[::step], strict=True)}
        counts = Counter(line for lines in texts.values() for line in lines)
        often = [(line, count) for line, count in counts.most_common(3) if count >= max(LEAST_OFTEN, OFTEN * len(texts))]
        return [(line[:60], "boilerplate", f"a line that stands in {count} of {len(texts)} texts looked at") for line, count in often]

    def near(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Texts that share some of their least hashes."""
        return (one[:, None].view(np.uint8) == other[:, None].view(np.uint8)).sum(1) >= LEAST_SHARED

    def same(self, first: Raw, second: Raw) -> bool:
        one, two = (_shingles(text_of(raw)) - {""} for raw in (first, second))
        return bool(one) and len(one & two) >= COPY_ALIKE * len(one | two)

    # ------------------------------------------------------------ batches

    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """int64 [N, steps], shorter texts padded with 0, and in the context the length of each."""
        texts = [np.asarray(item) for item in items]
        return padded(texts), Context(torch.tensor([len(text) for text in texts]))

    def augment(self, x: Tensor, context: Context, draws: Tensor, detail: float = 1.0) -> tuple[Tensor, Context]:
        """The same texts side by side in fewer rows, so that hardly a step is padding."""
        assert context.lengths is not None
        short = self.longest and x.shape[1] > self.longest
        return packed(*(ends(x, context.lengths, self.longest) if short else (x, context.lengths)))

    def layer(self, x: Tensor) -> Layer:
        return Tokens(self.count, USUAL_WIDTH)

    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        bits = np.random.Philox(key=seed)
        return [np.asarray(bits.random_raw(16 + 5 * number)).astype(np.uint64) % np.uint64(self.count) for number in range(count)]


def _is_text(value: str) -> bool:
    """Whether it is a text of several words and names no file."""
    return bool(re.search(r"\s", value)) and not os.path.exists(value) and not glob.glob(value)


class _NoText(Exception):
    """A file that is no text, with its kind of problem."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem, self.detail = problem, detail


def text_of(raw: Raw) -> str:
    """The text of a file, of bytes, of a table's row (its cells joined), of a conversation or of a value; its
    line ends are \\n, its form Unicode's NFC.

    Raises _NoText, a DataError or OSError.
    """
    if isinstance(raw, str):
        text = raw
    elif isinstance(raw, Talk):
        text = "\n".join(said for _, said in raw.turns)
    elif isinstance(raw, RowRaw):
        text = "\n".join(str(value) for value in raw.values if value is not None)
    elif isinstance(raw, (FileRaw, ZipRaw, PartRaw)):
        text = decoded(raw.read(LARGEST_FILE))
    elif isinstance(raw, bytes):
        text = decoded(raw)
    else:
        raise DataError(sentence("A text", "be a text or a file", type(raw).__name__))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if (torn := SURROGATE.search(text)) is not None:
        raise _NoText("encoding", f"character {torn.start()} is half of one (a lone surrogate)")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _long_lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if len(line.strip()) >= LONG_LINE]


def decoded(content: bytes) -> str:
    """Bytes as text: UTF-8, or what a byte-order mark says. Raises _NoText naming the encoding that it may be."""
    for mark, encoding in BOMS:
        if content.startswith(mark):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError as error:
                raise _NoText("encoding", f"begins as {encoding.upper()}, but byte {error.start} is none") from error
    if b"\0" in content[:4096] or b"\0" in content:
        raise _NoText("binary", f"it holds zero bytes and begins with {content[:12]!r}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        near = content[max(0, error.start - 12) : error.start + 12]
        guess = "Windows-1252 or Latin-1" if _western(content) else "another encoding"
        raise _NoText("encoding", f"byte {error.start} is no UTF-8 ({near!r}); it may be {guess}: save it as UTF-8") from error
    control = sum(count for char, count in Counter(text[:100_000]).items() if char < " " and char not in "\t\n\r\f\v\x1b")
    if control > MOST_CONTROL * min(len(text), 100_000):
        raise _NoText("binary", f"{control} control characters in its beginning")
    return text


def _western(content: bytes) -> bool:
    """Whether bytes above 127 stand singly between letters, as in Western European 8-bit encodings."""
    high = re.findall(rb"[\x80-\xff]+", content[:100_000])
    return bool(high) and sum(len(run) == 1 for run in high) > 0.8 * len(high)


def packed(x: Tensor, lengths: Tensor) -> tuple[Tensor, Context]:
    """Texts [N, steps] side by side in rows of so many steps, the longest first, each in the fullest row where it fits.

    In the context stand the length of each text, which text a step belongs to (1 … N, 0 is padding), and its place there.
    """
    sizes, steps = lengths.tolist(), x.shape[1]
    free: list[int] = []
    places: list[int] = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        fits = [row for row, space in enumerate(free) if space >= sizes[index]]
        row = min(fits, key=lambda row: free[row]) if fits else len(free)
        if not fits:
            free.append(steps)
        places[index] = row * steps + steps - free[row]
        free[row] -= sizes[index]
    within = torch.arange(steps, device=x.device)
    real = within < lengths[:, None].to(x.device)
    to = (torch.tensor(places, device=x.device)[:, None] + within)[real]
    flat, segments, positions = (torch.zeros(len(free) * steps, dtype=torch.int64, device=x.device) for _ in range(3))
    flat[to] = x[real]
    segments[to] = torch.arange(1, len(sizes) + 1, device=x.device)[:, None].expand_as(real)[real]
    positions[to] = within.expand_as(real)[real]
    rows = (len(free), steps)
    return flat.view(rows), Context(lengths, segments.view(rows), positions.view(rows))


def learned_tokenizer(tokens: str, texts: Iterable[str]) -> str:
    """The JSON of a tokenizer: characters, bytes, or so many pieces (byte-pair encoding: Sennrich, Haddow & Birch 2016,
    https://arxiv.org/abs/1508.07909) of these texts."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    if tokens == "characters":
        known = sorted(set().union(*(set(text) for text in texts)))
        names = [*known, *(f"<0x{byte:02X}>" for byte in range(256))]
        made = Tokenizer(models.BPE(vocab={name: place for place, name in enumerate(names)}, merges=[], byte_fallback=True))
        made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        size = 256 if tokens == "bytes" else int(tokens)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
        )
    made.add_special_tokens([AddedToken(name, special=True) for name in (END, TURN, OVER)])
    return str(made.to_str())


@functools.lru_cache(maxsize=8)
def _cutter(tokenizer: str) -> Tokenizer:
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer)
    made.no_truncation()
    made.no_padding()
    made.encode_special_tokens = True  # marks that stand in a text are text
    return made


def _spelled(token: str, letters: bool) -> bytes:
    """`letters`: one a byte; else characters, a low line for a space, and <0x0A> for a byte."""
    if letters and all(letter in _letters() for letter in token):
        return bytes(_letters()[letter] for letter in token)
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode("utf-8", "surrogatepass")


@functools.cache
def _letters() -> dict[str, int]:
    """The byte that each letter of a piece stands for: those that print stand for themselves, the others for what follows 255 (Radford et
    al. 2019, 'Language models are unsupervised multitask learners')."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


def tokenizer_is_tame(tokenizer: str) -> bool:
    """Whether no short text can become a long one: what replaces something is not longer than MOST_REPLACED, and seldom."""
    found: list[Any] = [json.loads(tokenizer)]
    replaced = 0
    while found:
        each = found.pop()
        if isinstance(each, dict) and each.get("type") == "Replace":
            replaced += 1
            if replaced > MOST_REPLACES or len(str(each.get("content", ""))) > MOST_REPLACED:
                return False
        if isinstance(each, dict):
            found += [value for name, value in each.items() if name not in ("vocab", "merges")]
        elif isinstance(each, list):
            found += each
    return True


def _need_tokens() -> None:
    if not tokens_available():
        raise DataError(sentence("Texts", "be cut into tokens by a library", "no such package", f"Run: {TEXT_EXTRA}"))


def _fingerprint(text: str) -> int:
    """Eight bytes: of eight orders of the runs of words the lowest bits of the least run (Broder 1997; Li & König 2010,
    https://arxiv.org/abs/0910.3349). As many of them are equal as two texts share runs. Of texts without words: of the whole text."""
    shingles = _shingles(text) - {""} or {text}
    digests = b"".join(hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=8).digest() for each in shingles)
    hashes = np.frombuffer(digests, np.uint64)
    least = [(hashes * factor).min() >> np.uint64(20) for factor in FACTORS]
    return int.from_bytes(np.array(least).astype(np.uint8).tobytes(), "little")


def _shingles(text: str) -> set[str]:
    """Runs of three words, of the beginning of the text."""
    words = re.findall(r"\w+", text.casefold()[: 12 * PRINT_WORDS])[:PRINT_WORDS]
    return {" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))}


def _luhn(found: str) -> bool:
    """Whether the digits have the check sum of a bank card's number."""
    digits = [int(digit) for digit in found if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0

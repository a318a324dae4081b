"""Windows: long texts as stretches of so many tokens, cut from one stream a part, so that no step of a batch is empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Batch, Feed
from lamina.data.cache import Decoded, moved
from lamina.data.raw import PIECE_MARK
from lamina.inputs import TextInput
from lamina.layers import Context
from lamina.losses import NOTHING
from lamina.outputs import Output

MOST_STEPS = 1 << 14
"""Tokens that are asked about at once."""
MOST_OPEN = 64
"""Windows that are tried for a conversation before a new one is begun."""


class Windows(Decoded):
    """n stretches of `length` + 1 tokens of a stream; a stretch is what is read, the tokens after its first are what is asked for.

    Windows that overlap count each token once.
    """

    def __init__(
        self, stream: np.ndarray, starts: np.ndarray, counted: np.ndarray, slack: np.ndarray, length: int, asked: np.ndarray | None = None
    ) -> None:
        """`counted` [n, 2]: from which to before which step a window counts; `slack` [n]: tokens by which it may begin later; `asked`:
        which tokens of the stream are asked for, where not all are."""
        self.asked = asked
        self.stream, self.begins, self.counted, self.slack, self.length = stream, starts, counted, slack, length
        self.shapes = [(length + 1,)] * len(starts)
        self.even, self.array, self.resident, self.file = True, None, None, None
        self.flat = stream

    def keep_on(self, device: torch.device, most: float) -> bool:
        return False

    def here(self) -> Windows:
        return self

    def take(self, indices: Sequence[int] | np.ndarray, later: np.ndarray | None = None) -> np.ndarray:
        """[m, length + 1] tokens; `later` [m] in [0, 1): which share of its slack each begins later."""
        places = np.asarray(indices, np.int64)
        starts = self.begins[places] + (0 if later is None else (later * (self.slack[places] + 1)).astype(np.int64))
        return self.stream[starts[:, None] + np.arange(self.length + 1)]


@dataclass(frozen=True)
class WindowFeed(Feed):
    """Windows of texts as batches: what is read is a window without its last token, what is asked for is each token's next."""

    end: int = 0
    """The token with which each text of a stream begins."""

    def in_order(self, indices: Sequence[int], size: int) -> Iterator[Batch]:
        """Fewer at once than examples of other kinds: each is many steps."""
        assert isinstance(self.values, Windows)
        return super().in_order(indices, max(1, min(size, MOST_STEPS // self.values.length)))

    def batch(self, indices: np.ndarray, draws: np.ndarray | None = None, detail: float = 1.0) -> Batch:
        assert isinstance(self.values, Windows)
        indices = np.asarray(indices, np.int64)
        tokens = torch.from_numpy(self.values.take(indices, None if draws is None else draws[:, 1]).astype(np.int64))
        x, target = tokens[:, :-1], tokens[:, 1:].clone()
        first, last = (torch.from_numpy(edge)[:, None] for edge in self.values.counted[indices].T)
        steps = torch.arange(target.shape[1])
        target[(steps < first) | (steps >= last)] = NOTHING
        if self.values.asked is not None:
            places = self.values.begins[indices][:, None] + np.arange(1, self.values.length + 1)
            target[torch.from_numpy(~self.values.asked[places])] = NOTHING
        context = Context(segments=segments(x, self.end))
        return Batch(moved(x.contiguous(), self.device), context.to(self.device), moved(target, self.device), indices)


def cut_into_windows(
    texts: Sequence[np.ndarray], names: Sequence[str], parts: Sequence[str], input: TextInput, output: Output, device: torch.device
) -> tuple[WindowFeed, list[str], list[str]]:
    """(windows of read texts or conversations, one stream a part, in input.window tokens; the name and the part of each window). The pieces
    of one document, numbered in their names, go on in one another."""
    length, begun = input.window, 0
    streams, edges, asked = [], [], []
    found_names: list[str] = []
    found_parts: list[str] = []
    for part in ("train", "validation", "test"):
        chosen = [index for index, its in enumerate(parts) if its == part]
        if not chosen:
            continue
        own, named = [texts[index] for index in chosen], [names[index] for index in chosen]
        if own[0].ndim == 2:  # conversations
            stream, wanted, first = side_by_side(own, length, input.end)
            starts, slack = np.arange(len(first), dtype=np.int64) * (length + 1), np.zeros(len(first), np.int64)
            counted = np.tile(np.array([0, length], np.int64), (len(first), 1))
            found_names += [named[place] for place in first]
            asked.append(wanted)
        else:
            joined = [place > 0 and _goes_on(named[place - 1], name) for place, name in enumerate(named)]
            stream = stream_of(own, joined, input.end)
            starts, counted, slack = cut(len(stream), length, part == "train")
            ends = np.cumsum([len(text) + (not goes_on) for text, goes_on in zip(own, joined, strict=True)])
            found_names += [named[min(len(named) - 1, int(place))] for place in np.searchsorted(ends, starts, side="right")]
        found_parts += [part] * len(starts)
        streams.append(stream)
        edges.append((starts + begun, counted, slack))
        begun += len(stream)
    padding = np.full(2 * length + 2, input.end, streams[0].dtype)
    told = np.concatenate([*asked, np.zeros(len(padding), bool)]) if asked else None
    begins, counts, slacks = (np.concatenate([edge[part] for edge in edges]) for part in range(3))
    windows = Windows(np.concatenate([*streams, padding]), begins, counts, slacks, length, told)
    return WindowFeed(windows, [0] * len(found_parts), input, output, device, input.end), found_names, found_parts


def _goes_on(before: str, name: str) -> bool:
    """Whether a piece NAME:n comes right after NAME:n - 1 of the same document."""
    (one, _, number), (other, _, following) = before.rpartition(PIECE_MARK), name.rpartition(PIECE_MARK)
    return bool(one) and one == other and number.isdecimal() and following == str(int(number) + 1)


def segments(x: Tensor, end: int) -> Tensor | None:
    """[N, T] which text of its row a step belongs to, the first token of each being `end`; None where no row holds two."""
    begins = x == end
    return begins.cumsum(1) if bool(begins[:, 1:].any()) else None


def stream_of(texts: Sequence[np.ndarray], joined: Sequence[bool], end: int) -> np.ndarray:
    """Texts one after the other, each begun by `end`, unless it goes on where the one before it ended (`joined`)."""
    kind = np.result_type(*(text.dtype for text in texts), np.uint16)
    pieces: list[np.ndarray] = []
    for text, goes_on in zip(texts, joined, strict=True):
        pieces += [text] if goes_on else [np.array([end], kind), text]
    return np.concatenate([*pieces, np.array([end], kind)])


def side_by_side(texts: Sequence[np.ndarray], length: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conversations [2, tokens] whole in windows of `length` + 1 tokens, the longest first, each in the fullest window where it fits; what
    is longer loses its beginning.

    Returns (stream, which of its tokens are asked for, which conversation each window begins with).
    """
    size = length + 1
    kept = [text[:, max(0, text.shape[1] - length) :] for text in texts]
    free: list[int] = []
    rows: list[list[int]] = []
    open_rows: list[int] = []
    for index in sorted(range(len(kept)), key=lambda index: -kept[index].shape[1]):
        needed = kept[index].shape[1] + 1
        fits = [row for row in open_rows if free[row] >= needed]
        row = min(fits, key=lambda row: free[row]) if fits else len(rows)
        if not fits:
            rows.append([])
            free.append(size)
            open_rows = [*open_rows, row][-MOST_OPEN:]
        rows[row].append(index)
        free[row] -= needed
    stream, asked = np.full(len(rows) * size, end, np.int32), np.zeros(len(rows) * size, bool)
    for row, members in enumerate(rows):
        place = row * size
        for index in members:
            here = slice(place + 1, place + 1 + kept[index].shape[1])
            stream[here], asked[here] = kept[index][0], kept[index][1] > 0
            place = here.stop
    return stream, asked, np.array([members[0] for members in rows])


def cut(size: int, length: int, learned: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(starts, counted, slack) of windows over a stream of `size` tokens.

    Learned from: side by side, each begun anew in every epoch up to its own length later. Judged: half over one another, so that each token
    but the first few is asked for after at least half a window; each counts once.
    """
    targets = size - 1
    if learned:
        starts = np.arange(0, max(1, targets - length + 1), length, dtype=np.int64)
        slack = np.clip(targets - length - starts, 0, length - 1)
        return starts, np.tile(np.array([0, min(length, targets)], np.int64), (len(starts), 1)), slack
    half = max(1, length // 2)
    ends = np.unique(np.minimum(np.r_[length, np.arange(length + half, targets + half, half)], targets)).astype(np.int64)
    starts = np.maximum(0, ends - length)
    before = np.r_[0, ends[:-1]]
    return starts, np.stack([before - starts, ends - starts], 1), np.zeros(len(starts), np.int64)

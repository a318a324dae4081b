"""Generation: one token after the other, drawn from what the network expects next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.data.raw import Talk
from lamina.errors import UsageError, sentence
from lamina.inputs import TextInput
from lamina.layers import Context, NGrams
from lamina.networks import Network
from lamina.settings import Sampling

if TYPE_CHECKING:
    from lamina.model import Model

KEPT = 0.5
"""Share of the window that is read anew when it is full."""
DECODED, KEPT_TOKENS = 256, 32
"""So many tokens are decoded together before the older ones are let go, but for the last."""
BROKEN = "\ufffd"
"""Stands in a decoded text for bytes whose character is not whole yet."""


def allowed(logits: Tensor, seen: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities [N, tokens] to draw from, up to a constant; -inf for what may not come. `seen` [N, tokens]: what there was."""
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        lower = torch.where(logits > 0, logits / sampling.repetition_penalty, logits * sampling.repetition_penalty)
        logits = torch.where(seen, lower, logits)
    if sampling.temperature == 0:
        return torch.where(F.one_hot(logits.argmax(-1), logits.shape[-1]).bool(), 0.0, -torch.inf)
    logits = F.log_softmax(logits / sampling.temperature, -1)
    keep = torch.ones_like(seen)
    if sampling.top_k:
        keep &= logits >= logits.topk(min(sampling.top_k, logits.shape[-1]), -1).values[:, -1:]
    if sampling.min_p:
        keep &= logits >= logits.max(-1, keepdim=True).values + torch.tensor(sampling.min_p).log()
    if sampling.top_p < 1:
        ordered, places = logits.sort(-1, descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()
        keep &= torch.zeros_like(keep).scatter_(-1, places, before < sampling.top_p)
    return logits.masked_fill(~keep, -torch.inf)


class Continuation:
    """Texts that go on, side by side: each `step` makes the next token of every one."""

    def __init__(self, network: Network, input: TextInput, prompts: Sequence[Sequence[int]], sampling: Sampling, window: int) -> None:
        """`prompts`: tokens, at least one each; `window`: how many tokens the network sees at once."""
        self.network, self.sampling, self.window, self.blank = network, sampling, window, input.end
        self.device = next(iter(network.state_dict().values())).device
        self.cached = not isinstance(network.head, NGrams)
        self.generator = torch.Generator().manual_seed(sampling.seed)
        self.texts = [list(prompt) for prompt in prompts]
        self.seen = torch.zeros(len(prompts), input.count, dtype=torch.bool)
        for row, text in enumerate(self.texts):
            self.seen[row, text] = True
        self.context = Context()
        self._read(self.window)

    def _read(self, most: int) -> None:
        """The last `most` tokens of each text at once, the shorter ones with padding before them."""
        kept = [text[-most:] for text in self.texts]
        steps = max(map(len, kept))
        x = torch.full((len(kept), steps), self.blank)
        real = torch.zeros(len(kept), steps, dtype=torch.bool)
        for row, tokens in enumerate(kept):
            x[row, steps - len(tokens) :], real[row, steps - len(tokens) :] = torch.tensor(tokens), True
        self.context = Context(segments=None if bool(real.all()) else real.to(self.device), caches={})
        self.steps = steps
        self.logits = self._through(x)

    @torch.inference_mode()
    def _through(self, x: Tensor) -> Tensor:
        hidden, self.context = self.network.hidden(x.to(self.device), self.context)
        return self.network.head(hidden[:, -1:] if self.cached else hidden, self.context)[0][:, -1].cpu()

    @torch.inference_mode()
    def step(self) -> list[int]:
        """The next token of each text."""
        chances = allowed(self.logits, self.seen, self.sampling)
        noise = torch.empty_like(chances).exponential_(generator=self.generator).log()
        drawn = (chances - noise).argmax(-1)  # the Gumbel trick: a draw without adding up (Maddison et al. 2014, arXiv 1411.0030)
        for row, token in enumerate(drawn.tolist()):
            self.texts[row].append(token)
        self.seen[torch.arange(len(drawn)), drawn] = True
        if not self.cached:
            self._read(self.window)
        elif self.steps >= self.window:
            self._read(max(1, int(KEPT * self.window)))
        else:
            if self.context.segments is not None:
                self.context = self.context._replace(segments=F.pad(self.context.segments, (0, 1), value=True))
            self.steps += 1
            self.logits = self._through(drawn[:, None])
        return [int(token) for token in drawn]


class Piece(NamedTuple):
    """What is told of a text next."""

    row: int
    """Which of the texts that are made side by side."""
    text: str
    read: int
    """Tokens of its prompt, as the network read it …"""
    made: int
    """… and those made until now."""
    over: str = ""
    """Why nothing follows: "stop" (the text ended, or a stop word came) or "length"; empty where more may follow."""


def generate(model: Model, prompts: Sequence[str], sampling: Sampling) -> Iterator[Piece]:
    """The next piece of each text as they are made; a text is over where it ends or a stop word comes."""
    input = model.input
    assert isinstance(input, TextInput)
    begun = [[input.end, *input.ids(prompt)] for prompt in prompts]
    yield from _pieces(Continuation(model.network, input, begun, sampling, input.window), input, sampling, {input.end})


def reply(model: Model, turns: Sequence[tuple[str, str]], sampling: Sampling) -> Iterator[Piece]:
    """What the assistant says next, piece by piece. The oldest turns are left out where the network cannot see all; the system's stays.

    Raises DataError for a tokenizer that has no marks for turns, UsageError where even the last turn is too long.
    """
    input = model.input
    assert isinstance(input, TextInput)
    first = [turn for turn in turns[:1] if turn[0] == "system"]
    rest = list(turns[len(first) :])
    room = input.window - min(sampling.tokens, input.window // 2)
    while True:
        tokens = [input.end, *input.spoken(Talk((*first, *rest)), answer=True)[0].tolist()]
        if len(tokens) <= room or len(rest) <= 1:
            break
        rest = rest[1:]
    if len(tokens) > input.window:
        raise UsageError(sentence("What was said", f"be at most {input.window} tokens", len(tokens), "Say it in fewer words."))
    over = {input.end, input.special(2)}
    yield from _pieces(Continuation(model.network, input, [tokens], sampling, input.window), input, sampling, over)


def _pieces(running: Continuation, input: TextInput, sampling: Sampling, ends: set[int]) -> Iterator[Piece]:
    """Whole characters, and nothing that may yet turn out to be a stop word."""
    count = len(running.texts)
    read = [len(text) for text in running.texts]
    made: list[list[int]] = [[] for _ in range(count)]
    told, held, over = [""] * count, [""] * count, [False] * count
    longest = max(map(len, sampling.stop), default=0)
    for number in range(sampling.tokens):
        for row, token in enumerate(running.step()):
            if over[row]:
                continue
            made[row].append(token)
            last = token in ends or number == sampling.tokens - 1
            text = input.words(made[row])  # all of it: some tokenizers put spaces between tokens only
            if text.endswith(BROKEN) and not last:
                continue
            held[row], told[row] = held[row] + text[len(told[row]) :], text
            stopped = min((at for at in (held[row].find(word) for word in sampling.stop) if at >= 0), default=-1)
            over[row] = last or stopped >= 0
            ready = stopped if stopped >= 0 else len(held[row]) if over[row] else max(0, len(held[row]) - longest + 1)
            if held[row][:ready] or over[row]:
                why = "" if not over[row] else "stop" if stopped >= 0 or token in ends else "length"
                yield Piece(row, held[row][:ready], read[row], number + 1, why)
            held[row] = held[row][ready:]
            if len(made[row]) > DECODED and len(told[row]) == len(text):
                made[row], told[row] = made[row][-KEPT_TOKENS:], input.words(made[row][-KEPT_TOKENS:])
        if all(over):
            return

"""The network that recognizes texts from nothing: tokens, the phrases that they make, their mean and the strongest."""

from __future__ import annotations

from lamina.layers import Layer, Phrases, TextPool, Tokens

SIZE = 3
"""Tokens of a phrase."""
WORDS_DROPPED, DROPPED = 0.2, 0.5
"""Shares of the signals of tokens, and of a text's mean, that are dropped in training."""


def phrase_net(tokens: int, width: int, longest: int) -> list[tuple[str, Layer]]:
    """From `tokens` different ones, of at most `longest` in a text, to twice `width` signals of each text, without a head."""
    first = Tokens(tokens, width, WORDS_DROPPED, longest)
    return [("input", first), ("phrases", Phrases(width, width, SIZE)), ("pool", TextPool(DROPPED, largest=True))]

"""The network for rows of a table: hidden layers of equal width, then the head."""

from __future__ import annotations

from lamina.layers import Dense, Layer, Pairs

DEPTH = 3
DROPOUT, DROPPED = 0.1, 0.3
"""Shares of signals that are dropped in training: of hidden layers, and of pairs."""


def dense_net(inputs: int, width: int, pairs: bool = False) -> list[tuple[str, Layer]]:
    """Hidden layers for [N, inputs]; last shape [N, width]. With `pairs` the first looks at how signals go together two by two."""
    first: list[tuple[str, Layer]] = [("pairs", Pairs(inputs, width, DROPPED))] if pairs else []
    inputs = 2 * width if pairs else inputs
    return [*first, *((f"hidden{number + 1}", Dense(width if number else inputs, width, DROPOUT)) for number in range(DEPTH))]

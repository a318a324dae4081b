"""The network for rows of a table: hidden layers of equal width, then the head."""

from __future__ import annotations

from lamina.layers import Dense, Layer

DEPTH = 3
DROPOUT = 0.1


def dense_net(inputs: int, width: int) -> list[tuple[str, Layer]]:
    """Hidden layers for [N, inputs]; last shape [N, width]."""
    return [(f"hidden{number + 1}", Dense(width if number else inputs, width, DROPOUT)) for number in range(DEPTH)]

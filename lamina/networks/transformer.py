"""The transformer: layers that let each step look at others, in turn with layers that think about each for itself."""

from __future__ import annotations

from lamina.layers import Attention, GatedMLP, LastNorm, Layer

HEAD = 64
"""Signals of a head; half as many in narrow networks."""
DEPTHS = ((64, 2), (128, 3), (192, 4), (256, 5), (384, 6), (512, 8), (768, 12))
"""(width up to, pairs of layers)."""
WIDENING = 8 / 3


def transformer(width: int, causal: bool, dropout: float = 0.0, depth: int = 0) -> list[tuple[str, Layer]]:
    """Hidden layers for [N, T, width] and back; `depth` 0: as the width asks for."""
    size = HEAD if width >= 3 * HEAD and width % HEAD == 0 else HEAD // 2
    heads = max(1, width // size)
    inner = max(32, round(WIDENING * width / 32) * 32)
    depth = depth or next((pairs for most, pairs in DEPTHS if width <= most), DEPTHS[-1][1])
    layers: list[tuple[str, Layer]] = []
    for number in range(1, depth + 1):
        layers.append((f"attention{number}", Attention(width, heads, heads, size, causal, dropout=dropout)))
        layers.append((f"mlp{number}", GatedMLP(width, inner, dropout)))
    return [*layers, ("norm", LastNorm(width))]

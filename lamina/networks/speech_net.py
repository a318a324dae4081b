"""The network that hears words: convolutions make steps of frames, then each block looks at all steps, at the near ones, and thinks."""

from __future__ import annotations

from lamina.layers import Attention, GatedMLP, LastNorm, Layer, Masks, Nearby, Subsample

HEAD = 36
DEPTHS = ((96, 4), (144, 5), (192, 6), (256, 8))
"""(width up to, blocks)."""
VIEWS = 2
"""Masked views of each recording that one training step hears."""
MASKED = (0.06, 0.1, 8)
"""Largest share of the frames and of the bands that one mask covers, and how many of each there are."""


def speech_net(bands: int, width: int, dropout: float = 0.1, views: int = VIEWS) -> list[tuple[str, Layer]]:
    """Hidden layers for [N, 1, bands, F]; last shape [N, T, width]."""
    heads = max(1, width // HEAD)
    size = max(2, width // heads // 2 * 2)
    depth = next((blocks for most, blocks in DEPTHS if width <= most), DEPTHS[-1][1])
    layers: list[tuple[str, Layer]] = [("masks", Masks(*MASKED, views=views)), ("subsample", Subsample(bands, max(16, width // 4), width))]
    for number in range(1, depth + 1):
        layers.append((f"attention{number}", Attention(width, heads, heads, size, causal=False, dropout=dropout)))
        layers.append((f"nearby{number}", Nearby(width, dropout=dropout)))
        layers.append((f"mlp{number}", GatedMLP(width, 3 * width, dropout)))
    return [*layers, ("norm", LastNorm(width))]

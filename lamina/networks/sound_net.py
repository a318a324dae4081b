"""The convolutional network for log-mel pictures of sounds: that for pictures, but what it ends with still knows the pitch."""

from __future__ import annotations

from lamina.layers import Layer, Masks, TimePool
from lamina.networks.conv_net import SMALLEST_MAP, conv_net, conv_net_outputs


def sound_net(bands: int, width: int, deviations: bool = False) -> list[tuple[str, Layer]]:
    """Hidden layers for [N, 1, bands, F], first stage `width` wide. Last shape: [N, sound_net_outputs]."""
    return [("masks", Masks()), *conv_net(bands, 1, width)[:-1], ("pool", TimePool(deviations))]


def sound_net_outputs(layers: list[tuple[str, Layer]], bands: int) -> int:
    """The number of signals that go into the head."""
    rows = bands
    while rows > SMALLEST_MAP or rows == bands:
        rows //= 2
    pool = layers[-1][1]
    return conv_net_outputs(layers) * rows * (2 if isinstance(pool, TimePool) and pool.deviations else 1)

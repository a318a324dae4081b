"""The convolutional network for pictures: a stem, then stages that halve the picture and widen the signals, then the head.

Dense 3x3 filters and no depthwise ones: on a CPU they run at the speed of a matrix product (docs/log.md).
"""

from __future__ import annotations

from lamina.layers import Convolution, GlobalPool, Layer, Residual

SMALLEST_MAP = 4
WIDEST = 4
"""No stage is wider than this many times the first."""


def conv_net(side: int, channels: int, width: int) -> list[tuple[str, Layer]]:
    """Hidden layers for pictures of `side` x `side` x `channels`, first stage `width` wide. Last shape: [N, 2 x widest]."""
    reduce = 1
    while side // reduce > 64:
        reduce *= 2
    layers: list[tuple[str, Layer]] = [("stem", Convolution(channels, width, kernel=3 if reduce == 1 else 2 * reduce + 1, stride=reduce))]
    side, now, stage = -(-side // reduce), width, 0
    while side > SMALLEST_MAP or stage == 0:
        stage += 1
        wider = min(now * 2, width * WIDEST)
        layers.append((f"stage{stage}", Convolution(now, wider, pool=True)))
        layers.append((f"stage{stage}_residual", Residual(wider)))
        side, now = -(-side // 2), wider
    return [*layers, ("pool", GlobalPool())]


def conv_net_width(layers: list[tuple[str, Layer]]) -> int:
    """The number of signals that go into the head."""
    return 2 * next(layer.width for _, layer in reversed(layers) if isinstance(layer, Residual))

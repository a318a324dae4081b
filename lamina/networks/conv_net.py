"""The convolutional network for pictures: stages that halve the picture and widen the signals, then the head.

Dense 3x3 filters and no depthwise ones: on a CPU they run at the speed of a matrix product (docs/log.md). After the network of
Jordan 2024, https://arxiv.org/abs/2404.00498; wide ones are deeper, with residual layers.
"""

from __future__ import annotations

from lamina.layers import Convolution, GlobalPool, Layer, Residual

SMALLEST_MAP = 4
WIDTHS = (1, 3, 3, 4, 4)
"""Width of each stage, in units of the first's."""
RESIDUAL_FROM = 96
"""Networks whose first stage is this wide get a residual layer of two convolutions in each stage, narrower ones a single convolution."""


def conv_net(side: int, inputs: int, width: int) -> list[tuple[str, Layer]]:
    """Hidden layers for maps of `side` x `side` x `inputs`, first stage `width` wide. Last shape: [N, conv_net_outputs]."""
    layers: list[tuple[str, Layer]] = []
    now, stage = inputs, 0
    while side > SMALLEST_MAP or stage == 0:
        wider = width * WIDTHS[min(stage, len(WIDTHS) - 1)]
        stage += 1
        layers.append((f"stage{stage}", Convolution(now, wider, pool=True)))
        deeper = Residual(wider) if width >= RESIDUAL_FROM else Convolution(wider, wider)
        layers.append((f"stage{stage}_deeper", deeper))
        side, now = side // 2, wider
    return [*layers, ("pool", GlobalPool())]


def conv_net_outputs(layers: list[tuple[str, Layer]]) -> int:
    """The number of signals that go into the head."""
    return next(layer.outputs for _, layer in reversed(layers) if isinstance(layer, Convolution))

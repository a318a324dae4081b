"""EfficientNet-Lite0, a network that others have trained on ImageNet: its layers, and its published weights under Lamina's names.

Tan & Le 2019, https://arxiv.org/abs/1905.11946; Lite: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

from __future__ import annotations

import re

from torch import Tensor

from lamina.layers import GlobalPool, InvertedResidual, Layer, MobileConvolution

STEM, HEAD = 32, 1280
BLOCKS = ((16, 3, 1, 1, 1), (24, 3, 2, 6, 2), (40, 5, 2, 6, 2), (80, 3, 2, 6, 3), (112, 5, 1, 6, 3), (192, 5, 2, 6, 4), (320, 3, 1, 6, 1))
"""Outputs, kernel, stride of the first, widening, repeats."""
MEAN, DEVIATION = 127.0, 128.0
"""Of each color, as it was trained."""
PARTS = {
    "_expand_conv": "widen", "_bn0": "widen_norm", "_depthwise_conv": "depthwise", "_bn1": "depthwise_norm", "_project_conv": "narrow",
    "_bn2": "narrow_norm",
}  # fmt: skip
TIMM_PARTS = {
    "conv_pw": "widen", "bn1": "widen_norm", "conv_dw": "depthwise", "bn2": "depthwise_norm", "conv_pwl": "narrow", "bn3": "narrow_norm",
}  # fmt: skip
TIMM_FIRST_PARTS = {"conv_dw": "depthwise", "bn1": "depthwise_norm", "conv_pw": "narrow", "bn2": "narrow_norm"}


def efficient_net_lite0() -> list[tuple[str, Layer]]:
    """Hidden layers for color pictures of any side from 32: [N, 3, H, W] -> [N, 1280]."""
    layers: list[tuple[str, Layer]] = [("stem", MobileConvolution(3, STEM, kernel=3, stride=2))]
    now = STEM
    for outputs, kernel, stride, expand, repeats in BLOCKS:
        for repeat in range(repeats):
            block = InvertedResidual(now, outputs, kernel, stride if repeat == 0 else 1, expand)
            layers.append((f"block{len(layers)}", block))
            now = outputs
    return [*layers, ("mix", MobileConvolution(now, HEAD)), ("pool", GlobalPool(mean=True))]


def lamina_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The hidden layers' tensors by their names in a Network, from the names of efficientnet-lite-pytorch or of timm.

    Names that are neither are left out; whoever loads them sees what is missing.
    """
    starts = [0]
    for *_, repeats in BLOCKS:
        starts.append(starts[-1] + repeats)
    timm = "conv_stem.weight" in weights
    outside = (
        {"conv_stem": "stem.filters", "bn1": "stem.norm", "conv_head": "mix.filters", "bn2": "mix.norm"}
        if timm
        else {"_conv_stem": "stem.filters", "_bn0": "stem.norm", "_conv_head": "mix.filters", "_bn1": "mix.norm"}
    )
    found = {}
    for name, value in weights.items():
        module, _, rest = name.rpartition(".")
        if module in outside:
            found[f"layers.{outside[module]}.{rest}"] = value
        elif timm and (match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", module)):
            group, repeat, part = int(match[1]), int(match[2]), match[3]
            parts = TIMM_FIRST_PARTS if group == 0 else TIMM_PARTS
            if group < len(BLOCKS) and part in parts:
                found[f"layers.block{starts[group] + repeat + 1}.{parts[part]}.{rest}"] = value
        elif (match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)) and match[2] in PARTS:
            found[f"layers.block{int(match[1]) + 1}.{PARTS[match[2]]}.{rest}"] = value
    return found

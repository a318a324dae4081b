"""What people thought of before networks learned it: hand-made features of pictures, as a layer.

Shapes: N pictures, H rows, W columns, C channels, as the input reads them (uint8).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.layers import Context, Layer

LARGEST_SIDE = 64
"""Larger pictures are averaged down to it first: these features were made for small windows."""
PIXELS_SIDE = 16
"""Raw pixels of larger pictures are averaged down to it, or to half their side when that is less."""
DIRECTIONS = 9
CLIP = 0.2
LBP_GRID, FINE_GRID = 4, 8
COLOR_GRID = 2
GRAY_SIDE = 32
COLOR_LEVELS = 4
GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


def pixels(x: Tensor) -> Tensor:
    """The numbers as they are; [N, H, W, C] in 0 … 1 -> [N, side * side * C]."""
    side = x.shape[1]
    if side > 32:
        x = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), PIXELS_SIDE).permute(0, 2, 3, 1)
    return x.flatten(1)


def gradient_histograms(x: Tensor) -> Tensor:
    """Histograms of oriented gradients (Dalal & Triggs 2005, https://doi.org/10.1109/CVPR.2005.177), [N, H, W, C] -> [N, features].

    The strongest gradient of the channels; nine directions without sign, shared between the two nearest, and between the nearest cells;
    blocks of 2 x 2 cells, each brought to length 1, clipped at 0.2, and again.
    """
    return _histograms(x, signed=False)


def fine_gradient_histograms(x: Tensor) -> Tensor:
    """The same with a sign (18 directions) and without, side by side, as Felzenszwalb et al. 2010 (https://doi.org/10.1109/TPAMI.2009.167)."""
    return torch.cat([_histograms(x, signed=True), _histograms(x, signed=False)], 1)


def _histograms(x: Tensor, signed: bool) -> Tensor:
    planes = F.pad(x.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    right, down = planes[:, :, 1:-1, 2:] - planes[:, :, 1:-1, :-2], planes[:, :, 2:, 1:-1] - planes[:, :, :-2, 1:-1]
    squares = right.square() + down.square()
    strongest = (squares * 255**2).round().argmax(1, keepdim=True)  # in whole levels: of equal channels the first, however they are rounded
    strength, right, down = (each.gather(1, strongest).squeeze(1) for each in (squares.sqrt(), right, down))
    turn, count = (2 * math.pi, 2 * DIRECTIONS) if signed else (math.pi, DIRECTIONS)
    place = torch.remainder(torch.atan2(down, right), turn) / turn * count
    first = place.floor()
    share = place - first
    votes = torch.zeros(x.shape[0], count, *strength.shape[1:], device=x.device, dtype=x.dtype)
    votes.scatter_add_(1, (first.long() % count)[:, None], (strength * (1 - share))[:, None])
    votes.scatter_add_(1, ((first.long() + 1) % count)[:, None], (strength * share)[:, None])
    cell = max(2, round(x.shape[1] / 8))
    cells = x.shape[1] // cell
    votes = votes[:, :, : cells * cell, : cells * cell]
    reach = torch.arange(2 * cell, device=x.device, dtype=x.dtype)
    weight = 1 - (reach - cell + 0.5).abs() / cell
    kernel = (weight[:, None] * weight[None, :]).expand(count, 1, -1, -1)
    grid = F.conv2d(F.pad(votes, [cell // 2, cell - cell // 2] * 2), kernel, stride=cell, groups=count)[:, :, :cells, :cells]
    blocks = torch.cat([grid[:, :, :-1, :-1], grid[:, :, :-1, 1:], grid[:, :, 1:, :-1], grid[:, :, 1:, 1:]], 1)
    blocks = F.normalize(blocks, dim=1, eps=0.1).clamp_max(CLIP)
    return F.normalize(blocks, dim=1, eps=1e-4).flatten(1)


def binary_patterns(x: Tensor) -> Tensor:
    """Histograms of uniform local binary patterns (Ojala et al. 2002, https://doi.org/10.1109/TPAMI.2002.1017623) on a 4 x 4 grid.

    [N, H, W, C] -> [N, 16 * 59]: which of the eight neighbors are at least as bright, square roots of shares.
    """
    return _patterns(x, LBP_GRID)


def fine_binary_patterns(x: Tensor) -> Tensor:
    """The same on an 8 x 8 grid, for faces that stand still (Ahonen et al. 2006, https://doi.org/10.1109/TPAMI.2006.244)."""
    return _patterns(x, FINE_GRID)


def _patterns(x: Tensor, grid: int) -> Tensor:
    gray = _gray(x)
    middle = gray[:, 1:-1, 1:-1]
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    high, wide = middle.shape[1:]
    code = sum((gray[:, row : row + high, column : column + wide] >= middle).long() << bit for bit, (row, column) in enumerate(ring))
    kinds = torch.tensor(_uniform(), device=x.device)[code]
    return torch.cat([_shares(part, 59) for part in _parts(kinds, grid)], 1).sqrt()


def gray_pixels(x: Tensor) -> Tensor:
    """Brightness at every place, averaged down to 32 x 32, each picture with mean 0 and deviation 1: [N, H, W, C] -> [N, features]."""
    gray = F.adaptive_avg_pool2d(_gray(x)[:, None], min(GRAY_SIDE, x.shape[1])).flatten(1)
    return (gray - gray.mean(1, keepdim=True)) / gray.std(1, keepdim=True).clamp_min(1e-3)


def color_histograms(x: Tensor) -> Tensor:
    """Joint histograms of red, green and blue in four levels each on a 2 x 2 grid, square roots of shares: [N, H, W, 3] -> [N, 4 * 64]."""
    levels = (x * (COLOR_LEVELS - 1e-3)).long().clamp_(0, COLOR_LEVELS - 1)
    kinds = levels[..., 0]
    for channel in range(1, x.shape[3]):
        kinds = kinds * COLOR_LEVELS + levels[..., channel]
    return torch.cat([_shares(part, COLOR_LEVELS ** x.shape[3]) for part in _parts(kinds, COLOR_GRID)], 1).sqrt()


PICTURE_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels": pixels,
    "gradient_histograms": gradient_histograms,
    "fine_gradient_histograms": fine_gradient_histograms,
    "binary_patterns": binary_patterns,
    "fine_binary_patterns": fine_binary_patterns,
    "gray_pixels": gray_pixels,
    "color_histograms": color_histograms,
}
"""Name -> [N, H, W, C] in 0 … 1 to [N, features]."""


class PictureFeatures(Layer):
    """Hand-made features, side by side: uint8 [N, H, W, C] -> float [N, features]. Nothing in it is trained."""

    kind = "picture_features"

    def __init__(self, parts: list[str]) -> None:
        super().__init__()
        if not parts or any(part not in PICTURE_FEATURES for part in parts) or len(set(parts)) != len(parts):
            raise ValueError(f"parts are some of {', '.join(PICTURE_FEATURES)}, got {parts}")
        self.parts = list(parts)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        pictures = x.float() / 255
        if x.shape[1] > LARGEST_SIDE:
            pictures = F.adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2), LARGEST_SIDE).permute(0, 2, 3, 1)
        return torch.cat([PICTURE_FEATURES[part](pictures) for part in self.parts], 1), context


def _gray(x: Tensor) -> Tensor:
    return x[..., 0] if x.shape[3] == 1 else x @ torch.tensor(GRAY, device=x.device, dtype=x.dtype)


def _uniform() -> list[int]:
    """The number of each of the 256 patterns: 0 … 57 where the ring changes at most twice, else 58."""
    found: list[int] = []
    known = 0
    for code in range(256):
        ring = [code >> bit & 1 for bit in range(8)]
        if sum(ring[bit] != ring[bit - 1] for bit in range(8)) <= 2:
            found.append(known)
            known += 1
        else:
            found.append(58)
    return found


def _parts(kinds: Tensor, grid: int) -> list[Tensor]:
    """[N, H, W] cut into grid x grid nearly equal parts, each [N, pixels]."""
    rows, columns = ([round(size * part / grid) for part in range(grid + 1)] for size in kinds.shape[1:])
    return [kinds[:, rows[r] : rows[r + 1], columns[c] : columns[c + 1]].flatten(1) for r in range(grid) for c in range(grid)]


def _shares(kinds: Tensor, count: int) -> Tensor:
    """[N, pixels] of kinds 0 … count - 1 -> [N, count] how often each occurs."""
    found: Any = torch.zeros(kinds.shape[0], count, device=kinds.device)
    return found.scatter_add_(1, kinds, torch.ones_like(kinds, dtype=found.dtype)) / max(1, kinds.shape[1])

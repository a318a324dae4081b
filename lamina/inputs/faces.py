"""Finding faces in photos, and cropping them so that the eyes lie where they always lie.

Three small networks that others trained look at ever fewer places ever more closely (MTCNN: Zhang et al. 2016,
https://doi.org/10.1109/LSP.2016.2603342). The weights lie inside the package `facenet-pytorch` (MIT); only its files of numbers are read,
with weights_only, and none of its code runs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lamina.errors import DataError, sentence

PACKAGE = "facenet_pytorch"
FACES_EXTRA = "pip install --no-deps facenet-pytorch==2.6.0"
SMALLEST = 20
"""Pixels: the smallest face that is looked for, where the picture's shorter side is at most LOOKED_AT …"""
LOOKED_AT = 480
"""… for larger pictures are brought down to it first."""
PYRAMID = 0.709
SURE = (0.6, 0.7, 0.7)
"""Least probability after each of the three networks."""
MOST = 2_000
"""Candidates that go on to the second network."""
EYES = (0.2875, 0.3828, 0.6830, 0.3828)
"""Where the eyes come to lie in a crop, (left x, y, right x, y) as shares of width and height: as this finder sees them on the middle
112 x 128 pixels of LFW-a (32.2 and 76.5 right, 49 down, over 89 photos)."""
WIDE, TALL = 112, 128 / 112
"""Pixels of a crop, before it is brought to the input's side, and how much higher than wide it is."""
STILL = 0.04
"""Eyes that lie at one place but for this deviation (a share of the side) are those of ready crops."""
LOOKED_THROUGH = 24
_LAST = threading.local()


@dataclass(frozen=True)
class Face:
    """A face in a picture, in pixels."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom."""
    sure: float
    points: tuple[tuple[float, float], ...]
    """Left eye, right eye, nose, left and right corner of the mouth, as seen in the picture."""


def finder_available() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def find_faces(picture: Image.Image) -> list[Face]:
    """The faces of a picture, the largest first. Raises DataError when the finder is not installed."""
    networks = _networks()
    picture = picture.convert("RGB")
    shrunk = min(1.0, LOOKED_AT / min(picture.size))
    seen = picture.resize((max(12, round(picture.width * shrunk)), max(12, round(picture.height * shrunk)))) if shrunk < 1 else picture
    x = (torch.from_numpy(np.asarray(seen, np.float32).copy()).permute(2, 0, 1)[None] - 127.5) / 128
    with torch.inference_mode():
        boxes = _candidates(x, networks[0])
        for size, weights, sure in ((24, networks[1], SURE[1]), (48, networks[2], SURE[2])):
            if not len(boxes):
                return []
            boxes = _squares(boxes)
            crops = _crops(x, boxes, size)
            answers = _second(crops, weights) if size == 24 else _third(crops, weights)
            good = answers[0][:, 1] > sure
            boxes, score, moved = boxes[good], answers[0][good, 1], answers[1][good]
            if size == 48:
                sides = boxes[:, 2:] - boxes[:, :2]
                across, down = (boxes[:, [place]] + sides[:, [place]] * answers[2][good][:, 5 * place : 5 * place + 5] for place in (0, 1))
            kept = _apart(_refined(boxes, moved), score, 0.7)
            boxes = _refined(boxes, moved)[kept]
            if size == 48:
                points = torch.stack([across[kept], down[kept]], 2) / shrunk
                found = [
                    Face(tuple(box), float(share), tuple(map(tuple, five)))
                    for box, share, five in zip((boxes / shrunk).tolist(), score[kept].tolist(), points.tolist(), strict=True)
                ]
    return sorted(found, key=lambda face: (face.box[0] - face.box[2]) * (face.box[3] - face.box[1]))


def eyes_of(picture: Image.Image) -> tuple[float, ...] | None:
    """Where the eyes of the largest face lie, as shares of the picture's width and height; None where no face is.

    One picture is asked about several times, one after the other: the last answer is kept, beside a hash of its picture.
    """
    content = hashlib.blake2b(f"{picture.size}{picture.mode}".encode() + picture.tobytes(), digest_size=16).hexdigest()
    kept: tuple[str, tuple[float, ...] | None] = getattr(_LAST, "kept", ("", None))
    if kept[0] != content:
        found = find_faces(picture)
        points = [(x / picture.width, y / picture.height) for x, y in found[0].points[:2]] if found else []
        kept = _LAST.kept = content, tuple(value for point in points for value in point) or None
    return kept[1]


def ready_crops(eyes: list[tuple[float, ...] | None]) -> tuple[float, ...]:
    """Where the eyes lie in all of these pictures, when it is one place; empty where it is not, so that faces must be found first."""
    found = np.array([each for each in eyes if each is not None])
    if len(found) < 0.8 * len(eyes) or not len(found) or np.median(np.abs(found - np.median(found, 0)), 0).max() > STILL:
        return ()
    return tuple(round(float(value), 4) for value in np.median(found, 0))


def aligned(picture: Image.Image, eyes: tuple[float, ...], wanted: tuple[float, ...] = EYES, tall: float = TALL) -> Image.Image:
    """The face upright, WIDE pixels wide and `tall` times as high, its `eyes` (as `eyes_of` tells them) at the wanted places."""
    left_x, left_y, right_x, right_y = (value * size for value, size in zip(eyes, picture.size * 2, strict=True))
    wide, high = WIDE, round(WIDE * tall)
    to_left, to_right = np.array([wanted[0] * wide, wanted[1] * high]), np.array([wanted[2] * wide, wanted[3] * high])
    # the similarity that takes the crop's eyes to the picture's
    turn = complex(right_x - left_x, right_y - left_y) / complex(*(to_right - to_left))  # the wanted eyes are apart: ImageInput.from_state
    shift = complex(left_x, left_y) - turn * complex(*to_left)
    window = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    return picture.transform((wide, high), Image.Transform.AFFINE, window, Image.Resampling.BICUBIC)


# ---------------------------------------------------------------- the three networks

Weights = dict[str, Tensor]


@functools.lru_cache(maxsize=1)
def _networks() -> tuple[Weights, Weights, Weights]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(sentence("Finding faces in photos", "have its weights installed", "no such package", FACES_EXTRA))
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    try:
        first, second, third = (
            torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True) for name in ("pnet", "rnet", "onet")
        )
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        told = str(error).splitlines()[0]
        raise DataError(sentence(f"The weights in {folder}", "be readable", told, f"Install anew: {FACES_EXTRA}")) from error
    return first, second, third


def _layer(x: Tensor, weights: Weights, number: int, pool: int = 0) -> Tensor:
    """Filters, an activation function that learned how much of the negative it passes on, and max-pooling by 2."""
    x = F.conv2d(x, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"])
    x = F.prelu(x, weights[f"prelu{number}.weight"])
    return F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x


def _dense(x: Tensor, weights: Weights, name: str) -> Tensor:
    return F.linear(x, weights[f"dense{name}.weight"], weights[f"dense{name}.bias"])


def _first(x: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Of every place of a picture: (probability of a face [1, H, W], how its box is off [4, H, W])."""
    x = _layer(_layer(_layer(x, weights, 1, pool=2), weights, 2), weights, 3)
    share, off = (F.conv2d(x, weights[f"conv4_{part}.weight"], weights[f"conv4_{part}.bias"]) for part in (1, 2))
    return share.softmax(1)[0, 1], off[0]


def _second(x: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    x = _layer(_layer(_layer(x, weights, 1, pool=3), weights, 2, pool=3), weights, 3)
    x = F.prelu(_dense(x.permute(0, 3, 2, 1).flatten(1), weights, "4"), weights["prelu4.weight"])
    return _dense(x, weights, "5_1").softmax(1), _dense(x, weights, "5_2")


def _third(x: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    x = _layer(_layer(_layer(_layer(x, weights, 1, pool=3), weights, 2, pool=3), weights, 3, pool=2), weights, 4)
    x = F.prelu(_dense(x.permute(0, 3, 2, 1).flatten(1), weights, "5"), weights["prelu5.weight"])
    return _dense(x, weights, "6_1").softmax(1), _dense(x, weights, "6_2"), _dense(x, weights, "6_3")


# ---------------------------------------------------------------- boxes, [n, 4]: left, top, right, bottom


def _candidates(x: Tensor, weights: Weights) -> Tensor:
    scale, found, scores = 12 / SMALLEST, [], []
    shorter = min(x.shape[2:])
    while shorter * scale >= 12:
        size = [math.ceil(side * scale) for side in x.shape[2:]]
        share, off = _first(F.interpolate(x, size, mode="area"), weights)
        down, across = (share > SURE[0]).nonzero(as_tuple=True)
        score = share[down, across]
        corner = torch.stack([across, down], 1).float() * 2
        boxes = torch.cat([(corner + 1) / scale, (corner + 12) / scale], 1)
        boxes = _refined(boxes, off[:, down, across].T)
        kept = _apart(boxes, score, 0.5)
        found.append(boxes[kept])
        scores.append(score[kept])
        scale *= PYRAMID
    if not found:
        return torch.empty(0, 4)
    boxes, score = torch.cat(found), torch.cat(scores)
    return boxes[_apart(boxes, score, 0.7)[:MOST]]


def _refined(boxes: Tensor, off: Tensor) -> Tensor:
    return boxes + off * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def _squares(boxes: Tensor) -> Tensor:
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([middle - half, middle + half], 1)


def _crops(x: Tensor, boxes: Tensor, size: int) -> Tensor:
    """[n, 3, size, size]; what lies outside of the picture is gray."""
    high, wide = x.shape[2:]
    crops = []
    for left, top, right, bottom in boxes.round().int().tolist():
        inside = x[:, :, max(0, top) : max(0, min(high, bottom)), max(0, left) : max(0, min(wide, right))]
        if not inside.numel():
            crops.append(torch.zeros(1, 3, size, size))
            continue
        padding = (max(0, -left), max(0, right - wide), max(0, -top), max(0, bottom - high))
        crops.append(F.interpolate(F.pad(inside, padding), (size, size), mode="area"))
    return torch.cat(crops)


def _apart(boxes: Tensor, score: Tensor, most: float) -> Tensor:
    """Indices, best first, of boxes that overlap no better one by more than `most` of their union (non-maximum suppression)."""
    order = score.argsort(descending=True)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1)
    kept = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        corner, other = torch.maximum(boxes[best, :2], boxes[order, :2]), torch.minimum(boxes[best, 2:], boxes[order, 2:])
        common = (other - corner).clamp_min(0).prod(1)
        order = order[common / (areas[best] + areas[order] - common).clamp_min(1e-9) <= most]
    return torch.tensor(kept, dtype=torch.long)

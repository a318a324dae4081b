"""Pictures in: every common format, rightly turned, colored and sized, as uint8 [side, side, channels]."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import math
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lamina.data.inspection import Inspection
from lamina.data.raw import FileRaw, Raw, ZipRaw, name_of
from lamina.errors import DataError, ModelFileError, sentence
from lamina.inputs.base import Input, one_tensor, unusable_by_size
from lamina.inputs.faces import EYES, FACES_EXTRA, LOOKED_THROUGH, TALL, aligned, eyes_of, finder_available, ready_crops
from lamina.layers import Context, Layer, Whiten

DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Everything that a damaged file can raise inside the decoders."""

SUFFIX_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".apng": "PNG", ".gif": "GIF", ".bmp": "BMP",
    ".dib": "BMP", ".webp": "WEBP", ".avif": "AVIF", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM",
    ".pnm": "PPM", ".tga": "TGA", ".ico": "ICO", ".jp2": "JPEG2000", ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
DECODERS = {*SUFFIX_FORMATS.values(), "DIB"}
"""Pillow's others stay closed: some start programs (EPS runs Ghostscript)."""
MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|BM.{4}\0{4}|II[*+]\0|MM\0[*+]|P[1-6]\s+[\d#]|RIFF.{4}WEBP"
    rb"|.{4}ftyp(?:avi[fs]|hei[cx]|mif1)|\0\0\0\x0cjP  ",
    re.DOTALL,
)
HEIC = re.compile(rb".{4}ftyp(?:hei[cx]|mif1)", re.DOTALL)
SAME_FORMATS = {frozenset(("JPEG", "MPO")), frozenset(("PNG", "APNG")), frozenset(("BMP", "DIB"))}
LARGEST_FILE = 1_000_000_000
HEIC_EXTRA = "pip install 'lamina[heic]'"
GRATINGS = 8
"""Directions of the stripes with which layers are asked whether they see edges."""
COPY_SIDE = 48
COPY_DIFFERENCE = 5.0
"""Two pictures are copies when they differ by less than this mean gray value out of 255 …"""
COPY_LARGEST = 40.0
"""… and nowhere (on 8 x 8 block means) by more than this."""
CROP, CROP_FROM = 0.35, 64
"""Random crops keep at least this share of the area, of pictures from this side on."""
FACE_SHIFT, MANY_FACES = (0.05, 0.075), 4_000
"""Augmentation of faces: largest shift, as a share of the side, for fewer and for at least so many; and in proportion to it …"""
TURN, NEAR, LIGHT = 160.0, 2.0, 10.0
"""… the largest turn (degrees), change of size (a share), and of light (gamma in powers of two, contrast as a share); see also CUTOUT."""
OFF_PLACE = 0.06
"""A face whose eyes lie farther than this (a share of the side) from those of the training pictures is brought there first."""
LEAST_FACE, JUDGED_SIDE = 24, 64
DARK, FLAT, SHARP = 25.0, 10.0, 0.12
"""A picture of a person is refused below so much mean brightness, below so much deviation of it (of 255), and below so much deviation of
its Laplacian at 64 x 64 pixels, in units of that."""
CUTOUT, CUTOUT_BELOW = 0.25, 5_000
"""Side of the square that is painted over, as a share; in training parts with fewer pictures than this."""
STRIDE_FROM = 80
"""The first filters of pictures with this side or more move two pixels at a time."""
_HEIF: list[bool] = []


def heif_available() -> bool:
    """Whether HEIC can be read; registers the decoder on the first call."""
    if not _HEIF:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            _HEIF.append(False)
        else:
            register_heif_opener()
            _HEIF.append(True)
    return _HEIF[0]


@dataclass(frozen=True)
class ImageInput(Input):
    """Pictures as uint8 [side, side, channels]. Fitted: side and channels (1 gray, 3 color) from the training pictures."""

    kind: ClassVar[str] = "image"
    plural: ClassVar[str] = "pictures"
    suffixes: ClassVar[tuple[str, ...]] = tuple(SUFFIX_FORMATS)
    doubt: ClassVar[str] = "Mirroring"
    draws: ClassVar[int] = 11

    side: int = 0
    channels: int = 0
    max_pixels: int = 100_000_000
    shift: float = 0.0
    """Augmentation: largest shift, as a share of the side …"""
    crop: float = 0.0
    """… or, when above 0, the smallest share of the area that a random crop keeps before it is resized …"""
    cutout: float = 0.0
    """… side of the square that is painted over, as a share of the side …"""
    mirror: bool = False
    """… and whether left and right are exchanged in every second epoch."""
    views: bool = False
    """Whether answers are averaged over shifted (and mirrored) copies."""
    faces: bool = False
    """Faces that stand where they always stand: moved a little and never cropped; an answer is the mean over it and its mirror image."""
    eyes: tuple[float, ...] = ()
    """Of faces: where their eyes lie, (left x, y, right x, y) as shares of the sides; empty where nobody could look …"""
    tall: float = TALL
    """… how much higher than wide a crop is, before it is brought to a square …"""
    find: bool = False
    """… and whether the pictures are photos in which the face is found first, and brought there."""

    # ------------------------------------------------------------ fitting and state

    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> ImageInput:
        shapes = [inspection.shape for inspection in inspections]
        if not shapes:
            raise DataError(sentence("The training part", "hold at least one usable picture", 0))
        side = self.side or _side_for([min(rows, columns) for rows, columns, _ in shapes])
        channels = 3 if any(colors == 3 for *_, colors in shapes) else 1
        return replace(
            self,
            side=side,
            channels=channels,
            shift=FACE_SHIFT[len(shapes) >= MANY_FACES] if self.faces else 1 / 8 if side < 16 else 2 / 28,
            crop=CROP if side >= CROP_FROM and not self.faces else 0.0,
            cutout=CUTOUT if side >= 16 and (len(shapes) < CUTOUT_BELOW or self.faces) else 0.0,
            mirror=self.faces or self.mirror,
        )

    def state(self) -> dict[str, Any]:
        names = ("side", "channels", "max_pixels", "shift", "crop", "cutout", "mirror", "views", "faces", "find", "tall")
        return {**{name: getattr(self, name) for name in names}, "eyes": list(self.eyes)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ImageInput:
        """Raises ModelFileError when `state` is not one."""
        side, channels, most = (_whole(state.get(name)) for name in ("side", "channels", "max_pixels"))
        shares = {name: state.get(name, 0.0) for name in ("shift", "crop", "cutout")}
        flags = {name: state.get(name, False) for name in ("mirror", "views", "faces", "find")}
        eyes, tall = state.get("eyes", []), state.get("tall", TALL)
        good = 8 <= side <= 1024 and channels in (1, 3) and 64 <= most <= 10**12 and all(isinstance(flag, bool) for flag in flags.values())
        good = good and all(isinstance(share, (int, float)) and 0 <= share <= 0.5 for share in shares.values())
        good = good and isinstance(eyes, list) and len(eyes) in (0, 4) and all(isinstance(v, float) and abs(v) <= 1 for v in eyes)
        good = good and (not eyes or eyes[2] - eyes[0] >= 0.01) and (len(eyes) == 4 or not flags["find"])
        if not (good and isinstance(tall, (int, float)) and 0.5 <= tall <= 2):
            raise ModelFileError(sentence("The picture input of the model", "have a side of 8 to 1024 and 1 or 3 channels", state))
        numbers: dict[str, Any] = {name: float(share) for name, share in shares.items()}
        return replace(cls(side, channels, most, tall=float(tall), eyes=tuple(eyes)), **numbers, **flags)

    # ------------------------------------------------------------ decoding

    def recognizes(self, head: bytes) -> bool:
        return MAGIC.match(head) is not None

    def missing_extra(self, suffix: str) -> str:
        return HEIC_EXTRA if suffix in (".heic", ".heif") and not heif_available() else ""

    def read(self, raw: Raw) -> np.ndarray:
        """uint8 [side, side, channels]. Raises DataError."""
        picture = self._decode(raw, draft=0 if self.find else self.side)
        return self._sized(self._brought(picture)[0] if self.find else picture)

    def pieces(self, raw: Raw) -> list[np.ndarray]:
        """Of a face: brought to where the eyes of the training pictures lie, whether it is a photo or a crop."""
        if not self.eyes:
            return [self.read(raw)]
        return [self._sized(self._brought(self._decode(raw))[0])]

    def look(self, raws: Sequence[Raw]) -> ImageInput:
        """Of faces: whether they are ready crops, by some of them."""
        if not self.faces or not finder_available() or not len(raws):
            return self
        seen: list[tuple[float, ...] | None] = []
        for place in np.linspace(0, len(raws) - 1, min(len(raws), LOOKED_THROUGH)).astype(int):
            with contextlib.suppress(DataError):
                seen.append(eyes_of(self._decode(raws[place])))
        eyes = ready_crops(seen)
        photos = not eyes and sum(each is not None for each in seen) > len(seen) / 2
        return replace(self, eyes=eyes or (EYES if photos else ()), find=photos)

    def inspected_as(self) -> str:
        return "faces found" if self.find else ""

    def decided(self) -> str:
        if not self.faces:
            return ""
        if self.find:
            return "faces are found in the photos, cropped and turned upright first"
        if self.eyes:
            return "the pictures are ready crops of faces: the eyes always lie at one place"
        return f"the pictures are taken as ready crops of faces; finding them in photos: {FACES_EXTRA}" * (not finder_available())

    def _sized(self, picture: Image.Image) -> np.ndarray:
        return _as_array(_fit_square(picture.convert("RGB" if self.channels == 3 else "L"), self.side))

    def _brought(self, picture: Image.Image) -> tuple[Image.Image, bool]:
        """(the picture with its face where the eyes lie, whether a face was found): as it is where that is so already, or none was."""
        if self.find and not finder_available():
            raise DataError(sentence("A model of faces in photos", "have the face finder installed", "no such package", FACES_EXTRA))
        eyes = eyes_of(picture) if self.eyes and finder_available() else None
        if eyes is None or (not self.find and max(abs(one - two) for one, two in zip(eyes, self.eyes, strict=True)) <= OFF_PLACE):
            return picture, eyes is not None
        return aligned(picture, eyes, self.eyes, self.tall), True

    def _decode(self, raw: Raw, draft: int = 0) -> Image.Image:
        """An upright picture in mode L or RGB, 8 bits a channel. Raises DataError."""
        try:
            picture = _open(raw, self.max_pixels)
            if draft and picture.format in ("JPEG", "MPO"):
                picture.draft(None, (draft * 2, draft * 2))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return upright_8_bit(picture)
        except (*DECODING_ERRORS, _OverLarge) as error:
            raise DataError(
                sentence(f"The picture {name_of(raw)}", "be readable", _reason(error), "Open it in a viewer and save it again.")
            ) from error

    def inspect(self, raw: Raw) -> Inspection:
        try:
            if (found := unusable_by_size(raw, LARGEST_FILE)) is not None:
                return found
            picture = _open(raw, self.max_pixels)
        except _OverLarge as error:
            return Inspection("over-large", str(error))
        except DECODING_ERRORS as error:
            return Inspection(*self._why_not_opened(raw, error))
        name_warnings = _type_warnings(raw, picture.format)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                upright = upright_8_bit(picture)
        except DECODING_ERRORS as error:
            kind = "truncated" if "truncated" in str(error).lower() or "broken data" in str(error).lower() else "unreadable"
            return Inspection(kind, _reason(error))
        pixels = _as_array(upright)
        if (pixels == pixels[0, 0]).all():
            return Inspection("constant", f"every pixel is {pixels[0, 0].tolist()}")
        if self.find and eyes_of(upright) is None:
            return Inspection("no-face", "no face was found in it")
        if pixels.shape[2] == 3 and (pixels[..., :1] == pixels).all():
            upright, pixels = upright.convert("L"), pixels[..., :1]
        content = hashlib.blake2b(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()
        return Inspection("", "", name_warnings, content, _difference_hash(upright), pixels.shape)

    def extent(self, raw: Raw) -> tuple[str, float]:
        try:
            picture = _open(raw, sys.maxsize)
        except Image.DecompressionBombError:  # so many that Pillow does not even tell
            return "pixels", math.inf
        except DECODING_ERRORS as error:
            kind, detail = self._why_not_opened(raw, error)
            raise DataError(sentence(f"The picture {name_of(raw)}", "be readable", f"{detail} ({kind})")) from error
        return "pixels", float(picture.width * picture.height)

    def shown(self, value: np.ndarray, box: tuple[tuple[int, int], ...] = ()) -> str:
        if box:
            (top, bottom), (left, right) = box[:2]
            value = np.ascontiguousarray(value[top:bottom, left:right])
        stream = io.BytesIO()
        Image.fromarray(value if value.shape[2] == 3 else value[..., 0]).save(stream, "PNG")
        return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

    def _why_not_opened(self, raw: Raw, error: BaseException) -> tuple[str, str]:
        if isinstance(error, Image.DecompressionBombError):
            return "over-large", str(error)
        try:
            head = raw.read(64) if isinstance(raw, (FileRaw, ZipRaw)) else bytes(raw[:64]) if isinstance(raw, bytes) else b""
        except OSError as unreadable:
            return "unreadable", str(unreadable)
        if HEIC.match(head) and not heif_available():
            return "needs-extra", f"its content is HEIC, which needs {HEIC_EXTRA}"
        if not head or self.recognizes(head):
            return ("truncated" if head else "unreadable"), _reason(error)
        if not head.strip(b"\0"):
            return "unreadable", "its bytes are all zero"
        return "mistyped", f"its name says picture, its content begins with {head[:12]!r}"

    def unfit(self, raw: Raw) -> str:
        picture, found = self._brought(self._decode(raw))
        if self.find and not found:
            return "no face was found in it"
        picture = picture.convert("L")
        if min(picture.size) < LEAST_FACE:
            return f"too small: {picture.width} x {picture.height} pixels, at least {LEAST_FACE} each way"
        gray = np.asarray(_fit_square(picture, JUDGED_SIDE), np.float32)
        if gray.mean() < DARK:
            return f"too dark: mean brightness {gray.mean():.0f} of 255, at least {DARK:.0f}"
        if gray.mean() > 255 - DARK:
            return f"too bright: mean brightness {gray.mean():.0f} of 255, at most {255 - DARK:.0f}"
        if gray.std() < FLAT:
            return f"too little contrast: brightness varies by {gray.std():.0f} of 255, at least {FLAT:.0f}"
        scaled = (gray - gray.mean()) / gray.std()
        edges = 4 * scaled[1:-1, 1:-1] - scaled[:-2, 1:-1] - scaled[2:, 1:-1] - scaled[1:-1, :-2] - scaled[1:-1, 2:]
        sharp = float(edges.std())
        return f"too blurred: sharpness {sharp:.2f}, at least {SHARP:g}" if sharp < SHARP else ""

    def same(self, first: Raw, second: Raw) -> bool:
        one, two = (
            np.asarray(self._decode(raw, draft=COPY_SIDE).convert("L").resize((COPY_SIDE, COPY_SIDE), Image.Resampling.BOX), np.float32)
            for raw in (first, second)
        )
        if one.std() < 1 or two.std() < 1:
            return False
        difference = one - two
        blocks = difference.reshape(8, COPY_SIDE // 8, 8, COPY_SIDE // 8).mean((1, 3))
        return bool(np.abs(difference).mean() < COPY_DIFFERENCE and np.abs(blocks).max() < COPY_LARGEST)

    # ------------------------------------------------------------ batches

    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """uint8 [N, side, side, channels]."""
        return one_tensor(items), Context()

    def layer(self, x: Tensor) -> Layer:
        small = self.side <= 40 and self.channels == 3
        directions = 8 if self.channels == 1 else 12 if small else 16  # of 9, 12 or 27; multiples of 4 compute faster
        return Whiten.measured(x, 2 if small else 3, directions, stride=2 if self.side >= STRIDE_FROM else 1)

    def augment(self, x: Tensor, context: Context, draws: Tensor, detail: float = 1.0) -> tuple[Tensor, Context]:
        """Each picture moved, the border reflected, or cropped and resized; perhaps mirrored; perhaps partly painted over. Faces are
        turned a little and stand in another light, too.

        x uint8 [N, H, W, C] -> the same, or smaller by `detail`.
        """
        mirrored = draws[:, 0] >= 0.5 if self.mirror else torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if self.faces:
            x = _random_light(_random_pose(x, draws, mirrored, self.shift), draws, self.shift * LIGHT)
        elif self.crop:
            x = _random_crop(x, draws, mirrored, self.crop, detail)
        else:
            x = _random_shift(x, draws, mirrored, max(1, round(self.shift * self.side)) if self.shift else 0)
            x = _resized(x, detail) if detail < 1 else x
        return (_paint_over(x, draws[:, 5:7], self.cutout) if self.cutout else x), context

    def coarser(self, x: Tensor, context: Context, detail: float) -> tuple[Tensor, Context]:
        return _resized(x, detail), context

    def like(self, other: ImageInput) -> ImageInput:
        moved = bool(other.eyes) and other.eyes != self.eyes and finder_available()
        return replace(
            self, side=other.side, channels=other.channels, eyes=other.eyes or self.eyes, tall=other.tall, find=self.find or moved
        )

    def doubted(self) -> ImageInput | None:
        return None if self.mirror else replace(self, mirror=True)

    def disguise(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return x.flip(2), context

    def several(self, x: Tensor, context: Context) -> list[tuple[float, Tensor, Context]]:
        """As it is, moved up and left by a pixel, and down and right; and the mirror images of these where mirroring keeps the label."""
        if not self.views:
            return [(0.5, x, context), (0.5, x.flip(2), context)] if self.faces else [(1.0, x, context)]
        still = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        moved = [(0.5, x), *((0.25, _shifted(x, torch.full((x.shape[0], 2), by, device=x.device), still)) for by in (-1, 1))]
        if self.mirror:
            moved = [(share / 2, view) for share, seen in moved for view in (seen, seen.flip(2))]
        return [(share, view, context) for share, view in moved]

    def single(self) -> ImageInput:
        return replace(self, views=False) if self.views else self

    # ------------------------------------------------------------ generated pictures

    def gratings(self) -> tuple[Tensor, Tensor]:
        """Gray sine waves of GRATINGS directions, three wavelengths and four phases each."""
        y, x = torch.meshgrid(torch.arange(self.side), torch.arange(self.side), indexing="ij")
        pictures, directions = [], []
        for direction in torch.arange(GRATINGS) * math.pi / GRATINGS:
            for wavelength in (4.0, 6.0, 9.0):
                for phase in torch.arange(4) * math.pi / 2:
                    wave = torch.sin(2 * math.pi * (x * torch.cos(direction) + y * torch.sin(direction)) / wavelength + phase)
                    pictures.append((127.5 + 100 * wave).round().to(torch.uint8)[..., None].expand(-1, -1, self.channels))
                    directions.append(direction)
        return torch.stack(pictures), torch.stack(directions)

    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        """Smooth patches, in whole numbers only, so that every machine makes the same ones."""
        bits = np.random.Philox(key=seed)
        place = np.arange(self.side) * (3 * 256) // max(1, self.side - 1)
        left, share = np.minimum(place // 256, 2), place - np.minimum(place // 256, 2) * 256
        made = []
        for _ in range(count):
            coarse = (np.asarray(bits.random_raw(16 * self.channels)) & 255).astype(np.int64).reshape(4, 4, self.channels)
            rows = coarse[left] * (256 - share)[:, None, None] + coarse[left + 1] * share[:, None, None]
            both = rows[:, left] * (256 - share)[None, :, None] + rows[:, left + 1] * share[None, :, None]
            made.append((both >> 16).astype(np.uint8))
        return made

    def outliers(self, count: int, seed: int) -> list[np.ndarray]:
        """In turn: pixel noise, coarse noise, one plain gray, stripes, a checkerboard."""
        generator = np.random.Generator(np.random.Philox(key=seed + 1))
        shape = (self.side, self.side, self.channels)
        rows, columns = np.mgrid[0 : self.side, 0 : self.side]
        made = []
        for index in range(count):
            kind, low, high = index % 5, generator.integers(0, 128), generator.integers(128, 256)
            picture: np.ndarray
            period = int(generator.integers(2, max(3, self.side // 3)))
            if kind == 0:
                picture = np.asarray(generator.integers(0, 256, shape), np.float64)
            elif kind == 1:
                coarse = generator.integers(0, 256, (4, 4, self.channels))
                picture = coarse.repeat(-(-self.side // 4), 0).repeat(-(-self.side // 4), 1)[: self.side, : self.side]
            elif kind == 2:
                picture = np.full(shape, generator.integers(0, 256))
            else:
                pattern = (rows // period) % 2 if kind == 3 else (rows // period + columns // period) % 2
                picture = np.where(pattern[..., None] == 0, low, high) * np.ones(shape)
            made.append(picture.astype(np.uint8))
        return made


# ---------------------------------------------------------------- augmentation of whole batches


def _shifted(x: Tensor, by: Tensor, mirrored: Tensor) -> Tensor:
    """Pictures [N, H, W, C] moved by [N, 2] rows and columns, the border reflected; `mirrored` [N] from right to left as well."""
    rows = _reflected(torch.arange(x.shape[1], device=x.device) + by[:, :1], x.shape[1])
    columns = _reflected(torch.arange(x.shape[2], device=x.device) + by[:, 1:], x.shape[2])
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return x[torch.arange(x.shape[0], device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflected(places: Tensor, size: int) -> Tensor:
    """Places outside 0 … size - 1 as in a mirror at the first or last."""
    places = places.abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places)


def _random_shift(x: Tensor, draws: Tensor, mirrored: Tensor, reach: int) -> Tensor:
    by = (draws[:, 1:3] * (2 * reach + 1)).long().clamp_(0, 2 * reach) - reach
    return _shifted(x, by, mirrored)


def _random_crop(x: Tensor, draws: Tensor, mirrored: Tensor, smallest: float, detail: float) -> Tensor:
    """A part of each picture, of `smallest` to all of its area and 3:4 to 4:3 in shape, resized to the picture's side (times `detail`)."""
    area, shape = smallest + (1 - smallest) * draws[:, 3], (4 / 3) ** (2 * draws[:, 4] - 1)
    high, wide = (area * shape).sqrt().clamp_max(1.0), (area / shape).sqrt().clamp_max(1.0)
    down, right = (1 - high) * (2 * draws[:, 1] - 1), (1 - wide) * (2 * draws[:, 2] - 1)
    zero = torch.zeros_like(area)
    wide = torch.where(mirrored, -wide, wide)
    window = torch.stack([torch.stack([wide, zero, right], 1), torch.stack([zero, high, down], 1)], 1)
    side = [max(8, round(size * detail)) for size in x.shape[1:3]]
    grid = F.affine_grid(window, [len(x), x.shape[3], *side], align_corners=False)
    resized = F.grid_sample(x.permute(0, 3, 1, 2).float(), grid, padding_mode="reflection", align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _random_pose(x: Tensor, draws: Tensor, mirrored: Tensor, shift: float) -> Tensor:
    """Each picture turned, nearer or farther, wider or narrower and moved, by up to a share `shift` of the side."""
    spread = 2 * draws - 1
    turn = spread[:, 7] * math.radians(TURN * shift)
    near, wide = 1 + NEAR * shift * spread[:, 3], 1 + NEAR * shift / 2 * spread[:, 4]
    along, across = turn.cos() * near, turn.sin() * near
    side = torch.where(mirrored, -1.0, 1.0)
    window = torch.stack(
        [
            torch.stack([along * wide * side, -across, 2 * shift * spread[:, 1]], 1),
            torch.stack([across * wide * side, along, 2 * shift * spread[:, 2]], 1),
        ],
        1,
    )
    grid = F.affine_grid(window, [len(x), x.shape[3], *x.shape[1:3]], align_corners=False)
    moved = F.grid_sample(x.permute(0, 3, 1, 2).float(), grid, padding_mode="reflection", align_corners=False)
    return moved.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _random_light(x: Tensor, draws: Tensor, most: float) -> Tensor:
    """Each picture under another light: gamma, contrast and brightness."""
    gamma, contrast, bright = (2 * draws[:, 8:11] - 1).T[:, :, None, None, None]
    light = (x.float() / 255).clamp_min(1e-3) ** torch.exp2(most * gamma)
    middle = light.mean((1, 2, 3), keepdim=True)
    light = (light - middle) * (1 + most * contrast) + middle + 0.3 * most * bright
    return (light * 255).round_().clamp_(0, 255).to(torch.uint8)


def _resized(x: Tensor, detail: float) -> Tensor:
    side = [max(8, round(size * detail)) for size in x.shape[1:3]]
    smaller = F.interpolate(x.permute(0, 3, 1, 2).float(), side, mode="bilinear", antialias=True, align_corners=False)
    return smaller.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _paint_over(x: Tensor, where: Tensor, share: float) -> Tensor:
    """A square of each picture takes the picture's mean color (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552)."""
    half = share / 2
    rows = (torch.arange(x.shape[1], device=x.device) + 0.5) / x.shape[1] - where[:, :1]
    columns = (torch.arange(x.shape[2], device=x.device) + 0.5) / x.shape[2] - where[:, 1:]
    inside = (rows.abs() <= half)[:, :, None, None] & (columns.abs() <= half)[:, None, :, None]
    return torch.where(inside, x.float().mean((1, 2), keepdim=True).to(torch.uint8), x)


# ---------------------------------------------------------------- decoding, step by step


class _OverLarge(Exception):
    """More pixels than the settings allow."""


def _open(raw: Raw, max_pixels: int) -> Image.Image:
    """The picture's header (arrays: the picture), its pixels counted before any is decoded."""
    if isinstance(raw, Image.Image):
        picture = raw
    elif isinstance(raw, (FileRaw, ZipRaw, bytes)):
        heif_available()
        Image.init()
        content = raw if isinstance(raw, bytes) else raw.read(LARGEST_FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(content), formats=[name for name in Image.OPEN if name in DECODERS])
    else:
        picture = _from_array(np.asarray(raw))
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        raise _OverLarge(f"{picture.width} x {picture.height} pixels, more than {max_pixels / 1e6:.6g} million (--max-pixels)")
    return picture


def _from_array(values: np.ndarray) -> Image.Image:
    """A picture from [H, W], [H, W, 1|3|4] or [1|3, H, W]; uint8, uint16, bool, or floats in 0..1 (or 0..255)."""
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or 0 in values.shape or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ValueError(f"an array of shape {values.shape} is no picture: [H, W], [H, W, 3] or [3, H, W] is")
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16:
        values = (values // 257).astype(np.uint8)
    elif values.dtype != np.uint8:
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise ValueError("an array that holds something other than finite numbers is no picture")
        top = 1.0 if values.dtype.kind == "f" and values.max() <= 1 else 255.0
        if values.min() < 0 or values.max() > 255:
            raise ValueError(f"an array with values from {values.min()} to {values.max()} is no picture: 0..1 or 0..255 is")
        values = np.rint(values * (255.0 / top)).astype(np.uint8)
    return Image.fromarray(values)


def upright_8_bit(picture: Image.Image) -> Image.Image:
    """First frame, turned as EXIF says, transparency laid on white, any depth and palette as L or RGB of 8 bits."""
    if picture.tell():
        picture.seek(0)
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    mode = picture.mode
    if mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        values = np.asarray(picture).astype(np.int64)
        top = 65535 if values.max() > 255 or mode != "I" else 255
        return Image.fromarray(np.clip(values * 255 // top, 0, 255).astype(np.uint8))
    if mode == "F":
        floats = np.nan_to_num(np.asarray(picture, np.float64))
        low, high = (
            (0.0, 1.0)
            if floats.min() >= 0 and floats.max() <= 1
            else (0.0, 255.0)
            if floats.min() >= 0 and floats.max() <= 255
            else (float(floats.min()), float(floats.max()))
        )
        return Image.fromarray(np.rint((floats - low) / ((high - low) or 1.0) * 255).astype(np.uint8))
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        with_alpha = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), with_alpha).convert("RGB")
        return picture.convert("L") if mode in ("LA", "La") else picture
    if mode in ("1", "L"):
        return picture.convert("L")
    return picture.convert("RGB")


def _fit_square(picture: Image.Image, side: int) -> Image.Image:
    """The middle square, resized. Nearly square pictures (up to 1.2 : 1) are kept whole."""
    wide, high = picture.size
    if (wide, high) == (side, side):
        return picture
    box = None
    if max(wide, high) > 1.2 * min(wide, high):
        short = min(wide, high)
        left, top = (wide - short) / 2, (high - short) / 2
        box = (left, top, left + short, top + short)
    return picture.resize((side, side), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)


def _as_array(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture)
    return values[..., None] if values.ndim == 2 else values


def _difference_hash(picture: Image.Image) -> int:
    """64 bits: is a pixel brighter than its right neighbor, on an 8 x 9 thumbnail (Krawetz 2013, 'dHash')."""
    small = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def _type_warnings(raw: Raw, found: str | None) -> tuple[tuple[str, str], ...]:
    named = SUFFIX_FORMATS.get(Path(name_of(raw)).suffix.lower()) if isinstance(raw, (FileRaw, ZipRaw)) else found
    if found == named or frozenset((found, named)) in SAME_FORMATS:
        return ()
    return (("mistyped", f"its name says {named or 'nothing'}, its content is {found}"),)


def _reason(error: BaseException) -> str:
    """The decoder's words, without the memory addresses that Pillow puts in."""
    return "no decoder can make sense of it" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


def _side_for(shorter_sides: list[int]) -> int:
    """Small pictures keep their size; large ones come down to 64 or 96."""
    middle = int(np.median(shorter_sides))
    return max(8, middle) if middle <= 64 else 64 if middle < 96 else 96


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1

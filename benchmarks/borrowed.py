"""Networks that others trained, made into ONNX files with their JSON beside them: `python -m benchmarks.borrowed voice FOLDER`.

voice   the voice encoder of the package `resemblyzer` (Apache-2.0, weights inside; `pip install --no-deps resemblyzer`)
face    dlib's face network in the package `face_recognition_models` (public domain, weights inside; `pip install --no-deps
        face_recognition_models`)
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATE, SECONDS, FRAMES = 16_000, 3.0, 160


class VoiceEncoder(nn.Module):
    """A wave [N, S] of -1 to 1 -> [N, 256] of length 1: three recurrent layers on mel power, the mean over stretches of 1.6 s."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
        self.register_buffer("window", torch.hann_window(400))
        self.register_buffer("mel", slaney_filters(RATE, 400, 40))
        place, frequency = torch.arange(400.0), torch.arange(201.0)
        turn = 2 * math.pi * place[:, None] * frequency / 400
        self.register_buffer("waves", torch.cat([torch.cos(turn), torch.sin(turn)], 1))

    def forward(self, wave: Tensor) -> Tensor:
        loud = (wave.square().mean(1, keepdim=True) + 1e-12).sqrt()
        wave = wave * (10 ** (-30 / 20) / loud).clamp_min(1.0)  # quiet ones to -30 dB of full scale
        frames = F.pad(wave, (200, 200)).unfold(1, 400, 160) * self.window
        spectrum = frames @ self.waves
        power = spectrum[..., :201].square() + spectrum[..., 201:].square()
        mel = power @ self.mel
        found = []
        for start in (0, 70, 140):
            last = self.lstm(mel[:, start : start + FRAMES])[0][:, -1]
            found.append(F.normalize(self.linear(last).relu(), dim=1))
        return F.normalize(torch.stack(found).mean(0), dim=1)


def slaney_filters(rate: int, points: int, bands: int) -> Tensor:
    """[points // 2 + 1, bands]: the mel filters of Slaney's Auditory Toolbox, each of the same area."""

    def hertz(mel: Tensor) -> Tensor:
        step = math.log(6.4) / 27
        return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp(step * (mel - 15)))

    top = 15 + math.log(rate / 2 / 1000) / (math.log(6.4) / 27)
    edges = hertz(torch.linspace(0, top, bands + 2, dtype=torch.float64))
    frequency = torch.arange(points // 2 + 1, dtype=torch.float64)[:, None] * rate / points
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return (torch.minimum(rising, falling).clamp_min(0) * 2 / (edges[2:] - edges[:-2])).float()


def voice(folder: Path) -> Path:
    """Write voice.onnx and voice.json; returns the former."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("resemblyzer is not installed: pip install --no-deps resemblyzer==0.1.4")
    file = Path(next(iter(spec.submodule_search_locations))) / "pretrained.pt"
    weights = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    encoder = VoiceEncoder().eval()
    encoder.load_state_dict({name: value for name, value in weights.items() if not name.startswith("similarity")}, strict=False)
    out = folder / "voice.onnx"
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        encoder,
        (torch.zeros(2, int(RATE * SECONDS)),),
        dynamo=True,
        external_data=False,
        dynamic_shapes={"wave": {0: batch}},
        verbose=False,
    )
    program.save(out)
    told = {
        "sense": "audio",
        "rate": RATE,
        "seconds": SECONDS,
        "license": "Apache-2.0 (resemblyzer 0.1.4, trained on LibriSpeech and VoxCeleb)",
    }
    (folder / "voice.json").write_text(json.dumps(told))
    return out


# ---------------------------------------------------------------- faces

FACE_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
LEVELS = ((32, (1, 1, 1)), (64, (2, 1, 1, 1)), (128, (2, 1, 1)), (256, (2, 1, 1)), (256, (2,)))
"""Channels of each level, and the strides of its residual blocks."""
FACE_MEAN = (122.782, 117.001, 104.298)
FACE_EYES = (0.3182, 0.3142, 0.6685, 0.3142)
"""Middles of the eyes' corners in dlib's crop of 150 pixels with a border of a quarter."""


class FaceEncoder(nn.Module):
    """dlib's residual network of 29 convolutions (King 2017, http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html):
    [N, 3, 150, 150] -> [N, 128]."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        left = iter(tensors)
        self.stem, inputs = _convolution(left, 3, 32, 7, 2), 32
        self.blocks = nn.ModuleList()
        for channels, strides in LEVELS:
            for stride in strides:
                first, inputs = _convolution(left, inputs, channels, 3, stride), channels
                self.blocks.append(nn.Sequential(first, nn.ReLU(), _convolution(left, channels, channels, 3, 1)))
        self.last = nn.Parameter(next(left).reshape(256, 128))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x).relu(), 3, 2)
        for block in self.blocks:
            made = block(x)
            if block[0][0].stride[0] == 2:  # the shorter of both is filled up with zeros
                x = F.avg_pool2d(x, 2)
                high, wide = max(x.shape[2], made.shape[2]), max(x.shape[3], made.shape[3])
                x, made = (
                    F.pad(each, (0, wide - each.shape[3], 0, high - each.shape[2], 0, block[2][0].out_channels - each.shape[1]))
                    for each in (x, made)
                )
            x = (x + made).relu()
        return x.mean((2, 3)) @ self.last


class _Affine(nn.Module):
    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(scale.reshape(-1, 1, 1)), nn.Parameter(shift.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def _convolution(left: Iterator[Tensor], inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution and the scale and shift after it, from the next two tensors of the file."""
    filters = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0)
    numbers, scale = next(left), next(left)
    filters.weight.data = numbers[: filters.weight.numel()].reshape(filters.weight.shape)
    filters.bias.data = numbers[filters.weight.numel() :]  # type: ignore[union-attr]
    return nn.Sequential(filters, _Affine(*scale.chunk(2)))


def tensors_of(content: bytes) -> list[Tensor]:
    """The tensors of a network that dlib wrote, in their order: each after the number 2 and its four sizes, as 32-bit floats."""
    at, found = 0, []
    while at < len(content) - 10:
        sizes, place = [], at + 2
        if content[at : at + 2] == b"\x01\x02":
            for _ in range(4):  # a whole number: how many bytes it has, then those, the lowest first
                count = content[place]
                if not 0 < count <= 4:
                    break
                sizes.append(int.from_bytes(content[place + 1 : place + 1 + count], "little"))
                place += 1 + count
        size = math.prod(sizes)
        if len(sizes) == 4 and 8 < size <= (len(content) - place) // 4:
            values = torch.frombuffer(bytearray(content[place : place + 4 * size]), dtype=torch.float32)
            if bool(torch.isfinite(values).all()) and 1e-6 < float(values.abs().max()) < 1e3:
                found.append(values)
                at = place + 4 * size
                continue
        at += 1
    return found


def face(folder: Path) -> Path:
    """Write face.onnx and face.json; returns the former."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("face_recognition_models is not installed: pip install --no-deps face_recognition_models==0.3.0")
    content = (Path(next(iter(spec.submodule_search_locations))) / FACE_FILE).read_bytes()
    encoder = FaceEncoder(tensors_of(content)).eval()
    out = folder / "face.onnx"
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = {"x": {0: batch}}
    torch.onnx.export(encoder, (torch.zeros(2, 3, 150, 150),), dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False).save(
        out
    )  # type: ignore[union-attr]
    told = {
        "sense": "image", "side": 150, "channels": 3, "mean": FACE_MEAN, "deviation": [256.0] * 3, "eyes": FACE_EYES, "tall": 1.0,
        "license": "public domain (dlib_face_recognition_resnet_model_v1)",
    }  # fmt: skip
    (folder / "face.json").write_text(json.dumps(told))
    return out


if __name__ == "__main__":
    print({"voice": voice, "face": face}[sys.argv[1]](Path(sys.argv[2])))

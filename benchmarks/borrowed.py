"""Networks that others trained, made into ONNX files with their JSON beside them: `python -m benchmarks.borrowed voice FOLDER`.

voice   the voice encoder of the package `resemblyzer` (Apache-2.0, weights inside; `pip install --no-deps resemblyzer`)
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
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


if __name__ == "__main__":
    print({"voice": voice}[sys.argv[1]](Path(sys.argv[2])))

"""Sounds in: every common format, any rate, depth and number of channels, as one channel of int16 at the rate of the training part."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lamina.data.inspection import Inspection
from lamina.data.raw import FileRaw, Raw, ZipRaw, name_of
from lamina.errors import DataError, ModelFileError, sentence
from lamina.inputs.base import Input, one_tensor, unusable_by_size
from lamina.layers import Context, Layer, LogMel

SOUND_EXTRA = "pip install 'lamina[sound]'"
SUFFIX_FORMATS = {
    ".wav": "WAV", ".wave": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aif": "AIFF",
    ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".w64": "W64",
}  # fmt: skip
SAME_FORMATS = {frozenset(("WAV", "WAVEX")), frozenset(("WAV", "RF64"))}
MAGIC = re.compile(
    rb"RIFF.{4}WAVE|RF64.{4}WAVE|fLaC|OggS|FORM.{4}AIF[FC]|\.snd|caff|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]|riff\x2e\x91", re.DOTALL
)
LARGEST_FILE = 1_000_000_000
LONGEST, SHORTEST = 3_600.0, 0.05
"""Seconds: longer recordings are excluded as over-large, shorter ones as too short."""
MOST_SAMPLES, MOST_RATE = 200_000_000, 192_000
"""Samples of one channel, and samples a second: more is refused before it is decoded (an hour at 48,000 has 173 million)."""
SILENT = 1e-4
"""A recording that is nowhere louder than this share of full scale is silent (-80 dB)."""
FULL, CLIPPED = 0.999, 0.005
"""Clipped is a recording of which more than this share stands at full scale …"""
RATES = (8_000, 16_000)
"""What recordings are brought to: the lower where most of them have no more."""
MOST_SECONDS = 10.0
VOICE_SECONDS = 3.0
"""Of a voice so much is heard at once; a longer recording is heard in several pieces."""
HEARD_IN_TRAINING = 0.2
"""Share of that time that a training step hears of a voice, from a random moment on: short, so that it cannot know the words."""
BANDS = 64
SHIFT = 0.1
"""Augmentation: largest shift of a sound, as a share of its time …"""
GAIN = 2.0
"""… largest factor by which it is made louder or softer …"""
NOISE = (0.0005, 0.02)
"""… and, every second time, white noise between these shares of full scale."""
NOISE_KEPT = 1 << 18
COPY_RATE, COPY_ALIKE, COPY_LENGTHS = 4_000, 0.85, 1.1
"""Two recordings are copies when their waves, shifted for the best, correlate at least so much, with lengths within this factor."""
PRINT_BANDS = np.geomspace(150, 3_400, 9)
"""Hertz: edges of the eight bands whose loudness makes the fingerprint."""
QUIET, LEAST_SPOKEN = 0.05, 1.0
"""Of a person's voice at least so many seconds must be louder than this share of its loudest fiftieth of a second."""
FAINT = 1e-3
"""Of the loudest part: what is softer does not count in a fingerprint."""
_READER: list[bool] = []


def reader_available() -> bool:
    """Whether sound files can be read."""
    if not _READER:
        try:
            import soundfile
            import soxr
        except (ImportError, OSError):
            _READER.append(False)
        else:
            _READER.append(bool(soundfile and soxr))
    return _READER[0]


@dataclass(frozen=True)
class AudioInput(Input):
    """Recordings as int16 [samples], all of one length. Fitted: rate and length from the training recordings.

    A shorter recording is padded with silence on both sides, a longer one loses its ends. Of `voices` the length says nothing: a shorter
    recording is repeated, and a training step hears a part.
    """

    kind: ClassVar[str] = "audio"
    plural: ClassVar[str] = "recordings"
    suffixes: ClassVar[tuple[str, ...]] = tuple(SUFFIX_FORMATS)
    draws: ClassVar[int] = 5
    most_seconds: ClassVar[float] = LONGEST

    rate: int = 0
    """Samples a second."""
    samples: int = 0
    bands: int = BANDS
    voices: bool = False
    heard_share: float = 1.0
    """Augmentation: the share of its time that a training step hears of a voice."""

    # ------------------------------------------------------------ fitting and state

    def fit(self, raws: Sequence[Raw], inspections: Sequence[Inspection]) -> AudioInput:
        shapes = [inspection.shape for inspection in inspections]
        if not shapes:
            raise DataError(sentence("The training part", "hold at least one usable recording", 0))
        rate = RATES[0] if np.median([its for _, its, _ in shapes]) < 1.4 * RATES[0] else RATES[1]
        seconds = VOICE_SECONDS if self.voices else float(np.clip(np.quantile([n / its for n, its, _ in shapes], 0.95), 0.25, MOST_SECONDS))
        heard = HEARD_IN_TRAINING if self.voices else 1.0
        return replace(self, rate=rate, samples=math.ceil(seconds * rate), heard_share=heard)

    def state(self) -> dict[str, Any]:
        return {"rate": self.rate, "samples": self.samples, "bands": self.bands, "voices": self.voices, "heard_share": self.heard_share}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> AudioInput:
        """Raises ModelFileError when `state` is not one."""
        whole = [value if isinstance(value := state.get(name), int) else -1 for name in ("rate", "samples", "bands")]
        voices, heard = state.get("voices", False), state.get("heard_share", 1.0)
        fits = 1_000 <= whole[0] <= 192_000 and SHORTEST <= whole[1] / whole[0] <= LONGEST and 4 <= whole[2] <= 256
        if not (fits and isinstance(voices, bool) and isinstance(heard, (int, float)) and 0.01 <= heard <= 1):
            raise ModelFileError(sentence("The sound input of the model", "have a rate, a length and 4 to 256 bands", state))
        return cls(whole[0], whole[1], whole[2], voices, float(heard))

    # ------------------------------------------------------------ decoding

    def recognizes(self, head: bytes) -> bool:
        return MAGIC.match(head) is not None

    def missing_extra(self, suffix: str) -> str:
        return SOUND_EXTRA if suffix in SUFFIX_FORMATS and not reader_available() else ""

    def read(self, raw: Raw) -> np.ndarray:
        """int16 [samples]. Raises DataError."""
        return self._sized(self.wave(raw))

    def pieces(self, raw: Raw) -> list[np.ndarray]:
        """A long recording in pieces of [samples] each, the last one ending where it ends. Raises DataError."""
        wave = self.wave(raw)
        if len(wave) <= self.samples:
            return [self._sized(wave)]
        starts = np.linspace(0, len(wave) - self.samples, math.ceil(len(wave) / self.samples)).astype(int)
        return [wave[start : start + self.samples] for start in starts]

    def wave(self, raw: Raw) -> np.ndarray:
        """int16 of any length, at the input's rate. Raises DataError."""
        try:
            return _as_int16(_decode(raw, self.most_seconds).at(self.rate))
        except (_Unusable, OSError, ValueError, RuntimeError, MemoryError) as error:
            raise DataError(
                sentence(f"The recording {name_of(raw)}", "be readable", str(error), "Open it in a player and save it again.")
            ) from error

    def extent(self, raw: Raw) -> tuple[str, float]:
        if not isinstance(raw, bytes) or not reader_available():
            return "", 0.0
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(raw)) as file:
                return "seconds", file.frames / max(1, file.samplerate)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(sentence(f"The recording {name_of(raw)}", "be readable", str(error))) from error

    def _sized(self, wave: np.ndarray) -> np.ndarray:
        missing = self.samples - len(wave)
        if missing <= 0:
            return wave[-missing // 2 :][: self.samples]
        if self.voices and len(wave):
            return np.resize(wave, self.samples)
        return np.pad(wave, (missing // 2, missing - missing // 2))

    def inspect(self, raw: Raw) -> Inspection:
        try:
            if (found := unusable_by_size(raw, LARGEST_FILE)) is not None:
                return found
            sound = _decode(raw)
        except _Unusable as error:
            return Inspection(error.kind, str(error))
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            return Inspection(*_why_not_opened(self, raw, error))
        wave, rate = sound.wave, sound.rate
        if not len(wave):
            return Inspection("empty", "no samples in it")
        if len(wave) < SHORTEST * rate:
            return Inspection("too-short", f"{len(wave) / rate:.3f} seconds, less than {SHORTEST}")
        if (wave == wave[0]).all():
            return Inspection("silent" if abs(wave[0]) < SILENT else "constant", f"every sample is {wave[0]:.4g}")
        loudest = float(np.abs(wave - wave.mean()).max())
        if loudest < SILENT:
            return Inspection("silent", f"nowhere louder than {20 * math.log10(max(loudest, 1e-9)):.0f} dB of full scale")
        warnings = _type_warnings(raw, sound.format)
        at_full = float((np.abs(wave) >= FULL).mean())
        if at_full > CLIPPED:
            warnings += (("clipped", f"{100 * at_full:.1f} % of it stands at full scale: recorded too loud"),)
        quantized = _as_int16(wave)
        content = hashlib.blake2b(rate.to_bytes(4, "big") + quantized.tobytes(), digest_size=16).hexdigest()
        return Inspection("", "", warnings, content, _fingerprint(wave, rate), (len(wave), rate, sound.channels))

    def unfit(self, raw: Raw) -> str:
        if problem := self.inspect(raw).problem:
            return problem
        wave = self.wave(raw).astype(np.float32) / 32768
        if float((np.abs(wave) >= FULL).mean()) > CLIPPED:
            return "clipped: recorded too loud"
        size = max(1, self.rate // 50)
        loud = np.sqrt(np.square(wave[: len(wave) // size * size].reshape(-1, size)).mean(1))
        seconds = float((loud > QUIET * loud.max()).sum()) / 50 if len(loud) else 0.0
        return f"too short: {seconds:.1f} seconds of sound, at least {LEAST_SPOKEN:g}" if seconds < LEAST_SPOKEN else ""

    def same(self, first: Raw, second: Raw) -> bool:
        try:
            one, two = (_decode(raw).at(COPY_RATE) for raw in (first, second))
        except (_Unusable, OSError, ValueError, RuntimeError) as error:
            raise DataError(str(error)) from error
        if max(len(one), len(two)) > COPY_LENGTHS * min(len(one), len(two)):
            return False
        points = 2 ** math.ceil(math.log2(len(one) + len(two)))
        one, two = one - one.mean(), two - two.mean()
        alike = np.fft.irfft(np.fft.rfft(one, points) * np.conj(np.fft.rfft(two, points)), points)
        return bool(alike.max() >= COPY_ALIKE * max(1e-9, float(np.linalg.norm(one) * np.linalg.norm(two))))

    # ------------------------------------------------------------ batches

    def collate(self, items: Sequence[np.ndarray] | np.ndarray | Tensor) -> tuple[Tensor, Context]:
        """int16 [N, samples]."""
        return one_tensor(items), Context()

    def layer(self, x: Tensor) -> Layer:
        return LogMel.measured(x, self.rate, self.bands)

    def augment(self, x: Tensor, context: Context, draws: Tensor, detail: float = 1.0) -> tuple[Tensor, Context]:
        """Each recording shifted in time (of voices: a part of it), louder or softer, every second time with white noise.

        x int16 [N, S] -> the same; of voices [N, heard_share * S].
        """
        size = x.shape[1]
        heard = max(1, round(self.heard_share * size)) if self.voices else size
        if self.voices:
            start = (draws[:, 1] * (size - heard + 1)).long().clamp_max(size - heard)
        else:
            start = ((2 * draws[:, 1] - 1) * SHIFT * size).long()
        places = torch.arange(heard, device=x.device) + start[:, None]
        inside = (places >= 0) & (places < size)
        wave = self.louder(x.gather(1, places.clamp(0, size - 1)).float() * inside, draws)
        return wave.round_().clamp_(-32768, 32767).to(torch.int16), context

    def louder(self, wave: Tensor, draws: Tensor) -> Tensor:
        """float [N, S], each louder or softer by draw 2, every second one with white noise by draws 3 and 4."""
        wave = wave * (GAIN ** (2 * draws[:, 2:3] - 1))
        low, high = (math.log(share * 32768) for share in NOISE)
        level = torch.exp(low + (2 * draws[:, 3:4] - 1).clamp_min(0) * (high - low)) * (draws[:, 3:4] >= 0.5)
        noise, places = _noise(wave.device), torch.arange(wave.shape[1], device=wave.device)
        return wave + level * noise[((draws[:, 4:5] * NOISE_KEPT).long() + places) % NOISE_KEPT]

    def like(self, other: AudioInput) -> AudioInput:
        return replace(self, rate=other.rate, samples=other.samples, bands=other.bands, voices=other.voices, heard_share=other.heard_share)

    # ------------------------------------------------------------ for people

    def shown(self, value: np.ndarray, box: tuple[tuple[int, int], ...] = ()) -> str:
        """Its log-mel picture, high pitches on top; `box` is in channels, bands and frames of it."""
        from PIL import Image

        with torch.no_grad():
            loud = LogMel(self.rate, self.bands)(torch.from_numpy(np.ascontiguousarray(value))[None], Context())[0][0, 0].numpy()
        low, high = np.quantile(loud, 0.05), loud.max()
        if len(box) == 3:
            loud = loud[box[1][0] : box[1][1], box[2][0] : box[2][1]]
        gray = np.clip((loud[::-1] - low) / max(1e-6, high - low) * 255, 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(gray)).save(stream, "PNG")
        return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

    def heard(self, value: np.ndarray) -> str:
        if not reader_available():
            return ""
        import soundfile

        stream = io.BytesIO()
        soundfile.write(stream, value, self.rate, format="MP3")
        return "data:audio/mpeg;base64," + base64.b64encode(stream.getvalue()).decode()

    # ------------------------------------------------------------ generated sounds

    def golden(self, count: int, seed: int) -> list[np.ndarray]:
        """Noise of several pitches, in whole numbers only, so that every machine makes the same ones."""
        bits = np.random.Philox(key=seed)
        made = []
        for number in range(count):
            held = 1 + 3 * number
            coarse = (np.asarray(bits.random_raw(-(-self.samples // held))) & 0x3FFF).astype(np.int64) - 0x2000
            made.append(np.repeat(coarse, held)[: self.samples].astype(np.int16))
        return made

    def outliers(self, count: int, seed: int) -> list[np.ndarray]:
        """In turn: white noise, a tone, a rising tone, clicks, next to silence."""
        generator = np.random.Generator(np.random.Philox(key=seed + 1))
        time = np.arange(self.samples) / self.rate
        made = []
        for index in range(count):
            kind, loud, pitch = index % 5, generator.uniform(0.02, 0.9), generator.uniform(80, 0.4 * self.rate)
            if kind == 0:
                wave = loud / 3 * generator.standard_normal(self.samples)
            elif kind == 1:
                wave = loud * np.sin(2 * np.pi * pitch * time)
            elif kind == 2:
                wave = loud * np.sin(2 * np.pi * pitch * time * time / max(time[-1], 1e-3))
            elif kind == 3:
                wave = loud * (np.arange(self.samples) % max(2, int(self.rate / (1 + pitch / 100))) == 0)
            else:
                wave = 2e-4 * generator.standard_normal(self.samples)
            made.append(_as_int16(wave))
        return made


# ---------------------------------------------------------------- decoding, step by step


class _Unusable(Exception):
    """Why a recording cannot be used: (kind, words)."""

    def __init__(self, kind: str, told: str) -> None:
        super().__init__(told)
        self.kind = kind


class _Sound(NamedTuple):
    wave: np.ndarray
    """float32 [samples], the mean over the channels."""
    rate: int
    channels: int
    format: str

    def at(self, rate: int) -> np.ndarray:
        """The wave with so many samples a second."""
        if rate == self.rate:
            return self.wave
        if not reader_available():
            raise _Unusable("needs-extra", f"sound needs {SOUND_EXTRA}")
        import soxr

        return np.asarray(soxr.resample(self.wave, self.rate, rate))


def _decode(raw: Raw, longest: float = LONGEST) -> _Sound:
    """Raises _Unusable, or what the decoder raises; of recordings of more than `longest` seconds, too."""
    if isinstance(raw, tuple) and len(raw) == 2:
        return _from_array(*raw)
    if not isinstance(raw, (FileRaw, ZipRaw, bytes)):
        raise _Unusable("unreadable", "sound in memory is a pair (rate, samples), or the bytes of a file")
    if not reader_available():
        raise _Unusable("needs-extra", f"sound needs {SOUND_EXTRA}")
    import soundfile

    content = raw if isinstance(raw, bytes) else raw.read(LARGEST_FILE)
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        rate, told = file.samplerate, file.frames
        if told > longest * rate:
            raise _Unusable("over-large", f"{told / rate / 3600:.1f} hours in one file, more than {longest / 3600:g}")
        if told > MOST_SAMPLES or rate > MOST_RATE:
            raise _Unusable("over-large", f"{told} samples at {rate} a second")
        wave = np.concatenate([np.empty(0, np.float32), *(block.mean(1) for block in _blocks(file, longest))])
        made = _Sound(wave, rate, file.channels, file.format)
    cut = _cut_off(content, made.format)
    if cut or (made.format == "FLAC" and len(wave) < told):
        raise _Unusable("truncated", cut or f"its header tells of {told} samples, {len(wave)} are there")
    if not np.isfinite(wave).all():
        raise _Unusable("unreadable", "some samples are no finite numbers")
    return made


def _blocks(file: Any, longest: float) -> Any:
    left = min(int(longest * file.samplerate), MOST_SAMPLES)
    while left > 0 and len(block := file.read(min(left, 1 << 20), dtype="float32", always_2d=True)):
        left -= len(block)
        yield block


def _cut_off(content: bytes, format: str) -> str:
    """What shows that the end of the file is missing."""
    if format in ("WAV", "WAVEX") and content[:4] == b"RIFF":
        told = int.from_bytes(content[4:8], "little") + 8
        if told > len(content) + 1 and told < 0xFFFFFFFF:
            return f"its header tells of {told} bytes, {len(content)} are there"
    if format == "OGG":
        last = content.rfind(b"OggS")
        page = content[last : last + 27 + 255] if last >= 0 else b""
        whole = len(page) >= 27 and last + 27 + page[26] + sum(page[27 : 27 + page[26]]) <= len(content)
        if not whole or not page[5] & 4:
            return "its last page is not whole" if not whole else "its last page does not say that it is the last"
    return ""


def _from_array(rate: Any, samples: Any) -> _Sound:
    wave = np.asarray(samples)
    kinds = (np.uint8, np.int16, np.int32, np.float32, np.float64)
    known = wave.dtype in kinds and wave.ndim in (1, 2) and wave.size
    if not isinstance(rate, (int, np.integer)) or not 100 <= rate <= MOST_RATE or not known:
        raise _Unusable(
            "unreadable", "sound in memory is a pair (samples a second, uint8, int16, int32 or floats [samples] or [samples, channels])"
        )
    full = {"u": 128.0, "i": float(np.iinfo(wave.dtype).max) + 1 if wave.dtype.kind == "i" else 1.0, "f": 1.0}[wave.dtype.kind]
    flat = (wave.astype(np.float32) - (128.0 if wave.dtype.kind == "u" else 0.0)) / full
    if not np.isfinite(flat).all():
        raise _Unusable("unreadable", "some samples are no finite numbers")
    return _Sound(flat if flat.ndim == 1 else flat.mean(1), int(rate), 1 if flat.ndim == 1 else flat.shape[1], "")


def _as_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(np.asarray(wave) * 32768), -32768, 32767).astype(np.int16)


def _why_not_opened(input: AudioInput, raw: Raw, error: Exception) -> tuple[str, str]:
    try:
        head = raw.read(64) if isinstance(raw, (FileRaw, ZipRaw)) else bytes(raw[:64]) if isinstance(raw, bytes) else b""
    except OSError as unreadable:
        return "unreadable", str(unreadable)
    if not head.strip(b"\0"):
        return "unreadable", "its bytes are all zero"
    if input.recognizes(head):
        return "unreadable", _reason(error)
    return "mistyped", f"its name says sound, its content begins with {head[:12]!r}"


def _reason(error: Exception) -> str:
    """The decoder's words, without the memory addresses that are in them."""
    return re.sub(r"^Error opening <.*?>: ", "", str(error)) or type(error).__name__


def _type_warnings(raw: Raw, found: str) -> tuple[tuple[str, str], ...]:
    named = SUFFIX_FORMATS.get(Path(name_of(raw)).suffix.lower()) if isinstance(raw, (FileRaw, ZipRaw)) else found
    if found == named or frozenset((found, named)) in SAME_FORMATS:
        return ()
    return (("mistyped", f"its name says {named or 'nothing'}, its content is {found}"),)


def _fingerprint(wave: np.ndarray, rate: int) -> int:
    """64 bits: which of eight parts of the time in eight bands of pitch are louder than the median of them."""
    size = max(256, int(0.032 * rate))
    count = max(16, 2 * len(wave) // size)
    starts = np.linspace(0, max(0, len(wave) - size), count).astype(int)
    padded = np.pad(wave, (0, max(0, size - len(wave))))
    frames = np.stack([padded[start : start + size] for start in starts]) * np.hanning(size).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames)))
    band = np.searchsorted(PRINT_BANDS, np.fft.rfftfreq(size, 1 / rate)) - 1
    bands = np.stack([power[:, band == number].sum(1) for number in range(8)], 1)
    parts = np.stack([part.mean(0) for part in np.array_split(bands, 8)])
    loud = parts + FAINT * max(1e-12, float(parts.max()))
    return int.from_bytes(np.packbits((loud > np.median(loud)).ravel()).tobytes(), "big")


_NOISES: dict[torch.device, Tensor] = {}


def _noise(device: torch.device) -> Tensor:
    """White noise that stays where it is used."""
    if device not in _NOISES:
        with torch.inference_mode(False):
            generator = torch.Generator().manual_seed(0)
            _NOISES[device] = torch.randn(NOISE_KEPT, generator=generator).to(device)
    return _NOISES[device]

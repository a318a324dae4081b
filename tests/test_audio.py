"""Sounds: decoding, the audit of recordings, the log-mel layer against a plain reference, and training through the main path."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
import soundfile
import torch
from contract import check_contract

import lamina
from lamina.classical.sounds import CepstralFeatures
from lamina.data.raw import FileRaw
from lamina.errors import DataError, ModelFileError
from lamina.inputs import AudioInput
from lamina.layers import Context, LogMel, Masks
from lamina.networks import Network, sound_net
from lamina.outputs import ClassesOutput

RATE = 8_000


def tone(pitch: float, seconds: float = 0.5, rate: int = RATE, loud: float = 0.4, seed: int = 0) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return (loud * np.sin(2 * np.pi * pitch * time + seed) + noise).astype(np.float32)


def encoded(wave: np.ndarray, rate: int = RATE, **how) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, **{"format": "WAV", **how})
    return stream.getvalue()


def birds(folder, count: int = 12) -> None:
    """Class folders low/ and high/: tones around 400 and 1,500 Hz of differing lengths."""
    for name, pitch in (("low", 400), ("high", 1_500)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            wave = tone(pitch * (1 + 0.01 * number), 0.4 + 0.02 * (number % 5), seed=number + (100 if name == "low" else 0))
            soundfile.write(folder / name / f"{number}.wav", wave, RATE)


@pytest.mark.parametrize(
    ("how", "suffix"),
    [
        ({"format": "WAV", "subtype": "PCM_U8"}, ".wav"), ({"format": "WAV", "subtype": "PCM_24"}, ".wav"),
        ({"format": "WAV", "subtype": "FLOAT"}, ".wav"), ({"format": "FLAC"}, ".flac"), ({"format": "OGG", "subtype": "VORBIS"}, ".ogg"),
        ({"format": "OGG", "subtype": "OPUS"}, ".opus"), ({"format": "MP3"}, ".mp3"), ({"format": "AIFF"}, ".aiff"),
    ],
)  # fmt: skip
def test_every_format_is_read(tmp_path, how, suffix):
    """Whatever the format, depth, rate and channels, the same tone comes out at the fitted rate."""
    rate = 48_000
    stereo = np.stack([tone(440, 1.0, rate), tone(440, 1.0, rate)], 1)
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, stereo, rate, **how)
    input = AudioInput()
    seen = input.inspect(FileRaw(str(path)))
    assert not seen.problem and not seen.warnings and seen.shape[1:] == (rate, 2)
    fitted = input.fit([FileRaw(str(path))], [seen])
    wave = fitted.read(FileRaw(str(path)))
    assert wave.dtype == np.int16 and wave.shape == (fitted.samples,) and fitted.rate == 16_000
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert abs(spectrum.argmax() * fitted.rate / len(wave) - 440) < 5
    assert 0.3 < np.abs(wave).max() / 32768 < 0.5


def test_what_is_wrong_is_named(tmp_path):
    input = AudioInput()
    good = encoded(tone(440))
    cases = {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "silent": encoded(np.zeros(4_000, np.float32)),
        "constant": encoded(np.full(4_000, 0.25, np.float32)),
        "too-short": encoded(tone(440, 0.01)),
        "mistyped": b"<html>this is no sound</html>" * 10,
        "unreadable": b"\0" * 500,
    }
    for kind, content in cases.items():
        assert input.inspect(content).problem == kind, kind
    assert input.inspect(encoded(tone(440), format="FLAC")[:-400]).problem in ("truncated", "unreadable")
    ogg = encoded(tone(440, 3.0), format="OGG", subtype="VORBIS")
    assert input.inspect(ogg[: int(0.7 * len(ogg))]).problem == "truncated"
    assert input.inspect(encoded(np.array([0.1, np.nan] * 2_000, np.float32), subtype="FLOAT")).problem == "unreadable"
    assert input.inspect(encoded(np.full(9_000, 2e-5, np.float32) * tone(440, 9_000 / RATE)[:9_000], subtype="FLOAT")).problem == "silent"
    loud = np.clip(4 * tone(440), -1, 1)
    assert [kind for kind, _ in input.inspect(encoded(loud)).warnings] == ["clipped"]
    path = tmp_path / "a.mp3"
    path.write_bytes(good)
    assert [kind for kind, _ in input.inspect(FileRaw(str(path))).warnings] == ["mistyped"]
    with pytest.raises(DataError, match="must be readable"):
        AudioInput(RATE, 4_000).read(b"<html>")
    empty, words = np.zeros((800, 0), np.float32), np.full(900, 7, np.uint16)
    for wrong in ((0, [1.0]), (8_000, np.zeros((2, 2, 2))), (8_000, ["a"]), (8_000, empty), (8_000, words), (8_000, [1, 2])):
        assert input.inspect(wrong).problem == "unreadable"


def test_a_header_that_lies_is_no_bomb(tmp_path):
    """A header that tells of hours is refused before anything is decoded."""
    raw = bytearray(encoded(tone(440), format="FLAC"))
    raw[21] |= 0x0F  # the high bits of the number of samples in STREAMINFO
    raw[22:26] = b"\xff\xff\xff\xff"
    assert AudioInput().inspect(bytes(raw)).problem in ("over-large", "unreadable", "truncated")


def test_copies_are_found_on_the_wave():
    """The same recording in another format and a little shifted is a copy; another one of the same words is not."""
    rng = np.random.default_rng(0)
    wave = np.concatenate([tone(pitch, 0.15, seed=number) for number, pitch in enumerate(rng.uniform(200, 2_000, 8))])
    input = AudioInput()
    one, two = encoded(wave), encoded(np.r_[np.zeros(16, np.float32), wave], format="OGG", subtype="VORBIS")
    first, second = input.inspect(one), input.inspect(two)
    assert (first.fingerprint ^ second.fingerprint).bit_count() <= 3 and first.content != second.content
    assert input.same(one, two)
    whole = (wave * 20_000).astype(np.int16)
    assert input.inspect(encoded(whole, format="FLAC")).content == input.inspect(encoded(whole)).content
    other = np.concatenate([tone(pitch, 0.15, seed=9 + number) for number, pitch in enumerate(rng.uniform(200, 2_000, 8))])
    assert not input.same(one, encoded(other)) and not input.same(one, encoded(wave[:5_000]))


def test_log_mel_is_that_of_a_plain_reference():
    """Frame by frame in NumPy, with triangles written down from their definition."""
    rate, bands = 16_000, 40
    wave = (tone(700, 0.3, rate) * 20_000).astype(np.int16)
    layer = LogMel(rate, bands)
    got = layer(torch.from_numpy(wave)[None], Context())[0][0, 0].numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    to_mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    edges = 700 * (10 ** (np.linspace(to_mel(40), to_mel(8_000), bands + 2) / 2595) - 1)
    frequencies = np.arange(257) * rate / 512
    frames = range(0, len(wave) - 399, 160)
    wanted = np.zeros((bands, len(frames)))
    for column, start in enumerate(frames):
        power = np.abs(np.fft.rfft(wave[start : start + 400] / 32768 * window, 512)) ** 2
        for band in range(bands):
            low, middle, high = edges[band : band + 3]
            weight = np.clip(np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)), 0, None)
            if weight.any():
                wanted[band, column] = math.log(power @ weight + 1e-6)
    full = np.array([bool(((frequencies > edges[b]) & (frequencies < edges[b + 2])).any()) for b in range(bands)])
    assert got.shape == wanted.shape and full.sum() > 30
    assert np.abs(got - wanted)[full].max() < 1e-3
    assert layer.frames(len(wave)) == got.shape[1]


def test_masks_are_for_training_only():
    x = torch.ones(8, 1, 40, 50)
    layer = Masks()
    assert layer.eval()(x, Context())[0] is x
    torch.manual_seed(0)
    masked = layer.train()(x, Context())[0]
    share = float((masked == 0).float().mean())
    assert 0.05 < share < 0.6 and (masked.amax((2, 3)) == 1).all()
    torch.manual_seed(0)
    assert torch.equal(layer(x, Context())[0], masked), "the loop's seed decides"


def test_augmentation_is_a_function_of_its_draws():
    input = AudioInput(RATE, 4_000)
    x = torch.from_numpy(np.stack([(tone(440, seed=n) * 20_000).astype(np.int16) for n in range(4)]))
    draws = torch.rand(4, input.draws, generator=torch.Generator().manual_seed(1))
    one, _ = input.augment(x, Context(), draws)
    again, _ = input.augment(x[2:], Context(), draws[2:])
    assert torch.equal(one[2:], again) and one.dtype == torch.int16 and one.shape == x.shape and not torch.equal(one, x)
    voices = AudioInput(RATE, 4_000, voices=True, heard_share=0.2)
    assert voices.augment(x, Context(), draws)[0].shape == (4, 800)
    assert [len(piece) for piece in voices.pieces((RATE, tone(300, 1.3)))] == [4_000] * 3
    assert len(voices.read((RATE, tone(300, 0.2)))) == 4_000


def test_contract_of_sounds(tmp_path):
    """Everything that holds for every input, with the real first layer and a network on top."""
    raws, answers = [], []
    for number in range(48):
        answers.append("high" if number % 2 else "low")
        raws.append((RATE, tone(1_500 if number % 2 else 400, 0.25, seed=number)))
    unfitted = AudioInput()
    fitted = unfitted.fit(raws, [unfitted.inspect(raw) for raw in raws])

    class Fitted(AudioInput):
        def fit(self, raws, inspections):
            return fitted

    def build(x):
        return Network([
            ("input", fitted.layer(x)), *sound_net(64, 4), ("head", ClassesOutput(("high", "low")).head(64)),
        ])  # fmt: skip

    model = check_contract(Fitted(), ClassesOutput(), build, raws, answers, tmp_path, learning_rate=0.05, steps=60)
    said = model.output.decode(model.values([fitted.read(raw) for raw in raws]), Context())
    assert np.mean([answer.top[0][0] == answer_ for answer, answer_ in zip(said, answers, strict=True)]) > 0.9


def test_state_of_a_hostile_file_is_refused():
    for state in (
        {},
        {"rate": 0, "samples": 1, "bands": 40},
        {"rate": 8_000, "samples": 10**12, "bands": 40},
        {"rate": 8_000, "samples": 1},
    ):
        with pytest.raises(ModelFileError):
            AudioInput.from_state(state)
    with pytest.raises(ValueError, match="bands"):
        LogMel(8_000, 100_000)
    with pytest.raises(ValueError, match="parts"):
        CepstralFeatures(40, ["guess"])


def test_recordings_through_the_main_path(tmp_path):
    """A folder of recordings with a broken one is audited, learned, judged, reported with sounds to play, opened and asked."""
    birds(tmp_path / "birds")
    (tmp_path / "birds" / "low" / "broken.wav").write_bytes(encoded(tone(440))[:300])
    (tmp_path / "birds" / "low" / "notes.txt").write_text("seen on Monday")
    model = lamina.train(
        tmp_path / "birds", epochs=2, width=16, threads=1, out=tmp_path / "b.lamina", runs=tmp_path / "runs", cache=str(tmp_path / "c")
    )
    assert model.input.kind == "audio" and model.input.rate == RATE and [each.kind for each in model.verdict.contenders] == [
        "deep", "classical", "trivial",
    ]  # fmt: skip
    run = tmp_path / "runs" / "birds-1"
    audit = json.loads((run / "audit.json").read_text())
    assert audit["kinds"]["truncated"] == 1 and audit["kinds"]["foreign"] == 1
    page = (run / "report.html").read_text()
    assert "Content-Security-Policy" in page and ("<audio" in page or "None on the test examples" in page)
    opened = lamina.load(tmp_path / "b.lamina")
    answer = opened.predict((RATE, tone(1_520)))
    assert answer.label in ("high", "low", None) and opened.predict(tmp_path / "birds" / "low" / "broken.wav").error
    assert len(opened.predict(str(tmp_path / "birds"))) == 25
    again = lamina.train(
        tmp_path / "birds", epochs=1, width=16, threads=1, start_from=str(tmp_path / "b.lamina"), verdict_share=0.0,
        out=tmp_path / "again.lamina", runs=tmp_path / "runs", cache=str(tmp_path / "c"),
    )  # fmt: skip
    assert again.card["examples"]["test"] == 24

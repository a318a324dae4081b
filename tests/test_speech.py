"""Speech to text: reading, the search for texts, times of words, the opponents, long recordings, what is refused."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lamina
from lamina.classical.speech import Cepstra, Saying, Templates
from lamina.cli import app
from lamina.data.audit import audit
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.data.raw import FileRaw
from lamina.data.speech import Said, read_speech
from lamina.errors import DataError, ModelFileError, UsageError
from lamina.inputs import AudioInput, SpeechInput
from lamina.layers import Context, LogMel, Masks
from lamina.metrics import changes, edits
from lamina.networks import Network, speech_net
from lamina.outputs import CharactersOutput, Progress, spoken
from lamina.outputs.beam import aligned, best_path, search
from lamina.outputs.characters import cuts_of
from lamina.outputs.sentences import BEGIN, Sentences
from lamina.screen import Screen
from lamina.settings import Settings
from lamina.tasks.transcribe.answers import score

soundfile = pytest.importorskip("soundfile", reason="sound needs: pip install 'lamina[sound]'")
RATE = 16_000
PITCHES = {letter: 300 * 1.22**number for number, letter in enumerate("abdeimnorst")}
WORDS = ("no", "on", "read", "road", "team", "moan", "stir", "rat", "bad", "idea")


def said(text: str, seed: int = 0, loud: float = 0.2) -> np.ndarray:
    """A made voice: each letter a tone of its own, a word ends in silence. int16 at 16 kHz."""
    random = np.random.default_rng(seed)
    pieces = [np.zeros(int(RATE * random.uniform(0.05, 0.1)))]
    for letter in text:
        time = np.arange(int(RATE * random.uniform(0.09, 0.13))) / RATE
        tone = np.sin(2 * np.pi * PITCHES[letter] * time * random.uniform(0.98, 1.02)) if letter != " " else 0 * time
        pieces.append(tone * np.hanning(len(time)) ** 0.3)
    wave = np.concatenate([*pieces, np.zeros(RATE // 20)]) * loud
    return np.clip(32768 * (wave + random.normal(0, 0.002, len(wave))), -32768, 32767).astype(np.int16)


def sentence_of(seed: int, most: int = 3) -> str:
    random = np.random.default_rng(seed)
    return " ".join(random.choice(WORDS, random.integers(1, most + 1)))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Recordings with a text beside each, and the model trained on them."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "said").mkdir()
    for number in range(150):
        text = sentence_of(number)
        soundfile.write(folder / "said" / f"s{number % 10}_{number}.wav", said(text, number), RATE)
        (folder / "said" / f"s{number % 10}_{number}.txt").write_text(text.upper() + ".\n")
    model = lamina.train(
        folder / "said", task="transcribe", group="(s[0-9]+)_.*", epochs=14, width=72, threads=1, out=folder / "tones.lamina",
        runs=folder / "runs", cache=str(folder / "cache"),
    )  # fmt: skip
    return folder, model


def test_it_learns_what_is_said(speech):
    folder, model = speech
    assert model.card["score"]["name"] == "word error rate" and model.card["score"]["value"] < 0.3
    assert model.card["score"]["low"] <= model.card["score"]["value"] <= model.card["score"]["high"]
    assert model.verdict.contender("classical").score.value > model.card["score"]["value"]
    assert model.verdict.contender("trivial").score.value > 0.5
    again = lamina.load(folder / "tones.lamina")
    wave = said("road team", 999)
    answer = again.predict((RATE, wave))
    assert answer.label == "road team" == model.predict((RATE, wave)).label
    first, second = answer.words
    assert first.text == "road" and 0 <= first.start < first.end <= second.start < second.end <= len(wave) / RATE + 0.1
    assert 0 < first.confidence <= 1 and 0 < answer.probability <= 1


def test_the_verdict_the_report_and_the_layers_are_there(speech):
    _, model = speech
    page = (Path(model.card["run"]) / "report.html").read_text()
    assert "What was heard" in page and "word error rate" in page
    facts = json.loads((Path(model.card["run"]) / "report.json").read_text())
    assert facts["kind"] == "transcripts" and len(facts["texts"]) == len(facts["spoken"]) == len(facts["names"])
    speakers = {name.split("_")[0] for name in facts["names"]}
    split = json.loads((Path(model.card["run"]) / "split.json").read_text())
    assert speakers and set(split["parts"].values()) == {"train", "validation", "test"} and split["folds"] is None


def test_letters_are_read_the_better_the_deeper(speech):
    _, model = speech
    found = model.layers()
    scores = {each["name"]: each["score"] for each in found["probes"]}
    assert found["probed"]["letters"] and scores["head"] > 0.7 and scores["norm"] > scores["input"] - 0.05
    assert scores["norm"] > {each["name"]: each["score"] for each in found["control"]}["norm"]
    assert "letters read" in (Path(model.card["run"]) / "report.html").read_text()


def test_an_answer_does_not_depend_on_its_neighbors(speech):
    _, model = speech
    texts = [sentence_of(seed, 5) for seed in range(500, 506)]
    waves = [said(text, number) for number, text in enumerate(texts)]
    together = model.predict([(RATE, wave) for wave in waves])
    alone = [model.predict((RATE, wave)) for wave in waves]
    assert [each.label for each in together] == [each.label for each in alone]
    assert all(abs(one.probability - other.probability) < 1e-4 for one, other in zip(together, alone, strict=True))
    x, context = model.input.collate(waves)
    with torch.no_grad():
        every, its = model.network(x, context)
        for row, wave in enumerate(waves):
            own, mine = model.network(*model.input.collate([wave]))
            assert int(mine.lengths[0]) == int(its.lengths[row])
            assert torch.allclose(every[row, : len(own[0])], own[0], atol=1e-4)


def test_long_recordings_are_heard_in_windows(speech):
    _, model = speech
    texts = [sentence_of(seed, 3) for seed in range(700, 760)]
    wave = said(" ".join(texts))
    assert len(wave) > 1.5 * model.input.samples
    windows = model.input.windows(wave)
    assert len(windows) > 1 and sum(map(len, windows)) > len(wave)
    answer = model.predict((RATE, wave))
    wanted = " ".join(texts).split()
    assert edits(answer.label.split(), wanted) / len(wanted) < 0.35
    assert answer.words[-1].end > 0.9 * len(wave) / RATE and all(a.start < b.start for a, b in itertools.pairwise(answer.words))


def test_long_texts_are_made_piece_by_piece():
    steps = np.full((2_600, 3), -5.0)
    steps[:, 0] = -0.01
    assert cuts_of(steps[:900]) == [0, 900]
    steps[400:1_400, 0], steps[400:1_400, 1] = -5.0, -0.01  # somebody speaks without a pause
    cuts = cuts_of(steps)
    assert cuts[0] == 0 and cuts[-1] == 2_600 and all(0 < b - a <= 1_000 for a, b in itertools.pairwise(cuts)) and 250 <= cuts[1] <= 400


def test_evaluate_and_the_commands(speech, tmp_path):
    folder, model = speech
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", said(sentence_of(900 + number), number), RATE)
        (tmp_path / f"{number}.txt").write_text(sentence_of(900 + number))
    found = CliRunner().invoke(app, ["evaluate", str(folder / "tones.lamina"), str(tmp_path), "--json"])
    assert found.exit_code == 0 and json.loads(found.stdout)["score"]["n"] == 6
    with pytest.raises(UsageError, match="--against"):
        model.evaluate_data(tmp_path, Settings(), Screen(quiet=True), str(tmp_path / "0.txt"))
    heard = CliRunner().invoke(app, ["predict", str(folder / "tones.lamina"), "-", "--json"], input=(tmp_path / "0.wav").read_bytes())
    (row,) = json.loads(heard.stdout)
    assert row["label"] and {"text", "start", "end", "confidence"} == set(row["words"][0])


# ---------------------------------------------------------------- reading


def test_tables_and_pairs_and_what_is_missing(tmp_path):
    soundfile.write(tmp_path / "a.wav", said("no"), RATE)
    soundfile.write(tmp_path / "b.wav", said("on"), RATE)
    soundfile.write(tmp_path / "c.wav", said("rat"), RATE)
    (tmp_path / "table.csv").write_text("path,transcript,speaker\na.wav,No!,ana\nb.wav,on,ben\nc.wav,,ben\n")
    sounds = [SpeechInput()]
    found = read_speech(tmp_path / "table.csv", Settings(), sounds)
    assert list(found.answers) == ["No!", "on"] and [each.by for each in found.answers] == list(found.groups) == ["ana", "ben"]
    assert [each.name for each in found.findings] == ["c.wav"]
    (tmp_path / "table.csv").unlink()
    (tmp_path / "a.txt").write_text("no")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="1 recordings with 1 different texts"):
        read_speech(tmp_path, Settings(), sounds)
    (tmp_path / "b.txt").write_text("on\n")
    found = read_speech(tmp_path, Settings(), sounds)
    assert [(each.name, each.kind, each.counts) for each in found.findings] == [("c.wav", "no-transcript", True)]
    (tmp_path / "d" / "x").mkdir(parents=True)
    soundfile.write(tmp_path / "d" / "x" / "1-2.flac", said("team"), RATE)
    soundfile.write(tmp_path / "d" / "x" / "1-3.flac", said("road"), RATE)
    (tmp_path / "d" / "x" / "1.trans.txt").write_text("1-2 TEAM\n1-3 ROAD\n")
    assert sorted(read_speech(tmp_path / "d", Settings(), sounds).answers) == ["ROAD", "TEAM"]
    (tmp_path / "wrong.csv").write_text("path,color\na.wav,red\n")
    with pytest.raises(DataError, match="label column"):
        read_speech(tmp_path / "wrong.csv", Settings(), sounds)


def test_recordings_that_are_too_short_or_too_long_are_named(tmp_path):
    for name, wave in (("short", said("no")[:160]), ("long", np.tile(said("road team"), 60)), ("good", said("no")), ("other", said("on"))):
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE)
        (tmp_path / f"{name}.txt").write_text(name)
    report = audit(read_speech(tmp_path, Settings(), [SpeechInput()]), SpeechInput(), Settings(), Screen(quiet=True), "texts")
    assert {each.name: each.kind for each in report.excluded} == {"short.wav": "too-short", "long.wav": "too-long"}
    assert "labels" in report.summary() and not report.summary()["labels"]


def test_texts_are_normalized_as_said():
    assert spoken("It's  NICE — isn’t it?! 3,5") == "it's nice isn't it 3 5"
    assert spoken("'quoted' ÉTÉ") == "quoted été"
    output = CharactersOutput().fit(["A b", "c"])
    assert output.letters == (" ", "a", "b", "c") and output.encode("cab? z") == [4, 2, 3, 1]
    assert Said("no", "ana").by == "ana" and json.dumps([Said("no", "ana")]) == '["no"]'


# ---------------------------------------------------------------- from letters to texts


def every_text(chances: np.ndarray, letters: str) -> dict[str, float]:
    """The probability of each text, by adding up all paths."""
    found: dict[str, float] = {}
    for path in itertools.product(range(chances.shape[1]), repeat=len(chances)):
        text = "".join(letters[index - 1] for index in [index for index, _ in itertools.groupby(path)] if index)
        found[text] = found.get(text, 0.0) + math.exp(sum(chances[step, index] for step, index in enumerate(path)))
    return found


def test_the_search_adds_up_all_paths():
    random = np.random.default_rng(3)
    for _ in range(20):
        chances = np.log(random.dirichlet([0.7] * 3, 5))
        wanted = every_text(chances, "ab")
        found = search(chances, ("a", "b"), Sentences(), 0.0, 0.0)
        best = max(wanted, key=wanted.get)
        assert found[0].text == best
        assert all(0.98 < math.exp(each.heard) / wanted[each.text] <= 1 + 1e-6 for each in found[:2])


def test_words_that_are_known_win_where_the_sound_is_unsure():
    sentences = Sentences.counted(["bad road"] * 20 + ["bad idea"] * 5)
    letters = (" ", *sorted("abdeior"))
    row = {letter: number + 1 for number, letter in enumerate(letters)}
    chances = np.full((16, len(letters) + 1), -9.0)
    for step, letter in zip(range(0, 16, 2), "bad rood", strict=True):
        chances[step, row[letter]], chances[step + 1, 0] = -0.1, -0.01
    chances[12, row["a"]] = -0.9
    text = search(chances, letters, sentences, 1.0, 0.0)[0].text
    assert "".join(letters[each - 1] for each in best_path(chances)) == "bad rood" and text == "bad road"


def test_a_search_does_not_put_off_what_words_cost():
    """Where letters are unsure and pauses weak, words run together would win while the search goes on, for they have not ended yet."""
    sentences = Sentences.counted(["four nine two six"] * 9 + ["two six four nine", "nine four six two"])
    letters = (" ", *sorted(set("fournietwsx")))
    row = {letter: number + 1 for number, letter in enumerate(letters)}
    steps, told = [], "two six four nine two six two four nine six"
    for place, letter in enumerate(told):
        step = np.full(len(letters) + 1, 1e-6)
        step[0] = 0.6 if letter == " " else 0.01
        step[row[letter]] = 0.4 if letter == " " else 0.5
        if letter != " ":
            for other in (3, 5):  # which it sounds like
                step[1 + (row[letter] + place + other) % (len(letters) - 1) + 1] += 0.25
        steps += [step, np.r_[1.0, np.full(len(letters), 1e-6)]]
    chances = np.log(np.array(steps) / np.sum(steps, 1, keepdims=True))
    assert search(chances, letters, sentences, 0.7, 1.0)[0].text == told
    assert sentences.begun("fo") == sentences.begun("four") == sentences.chance("four", ()) > sentences.begun("fon")


@pytest.mark.parametrize(("said", "words_count"), [("bad road", True), ("bad rood", False)])
def test_words_count_where_they_make_what_was_said_likelier(said, words_count):
    """Though the likeliest letters are right already: on few recordings nothing else tells whether words help."""
    letters = (" ", *sorted("abdeior"))
    output = CharactersOutput(letters=letters, sentences=Sentences.counted(["bad road"] * 20 + ["bad idea"] * 5))
    values = torch.full((1, 16, len(letters) + 1), -9.0)
    for step, letter in zip(range(0, 16, 2), output.encode(said), strict=True):
        values[0, step, letter], values[0, step + 1, 0] = -0.1, -0.01
    values[0, 12, output.encode("o" if said == "bad road" else "a")[0]] = -0.5
    assert output.text(best_path(values[0].log_softmax(-1).numpy())) == said
    chosen = output.calibrate(values, output.collate([output.encode(said)]), None)
    assert (chosen.weight > 0) == words_count and chosen.decode(values, Context())[0].label == said


def test_pauses_are_one_space():
    chances = np.log(np.random.default_rng(0).dirichlet([1.0, 4.0, 1.0], 40))  # mostly spaces
    found = search(chances, (" ", "a"), Sentences.counted(["a a", "a"]), 0.5, 0.0)
    assert all(each.text == " ".join(each.text.split()) for each in found)
    output = CharactersOutput(letters=(" ", "a"), sentences=Sentences.counted(["a a", "a"]), weight=0.5)
    (answer,) = output.decode(torch.from_numpy(chances)[None], Context())
    assert [word.text for word in answer.words] == answer.label.split()


def test_sentences_are_probabilities():
    sentences = Sentences.counted(["a b c", "a b b", "c a", "a"])
    for before in ([BEGIN, BEGIN], [BEGIN, "a"], ["a", "b"], ["zzz", "a"], ["q", "zzz"]):
        total = sum(math.exp(sentences.chance(word, before)) for word in ("a", "b", "c", BEGIN))
        assert 0.5 < total <= 1.0001
    assert sentences.chance("b", ["zzz", "a"]) > sentences.chance("c", ["zzz", "a"]) > sentences.chance("unheard", ["zzz", "a"])
    assert Sentences.from_state(json.loads(json.dumps(sentences.state()))) == sentences
    for wrong in ({}, [["a b c d", 1]], [["a", 0]], [["a"]], None):
        with pytest.raises(ModelFileError):
            Sentences.from_state(wrong)


def test_words_stand_where_they_were_heard():
    random = np.random.default_rng(5)
    for _ in range(10):
        chances = np.log(random.dirichlet([0.5] * 4, 6))
        letters = [1, 2, 2]
        best = max(
            (path for path in itertools.product(range(4), repeat=6) if [i for i, _ in itertools.groupby(path) if i] == letters),
            key=lambda path: sum(chances[step, index] for step, index in enumerate(path)),
        )
        steps = [step for step, index in enumerate(best) if index and (step == 0 or best[step - 1] != index)]
        assert [step for step, _ in aligned(chances, letters)] == steps
    assert aligned(chances, [1] * 7) == [] == aligned(chances, [])


def test_edits_and_changes():
    random = np.random.default_rng(0)

    def plain(one, other):
        table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
        for i, j in itertools.product(range(1, len(one) + 1), range(1, len(other) + 1)):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one[i - 1] != other[j - 1]))
        return table[len(one), len(other)]

    for _ in range(200):
        one, other = ("".join(random.choice(list("abc"), random.integers(0, 8))) for _ in range(2))
        assert edits(one, other) == plain(one, other) == len(changes(one, other))
    assert changes(["a", "x", "c"], ["a", "b", "c", "d"]) == [("x", "b"), ("", "d")]


# ---------------------------------------------------------------- layers, loss, opponents


def test_padding_says_nothing():
    layer = LogMel(RATE, 40)
    waves = [said("road"), said("no")]
    x, context = SpeechInput(rate=RATE, samples=30 * RATE).collate(waves)
    with torch.no_grad():
        loud, after = layer(x, context)
        alone, own = layer(*SpeechInput(rate=RATE, samples=30 * RATE).collate(waves[1:]))
    assert int(after.lengths[1]) == int(own.lengths[0]) and torch.equal(loud[1, :, :, : own.lengths[0]], alone[0])
    assert not loud[1, :, :, own.lengths[0] :].any()
    masks = Masks(0.2, 0.2, 2, views=2).train()
    twice, both = masks(loud, after)
    assert len(twice) == 4 and both.lengths.tolist() == after.lengths.tolist() * 2 and not torch.equal(twice[:2], twice[2:])
    assert torch.equal(masks.eval()(loud, after)[0], loud)


def test_two_views_are_asked_to_agree():
    output = CharactersOutput().fit(["ab", "ba"])
    network = Network([("input", LogMel(RATE, 80)), *speech_net(80, 36, dropout=0.0), ("head", output.head(36))])
    target = output.collate([output.encode("ab"), output.encode("ba")])
    hidden = torch.randn(4, 20, 36)
    context = Context(torch.tensor([20, 15, 20, 15]))
    progress = Progress(torch.zeros(()), torch.zeros(()))
    total, count = output.loss(hidden, network.head, target, context, progress)
    alike, _ = output.loss(hidden[[0, 1, 0, 1]], network.head, target, context, progress)
    alone, again = output.loss(hidden[:2], network.head, target, Context(context.lengths[:2]), progress)
    total, alike, alone = total.detach(), alike.detach(), alone.detach()
    assert float(alike) == pytest.approx(float(alone), rel=1e-5) and float(count) == float(again) == 4 and float(total) > 0


def test_bent_time_is_that_of_a_plain_reference(monkeypatch):
    random = np.random.default_rng(1)
    rows = [random.normal(size=(size, 3)).astype(np.float32) for size in (4, 7, 5)]
    layer = Templates(3, 7, 3)
    for number, row in enumerate(rows):
        layer.kept[number, : len(row)], layer.lengths[number] = torch.from_numpy(row), len(row)
    asked = [random.normal(size=(size, 3)).astype(np.float32) for size in (6, 3, 9)]

    def plain(one, other):
        table = np.full((len(one) + 1, len(other) + 1), np.inf)
        table[0, 0] = 0
        for i, j in itertools.product(range(len(one)), range(len(other))):
            table[i + 1, j + 1] = np.linalg.norm(one[i] - other[j]) + min(table[i, j], table[i, j + 1], table[i + 1, j])
        return table[-1, -1] / (len(one) + len(other))

    wanted = [[plain(row, each) for row in rows] for each in asked]
    assert np.allclose(layer.costs([torch.from_numpy(each) for each in asked]).numpy(), wanted, atol=1e-4)
    monkeypatch.setattr("lamina.classical.speech.CELLS", 1)
    assert np.allclose(layer.costs([torch.from_numpy(each) for each in asked]).numpy(), wanted, atol=1e-4)
    output = CharactersOutput().fit(["aab", "b"])
    saying = Saying.of([output.encode("aab"), output.encode("b")], len(output.letters) + 1)
    values, context = saying(torch.tensor([1, 0]), Context())
    assert (
        [each.label for each in output.decode(values, context)] == ["b", "aab"] == [each.label for each in output.decode(values, Context())]
    )
    assert Cepstra(40)(torch.randn(2, 1, 40, 30), Context())[0].shape == (2, 10, 13)


def test_scores_are_those_of_speakers():
    output = CharactersOutput().fit(["a b"])
    right = output.decode(Saying.of([output.encode("a b")], 4)(torch.zeros(1), Context())[0], Context())
    truths = [Said("a b", f"s{number % 12}") for number in range(48)]
    found = score(right * 48, truths)
    assert found.value == found.low == found.high == 0
    worse = score(right * 48, [Said("a c" if number % 12 < 6 else "a b", f"s{number % 12}") for number in range(48)])
    assert worse.value == 0.25 and worse.low < 0.2 and worse.high > 0.3


def test_hostile_states_are_refused():
    for state in ({}, {"letters": ["ab"], "sentences": [], "weight": 0, "bonus": 0}, {"letters": ["a", "a"], "sentences": [], "weight": 0}):
        with pytest.raises(ModelFileError):
            CharactersOutput.from_state(state)
    for state in ({}, {"rate": 16_000, "samples": 10**12, "bands": 80}, {"rate": "x", "samples": 1, "bands": 80}):
        with pytest.raises(ModelFileError):
            SpeechInput.from_state(state)


def test_speed_and_noise_keep_the_length_in_the_context():
    input = SpeechInput(rate=RATE, samples=30 * RATE)
    x, context = input.collate([said("road"), said("no")])
    draws = torch.tensor([[0.1, 0.2, 0.5, 0.2, 0.3, 0.0], [0.1, 0.2, 0.5, 0.9, 0.3, 1.0]])
    varied, after = input.augment(x, context, draws)
    assert (after.lengths.float() / context.lengths).tolist() == pytest.approx([1 / 0.9, 1 / 1.1], rel=1e-3)
    assert not varied[1, after.lengths[1] :].any() and varied.dtype == torch.int16


def test_recordings_of_a_length_are_learned_together():
    lengths = np.random.default_rng(0).integers(2_000, 60_000, 64)
    input, output = SpeechInput(rate=RATE, samples=30 * RATE), CharactersOutput().fit(["no", "on"])
    values = Decoded.of([np.zeros(length, np.int16) for length in lengths])
    feed = Feed(values, [output.encode("no")] * 64, input, output, torch.device("cpu"))
    pieces = feed.pieces(np.arange(64), 32)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(64)) and all(1 <= len(piece) <= 32 for piece in pieces)
    padded = sum(len(piece) * lengths[piece].max() for piece in pieces)
    assert padded < 1.35 * lengths.sum() < 64 * lengths.max()
    indices = np.arange(3, 63)
    shown = [feed.training(indices, 5, step, 8) for step in range(15)]  # two epochs of 60, neither a multiple of 8
    told = np.concatenate([examples for examples, _ in shown])
    assert sorted(told[:60]) == sorted(told[60:]) == indices.tolist() and told[:60].tolist() != told[60:].tolist()
    mixed = np.concatenate([replace(feed, input=AudioInput(RATE, RATE)).training(indices, 5, step, 8)[0] for step in range(15)])
    lengths = np.array([shape[0] for shape in values.shapes])
    assert lengths[told].reshape(15, 8).std(1).mean() < 0.5 * lengths[mixed].reshape(15, 8).std(1).mean()
    plain = Feed(values, [], AudioInput(RATE, RATE), output, torch.device("cpu"))
    assert [piece.tolist() for piece in plain.pieces(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


def test_a_broken_file_is_one_sentence(speech, tmp_path):
    _, model = speech
    (tmp_path / "broken.wav").write_bytes(b"RIFF" + bytes(100))
    assert "must be readable" in model.predict(str(tmp_path / "broken.wav")).error
    assert model.input.read(FileRaw(str(next((speech[0] / "said").glob("*.wav"))))).dtype == np.int16

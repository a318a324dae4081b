"""Texts: decoding, the audit, tokens that lose nothing, the transformer's layers, and recognition through the main path."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from contract import check_contract

import lamina
from lamina.data.duplicates import find_duplicates
from lamina.data.raw import FileRaw, Talk
from lamina.errors import DataError, ModelFileError
from lamina.inputs import TextInput
from lamina.inputs.text import packed
from lamina.layers import Attention, Context, GatedMLP, LastNorm, Phrases, TextPool, Tokens
from lamina.networks import Network, phrase_net, transformer
from lamina.outputs import ClassesOutput

pytest.importorskip("tokenizers", reason="texts need the extra: pip install 'lamina[text]'")
ODD = "Zoë says: naïve café 😀\r\nمرحبا بالعالم\tשלום 漢字 e\u0301"


def fitted(texts, **how) -> TextInput:
    unfitted = TextInput(**how)
    return unfitted.fit(texts, [unfitted.inspect(text) for text in texts])


def opinions(count: int = 60) -> tuple[list[str], list[str]]:
    """Texts of two moods, no two alike."""
    random, texts, moods = np.random.default_rng(0), [], []
    for number in range(count):
        mood = "good" if number % 2 else "bad"
        words = {"good": ["lovely", "warm", "great", "moving"], "bad": ["dull", "cold", "awful", "empty"]}[mood]
        other = ["film", "story", "scene", "end", "actor", "song", "plot", "line"]
        said = [*random.choice(words, 3), *random.choice(other, 6 + number % 9), f"no{number}"]
        texts.append(" ".join(random.permutation(said)))
        moods.append(mood)
    return texts, moods


@pytest.mark.parametrize("tokens", ["characters", "bytes", "512", "auto"])
def test_no_text_is_lost(tokens):
    """Whatever a token is, and whatever the text holds, tokens give the text back, in Unicode's NFC and with plain line ends; each token
    knows how many bytes it stands for."""
    input = fitted(opinions()[0], tokens=tokens, longest=0)
    wanted = "Zoë says: naïve café 😀\nمرحبا بالعالم\tשלום 漢字 é"
    found = input.read(ODD)
    assert input.words(found) == wanted
    assert int(input.bytes_of[found].sum()) == len(wanted.encode())
    again = TextInput.from_state(json.loads(json.dumps(input.state())))
    assert again == input and (again.read(ODD) == found).all()


def test_what_is_wrong_is_named(tmp_path):
    """Unreadable files are named with their reason, odd ones warned of; nothing is replaced by a blank."""
    files = {
        "plain.txt": b"a good text", "mark.txt": "\ufeffwith a mark".encode(), "wide.txt": "two bytes a letter".encode("utf-16"),
        "western.txt": "caf\xe9 na\xefve, \xfcber alles".encode("latin-1"), "binary.txt": b"\x7fELF\0\0\1\2", "none.txt": b"",
        "spaces.txt": b" \n\t ", "half.txt": "\ud83d".encode("utf-8", "surrogatepass"), "control.txt": bytes(range(1, 9)) * 20,
        "line.txt": b"x " * 60_000, "mail.txt": b"write to jo@example.com or call 030 1234 5678", "card.txt": b"4111 1111 1111 1111 mine",
        "number.txt": b"4111 1111 1111 1112 is none",
    }  # fmt: skip
    found = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        found[name] = TextInput().inspect(FileRaw(str(tmp_path / name)))
    assert {name: each.problem for name, each in found.items() if each.problem} == {
        "western.txt": "encoding", "binary.txt": "binary", "none.txt": "empty", "spaces.txt": "empty", "half.txt": "encoding",
        "control.txt": "binary",
    }  # fmt: skip
    assert "Latin-1" in found["western.txt"].detail and "byte 3" in found["western.txt"].detail
    told = {name: [what for what, _ in each.warnings] for name, each in found.items() if each.warnings}
    assert told == {"line.txt": ["long-line"], "mail.txt": ["personal-data"], "card.txt": ["personal-data"]}
    assert found["mark.txt"].shape == (11,) and found["wide.txt"].shape == (18,)
    with pytest.raises(DataError, match="UTF-8"):
        fitted(["abc"] * 3).read(FileRaw(str(tmp_path / "western.txt")))


def test_copies_are_found_by_their_words():
    text = " ".join(f"word{number} of{number % 7} many" for number in range(80))
    near, other = text.replace("word3 ", "another ") + " the end", " ".join(f"else{number} now" for number in range(120))
    input = TextInput()
    found = np.array([input.inspect(each).fingerprint for each in (text, near, other)], np.uint64)
    assert input.near(found[[0, 0]], found[[1, 2]]).tolist() == [True, False]
    assert input.same(text, near) and not input.same(text, other)


def test_copies_of_short_texts_are_found():
    """Of a hundred messages of 24 words, each copied with one word changed, nearly all; of others none."""
    random, input = np.random.default_rng(0), TextInput()
    texts = [[f"w{number}" for number in random.integers(0, 2_000, 24)] for _ in range(100)]
    copies = [[*text[:20], "changed", *text[21:]] for text in texts]
    raws = [" ".join(text) for text in texts + copies]
    prints = [input.inspect(raw).fingerprint for raw in raws]
    found = find_duplicates(raws, prints, lambda one, other: input.same(raws[one], raws[other]), input.near).near
    assert {other - one for one, other in found} == {100} and len(found) >= 85


@pytest.mark.parametrize("kind", ["transformer", "phrases"])
def test_packed_texts_do_not_see_each_other(kind):
    """Side by side in rows, and alone, each text comes to the same signals; nothing of a row is shared by two texts at once."""
    torch.manual_seed(0)
    of_steps = [("input", Tokens(50, 32, longest=12)), *transformer(32, causal=False, depth=2), ("pool", TextPool())]
    network = Network(of_steps if kind == "transformer" else phrase_net(50, 32, 12)).eval()
    for layer in network.stack:
        for value in layer.parameters():
            torch.nn.init.normal_(value, std=0.2)
    texts = [np.random.default_rng(number).integers(0, 50, length) for number, length in enumerate((12, 3, 5, 1, 7, 4, 2))]
    padded, context = TextInput().collate(texts)
    rows, side_by_side = packed(padded, context.lengths)
    assert rows.shape == (3, 12) and int((side_by_side.segments > 0).sum()) == sum(map(len, texts))
    together, beside = network(padded, context)[0], network(rows, side_by_side)[0]
    alone = torch.cat([network(*TextInput().collate([text]))[0] for text in texts])
    assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(beside, alone, atol=1e-5)


def test_phrases_are_a_convolution():
    """Inside a text; beyond its ends there is nothing."""
    torch.manual_seed(0)
    layer = Phrases(4, 6, 5)
    x = torch.randn(2, 9, 4)
    weight = layer.sums.weight.view(6, 5, 4).transpose(1, 2)
    for row, length in ((0, 9), (1, 5)):
        alone = torch.nn.functional.conv1d(x[[row], :length].transpose(1, 2), weight, layer.sums.bias, padding=2).relu().transpose(1, 2)
        found, context = layer(x, Context(torch.tensor([9, 5])))
        assert torch.allclose(found[row, :length], alone[0], atol=1e-6) and context.lengths.tolist() == [9, 5]
    with pytest.raises(ValueError, match="odd"):
        Phrases(4, 6, 4)


def test_the_middle_of_a_long_text_is_left_out():
    torch.manual_seed(0)
    layer = Tokens(100, 8, longest=6)
    long, short = np.arange(20), np.array([7, 8])
    x, context = TextInput().collate([long, short])
    found, after = layer(x, context)
    assert after.lengths.tolist() == [6, 2] and torch.equal(found[0], layer.table.weight[[0, 1, 2, 17, 18, 19]])
    assert torch.equal(found[1, :2], layer.table.weight[[7, 8]])


def test_contract_of_texts(tmp_path):
    texts, moods = opinions(48)

    def build(x):
        return Network([
            ("input", Tokens(input.count, 16)), *transformer(16, causal=False, depth=1), ("pool", TextPool()), ("head", output.head(16)),
        ])  # fmt: skip

    input, output = fitted(texts, tokens="characters"), ClassesOutput().fit(moods)

    class Fitted(TextInput):
        def fit(self, raws, inspections):
            return input

    check_contract(Fitted(), ClassesOutput(), build, texts, moods, tmp_path, optimizer="muon+adamw", learning_rate=0.02, head_rate=0.01,
                   rest_rate=0.01, momentum=0.95)  # fmt: skip


def test_layers_of_impossible_sizes_are_refused():
    for make in (lambda: Tokens(0, 8), lambda: Attention(8, 3, 2, 4), lambda: GatedMLP(8, 1 << 40), lambda: LastNorm(-1)):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(ModelFileError):
        TextInput.from_state({"tokens": "auto", "tokenizer": "{}", "longest": 0})
    with pytest.raises(ModelFileError):
        TextInput.from_state({"tokens": 1})


def test_conversations_are_written_down_as_turns():
    input = fitted(["user says hello", "assistant answers"] * 10, tokens="bytes", longest=0)
    tokens, own = input.spoken(Talk((("system", "be kind"), ("user", "hello"), ("assistant", "hi"))))
    assert input.words(tokens) == "system\nbe kind\nuser\nhello\nassistant\nhi\n"
    said = [token for token, mine in zip(tokens.tolist(), own.tolist(), strict=True) if mine]
    assert said == [*input.read("hi").tolist(), input.special(2)]
    begun = input.spoken(Talk((("user", "hello"),)), answer=True)[0]
    assert input.words(begun) == "user\nhello\nassistant\n"


def test_texts_through_the_main_path(tmp_path):
    """A table of texts is read, judged, reported, opened and asked; so are class folders of files, one of them broken."""
    texts, moods = opinions(120)
    lines = ["review,label", *(f'"{text}",{mood}' for text, mood in zip(texts, moods, strict=True))]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    options = {"threads": 1, "runs": tmp_path / "runs", "cache": str(tmp_path / "c"), "width": 64}
    model = lamina.train(tmp_path / "reviews.csv", epochs=3, out=tmp_path / "r.lamina", **options)
    assert model.input.kind == "text" and [each.kind for each in model.verdict.contenders] == ["deep", "classical", "trivial"]
    assert model.verdict.contender("classical").score.value > 0.9, "words tell these moods apart"
    opened = lamina.load(tmp_path / "r.lamina")
    assert {opened.predict([text])[0].label for text in texts[:10]} <= {"good", "bad", None}
    page = (tmp_path / "runs" / "reviews-1" / "report.html").read_text()
    assert "By class, weakest first" in page
    for text, mood in zip(texts, moods, strict=True):
        (tmp_path / "folders" / mood).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / mood / f"{abs(hash(text))}.txt").write_text(text)
    (tmp_path / "folders" / "good" / "broken.txt").write_bytes(b"\0\1\2")
    (tmp_path / "folders" / "good" / "picture.png").write_bytes(b"\x89PNG\r\n")
    again = lamina.train(tmp_path / "folders", epochs=1, verdict_share=0.0, out=tmp_path / "f.lamina", **options)
    audit = json.loads((tmp_path / "runs" / "folders-1" / "audit.json").read_text())
    assert again.input.kind == "text" and audit["kinds"]["binary"] == 1 and audit["kinds"]["foreign"] == 1


def test_a_packaged_sentence_encoder_answers_as_at_home(tmp_path):
    """Its signals are those of transformers, number by number; a few texts are recognized better from it than from nothing."""
    import importlib.util

    from lamina.start import ENCODER, ENCODER_EXTRA, ENCODER_PACKAGE, find_start

    if importlib.util.find_spec(ENCODER_PACKAGE) is None:
        pytest.skip(f"the packaged encoder is not installed: {ENCODER_EXTRA}")
    start = find_start(ENCODER)
    network = start._network(ClassesOutput(("a", "b"))).eval()
    said = ["A man is playing a guitar.", "Somebody plays music on an instrument.", "The stock market fell sharply today."]
    x, context = start.input.collate([start.input.read(text) for text in said])
    found = network.hidden(x, context)[0]
    unit = torch.nn.functional.normalize(found, dim=1)
    alike = (unit @ unit.T).detach().tolist()
    assert alike[0][1] > 0.4 and alike[0][2] < 0.2
    transformers = pytest.importorskip("transformers", reason="checked against transformers where it is installed")
    folder = f"{importlib.util.find_spec(ENCODER_PACKAGE).submodule_search_locations[0]}/model"
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(said, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = transformers.AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    real = tokens["attention_mask"][..., None]
    assert torch.allclose(found, (theirs * real).sum(1) / real.sum(1), atol=1e-4)
    texts, moods = opinions(60)
    (tmp_path / "r.csv").write_text("\n".join(["review,label", *(f"{text},{mood}" for text, mood in zip(texts, moods, strict=True))]))
    model = lamina.train(
        tmp_path / "r.csv", start_from=ENCODER, epochs=1, threads=1, verdict_share=0.0, out=tmp_path / "r.lamina", runs=tmp_path / "runs",
        cache=str(tmp_path / "c"),
    )  # fmt: skip
    assert lamina.load(tmp_path / "r.lamina").predict("a dull and empty film with an awful end").label in ("good", "bad", None)
    assert model.card["score"]["value"] > 0.7

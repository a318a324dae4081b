"""What comes next: windows that count each token once, n-grams that add up to 1, a transformer trained, resumed, asked, exported and tuned
on conversations."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import lamina
from lamina.classical.ngrams import counted
from lamina.data.raw import PartRaw
from lamina.data.texts import read_texts
from lamina.errors import DataError, UsageError
from lamina.export import write_folder
from lamina.generation import allowed
from lamina.inputs import TextInput
from lamina.layers import Attention, Context, LastNorm, TokenHead, Tokens
from lamina.losses import NOTHING, cross_entropy
from lamina.networks import Network, transformer
from lamina.outputs import NextOutput, Progress
from lamina.outputs.next import following
from lamina.settings import Sampling, Settings
from lamina.training.windows import WindowFeed, cut, cut_into_windows, segments, side_by_side

pytest.importorskip("tokenizers", reason="texts need the extra: pip install 'lamina[text]'")
OPTIONS = {"task": "language", "threads": 1, "width": 32, "context": 32, "batch": 8}


def book(lines: int = 700) -> str:
    """Sentences with a rule in them: who does what is always the same."""
    random, does = np.random.default_rng(0), {"ana": "sings", "ben": "walks", "cleo": "reads", "dan": "sleeps"}
    names = random.choice(list(does), lines)
    return "".join(f"{name} {does[name]} at {random.integers(1, 9)}.\n" for name in names)


@pytest.fixture(scope="module")
def tale(tmp_path_factory):
    """(folder, model) of a small book."""
    folder = tmp_path_factory.mktemp("tale")
    (folder / "book.txt").write_text(book())
    paths = {"out": folder / "tale.lamina", "runs": folder / "runs", "cache": str(folder / "cache")}
    return folder, lamina.train(folder / "book.txt", epochs=12, **paths, **OPTIONS)


def test_each_token_is_asked_for_once():
    """Overlapping windows count every token but the first of the stream once; windows to learn from stay inside it wherever they begin."""
    for size in (2, 10, 33, 34, 64, 65, 200):
        starts, counted_, _ = cut(size, 32, learned=False)
        asked = np.zeros(size, int)
        for start, (first, last) in zip(starts, counted_, strict=True):
            asked[start + 1 + first : start + 1 + last] += 1
        assert asked[0] == 0 and (asked[1:] == 1).all(), size
        starts, _, slack = cut(size, 32, learned=True)
        assert len(starts) and (starts + slack + 33 <= max(size, 33)).all()


def test_a_long_file_is_cut_where_characters_end(tmp_path):
    """Pieces follow one another without a gap, none tears a character, and a single document is divided by place."""
    text = "".join(f"zeile {number} äöü漢字😀\n" for number in range(9_000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found = read_texts(str(tmp_path / "a.txt"), Settings(), TextInput())
    parts = list(found.parts)
    assert set(parts) == {"train", "validation", "test"} and parts == sorted(parts, key=["validation", "train", "test"].index)
    pieces = [raw.read() for raw in found.raws]
    assert b"".join(pieces).decode() == text and all(piece.decode() for piece in pieces)
    assert all(isinstance(raw, PartRaw) for raw in found.raws)
    share = sum(len(piece) for piece, part in zip(pieces, parts, strict=True) if part == "test") / len(text.encode())
    assert share == pytest.approx(0.1, abs=1e-3)
    for part, names in (("train", ("a", "b")), ("test", ("c",))):  # too few documents to keep whole ones for validation
        for name in names:
            (tmp_path / "few" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "few" / part / f"{name}.txt").write_text(text[:5_000] + name, encoding="utf-8")
    few = read_texts(str(tmp_path / "few"), Settings(), TextInput())
    assert sorted(few.parts) == ["test", "train", "train", "validation", "validation"]
    with pytest.raises(DataError, match="at least one text"):
        (tmp_path / "empty").mkdir()
        read_texts(str(tmp_path / "empty"), Settings(), TextInput())


def test_conversations_stand_whole_and_only_answers_count():
    random = np.random.default_rng(0)
    talks = [np.stack([random.integers(5, 50, n), np.r_[np.zeros(n // 2), np.ones(n - n // 2)].astype(int)]).astype(np.int32)
             for n in (30, 9, 12, 20, 3, 100)]  # fmt: skip
    stream, asked, _ = side_by_side(talks, 40, end=1)
    rows, wanted = stream.reshape(-1, 41), asked.reshape(-1, 41)
    assert int(wanted.sum()) == sum(int(talk[1, -40:].sum()) for talk in talks)
    assert all(row[0] == 1 for row in rows)
    for talk in talks[:5]:
        bare = ",".join(map(str, [1, *talk[0]]))
        assert any(bare in ",".join(map(str, row)) for row in rows), "a conversation is not torn"
    assert segments(torch.from_numpy(rows.astype(np.int64)), 1).max() > 1


def test_n_grams_add_up_and_know_what_followed():
    """Probabilities add up to 1 after every context, seen or not; what always followed is nearly sure; the future is not looked at."""
    stream = np.array([0, 1, 2, 3] * 50 + [4, 0, 1, 5])
    layer = counted(stream, 7, 4)
    x = torch.tensor([[0, 1, 2, 3, 6, 6, 0, 1]])
    found = layer(x, Context())[0]
    assert torch.allclose(found.exp().sum(-1), torch.ones(1, 8), atol=1e-5)
    assert found[0, 2].argmax() == 3 and found[0, 2, 3].exp() > 0.9
    changed = torch.cat([x[:, :4], torch.zeros(1, 4, dtype=torch.int64)], 1)
    assert torch.equal(layer(changed, Context())[0][:, :4], found[:, :4])


def test_a_book_through_the_main_path(tale):
    """The verdict names deep and n-grams in bits per byte; the score is that of the file, and evaluate finds it again."""
    folder, model = tale
    kinds = [each.kind for each in model.verdict.contenders]
    assert kinds == ["deep", "classical", "trivial"] and "bits per byte" in model.verdict.sentence
    scores = {each.kind: each.score.value for each in model.verdict.contenders}
    assert scores["deep"] < 0.7 * scores["trivial"] and scores["classical"] < 0.7 * scores["trivial"]
    opened = lamina.load(folder / "tale.lamina")
    assert opened.evaluate(folder / "book.txt").value == pytest.approx(model.card["score"]["value"], abs=1e-6)
    page = (folder / "runs" / "book-1" / "report.html").read_text()
    assert "What surprised it most" in page and "bits per byte" in page
    with pytest.raises(UsageError, match="lamina generate"):
        opened.predict(folder / "book.txt")


def test_generation_with_a_cache_is_that_without(tale):
    """The cache, and texts of several lengths at once, change nothing: at temperature 0 each token is the likeliest of a whole pass."""
    _, model = tale
    input = model.input
    prompts = ["ana ", "ben walks at 3.\nc", "dan sle"]
    together = model.generate(prompts, tokens=20, temperature=0)
    assert together == [model.generate(prompt, tokens=20, temperature=0) for prompt in prompts]
    tokens = [input.end, *input.read(prompts[0]).tolist()]
    with torch.no_grad():
        for _ in range(20):
            tokens.append(int(model.network(torch.tensor([tokens]), Context())[0][0, -1].argmax()))
    assert input.words(tokens[len(tokens) - 20 :]) == together[0]
    assert len(model.generate("ana", tokens=100, temperature=1.0)) > 40, "beyond the window"
    assert model.generate("ana", tokens=30, seed=1) == model.generate("ana", tokens=30, seed=1) != model.generate("ana", tokens=30, seed=2)
    stopped = model.generate("ana", tokens=60, stop=("at",))
    assert "at" not in stopped
    assert "".join(piece.text for piece in model.stream(["ana"], tokens=60, stop=("at",))) == stopped


def test_what_may_be_drawn():
    logits, seen = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[True, False, False, False]])
    kept = lambda **how: torch.isfinite(allowed(logits, seen, Sampling(**how))).sum().item()  # noqa: E731
    assert kept(temperature=1) == 4 and kept(top_k=2) == 2 and kept(temperature=0) == 1
    assert kept(temperature=1, top_p=0.6) == 1 and kept(temperature=1, top_p=0.7) == 2 and kept(temperature=1, min_p=0.2) == 2
    assert allowed(logits, seen, Sampling(temperature=0, repetition_penalty=2))[0].argmax() == 1
    for wrong in ({"tokens": 0}, {"top_p": 0}, {"temperature": -1}):
        with pytest.raises(UsageError):
            Sampling(**wrong)


def test_few_directions_learned_beside_the_weights_become_part_of_them(tale, tmp_path):
    folder, model = tale
    paths = {"out": tmp_path / "l.lamina", "runs": tmp_path / "runs", "cache": str(tmp_path / "c"), "verdict_share": 0.0}
    (tmp_path / "other.txt").write_text(book().replace("sings", "hums").replace("walks", "runs"))
    tuned = lamina.train(
        tmp_path / "other.txt", start_from=str(folder / "tale.lamina"), low_rank=8, epochs=6, **paths, **{**OPTIONS, "width": 0}
    )
    assert tuned.network.describe() == model.network.describe()
    one, two = model.network.state_dict(), tuned.network.state_dict()
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert "layers.input.table.weight" not in changed and "layers.head.weights.weight" not in changed
    rank = torch.linalg.matrix_rank((two["layers.mlp1.up.weight"] - one["layers.mlp1.up.weight"]).double(), rtol=1e-4)
    assert {name for name in changed if "norm" not in name} and 1 <= int(rank) <= 8
    before = model.evaluate(tmp_path / "other.txt").value
    assert lamina.load(tmp_path / "l.lamina").evaluate(tmp_path / "other.txt").value < 0.8 * before


@pytest.mark.parametrize("tied", [False, True])
def test_the_exported_folder_answers_alike(tale, tmp_path, tied):
    """Written, read again by this software and by transformers: equal logits, equal tokens, equal chat template."""
    _, model = tale
    torch.manual_seed(0)
    count = model.input.count
    layers = [("input", Tokens(count, 48)), *transformer(48, causal=True), ("head", TokenHead(48, count, tied))]
    layers = [(name, Attention(48, 4, 2, 12, base=5_000.0) if name.startswith("attention") else layer) for name, layer in layers]
    network = Network(layers)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.1)
    from lamina.model import Model

    made = Model("language", model.input, network.eval(), NextOutput(count, tuple(model.input.bytes_of.tolist()), tied))
    assert write_folder(made, tmp_path / "out") <= 1e-4
    opened = lamina.load(made.save(tmp_path / "m.lamina"))
    assert torch.equal(opened.network(torch.arange(9)[None], Context())[0], network(torch.arange(9)[None], Context())[0])
    from lamina.start import find_start

    start = find_start(str(tmp_path / "out"))
    again = start._network(made.output)
    assert torch.equal(again.eval()(torch.arange(9)[None], Context())[0], network(torch.arange(9)[None], Context())[0])
    assert (start.input.read("ana sings") == model.input.read("ana sings")).all()
    transformers = pytest.importorskip("transformers", reason="checked against transformers where it is installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    turns = [{"role": "user", "content": "ana?"}, {"role": "assistant", "content": "sings"}]
    from lamina.data.raw import Talk

    own = made.input.spoken(Talk((("user", "ana?"), ("assistant", "sings"))))[0].tolist()
    told = tokenizer.apply_chat_template(turns, tokenize=True)
    assert list(told["input_ids"] if hasattr(told, "keys") else told) == own
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"), dtype=torch.float32).eval()
    x = torch.arange(20)[None] % count
    with torch.no_grad():
        assert float((theirs(x).logits - network(x, Context())[0]).abs().max()) < 1e-4
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("do not touch")
    with pytest.raises(UsageError, match="new, empty"):
        write_folder(made, tmp_path / "full")


def test_tuned_on_conversations_it_answers_and_stops(tale, tmp_path):
    """Answers alone are learned; the template is followed and the answer ends by itself; wrong rows are named."""
    folder, _ = tale
    does = {"ana": "sings", "ben": "walks", "cleo": "reads", "dan": "sleeps"}
    said = lambda one, other: {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": other}]}  # noqa: E731
    rows = [said(f"{name} {number}", what) for name, what in does.items() for number in range(60)]
    odd = [{"messages": [{"content": "no role"}]}, {"messages": [{"role": "user", "content": "nobody answers"}]}]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, [*rows, *odd])))
    model = lamina.train(
        tmp_path / "talks.jsonl", start_from=str(folder / "tale.lamina"), epochs=60, verdict_share=0.0, max_bad=0.5,
        out=tmp_path / "t.lamina", runs=tmp_path / "runs", cache=str(tmp_path / "c"), **{**OPTIONS, "width": 0},
    )  # fmt: skip
    audit = json.loads((tmp_path / "runs" / "talks-1" / "audit.json").read_text())
    assert audit["kinds"]["no-talk"] == 2
    answers = {name: "".join(piece.text for piece in model.chat([("user", f"{name} 61")], tokens=20, temperature=0)) for name in does}
    assert answers == does
    with pytest.raises(UsageError, match="at most"):
        list(model.chat([("user", "x" * 500)]))
    with pytest.raises(DataError, match="with a role"):
        (tmp_path / "none.jsonl").write_text("\n".join(map(json.dumps, odd)))
        read_texts(str(tmp_path / "none.jsonl"), Settings(), TextInput())


def test_windows_ask_for_the_next_token():
    input = TextInput(tokens="bytes", longest=0).fit(["abc def"] * 4, [TextInput().inspect("abc def")] * 4)
    texts = [input.read(text) for text in ("first text", "second one", "third")]
    from dataclasses import replace

    feed, names, parts = cut_into_windows(
        texts, ["a", "b", "c"], ["train"] * 3, replace(input, window=8), NextOutput(), torch.device("cpu")
    )
    assert isinstance(feed, WindowFeed) and set(parts) == {"train"} and set(names) <= {"a", "b", "c"}
    batch = feed.batch(np.arange(len(parts)))
    assert torch.equal(batch.x[:, 1:], batch.target[:, :-1]) and batch.x[0, 0] == input.end
    x = torch.tensor([[1, 2, 3, 0]])
    assert following(x, Context(segments=torch.tensor([[1, 1, 2, 0]]))).tolist() == [[2, NOTHING, NOTHING, NOTHING]]
    assert LastNorm(4)(torch.ones(1, 2, 4), Context())[0].shape == (1, 2, 4)


def test_accumulation_and_processes_count_tokens():
    """Micro-batches in which unequally many tokens are asked for give the step of one batch."""
    from lamina.training.distributed import World
    from lamina.training.loop import training_loop
    from lamina.training.objective import Objective

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.integers(0, 20, (6, 9)))
    target = torch.from_numpy(np.where(random.random((6, 9)) < np.linspace(0.1, 0.9, 6)[:, None], random.integers(0, 20, (6, 9)), NOTHING))
    from lamina.data.batches import Batch

    def stepped(sizes):
        torch.manual_seed(1)
        network = Network([("input", Tokens(20, 16)), *transformer(16, causal=True, depth=1), ("head", TokenHead(16, 20))]).double()
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.3)
        batches = [Batch(x[a:b], Context(), target[a:b], np.arange(a, b)) for a, b in sizes]
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        next(training_loop(Objective(network, NextOutput(20, (1,) * 20)), [(0, 0.0, batches)], optimizer, lambda n: 0.1, 0, World()))
        return torch.cat([value.flatten() for value in network.parameters()])

    assert torch.allclose(stepped([(0, 6)]), stepped([(0, 1), (1, 4), (4, 6)]), atol=1e-6)


def test_llama_shaped_folders_are_read(tmp_path):
    """A small Llama made by transformers on the spot: equal logits; what these layers cannot do is refused by name."""
    transformers = pytest.importorskip("transformers", reason="made by transformers where it is installed")
    from lamina.export.huggingface import read_network

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "llama")
    network, _ = read_network(tmp_path / "llama")
    x = torch.randint(60, (2, 20))
    with torch.no_grad():
        assert float((network.eval()(x, Context())[0] - theirs(x).logits).abs().max()) < 1e-4
    told = json.loads((tmp_path / "llama" / "config.json").read_text())
    for named, value in {"attention_bias": True, "model_type": "gpt2", "hidden_act": "relu"}.items():
        (tmp_path / "llama" / "config.json").write_text(json.dumps(told | {named: value}))
        with pytest.raises(DataError, match=named):
            read_network(tmp_path / "llama")


def test_a_large_vocabulary_is_learned_in_pieces(monkeypatch):
    """The loss, its count and every gradient are those of all logits at once."""
    torch.manual_seed(0)
    head, output = TokenHead(8, 50), NextOutput(50, (1,) * 50)
    torch.nn.init.normal_(head.weights.weight)
    hidden, target = torch.randn(3, 7, 8), torch.randint(-1, 50, (3, 7))
    end, found = Progress(torch.tensor(1.0), torch.tensor(0)), []
    for most in (None, 1 << 26, 50 * 4):
        if most is None:
            monkeypatch.setattr("lamina.outputs.next.projected_cross_entropy", lambda x, w, y: cross_entropy(x @ w.T, y))
        else:
            monkeypatch.undo()
            monkeypatch.setattr("lamina.losses.MOST_KEPT", most)
            monkeypatch.setattr("lamina.losses.MOST_AT_ONCE", most // 2)
        head.zero_grad()
        leaf = hidden.clone().requires_grad_(True)
        total, count = output.loss(leaf, head, target, Context(), end)
        total.backward()
        found.append((total.detach(), count, leaf.grad, head.weights.weight.grad.clone()))
    for other in found[1:]:
        assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_attention_by_hand_is_attention(kind, monkeypatch):
    """Signals and gradients are those of PyTorch's own; in rows of one text, of several, and where all steps are seen."""
    torch.manual_seed(0)
    segments, places = torch.tensor([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12]), torch.arange(12).expand(2, 12)
    for causal, context in (
        (True, Context()),
        (True, Context(segments=segments, positions=places)),
        (False, Context(torch.tensor([7, 12]))),
    ):
        layer = Attention(32, 4, 4, 8, causal).to(kind)
        for value in layer.parameters():
            torch.nn.init.normal_(value, std=0.3)
        x, back = torch.randn(2, 2, 12, 32).to(kind)
        with torch.no_grad():
            expected = layer(x, context)[0]
        monkeypatch.undo()
        ours, theirs = [], []
        for found, hand in ((ours, True), (theirs, False)):
            leaf = x.clone().requires_grad_(True)
            if not hand:
                monkeypatch.setattr("lamina.layers.byhand.learns", lambda x: False)
            y = layer(leaf, context)[0]
            found += [y.detach(), *torch.autograd.grad(y, [leaf, *layer.parameters()], back)]
        close = 1e-12 if kind == torch.float64 else 0.1
        assert float((ours[0] - expected).abs().max()) <= close
        assert all(float((one - two).abs().max() / two.abs().max()) <= close for one, two in zip(ours, theirs, strict=True))

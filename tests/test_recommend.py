"""What is chosen next: reading and its audit, borders in time, ranks and gains, the classical ways, lists and their reasons."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lamina
from lamina.classical.choices import Factors, ItemWeights, Neighbors, _graph_filter, ease_weights, folded_in
from lamina.cli import app
from lamina.data import choices as of_choices
from lamina.data.choices import read_choices, read_titles
from lamina.data.raw import History
from lamina.errors import DataError, ModelFileError, UsageError
from lamina.inputs import HistoryInput
from lamina.layers import Context, TokenHead
from lamina.metrics import gain_at, mean_interval
from lamina.outputs import ItemsOutput, Progress
from lamina.recommending import batches_of, recommend_all, scores_after, split_titles
from lamina.screen import Screen
from lamina.settings import Settings

ITEMS = 40


def table_of(place: Path, users: int = 150, seed: int = 0, header: str = "user,item,timestamp") -> Path:
    """Everybody goes on from a number to one of the next three, in one of two directions; times rise together."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        at, step, begins = int(random.integers(ITEMS)), 1 if user % 2 else -1, random.integers(0, 400)
        for number in range(int(random.integers(6, 14))):
            rows.append((begins + 10 * number, f"u{user}", f"i{at}"))
            at = (at + step * int(random.choice([1, 1, 1, 2]))) % ITEMS
    rows.sort()
    place.write_text(header + "\n" + "".join(f"{user},{item},{time}\n" for time, user, item in rows))
    return place


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A table of choices, its titles, and the model trained on it."""
    folder = tmp_path_factory.mktemp("shop")
    table_of(folder / "choices.csv")
    (folder / "titles.csv").write_text("item,title\n" + "".join(f"i{number},Film {number:02d} (1990)\n" for number in range(ITEMS)))
    model = lamina.train(
        folder / "choices.csv", task="recommend", last_out=True, titles=str(folder / "titles.csv"), epochs=60, width=32, batch=32,
        threads=1, out=folder / "shop.lamina", runs=folder / "runs", cache=str(folder / "cache"),
    )  # fmt: skip
    return folder, model


def test_order_is_learned_and_the_verdict_says_so(shop):
    folder, model = shop
    score = model.card["score"]
    assert score["name"] == "NDCG@10" and score["unit"] == "" and score["value"] > 0.5
    assert model.verdict.kind == "deep" and "NDCG@10" in str(model.verdict)
    facts = json.loads((Path(model.card["run"]) / "report.json").read_text())
    assert (
        facts["kind"] == "choices"
        and set(facts["ways"]) == {"deep", "classical", "most chosen", "most chosen of late"}
        and facts["items"] == ITEMS
    )
    assert "How good the lists are" in (Path(model.card["run"]) / "report.html").read_text()
    again = lamina.load(folder / "shop.lamina")
    up = [each.item for each in again.recommend(["i3", "i4", "i5", "i6"], top=3)]
    down = [each.item for each in again.recommend("i9, i8, i7, i6", top=3)]
    assert "i7" in up and "i5" in down


def test_the_untrained_network_is_judged_by_the_loss_of_training(shop):
    """Else the doctor compares a cross-entropy with what is missing to an NDCG of 1, and finds every rate too high."""
    folder, model = shop
    events = [json.loads(line) for line in next((folder / "runs").glob("*/events.jsonl")).read_text().splitlines()]
    before = next(event for event in events if event["event"] == "before")
    checks = [event["loss"] for event in events if event["event"] == "checked"]
    assert before["loss"] == pytest.approx(math.log(ITEMS + 1), abs=0.5) and checks and max(checks) <= 1
    assert "rate too high" not in json.dumps(model.card)


def test_lists_by_title_with_reasons_and_without_history(shop):
    _, model = shop
    found = model.recommend("Film 03, Film 04, Film 05 (1990)", top=5, because=1)
    assert len(found) == 5 and all(each.title.startswith("Film") for each in found)
    assert not {"i3", "i4", "i5"} & {each.item for each in found}  # what was chosen is not recommended again
    assert any(each.because for each in found) and {name for each in found for name in each.because} <= {
        f"Film {n:02d} (1990)" for n in (3, 4, 5)
    }
    assert found[0].item not in {each.item for each in model.recommend(["i3", "i4", "i5"], exclude=[found[0].item])}
    assert len(model.recommend([], top=4)) == 4
    for wrong in ({"items": "Nothing"}, {"items": ["i3"], "top": 0}, {"items": ["i3"], "user": "u1"}, {}):
        with pytest.raises((UsageError, DataError)):
            model.recommend(**wrong)
    with pytest.raises(DataError, match="which 10 items are called"):
        model.recommend("Film 0")


def test_new_items_stand_where_those_like_them_do(shop, tmp_path):
    _, model = shop
    (tmp_path / "new.csv").write_text("item,title\nn1,Film 06 again\nn2,Something else entirely\ni3,known\n")
    found = {each.item: each for each in model.recommend(["i3", "i4", "i5"], top=40, new=str(tmp_path / "new.csv"))}
    assert "n1" in found and "n2" not in found and found["n1"].because == ("Film 06 (1990)",)
    assert abs(found["n1"].score - found["i6"].score) < 0.5 * (found["i6"].score - min(each.score for each in found.values()))


def test_users_of_the_table_and_everybody_at_once(shop, tmp_path):
    folder, model = shop
    mine = model.recommend(user="u7", top=6)
    every = {
        user: numbers
        for users, rows, _ in recommend_all(model, folder / "choices.csv", 6)
        for user, numbers in zip(users, rows, strict=True)
    }
    assert len(every) == 150 and [model.input.items[number - 1] for number in every["u7"]] == [each.item for each in mine]
    run = CliRunner()
    told = run.invoke(app, ["recommend", str(folder / "shop.lamina"), "--user", "u7", "--top", "6", "--json"])
    assert [each["item"] for each in json.loads(told.stdout)] == [each.item for each in mine]
    shown = run.invoke(app, ["recommend", str(folder / "shop.lamina"), "--items", ""])
    assert shown.exit_code == 0 and "no history" in shown.stdout
    wide = run.invoke(app, ["recommend", str(folder / "shop.lamina"), "--out", str(tmp_path / "lists.parquet"), "--top", "3"])
    assert wide.exit_code == 0, wide.output
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(tmp_path / "lists.parquet")
    assert rows.num_rows == 450 and set(rows.column_names) == {"user", "rank", "item", "score"}
    lost = run.invoke(app, ["recommend", str(folder / "shop.lamina"), "--user", "u700"])
    assert isinstance(lost.exception, DataError) and 'Did you mean "u70"?' in str(lost.exception)
    with pytest.raises(UsageError, match="lamina recommend"):
        model.predict("x")


def test_people_never_seen_are_scored(shop, tmp_path):
    _, model = shop
    found = model.evaluate_data(
        str(table_of(tmp_path / "others.csv", 60, seed=9)), Settings(task="recommend", last_out=True), Screen(quiet=True)
    )
    assert found.score.n == 60 and found.score.value > 0.5
    wrong = tmp_path / "none.csv"
    wrong.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="column of users"):
        model.evaluate(str(wrong))


def test_lists_among_many_items_come_from_an_index(shop, monkeypatch):
    from lamina import recommending

    _, model = shop
    asked = [["i3", "i4"], [], ["i1", "i2", "i5", "i9"]]
    plain = [model.recommend(items, top=4, exclude=["i7"]) for items in asked]
    monkeypatch.setattr(recommending, "MOST_EXACT", 10)
    monkeypatch.setattr(recommending, "_INDICES", {})
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert [model.recommend(items, top=4, exclude=["i7"]) for items in asked] == plain  # all are scored, and it is told
    monkeypatch.undo()
    pytest.importorskip("faiss")
    monkeypatch.setattr(recommending, "MOST_EXACT", 10)
    monkeypatch.setattr(recommending, "_INDICES", {})
    found = [model.recommend(items, top=4, exclude=["i7"]) for items in asked]
    assert [[(each.item, each.because) for each in its] for its in found] == [[(each.item, each.because) for each in its] for its in plain]
    assert np.allclose([each.score for its in found for each in its], [each.score for its in plain for each in its], atol=1e-4)
    assert len(recommending._INDICES) == 1 and len(model.recommend(asked[0], top=1_000)) == len(model.input.items) - 2


def test_a_list_does_not_depend_on_its_neighbors(shop):
    _, model = shop
    histories = [np.array([0, *range(1, size)]) for size in (2, 5, 9, 14)]
    together = scores_after(model, histories)
    alone = torch.cat([scores_after(model, [each]) for each in histories])
    assert torch.allclose(together.nan_to_num(neginf=-99), alone.nan_to_num(neginf=-99), atol=1e-5)


# ---------------------------------------------------------------- reading


def choices(tmp_path: Path, text: str, **settings: object):
    (tmp_path / "t.csv").write_text(text)
    return read_choices(str(tmp_path / "t.csv"), Settings(task="recommend", **settings))


FIVE = "".join(f"u{user},a,{user}\nu{user},b,{user + 10}\nu{user},c,{user + 20}\n" for user in range(5))


def test_the_latest_stretch_of_time_is_held_out(tmp_path):
    found = read_choices(str(table_of(tmp_path / "t.csv")), Settings(task="recommend"))
    parts = dict.fromkeys(found.parts)
    assert list(parts) and {"train", "validation", "test"} == set(parts)
    rows = [line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines()[1:]]
    when = {(user, item, int(time)) for user, item, time in rows}
    border = np.quantile([time for _, _, time in when], 0.9)
    for name, raw, answer, part in zip(found.names, found.raws, found.answers, found.parts, strict=True):
        own = sorted((time, item) for user, item, time in when if f"user {user}" == name)
        if part == "test":
            assert [raw.names[place] for place in raw.chosen] == [item for time, item in own if time <= border]
            assert set(answer) == {item for time, item in own if time > border}
        assert part != "train" or answer == ()


def test_of_many_users_some_are_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(of_choices, "MOST_CHECKED", 2)
    monkeypatch.setattr(of_choices, "MOST_TESTED", 2)
    text = "user,item,time\n" + "".join(
        f"u{user},{item},{10 * place + user}\n" for user in range(9) for place, item in enumerate("abcdefgh")
    )
    found, other = (choices(tmp_path, text, seed=seed) for seed in (0, 1))
    assert (found.parts.count("train"), found.parts.count("validation"), found.parts.count("test")) == (9, 2, 2)
    assert "test part 2 of" in " ".join(found.notes) and "validation part 2 of" in " ".join(found.notes)
    assert found.names != other.names
    asked = choices(tmp_path, text, last_out=True)
    assert (asked.parts.count("validation"), asked.parts.count("test")) == (2, 9)


def test_the_last_choice_is_held_out_where_asked(tmp_path):
    found = choices(tmp_path, "user,item,time\n" + FIVE, last_out=True)
    for raw, answer, part in zip(found.raws, found.answers, found.parts, strict=True):
        before = [raw.names[place] for place in raw.chosen]
        assert (before, answer) == {"train": (["a"], ()), "validation": (["a"], ("b",)), "test": (["a", "b"], ("c",))}[part]
    given = choices(
        tmp_path,
        "user,item,split\n" + "".join(f"u{u},{i},{p}\n" for u in range(6) for i, p in zip("abcd", ("train",) * 3 + ("test",), strict=True)),
    )
    assert {answer for answer, part in zip(given.answers, given.parts, strict=True) if part == "test"} == {("d",)}


def test_what_is_odd_is_told_and_what_is_wrong_refused(tmp_path):
    rows = "user,item,time\n" + FIVE + "u0,a,0\nu1,,5\n,b,5\nu2,c,tomorrow\nu3,c\nu4,z,-5\nu4,y,-5\n"
    found = choices(tmp_path, rows, last_out=True)
    kinds = {each.kind for each in found.findings}
    assert {"no-choice", "duplicate", "chosen-once", "negative-time", "ties-in-time"} <= kinds
    assert sum(each.counts for each in found.findings) == 4  # a kind of wrong row each
    for text, said in (
        ("color,size\n1,2\n", "column of users"),
        ("user,item,time\n", "hold rows"),
        ("user,item,time\nu0,a,1\nu0,b,2\n", "at least 5 users"),
        ("", "hold a header"),
    ):
        with pytest.raises(DataError, match=said):
            choices(tmp_path, text)
    with pytest.raises(UsageError, match="have times"):
        choices(tmp_path, "user,item\n" + "".join(f"u{u},{i}\n" for u in range(6) for i in "abc"))
    with pytest.raises(UsageError, match="--user of"):
        choices(tmp_path, "user,item,time\n" + FIVE, user="usr")
    with pytest.raises(UsageError, match="--least-rating"):
        choices(tmp_path, "user,item,time\n" + FIVE, least_rating=3.0)
    with pytest.raises(DataError, match="nothing there"):
        read_choices(str(tmp_path / "no.csv"), Settings(task="recommend"))
    rated = choices(
        tmp_path,
        "user,item,time,stars\n" + "".join(line + f",{1 + number % 5}\n" for number, line in enumerate(FIVE.split())),
        last_out=True,
        least_rating=1.0,
    )
    assert len(rated.raws) == 15


def test_dates_and_data_frames(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"user_id:token": [1, 1, 1] * 6, "item_id": list("abc") * 6, "timestamp": ["2020-01-01", "2021-01-01", "2022-01-01T10:00:00"] * 6}
    )
    frame["user_id:token"] = np.repeat(np.arange(6), 3)
    found = read_choices(frame, Settings(task="recommend", last_out=True))
    assert [answer for answer, part in zip(found.answers, found.parts, strict=True) if part == "test"] == [("c",)] * 6


def test_titles(tmp_path):
    (tmp_path / "t.csv").write_text("item,title,year\na,Alien,1979\nzzz,No,1\n")
    assert read_titles(str(tmp_path / "t.csv"), Settings()) == {"a": ("Alien", "1979"), "zzz": ("No", "1")}
    (tmp_path / "wrong.csv").write_text("item,year\na,1979\n")
    with pytest.raises(DataError, match="have a column title"):
        read_titles(str(tmp_path / "wrong.csv"), Settings())
    assert split_titles('Alien, "Good, the Bad", Brazil') == ["Alien", "Good, the Bad", "Brazil"]


# ---------------------------------------------------------------- ranks and losses


def test_gains_are_those_of_the_formula():
    assert gain_at(np.array([1.0]), 1) == 1 and gain_at(np.array([3.0]), 1) == 0.5 and gain_at(np.array([11.0]), 1) == 0
    assert gain_at(np.array([1.0, 4.0, np.inf]), 3) == pytest.approx((1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 0.5))
    low, high = mean_interval(np.array([0.0, 1.0] * 50))
    assert low == pytest.approx(0.5 - 1.96 * 0.5025 / 10, abs=1e-3) and low + high == pytest.approx(1)


def test_ranks_count_every_item_and_ties_against():
    output = ItemsOutput().of_items(["a", "b", "c", "d"])
    scores = torch.tensor([[0.0, 4.0, 3.0, 2.0, 2.0]])

    class Given(torch.nn.Module):
        def forward(self, x, context):
            return scores, context

    def ranks(history, wanted):
        target = output.collate([output.encode(wanted)])
        met = output.met(torch.tensor([history]), torch.zeros(1, 1), Given(), target, Context())
        return output.decode(met, Context())[0]

    assert ranks([0], ("b", "c", "zzz")).ranks.tolist() == [2, 4, math.inf]
    assert ranks([0, 1], ("b",)).ranks.tolist() == [1] and ranks([0, 1], ("a",)).ranks.tolist() == [math.inf]
    assert ranks([0, 1], ("b",)).top[0] == 2 and ranks([0], ("a", "b")).gain() == 1


def test_sampled_and_full_losses_agree_on_what_is_right():
    torch.manual_seed(0)
    count = 30_000
    output, full = ItemsOutput(count=count, tied=False), ItemsOutput(count=50, tied=False)
    progress = Progress(torch.zeros(()), torch.zeros(()))
    for each in (output, full):
        head = TokenHead(8, each.count)
        hidden, target = torch.randn(3, 5, 8, requires_grad=True), torch.randint(1, each.count, (3, 5))
        target[0, 3:] = -1
        loss, counted = each.loss(hidden, head, target, Context(), progress)
        assert float(counted) == 13 and float(loss.detach()) / 13 == pytest.approx(math.log(min(each.count, 1_025)), rel=1e-3)
        loss.backward()
        assert head.weights.weight.grad.abs().sum() > 0


# ---------------------------------------------------------------- the classical ways


def test_ease_is_its_closed_form():
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(0)
    x = (random.random((60, 9)) < 0.3).astype(np.float32)
    weights = ease_weights(csr_matrix(x), 5.0).numpy()
    assert np.allclose(np.diag(weights), 0)
    for item in range(9):
        others = [place for place in range(9) if place != item]
        best = np.linalg.solve(x[:, others].T @ x[:, others] + 5.0 * np.eye(8), x[:, others].T @ x[:, item])
        assert np.allclose(weights[others, item], best, atol=1e-4)
    layer = ItemWeights(9)
    layer.weights.copy_(torch.from_numpy(weights))
    assert np.allclose(layer(torch.tensor([[0, 3, 5, 3]]), Context())[0].numpy(), weights[3] + weights[5], atol=1e-6)


def test_neighbors_and_factors_are_their_formulas():
    layer = Neighbors(4, 2)
    layer.near[1], layer.likeness[1] = torch.tensor([2, 3]), torch.tensor([0.5, 0.25])
    layer.near[2], layer.likeness[2] = torch.tensor([3, 1]), torch.tensor([1.0, 0.1])
    assert layer(torch.tensor([[0, 1, 2]]), Context())[0][0].tolist() == pytest.approx([0, 0.1, 0.5, 1.25])
    table = torch.randn(6, 3)
    table[0] = 0
    base = 0.1 * table.T @ table + 0.5 * torch.eye(3)
    user = folded_in(table, base, torch.tensor([[0, 2, 4]]))[0]
    matrix = base + 0.9 * (torch.outer(table[2], table[2]) + torch.outer(table[4], table[4]))
    assert torch.allclose(matrix @ user, table[2] + table[4], atol=1e-4)
    layer = Factors(6, 3)
    layer.table.copy_(table)
    layer.base.copy_(base)
    assert torch.allclose(layer(torch.tensor([[0, 2, 4]]), Context())[0][0], table @ user, atol=1e-4)


def test_the_graph_filter_is_its_formula():
    random = np.random.default_rng(2)
    histories = [random.permutation(12)[: 2 + number % 5] + 1 for number in range(40)]
    network = _graph_filter(histories, 13, 4, 0.3)
    matrix = np.zeros((40, 13))
    for user, items in enumerate(histories):
        matrix[user, items] = 1
    users, items = (np.maximum(1, matrix.sum(axis, keepdims=True)) ** 0.5 for axis in (1, 0))
    scaled = matrix / users / items
    waves = np.linalg.svd(scaled)[2][:4].T
    gram = scaled.T @ scaled
    chosen = np.zeros(13)
    chosen[[3, 7]] = 1
    wanted = chosen @ (gram - np.diag(np.diag(gram))) + 0.3 * (chosen / items[0]) @ waves @ waves.T * items[0]
    assert np.allclose(network(torch.tensor([[0, 3, 7]]), Context())[0][0].numpy()[1:], wanted[1:], atol=1e-4)


def test_a_way_whose_library_is_missing_is_told(shop, monkeypatch):
    from lamina.classical.choices import CHOICE_OPPONENTS, fit_choices

    _, model = shop
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    feed, split, _ = model.material
    found = fit_choices((CHOICE_OPPONENTS[0], CHOICE_OPPONENTS[-1]), feed, np.array(split.indices("train")), 60)
    assert found.notes == ("iALS was not tried: pip install 'lamina[recommend]'",) and found.complete


def test_hostile_states_are_refused():
    for state in (
        {},
        {"items": ["a", "a"], "titles": [], "about": [], "longest": 5},
        {"items": ["a"], "titles": ["x", "y"], "longest": 5},
        {"items": ["a"], "titles": [], "longest": 0},
    ):
        with pytest.raises(ModelFileError):
            HistoryInput.from_state(state)
    for state in ({}, {"count": 1, "again": True, "tied": True}, {"count": 10, "again": 1, "tied": True}):
        with pytest.raises(ModelFileError):
            ItemsOutput.from_state(state)


def test_histories_are_read_by_what_training_knows():
    input = HistoryInput().fit([History("u", np.array([0, 1, 1]), ["x", "y", "z"], "train")], [])
    assert input.items == ("y", "x") and input.read(History("v", np.array([2, 0, 1]), ["x", "y", "z"])).tolist() == [0, 2, 1]
    with pytest.raises(DataError, match="be a list of items"):
        input.read("x")
    order = np.arange(1_000)
    found = np.concatenate(list(batches_of(order, order % 200, 5_000)))
    assert sorted(found.tolist()) == order.tolist()


def test_short_histories_are_added_up_item_by_item(monkeypatch):
    """The same scores whether a history is multiplied as a row of all items or its items' rows are added; each item counts once."""
    torch.manual_seed(0)
    layer = ItemWeights(50)
    layer.weights.normal_()
    x = torch.tensor([[0, 3, 9, 3, 7], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    found = {}
    for rarely in (0, 1_000):
        monkeypatch.setattr("lamina.classical.choices.SPARSE", rarely)
        found[rarely] = layer(x, Context())[0]
    assert torch.allclose(found[0], found[1_000], atol=1e-6) and not found[0][2].any()
    assert torch.allclose(found[0][0], layer.weights[[3, 7, 9]].sum(0), atol=1e-6)

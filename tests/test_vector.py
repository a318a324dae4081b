"""Rows of a table: read, learned, judged, answered."""

import csv

import numpy as np
import pandas
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

import lamina
from lamina.classical.fit import BOOSTING_ROUNDS, fit_trees
from lamina.data.raw import RowRaw
from lamina.data.read import read_examples
from lamina.errors import DataError
from lamina.inputs import ImageInput, VectorInput, build_input
from lamina.layers import Columns, Context
from lamina.model import load
from lamina.settings import make_settings

NAMES = ("age", "color", "id")


def rows(*values):
    return [RowRaw(NAMES, value) for value in values]


def made_table(count: int, seed: int = 0) -> dict[str, list]:
    """Whether someone buys: by age in one color, the other way round in the other; an id that says nothing; some ages are missing."""
    rng = np.random.default_rng(seed)
    age, red = rng.uniform(18, 80, count), rng.random(count) < 0.5
    buys = (age > 45) ^ red
    return {
        "age": [None if missing else round(float(value), 1) for value, missing in zip(age, rng.random(count) < 0.03, strict=True)],
        "color": ["red" if each else "blue" for each in red],
        "id": [f"N{number:05}" for number in range(count)],
        "label": ["yes" if each else "no" for each in buys],
    }


def test_columns_are_told_apart():
    """Numbers where every value is one; categories seen twice or more; missing values in any spelling; the state makes it again."""
    given = rows(("1", "red", "a"), ("2.5", "blue", "b"), ("?", "red", "c"), (None, "blue", "d"), (float("nan"), "green", "e"))
    fitted = VectorInput().fit(given, [])
    assert fitted.categories == (None, ("blue", "red"), ())
    assert build_input("vector", fitted.state()) == fitted
    read = fitted.read(RowRaw(("id", "color", "age"), ("z", " red ", "7")))
    assert read.tolist() == [7, 2, 0]
    assert np.isnan(fitted.read(rows(("n/a", "green", "a"))[0])[0]) and fitted.read(rows(("n/a", "green", "a"))[0])[1] == 0
    with pytest.raises(DataError, match="Missing: color"):
        fitted.read(RowRaw(("age", "id"), (1, "a")))
    assert fitted.inspect(rows((None, "", "?"))[0]).problem == "empty"
    assert np.isfinite(fitted.read(rows(("1e300", "a", "b"))[0])).all()
    assert fitted.inspect(given[0]).content != fitted.inspect(given[1]).content


def test_columns_layer():
    """Numbers by the log of their distance, a signal for missing ones, a place for each category; unknown places change nothing else."""
    x = torch.tensor([[1.0, 1], [3.0, 2], [float("nan"), 0]])
    layer = Columns.measured(x, [0, 3])
    found = layer(x, Context())[0]
    one = np.log1p(1.0)
    assert np.allclose(found, [[-one, 0, 0, 1, 0], [one, 0, 0, 0, 1], [0, 1, 1, 0, 0]])
    assert layer.outputs == 5 and torch.equal(Columns(**layer.arguments()).state_dict()["mean"], torch.zeros(1))
    assert torch.isfinite(layer(torch.tensor([[1e30, 99.0]]), Context())[0]).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_are_those_of_scikit_learn(classes):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (400, 5)).astype(np.float32)
    wanted = (np.abs(x[:, 0] + x[:, 1]) * 1.4).astype(int).clip(0, classes - 1)
    reference = HistGradientBoostingClassifier(
        max_iter=BOOSTING_ROUNDS, max_leaf_nodes=8, learning_rate=0.1, early_stopping=False, random_state=0
    ).fit(x, wanted)
    found = fit_trees(torch.from_numpy(x), wanted, classes, 8, 0.1)(torch.from_numpy(x), Context())[0]
    assert np.allclose(torch.softmax(found.double(), 1).numpy(), reference.predict_proba(x), atol=1e-5)


def test_reading(tmp_path):
    """A table that names no files is the data itself: as a file, as a frame, as numbers; parts are kept; rows without a label are named."""
    table = made_table(40)
    table["split"] = ["train"] * 30 + ["test"] * 10
    table["label"][3] = ""
    pandas.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    settings = make_settings({})
    for source in (tmp_path / "t.csv", pandas.DataFrame(table)):
        examples = read_examples(source, settings, [ImageInput()])
        assert examples.sense == "vector" and len(examples) == 39 and examples.parts.count("test") == 10
        assert examples.raws[0].columns == NAMES and examples.findings[0].name == "row 4"
    x = np.random.default_rng(0).normal(0, 1, (20, 3))
    examples = read_examples((x, [0, 1] * 10), settings, [ImageInput()])
    assert examples.sense == "vector" and examples.raws[0].columns == ("x0", "x1", "x2") and examples.labels == ["0", "1"]
    with pytest.raises(DataError, match="equal lengths"):
        read_examples((x, [0, 1]), settings, [ImageInput()])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("vector")
    pandas.DataFrame(made_table(2400)).to_csv(root / "table.csv", index=False)
    return lamina.train(root / "table.csv", epochs=30, out=root / "m.lamina", runs=root / "runs", threads=1), root


def test_training_on_a_table(trained):
    """Both ways learn what no straight line can; the file opens with equal answers, in any form of row, alone as among others."""
    model, root = trained
    assert model.verdict is not None and model.verdict.contender("classical").score.value > 0.9 and model.card["score"]["value"] > 0.85
    opened, fresh = load(root / "m.lamina"), made_table(60, seed=1)
    wanted = fresh.pop("label")
    frame = pandas.DataFrame(fresh)
    frame.to_csv(root / "new.csv", index=False)
    answers = opened.predict(frame)
    assert np.mean([answer.top[0][0] == truth for answer, truth in zip(answers, wanted, strict=True)]) > 0.8
    from_file = opened.predict(root / "new.csv")
    alone = [opened.predict({name: values[row] for name, values in fresh.items()}) for row in range(10)]
    for row in range(10):
        assert from_file[row].top[0][0] == answers[row].top[0][0] == alone[row].top[0][0]
        assert abs(alone[row].probability - answers[row].probability) < 1e-4
    odd = opened.predict([{"age": "unknown", "color": "purple", "id": "x", "more": 1}])
    assert odd[0].top and odd[0].error is None
    assert "Missing: color" in opened.predict({"age": 1}).error


def test_commands_on_a_table(trained, tmp_path, capsys):
    """predict and evaluate take tables."""
    from lamina.cli.running import _run

    model, root = trained
    table = made_table(50, seed=2)
    pandas.DataFrame(table).to_csv(tmp_path / "test.csv", index=False)
    assert (
        _run(["predict", str(root / "m.lamina"), str(tmp_path / "test.csv"), "--out", str(tmp_path / "answers.csv"), "--threads", "1"]) == 0
    )
    answers = list(csv.DictReader((tmp_path / "answers.csv").open()))
    assert len(answers) == 50 and answers[0]["file"] == "test.csv row 1"
    assert _run(["evaluate", str(root / "m.lamina"), str(tmp_path / "test.csv"), "--threads", "1"]) == 0
    assert "50 examples" in capsys.readouterr().out
    classical = load(root / "runs" / "table-1" / "classical.lamina")
    assert classical.evaluate(tmp_path / "test.csv").value > 0.8 and model.task == "recognize"


def test_rows_that_repeat_by_nature_are_no_copies(tmp_path):
    """Of two yes-no columns every row equals others, and all are learned from and tested, whatever their order. Where values are of
    many kinds, equal rows are copies, however many."""
    rng = np.random.default_rng(0)
    a, b = rng.random(2400) < 0.5, rng.random(2400) < 0.5
    table = pandas.DataFrame({"a": a, "b": b, "label": np.where(a ^ b ^ (rng.random(2400) < 0.1), "odd", "even")})
    model = lamina.train(table, epochs=5, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    assert sum(model.card["examples"].values()) == 2400 and model.card["left_out_of_training"] == 0
    assert model.card["score"]["n"] > 300 and 0.8 < model.card["score"]["value"] < 0.97
    other = table.sample(frac=1, random_state=0)
    assert lamina.audit(other).content_hash == lamina.audit(table).content_hash
    unique = pandas.DataFrame({"a": [*range(2399), 7], "b": [*range(2399), 7], "label": ["even", "odd"] * 1200})
    numbers = pandas.DataFrame(np.repeat(rng.normal(0, 1, (600, 4)), 4, axis=0), columns=list("abcd")).assign(label=["even", "odd"] * 1200)
    few = pandas.DataFrame({"a": [*range(29), 7], "b": rng.normal(0, 1, 30).tolist(), "label": ["even", "odd"] * 15})
    assert lamina.audit(numbers).summary()["exact_duplicates"] == 1800
    assert lamina.audit(few).summary()["exact_duplicates"] == lamina.audit(unique).summary()["exact_duplicates"] - 1 == 0


def test_tables_in_a_folder_are_answered(trained, tmp_path):
    """Each by its name in the folder; one that cannot be read is an answer with its error; hidden ones are left out; a glob, too."""
    model, _ = trained
    for name in ("a.csv", "deep/a.csv", "parts.csv/b.csv", ".hidden/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pandas.DataFrame(made_table(5, seed=2)).to_csv(tmp_path / name, index=False)
    (tmp_path / "empty.csv").write_text("age,color,id\n")
    found = model.predict(tmp_path)
    assert [answer.file for answer in found[:6]] == [f"a.csv row {row + 1}" for row in range(5)] + ["deep/a.csv row 1"]
    assert len(found) == 16 and found[0].top[0] == found[5].top[0] and [answer.error is None for answer in found].count(False) == 1
    assert len(model.predict(str(tmp_path / "**" / "a.csv"))) == 10
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="folder without tables"):
        model.predict(tmp_path / "nothing")


def test_pairs_are_the_products_added_up():
    from lamina.layers import Pairs

    layer = Pairs(4, 3)
    x = torch.randn(5, 4)
    rows = layer.rows.weight.T
    wanted = sum(x[:, i, None] * rows[i] * x[:, j, None] * rows[j] for i in range(4) for j in range(i + 1, 4))
    found = layer.eval()(x, Context())[0]
    assert torch.allclose(found[:, :3], x @ rows, atol=1e-6) and torch.allclose(found[:, 3:], wanted, atol=1e-5)


def test_pairs_of_many_signals_are_looked_up_in_training():
    """Where nearly all signals are 0: the same sums, pairs and gradients, whether a row has some, none or all of them."""
    from lamina.layers import Pairs

    torch.manual_seed(0)
    layer, weight = Pairs(600, 5).train(), torch.randn(4, 10)
    x = torch.zeros(4, 600)
    x[0, [3, 599]], x[1, 3], x[3, 7] = torch.tensor([1.0, -2.0]), 0.5, 1.0
    answers, gradients = [], []
    for given in (x, x.clone().requires_grad_(True)):  # only what needs no gradient is looked up
        layer.zero_grad()
        found = layer(given, Context())[0]
        (found * weight).sum().backward()
        answers.append(found.detach())
        gradients.append(layer.rows.weight.grad.clone())
    assert torch.allclose(*answers, atol=1e-6) and torch.allclose(*gradients, atol=1e-6)
    assert not answers[0][2].any() and gradients[0].abs().sum(0).nonzero().flatten().tolist() == [3, 7, 599]
    dense = torch.randn(4, 600)
    assert torch.allclose(layer(dense, Context())[0], layer.eval()(dense, Context())[0], atol=1e-5)


def test_many_categories_that_are_often_seen_are_each_their_own():
    often = [f"user {number % 300}" for number in range(3_000)]
    rare = [f"ticket {number // 2}" for number in range(3_000)]
    raws = [RowRaw(("who", "ticket"), pair) for pair in zip(often, rare, strict=True)]
    fitted = VectorInput().fit(raws, [])
    assert len(fitted.categories[0]) == 300 and len(fitted.categories[1]) == 200
    assert fitted.read(RowRaw(("who", "ticket"), ("user 299", "ticket 1400"))).tolist()[1] == 0
    assert len({fitted.read(RowRaw(("who", "ticket"), (f"user {number}", "")))[0] for number in range(300)}) == 300

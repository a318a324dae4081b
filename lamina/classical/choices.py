"""The classical ways to say what is chosen next: what is popular, items that go together, factors. Each scores all items."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.classical.fit import Classical, Opponent, Trial
from lamina.classical.layers import Constant
from lamina.errors import ResourceError
from lamina.layers import Context, Layer, Same
from lamina.networks import Network
from lamina.outputs import ItemsOutput
from lamina.training.histories import HistoryFeed
from lamina.training.inference import BATCH

if TYPE_CHECKING:
    from lamina.data.batches import Feed

CHOICES_EXTRA = "pip install 'lamina[recommend]'"
PENALTIES = (50.0, 150.0, 400.0, 1_000.0)
"""Of EASE."""
SMALL = 50_000_000
"""Users times items up to which their table is multiplied as a whole, faster than what is in it alone."""
SPARSE = 20
"""Histories that hold less than one in so many of all items are added up item by item."""
MOST_DENSE = 20_000
"""Items up to which a weight for each pair is held (1.6 GB)."""
NEIGHBORS, SHRINKAGES = (50, 200), (0.0, 20.0)
"""Items that are kept for each item, and how many common users are doubted."""
FACTORS = ((64, 0.003), (128, 0.003), (128, 0.02))
"""(factors of an item, penalty) of iALS."""
WAVES = ((64, 0.3), (256, 0.3), (256, 1.0))
"""(slowest waves of the graph, what they count) of the graph filter, with WAVE_NEIGHBORS of each item."""
WAVE_NEIGHBORS = 400
UNSEEN, ROUNDS = 0.1, 12
"""What a pair that was not chosen counts, and rounds of alternating."""
RECENT = 0.1
"""The last tenth of each history tells what is popular now."""
MOST_JUDGED = 4_000
TRIED = 1_500
"""Rows of the matrix that tells how fast larger ones are solved here."""
SEARCH_SHARE = 0.8
CHOICE_OPPONENTS = (
    Opponent("most chosen", lambda input, x: [], ("popular",), ("everybody wants the same",)),
    Opponent("most chosen of late", lambda input, x: [], ("recent",), ("everybody wants the same", "what is new counts")),
    Opponent("items that go together", lambda input, x: [], ("neighbors",), ("items are alike when the same people choose them",)),
    Opponent("EASE", lambda input, x: [], ("ease",), ("the order of choices does not count",)),
    Opponent("graph filter", lambda input, x: [], ("waves",), ("the order of choices does not count", "users and items are a graph")),
    Opponent("iALS", lambda input, x: [], ("factors",), ("the order of choices does not count", "what was not chosen counts a tenth")),
)


class ItemWeights(Layer):
    """What each item of a history says for every other, added up: numbers [N, T] -> scores [N, count]. Each counts once.

    EASE (Steck 2019, https://doi.org/10.1145/3308558.3313710) finds the weights in closed form: ridge regression of every item on all
    others.
    """

    kind = "item_weights"
    weights: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        if not 2 <= count <= 200_000:
            raise ValueError("there are 2 to 200000 items")
        self.count = count
        self.register_buffer("weights", torch.zeros(count, count))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        numbers = x.long().sort(1).values
        once = numbers > 0
        once[:, 1:] &= numbers[:, 1:] != numbers[:, :-1]
        sizes = once.sum(1)
        if x.is_meta or torch.compiler.is_exporting() or int(sizes.sum()) * SPARSE > len(x) * self.count:
            return chosen(x, self.count) @ self.weights, context
        return F.embedding_bag(numbers[once], self.weights, sizes.cumsum(0) - sizes, mode="sum"), context


class Neighbors(Layer):
    """Of each item of a history the few that go with it best, added up: numbers [N, T] -> scores [N, count].

    Cosine of the users who chose them, shrunk where few did (Sarwar et al. 2001, https://doi.org/10.1145/371920.372071).
    """

    kind = "neighbors"
    near: Tensor
    likeness: Tensor

    def __init__(self, count: int, kept: int) -> None:
        super().__init__()
        if not (2 <= count <= 1 << 22 and 1 <= kept <= 10_000):
            raise ValueError("there are 2 to 4 million items with 1 to 10000 neighbors")
        self.count, self.kept = count, kept
        self.register_buffer("near", torch.zeros(count, kept, dtype=torch.int64))
        self.register_buffer("likeness", torch.zeros(count, kept))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        numbers = x.long()
        near, likeness = self.near[numbers].flatten(1), self.likeness[numbers].flatten(1)
        return likeness.new_zeros(x.shape[0], self.count).scatter_add_(1, near, likeness), context


class GraphFilter(Neighbors):
    """What a filter on the graph of users and items leaves of a history: numbers [N, T] -> scores [N, count].

    The near part is what each item says for the few that go with it best, by way of the users who chose both; the far part is the history
    in the slowest waves of the graph (Shen et al. 2021, GF-CF, https://doi.org/10.1145/3459637.3482264), `share` of it counted.
    """

    kind = "graph_filter"
    waves: Tensor
    sizes: Tensor

    def __init__(self, count: int, kept: int, width: int, share: float) -> None:
        super().__init__(count, kept)
        if not (1 <= width <= 4_096 and 0 <= share <= 100):
            raise ValueError("there are at most 4096 waves, which count 0 to 100")
        self.width, self.share = width, share
        self.register_buffer("waves", torch.zeros(count, width))
        self.register_buffer("sizes", torch.ones(count))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        near, context = super().forward(x, context)
        numbers = x.long()
        own = (self.waves[numbers] * ((numbers > 0) / self.sizes[numbers])[..., None]).sum(1)
        return near + self.share * self.sizes * (own @ self.waves.T), context


class Factors(Layer):
    """A user's factors from the history, as those of the items were found, and the score of each item for them: [N, T] -> [N, count].

    iALS: Hu, Koren & Volinsky 2008, https://doi.org/10.1109/ICDM.2008.22; Rendle et al. 2022, https://doi.org/10.1145/3523227.3548486.
    """

    kind = "factors"
    no_graph = "equations that are solved for each answer"
    table: Tensor
    base: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        if not (2 <= count <= 1 << 22 and 1 <= width <= 4_096):
            raise ValueError("there are 2 to 4 million items with 1 to 4096 factors")
        self.count, self.width = count, width
        self.register_buffer("table", torch.zeros(count, width))
        self.register_buffer("base", torch.eye(width))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        users = folded_in(self.table, self.base, x.long())
        return users @ self.table.T, context


def chosen(x: Tensor, count: int) -> Tensor:
    """float32 [N, count]: 1 where an item stands in the history; the beginning (and padding), 0, counts as none."""
    made = torch.zeros(x.shape[0], count, device=x.device).scatter_(1, x.long(), 1.0)
    made[:, 0] = 0
    return made


def folded_in(table: Tensor, base: Tensor, x: Tensor) -> Tensor:
    """[N, width]: least squares for users who chose the items x [N, T] (0 = none), each of which counts 1, everything else UNSEEN."""
    real = (x > 0).float()[..., None]
    own = table[x] * real
    matrix = base + own.transpose(1, 2) @ own * (1 - UNSEEN)
    return torch.linalg.solve(matrix, own.sum(1)[..., None])[..., 0]


def trivial_choice(feed: Feed, train: np.ndarray) -> tuple[str, Network, str]:
    """What is chosen most, whoever asks."""
    return "what is chosen most", _popular(_histories(feed, train), _count(feed)), "how often each item was chosen"


def popularity(feed: Feed, train: np.ndarray) -> dict[str, Network]:
    """What is chosen most in the whole training part, and in the last tenth of its histories."""
    histories, count = _histories(feed, train), _count(feed)
    return {opponent.name: fit(histories, count) for opponent in CHOICE_OPPONENTS[:2] for _, _, fit in _ways(opponent.heads[0], count)}


def fit_choices(
    opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0
) -> Classical:
    """Every way with each of its settings, judged by NDCG@10 on the users of the validation part; without any, on training users whose last
    choice is hidden, the best fitted anew."""
    begun = time.perf_counter()
    assert isinstance(feed, HistoryFeed)
    histories, count = _histories(feed, train), _count(feed)
    random = np.random.Generator(np.random.Philox(key=seed))
    if feed.checked:
        judged = random.permutation(np.array(feed.checked))[:MOST_JUDGED]
        asked, wanted, learned = _histories(feed, judged), [feed.targets[index] for index in judged], histories
    else:
        long = [place for place, history in enumerate(histories) if len(history) > 1]
        judged = random.permutation(long)[: min(MOST_JUDGED, max(1, len(long) // 4))]
        hidden = set(judged.tolist())
        learned = [history[:-1] if place in hidden else history for place, history in enumerate(histories)]
        asked, wanted = [learned[place] for place in judged], [[int(histories[place][-1])] for place in judged]
    trials: list[Trial] = []
    networks: list[Network] = []
    missing: tuple[str, ...] = ()
    complete = True
    again = 1 if learned is histories else 2  # the best one is fitted anew
    for opponent in opponents:
        taken = _expected_seconds(opponent.heads[0], count)
        for setting, penalty, fit in _ways(opponent.heads[0], count):
            start = time.perf_counter()
            if trials and start - begun + again * taken > SEARCH_SHARE * seconds:
                complete = False
                break
            try:
                network = fit(learned, count)
            except ImportError:
                missing = (f"{opponent.name} was not tried: {CHOICES_EXTRA}",)
                continue
            except (MemoryError, ResourceError):
                complete = False
                continue
            trials.append(Trial(opponent.name, opponent.heads[0], setting, penalty, _gain(network, feed, asked, wanted)))
            networks = [network] if trials[-1].score >= max(trial.score for trial in trials) else networks
            taken = time.perf_counter() - start
    best = max(trials, key=lambda trial: trial.score)
    chosen_one = next(opponent for opponent in opponents if opponent.name == best.opponent)
    searched = time.perf_counter()
    network = networks[0]
    told = {
        "neighbors": f", {best.setting:.0f} neighbors",
        "ease": f", penalty {best.penalty:g}",
        "factors": f", {best.setting:.0f} factors",
        "waves": f", {best.setting:.0f} waves",
    }
    found = Classical(
        f"{chosen_one.name}{told.get(best.head, '')}", network, best, trials, chosen_one.features, ("the penalty", "how much is kept"),
        "how much each item says for each other" if best.head in ("ease", "neighbors", "waves") else "how often each item was chosen",
        searched - begun, 0.0, complete, len(train), missing,
    )  # fmt: skip
    if learned is histories:
        return found
    return replace(found, network=fitted_anew(found, feed, train), fit_seconds=time.perf_counter() - searched)


def fitted_anew(fitted: Classical, feed: Feed, examples: np.ndarray) -> Network:
    """The way and the setting that `fit_choices` chose, fitted on what these examples have seen: the choices of the validation part too,
    as published figures of splits without one do."""
    count = _count(feed)
    fit = next(its for *setting, its in _ways(fitted.trial.head, count) if setting == [fitted.trial.setting, fitted.trial.penalty])
    return fit(_histories(feed, examples), count)


def _expected_seconds(head: str, count: int) -> float:
    """What the first setting of a way takes on this machine, where that can be much: solving grows with the third power of the items."""
    if head != "ease" or count <= TRIED:
        return 0.0
    start = time.perf_counter()
    torch.cholesky_solve(torch.eye(TRIED), torch.linalg.cholesky(TRIED * torch.eye(TRIED)))
    return (time.perf_counter() - start) * (count / TRIED) ** 3


# ---------------------------------------------------------------- the ways

Fit = Callable[[list[np.ndarray], int], Network]


def _ways(head: str, count: int) -> Iterator[tuple[float, float, Fit]]:
    """(setting, penalty, what fits it) of each point of the grid."""
    if head == "popular":
        yield 0.0, 0.0, _popular
    elif head == "recent":
        yield RECENT, 0.0, lambda histories, count: _popular([each[-max(1, int(RECENT * len(each))) :] for each in histories], count)
    elif head == "neighbors":
        for kept in NEIGHBORS:
            for shrinkage in SHRINKAGES:
                yield float(kept), shrinkage, _bound(_neighbors, kept, shrinkage)
    elif head == "ease" and count <= MOST_DENSE:
        for penalty in PENALTIES:
            yield 0.0, penalty, _bound(_ease, penalty)
    elif head == "waves":
        for width, share in WAVES:
            yield float(width), share, _bound(_graph_filter, width, share)
    elif head == "factors":
        for width, penalty in FACTORS:
            yield float(width), penalty, _bound(_factors, width, penalty)


def _bound(fit: Callable[..., Network], *settings: Any) -> Fit:
    return lambda histories, count: fit(histories, count, *settings)


def _network(layer: Layer) -> Network:
    return Network([("input", Same()), ("head", layer)]).eval().requires_grad_(False)


def _popular(histories: list[np.ndarray], count: int) -> Network:
    layer = Constant(count)
    sums = np.bincount(np.concatenate(histories), minlength=count).astype(np.float32)
    layer.values.copy_(torch.from_numpy(np.log(np.maximum(sums, 0.5))))
    return _network(layer)


def ease_weights(matrix: Any, penalty: float) -> Tensor:
    """[count, count] of a sparse matrix of users and items; nothing says anything for itself."""
    if matrix.shape[0] * matrix.shape[1] <= SMALL:
        whole = torch.from_numpy(matrix.toarray())
        gram = whole.T @ whole
    else:
        gram = torch.from_numpy(np.asarray((matrix.T @ matrix).todense(), np.float32))
    gram.diagonal().add_(penalty)
    inverse = torch.cholesky_solve(torch.eye(len(gram)), torch.linalg.cholesky(gram))  # eight times as fast as cholesky_inverse
    weights = inverse / -inverse.diagonal()
    weights.diagonal().zero_()
    return weights


def _ease(histories: list[np.ndarray], count: int, penalty: float) -> Network:
    layer = ItemWeights(count)
    layer.weights.copy_(ease_weights(_matrix(histories, count), penalty))
    return _network(layer)


def _neighbors(histories: list[np.ndarray], count: int, kept: int, shrinkage: float) -> Network:
    matrix = _matrix(histories, count).tocsc()
    sizes = np.asarray(matrix.power(2).sum(0)).ravel() ** 0.5
    layer = Neighbors(count, min(kept, count - 1))
    for item, others, common in _together(matrix):
        _keep_best(layer, item, others, common / (sizes[item] * sizes[others]) * (common / (common + shrinkage)))
    return _network(layer)


def _graph_filter(histories: list[np.ndarray], count: int, width: int, share: float) -> Network:
    from scipy.sparse import diags
    from sklearn.utils.extmath import randomized_svd

    matrix = _matrix(histories, count)
    users, items = (np.maximum(1, np.asarray(matrix.sum(axis)).ravel()) ** 0.5 for axis in (1, 0))
    scaled = (diags(1 / users) @ matrix @ diags(1 / items)).astype(np.float32)
    width = min(width, min(matrix.shape) - 1)
    layer = GraphFilter(count, min(WAVE_NEIGHBORS, count - 1), width, share)
    for item, others, common in _together(scaled.tocsc()):
        _keep_best(layer, item, others, common)
    layer.waves.copy_(torch.from_numpy(randomized_svd(scaled, width, n_iter=4, random_state=0)[2].T.copy()))
    layer.sizes.copy_(torch.from_numpy(items))
    return _network(layer)


def _together(matrix: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(item, other items, sum over users of the products of both) for each item of a sparse [users, count]."""
    for first in range(0, matrix.shape[1], 2_000):
        common = (matrix[:, first : first + 2_000].T @ matrix).tocsr()
        for row, (begin, end) in enumerate(itertools.pairwise(common.indptr)):
            others = common.indices[begin:end]
            apart = others != first + row
            yield first + row, others[apart], common.data[begin:end][apart]


def _keep_best(layer: Neighbors, item: int, others: np.ndarray, alike: np.ndarray) -> None:
    if len(others) > layer.kept:
        best = np.argpartition(-alike, layer.kept - 1)[: layer.kept]
        others, alike = others[best], alike[best]
    layer.near[item, : len(others)] = torch.from_numpy(others)
    layer.likeness[item, : len(others)] = torch.from_numpy(alike)


def _factors(histories: list[np.ndarray], count: int, width: int, penalty: float) -> Network:
    """Raises ImportError where no library for it is installed."""
    from threadpoolctl import threadpool_limits

    matrix = _matrix(histories, count).tocsr()
    with threadpool_limits(1, "blas"):  # it has threads of its own
        from implicit.cpu.als import AlternatingLeastSquares

        # that library counts what was not chosen 1 and what was 1 / UNSEEN; here UNSEEN and 1: the same but for a factor
        model = AlternatingLeastSquares(
            factors=width, regularization=penalty / UNSEEN * matrix.nnz / count, alpha=1.0, iterations=ROUNDS, random_state=0, use_cg=True
        )  # fmt: skip
        model.fit(matrix * (1 / UNSEEN), show_progress=False)
    layer = Factors(count, width)
    layer.table.copy_(torch.from_numpy(np.asarray(model.item_factors, np.float32)))
    layer.table[0] = 0
    layer.base.copy_(UNSEEN * layer.table.T @ layer.table + penalty * matrix.nnz / count * torch.eye(width))
    return _network(layer)


# ---------------------------------------------------------------- what they are made of


def _count(feed: Feed) -> int:
    assert isinstance(feed.output, ItemsOutput)
    return feed.output.count


def _histories(feed: Feed, train: np.ndarray) -> list[np.ndarray]:
    """The items of each training history, in their order."""
    return [np.asarray(value)[1:] for value in feed.values.take(train)]


def _matrix(histories: list[np.ndarray], count: int) -> Any:
    """Sparse float32 [users, count], 1 where an item was chosen."""
    from scipy.sparse import csr_matrix

    rows = np.repeat(np.arange(len(histories)), [len(each) for each in histories])
    items = np.concatenate(histories)
    made = csr_matrix((np.ones(len(items), np.float32), (rows, items)), (len(histories), count))
    made.sum_duplicates()
    made.data[:] = 1
    return made


def _gain(network: Network, feed: Feed, histories: list[np.ndarray], wanted: list[list[int]]) -> float:
    """Mean NDCG@10."""
    output, input = feed.output, feed.input
    total = 0.0
    for first in range(0, len(histories), BATCH):
        x, context = input.collate([np.r_[0, each] for each in histories[first : first + BATCH]])
        target = output.collate(wanted[first : first + BATCH])
        with torch.no_grad():
            hidden, after = network.hidden(x, context)
            total += float((1 - output.met(x, hidden, network.head, target, after)[:, 0]).sum())
    return total / max(1, len(histories))

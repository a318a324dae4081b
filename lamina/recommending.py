"""What somebody may choose next: a list after a history, what it was recommended for, and lists for everybody at once."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.choices import order_of, read_rows_of_choices, read_titles
from lamina.errors import DataError, UsageError, did_you_mean, sentence
from lamina.inputs import HistoryInput
from lamina.layers import TokenHead
from lamina.networks import Network
from lamina.outputs import ItemsOutput
from lamina.screen import Screen
from lamina.settings import Settings

if TYPE_CHECKING:
    from lamina.model import Model

MOST_LISTED = 1_000
BECAUSE_OF = 50
"""Choices of a history, the last ones, that are left out in turn to see what a recommendation rests on."""
STEPS_AT_ONCE = 1 << 14
ALIKE = 10
"""Known items that stand for a new one."""
MOST_EXACT = 1_000_000
"""Items up to which all are scored; of more, those near are found in an index of a library, where it is installed …"""
LISTS, LOOKED_THROUGH = 4_096, 64
"""… which has so many lists, and of which so many are looked through for each answer."""
SEARCH_EXTRA = "pip install 'lamina[search]'"


@dataclass(frozen=True)
class Recommendation:
    """One item of a list."""

    item: str
    title: str
    score: float
    """Of the network; only differences within one list mean something."""
    because: tuple[str, ...] = ()
    """The titles of the choices without which its score would fall most."""


def recommend(
    model: Model,
    *,
    items: Sequence[str] | str | None = None,
    user: str = "",
    data: Any = None,
    top: int = 10,
    exclude: Sequence[str] = (),
    because: int = 2,
    new: Any = None,
) -> list[Recommendation]:
    """The `top` items after the history `items` (names or titles, the latest last), or after that of `user` in `data` (the table that the
    model learned from, where it is still there). An empty history gets what histories begin with. `exclude`: items that are not to be
    listed; `because`: how many choices are named that a recommendation rests on; `new`: a table like that of the titles, with items that
    training does not know: each is scored as the known items whose titles and what else is said of them are most like its own. Raises
    UsageError, DataError."""
    input, _ = _parts(model)
    if not 1 <= top <= MOST_LISTED:
        raise UsageError(sentence("--top", f"be between 1 and {MOST_LISTED}", top))
    if (items is None) == (not user):
        raise UsageError(sentence("A list", "be asked for by a user or by items", "both" if user else "neither", "Give --user or --items."))
    if user:
        history = history_of(model, user, data)
    else:
        named = split_titles(items) if isinstance(items, str) else list(items or ())
        history = np.array([0, *(input.number(name) for name in named)], np.int64)
    best, scores = (each[0] for each in best_after(model, [history], top, [input.number(name) for name in exclude]))
    listed = torch.isfinite(scores)
    numbers, worths = best[listed].tolist(), scores[listed].tolist()
    reasons = _reasons(model, history, numbers, because) if because and len(history) > 1 else [()] * len(numbers)
    found = [
        Recommendation(input.items[number - 1], input.title(number), float(score), why)
        for number, score, why in zip(numbers, worths, reasons, strict=True)
    ]
    if new is not None:
        found = sorted([*found, *_new_ones(model, scores_after(model, [history], seen_too=True)[0], new)], key=lambda each: -each.score)
    return found[:top]


def _new_ones(model: Model, scores: Tensor, table: Any) -> list[Recommendation]:
    """Items that training does not know, each with the mean score of the known ones most like it by words, weighed by how alike."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    input, _ = _parts(model)
    found = {item: told for item, told in read_titles(table, _settings_of(model)).items() if item not in input.numbers}
    if not found:
        return []
    if not input.titles:
        raise UsageError(sentence("--new", "be given to a model that was trained with --titles", "one without"))
    known = [f"{title} {about}" for title, about in zip(input.titles, input.about or [""] * len(input.titles), strict=True)]
    words = TfidfVectorizer(sublinear_tf=True).fit(known)
    alike = words.transform([f"{title} {about}" for title, about in found.values()]) @ words.transform(known).T
    made = []
    for row, (item, (title, _)) in zip(alike.toarray(), found.items(), strict=True):
        near = np.argsort(-row)[:ALIKE]
        if row[near].sum() > 0:
            worth = float((row[near] * scores.numpy()[near + 1]).sum() / row[near].sum())
            made.append(Recommendation(item, title or item, worth, tuple(input.title(int(place) + 1) for place in near[:1])))
    return made


def split_titles(text: str) -> list[str]:
    """ "Alien, Brazil" -> its titles; a comma inside a title is kept where two stand between quotes."""
    import csv

    return [name.strip() for row in csv.reader([text], skipinitialspace=True) for name in row if name.strip()]


def history_of(model: Model, user: str, data: Any = None) -> np.ndarray:
    """All known choices of a user of a table, in their order. Raises DataError for a user who is not in it, with the near miss."""
    input, _ = _parts(model)
    source = data if data is not None else model.card.get("data", {}).get("path", "")
    if not source or (isinstance(source, (str, os.PathLike)) and not Path(source).is_file()):
        raise UsageError(sentence("--user", "be asked for where the table of choices is at hand", source or "none", "Give it with --data."))
    choices, _ = read_rows_of_choices(source, _settings_of(model))
    if user not in choices.users:
        raise DataError(sentence("--user", "be one of the table, or give --items", user, did_you_mean(user, choices.users)))
    order = order_of(choices)
    own = order[choices.user[order] == choices.users.index(user)]
    names = [choices.items[place] for place in choices.item[own]]
    return np.array([0, *(input.numbers[name] for name in names if name in input.numbers)], np.int64)


def scores_after(model: Model, histories: Sequence[np.ndarray], seen_too: bool = False) -> Tensor:
    """float32 [n, count] of all items after each history; what is not to be recommended at minus infinity, unless `seen_too`."""
    output = _parts(model)[1]
    hidden, x, lengths = _hidden(model, histories)
    with torch.inference_mode():
        found = output.scores(torch.zeros_like(x) if seen_too else x, hidden, model.network.head, lengths)
        if not output.again and not seen_too:  # what was chosen before the stretch that the network sees
            for row, history in zip(found, histories, strict=True):
                row[torch.from_numpy(history)] = -torch.inf
    return found


def best_after(model: Model, histories: Sequence[np.ndarray], top: int, without: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """(numbers [n, top], their scores) of the best items after each history, the best first, none of `without`; minus infinity where there
    are no more."""
    output = _parts(model)[1]
    if (index := _index_of(model)) is None:
        scores = scores_after(model, histories).clone()
        scores[:, list(without)] = -torch.inf
        best = scores.topk(min(top, output.count - 1))
        return best.indices, best.values
    hidden, _, lengths = _hidden(model, histories)
    known = [set(without) | {0, -1} | (set() if output.again else set(history.tolist())) for history in histories]
    many = min(output.count, top + max(map(len, known)))
    scores, numbers = (torch.from_numpy(each) for each in index.search(output.last(hidden, lengths).float().numpy(), many))
    for row, its in enumerate(known):
        scores[row, torch.isin(numbers[row], torch.tensor(sorted(its)))] = -torch.inf
    best = scores.topk(min(top, many))
    return numbers.gather(1, best.indices), best.values


def _hidden(model: Model, histories: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor | None]:
    """(signals before the head, the batch, lengths) of histories."""
    x, context = model.input.collate(histories)
    with torch.inference_mode():
        hidden, after = model.network.eval().hidden(x, context)
    return hidden, x, after.lengths


_INDICES: weakref.WeakKeyDictionary[Network, Any] = weakref.WeakKeyDictionary()


def _index_of(model: Model) -> Any:
    """An index of the items by their inner product, made at the first question; None where all are scored.

    An inverted file, its lists found by k-means (Jegou, Douze & Schmid 2011, https://doi.org/10.1109/TPAMI.2010.57).
    """
    head, output = model.network.head, _parts(model)[1]
    if output.count <= MOST_EXACT or not isinstance(head, TokenHead):
        return None
    if model.network not in _INDICES:
        try:
            import faiss
        except ImportError:
            Screen(sys.stderr).warn(f"All {output.count - 1:,} items are scored for each list; an index is faster: {SEARCH_EXTRA}")
            _INDICES[model.network] = None
            return None
        table = head.matrix.detach().float().cpu().numpy()
        lists = max(1, min(LISTS, len(table) // 64))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(table.shape[1]), table.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.train(table)
        index.add(table)
        index.nprobe = min(LOOKED_THROUGH, lists)
        _INDICES[model.network] = index
    return _INDICES[model.network]


def _reasons(model: Model, history: np.ndarray, numbers: Sequence[int], because: int) -> list[tuple[str, ...]]:
    """For each recommended item the titles of the choices whose absence lowers its score most, against the mean of all items."""
    input, output = _parts(model)
    places = range(max(1, len(history) - BECAUSE_OF), len(history))
    without = [np.delete(history, place) for place in places]
    hidden, x, lengths = _hidden(model, [history, *without])
    with torch.inference_mode():
        found = output.scores(torch.zeros_like(x), hidden, model.network.head, lengths)[:, 1:]
        found = found - found.mean(1, keepdim=True)
    told = []
    for number in numbers:
        lost = found[0, number - 1] - found[1:, number - 1]
        order = torch.argsort(-lost)[:because].tolist()
        told.append(tuple(input.title(int(history[places[place]])) for place in order if lost[place] > 0))
    return told


def recommend_all(
    model: Model, data: Any, top: int = 10, settings: Settings | None = None
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """(users, numbers of items [n, top], their scores [n, top]) for all users of a table, some thousand at a time. Raises DataError."""
    input, output = _parts(model)
    choices, _ = read_rows_of_choices(data, settings or _settings_of(model))
    number = np.array([input.numbers.get(name, 0) for name in choices.items], np.int64)
    order = order_of(choices)
    user, item = choices.user[order], number[choices.item[order]]
    user, item = user[item > 0], item[item > 0]
    starts = np.searchsorted(user, np.arange(len(choices.users) + 1))
    sizes = np.minimum(np.diff(starts), input.longest)
    for some in batches_of(np.argsort(sizes, kind="stable"), sizes, output.count):
        histories = [np.r_[0, item[starts[place] : starts[place + 1]]] for place in some]
        numbers, scores = best_after(model, histories, top)
        yield [choices.users[place] for place in some], numbers.numpy(), scores.numpy()


def batches_of(order: np.ndarray, sizes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Users of like lengths together, as many as leave the steps and the scores in some tens of megabytes."""
    first = 0
    while first < len(order):
        most = max(1, min(STEPS_AT_ONCE // int(sizes[order[first]] + 1), (1 << 23) // count))
        while most > 1 and (int(sizes[order[min(len(order), first + most) - 1]]) + 1) * most > 2 * STEPS_AT_ONCE:
            most = (most + 1) // 2
        yield order[first : first + most]
        first += most


def _parts(model: Model) -> tuple[HistoryInput, ItemsOutput]:
    if not isinstance(model.input, HistoryInput) or not isinstance(model.output, ItemsOutput):
        raise UsageError(sentence("The model", "be one that learned choices", f"a model that does {model.task}", "Use `lamina predict`."))
    return model.input, model.output


def _settings_of(model: Model) -> Settings:
    """The columns that the training took."""
    kept = model.card.get("settings", {})
    return Settings(**{name: kept[name] for name in ("user", "item", "time", "rating", "least_rating") if name in kept})

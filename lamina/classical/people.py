"""The classical ways to tell whether two pictures or recordings are of one person: hand-made features, projected linearly, compared by
their angle. None of them keeps anybody's example."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lamina.classical.features import PictureFeatures
from lamina.classical.fit import Classical, Opponent, Trial, signals_in_batches
from lamina.classical.sounds import sound_layers
from lamina.inputs import Input
from lamina.layers import Context, Embedding, Layer
from lamina.metrics import trials_of
from lamina.networks import Network

if TYPE_CHECKING:
    from lamina.data.batches import Feed

COMPONENTS = (50, 100, 200, 400)
"""Principal components that are kept."""
SHRINKAGES = (0.1, 0.5)
"""Of the covariance within people towards a multiple of the identity."""
HELD_OUT = 0.25
"""Share of the training people on whom the settings are chosen."""
MOST_ROWS = 12_000
DECISIONS = {"pca": ("how many components",), "lda": ("how many components", "the shrinkage")}
SEARCH_SHARE = 0.6


def _picture(*parts: str) -> Callable[[Input, Tensor], list[tuple[str, Layer]]]:
    return lambda input, x: [("features", PictureFeatures(list(parts)))]


_PATTERNS = ("a pixel against its 8 neighbors", "58 uniform patterns", "an 8 x 8 grid")
_GRADIENTS = ("gradients matter, brightness does not", "9 directions", "cells of an eighth of the side")
_CEPSTRUM = ("loudness in mel bands", "20 cosine coefficients", "mean, deviation and change")

FACE_OPPONENTS = (
    Opponent("binary patterns", _picture("fine_binary_patterns"), ("lda",), _PATTERNS),
    Opponent("gradient histograms", _picture("gradient_histograms"), ("lda",), _GRADIENTS),
    Opponent("Eigenfaces", _picture("gray_pixels"), ("pca",), ("the face stands still",)),
)
"""Ahonen et al. 2006 (https://doi.org/10.1109/TPAMI.2006.244); Turk & Pentland 1991 (https://doi.org/10.1162/jocn.1991.3.1.71)."""
VOICE_OPPONENTS = (Opponent("cepstral statistics", sound_layers("statistics"), ("lda", "pca"), _CEPSTRUM),)


def fit_people(
    opponents: tuple[Opponent, ...], feed: Feed, train: np.ndarray, seconds: float, seed: int = 0, answers: int = 0
) -> Classical:
    """Try each opponent's projections, judged by the equal error rate on training people set aside; fit the winner on all of them."""
    begun = time.perf_counter()
    random = np.random.Generator(np.random.Philox(key=seed))
    rows = np.sort(random.permutation(train)[:MOST_ROWS])
    owner = np.array([feed.targets[index] for index in rows])
    aside = np.isin(owner, random.permutation(np.unique(owner))[: max(2, round(HELD_OUT * len(np.unique(owner))))])
    trials: list[Trial] = []
    layers: dict[str, list[tuple[str, Layer]]] = {}
    signals: dict[str, Tensor] = {}
    complete = True
    for opponent in opponents:
        layers[opponent.name] = opponent.layers(feed.input, feed.batch(rows[:512]).x.cpu())
        signals[opponent.name] = torch.cat([x for x, _ in signals_in_batches(layers[opponent.name], feed, rows)])
        for head, components, shrinkage, embedding in _projections(opponent, signals[opponent.name][~aside], owner[~aside]):
            found = embedding(signals[opponent.name][aside], Context())[0].numpy()
            try:
                error = trials_of(found, [str(name) for name in owner[aside]]).equal_error()
            except ValueError:
                error = 0.5
            trials.append(Trial(opponent.name, head, float(components), shrinkage, 1 - error))
            if time.perf_counter() - begun > SEARCH_SHARE * seconds:
                complete = False
                break
        if not complete:
            break
    best = max(trials, key=lambda trial: trial.score)
    chosen = next(opponent for opponent in opponents if opponent.name == best.opponent)
    searched = time.perf_counter()
    embedding = fit_projection(best.head, signals[best.opponent], owner, int(best.setting), best.penalty)
    last: list[tuple[str, Layer]] = [("embedding", embedding), ("head", feed.output.head(embedding.outputs))]
    network = Network([*layers[best.opponent], *last]).eval().requires_grad_(False)
    name = f"{chosen.name}, {'linear discriminants' if best.head == 'lda' else 'principal components'}"
    return Classical(
        name, network, best, trials, chosen.features, ("which features", "which projection", *DECISIONS[best.head]),
        "the directions in which people differ", searched - begun, time.perf_counter() - searched, complete, len(train),
    )  # fmt: skip


def _projections(opponent: Opponent, signals: Tensor, owner: np.ndarray) -> Iterator[tuple[str, int, float, Embedding]]:
    for head in opponent.heads:
        for components in COMPONENTS:
            if components <= min(signals.shape) - 1 or components == COMPONENTS[0]:
                for shrinkage in SHRINKAGES if head == "lda" else (0.0,):
                    yield head, components, shrinkage, fit_projection(head, signals, owner, components, shrinkage)


def fit_projection(head: str, signals: Tensor, owner: np.ndarray, components: int, shrinkage: float) -> Embedding:
    """The layer: principal components of signals of length 1 (scikit-learn: PCA), and for lda the directions in which people differ more
    than one person's examples do (scikit-learn: LinearDiscriminantAnalysis)."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    unit = torch.nn.functional.normalize(signals, dim=1).numpy()
    pca = PCA(min(components, *(size - 1 for size in unit.shape)), svd_solver="randomized", random_state=0).fit(unit)
    matrix = pca.components_.T / np.sqrt(pca.explained_variance_ + 1e-9)
    middle = pca.mean_
    if head == "lda":
        within = (unit - middle) @ matrix
        names, place, counts = np.unique(owner, return_inverse=True, return_counts=True)
        several = counts[place] > 1
        fitted = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage).fit(within[several], owner[several])
        matrix = matrix @ fitted.scalings_[:, : min(len(names) - 1, within.shape[1])]
    layer = Embedding(unit.shape[1], matrix.shape[1])
    layer.mean.copy_(torch.from_numpy(middle))
    layer.matrix.copy_(torch.from_numpy(np.ascontiguousarray(matrix)))
    return layer

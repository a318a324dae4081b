"""Hand-made features of texts: which words, pairs of words and runs of characters stand in them, as scikit-learn counts them."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lamina.layers.base import Context, Layer

LARGEST = 1 << 22
MOST_SPELLED = 1_024
"""Bytes of one token."""
WORD = r"(?u)\b\w+\b|[!?]"
"""A run of letters and digits; marks that words alone do not tell."""


class WordCounts(Layer):
    """Words and pairs of words, or runs of characters, counted under hashed numbers: tokens [N, T] -> a sparse matrix [N, size].

    `binary`: whether something stands in a text, else how often (1 + its logarithm), weighed by how few texts of the training part have it
    (tf-idf: Sparck Jones 1972, https://doi.org/10.1108/eb026526), each text brought to length 1. The bytes of each token are kept here, so
    that the layer can spell the text.
    """

    kind = "word_counts"
    no_graph = "words that scikit-learn hashes"
    rarity: Tensor
    spelled: Tensor
    starts: Tensor

    def __init__(self, size: int, spelled_bytes: int, tokens: int, first: int, last: int, characters: bool, binary: bool) -> None:
        super().__init__()
        if not (1 <= size <= LARGEST and 0 <= spelled_bytes <= LARGEST and 1 <= tokens <= LARGEST and 1 <= first <= last <= 8):
            raise ValueError(f"sizes are at most {LARGEST}, runs 1 to 8 long")
        self.size, self.spelled_bytes, self.tokens = size, spelled_bytes, tokens
        self.first, self.last, self.characters, self.binary = first, last, characters, binary
        self.register_buffer("rarity", torch.ones(size))
        self.register_buffer("spelled", torch.zeros(spelled_bytes, dtype=torch.uint8))
        self.register_buffer("starts", torch.zeros(tokens + 1, dtype=torch.int64))

    @classmethod
    def of(cls, tokens: list[bytes], size: int, first: int, last: int, characters: bool, binary: bool) -> WordCounts:
        """The layer for tokens of these bytes."""
        layer = cls(size, sum(map(len, tokens)), len(tokens), first, last, characters, binary)
        layer.spelled.copy_(torch.frombuffer(bytearray(b"".join(tokens)), dtype=torch.uint8))
        layer.starts.copy_(torch.from_numpy(np.r_[0, np.cumsum([len(token) for token in tokens])]))
        return layer

    def counts(self, x: Tensor, lengths: Tensor) -> Any:
        """The sparse matrix of scipy, before rarity and length."""
        return self._counter.transform(self._texts(x, lengths))

    def learn_rarity(self, counts: Any) -> None:
        """From the counts of the training part."""
        if not self.binary:
            seen = np.asarray((counts > 0).sum(0)).ravel()
            self.rarity.copy_(torch.from_numpy((np.log((1 + counts.shape[0]) / (1 + seen)) + 1).astype(np.float32)))

    def weighed(self, counts: Any) -> Any:
        """Counts as features."""
        from sklearn.preprocessing import normalize

        found = counts.tocsr(copy=True).astype(np.float32)
        if self.binary:
            found.data[:] = 1.0
            return found
        found.data = (1 + np.log(found.data)) * self.rarity.numpy()[found.indices]
        return normalize(found, copy=False)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if x.is_meta:
            return x.new_empty((len(x), self.size), dtype=torch.float32), Context()
        lengths = torch.full((len(x),), x.shape[1]) if context.lengths is None else context.lengths
        found = self.weighed(self.counts(x.cpu(), lengths.cpu()))
        row = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
        place = torch.from_numpy(np.stack([row, found.indices]).astype(np.int64))
        return torch.sparse_coo_tensor(place, torch.from_numpy(found.data), found.shape, check_invariants=False), Context()

    def _texts(self, x: Tensor, lengths: Tensor) -> list[str]:
        spelled, starts = self.spelled.numpy().tobytes(), self.starts.tolist()
        pieces = [spelled[start : min(end, start + MOST_SPELLED)] for start, end in itertools.pairwise(starts)]
        rows = [row[:length] for row, length in zip(x.tolist(), lengths.tolist(), strict=True)]
        return [b"".join(pieces[token] for token in row).decode("utf-8", "replace") for row in rows]

    @functools.cached_property
    def _counter(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        analyzer = {"analyzer": "char_wb"} if self.characters else {"analyzer": "word", "token_pattern": WORD}
        return HashingVectorizer(
            n_features=self.size, ngram_range=(self.first, self.last), norm=None, alternate_sign=False, dtype=np.float32, **analyzer
        )


class SparseLinear(Layer):
    """Weighted sums of sparse features, plus bias: [N, inputs] -> [N, outputs]."""

    kind = "sparse_linear"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        if not (1 <= inputs <= LARGEST and 1 <= outputs <= LARGEST):
            raise ValueError(f"sizes are 1 to {LARGEST}")
        self.inputs, self.outputs = inputs, outputs
        self.weights = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return x @ self.weights + self.bias, context

"""Layers whose weights scikit-learn fits: scaling, kernel, prototypes, and the answer of one who never looks."""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.layers import Context, Layer

DEEPEST = 256
"""Levels of a tree."""


class Scale(Layer):
    """(x - mean) / deviation, both measured on the training part: [N, features] -> the same. (scikit-learn: StandardScaler.)"""

    kind = "scale"
    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return (x - self.mean) / self.deviation, context


class Nystroem(Layer):
    """A Gaussian kernel against `components` training examples, decorrelated: [N, features] -> [N, components].

    exp(-gamma |x - landmark|^2) times the inverse root of the kernel among the landmarks (Williams & Seeger 2001; scikit-learn: Nystroem).
    The landmarks are features of training examples: a file with this layer holds them.
    """

    kind = "nystroem"
    landmarks: Tensor
    root: Tensor

    def __init__(self, features: int, components: int, gamma: float) -> None:
        super().__init__()
        self.features, self.components, self.gamma = features, components, gamma
        self.register_buffer("landmarks", torch.zeros(components, features))
        self.register_buffer("root", torch.zeros(components, components))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        square = x.square().sum(1, keepdim=True) - 2 * x @ self.landmarks.T + self.landmarks.square().sum(1)
        return torch.exp(-self.gamma * square.clamp_min(0)) @ self.root, context


class Prototypes(Layer):
    """How near the nearest prototype of each class is: [N, features] -> [N, classes] of -|x - prototype|^2 / features.

    `owners` names the class of each prototype. (scikit-learn: NearestCentroid, KMeans.)
    """

    kind = "prototypes"
    places: Tensor

    def __init__(self, features: int, classes: int, owners: list[int]) -> None:
        super().__init__()
        if not isinstance(classes, int) or not 1 <= classes <= len(owners) or sorted(set(owners)) != list(range(classes)):
            raise ValueError("every class owns at least one prototype")
        self.features, self.classes, self.owners = features, classes, list(owners)
        self.register_buffer("places", torch.zeros(len(owners), features))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        square = x.square().sum(1, keepdim=True) - 2 * x @ self.places.T + self.places.square().sum(1)
        owners = torch.tensor(self.owners, device=x.device).expand(x.shape[0], -1)
        nearest = torch.full((x.shape[0], self.classes), -torch.inf, device=x.device, dtype=x.dtype)
        return nearest.scatter_reduce(1, owners, -square, "amax") / self.features, context


class Trees(Layer):
    """Boosted decision trees as arrays: [N, features] -> [N, classes] of logits (scikit-learn: HistGradientBoostingClassifier).

    The trees speak for one class after another, round by round; of two classes only the second has trees. At each node a row goes left
    where its signal is at most the threshold; a leaf leads to itself.
    """

    kind = "trees"
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    start: Tensor

    def __init__(self, features: int, classes: int, trees: int, nodes: int, depth: int) -> None:
        super().__init__()
        if min(features, classes, trees, nodes) < 1 or not 0 <= depth <= min(nodes, DEEPEST):
            raise ValueError(f"features, classes, trees and nodes are at least 1, and a tree is no deeper than its nodes and {DEEPEST}")
        self.features, self.classes, self.trees, self.nodes, self.depth = features, classes, trees, nodes, depth
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(trees, nodes, dtype=torch.int32))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(trees, nodes, dtype=torch.float64))
        self.register_buffer("start", torch.zeros(1 if classes == 2 else classes, dtype=torch.float64))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        tree = torch.arange(self.trees, device=x.device)[None]
        node = torch.zeros(x.shape[0], self.trees, dtype=torch.long, device=x.device)
        wide = x.double()
        for _ in range(self.depth):
            signal = wide.gather(1, self.feature[tree, node].long().clamp(0, self.features - 1))
            node = torch.where(signal <= self.threshold[tree, node], self.left[tree, node], self.right[tree, node]).long()
            node = node.clamp(0, self.nodes - 1)
        said = self.value[tree, node].unflatten(1, (-1, len(self.start))).sum(1) + self.start
        return (torch.cat([-said, said], 1) / 2 if self.classes == 2 else said).float(), context


class Constant(Layer):
    """The same answer to everything, the logarithms of how often each occurs: [N, …] -> [N, outputs]."""

    kind = "constant"
    values: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.register_buffer("values", torch.zeros(outputs))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return self.values.expand(x.shape[0], -1), context

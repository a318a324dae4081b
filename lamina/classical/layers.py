"""Layers whose weights scikit-learn fits: scaling, kernel, prototypes, and the answer of one who never looks."""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.layers import Context, Layer


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
    """How near the nearest prototype of each class is: [N, features] -> [N, classes] of -|x - prototype|^2.

    `owners` names the class of each prototype. (scikit-learn: NearestCentroid, KMeans.)
    """

    kind = "prototypes"
    places: Tensor

    def __init__(self, features: int, classes: int, owners: list[int]) -> None:
        super().__init__()
        if sorted(set(owners)) != list(range(classes)):
            raise ValueError("every class owns at least one prototype")
        self.features, self.classes, self.owners = features, classes, list(owners)
        self.register_buffer("places", torch.zeros(len(owners), features))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        square = x.square().sum(1, keepdim=True) - 2 * x @ self.places.T + self.places.square().sum(1)
        owners = torch.tensor(self.owners, device=x.device).expand(len(x), -1)
        nearest = torch.full((len(x), self.classes), -torch.inf, device=x.device, dtype=x.dtype)
        return nearest.scatter_reduce(1, owners, -square, "amax"), context


class Constant(Layer):
    """The same answer to everything, the logarithms of how often each occurs: [N, …] -> [N, outputs]."""

    kind = "constant"
    values: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.register_buffer("values", torch.zeros(outputs))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        return self.values.expand(len(x), -1), context

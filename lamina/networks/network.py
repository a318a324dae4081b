"""Network: input layer -> hidden layers -> head, as a sequence of named layers. Its forward pass is a loop over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from lamina.errors import ModelFileError, sentence
from lamina.layers import Context, Layer, TokenHead, build_layer

MAX_LAYERS = 10_000


class Network(nn.Module):
    """Named layers, the last of which is the head.

    >>> network = Network([("input", Standardize(1)), ..., ("head", Linear(64, 10))])
    >>> logits, context = network(x, Context())
    """

    def __init__(self, layers: Sequence[tuple[str, Layer]]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for name, layer in layers:
            if name in self.layers or not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"layer names are distinct identifiers, got {name!r}")
            layer.name = name
            self.layers[name] = layer
        if isinstance(self.head, TokenHead) and self.head.tied:
            self.head.tie(self.stack[0])

    @property
    def head(self) -> Layer:
        return self.stack[-1]

    @property
    def stack(self) -> list[Layer]:
        """The layers in their order."""
        return [layer for layer in self.layers.values() if isinstance(layer, Layer)]

    def forward(self, x: Tensor, context: Context, until: str = "") -> tuple[Tensor, Context]:
        """The signals after the layer named `until`; after the head when it is empty."""
        for name, layer in self.layers.items():
            x, context = layer(x, context)
            if name == until:
                break
        return x, context

    def hidden(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        """The signals that go into the head."""
        for layer in self.stack[:-1]:
            x, context = layer(x, context)
        return x, context

    def walk(self, x: Tensor, context: Context) -> Iterator[tuple[str, Tensor, Context]]:
        """(name, signals, context) after each layer in turn."""
        for name, layer in self.layers.items():
            x, context = layer(x, context)
            yield name, x, context

    def describe(self) -> list[dict[str, Any]]:
        """The expanded layer list: what the model file holds."""
        return [layer.describe() for layer in self.stack]


def build_network(description: Any) -> Network:
    """The network of a layer list. Raises ModelFileError when the list is not one."""
    if not isinstance(description, list) or not 1 <= len(description) <= MAX_LAYERS:
        raise ModelFileError(sentence("The layer list", f"be a list of 1 to {MAX_LAYERS} layers", type(description).__name__))
    layers = []
    for entry in description:
        if not (isinstance(entry, dict) and isinstance(entry.get("arguments"), dict) and isinstance(entry.get("kind"), str)):
            raise ModelFileError(sentence("A layer of the layer list", "have name, kind and arguments", entry))
        layers.append((entry.get("name", ""), build_layer(entry["kind"], entry["arguments"])))
    try:
        return Network(layers)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(sentence("The names of the layers", "be distinct words", str(error))) from error

"""The building blocks, each `layer(x, context) -> (x, context)`, each registered under its kind."""

from lamina.layers.base import LAYER_KINDS, Context, Layer, build_layer
from lamina.layers.linear import Linear
from lamina.layers.picture import Convolution, GlobalPool, Residual, Standardize

__all__ = ["LAYER_KINDS", "Context", "Convolution", "GlobalPool", "Layer", "Linear", "Residual", "Standardize", "build_layer"]

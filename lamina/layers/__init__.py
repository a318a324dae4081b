"""The building blocks, each `layer(x, context) -> (x, context)`, each registered under its kind."""

from lamina.layers.base import LAYER_KINDS, Context, Layer, build_layer
from lamina.layers.borrowed import Onnx
from lamina.layers.identity import Cosine, Embedding, Flatten, Projection
from lamina.layers.linear import ACTIVATIONS, FullyConnected, Linear
from lamina.layers.mobile import InvertedResidual, MobileConvolution
from lamina.layers.picture import Convolution, GlobalPool, Residual, Standardize, Whiten
from lamina.layers.sound import LogMel, Masks, TimePool
from lamina.layers.table import Columns, Dense

__all__ = [
    "ACTIVATIONS",
    "LAYER_KINDS",
    "Columns",
    "Context",
    "Convolution",
    "Cosine",
    "Dense",
    "Embedding",
    "Flatten",
    "FullyConnected",
    "GlobalPool",
    "InvertedResidual",
    "Layer",
    "Linear",
    "LogMel",
    "Masks",
    "MobileConvolution",
    "Onnx",
    "Projection",
    "Residual",
    "Standardize",
    "TimePool",
    "Whiten",
    "build_layer",
]

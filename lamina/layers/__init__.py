"""The building blocks, each `layer(x, context) -> (x, context)`, each registered under its kind."""

from lamina.layers.base import LAYER_KINDS, Context, Layer, build_layer, padded
from lamina.layers.borrowed import Onnx
from lamina.layers.identity import Cosine, Embedding, Flatten, Projection
from lamina.layers.linear import ACTIVATIONS, FullyConnected, Linear
from lamina.layers.mobile import InvertedResidual, MobileConvolution
from lamina.layers.ngrams import NGrams, Same
from lamina.layers.phrases import Phrases
from lamina.layers.picture import Convolution, GlobalPool, Residual, Standardize, Whiten
from lamina.layers.sentences import SentenceLayer, SentenceTokens
from lamina.layers.sound import LogMel, Masks, TimePool
from lamina.layers.speech import Nearby, Subsample
from lamina.layers.table import Columns, Dense, Pairs
from lamina.layers.transformer import Attention, GatedMLP, LastNorm, TextPool, TokenHead, Tokens, ends, merge
from lamina.layers.words import SparseLinear, WordCounts

__all__ = [
    "ACTIVATIONS",
    "LAYER_KINDS",
    "Attention",
    "Columns",
    "Context",
    "Convolution",
    "Cosine",
    "Dense",
    "Embedding",
    "Flatten",
    "FullyConnected",
    "GatedMLP",
    "GlobalPool",
    "InvertedResidual",
    "LastNorm",
    "Layer",
    "Linear",
    "LogMel",
    "Masks",
    "MobileConvolution",
    "NGrams",
    "Nearby",
    "Onnx",
    "Pairs",
    "Phrases",
    "Projection",
    "Residual",
    "Same",
    "SentenceLayer",
    "SentenceTokens",
    "SparseLinear",
    "Standardize",
    "Subsample",
    "TextPool",
    "TimePool",
    "TokenHead",
    "Tokens",
    "Whiten",
    "WordCounts",
    "build_layer",
    "ends",
    "merge",
    "padded",
]

"""Sentence encoders as the Hugging Face libraries lay them out, in the shape of BERT: their configuration and the names of their tensors.

https://github.com/huggingface/transformers/tree/main/src/transformers/models/bert
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lamina.errors import DataError, sentence
from lamina.layers import Layer, SentenceLayer, SentenceTokens, TextPool

PARTS = {
    "attention.self.query": "queries", "attention.self.key": "keys", "attention.self.value": "values", "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm", "intermediate.dense": "up", "output.dense": "down", "output.LayerNorm": "last_norm",
}  # fmt: skip


def sentence_layers(config: dict[str, Any], places: int) -> list[tuple[str, Layer]]:
    """The layers that a config.json describes, without a head; the mean over the steps is what a text comes to. Raises DataError."""
    if config.get("hidden_act", "gelu") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        told = f"{config.get('hidden_act')}, {config.get('position_embedding_type')}"
        raise DataError(sentence("config.json", "ask for gelu and absolute positions", told))
    try:
        width, heads, inner = (int(config[name]) for name in ("hidden_size", "num_attention_heads", "intermediate_size"))
        epsilon = float(config.get("layer_norm_eps", 1e-12))
        first = SentenceTokens(int(config["vocab_size"]), width, min(places, int(config["max_position_embeddings"])), epsilon)
        layers: list[tuple[str, Layer]] = [("input", first)]
        for number in range(1, int(config["num_hidden_layers"]) + 1):
            layers.append((f"block{number}", SentenceLayer(width, heads, inner, epsilon)))
        return [*layers, ("pool", TextPool())]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(sentence("config.json", "describe a BERT", f"{type(error).__name__}: {error}")) from error


def own_names(weights: dict[str, Tensor], places: int) -> dict[str, Tensor]:
    """Their tensors under the names that they have here, what has none left out; the type of the only segment is added to every token."""
    found: dict[str, Tensor] = {}
    weights = {name.removeprefix("bert."): value for name, value in weights.items()}
    for name, value in weights.items():
        module, _, kind = name.rpartition(".")
        pieces = module.split(".")
        if pieces[:2] == ["encoder", "layer"] and ".".join(pieces[3:]) in PARTS:
            found[f"layers.block{int(pieces[2]) + 1}.{PARTS['.'.join(pieces[3:])]}.{kind}"] = value
    for theirs, own in (("word_embeddings", "table"), ("position_embeddings", "place_table"), ("LayerNorm", "norm")):
        for kind in ("weight", "bias"):
            name = f"embeddings.{theirs}.{kind}"
            if name in weights:
                found[f"layers.input.{own}.{kind}"] = weights[name][:places] if own == "place_table" else weights[name]
    if (types := weights.get("embeddings.token_type_embeddings.weight")) is not None and "layers.input.table.weight" in found:
        found["layers.input.table.weight"] = found["layers.input.table.weight"] + types[0]
    return found

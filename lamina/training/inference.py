"""What the network puts out for values, in their order: the one way that predict, evaluate, checks and calibration use."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.data.batches import Batch, Feed
from lamina.data.split import Split
from lamina.inputs import Input
from lamina.layers import Context
from lamina.metrics import corrected_resampled_interval
from lamina.networks import Network
from lamina.outputs import Output
from lamina.task import Score, Task
from lamina.training.device import exact

BATCH = 256
LIKENESS = 0.05
"""bf16 answers when its values differ from those of fp32 by at most this share of their length …"""
COMPARED = 64
"""… on so many examples, and comes to the same bits for one alone, for a few, and among others."""


class Values(NamedTuple):
    """What the answering layer put out, fp32 on the CPU, with the context that came out beside it and the targets."""

    values: Tensor
    context: Context
    targets: Tensor

    def __len__(self) -> int:
        return len(self.values)


def each_batch(network: Network, input: Input, output: Output, batches: Iterable[Batch], precision: str = "fp32") -> Iterator[Values]:
    """The values of each batch, computed in evaluation mode; the mean over the views that the input makes of it."""
    was_training = network.training
    network.eval()
    until = "" if output.reads == network.head.name else output.reads
    try:
        for batch in batches:
            alone = precision == "bf16" and len(batch.x) == 1 and _plain(batch.context)
            pieces = [(range(1), _doubled(batch))] if alone else [(range(len(batch.x)), batch)] if output.measured else _by_width(batch)
            device, found = batch.x.device, []
            with torch.inference_mode(), exact(device), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                for _, piece in pieces:
                    found.append(_values(network, input, output, piece, until))
            if len(found) == 1:
                yield _first(found[0]) if alone else found[0]
            else:
                yield in_place(join_values(found), [row for rows, _ in pieces for row in rows])
    finally:
        network.train(was_training)


def _values(network: Network, input: Input, output: Output, batch: Batch, until: str) -> Values:
    views = input.several(batch.x, batch.context)
    if output.measured:
        found = [(share, _measured(network, output, x, context, batch.target)) for share, x, context in views]
    else:
        found = [(share, network(x, context, until)) for share, x, context in views]
    values = found[0][1][0].float() if len(found) == 1 else sum(share * signals.float() for share, (signals, _) in found)
    context = found[0][1][1]._replace(caches=None).to(torch.device("cpu"))
    return Values(torch.as_tensor(values).cpu(), context, batch.target.cpu())


def _by_width(batch: Batch) -> list[tuple[Sequence[int], Batch]]:
    """Values of different lengths in pieces of one width each, which a value's own length decides: so little is padding, and an answer
    in bf16 has the same bits whatever stands beside it."""
    lengths = batch.context.lengths
    if lengths is None or batch.context.segments is not None or batch.context.caches is not None:
        return [(range(len(batch.x)), batch)]
    widths = torch.tensor([_width(length) for length in lengths.tolist()])
    pieces: list[tuple[Sequence[int], Batch]] = []
    for width in widths.unique().tolist():
        rows = torch.nonzero(widths == width)[:, 0]
        x, context = batch.x[rows, :width], batch.context.part(rows)
        x = F.pad(x, [0, 0] * (x.ndim - 2) + [0, width - x.shape[1]])
        pieces.append((rows.tolist(), Batch(x, context, batch.target[rows], batch.examples[rows.numpy()])))
    return pieces


def _width(length: int) -> int:
    """The next of four widths an octave."""
    step = max(8, 1 << max(0, int(length).bit_length() - 3))
    return max(step, -(-int(length) // step) * step)


def _measured(network: Network, output: Output, x: Tensor, context: Context, target: Tensor) -> tuple[Tensor, Context]:
    hidden, context = network.hidden(x, context)
    return output.met(x, hidden, network.head, target, context), Context()


def score_cross_fitted(task: Task, split: Split, answers: Sequence[Any], truths: Sequence[Any]) -> Score:
    """The score over all examples; the wider of its own interval and that of the folds, whose training parts overlap."""
    assert split.folds is not None
    pooled = task.score(list(answers), list(truths))
    folds = [split.fold(number) for number in range(max(split.folds) + 1)]
    scores = [task.score([answers[i] for i in tested], [truths[i] for i in tested]).value for _, tested in folds]
    share = sum(len(tested) / len(learned) for learned, tested in folds) / len(folds)
    low, high = corrected_resampled_interval(scores, share)
    return dataclasses.replace(pooled, low=min(low, pooled.low), high=max(high, pooled.high))


def run_in_order(network: Network, input: Input, output: Output, batches: Iterable[Batch], precision: str = "fp32") -> Values:
    """The values of all batches together, each example once; shorter ones padded with 0, as their lengths in the context tell."""
    return join_values(list(each_batch(network, input, output, batches, precision)))


def answers_to(network: Network, feed: Feed, output: Output, examples: Sequence[int], precision: str) -> list[Any]:
    """The answers to examples, batch by batch, as predict gives them."""
    parts = each_batch(network, feed.input, output, feed.in_order(examples, BATCH), precision)
    return [answer for part in parts for answer in output.decode(part.values, part.context)]


def answering_precision(network: Network, input: Input, output: Output, batch: Batch, trained_in: str) -> str:
    """The number format of answers: bf16 where training takes it and, on this CPU, an answer has the same bits alone as among others.

    `network` may be untrained; its head, which may start at 0, is filled with random numbers here.
    """
    plain = _plain(batch.context._replace(lengths=None))
    if trained_in != "bf16" or batch.x.device.type != "cpu" or len(batch.x) < 4 or output.measured or not plain:
        return "fp32"
    tried = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tried.head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)

    def values(first: int, end: int, precision: str) -> Tensor:
        context = batch.context.part(slice(first, end))
        some = Batch(batch.x[first:end], context, batch.target[first:end], batch.examples[first:end])
        return run_in_order(tried, input.single(), output, [some], precision).values

    everything, fine = values(0, len(batch.x), "bf16"), values(0, len(batch.x), "fp32")
    pieces = ((0, 1), (len(batch.x) - 1, len(batch.x)), (1, 4), (2, len(batch.x) // 2 + 1))
    same = all(
        torch.equal(found, everything[first:end, : found.shape[1]]) for first, end in pieces for found in [values(first, end, "bf16")]
    )
    return "bf16" if same and float((everything - fine).norm()) <= LIKENESS * float(fine.norm()) else "fp32"


def _plain(context: Context) -> bool:
    return all(value is None for value in context)


def _doubled(batch: Batch) -> Batch:
    """One example twice: the kernels for a single picture in bf16 are ten times slower than those for two."""
    return Batch(torch.cat([batch.x, batch.x]), batch.context, torch.cat([batch.target, batch.target]), batch.examples)


def _first(found: Values) -> Values:
    return Values(found.values[:1], found.context, found.targets[:1])


def join_values(parts: Sequence[Values]) -> Values:
    """Several pieces as one, in their order."""
    joined = [None if part is None else join([getattr(p.context, name) for p in parts]) for name, part in _tensors(parts[0].context)]
    context = Context(joined[0], joined[1], joined[2])
    return Values(join([part.values for part in parts]), context, join([part.targets for part in parts]))


def in_place(found: Values, order: Sequence[int]) -> Values:
    """Rows that belong to the examples `order`, put in the order of the examples."""
    back = torch.argsort(torch.tensor(list(order)))
    moved = [None if tensor is None else tensor[back] for _, tensor in _tensors(found.context)]
    return Values(found.values[back], Context(moved[0], moved[1], moved[2]), found.targets[back])


def join(tensors: Sequence[Tensor]) -> Tensor:
    """Along the first axis; the other axes padded with 0 to the largest."""
    largest = [max(tensor.shape[axis] for tensor in tensors) for axis in range(1, tensors[0].ndim)]
    padded = []
    for tensor in tensors:
        missing = [pad for size, now in zip(reversed(largest), reversed(tensor.shape[1:]), strict=True) for pad in (0, size - now)]
        padded.append(F.pad(tensor, missing) if any(missing) else tensor)
    return torch.cat(padded)


def _tensors(context: Context) -> list[tuple[str, Tensor | None]]:
    return [(name, getattr(context, name)) for name in ("lengths", "segments", "positions")]

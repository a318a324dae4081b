"""Run by test_distributed.py, alone and under torchrun: the same training in one process, in two copies (DDP) and in two shards (FSDP2).

distributed_worker.py OUT ddp|fsdp
"""

import sys
from pathlib import Path

import numpy as np
import torch
from contract import make_plan
from probe_parts import Tanh, Vectors

from lamina.data.batches import Feed
from lamina.data.cache import Decoded
from lamina.layers import Linear
from lamina.model import Model
from lamina.networks import Network
from lamina.outputs import ClassesOutput
from lamina.training.checkpoint import read_checkpoint
from lamina.training.distributed import join_world, leave_world, whole
from lamina.training.fit import Work, fit

LABELS = ("a", "b", "c")


def main(out: Path, kind: str) -> None:
    torch.set_num_threads(1)
    world = join_world()
    rng = np.random.default_rng(0)
    raws = list(rng.normal(size=(64, 8)))
    targets = [int(raw[:3].argmax()) for raw in raws]
    feed = Feed(Decoded.of(raws), targets, Vectors(), ClassesOutput(labels=LABELS), torch.device("cpu"))

    def train(steps: int, checkpoint: Path | None) -> Network:
        torch.manual_seed(0)
        network = Network([("input", Vectors().layer(None)), ("hidden", Linear(8, 16)), ("tanh", Tanh()), ("head", Linear(16, 3))]).double()
        rates = {"optimizer": "muon", "learning_rate": 0.05, "head_rate": 0.1, "rest_rate": 0.1, "average": 0.1}
        plan = make_plan(batch=32, micro_batch=32, steps=20, check_every=5, shard=kind == "fsdp", **rates)
        plan.steps = steps
        fit(network, feed.output, feed, Work("final", np.arange(64), checkpoint=checkpoint), plan)
        return network

    straight = train(20, None)
    path = out / "checkpoint.safetensors"
    train(20, path)
    world.wait()
    state = read_checkpoint(path)
    assert state is not None and state.step == 20
    weights = {name: whole(value).clone() for name, value in straight.state_dict().items()}
    for name, value in state.average.items():
        assert torch.equal(value, weights[name]), name
    if world.rank == 0:
        network = Network([("input", Vectors().layer(None)), ("hidden", Linear(8, 16)), ("tanh", Tanh()), ("head", Linear(16, 3))])
        network.load_state_dict({name: value.float() for name, value in weights.items()})
        Model("probe", Vectors(), network.eval(), feed.output).save(out / "model.lamina")
        torch.save(weights, out / "weights.pt")
    world.wait()
    leave_world()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

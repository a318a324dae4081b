"""fastai as for its own Imagenette records: xresnet18 from nothing, Mish, label smoothing, Ranger, flat then cosine, batch transforms."""

import time

import fastai
import numpy as np
import torch
import torchvision_here  # noqa: F401 (before fastai)
from clock import Race
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    LabelSmoothingCrossEntropy,
    Learner,
    Mish,
    Normalize,
    PILImage,
    PILImageBW,
    aug_transforms,
    ranger,
    set_seed,
    xresnet18,
)

BATCH, RATE = 64, 4e-3
KEPT = 25.0
"""Seconds for making the batches and answering the test part."""


def learner(race: Race, indices: np.ndarray) -> Learner:
    color, side, classes = race.x_train.shape[-1] == 3, race.x_train.shape[1], int(race.y_train.max()) + 1
    statistics = ([0.5] * 3, [0.25] * 3) if color else ([0.3], [0.35])
    varied = aug_transforms(size=side, min_scale=0.75, do_flip=race.mirror, max_rotate=0, max_warp=0, max_lighting=0)
    block = DataBlock(
        blocks=(ImageBlock(PILImage if color else PILImageBW), CategoryBlock(vocab=list(range(classes)))),
        get_x=lambda item: np.squeeze(race.x_train[item] if item >= 0 else race.x_test[-1 - item]),
        get_y=lambda item: int(race.y_train[item] if item >= 0 else race.y_test[-1 - item]),
        splitter=lambda items: (list(range(len(items))), list(range(min(len(items), 64)))),
        batch_tfms=[*varied, Normalize.from_stats(*statistics)],
    )
    data = block.dataloaders(list(map(int, indices)), bs=BATCH, num_workers=0, device=torch.device("cpu"))
    network = xresnet18(n_out=classes, c_in=race.x_train.shape[-1], act_cls=Mish)
    return Learner(data, network, loss_func=LabelSmoothingCrossEntropy(), opt_func=ranger)


def main() -> None:
    race = Race()
    set_seed(race.seed)
    everything = np.arange(len(race.x_train))
    few = learner(race, everything[: BATCH * 30])
    with few.no_bar(), few.no_logging():
        few.fit(1, RATE)
        start = time.time()
        few.fit(1, RATE)
    an_epoch = (time.time() - start) * len(everything) / (BATCH * 30)
    affordable = 0.97 * race.left(KEPT) / an_epoch
    epochs = max(1, round(affordable))
    used = np.random.default_rng(race.seed).permutation(len(everything))[: int(len(everything) * min(1.0, affordable / epochs))]
    model = learner(race, used)
    with model.no_bar(), model.no_logging():
        model.fit_flat_cos(epochs, RATE)
    tested = model.dls.test_dl([-1 - place for place in range(len(race.x_test))], bs=256)
    with model.no_bar():
        answers = model.get_preds(dl=tested)[0].argmax(1).numpy()
    race.finish(answers, epochs=epochs * len(used) / len(everything), version=fastai.__version__)


main()

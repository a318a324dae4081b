"""Lightning with a plain ResNet-20 (He et al. 2015, section 4.2): bf16-mixed, channels last, Nesterov momentum, one cycle, DataLoader."""

import itertools
import time

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from clock import Race, pad_and_crop
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH = 128


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        plain = stride == 1 and inputs == width
        self.short = nn.Identity() if plain else nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(self.short(x) + inner)


class ResNet20(lightning.LightningModule):
    def __init__(self, channels: int, classes: int, total_steps: int) -> None:
        super().__init__()
        self.total_steps = total_steps
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [Block(now, wider, wider // now) for now, wider in itertools.pairwise(widths)]
        stem = [nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        self.layers = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> torch.Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Pictures(Dataset):
    def __init__(self, race: Race) -> None:
        self.race, self.generator = race, np.random.default_rng(race.seed)

    def __len__(self) -> int:
        return len(self.race.x_train)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        varied = pad_and_crop(self.race.x_train[index], self.generator, mirror=self.race.mirror)
        return torch.from_numpy(varied.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1), int(self.race.y_train[index])


def train(race: Race, steps: int, model: ResNet20) -> None:
    loader = DataLoader(Pictures(race), BATCH, shuffle=True, drop_last=True)
    trainer = lightning.Trainer(accelerator="cpu", precision="bf16-mixed", max_steps=steps, max_epochs=-1, logger=False,
                                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(model, loader)


def main() -> None:
    race = Race()
    lightning.seed_everything(race.seed, verbose=False)
    channels, classes = race.x_train.shape[-1], int(race.y_train.max()) + 1
    make = lambda steps: ResNet20(channels, classes, steps).to(memory_format=torch.channels_last)  # noqa: E731
    train(race, 10, make(10))
    start = time.time()
    train(race, 40, make(40))
    kept = 8.0
    steps = max(50, int(0.95 * race.left(kept) / (time.time() - start) * 40))
    model = make(steps)
    train(race, steps, model)
    model.eval()
    tested = torch.from_numpy(race.x_test.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        answers = torch.cat([model(part).argmax(1) for part in tested.split(256)]).numpy()
    race.finish(answers, epochs=steps * BATCH / len(race.x_train), version=lightning.__version__)


main()

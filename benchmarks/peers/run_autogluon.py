"""AutoGluon MultiModal on picture files: its image model on a timm ResNet-18 from nothing (its hub cannot be reached), time_limit, bf16."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision_here  # noqa: F401 (before autogluon)
from clock import Race

KEPT = 45.0


def main() -> None:
    race = Race()
    import pandas as pd
    import timm
    from autogluon.multimodal import MultiModalPredictor, __version__

    classes = int(race.y_train.max()) + 1
    place = tempfile.mkdtemp()
    network = timm.create_model("resnet18", num_classes=0)
    torch.save(network.state_dict(), os.path.join(place, "pytorch_model.bin"))
    config = {"architecture": "resnet18", "num_classes": classes, "num_features": 512,
              "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear",
                                 "crop_pct": 1.0, "num_classes": classes, "first_conv": "conv1", "classifier": "fc"}}  # fmt: skip
    with open(os.path.join(place, "config.json"), "w") as file:
        json.dump(config, file)

    def table(part: str, labels: np.ndarray) -> pd.DataFrame:
        files = {int(file.stem): str(file) for file in Path(race.folder, part).rglob("*.png")}
        return pd.DataFrame({"image": [files[number] for number in range(len(labels))], "label": labels})

    predictor = MultiModalPredictor(label="label", problem_type="multiclass", path=os.path.join(place, "out"), verbosity=1)
    predictor.fit(
        table("train", race.y_train),
        time_limit=max(20, race.left(KEPT)),
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": place,
            "model.timm_image.train_transforms": ["resize_shorter_side", "center_crop", "random_horizontal_flip"],
            "env.num_gpus": 0,
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
            "env.precision": "bf16-mixed",
            "env.per_gpu_batch_size": 128,
            "env.batch_size": 128,
            "optim.lr": 2e-3,
            "optim.max_epochs": 20,
            "optim.lr_choice": "single_stage",
            "optim.top_k": 1,
        },
        seed=race.seed,
    )
    answers = predictor.predict(table("test", race.y_test)).to_numpy()
    race.finish(answers, epochs=None, version=__version__)


main()

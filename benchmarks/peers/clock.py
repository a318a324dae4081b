"""What every peer's script shares: its arguments, the data, the clock and the result. Runs in the peer's own environment."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np


class Race:
    """The pictures (uint8 [n, side, side, channels]) with labels, and how much of the time is left."""

    def __init__(self) -> None:
        path, minutes, seed, begun, self.out = sys.argv[1:6]
        self.ends = float(begun) + 60 * float(minutes)
        """On time.time(): when the whole command must be over."""
        self.seed = int(seed)
        with np.load(path) as loaded:
            self.x_train, self.y_train, self.x_test, self.y_test = (loaded[name] for name in ("x_train", "y_train", "x_test", "y_test"))
        self.folder = os.path.splitext(path)[0]
        """The same pictures as PNG files: train/ and test/, a folder a class."""
        self.mirror = self.x_train.shape[-1] == 3 or "fashion" in path

    def left(self, kept_for_the_end: float = 0.0) -> float:
        """Seconds until the end, less what is kept for answering the test part."""
        return self.ends - time.time() - kept_for_the_end

    def finish(self, answers: Any, **facts: Any) -> None:
        """Write the accuracy on the test part, opened once."""
        accuracy = float((np.asarray(answers) == self.y_test).mean())
        over = max(0.0, -self.left())
        with open(self.out, "w") as file:
            json.dump({"accuracy": accuracy, "seconds_over": over, **facts}, file)


def pad_and_crop(x: np.ndarray, generator: np.random.Generator, reach: int = 4, mirror: bool = True) -> np.ndarray:
    """Zero-padded by `reach`, cropped at random, perhaps mirrored: one picture [H, W, C]."""
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    down, right = generator.integers(0, 2 * reach + 1, 2)
    cropped = padded[down : down + x.shape[0], right : right + x.shape[1]]
    return cropped[:, ::-1] if mirror and generator.random() < 0.5 else cropped

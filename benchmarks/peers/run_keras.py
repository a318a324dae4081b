"""Keras 3 on PyTorch: the CIFAR ResNet of its examples (depth 20), mixed bfloat16, its own augmentation layers, Adam, cosine decay."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import contextlib
import math
import time

import keras
import numpy as np
from clock import Race
from keras import layers

BATCH = 128


def resnet20(shape: tuple[int, int, int], classes: int, mirror: bool) -> keras.Model:
    def block(x: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
        inner = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        inner = layers.Activation("relu")(layers.BatchNormalization()(inner))
        inner = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(inner))
        if stride > 1 or x.shape[-1] != width:
            x = layers.BatchNormalization()(layers.Conv2D(width, 1, stride, use_bias=False)(x))
        return layers.Activation("relu")(layers.Add()([x, inner]))

    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    if mirror:
        x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomTranslation(0.1, 0.1, fill_mode="reflect")(x)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for number in range(3):
            x = block(x, width, stride if number == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", dtype="float32")(x))


class Cosine(keras.callbacks.Callback):
    """Learning rate by the time that is over: up in the first 5 %, then down a half cosine; stops when the time is over."""

    def __init__(self, race: Race, kept: float, peak: float) -> None:
        super().__init__()
        self.race, self.kept, self.peak, self.steps = race, kept, peak, 0
        self.whole = race.left(kept)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        done = min(1.0, 1 - self.race.left(self.kept) / self.whole)
        self.model.optimizer.learning_rate = self.peak * min(1.0, done / 0.05) * (1 + math.cos(math.pi * done)) / 2
        self.steps += 1
        if done >= 1:
            self.model.stop_training = True
            raise StopIteration


def main() -> None:
    race = Race()
    keras.utils.set_random_seed(race.seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = resnet20(race.x_train.shape[1:], int(race.y_train.max()) + 1, race.mirror)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    model.predict(race.x_test[:256].astype("float32"), batch_size=256, verbose=0)
    start = time.time()
    model.predict(race.x_test[:512].astype("float32"), batch_size=256, verbose=0)
    kept = 3 + 1.3 * (time.time() - start) * len(race.x_test) / 512
    clock = Cosine(race, kept, 2e-3)
    with contextlib.suppress(StopIteration):
        model.fit(race.x_train, race.y_train, batch_size=BATCH, epochs=10_000, verbose=0, callbacks=[clock])
    answers = np.argmax(model.predict(race.x_test, batch_size=256, verbose=0), 1)
    race.finish(answers, epochs=clock.steps * BATCH / len(race.x_train), version=keras.__version__)


main()

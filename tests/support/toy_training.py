"""A cohort in memory, a small network and settings, to train in a second."""

import keras
import numpy as np
import pandas as pd

from msxai.model import training


class Toy:
    """Prepared arrays in memory: 4x4x4 volumes, patients brighter; reading a forbidden row
    fails.
    """

    name, forbidden = "toy", frozenset()

    def __init__(self, count=24, holdout=6):
        rng = np.random.default_rng(0)
        labels = np.arange(count) % 2
        parts = np.repeat(["training", "validation", "holdout"], [count - holdout - 6, 6, holdout])
        self.table = pd.DataFrame({"label": pd.array(labels, "Int64"), "part": parts})
        self.images = (rng.normal(size=(count, 4, 4, 4)) + labels[:, None, None, None]).astype(
            "float32"
        )
        self.unfilled = np.zeros(count, bool)
        self.read = []

    def rows(self, part):
        return np.flatnonzero(self.table["part"] == part)

    def image(self, row):
        assert self.table["part"].iloc[row] not in self.forbidden, "this part must not be read"
        self.read.append(int(row))
        return self.images[row]


def toy_model(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((4, 4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )


SETTINGS = training.Settings(
    learning_rate=5e-3,
    decay=2e-3,
    batch_size=4,
    epochs=5,
    patience=5,
    seed=1,
    augmentation="paper",
)

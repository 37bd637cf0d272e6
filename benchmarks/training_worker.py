"""One network of training_speed.py in a process of its own: answers seconds, peak memory and the
losses of its steps as JSON.

Usage: python benchmarks/training_worker.py plain|fast WIDTH THREADS STEPS BATCH FOLDER      (then
one line of input a fit)
"""

import json
import os
import sys
import time
from pathlib import Path

from peak import peak

KIND, (WIDTH, THREADS, STEPS, BATCH), FOLDER = (
    sys.argv[1],
    map(int, sys.argv[2:6]),
    Path(sys.argv[6]),
)
ANSWERS = os.fdopen(os.dup(1), "w")  # libraries may print
os.dup2(2, 1)

import keras  # noqa: E402
import numpy as np  # noqa: E402

from msxai.model import network  # noqa: E402


class Losses(keras.callbacks.Callback):
    """Loss of each batch, from the running mean that Keras keeps."""

    def on_train_begin(self, logs=None):
        """Begin anew."""
        self.sums = [0.0]

    def on_train_batch_end(self, batch, logs=None):
        """Take the sum so far."""
        self.sums.append(logs["loss"] * (batch + 1))


class Steps(keras.utils.PyDataset):
    """The same batches for every fit."""

    def __init__(self):
        super().__init__()
        self.volumes, self.labels = np.load(FOLDER / "volumes.npy"), np.load(FOLDER / "labels.npy")

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        rows = np.arange(index * BATCH, (index + 1) * BATCH) % len(self.volumes)
        return self.volumes[rows], self.labels[rows]


if __name__ == "__main__":
    network.configure(0, THREADS)
    model = network.build(WIDTH, fast=KIND == "fast")
    network.load_weights(model, FOLDER / "weights.npz")
    start, losses, data = model.get_weights(), Losses(), Steps()
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,
    )
    states = [
        layer.seed_generator for layer in model.layers if isinstance(layer, keras.layers.Dropout)
    ]
    model.train_on_batch(*data[0])  # traces the graph, compiles the kernels
    for _ in sys.stdin:
        model.set_weights(start)
        for variable in model.optimizer.variables[2:]:
            variable.assign(keras.ops.zeros_like(variable))
        model.optimizer.iterations.assign(0)
        for number, generator in enumerate(states):
            generator.state.assign([number, 0])
        peak()
        begin = time.perf_counter()
        model.fit(data, epochs=1, shuffle=False, verbose=0, callbacks=[losses])
        seconds = time.perf_counter() - begin
        print(
            json.dumps(
                {"seconds": seconds, "memory": peak(), "losses": np.diff(losses.sums).tolist()}
            ),
            file=ANSWERS,
            flush=True,
        )

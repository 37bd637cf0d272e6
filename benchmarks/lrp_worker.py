"""One engine of lrp_speed.py in a process of its own: reads ``rule batch kind`` lines, answers
seconds, peak memory and a checksum.

Usage: python benchmarks/lrp_worker.py msxai|gradient|gradient_pool_first|innvestigate WIDTH THREADS
FOLDER
"""

import os
import sys
import time
from pathlib import Path

ENGINE, WIDTH, THREADS, FOLDER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # see msxai.base.tensorflow_start
if ENGINE == "innvestigate":
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from peak import peak  # noqa: E402

ANSWERS = os.fdopen(os.dup(1), "w")  # libraries may print
os.dup2(2, 1)


def make_msxai():
    """rule -> function of volumes."""
    from msxai import lrp
    from msxai.model import network

    network.configure(0, THREADS)
    model = network.build(WIDTH)
    network.load_weights(model, FOLDER / "weights.npz")

    def bound(rule):
        name, _, copies = rule.partition("*")  # epsilon*8: the mean over 8 copies
        return lambda volumes: (
            lrp.explain(
                model,
                volumes,
                name,
                copies=int(copies or 1),
                computation=lrp.Computation(batch_size=len(volumes), threads=THREADS),
            ).relevance
        )

    return bound


def make_gradient(pool_first):
    """The gradient of the logit, compiled by tf.function; the network as in the paper, or with
    pooling before the ELU.
    """
    from keras import Input, Sequential, layers

    from msxai.model import network

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    source = network.build(WIDTH)
    network.load_weights(source, FOLDER / "weights.npz")
    model = Sequential([Input(source.input_shape[1:])])
    for name in ("conv1", "conv2", "conv3", "conv4"):
        model.add(layers.Conv3D(WIDTH, 3, name=name))
        model.add(
            layers.MaxPooling3D(3) if pool_first and name != "conv3" else layers.Activation("elu")
        )
        if name != "conv3":
            model.add(layers.Activation("elu") if pool_first else layers.MaxPooling3D(3))
    model.add(layers.Flatten())
    model.add(layers.Dense(1, name="dense"))
    model.set_weights(source.get_weights())

    @tf.function
    def gradient(volumes):
        with tf.GradientTape() as tape:
            tape.watch(volumes)
            logit = tf.reduce_sum(model(volumes))
        return tape.gradient(logit, volumes)

    return lambda rule: lambda volumes: gradient(tf.constant(volumes)).numpy()


def make_innvestigate():
    """Of the analyzers that msxai.lrp.innvestigate names."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.compat.v1.disable_eager_execution()
    import innvestigate

    from msxai.lrp import innvestigate as process

    with np.load(FOLDER / "weights.npz") as file:
        model = process._network((96, 114, 96), dict(file))
    analyzers = {}

    def bound(rule):
        if rule not in analyzers:
            options = {"epsilon": 1e-3} if rule == "epsilon" else {}
            analyzers[rule] = innvestigate.create_analyzer(
                process.ANALYZERS[rule], model, **options
            )
        return analyzers[rule].analyze

    return bound


if __name__ == "__main__":
    makers = {
        "msxai": make_msxai,
        "gradient": lambda: make_gradient(False),
        "gradient_pool_first": lambda: make_gradient(True),
        "innvestigate": make_innvestigate,
    }
    bound = makers[ENGINE]()
    for line in sys.stdin:
        rule, batch, kind = line.split()
        volumes = np.load(FOLDER / f"{kind}.npy")[: int(batch)]
        function = bound(rule)
        peak()
        start = time.perf_counter()
        result = function(volumes)
        seconds = time.perf_counter() - start
        print(seconds, peak(), float(np.abs(result).sum(dtype=float)), file=ANSWERS, flush=True)

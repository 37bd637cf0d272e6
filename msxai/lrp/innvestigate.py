"""iNNvestigate (Alber et al. 2019, JMLR 20:93) in a process of its own.

It needs legacy Keras and graph mode for the whole process, so nothing else may import it:
`msxai.lrp` calls `explain`, which starts ``python -m msxai.lrp.innvestigate FOLDER`` and exchanges
.npy and .npz files with it.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from msxai.base.errors import EngineError, ParameterError

__all__ = ["ANALYZERS", "check_installed", "explain"]

# Where iNNvestigate 2.1.2 is correct on the paper's network. Its alpha-beta is wrong where a layer
# has a bias (its issue 273). The variants "IB" leave biases out of the denominators, as
# ``{"rule": "alpha_beta", ..., "bias": False}`` of `msxai.lrp.rules` does.
ANALYZERS = {
    "epsilon": "lrp.epsilon",
    "z": "lrp.z",
    "flat": "lrp.flat",
    "w_square": "lrp.w_square",
    "alpha1_beta0_IB": "lrp.alpha_1_beta_0_IB",
    "alpha2_beta1_IB": "lrp.alpha_2_beta_1_IB",
}
_PACKAGES = ("innvestigate", "tensorflow", "tf_keras")
_SETTINGS = {
    "TF_USE_LEGACY_KERAS": "1",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Else maxima that tie each get the whole relevance: see msxai.base.tensorflow_start.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def check_installed() -> None:
    """Refuse this engine where a package that it needs is not installed.

    Raises
    ------
    ParameterError
        With the names of the packages.
    """
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise ParameterError(
            "parameter engine",
            f"innvestigate, and no package {', '.join(missing)}",
            "all packages that iNNvestigate needs, or engine: msxai",
            "Set engine: msxai. Set-up for a GPU (make setup GPU=1) leaves TensorFlow out, and "
            "with it iNNvestigate. make setup GPU=0 installs both.",
        )


def explain(
    weights: dict, shape, scans, rules, epsilon: float, batch_size: int, threads: int
) -> dict[str, np.ndarray]:
    """Relevance of the logit of the paper's network by each rule, in one process of iNNvestigate.

    Parameters
    ----------
    weights : dict of ndarray
        As of `msxai.model.network.weights`. The network is `msxai.model.network.build` with the
        pooling after the ELU, which gives equal values.
    shape : tuple of int
        One scan, (X, Y, Z).
    scans : array-like of shape (N, X, Y, Z, 1)
        Read and written batch by batch.
    rules : sequence of str
        Of `ANALYZERS`.
    epsilon : float
        Stabiliser of the epsilon rule.
    batch_size, threads : int
        Scans at a time; threads of TensorFlow in that process.

    Returns
    -------
    dict
        Rule to relevance, ndarray of shape (N, X, Y, Z, 1), float32.

    Raises
    ------
    ParameterError
        The weights are of a network with another head than the paper's; a package is missing.
    EngineError
        The process failed; the message ends with what it printed.
    """
    check_installed()
    if any(name.startswith("normalisation/") for name in weights):
        raise ParameterError(
            "parameter engine",
            "innvestigate, with a network that has another head than the paper's",
            "engine: msxai for such a network",
            "Set engine: msxai.",
        )
    job = {
        "shape": list(shape),
        "analyzers": {rule: ANALYZERS[rule] for rule in rules},
        "options": {"epsilon": {"epsilon": epsilon}},
        "batch_size": batch_size,
        "threads": threads,
    }
    with tempfile.TemporaryDirectory(prefix="msxai-") as name:
        folder = Path(name)
        _lay_out(folder, job, weights, scans)
        _run(folder)
        return {rule: np.load(folder / f"relevance_{rule}.npy") for rule in rules}


def _lay_out(folder: Path, job: dict, weights: dict, scans) -> None:
    """Write what the process reads."""
    np.savez(folder / "weights.npz", **weights)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    shape = (len(scans), *job["shape"], 1)
    store = np.lib.format.open_memmap(folder / "volumes.npy", "w+", "float32", shape)
    for index, scan in enumerate(scans):
        store[index] = scan
    store.flush()


def _run(folder: Path) -> None:
    """Start the process, and wait until it has written the relevance."""
    command = [sys.executable, "-m", "msxai.lrp.innvestigate", folder]
    environment = {**os.environ, **_SETTINGS}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise EngineError(
            "innvestigate",
            f"exit status {run.returncode}: {run.stderr[-800:]}",
            "relevance maps",
            "Is it installed? Run make setup, and check that about 3 GB of memory are free.",
        )


def _network(shape, weights: dict):
    """The paper's network in legacy Keras; pooling after the ELU, as iNNvestigate expects it."""
    import tf_keras as keras

    width = weights["conv1/bias"].shape[0]
    model = keras.Sequential([keras.layers.InputLayer((*shape, 1))])
    for name in ("conv1", "conv2", "conv3", "conv4"):
        model.add(keras.layers.Conv3D(width, 3, activation="elu", name=name))
        if name != "conv3":
            model.add(keras.layers.MaxPooling3D(3))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(1, name="dense"))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/kernel"], weights[f"{layer.name}/bias"]])
    return model


def _serve(folder: Path) -> None:
    """Do the job that `explain` laid out in `folder`."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.compat.v1.disable_eager_execution()
    import innvestigate

    with np.load(folder / "weights.npz") as file:
        model = _network(job["shape"], dict(file))
    volumes = np.load(folder / "volumes.npy", mmap_mode="r")
    for rule, name in job["analyzers"].items():
        analyzer = innvestigate.create_analyzer(name, model, **job["options"].get(rule, {}))
        path = folder / f"relevance_{rule}.npy"
        relevance = np.lib.format.open_memmap(path, "w+", "float32", volumes.shape)
        for start in range(0, len(volumes), job["batch_size"]):
            batch = slice(start, start + job["batch_size"])
            relevance[batch] = analyzer.analyze(np.array(volumes[batch]))
        relevance.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))

"""The 3D convolutional network of Eitel et al. 2019, its weights on disk, and the settings that make two runs equal."""

import os
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notices hide a notebook's own output

import keras
import numpy as np

from .errors import ParameterError
from .images import SHAPE
from .integrity import replacing

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")


def configure(seed: int, threads: int) -> None:
    """Seed Keras and fix the number of threads (TensorFlow): results depend on both, by the order of summation.

    Parameters
    ----------
    seed : int
        Seeds Python, numpy and the backend: initial weights, dropout.
    threads : int
        Threads inside one operation. Must be set before TensorFlow computes anything in this process.

    Raises
    ------
    ParameterError
        TensorFlow has already started with another number of threads.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        running = tf.config.threading.get_intra_op_parallelism_threads()
        raise ParameterError(
            "parameter threads",
            f"{threads}",
            f"{running}, with which TensorFlow already runs in this kernel",
            "Restart the kernel, then run the notebook from its first cell.",
        ) from error
    tf.config.experimental.enable_op_determinism()


class Stem(keras.layers.Conv3D):
    """First convolution and pooling, computed inside a box only.

    Where a scan is 0 the convolution gives its bias, so outside the brain nothing need be computed: the output is that of the
    convolution over the whole volume, as long as all voxels outside the box are 0 (`training.fit` takes the box from the scans).

    Parameters
    ----------
    width : int
        Filters.
    box : sequence of three (first, last), optional
        Smallest and largest index along X, Y, Z at which a scan may differ from 0; None: anywhere.
    """

    def __init__(self, width: int, box=None, **options):
        super().__init__(width, 3, **options)
        self.box = box

    def compute_output_shape(self, input_shape):
        """(N, X, Y, Z, 1) to (N, (X - 2) // 3, (Y - 2) // 3, (Z - 2) // 3, width)."""
        return (input_shape[0], *((length - 2) // 3 for length in input_shape[1:4]), self.filters)

    def call(self, volumes):
        """Convolve and pool."""
        cells = [(length - 2) // 3 for length in volumes.shape[1:4]]
        box = self.box or [(0, length - 1) for length in volumes.shape[1:4]]
        first = [max(0, (low - 2) // 3) for low, _ in box]  # a cell sees the five voxels from 3 * cell on
        last = [min(count, high // 3 + 1) for count, (_, high) in zip(cells, box, strict=True)]
        volumes = volumes[(slice(None), *(slice(3 * low, 3 * high + 2) for low, high in zip(first, last, strict=True)))]
        inside = keras.ops.max_pool(super().call(volumes) - self.bias, 3, 3)
        around = [(low, count - high) for low, high, count in zip(first, last, cells, strict=True)]
        return keras.ops.pad(inside, [(0, 0), *around, (0, 0)]) + self.bias


def build(width: int = 64, shape=SHAPE, dropout: float = 0.3, weight_decay: float = 0.01, fast: bool = False, box=None) -> keras.Model:
    """Build the network; its output is the logit (the sigmoid is left to the loss and to `probability`).

    Parameters
    ----------
    width : int
        Filters of each convolution; 64 in the paper.
    shape : tuple of int
        Input volume (X, Y, Z) in voxels.
    dropout : float
        Share of activations dropped after each pooling.
    weight_decay : float
        L2 factor on the kernels of the third and fourth convolution.
    fast : bool
        Pool before the ELU, and convolve first inside `box` only (`Stem`). ELU is monotone, so max pooling commutes with it: values
        and gradients are the same, at 1/27 of the ELUs.
    box : sequence of three (first, last), optional
        See `Stem`; of use with `fast` only.

    Returns
    -------
    keras.Model
        From (N, X, Y, Z, 1) to (N, 1). Width 64 at 96x114x96: 333,889 weights.

    References
    ----------
    Eitel et al. 2019, NeuroImage: Clinical 24:102003, doi:10.1016/j.nicl.2019.102003.
    """
    layers = keras.layers
    model = keras.Sequential([keras.Input((*shape, 1))], name="eitel2019")
    for name in CONVOLUTIONS:
        number, l2 = name[-1], keras.regularizers.L2(weight_decay) if name in ("conv3", "conv4") else None
        pool, elu = layers.MaxPooling3D(3, name=f"pool{number}"), layers.Activation("elu", name=f"elu{number}")
        if fast and name == "conv1":
            stage = [Stem(width, box, name=name), elu]
        else:
            convolution = layers.Conv3D(width, 3, kernel_regularizer=l2, name=name)
            stage = [convolution, elu] if name == "conv3" else [convolution, pool, elu] if fast else [convolution, elu, pool]
        if name != "conv3":
            stage.append(layers.Dropout(dropout, name=f"dropout{number}"))
        for layer in stage:
            model.add(layer)
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(1, name="dense"))
    return model


def probability(logits) -> np.ndarray:
    """Sigmoid of the logits, float64, any shape."""
    return 1 / (1 + np.exp(-np.asarray(logits, float)))


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """All weights as ``{"conv1/kernel": array, ...}``; layers without weights do not appear."""
    return {f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
            for layer in model.layers for variable in layer.weights}  # fmt: skip


def save_weights(model: keras.Model, path) -> None:
    """Write the weights as .npz, readable without Keras, all or nothing."""
    with replacing(path) as draft:
        np.savez(draft, **weights(model))


def load_weights(model: keras.Model, path) -> None:
    """Set the model's weights from an .npz that `save_weights` wrote.

    Raises
    ------
    ParameterError
        The file is missing, is no such file, or has other layers or shapes than the model.
    """
    mend = "Give the weights.npz of a training with the same width, or leave start empty."
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ParameterError(path, str(error), "a weights file (.npz)", mend) from error
    for name, variable in weights(model).items():
        if name not in stored or stored[name].shape != variable.shape:
            found = f"shape {stored[name].shape}" if name in stored else "no such entry"
            raise ParameterError(f"{path}, {name}", found, f"shape {variable.shape}", mend)
    for layer in model.layers:
        layer.set_weights([stored[f"{layer.name}/{variable.name}"] for variable in layer.weights])


def first_kernels(path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernels of the first convolution after training and as that training began; each of shape (3, 3, 3, 1, width).

    Parameters
    ----------
    path : path
        Weights file (.npz).
    seed : int
        As the training was seeded by `configure`.
    """
    trained = weights(restore(path))["conv1/kernel"]
    keras.utils.set_random_seed(seed)
    return trained, weights(build(trained.shape[-1]))["conv1/kernel"]


def restore(path) -> keras.Model:
    """Build the network that a weights file belongs to, of whatever width, and load it.

    Raises
    ------
    ParameterError
        See `load_weights`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            width = file["conv1/bias"].shape[0]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        width = 1  # load_weights says what is wrong with the file
    model = build(width)
    load_weights(model, path)
    return model

"""The 3D convolutional network of Eitel et al. 2019, its weights on disk, and the settings that make two runs equal."""

import contextlib
import ctypes
import os
import zipfile

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # TensorFlow's start-up notices hide a notebook's own output
# Left alone, TensorFlow uses oneDNN only on a CPU with AVX512-VNNI or newer; elsewhere its pooling hands the slope of a maximum to every
# voxel that ties for it, 27 times too much where a scan is 0.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from scipy.special import expit

from msxai.base.errors import ParameterError
from msxai.base.provenance import replacing
from msxai.data.images import SHAPE
from msxai.model import kernels

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
    with contextlib.suppress(
        OSError, AttributeError
    ):  # Linux: keep freed memory for the next batch, which halves the time in the kernel
        allocator = ctypes.CDLL("libc.so.6")
        allocator.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD
        allocator.mallopt(
            -2, 1 << 28
        )  # M_TOP_PAD; TensorFlow itself lowers the threshold of trimming
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


def on_gpu() -> bool:
    """Whether Keras's backend sees a GPU; with torch, which tells Keras nothing of its devices, whether torch does."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return any("gpu" in device.lower() for device in keras.distribution.list_devices())


class ConvolutionPool(keras.layers.Conv3D):
    """Valid convolution of 3^3 voxels and max pooling of 3^3 as one layer: the same function and gradient as the two.

    On TensorFlow without a GPU the compiled `msxai.model.kernels` do it: the first convolution keeps no map of all positions and passes over
    cells that see nothing but 0, and the backward pass touches the winners only. Elsewhere it is Keras's convolution and pooling.

    Parameters
    ----------
    width : int
        Filters.
    plain : bool
        Keras's operations in any case.
    """

    def __init__(self, width: int, plain: bool = False, **options):
        super().__init__(width, 3, **options)
        self.compiled = not plain and keras.backend.backend() == "tensorflow" and not on_gpu()

    def compute_output_shape(self, input_shape):
        """(N, X, Y, Z, C) to (N, (X - 2) // 3, (Y - 2) // 3, (Z - 2) // 3, width)."""
        return (input_shape[0], *((length - 2) // 3 for length in input_shape[1:4]), self.filters)

    def call(self, volumes):
        """Convolve and pool."""
        if not self.compiled:
            return keras.ops.max_pool(super().call(volumes), 3, 3)
        values = _convolve_and_pool(volumes, self.kernel.value, self.bias.value)
        values.set_shape(self.compute_output_shape(volumes.shape))
        return values


def _convolve_and_pool(volumes, kernel, bias):
    """`ConvolutionPool` by `msxai.model.kernels`, in a TensorFlow graph or eagerly; one volume at a time, with TensorFlow's threads."""
    import tensorflow as tf

    count = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()

    def each(function, *batches):
        with kernels.threads(count):
            return [
                function(*(np.ascontiguousarray(one) for one in volume))
                for volume in zip(*batches, strict=True)
            ]

    def first(volumes, kernel, bias):
        found = each(
            lambda volume: kernels.first_winners(volume, kernels.taps(kernel), bias), volumes
        )
        return tuple(map(np.stack, zip(*found, strict=True)))

    def pool(maps):
        return tuple(
            map(np.stack, zip(*each(lambda one: kernels.winners_of(one), maps), strict=True))
        )

    def by_volume(shares, kernel, winners, volumes):
        return np.stack(
            each(
                lambda *one: kernels.scatter(
                    one[0], kernels.taps(kernel), one[1], np.ones_like(one[2])
                ),
                shares,
                winners,
                volumes,
            )
        )

    def by_kernel(volumes, shares, winners):
        return kernels.kernel_of(
            np.sum(each(lambda *one: kernels.slopes(*one), volumes, shares, winners), axis=0)
        )

    @tf.custom_gradient
    def function(volumes, kernel, bias):
        kinds = [tf.float32, tf.int32]
        if kernel.shape[3] == 1:
            values, winners = tf.numpy_function(
                first, [volumes, kernel, bias], kinds, stateful=False
            )
        else:
            maps = tf.nn.bias_add(tf.nn.conv3d(volumes, kernel, [1] * 5, "VALID"), bias)
            values, winners = tf.numpy_function(pool, [maps], kinds, stateful=False)

        def gradient(shares):
            slope = tf.numpy_function(
                by_kernel, [volumes, shares, winners], tf.float32, stateful=False
            )
            back = tf.numpy_function(
                by_volume, [shares, kernel, winners, volumes], tf.float32, stateful=False
            )
            return (
                tf.ensure_shape(back, volumes.shape),
                tf.ensure_shape(slope, kernel.shape),
                tf.reduce_sum(shares, [0, 1, 2, 3]),
            )

        return values, gradient

    return function(volumes, tf.identity(kernel), tf.identity(bias))


def build(
    width: int = 64,
    shape=SHAPE,
    dropout: float = 0.3,
    weight_decay: float = 0.01,
    fast: bool = False,
) -> keras.Model:
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
        Pool before the ELU, convolution and pooling as one layer (`ConvolutionPool`). ELU is monotone, so max pooling commutes with
        it: values and gradients are the same, at 1/27 of the ELUs and of the backward pass.

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
        number, l2 = (
            name[-1],
            keras.regularizers.L2(weight_decay) if name in ("conv3", "conv4") else None,
        )
        pool, elu = (
            layers.MaxPooling3D(3, name=f"pool{number}"),
            layers.Activation("elu", name=f"elu{number}"),
        )
        if fast and name != "conv3":
            stage = [ConvolutionPool(width, kernel_regularizer=l2, name=name), elu]
        else:
            convolution = layers.Conv3D(width, 3, kernel_regularizer=l2, name=name)
            stage = [convolution, elu] if name == "conv3" else [convolution, elu, pool]
        if name != "conv3":
            stage.append(layers.Dropout(dropout, name=f"dropout{number}"))
        for layer in stage:
            model.add(layer)
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(1, name="dense"))
    return model


def features(model: keras.Model) -> tuple[keras.Model, callable]:
    """A network up to its last layer, and that layer: from (N, features) to logits (N,), float32.

    Width 16: 32 features; width 64: 128, as in the paper's network.
    """
    dense = model.get_layer("dense")
    return keras.Model(
        model.inputs[0], model.get_layer("flatten").output
    ), lambda values: keras.ops.convert_to_numpy(dense(values))[:, 0]


def probability(logits) -> np.ndarray:
    """Sigmoid of the logits, float64, any shape."""
    return expit(np.asarray(logits, float))


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """All weights as ``{"conv1/kernel": array, ...}``; layers without weights do not appear."""
    return {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
    }


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

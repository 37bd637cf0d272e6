"""The 3D convolutional network of Eitel et al. 2019, its weights on disk, and reproducible runs."""

import contextlib
import ctypes
import os
from pathlib import Path

import keras
import numpy as np
from scipy.special import expit

from msxai.base import given_paths, keras_settings
from msxai.base.errors import ParameterError, in_place_of_file
from msxai.base.parameters import one_of
from msxai.base.provenance import replacing
from msxai.data.images import SHAPE
from msxai.model import kernels

__all__ = [
    "CONVOLUTIONS",
    "HEADS",
    "ConvolutionPool",
    "build",
    "compiles_steps",
    "configure",
    "features",
    "first_kernels",
    "head_of",
    "load_convolutions",
    "load_weights",
    "logits",
    "on_gpu",
    "probability",
    "restore",
    "save_weights",
    "weights",
]

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")
"""Names of the convolutions, first to last."""

HEADS = ("paper", "everywhere")
"""What follows the convolutions: the paper's dense layer, whose weights differ from place to place,
or a head that is the same at every place."""

_WITHOUT_POOLING = {"paper": ("conv3",), "everywhere": ("conv3", "conv4")}
_LAST = CONVOLUTIONS[-1]
_NORMALISATION = "normalisation"
_OF_HEADS = (_NORMALISATION, "dense")  # layers with weights besides convolutions
_WITH_WEIGHT_DECAY = ("conv3", "conv4")
_M_MMAP_THRESHOLD = -3  # of malloc.h
_M_TOP_PAD = -2
_MEND = "Give the weights.npz of a training with the same width, or train from scratch."
_WEIGHTS_FILE = "a weights file (.npz)"


def configure(seed: int, threads: int) -> None:
    """Seed Keras and fix the number of threads of TensorFlow or PyTorch.

    Results depend on both: threads change the order of summation. JAX chooses its threads itself.

    Parameters
    ----------
    seed : int
        Seeds Python, numpy and the backend: initial weights, dropout.
    threads : int
        Threads inside one operation; 0 stands for all. Must be set before TensorFlow computes
        anything in this process.

    Raises
    ------
    ParameterError
        TensorFlow has already started with another number of threads.
    """
    keras.utils.set_random_seed(seed)
    _keep_freed_memory()
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads or os.cpu_count())
    if keras.backend.backend() == "tensorflow":
        _configure_tensorflow(threads)


def _configure_tensorflow(threads: int) -> None:
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


def _keep_freed_memory() -> None:
    """Keep freed memory for the next batch, which halves the time in the kernel (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL("libc.so.6")
        allocator.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        # TensorFlow itself lowers the threshold of trimming
        allocator.mallopt(_M_TOP_PAD, 1 << 28)


def compiles_steps() -> bool:
    """Return whether Keras compiles a step of training as a whole (``jit_compile``).

    JAX does: else it would run a step operation by operation. On TensorFlow, XLA cannot compile the
    kernels of the package. PyTorch's compiler needs a C++ compiler on the computer.
    """
    return keras.backend.backend() == "jax"


def on_gpu() -> bool:
    """Return whether Keras's backend sees a GPU.

    With torch, which tells Keras nothing of its devices, whether torch sees a GPU.
    """
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    devices = keras.distribution.list_devices()
    return any("gpu" in device.lower() for device in devices)


class ConvolutionPool(keras.layers.Conv3D):
    """Valid convolution of 3x3x3 voxels and max pooling of 3x3x3 as one layer.

    The same function and gradient as the two. On TensorFlow without a GPU the compiled
    `msxai.model.kernels` compute it: the first convolution keeps no map of all positions and
    passes over cells that see nothing but 0, and the backward pass touches the winners only.
    Elsewhere it is Keras's convolution and pooling.

    Parameters
    ----------
    width : int
        Filters.
    plain : bool
        Keras's operations in any case.
    """

    def __init__(self, width: int, plain: bool = False, **options):
        super().__init__(width, kernels.EDGE, **options)
        on_tensorflow = keras.backend.backend() == "tensorflow"
        self.compiled = not plain and on_tensorflow and not on_gpu()

    def compute_output_shape(self, input_shape):
        """(N, X, Y, Z, C) to (N, (X - 2) // 3, (Y - 2) // 3, (Z - 2) // 3, width)."""
        cells = [(length - 2) // 3 for length in input_shape[1:4]]
        return (input_shape[0], *cells, self.filters)

    def call(self, volumes):
        """Convolve and pool."""
        if not self.compiled:
            return keras.ops.max_pool(super().call(volumes), 3, 3)
        values = _convolve_and_pool(volumes, self.kernel.value, self.bias.value)
        values.set_shape(self.compute_output_shape(volumes.shape))
        return values


def _convolve_and_pool(volumes, kernel, bias):
    """Convolve and pool by `msxai.model.kernels`, in a TensorFlow graph or eagerly."""
    import tensorflow as tf

    def forward(volumes, kernel, bias):
        kinds = [tf.float32, tf.int32]
        if kernel.shape[3] == 1:
            arrays = [volumes, kernel, bias]
            return tf.numpy_function(_first_values, arrays, kinds, stateful=False)
        maps = tf.nn.conv3d(volumes, kernel, [1] * 5, "VALID")
        maps = tf.nn.bias_add(maps, bias)
        return tf.numpy_function(_pooled_values, [maps], kinds, stateful=False)

    @tf.custom_gradient
    def function(volumes, kernel, bias):
        values, winners = forward(volumes, kernel, bias)

        def gradient(shares):
            arrays = [volumes, shares, winners]
            by_kernel = tf.numpy_function(_kernel_gradient, arrays, tf.float32, stateful=False)
            arrays = [volumes, shares, winners, kernel]
            by_volume = tf.numpy_function(_volume_gradient, arrays, tf.float32, stateful=False)
            by_bias = tf.reduce_sum(shares, [0, 1, 2, 3])
            return (
                tf.ensure_shape(by_volume, volumes.shape),
                tf.ensure_shape(by_kernel, kernel.shape),
                by_bias,
            )

        return values, gradient

    return function(volumes, tf.identity(kernel), tf.identity(bias))


# What TensorFlow calls on a batch of numpy arrays: the kernels, one volume at a time.


def _first_values(volumes, kernel, bias):
    """Values and winners of the first convolution."""
    taps = kernels.taps(kernel)
    with _threads_of_tensorflow():
        pooled = [
            kernels.first_winners(np.ascontiguousarray(volume), taps, bias) for volume in volumes
        ]
    values, winners = zip(*pooled, strict=True)
    return np.stack(values), np.stack(winners)


def _pooled_values(maps):
    """Values and winners of a pooling."""
    with _threads_of_tensorflow():
        pooled = [kernels.winners_of(np.ascontiguousarray(volume)) for volume in maps]
    values, winners = zip(*pooled, strict=True)
    return np.stack(values), np.stack(winners)


def _kernel_gradient(volumes, shares, winners):
    """Gradient by the kernel, summed over the batch."""
    with _threads_of_tensorflow():
        gradients = [
            kernels.slopes(*map(np.ascontiguousarray, arrays))
            for arrays in zip(volumes, shares, winners, strict=True)
        ]
    return kernels.kernel_of(np.sum(gradients, axis=0))


def _volume_gradient(volumes, shares, winners, kernel):
    """Gradient by the volumes."""
    taps = kernels.taps(kernel)
    ones = np.ones(volumes.shape[1:], volumes.dtype)
    gradients = []
    with _threads_of_tensorflow():
        for share, winner in zip(shares, winners, strict=True):
            share = np.ascontiguousarray(share)
            winner = np.ascontiguousarray(winner)
            gradients.append(kernels.scatter(share, taps, winner, ones))
    return np.stack(gradients)


def _threads_of_tensorflow():
    """Run the kernels with as many threads as TensorFlow."""
    import tensorflow as tf

    count = tf.config.threading.get_intra_op_parallelism_threads()
    return kernels.threads(count or os.cpu_count())


def build(
    width: int = 64,
    shape=SHAPE,
    dropout: float = 0.3,
    weight_decay: float = 0.01,
    fast: bool = False,
    head: str = "paper",
) -> keras.Model:
    """Build the network; its output is the logit.

    The sigmoid is left to the loss and to `probability`.

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
        Pool before the ELU, convolution and pooling as one layer (`ConvolutionPool`). ELU is
        monotone, so max pooling commutes with it: values and gradients are the same, at 1/27 of
        the ELUs and of the backward pass.
    head : str
        One of `HEADS`. "everywhere" is not the paper's: the fourth convolution is normalised by the
        batch and not pooled, and each filter's mean and maximum over all places decide.

    Returns
    -------
    keras.Model
        From (N, X, Y, Z, 1) to (N, 1). Width 64 at 96x114x96: 333,889 weights.

    Raises
    ------
    ParameterError
        No such head.

    References
    ----------
    Eitel et al. 2019, NeuroImage: Clinical 24:102003, doi:10.1016/j.nicl.2019.102003.

    Examples
    --------
    >>> build(width=64).count_params()
    333889
    """
    one_of("head", head, HEADS)
    keras_settings.check_formats()
    model = keras.Sequential([keras.Input((*shape, 1))], name="eitel2019")
    for name in CONVOLUTIONS:
        regularizer = None
        if name in _WITH_WEIGHT_DECAY:
            regularizer = keras.regularizers.L2(weight_decay)
        pooled = name not in _WITHOUT_POOLING[head]
        for layer in _stage(name, width, regularizer, dropout, fast, pooled):
            model.add(layer)
    if head == "everywhere":
        return _with_same_head_everywhere(model)
    model.add(keras.layers.Flatten(name="flatten"))
    model.add(keras.layers.Dense(1, name="dense"))
    return model


def _with_same_head_everywhere(trunk: keras.Model) -> keras.Model:
    """Put the head that is the same at every place on the four convolutions."""
    layers = keras.layers
    values = trunk.inputs[0]
    for layer in trunk.layers:
        values = layer(values)
        if layer.name == _LAST:
            values = layers.BatchNormalization(name=_NORMALISATION)(values)
    mean = layers.GlobalAveragePooling3D(name="mean")(values)
    maximum = layers.GlobalMaxPooling3D(name="maximum")(values)
    pooled = layers.Concatenate(name="mean-and-maximum")([mean, maximum])
    logit = layers.Dense(1, name="dense")(pooled)
    return keras.Model(trunk.inputs[0], logit, name="everywhere")


def _stage(name: str, width: int, regularizer, dropout: float, fast: bool, pooled: bool) -> list:
    """Return the layers from one convolution to the next.

    Each layer draws a seed as it is made: the convolution is made before the dropout, so that the
    same seed gives the same initial weights as in earlier versions.
    """
    layers = keras.layers
    number = name[-1]
    elu = layers.Activation("elu", name=f"elu{number}")
    if not pooled:
        convolution = layers.Conv3D(width, 3, kernel_regularizer=regularizer, name=name)
        return [convolution, elu]
    if fast:
        convolution = ConvolutionPool(width, kernel_regularizer=regularizer, name=name)
        stage = [convolution, elu]
    else:
        convolution = layers.Conv3D(width, 3, kernel_regularizer=regularizer, name=name)
        pool = layers.MaxPooling3D(3, name=f"pool{number}")
        stage = [convolution, elu, pool]
    stage.append(layers.Dropout(dropout, name=f"dropout{number}"))
    return stage


def features(model: keras.Model) -> tuple[keras.Model, callable]:
    """Split a network before its last layer.

    Returns
    -------
    trunk : keras.Model
        From volumes to features: 32 a scan at width 16, 128 at width 64.
    head : callable
        From features (N, features) to logits (N,), float32.
    """
    dense = model.get_layer("dense")
    trunk = keras.Model(model.inputs[0], dense.input)

    def head(values):
        return keras.ops.convert_to_numpy(dense(values))[:, 0]

    return trunk, head


def logits(model: keras.Model, volumes) -> np.ndarray:
    """Compute the logits of volumes that are in memory, on any backend.

    Parameters
    ----------
    model : keras.Model
        With one output.
    volumes : ndarray of shape (N, X, Y, Z, 1)

    Returns
    -------
    ndarray of shape (N,), float32
    """
    return keras.ops.convert_to_numpy(model(volumes, training=False))[:, 0]


def probability(logits) -> np.ndarray:
    """Sigmoid of the logits, float64, any shape.

    Examples
    --------
    >>> float(probability(0.0))
    0.5
    """
    return expit(np.asarray(logits, float))


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """Return all weights as ``{"conv1/kernel": array, ...}``.

    Layers without weights do not appear.
    """
    arrays = {}
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            arrays[name] = keras.ops.convert_to_numpy(variable)
    return arrays


def save_weights(model: keras.Model, path) -> None:
    """Write the weights as .npz, readable without Keras, all or nothing."""
    with replacing(path) as draft:
        np.savez(draft, **weights(model))


def load_weights(model: keras.Model, path) -> None:
    """Set the model's weights from an .npz that `save_weights` wrote.

    Raises
    ------
    ParameterError
        The file is missing, is no such file, has other layers or shapes than the model, or holds
        values that are not floating-point or not finite.
    """
    _set_weights(model.layers, path, tolerated=())


def load_convolutions(model: keras.Model, path) -> None:
    """Set the model's convolutions from an .npz; the head keeps its weights.

    So a network can start from a training with another head.

    Raises
    ------
    ParameterError
        As `load_weights`; the layers of a head may be any.
    """
    convolutions = [model.get_layer(name) for name in CONVOLUTIONS]
    _set_weights(convolutions, path, tolerated=_OF_HEADS)


def _set_weights(layers, path, tolerated) -> None:
    """Set the weights of some layers from a file of these and tolerated layers."""
    stored = _stored(path)
    expected_shapes = {}
    for layer in layers:
        for variable in layer.weights:
            expected_shapes[f"{layer.name}/{variable.name}"] = tuple(variable.shape)
    for name, shape in expected_shapes.items():
        _check_shape(stored, name, shape, path)
    for name in stored:
        if name not in expected_shapes and name.split("/")[0] not in tolerated:
            raise ParameterError(
                f"{path}, {name}", "an entry of another network", "this network's alone", _MEND
            )
    for layer in layers:
        names = [f"{layer.name}/{variable.name}" for variable in layer.weights]
        layer.set_weights([stored[name] for name in names])


def _stored(path) -> dict[str, np.ndarray]:
    """Read the arrays of a weights file; refuse what no training can have written."""
    given_paths.check(path)
    if not Path(path).is_file():
        raise ParameterError(path, in_place_of_file(path), _WEIGHTS_FILE, _MEND)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file)
    except Exception as error:  # zipfile and numpy fail in many ways on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        actual = f"no weights that can be read ({reason})"
        raise ParameterError(path, actual, _WEIGHTS_FILE, _MEND) from error
    for name, values in stored.items():
        _check_values(f"{path}, {name}", values)
    return stored


def _check_values(where: str, values) -> None:
    """Refuse an entry of a weights file that is no array of finite floating-point numbers."""
    if not isinstance(values, np.ndarray):  # what numpy has not written
        raise ParameterError(where, "no array", "an array of weights", _MEND)
    if values.dtype.kind != "f":
        actual = f"values of type {values.dtype}"
        raise ParameterError(where, actual, "floating-point numbers", _MEND)
    with np.errstate(over="ignore"):  # too large for the network's precision is infinite there
        is_finite = np.isfinite(values.astype("float32"))
    if not is_finite.all():
        count = values.size - np.count_nonzero(is_finite)
        actual = f"{count} of {values.size} weights that are NaN or infinite"
        raise ParameterError(where, actual, "finite weights", _MEND)


def head_of(path) -> str:
    """Return which of `HEADS` the network of a weights file has.

    Raises
    ------
    ParameterError
        The file is missing, or is no weights file.
    """
    return _head_in(_stored(path))


def _head_in(stored: dict) -> str:
    """Return which of `HEADS` has such weights."""
    return "everywhere" if f"{_NORMALISATION}/gamma" in stored else "paper"


def first_kernels(path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernels of the first convolution after training and before it.

    Parameters
    ----------
    path : path
        Weights file (.npz).
    seed : int
        As the training was seeded by `configure`.

    Returns
    -------
    trained, initial : ndarray of shape (3, 3, 3, 1, width)
    """
    trained = weights(restore(path))["conv1/kernel"]
    width = trained.shape[-1]
    keras.utils.set_random_seed(seed)
    initial = weights(build(width))["conv1/kernel"]
    return trained, initial


def restore(path, *, fast: bool = False) -> keras.Model:
    """Build the network that a weights file belongs to, of whatever width and head, and load it.

    Parameters
    ----------
    path : path
        Weights file (.npz).
    fast : bool
        As in `build`: for predictions. LRP reads the plain layers.

    Raises
    ------
    ParameterError
        See `load_weights`.
    """
    stored = _stored(path)
    model = build(_width_of(stored, path), fast=fast, head=_head_in(stored))
    load_weights(model, path)
    return model


def _width_of(stored: dict, path) -> int:
    """Return the width of the network that weights belong to.

    All convolutions are compared before the network is built: it grows with the square of the
    width, and one wrong array could ask for more memory than the computer has.
    """
    bias = stored.get("conv1/bias")
    if bias is None or bias.ndim != 1 or bias.size == 0:
        return 1  # load_weights says what is wrong with the file
    width = len(bias)
    n_channels = 1
    for name in CONVOLUTIONS:
        entry = f"{name}/kernel"
        _check_shape(stored, entry, (3, 3, 3, n_channels, width), path)
        n_channels = width
    return width


def _check_shape(stored: dict, name: str, shape: tuple, path) -> None:
    """Refuse a weights file without this entry, or with another shape of it."""
    expected = f"shape {shape}"
    if name not in stored:
        raise ParameterError(f"{path}, {name}", "no such entry", expected, _MEND)
    actual = stored[name].shape
    if actual != shape:
        raise ParameterError(f"{path}, {name}", f"shape {actual}", expected, _MEND)

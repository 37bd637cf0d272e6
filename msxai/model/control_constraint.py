"""A constraint on controls in training: no voxel of a control may argue for the disease.

The positive relevance of controls is added to the loss. Lesions are what patients have and controls
have not, so relevance that controls may not have is pushed towards lesions, by labels alone
(Wargnier-Dauchelle et al. 2023, IEEE Transactions on Medical Imaging 42:3336-3347,
doi:10.1109/TMI.2023.3282789, with the gradient of the scan's voxels).

Relevance here is input x gradient at the output of the first pooling: one value for each filter and
each cell of 3x3x3 voxels. Its gradient by the weights needs second derivatives. So the gradient is
written out as operations of Keras, and each backend differentiates it once more.
"""

import keras
from keras import ops

from msxai.base.errors import ParameterError

__all__ = ["Constrained", "constrained", "positive_relevance"]

_POOL = 3


class Constrained(keras.Sequential):
    """The network with the positive relevance of controls in its loss.

    Attributes
    ----------
    control_penalty : float
        Weight of the mean positive relevance (logits) of a batch's controls.
    """

    control_penalty = 0.0

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch; in validation without the penalty."""
        loss = super().compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
        if not training:
            return loss
        is_control = 1.0 - ops.cast(ops.reshape(y, (-1,)), "float32")
        relevance = positive_relevance(self, x)
        return loss + self.control_penalty * ops.mean(is_control * relevance)


def constrained(model: keras.Model, control_penalty: float) -> Constrained:
    """Return a network that shares the layers of another one, with the penalty in its loss.

    Parameters
    ----------
    model : keras.Model
        From `msxai.model.network.build` with ``fast=True``.
    control_penalty : float
        See `Constrained`.

    Raises
    ------
    ParameterError
        The network has another head than the paper's.
    """
    if not isinstance(model, keras.Sequential):
        raise ParameterError(
            "parameter control_penalty",
            f"{control_penalty} with a head that is the same everywhere",
            "0, or the paper's head, for which the constraint is written",
            "Set control_penalty: 0 or head: paper.",
        )
    network = Constrained([keras.Input(model.input_shape[1:]), *model.layers])
    network.control_penalty = control_penalty
    return network


def positive_relevance(model: keras.Model, volumes):
    """Return the sum of positive input x gradient at the first pooling, without dropout.

    Parameters
    ----------
    model : keras.Model
        From `msxai.model.network.build` with ``fast=True``.
    volumes : tensor of shape (N, X, Y, Z, 1)

    Returns
    -------
    tensor of shape (N,)
        In logits.
    """
    layer = model.get_layer
    first = ops.elu(layer("conv1")(volumes))

    second = _convolved(first, layer("conv2"))
    second_pooled = ops.max_pool(second, _POOL, _POOL)
    third = _convolved(ops.elu(second_pooled), layer("conv3"))
    fourth = _convolved(ops.elu(third), layer("conv4"))
    fourth_pooled = ops.max_pool(fourth, _POOL, _POOL)

    # From the logit back to the first pooling
    gradient = ops.reshape(layer("dense").kernel, (1, *fourth_pooled.shape[1:]))
    gradient = gradient * _slope_of_elu(fourth_pooled)
    gradient = _unpooled(gradient, fourth, fourth_pooled)
    gradient = _transposed(gradient, layer("conv4")) * _slope_of_elu(third)
    gradient = _transposed(gradient, layer("conv3")) * _slope_of_elu(second_pooled)
    gradient = _unpooled(gradient, second, second_pooled)
    gradient = _transposed(gradient, layer("conv2"))
    return ops.sum(ops.relu(first * gradient), axis=(1, 2, 3, 4))


def _convolved(values, layer):
    """Convolve by the weights of a layer, without pooling."""
    return ops.conv(values, layer.kernel, padding="valid") + layer.bias


def _transposed(gradient, layer):
    """Gradient by a convolution's input from that by its output."""
    return ops.conv_transpose(gradient, layer.kernel, padding="valid")


def _slope_of_elu(values):
    return ops.where(values > 0, 1.0, ops.exp(ops.minimum(values, 0.0)))


def _unpooled(gradient, values, pooled):
    """Give each cell's gradient to its highest voxel; voxels beyond the last cell get 0."""
    winners = _enlarged(pooled)
    shares = _enlarged(gradient)
    margins = [(0, 0)]
    for length, covered in zip(values.shape[1:4], winners.shape[1:4], strict=True):
        margins.append((0, length - covered))
    margins.append((0, 0))
    lengths = winners.shape[1:4]
    inside = values[:, : lengths[0], : lengths[1], : lengths[2]]
    is_winner = ops.cast(ops.equal(inside, winners), "float32")
    return ops.pad(shares * is_winner, margins)


def _enlarged(cells):
    """Repeat each cell's value for its voxels."""
    for axis in (1, 2, 3):
        cells = ops.repeat(cells, _POOL, axis=axis)
    return cells

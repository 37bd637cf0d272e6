"""The paper's network with random weights."""

import numpy as np

from msxai.model import network

SMALL = (71, 71, 71)
"""The smallest volume of which four valid convolutions and three poolings leave a cell."""


def with_weights(width=2, shape=SMALL, seed=0, **options):
    model = network.build(width, shape, **options)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([rng.normal(0, 0.2, value.shape) for value in layer.get_weights()])
    return model

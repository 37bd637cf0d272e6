"""msxai.lrp against iNNvestigate 2.1.2 (another program, in its own process) on the paper's network at full size."""

import numpy as np
import pytest
from test_network import with_weights

from msxai import lrp
from msxai.images import SHAPE

# iNNvestigate's alpha-beta is wrong where a layer has a bias (its issue 273): only its variants that ignore biases are compared.
TWINS = {
    "epsilon": "epsilon", "z": "z", "flat": "flat", "w_square": "w_square",
    "alpha1_beta0_IB": {"rule": "alpha_beta", "alpha": 1, "beta": 0, "bias": False},
    "alpha2_beta1_IB": {"rule": "alpha_beta", "alpha": 2, "beta": 1, "bias": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def network_and_scan():
    model, rng = with_weights(4, SHAPE, seed=11), np.random.default_rng(12)
    volume = rng.normal(size=(1, *SHAPE, 1)).astype("float32")
    volume[:, :10], volume[:, :, 100:] = 0, 0  # no brain
    return model, volume


@pytest.mark.parametrize("name", TWINS)
def test_both_engines_agree_where_innvestigate_is_right(network_and_scan, name):
    model, volume = network_and_scan
    twin = TWINS[name]
    ours = lrp.explain(model, volume, {"convolution": twin, "dense": twin}).relevance
    theirs = lrp.explain(model, volume, name, engine="innvestigate").relevance
    assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)

"""The epsilon rule of both engines against a slow float64 oracle that shares no code with them."""

import numpy as np
import pytest
from support.networks import SMALL, with_weights
from support.other_engines import need_innvestigate
from support.ties import near_ties

from msxai import lrp
from msxai.base.errors import EngineError, ParameterError
from msxai.model import network


def windows(values, size):
    """All size^3 windows of an (X, Y, Z, C) array: (x, y, z, C, size, size, size)."""
    return np.lib.stride_tricks.sliding_window_view(values, (size, size, size), (0, 1, 2))


def convolve(values, kernel, bias):
    """Valid convolution, (X, Y, Z, C) with (3, 3, 3, C, K): (X-2, Y-2, Z-2, K)."""
    return np.einsum("xyzcijk,ijkcf->xyzf", windows(values, 3), kernel, optimize=True) + bias


def convolve_back(relevance, inputs, outputs, kernel, epsilon):
    """Epsilon rule through a convolution, one kernel offset at a time."""
    share = relevance / (outputs + epsilon * np.where(outputs >= 0, 1, -1))
    back = np.zeros_like(inputs)
    x, y, z = share.shape[:3]
    for i, j, k in np.ndindex(3, 3, 3):
        back[i : i + x, j : j + y, k : k + z] += share @ kernel[i, j, k].T
    return inputs * back


def pool(values):
    blocks = windows(values, 3)[::3, ::3, ::3]
    return blocks.max(axis=(4, 5, 6))


def pool_back(relevance, inputs):
    back = np.zeros_like(inputs)
    blocks = windows(inputs, 3)[::3, ::3, ::3]
    for index in np.ndindex(relevance.shape):
        i, j, k = np.unravel_index(np.argmax(blocks[index]), (3, 3, 3))
        x, y, z, c = index
        back[3 * x + i, 3 * y + j, 3 * z + k, c] += relevance[index]
    return back


def oracle(weights, volume, epsilon):
    """Logit and relevance (X, Y, Z, 1) of the paper's network, float64, ELU before pooling."""
    weights = {name: value.astype(float) for name, value in weights.items()}
    values, steps = volume.astype(float), []
    for name in ("conv1", "conv2", "conv3", "conv4"):
        kernel = weights[f"{name}/kernel"]
        outputs = convolve(values, kernel, weights[f"{name}/bias"])
        steps.append((kernel, values, outputs))
        values = np.where(outputs > 0, outputs, np.expm1(np.minimum(outputs, 0)))
        if name != "conv3":
            steps.append((None, values, None))
            values = pool(values)
    dense, bias = weights["dense/kernel"][:, 0], weights["dense/bias"][0]
    logit = values.ravel() @ dense + bias
    relevance = (values.ravel() * dense / (logit + epsilon * np.sign(logit)) * logit).reshape(
        values.shape
    )
    for kernel, inputs, outputs in reversed(steps):
        relevance = (
            pool_back(relevance, inputs)
            if kernel is None
            else convolve_back(relevance, inputs, outputs, kernel, epsilon)
        )
    return logit, relevance


INNVESTIGATE_AGAIN = pytest.mark.long(
    reason="iNNvestigate processes of 12 s; test_innvestigate has one"
)


@pytest.mark.parametrize(
    ("epsilon", "engine", "tolerance"),
    [
        (1e-3, "msxai", 1e-4),
        (0.1, "msxai", 1e-4),
        pytest.param(1e-3, "innvestigate", 1e-3, marks=INNVESTIGATE_AGAIN),
        pytest.param(0.1, "innvestigate", 1e-3, marks=INNVESTIGATE_AGAIN),
    ],
)
def test_epsilon_equals_the_oracle(epsilon, engine, tolerance):
    if engine == "innvestigate":
        need_innvestigate()
    model = with_weights(2, SMALL, seed=3)
    volumes = np.random.default_rng(5).normal(size=(2, *SMALL, 1)).astype("float32")
    assert near_ties(model, volumes) == 0
    explanation = lrp.explain(
        model, volumes, "epsilon", epsilon=epsilon, computation=lrp.Computation(engine=engine)
    )
    assert explanation.relevance.dtype == np.float32
    for index, volume in enumerate(volumes):
        logit, relevance = oracle(network.weights(model), volume, epsilon)
        assert explanation.logits[index] == pytest.approx(logit, rel=1e-4)
        error = np.linalg.norm(explanation.relevance[index] - relevance) / np.linalg.norm(relevance)
        assert error < tolerance  # float32 against float64
        assert explanation.conserved[index] == pytest.approx(relevance.sum() / logit, rel=1e-3)


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(ParameterError, match="Did you mean epsilon"):
        lrp.explain(None, [], "epsilom")


def test_a_failed_engine_says_what_it_printed(monkeypatch):
    """Its process finds no job, and ends before it imports TensorFlow."""
    need_innvestigate()
    monkeypatch.setattr("msxai.lrp.innvestigate._lay_out", lambda *given: None)
    model = with_weights(1, SMALL)
    with pytest.raises(EngineError, match=r"FileNotFoundError.*job\.json"):
        lrp.explain(
            model,
            np.zeros((1, *SMALL, 1), "float32"),
            "epsilon",
            computation=lrp.Computation(engine="innvestigate"),
        )


@pytest.mark.parametrize("compiled", [True, False])
def test_in_float64_the_engine_is_exact_and_its_audit_adds_up(compiled):
    model = with_weights(2, SMALL, seed=3)
    volumes = np.random.default_rng(4).normal(size=(2, *SMALL, 1))
    explanation = lrp.explain(
        model,
        volumes,
        "epsilon",
        computation=lrp.Computation(dtype="float64", compiled=compiled, batch_size=2),
    )
    for index, volume in enumerate(volumes):
        _, relevance = oracle(network.weights(model), volume, 1e-3)
        assert np.linalg.norm(explanation.relevance[index] - relevance) < 1e-9 * np.linalg.norm(
            relevance
        )
    audit = explanation.audit
    assert list(audit["layer"].unique()) == [
        "dense",
        "pool4",
        "conv4",
        "conv3",
        "pool2",
        "conv2",
        "pool1",
        "conv1",
    ]
    np.testing.assert_allclose(
        audit["arriving"], audit["passed"] + audit["bias"] + audit["stabiliser"], atol=1e-12
    )
    for volume, rows in audit.groupby("volume"):
        np.testing.assert_allclose(rows["arriving"].iloc[0], explanation.logits[volume])
        np.testing.assert_allclose(rows["arriving"].iloc[1:], rows["passed"].iloc[:-1])
        np.testing.assert_allclose(rows["passed"].iloc[-1], explanation.relevance[volume].sum())

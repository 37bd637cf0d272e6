"""msxai.lrp against the slow oracle for every rule and layer; properties; what it refuses."""

import functools

import keras
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops
from support import lrp_oracle
from support.layers import EPSILON, chain, conv, distance, filled, weights_of, with_pools
from support.networks import SMALL, with_weights

from msxai import lrp
from msxai.base.errors import EngineError, ParameterError
from msxai.data.images import SHAPE
from msxai.lrp import rules
from msxai.model import network

FLOAT64 = lrp.Computation(dtype="float64")
ORACLE = {
    "epsilon": ("epsilon", {"stabiliser": 1e-2}),
    "z": ("z", {}),
    "alpha1_beta0": ("alpha_beta", {"alpha": 1, "beta": 0}),
    "z_plus": ("alpha_beta", {"alpha": 1, "beta": 0}),
    "alpha2_beta1": ("alpha_beta", {"alpha": 2, "beta": 1}),
    "gamma": ("gamma", {"gamma": 0.25}),
    "flat": ("flat", {}),
    "w_square": ("w_square", {}),
    "bounded": ("bounded", {}),
}


@pytest.mark.parametrize("name", ORACLE)
def test_every_rule_through_every_layer_equals_the_oracle(name):
    model, nodes = chain((ORACLE[name],) * 2)
    volume = np.random.default_rng(1).normal(size=(11, 9, 10, 2))
    for target in (0, 1):
        expected, logit = lrp_oracle.explain(nodes, volume, target)
        explanation = lrp.explain(
            model, volume[None], name, epsilon=1e-2, target=target, computation=FLOAT64
        )
        assert explanation.logits[0] == pytest.approx(logit, rel=1e-9)
        assert distance(explanation.relevance[0], expected) < 1e-6
        explanation = lrp.explain(model, volume[None], name, epsilon=1e-2, target=target)
        assert explanation.relevance.dtype == np.float32
        assert distance(explanation.relevance[0], expected) < 1e-4


PLUS, TWO = ORACLE["z_plus"], ORACLE["alpha2_beta1"]
COMPOSITES = {
    "epsilon_plus": (PLUS, PLUS, EPSILON),
    "epsilon_plus_flat": (ORACLE["flat"], PLUS, EPSILON),
    "epsilon_alpha2_beta1": (TWO, TWO, EPSILON),
    "epsilon_alpha2_beta1_flat": (ORACLE["flat"], TWO, EPSILON),
    "epsilon_gamma_box": (ORACLE["bounded"], ORACLE["gamma"], EPSILON),
    **{name: (rule,) * 3 for name, rule in ORACLE.items()},
}


@functools.cache
def composite(name):
    """A network, a volume, and what the oracle says of them; the oracle takes most of the time."""
    model, nodes = with_pools(COMPOSITES[name])
    volume = np.random.default_rng(2).normal(size=(26, 17, 17, 1))
    volume[:6], volume[:, 13:] = 0, 0  # no brain: ties
    return model, volume, *lrp_oracle.explain(nodes, volume)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_equal_the_oracle_with_and_without_kernels(name, compiled):
    model, volume, expected, logit = composite(name)
    epsilon = 1e-2 if name == "epsilon" else 1e-3
    for dtype, tolerance in (("float64", 1e-6), ("float32", 1e-4)):
        explanation = lrp.explain(
            model,
            volume[None],
            name,
            epsilon=epsilon,
            computation=lrp.Computation(dtype=dtype, compiled=compiled),
        )
        assert explanation.logits[0] == pytest.approx(logit, rel=tolerance)
        assert distance(explanation.relevance[0], expected) < tolerance
        audit, size = explanation.audit, np.abs(explanation.relevance).sum()
        np.testing.assert_allclose(
            audit["arriving"],
            audit[["passed", "bias", "stabiliser"]].sum(axis=1),
            atol=tolerance * size,
        )
        np.testing.assert_allclose(
            audit["arriving"].iloc[1:], audit["passed"].iloc[:-1], atol=tolerance * size
        )


def test_residual_sums_and_batch_normalisation_equal_the_oracle():
    source = keras.Input((6, 6, 6, 1))
    x = layers.Conv3D(2, 3, padding="same", name="a")(source)
    x = inner = layers.Activation("elu")(layers.BatchNormalization(name="n")(x))
    x = layers.Conv3D(2, 3, padding="same", name="b")(x)
    x = layers.Add(name="sum")([x, inner])
    x = layers.BatchNormalization(name="m")(layers.MaxPooling3D(2)(layers.ReLU()(x)))
    model = filled(keras.Model(source, layers.Dense(1, name="d")(layers.Flatten()(x))))

    def scale(name):
        gamma, beta, mean, variance = weights_of(model, name)
        factor = gamma / np.sqrt(variance + 1e-3)
        return factor, beta - mean * factor

    (kernel, bias), (factor, offset) = weights_of(model, "a"), scale("n")
    weights, last = weights_of(model, "d")
    after, shift = (np.tile(value, 27) for value in scale("m"))
    nodes = [
        ("conv", 0, kernel * factor, bias * factor + offset, {"padding": "same"}, EPSILON),
        ("act", 1, "elu"),
        conv(model, "b", 2, EPSILON, padding="same"),
        ("add", 3, 2, 1e-9),
        ("act", 4, "relu"),
        ("max", 5, (2, 2, 2), (2, 2, 2), "valid"),
        ("flatten", 6),
        ("dense", 7, weights * after[:, None], last + shift @ weights, EPSILON),
    ]
    volume = np.random.default_rng(3).normal(size=(6, 6, 6, 1))
    expected, logit = lrp_oracle.explain(nodes, volume)
    assert float(model(volume[None].astype("float32"))[0, 0]) == pytest.approx(logit, rel=1e-4)
    explanation = lrp.explain(model, volume[None], "epsilon", computation=FLOAT64)
    assert distance(explanation.relevance[0], expected) < 1e-6
    np.testing.assert_allclose(
        explanation.audit["arriving"],
        explanation.audit[["passed", "bias", "stabiliser"]].sum(axis=1),
        atol=1e-12,
    )
    assert lrp.explain(
        model, volume[None], {"sum": "epsilon", "a": {"rule": "gamma", "gamma": 0.1}}
    ).relevance.shape == (1, 6, 6, 6, 1)


def bias_free(width=2):
    model = with_weights(width, SMALL, seed=5)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([layer.get_weights()[0], np.zeros(layer.bias.shape)])
    return model


def noise(count=1, seed=6):
    return np.random.default_rng(seed).normal(size=(count, *SMALL, 1)).astype("float32")


def pooled():
    """A network smaller than the paper's, whose poolings the kernels take too."""
    return with_pools((EPSILON,) * 3)[0]


def scans_of(model, count=1):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(6).normal(size=shape).astype("float32")


def share_of(explanation):
    """sum(R) / f(x) of one scan, however small the logit."""
    return float(explanation.relevance.sum(dtype=float) / explanation.logits[0])


def test_the_share_of_a_logit_near_0_cannot_be_told():
    audit = pd.DataFrame(columns=lrp.AUDIT)
    relevance = np.full((3, 1, 1, 1, 1), -0.4)
    explanation = lrp.Explanation(
        relevance, np.array([0.05, -0.8, -0.05]), audit, "epsilon", 1e-3, "msxai"
    )
    assert explanation.conserved == pytest.approx([np.nan, 0.5, np.nan], nan_ok=True)
    lines = str(explanation).split("\n")
    assert lines[0] == (
        "logit +0.050, sum of the map -0.400, "
        "share of the logit: cannot be told, because the logit is near 0"
    )
    assert lines[1].endswith("share of the logit: 0.500")


def test_relevance_is_conserved_without_biases():
    model, volume = bias_free(), noise()
    shares = [
        share_of(lrp.explain(model, volume, "epsilon", epsilon=epsilon))
        for epsilon in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
    ]
    assert shares == sorted(shares)
    assert abs(shares[-1] - 1) <= 1e-4
    assert shares[0] < 0.95


@pytest.mark.long(reason="forty maps of the full network; the test above has a small one")
def test_relevance_kept_by_the_full_network_as_measured_before():
    """Width 16, no biases, volumes of noise: median of eight draws of Glorot's weights.

    It is compared with the curve of one such network, whose weights are not known. Single draws
    differ: the smaller the logit, the more of it the stabiliser absorbs.
    """
    measured = {
        1e-1: (0.523, 0.03),
        1e-2: (0.934, 0.005),
        1e-3: (0.993, 0.001),
        1e-4: (0.9994, 1e-4),
        1e-6: (0.99999, 1e-5),
    }
    stabilised = {}
    for epsilon in measured:
        rule = {"rule": "epsilon", "stabiliser": epsilon}
        stabilised[epsilon] = {"convolution": rule, "dense": rule}
    model, shares = network.build(16), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        for layer in model.layers:
            if layer.weights:
                shape = layer.kernel.shape
                limit = np.sqrt(6 / (np.prod(shape[:-2]) * sum(shape[-2:])))
                layer.set_weights([rng.uniform(-limit, limit, shape), np.zeros(shape[-1])])
        volume = rng.normal(size=(1, *SHAPE, 1)).astype("float32")
        explanations = lrp.explain_each(model, volume, stabilised)
        shares.append([share_of(explanations[epsilon]) for epsilon in measured])
    for share, (measured_share, tolerance) in zip(
        np.median(shares, axis=0), measured.values(), strict=True
    ):
        assert share == pytest.approx(measured_share, abs=tolerance)


def test_a_batch_equals_its_volumes_one_by_one():
    model = pooled()
    volumes = scans_of(model, 3)
    for compiled in (True, False):
        together = lrp.explain(
            model, volumes, computation=lrp.Computation(batch_size=3, compiled=compiled)
        )
        alone = [
            lrp.explain(
                model, volumes[index : index + 1], computation=lrp.Computation(compiled=compiled)
            )
            for index in range(3)
        ]
        for index, single in enumerate(alone):
            assert distance(together.relevance[index], single.relevance[0]) < 1e-5
            rows = together.audit[together.audit["volume"] == index]
            np.testing.assert_allclose(rows["passed"], single.audit["passed"], rtol=1e-3, atol=1e-5)


def test_several_rules_from_one_forward_pass_are_those_one_by_one():
    model = pooled()
    volumes = scans_of(model, 2)
    wanted = {
        "weak": "epsilon",
        "strong": {
            role: {"rule": "epsilon", "stabiliser": 0.1} for role in ("convolution", "dense")
        },
        "mixed": {"first": "flat", "convolution": {"rule": "gamma", "gamma": 0.1}},
    }
    explanations = lrp.explain_each(model, volumes, wanted)
    for name, rule in wanted.items():
        alone = lrp.explain(model, volumes, rule)
        np.testing.assert_array_equal(explanations[name].relevance, alone.relevance)
        assert explanations[name].rule == rule
    np.testing.assert_array_equal(
        explanations["strong"].relevance,
        lrp.explain(model, volumes, "epsilon", epsilon=0.1).relevance,
    )
    named = lrp.explain_each(model, volumes, ["epsilon", "z_plus"])
    assert list(named) == ["epsilon", "z_plus"]
    np.testing.assert_array_equal(named["epsilon"].relevance, explanations["weak"].relevance)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_mirrored_model_explains_the_mirrored_volume_by_the_mirrored_map(axis):
    model, volume = (
        with_pools((EPSILON,) * 3)[0],
        np.random.default_rng(7).normal(size=(1, 26, 17, 17, 1)),
    )
    mirrored = keras.models.clone_model(model)
    for layer, twin in zip(model.layers, mirrored.layers, strict=True):
        twin.set_weights(
            [
                np.flip(value, axis - 1) if value.ndim == 5 else value
                for value in layer.get_weights()
            ]
        )
    relevance = lrp.explain(mirrored, np.flip(volume, axis), computation=FLOAT64).relevance
    assert (
        distance(
            np.flip(relevance, axis), lrp.explain(model, volume, computation=FLOAT64).relevance
        )
        < 1e-9
    )


def test_the_default_is_a_rule_and_the_one_that_is_used():
    model = pooled()
    volumes = scans_of(model, 2)
    explanation = lrp.explain(model, volumes)
    assert explanation.rule == rules.DEFAULT
    np.testing.assert_array_equal(
        explanation.relevance,
        lrp.explain(
            model,
            volumes,
            {
                **rules.COMPOSITES["epsilon_gamma_box"],
                "convolution": {"rule": "gamma", "gamma": 0.5},
            },
        ).relevance,
    )
    assert rules.DEFAULT in rules.NAMES
    assert next(lrp.stream(model, volumes)).rule == rules.DEFAULT


def test_a_negated_head_negates_the_map():
    model = pooled()
    volume = scans_of(model)
    before = lrp.explain(model, volume)
    head = model.layers[-1]
    head.set_weights([-value for value in head.get_weights()])
    after = lrp.explain(model, volume)
    np.testing.assert_allclose(after.relevance, -before.relevance, rtol=1e-5, atol=1e-8)
    assert after.logits[0] == pytest.approx(-before.logits[0])


def test_ties_of_the_pooling_go_to_the_first_and_conserve():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 8, 1)),
            layers.Conv3D(1, 3, use_bias=False),
            layers.MaxPooling3D(3),
            layers.Flatten(),
            layers.Dense(1, use_bias=False),
        ]
    )
    kernel = np.zeros((3, 3, 3, 1, 1))
    kernel[0, 0, 0] = 1
    model.layers[0].set_weights([kernel])
    model.layers[-1].set_weights([np.ones((8, 1))])
    expected = np.zeros((8, 8, 8))
    expected[::3, ::3, ::3][:2, :2, :2] = 1
    for compiled in (True, False):
        explanation = lrp.explain(
            model,
            np.ones((1, 8, 8, 8, 1), "float32"),
            "z",
            computation=lrp.Computation(compiled=compiled),
        )
        np.testing.assert_allclose(explanation.relevance[0, ..., 0], expected, atol=1e-6)


def test_of_several_outputs_the_largest_is_explained_unless_one_is_named():
    model, _ = chain((EPSILON, EPSILON))
    volume = np.random.default_rng(8).normal(size=(1, 11, 9, 10, 2))
    logits = [lrp.explain(model, volume, target=target).logits[0] for target in (0, 1)]
    assert lrp.explain(model, volume).logits[0] == max(logits)
    assert lrp.explain(model, volume, target=np.array(1)).logits[0] == logits[1]
    with pytest.raises(ParameterError, match=r"target: found 1\.0"):
        lrp.explain(model, volume, target=np.array(1.0))
    with pytest.raises(ParameterError, match="target: found 2"):
        lrp.explain(model, volume, target=2)


def test_volumes_from_nifti_files(tmp_path):
    model = pooled()
    volume = scans_of(model)
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(volume[0, ..., 0], np.diag([2.0, 2, 2, 1])), path)
    np.testing.assert_array_equal(
        lrp.explain(model, [path]).relevance, lrp.explain(model, volume).relevance
    )
    with pytest.raises(ParameterError, match=r"shape \(2, 3, 4, 1\)"):
        lrp.explain(model, np.zeros((1, 2, 3, 4, 1)))


def test_streaming_gives_the_same_batch_by_batch():
    model = pooled()
    volumes = scans_of(model, 3)
    whole, parts = (
        lrp.explain(model, volumes),
        list(lrp.stream(model, volumes, computation=lrp.Computation(batch_size=2))),
    )
    assert [len(part.logits) for part in parts] == [2, 1]
    np.testing.assert_allclose(
        np.concatenate([part.relevance for part in parts]), whole.relevance, rtol=1e-5, atol=1e-8
    )
    assert list(parts[1].audit["volume"].unique()) == [2]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("epsilom", "Did you mean epsilon"),
        ({"convolutions": "z"}, "Did you mean convolution"),
        ({"dense": "zplus"}, "Did you mean z_plus"),
        ({"dense": {"rule": "gamma", "gama": 1}}, "Did you mean gamma"),
        ({"dense": {"rule": "alpha_beta", "alpha": 3}}, "alpha - beta = 1"),
        ({"conv9": "z"}, "Did you mean conv"),
    ],
)
def test_an_unknown_rule_role_layer_or_option_names_the_nearest(rule, message):
    with pytest.raises(ParameterError, match=message):
        lrp.explain(with_weights(1, SMALL), noise(), rule)


ODD = {
    "layer odd: found UnitNormalization": lambda: layers.UnitNormalization(name="odd"),
    "layer odd: found activation tanh": lambda: layers.Conv3D(2, 1, activation="tanh", name="odd"),
    "layer odd: found activation sigmoid": lambda: layers.Activation("sigmoid", name="odd"),
    "layer odd: found ConvolutionPool": lambda: network.ConvolutionPool(2, name="odd"),
}


@pytest.mark.parametrize("message", ODD)
def test_a_layer_without_a_rule_is_refused_by_name(message):
    model = keras.Sequential(
        [
            keras.Input((9, 9, 9, 2)),
            ODD[message](),
            layers.Conv3D(1, 1),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    with pytest.raises(EngineError, match=message):
        lrp.explain(model, np.zeros((1, 9, 9, 9, 2)))


def test_a_batch_normalisation_before_an_unpadded_convolution_is_folded_into_it():
    """Against the same network with scale and offset written into the convolution by hand."""
    keras.utils.set_random_seed(0)
    rest = [layers.Conv3D(3, 3, name="c"), layers.Flatten(), layers.Dense(1, name="d")]
    norm = layers.BatchNormalization(name="n")
    model = keras.Sequential([keras.Input((5, 6, 5, 2)), norm, *rest])
    rng = np.random.default_rng(4)
    norm.set_weights([rng.uniform(0.5, 2, 2) for _ in range(4)])
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    offset = beta - mean * scale
    kernel, bias = model.get_layer("c").get_weights()
    plain = keras.Sequential(
        [keras.Input((5, 6, 5, 2)), layers.Conv3D(3, 3), layers.Flatten(), layers.Dense(1)]
    )
    folded = [
        kernel * scale[:, None],
        bias + np.einsum("xyzjk,j->k", kernel, offset),
        *model.get_layer("d").get_weights(),
    ]
    plain.set_weights(folded)
    scan = rng.normal(size=(1, 5, 6, 5, 2)).astype("float32")
    explanation = lrp.explain(model, scan, "epsilon")
    own = ops.convert_to_numpy(model(scan))[:, 0]
    np.testing.assert_allclose(explanation.logits, own, rtol=1e-4)
    expected = lrp.explain(plain, scan, "epsilon").relevance
    np.testing.assert_allclose(explanation.relevance, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(value):
    scan = noise()
    scan[0, 1, 2, 3, 0] = value
    with pytest.raises(ParameterError, match="a scan with 1 voxels that are not finite"):
        lrp.explain(with_weights(1, SMALL), scan)


def test_numbers_that_are_too_large_are_refused():
    """Numbers of 400 digits are no floats, and there are 1458 different copies."""
    model = with_weights(1, SMALL)
    with pytest.raises(
        ParameterError, match="epsilon: found a number of more than 64 bits; expected"
    ):
        lrp.explain(model, noise(), epsilon=10**400)
    with pytest.raises(ParameterError, match="copies: found more than 1458; expected at most 1458"):
        lrp.explain(model, noise(), copies=1459)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}, {"threads": -1}])
def test_no_scan_at_a_time_and_negative_threads_are_refused(options):
    (name,) = options
    with pytest.raises(ParameterError, match=f"parameter {name}: found .* expected a whole number"):
        lrp.Computation(**options)


def test_every_composite_names_known_rules_and_roles():
    for name, mapping in rules.COMPOSITES.items():
        assert set(mapping) <= set(rules.ROLES), name
        for rule in mapping.values():
            assert (rule["rule"] if isinstance(rule, dict) else rule) in rules.RULES, name
            rules.make(rule, 1e-3)  # its options are known

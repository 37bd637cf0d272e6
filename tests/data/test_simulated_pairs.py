"""Simulated pairs: two scans of one brain that differ in the lesions alone."""

import numpy as np
import pytest

from msxai.base.errors import ParameterError
from msxai.data.images import SHAPE
from msxai.data.synthetic import simulated_pairs
from msxai.data.synthetic.simulated_pairs import WITH, WITHOUT, PairOptions


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs") / "pairs.h5"


@pytest.fixture(scope="module")
def pairs(path):
    return simulated_pairs.ensure(path, PairOptions(pairs=2, seed=5))


def test_a_pair_differs_in_and_round_the_lesions_alone(pairs):
    for pair in range(len(pairs)):
        with_lesions = pairs.scan(pair, WITH)
        without = pairs.scan(pair, WITHOUT)
        brain = without != 0
        assert 2e5 < np.count_nonzero(brain) < 5e5
        np.testing.assert_array_equal(with_lesions != 0, brain)
        for scan in (with_lesions, without):
            assert abs(scan[brain].mean()) < 1e-2
            assert abs(scan[brain].std() - 1) < 1e-2
        # Lesions change mean and spread, by which all voxels were divided: the median is of voxels
        # outside.
        slope, offset = np.polyfit(without[brain], with_lesions[brain], 1)
        change = np.abs(with_lesions - (slope * without + offset))[brain]
        assert np.median(change) < 0.1
        assert change.max() > 0.5


def test_a_random_contrast_makes_lesions_bright_in_some_brains_and_dark_in_others(pairs):
    signs = set()
    for index in range(12):
        if index < len(pairs):
            scans = [pairs.scan(index, which) for which in (WITHOUT, WITH)]
            change = scans[1].astype(float) - scans[0]
        else:
            scans, _ = simulated_pairs.simulate_pair(PairOptions(pairs=12, seed=5), index)
            change = scans[WITH].astype(float) - scans[WITHOUT]
        largest = np.argsort(np.abs(change), axis=None)[-50:]
        signs.add(int(np.sign(change.ravel()[largest].mean())))
        if len(signs) == 2:
            return
    raise AssertionError(f"all lesions have the sign {signs} in 12 random contrasts")


def test_lesions_are_bright_in_the_contrast_of_flair():
    scans, _ = simulated_pairs.simulate_pair(PairOptions(pairs=2, seed=1, contrast="own"), 0)
    change = scans[WITH].astype(float) - scans[WITHOUT]
    largest = np.argsort(np.abs(change), axis=None)[-50:]
    assert (change.ravel()[largest] > 0).all()


def test_the_same_options_give_the_same_scans_and_a_seed_gives_other_ones(path, pairs):
    written = path.stat().st_mtime_ns
    again = simulated_pairs.ensure(path, PairOptions(pairs=2, seed=5))
    assert path.stat().st_mtime_ns == written
    assert again.sha256 == pairs.sha256
    scans, volume = simulated_pairs.simulate_pair(PairOptions(pairs=9, seed=5), 1)
    np.testing.assert_array_equal(scans[WITH], pairs.scan(1, WITH).astype("float16"))
    assert volume == pairs.volumes[1]
    other, _ = simulated_pairs.simulate_pair(PairOptions(pairs=2, seed=6), 0)
    assert not np.array_equal(other[WITH], pairs.scan(0, WITH).astype("float16"))


def test_other_options_and_a_damaged_file_are_replaced(tmp_path, monkeypatch):
    """Scans of zeros in place of simulated ones: which are written is what counts here."""
    simulations = []

    def zeros(options, index):
        simulations.append((options.contrast, index))
        return np.zeros((2, *SHAPE), "float16"), 1.0

    monkeypatch.setattr(simulated_pairs, "simulate_pair", zeros)
    path = tmp_path / "pairs.h5"
    path.write_bytes(b"no HDF5")
    options = PairOptions(pairs=2, seed=5)
    assert simulated_pairs.ensure(path, options).options == options
    simulated_pairs.ensure(path, options)
    assert simulations == [("random", 0), ("random", 1)]
    own = PairOptions(pairs=2, seed=5, contrast="own")
    assert simulated_pairs.ensure(path, own).options == own
    assert simulations[2:] == [("own", 0), ("own", 1)]


@pytest.mark.parametrize("wrong", [{"pairs": 1}, {"pairs": 4, "contrast": "flair"}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ParameterError, match="expected"):
        PairOptions(**wrong)

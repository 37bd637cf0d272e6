"""Reference maps on a small cohort made by hand, where the right choices are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from msxai.base.errors import CohortError
from msxai.quality import localisation, reference_maps

SHAPE = (24, 24, 24)


def auprc(relevance, lesions, brain):
    return localisation.measure(relevance, lesions, brain, names=["auprc"])["auprc"]


class Cohort:
    """As much of `msxai.data.prepared.Prepared` as the baselines use.

    Noise, bright lesions always at one place, one subject without any.
    """

    name = "by hand"

    def __init__(self, count=8, lesions=True):
        rng = np.random.default_rng(0)
        self.masks = np.zeros((count, *SHAPE), bool)
        if lesions:
            for mask in self.masks[1:]:
                x, y, z = 8 + rng.integers(-1, 2, 3)
                mask[x : x + 3, y : y + 3, z : z + 3] = True
        self.inside = np.zeros(SHAPE, bool)
        self.inside[3:21, 3:21, 3:21] = True
        self.images = np.where(
            self.inside, 100 + 10 * rng.normal(size=(count, *SHAPE)) + 50 * self.masks, 0
        ).astype("float32")
        self.has_lesions = np.ones(count, bool)
        self.image, self.lesions, self.brain = (
            self.images.__getitem__,
            self.masks.__getitem__,
            lambda row: self.inside,
        )
        self.parts = {"training": np.arange(count // 2), "validation": np.arange(count // 2, count)}

    def rows(self, part):
        return self.parts[part]


def test_choices_are_made_on_validation_subjects_and_the_prior_from_training_subjects():
    cohort = Cohort()
    tuned = reference_maps.tune(cohort)
    assert 1.5 < tuned.threshold < 3.01  # the noise reaches 1.5, lesions begin at about 3
    scores = {(kind, candidate): score for (kind, candidate), score in tuned.scores.items()}
    assert scores["threshold", tuned.threshold] == max(
        score for (kind, _), score in scores.items() if kind == "threshold"
    )
    assert scores["edges", tuned.edges] == max(
        score for (kind, _), score in scores.items() if kind == "edges"
    )
    mean = cohort.masks[1:4].mean(0)
    expected = reference_maps.ndimage.gaussian_filter(mean, tuned.blur) if tuned.blur else mean
    assert np.allclose(
        tuned.prior, expected
    )  # row 0 has no lesions, rows from 4 on are not for the prior
    cohort.masks[4:] = np.roll(cohort.masks[4:], 5, axis=1)
    assert np.allclose(reference_maps.tune(cohort).prior.sum(), tuned.prior.sum(), rtol=0.1)
    assert reference_maps.tune(cohort).scores["blur", 0.0] < tuned.scores["blur", 0.0] / 2


def test_without_masks_it_says_so():
    with pytest.raises(CohortError, match="training part: found no subject with lesions"):
        reference_maps.tune(Cohort(lesions=False))


def test_brightness_keeps_the_order_and_its_mass_lies_above_the_threshold(rng):
    cohort = Cohort()
    bright, brain = reference_maps.zscore(cohort, 1), cohort.brain(1)
    assert bright[brain].mean() == pytest.approx(0, abs=1e-9)
    assert bright[brain].std() == pytest.approx(1)
    relevance = reference_maps.brightness(bright, brain, 2.0)
    assert (
        np.argsort(relevance[brain], kind="stable") == np.argsort(bright[brain], kind="stable")
    ).all()
    assert auprc(relevance, cohort.lesions(1), brain) == pytest.approx(
        auprc(bright - bright.min(), cohort.lesions(1), brain)
    )
    assert relevance[bright > 2].sum() / relevance.sum() > 0.99
    assert (relevance[~brain] == 0).all()


@pytest.mark.parametrize("kind", ["sobel", "laplace"])
def test_edges_lie_where_the_intensity_changes(kind):
    brain = np.zeros(SHAPE, bool)
    brain[3:21, 3:21, 3:21] = True
    step = np.where(np.arange(SHAPE[0])[:, None, None] < 12, -1.0, 1.0) * brain
    magnitude = reference_maps.edges(step, brain, kind, 0.0)
    assert (magnitude[11:13, 5:19, 5:19] > 0).all()
    assert (magnitude[4:10] == 0).all()  # the border of the brain is none
    assert (magnitude[14:20] == 0).all()
    assert reference_maps.edges(np.where(brain, 5.0, 0), brain, kind, 1.0) == pytest.approx(
        0, abs=1e-9
    )


def test_all_maps_of_a_scan_and_no_two_alike():
    model = SimpleNamespace()
    cohort = Cohort()
    tuned = reference_maps.tune(cohort)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            reference_maps.scan_maps,
            "of_scan",
            lambda model, volume, names, **options: {name: 0 * volume for name in names},
        )
        maps = reference_maps.maps(cohort, 5, tuned, model)
        again = reference_maps.maps(cohort, 5, tuned, model)
    assert tuple(maps) == reference_maps.NAMES
    assert (maps["random"] == again["random"]).all()
    assert all(relevance.shape == SHAPE for relevance in maps.values())
    assert auprc(maps["brightness"], cohort.lesions(5), cohort.inside) > 0.9


def test_untrained_networks_differ_by_their_seed():
    first, same, other = (reference_maps.untrained(2, seed).get_weights()[0] for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).all()

"""Simulated scans that differ in one thing at a time, to judge heatmaps by: lesions, decoys and
shortcuts.

A brain with and without its lesions, lesions by contrast, number, size and place, bright spots that
are none, and planted shortcuts.

Everything here is synthetic and made from `msxai.data.synthetic.phantom.simulate`: bright decoys,
choroid plexus, caps and septum are in both groups. A shortcut is what tells the groups apart in one
cohort and has nothing to do with the disease (Geirhos et al. 2020, doi:10.1038/s42256-020-00257-z):
here a band of brighter slices, as scanners leave, or a brain's edge that the extraction moved on
one side.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.synthetic import phantom, template
from msxai.data.synthetic.phantom import Subject

AXES = ("left-right", "posterior-anterior", "inferior-superior")
SHORTCUTS = ("stripe", "edge")
CONDITIONS = {
    "as drawn": {},
    "faint": {"contrast": 0.6},
    "bright": {"contrast": 1.4},
    "few": {"number": 3},
    "small": {"size": (0, 50)},
    "large": {"size": (100, np.inf)},
    "periventricular": {"distance": (0, 3)},
    "deep": {"distance": (5, np.inf)},
}
"""What `cohort` makes of each brain: arguments of `varied`.

Sizes in mm3, distances to the ventricles in mm.
"""
VOLUME = (
    3000,
    20000,
)  # mm3 of lesions in a brain of `cohort`: smallest and largest, uniform in the logarithm


def paired(group: str = "MS", seed=0, visit=0, **options) -> tuple[Subject, Subject]:
    """One simulated FLAIR-like brain with its lesions and without, all else the same: anatomy,
    decoys, position, blur, bias, noise, gain.

    The two scans are equal bit for bit but in the lesions, their soft border and the scanner's blur
    of both (`moved`).

    Parameters
    ----------
    group : {"MS", "HC"}
    seed, visit, **about
        See `msxai.data.synthetic.phantom.simulate`.

    Returns
    -------
    tuple of msxai.data.synthetic.phantom.Subject
        With lesions, without.
    """
    with_lesions = phantom.simulate("ms", group, seed, visit, **options)
    return with_lesions, phantom.simulate("ms", group, seed, visit, **options | {"volume": 0})


def lesions_of(subject: Subject) -> tuple[np.ndarray, list[dict]]:
    """Lesions one by one.

    Returns
    -------
    tuple of ndarray of int, shape (96, 114, 96), and list of dict
        Number of each voxel's lesion, 0 outside; and of each lesion, from number 1 on: size (mm3),
        distance (the smallest to the lateral ventricles, mm).
    """
    numbers, count = ndimage.label(subject.lesions, images.NEIGHBOURHOOD_26)
    ventricle = subject.classes == 1 + list(template.CLASSES).index("ventricle")
    to_ventricle = ndimage.distance_transform_edt(~ventricle, sampling=images.VOXEL_SIZE)
    index = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(subject.lesions, numbers, index) * images.VOXEL_VOLUME
    distances = ndimage.minimum(to_ventricle, numbers, index)
    lesions = [
        {"size": float(size), "distance": float(distance)}
        for size, distance in zip(sizes, distances, strict=True)
    ]
    return numbers, lesions


def varied(
    pair,
    *,
    contrast: float = 1.0,
    number: int | None = None,
    size=(0, np.inf),
    distance=(0, np.inf),
    seed: int = 0,
) -> Subject:
    """Keep some lesions of a brain, or make them fainter or brighter; nothing else changes.

    Parameters
    ----------
    pair : tuple of msxai.data.synthetic.phantom.Subject
        From `paired`: the more volume, the more lesions to choose from.
    contrast : float
        Factor of the difference that lesions make in the scan; 1 as simulated, 0 none.
    number : int, optional
        How many of those that fit, drawn by `seed`. Default: all.
    size, distance : tuple of float
        Smallest and largest volume of a lesion (mm3) and distance to the lateral ventricles (mm).
    seed : int
        Of the choice.

    Raises
    ------
    ParameterError
        Fewer lesions fit than were asked for.
    """
    full, bare = pair
    numbers, lesion_table = lesions_of(full)
    bounds = {"size": size, "distance": distance}
    fit = [
        index
        for index, lesion in enumerate(lesion_table, 1)
        if all(low <= lesion[name] <= high for name, (low, high) in bounds.items())
    ]
    if number is not None and number > len(fit):
        mend = "Ask for fewer, widen size or distance, or simulate a larger volume."
        raise ParameterError(
            "number",
            f"{number}",
            f"at most {len(fit)}, for so many of {len(lesion_table)} lesions fit",
            mend,
        )
    chosen = np.random.default_rng(seed).permutation(fit)[:number]
    change = full.image.astype(float) - bare.image
    if lesion_table:  # what is changed round a lesion belongs to the nearest one
        nearest = ndimage.distance_transform_edt(
            numbers == 0, sampling=images.VOXEL_SIZE, return_distances=False, return_indices=True
        )
        change = np.where(np.isin(numbers[tuple(nearest)], chosen), change, 0)
    lesions = np.isin(numbers, chosen) & full.lesions
    image = np.clip(np.rint(bare.image + contrast * change), 0, 32000).astype("int16")
    covariates = full.covariates | {
        "volume": float(lesions.sum() * images.VOXEL_VOLUME),
        "lesions": len(chosen),
        "contrast": contrast,
    }
    return replace(full, image=image, lesions=lesions, covariates=covariates)


def moved(pair) -> np.ndarray:
    """Where two scans of a pair differ; ndarray of bool, shape (96, 114, 96)."""
    return pair[0].image != pair[1].image


def decoys(subject: Subject, without: Subject, level: float = 0.1) -> np.ndarray:
    """Where bright spots that are no lesions stand out in a scan.

    Parameters
    ----------
    subject, without : msxai.data.synthetic.phantom.Subject
        The scan, and the same one without decoys (`msxai.data.synthetic.phantom.simulate`); noise
        and gain are equal in both.
    level : float
        By how much they make a voxel brighter at least: share of the median of white matter. A
        lesion is brighter by .34.

    Returns
    -------
    ndarray of bool, shape (96, 114, 96)
    """
    white = 1 + list(template.CLASSES).index("white matter")
    return (
        subject.image.astype(float) - without.image
        > level * np.median(without.image[without.classes == white])
    ) & subject.brain


@dataclass(frozen=True)
class Case:
    """One scan of `cohort`.

    Attributes
    ----------
    part, brain, condition : str
        Part of the benchmark; the brain, which is the unit of all statistics; key of `CONDITIONS`,
        or "control".
    subject : msxai.data.synthetic.phantom.Subject
    decoys : ndarray of bool, shape (96, 114, 96)
        Where decoys stand out (`decoys`), lesions left out.
    """

    part: str
    brain: str
    condition: str
    subject: Subject
    decoys: np.ndarray


def cohort(seed: int, parts: dict, controls: int, conditions=None, further: int = 3):
    """Scans to judge heatmaps by: brains of patients in several conditions, and controls without
    any lesion; decoys in both.

    Parameters
    ----------
    seed : int
        Each brain, of any part, has a seed of its own below it: no two parts share one.
    parts : dict
        Name of a part to its number of patients' brains.
    controls : int
        Brains of controls in each part.
    conditions : dict, optional
        Default: `CONDITIONS`. Each brain comes in the first one; a condition that leaves it without
        a lesion is left out for that brain.
    further : int
        In how many further conditions each brain comes; these take turns from brain to brain.

    Yields
    ------
    Case
    """
    conditions = conditions or CONDITIONS
    for part_number, (part, patients) in enumerate(parts.items()):
        for number in range(patients + controls):
            group = "MS" if number < patients else "HC"
            brain = _Brain.simulated(group, (seed, part_number, number))
            name = f"{part}-{number:02}"
            if group == "HC":
                yield Case(part, name, "control", brain.pair[0], brain.decoys)
                continue
            for condition in _turns(conditions, number, further):
                subject = brain.in_condition(conditions[condition], seed + number)
                if subject is not None:
                    spots = brain.decoys & ~subject.lesions
                    yield Case(part, name, condition, subject, spots)


def _turns(conditions: dict, number: int, further: int) -> list[str]:
    """The conditions of a brain: the first one, and further ones that take turns."""
    first, *rest = conditions
    further = min(further, len(rest))
    return [first, *(rest[(number * further + turn) % len(rest)] for turn in range(further))]


@dataclass(frozen=True)
class _Brain:
    """A simulated brain with and without its lesions, and where its decoys stand out."""

    pair: tuple[Subject, Subject]
    decoys: np.ndarray

    @classmethod
    def simulated(cls, group: str, seed: tuple) -> "_Brain":
        """Draw age, site and lesion volume, and simulate."""
        generator = np.random.default_rng(seed)
        mean, spread, youngest, oldest = phantom.AGE["ms"]
        age = float(np.clip(generator.normal(mean, spread), youngest, oldest))
        site = str(generator.choice(list(phantom.SITES)))
        smallest, largest = np.log(VOLUME)
        volume = float(np.exp(generator.uniform(smallest, largest))) if group == "MS" else 0.0
        seeds = {"seed": (*seed, 0), "visit": (*seed, 1)}
        options = {"session": phantom.Session(age=age, site=site), "volume": volume}
        pair = paired(group, **seeds, **options)
        options["volume"] = 0
        plain = phantom.simulate("ms", group, **seeds, **options, decoys=False)
        return cls(pair, decoys(pair[1], plain))

    def in_condition(self, change: dict, seed: int) -> Subject | None:
        """The brain with its lesions changed; None where no lesion is left."""
        _, lesion_table = lesions_of(self.pair[0])
        if change.get("number", 0) > len(lesion_table):
            return None
        subject = varied(self.pair, **change, seed=seed)
        return subject if subject.lesions.any() else None


@dataclass(frozen=True)
class Shortcut:
    """A shortcut that one cohort has in one place.

    Attributes
    ----------
    kind : {"stripe", "edge"}
    axis : int
        0 to 2, `AXES`: across the slices of a stripe, or the side of the moved edge.
    at : float
        Stripe: middle of the band as a share of the brain's extent along the axis. Edge: below .5
        the side where the axis begins.
    width : int
        Voxels: of the band, or by which the edge moves (of 1.9 mm each).
    strength : float
        Stripe: relative change of intensity. Edge: below 0 the brain is cut, above 0 a rim of as
        bright voxels as the brain's is left on.
    """

    kind: str
    axis: int
    at: float
    width: int
    strength: float

    def plant(self, subject: Subject, seed=0) -> Subject:
        """The same scan with the shortcut; `seed` draws the rim that is left on. Lesions, tissue
        and what is elsewhere stay as they are.
        """
        image, brain = subject.image.copy(), subject.brain
        if self.kind == "stripe":
            slices = np.flatnonzero(brain.any(tuple({0, 1, 2} - {self.axis})))
            start = round(slices[0] + self.at * (slices[-1] - slices[0]) - (self.width - 1) / 2)
            band = (*[slice(None)] * self.axis, slice(max(start, 0), start + self.width))
            image[band] = np.clip(np.rint(image[band] * (1 + self.strength)), 0, 32000)
        elif self.strength < 0:
            rim = brain & ~_shifted(brain, self.axis, self.width if self.at < 0.5 else -self.width)
            image[rim], brain = 0, brain & ~rim
        else:
            rim = ~brain & _shifted(brain, self.axis, -self.width if self.at < 0.5 else self.width)
            image[rim] = self.strength * np.random.default_rng(seed).choice(
                image[brain], np.count_nonzero(rim)
            )
            brain = brain | rim
        return replace(subject, image=image, brain=brain, lesions=subject.lesions & brain)


def _shifted(mask, axis: int, step: int) -> np.ndarray:
    """A mask moved along an axis; what comes in from outside is empty."""
    steps = [0, 0, 0]
    steps[axis] = step
    return images.shifted(mask, steps)


def shortcut(kind: str, seed=0) -> Shortcut:
    """A shortcut in a place drawn by `seed`: a band of 8 slices 20 % brighter or darker, or an edge
    moved by 4 voxels, cut or left on.

    Raises
    ------
    ParameterError
        Unknown kind.
    """
    one_of("kind", kind, SHORTCUTS)
    rng = np.random.default_rng(seed)
    axis, sign = int(rng.integers(3)), float(rng.choice([-1, 1]))
    if kind == "stripe":
        return Shortcut(kind, axis, float(rng.uniform(0.25, 0.75)), 8, 0.2 * sign)
    return Shortcut(kind, axis, float(rng.integers(2)), 4, sign)


def carriers(labels, p: float = 0.75, seed=0) -> np.ndarray:
    """Which subjects have the shortcut: a share `p` of the patients and 1 - `p` of the controls, to
    the nearest subject.

    The shortcut alone then separates the groups with an AUC of .5 + (p - (1 - p)) / 2 = `p`, in
    each cohort and not only in the mean.

    Parameters
    ----------
    labels : sequence of int
        1 patients, 0 controls.
    p : float
    seed : int or sequence of int

    Returns
    -------
    ndarray of bool, shape (len(labels),)
    """
    labels, rng, carrier_rows = (
        np.asarray(labels),
        np.random.default_rng(seed),
        np.zeros(len(labels), bool),
    )
    for label, share in ((1, p), (0, 1 - p)):
        members = np.flatnonzero(labels == label)
        carrier_rows[rng.permutation(members)[: int(share * len(members) + 0.5)]] = (
            True  # halves go up in both groups: the AUC stays
        )
    return carrier_rows

"""One simulated scan: the template deformed, with contrast, lesions and a scanner's imperfections.

A person with multiple sclerosis or its control ("ms"), seen in FLAIR, or with Alzheimer's disease
or its control ("ad"), seen in T1, unless another modality or a random contrast is asked for.
benchmarks/phantom_realism.py compares the result with the measured properties of real scans.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from msxai.data.images import SHAPE, VOXEL_SIZE
from msxai.data.synthetic import contrast as contrasts
from msxai.data.synthetic import lesions, template
from msxai.data.synthetic.geometry import rotation, smooth_field

__all__ = [
    "AGE",
    "DEFAULT_SESSION",
    "MODALITY",
    "SITES",
    "VOLUME",
    "Appearance",
    "Session",
    "Subject",
    "draw_hypointensities",
    "draw_volume",
    "hypointensities_expected",
    "simulate",
    "template_coordinates",
]


class Distribution(NamedTuple):
    """A normal distribution that is cut at both ends."""

    mean: float
    spread: float
    lowest: float
    highest: float


MODALITY = {"ms": "FLAIR", "ad": "T1w"}
AGE = {  # years
    "ms": Distribution(mean=42, spread=10.5, lowest=20, highest=66),
    "ad": Distribution(mean=74, spread=6, lowest=58, highest=90),
}
# Lesion volume of a subject (mm3): mean and spread are those of its logarithm. In the paper's
# cohort volumes are 7,283 +- 8,091 in patients and 572 +- 1,941 in controls.
VOLUME = {
    "MS": Distribution(mean=8.49, spread=0.90, lowest=121, highest=47466),
    "HC": Distribution(mean=5.5, spread=1.6, lowest=15, highest=14977),
}
WITHOUT_LESIONS = {"MS": 0.0, "HC": 0.25}  # share of subjects without any lesion
# White-matter hypointensities of the AD cohort. Healthy adults have a mean of 4.7 cm3 at 66 years
# and 0.358 cm3 more a year (Melazzini et al. 2021, J Magn Reson Imaging 53:1732,
# doi:10.1002/jmri.27479). In ADNI patients have more (Lindemer et al. 2015, Neurobiol Aging
# 36:2447, doi:10.1016/j.neurobiolaging.2015.05.011; Carmichael et al. 2010, Arch Neurol 67:1370,
# doi:10.1001/archneurol.2010.284). Two numbers are assumptions, because these texts were not
# readable: the difference, d = 0.5 of the logarithm, and the spread of the logarithm.
_HYPOINTENSITIES = Distribution(mean=4700, spread=0.9, lowest=100, highest=60000)  # mm3, log, mm3
_HYPOINTENSITIES_AGE = 66  # years: where the mean holds
_HYPOINTENSITIES_A_YEAR = 358  # mm3
_HYPOINTENSITIES_MORE = {"HC": 0.0, "AD": 0.5}  # standard deviations of the logarithm
SITES = {  # factor of noise and of bias field, the same in both groups
    "site-1": (1.0, 1.0),
    "site-2": (1.25, 0.8),
    "site-3": (0.85, 1.25),
}

# mm: mean growth of a structure in patients, compared with controls
_ATROPHY = {
    "MS": {"ventricle": 0.1, "thalamus": -0.07, "cortex": -0.02},
    "AD": {"ventricle": 0.45, "hippocampus": -0.50, "cortex": -0.12},
    "HC": {},
}
# mm: standard deviation of a structure's growth between subjects
_GROWTH_SPREAD = {"ventricle": 0.65, "hippocampus": 0.45, "thalamus": 0.25, "cortex": 0.15}
# mm a year of age
_AGEING = {"ventricle": 0.025, "hippocampus": -0.008, "thalamus": -0.005, "cortex": -0.006}
_AD_VENTRICLE = 0.9  # mm: larger ventricles at the mean age of the AD cohort, in both groups
_PROGRESSION = 0.15  # of the mean atrophy, added in each year since the first visit

# Widening of sulci (units of `template.Template.sulci`) in a year of age and in patients. In AD,
# where the cortex thins, the value lets a linear SVM on voxels reach an AUC of 0.87 with 200
# subjects. On ADNI such an SVM reached 81 % sensitivity at 95 % specificity (Cuingnet et al. 2011,
# NeuroImage 56:766, doi:10.1016/j.neuroimage.2010.06.013).
_WIDENING_A_YEAR = 0.006
_WIDENING = {"MS": 0.04, "AD": 1.2, "HC": 0.0}
_WIDENING_SPREAD = 0.3
_WIDENING_AGE = 60  # years

_DIFFUSE = 0.002  # brighter normal-appearing white matter in MS
# Purposes of `_own_generator`; no subject has as many visits.
_CONTRAST, _VOLUME, _PLACES = 7001, 7002, 7003
_CSF = list(template.CLASSES).index("csf")
_WHITE = list(template.CLASSES).index("white matter")
_CORTEX = list(template.CLASSES).index("cortex")


@dataclass(frozen=True)
class Session:
    """When and where a subject is scanned.

    Parameters
    ----------
    age : float, optional
        Years; ventricles grow and cortex thins with it. Default: the cohort's mean.
    site : str
        One of `SITES`.
    years : float
        Since the first visit; patients' atrophy goes on.
    """

    age: float | None = None
    site: str = "site-1"
    years: float = 0.0


DEFAULT_SESSION = Session()


@dataclass(frozen=True)
class Appearance:
    """How a simulated brain looks; its anatomy, position and lesion mask do not depend on it.

    Parameters
    ----------
    modality : {"FLAIR", "T1w"}, optional
        Default: that of the kind, FLAIR with "ms" and T1 with "ad". Lesions are bright in FLAIR and
        dark in T1.
    contrast : {"own", "random"}
        That of the modality, or one that the visit's seed draws in its place
        (`msxai.data.synthetic.contrast.random_contrast`).
    decoys : bool
        Whether spots that are no lesions are painted, with "ms" only. Everything else in the scan
        is the same with and without them.
    """

    modality: str | None = None
    contrast: str = "own"
    decoys: bool = True


@dataclass
class Subject:
    """One simulated scan.

    Attributes
    ----------
    image : ndarray of shape (96, 114, 96), int16
        0 outside the brain; an arbitrary gain, as scanners have.
    brain, lesions : ndarray of bool, same shape
    classes : ndarray of uint8, same shape
        1 + index in `msxai.data.synthetic.template.CLASSES` of the tissue with the largest
        fraction, 0 outside the brain: the result of a perfect segmentation.
    covariates : dict
        kind, group, age (years), site, volume (mm3, the lesion volume that was asked for).
    """

    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray
    classes: np.ndarray
    covariates: dict


# The last digit of a matrix product depends on the number of threads.
@threadpool_limits.wrap(limits=1)
def simulate(
    kind: str,
    group: str,
    seed=0,
    visit=0,
    *,
    volume: float | None = None,
    session: Session = DEFAULT_SESSION,
    **appearance,
) -> Subject:
    """Simulate one scan; the same seeds give the same scan.

    Parameters
    ----------
    kind : {"ms", "ad"}
    group : {"MS", "AD", "HC"}
    seed : int, sequence of int or numpy.random.SeedSequence
        Decides the anatomy and the lesions.
    visit : int, sequence of int or numpy.random.SeedSequence
        Decides what differs between two visits: position, noise and bias field.
    volume : float, optional
        Volume (mm3) of lesions ("ms") or of white-matter hypointensities ("ad"), 0 for none.
        Default: drawn for the group, with "ad" also for the age at the first visit. A subject of
        "ad" has the same ones at each visit, and everything else in its scans is the same with any
        volume.
    session : Session
        Age, site and years since the first visit.
    **appearance
        Keywords of `Appearance`: modality, contrast, decoys.

    Returns
    -------
    Subject

    Raises
    ------
    CohortError
        Unknown modality or contrast.

    Examples
    --------
    One brain, as FLAIR shows it and as T1 does:

    >>> flair = simulate("ms", "MS", 3, 4, volume=5000)
    >>> t1 = simulate("ms", "MS", 3, 4, volume=5000, modality="T1w")
    >>> bool((flair.lesions == t1.lesions).all())
    True
    """
    look = Appearance(**appearance)
    age = AGE[kind].mean if session.age is None else session.age
    if volume is None:
        volume = _volume_drawn(kind, group, age - session.years, seed)
    atlas = template.template()
    voxels = tuple(atlas.voxels.T)
    anatomy_rng = np.random.default_rng(seed)
    visit_rng = np.random.default_rng(visit)
    sources = template_coordinates(kind, group, age, session.years, anatomy_rng, visit_rng)
    brain = _deformed(atlas.brain.astype("float32"), sources, voxels) >= 0.5

    modality = look.modality or MODALITY[kind]
    contrast = contrasts.chosen(modality, look.contrast, _own_generator(visit, _CONTRAST))
    contrast = _varied(contrast, group, anatomy_rng)
    widening = _sulcal_widening(kind, group, age, session.years, anatomy_rng)
    painted = _painted(contrast, widening, age, anatomy_rng)
    image = _deformed(painted, sources, voxels)
    nearest = _nearest_voxels(sources)
    lesion_rng = anatomy_rng
    if kind == "ms":
        ground = lesions.LesionGround(brain, nearest)
        # Decoys are drawn in either case, so that all later draws are the same without them.
        decoyed = image if look.decoys else image.copy()
        lesions.paint_decoys(decoyed, ground, contrast.lesions, anatomy_rng)
    else:
        ground = lesions.OldAgeGround(brain, nearest, sources)
        lesion_rng = _own_generator(seed, _PLACES)
    lesion_mask = lesions.paint_lesions(image, ground, volume, contrast.lesions, lesion_rng)
    classes = np.zeros(SHAPE, "uint8")
    classes[voxels] = brain[voxels] * _prevailing(widening)[nearest]
    return Subject(
        image=_scanned(image, brain, session.site, visit_rng),
        brain=brain,
        lesions=lesion_mask & brain,
        classes=classes,
        covariates={
            "kind": kind,
            "group": group,
            "age": age,
            "site": session.site,
            "volume": volume,
        },
    )


def _volume_drawn(kind: str, group: str, age: float, seed) -> float:
    """Draw the lesion volume of a subject (mm3) whose age is that of the first visit."""
    if kind == "ms":
        return draw_volume(group, np.random.default_rng(seed))
    return draw_hypointensities(group, age, _own_generator(seed, _VOLUME))


def hypointensities_expected(group: str, age: float) -> float:
    """Return the mean volume (mm3) of white-matter hypointensities in the AD cohort.

    Parameters
    ----------
    group : {"AD", "HC"}
    age : float
        Years.

    Examples
    --------
    >>> hypointensities_expected("HC", 66)
    4700.0
    """
    healthy = _HYPOINTENSITIES.mean + _HYPOINTENSITIES_A_YEAR * (age - _HYPOINTENSITIES_AGE)
    logarithm_above_healthy = _HYPOINTENSITIES_MORE[group] * _HYPOINTENSITIES.spread
    return float(healthy * np.exp(logarithm_above_healthy))


def draw_hypointensities(group: str, age: float, rng) -> float:
    """Draw the volume (mm3) of one subject's white-matter hypointensities: log-normal.

    Parameters
    ----------
    group : {"AD", "HC"}
    age : float
        Years.
    rng : numpy.random.Generator
    """
    spread = _HYPOINTENSITIES.spread
    mean = np.log(hypointensities_expected(group, age)) - spread**2 / 2
    volume = np.exp(rng.normal(mean, spread))
    return float(np.clip(volume, _HYPOINTENSITIES.lowest, _HYPOINTENSITIES.highest))


def draw_volume(group: str, rng) -> float:
    """Draw the lesion volume of one subject (mm3) of the MS cohort."""
    if rng.random() < WITHOUT_LESIONS[group]:
        return 0.0
    distribution = VOLUME[group]
    while True:
        logarithm = rng.normal(distribution.mean, distribution.spread)
        volume = float(np.exp(logarithm))
        if distribution.lowest <= volume <= distribution.highest:
            return volume


def template_coordinates(
    kind: str, group: str, age: float, years: float, anatomy_rng, visit_rng
) -> np.ndarray:
    """Draw the deformation: where in the template each voxel of the subject comes from.

    Parameters
    ----------
    kind, group : str
        See `simulate`.
    age, years : float
        See `Session`.
    anatomy_rng, visit_rng : numpy.random.Generator
        The first is the subject's, the second the visit's.

    Returns
    -------
    ndarray of shape (3, n), float32
        Voxel coordinates in the template for each of `template.Template.voxels`. Position, size,
        growth of structures and smooth deformations are composed into one field.
    """
    atlas = template.template()
    voxels = tuple(atlas.voxels.T)
    coordinates = _positioned(atlas.voxels, anatomy_rng, visit_rng)
    for structure, growth in atlas.growth.items():
        mean = _ATROPHY[group].get(structure, 0) * (1 + _PROGRESSION * years)
        amount = mean + anatomy_rng.normal(0, _GROWTH_SPREAD[structure])
        enlarged = _AD_VENTRICLE if kind == "ad" and structure == "ventricle" else 0
        amount += _AGEING[structure] * (age - AGE[kind].mean) + enlarged
        coordinates += np.float32(amount) * growth
    for axis in range(3):
        coarse = 1.1 * smooth_field((7, 8, 7), anatomy_rng)[voxels]
        fine = 0.35 * smooth_field((14, 16, 14), anatomy_rng)[voxels]
        coordinates[:, axis] += (coarse + fine) / VOXEL_SIZE[axis]
    return coordinates.T.astype("float32")


def _positioned(voxels, anatomy_rng, visit_rng) -> np.ndarray:
    """Draw the position of the head and its size: coordinates of the voxels, (n, 3)."""
    middle = (np.array(SHAPE) - 1) / 2
    degrees = anatomy_rng.normal(0, 1.5, 3) + visit_rng.normal(0, 0.7, 3)
    scale = np.exp(anatomy_rng.normal(0, 0.012, 3))
    affine = (rotation(degrees) * scale).T.astype("float32")
    millimetres = ((voxels - middle) * VOXEL_SIZE).astype("float32") @ affine
    shifted = millimetres + anatomy_rng.normal(0, 0.7, 3) + visit_rng.normal(0, 0.5, 3)
    return shifted / VOXEL_SIZE + middle


def _deformed(values, sources, voxels) -> np.ndarray:
    """Return an array of the template in the subject's space; linear, 0 elsewhere, float32."""
    deformed = np.zeros(SHAPE, "float32")
    deformed[voxels] = ndimage.map_coordinates(values, sources, order=1, prefilter=False)
    return deformed


def _nearest_voxels(sources) -> tuple:
    """Return the template's voxel nearest to each of the coordinates, as an index."""
    last = np.array(SHAPE)[:, None] - 1
    return tuple(np.clip(np.rint(sources).astype(int), 0, last))


def _own_generator(seed, purpose: int):
    """Return a generator whose draws leave all other draws from a seed as they are."""
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(seed)
    spawn_key = (*seed.spawn_key, purpose)
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=spawn_key))


def _varied(contrast: contrasts.Contrast, group: str, rng) -> contrasts.Contrast:
    """Draw how a subject's tissues differ in brightness from what the contrast says."""
    tissues = contrast.tissues * (1 + rng.normal(0, 0.012, len(contrast.tissues)))
    if group == "MS":
        tissues[_WHITE] *= 1 + rng.normal(_DIFFUSE, 0.01)
    return replace(contrast, tissues=tissues)


def _sulcal_widening(kind: str, group: str, age: float, years: float, rng):
    """Draw the fraction of each voxel that turns from cortex to cerebrospinal fluid."""
    atlas = template.template()
    affected = 1 if kind == "ms" else atlas.alzheimer
    amount = rng.normal(0.5, _WIDENING_SPREAD) + _WIDENING_A_YEAR * (age - _WIDENING_AGE)
    amount = amount + _WIDENING[group] * (1 + _PROGRESSION * years) * affected
    return np.clip(amount, -0.3, 2) * atlas.sulci


def _painted(contrast: contrasts.Contrast, widening, age: float, rng) -> np.ndarray:
    """Draw the brightness of each voxel of the template."""
    atlas = template.template()
    tissues = contrast.tissues
    painted = np.tensordot(tissues.astype("float32"), atlas.classes, 1)
    painted = painted + widening * (tissues[_CSF] - tissues[_CORTEX])
    cortical = 0.06 * smooth_field((14, 16, 14), rng) * atlas.cortex
    everywhere = 0.015 * smooth_field((16, 18, 16), rng)
    painted *= 1 + cortical + everywhere
    # The brain's edge is brighter here and there.
    edge = np.maximum(smooth_field((18, 20, 18), rng), 0)
    painted += 0.13 * edge * atlas.rim * atlas.cortex
    cap = abs(rng.normal(0, 0.12)) + 0.003 * max(age - 30, 0)
    if contrast.caps:
        # Both groups have a periventricular rim, and caps.
        nearness = np.exp(-atlas.ventricle_distance / 1.5)
        painted += contrast.caps * cap * nearness * atlas.classes[_WHITE]
    return painted


def _prevailing(widening) -> np.ndarray:
    """Return 1 + index of the class with the largest fraction, sulci widened; uint8."""
    atlas = template.template()
    csf = atlas.classes[_CSF] + widening
    cortex = atlas.classes[_CORTEX] - widening
    turned = (atlas.prevailing == 1 + _CORTEX) & (csf > cortex)
    return np.where(turned, np.uint8(1 + _CSF), atlas.prevailing)


def _scanned(image, brain, site: str, rng) -> np.ndarray:
    """Add blur, bias field, Rician noise and gain; int16, 0 outside the brain."""
    noise_factor, bias_factor = SITES[site]
    blurred = ndimage.gaussian_filter(image, 0.35 + 0.1 * rng.random())
    blurred *= np.exp(0.035 * bias_factor * smooth_field((5, 5, 5), rng))
    level = 0.03 * noise_factor
    real = blurred + level * rng.standard_normal(SHAPE, "float32")
    imaginary = level * rng.standard_normal(SHAPE, "float32")
    magnitude = np.hypot(real, imaginary)
    scaled = np.clip(magnitude * rng.uniform(350, 900), 0, 32000)
    return np.where(brain, scaled, 0).astype("int16")

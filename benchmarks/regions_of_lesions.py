"""Region of each lesion by the person's own ventricles and cortex: does it agree with a rater's?

Usage: python benchmarks/regions_of_lesions.py      (make proof-lesion-regions)

Needs ../shared/data. About 15 minutes of one core, most of it registration. Subjects are of four
kinds:

- patient: six patients of Tabriz (MS3SEG, doi:10.6084/m9.figshare.30393475; 1.5 T, slices of 5 to
  6 mm) with lesions and ventricles that raters have drawn. The raters' masks hold all ventricles. A
  voxel of them counts as lateral ventricle if it is nearer to the lateral ventricles of the
  template than to its other fluid, its brain stem and its cerebellum. Nobody has drawn the cortex.
- painted: FLAIR scans that are painted from the labels of four real brains (SynthSeg's training
  labels, Billot et al. 2023, doi:10.1016/j.media.2023.102789). Ventricles, cortex and lesions
  (FreeSurfer's labels 25 and 57) are known, but the contrast is simulated. The brains are cut out
  of the head and registered like any scan.
- painted, slices of 6 mm: the same scans, brain masks and lesion masks, averaged over slices of
  6 mm before they are registered. A voxel of a mask is that where at least half of it was. So small
  lesions vanish. Ventricles and cortex are known from the labels of 1 mm.
- simulated: two subjects of the simulator, whose ventricles are known.

The rule of LST-AI (Wiltgen et al. 2024, doi:10.1016/j.nicl.2024.103611) is a second rule for the
same question: a lesion that is widened by one voxel of its file is periventricular if it touches a
ventricle, else juxtacortical if it touches the cortex, else infratentorial if it touches the brain
stem or the cerebellum, else subcortical. It is applied here to the anatomy that is known, in the
space of the file, and compared with our regions by the anatomy that is found. In patients, only
the ventricles are known. LST-AI itself was not run: it warps an atlas to a T1, and its public
example was not at hand.

The ventricles of the template are the yardstick. These scans were also looked at while the rules of
`msxai.regions.own_anatomy` were written. Most constants for ventricles follow from the definition
(half fluid, the thickness of a voxel). The distance within which a closed horn is the template's
was set after several values had been tried on these patients. The constant for sulci is one of a
few that were tried on the painted brains. The cortex of thick slices was chosen on the painted
brains, too. The candidates were: a rim of the brain mask, the template's cortex as it is, moved
with that rim, moved by an affine or warped by SyN, and with the sulci that the scan still shows. A
cortex warped by SyN agreed better by voxels at 6 mm and worse by placed lesions. It was not taken,
because in one of the patients it lay near most of the white matter. So this is no independent test,
least of all of the cortex.

Few lesions of the painted brains are juxtacortical. So lesions are also placed there: cubes with
edges of 1 to 3 voxels of the model's grid, at random in white matter. Their regions are compared by
the person's ventricles with either cortex.

Written beside this file: regions_of_lesions.tsv (one row a subject, and one for all of a kind) and
regions_of_lesions.json. Kappa is Cohen's. Intervals are 95 % by bootstrap over subjects.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

import msxai
from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data import images
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import from_images
from msxai.data.prepared import PreparationOptions, Prepared, prepare
from msxai.data.registration import registration
from msxai.data.synthetic import subject, template
from msxai.regions import lesion_regions, own_anatomy
from msxai.regions.lesion_regions import Lesions
from msxai.regions.own_anatomy import Anatomy

HERE = Path(__file__).parent
DATA = Path(msxai.ROOT).parent / "shared" / "data"
PATIENT, PAINTED, SIMULATED = "patient", "painted", "simulated"
THICKNESS = 6  # mm, and voxels of the painted scans, whose edges are 1 mm
THICK = f"painted, slices of {THICKNESS} mm"
PERIVENTRICULAR, JUXTACORTICAL, DEEP = lesion_regions.REGIONS[1:]
DRAWS, SEED = 2000, 0
PLACED, LONGEST_EDGE = 300, 3  # cubes a subject; voxels

VENTRICLES, CORTEX, LESIONS = (4, 5, 31, 43, 44, 63), (3, 42), (25, 57)
INFRATENTORIAL = (7, 8, 16, 46, 47)
"""FreeSurfer's labels."""

WHITE = (2, 41)
FLAIR = {24: 0.18, 25: 1.7, 57: 1.7, 30: 0.6, 62: 0.6, 72: 0.18, 163: 1.1, 164: 1.1, 136: 1, 137: 1}
"""Brightness of labels that the simulator does not have; white matter is 1."""

NOISE, BLUR = 0.04, 0.6  # white matter is 1; voxels
GAIN = 1000  # scans have whole numbers
SUBJECTS = (("ms", "MS", 40.0), ("ad", "AD", 80.0))
"""Kind, group and age (years) of the simulated subjects."""


@dataclass(frozen=True)
class Case:
    """A subject whose ventricles are known.

    Attributes
    ----------
    kind, name : str
    scan, brain, ventricles : ndarray of shape (96, 114, 96)
        The ventricles are those that are known.
    lesions : Lesions
    cortex, white : ndarray or None
        Same shape; None where they are not known.
    by_lst_ai : list of str or None
        Region of each lesion by LST-AI's rule and the known anatomy; None where that has no file.
    """

    kind: str
    name: str
    scan: np.ndarray
    brain: np.ndarray
    ventricles: np.ndarray
    lesions: Lesions
    cortex: np.ndarray | None = None
    white: np.ndarray | None = None
    by_lst_ai: list[str] | None = None


def patients(where: Results):
    """Yield the patients of Tabriz, registered as notebook 01 does."""
    paths = sorted((DATA / "ms3seg").glob("*_FLAIR.nii.gz"))
    masks = [_beside(path, "lesions") for path in paths]
    prepared = prepared_scans(paths, masks, [], "real-patients", where)
    for row, path in enumerate(paths):
        matrix = matrix_of(prepared, row)
        drawn = images.load_mask(_beside(path, "ventricles"))
        lesions = prepared.lesions(row)
        yield Case(
            kind=PATIENT,
            name=path.name.removesuffix("_FLAIR.nii.gz"),
            scan=prepared.image(row),
            brain=prepared.brain(row),
            ventricles=lateral(images.mask_to_grid(registration.place(drawn, matrix))),
            lesions=lesion_regions.read_lesions(masks[row], matrix, lesions),
            by_lst_ai=regions_by_lst_ai(
                np.asarray(images.load_mask(masks[row]).dataobj) > 0,
                touching={PERIVENTRICULAR: np.asarray(drawn.dataobj) > 0},
            ),
        )


def painted(where: Results):
    """Yield FLAIR scans that are painted from the labels of real brains."""
    paths = painted_files(where)
    prepared = prepared_scans(*_with_masks(paths), "painted", where)
    for row, path in enumerate(paths):
        labels = nib.load(_beside(path, "labels"))
        lesions = np.isin(np.asarray(labels.dataobj), LESIONS)
        yield painted_case(PAINTED, path, labels, lesions, prepared, row)


def painted_in_thick_slices(where: Results):
    """Yield the painted scans, averaged over thick slices."""
    thin = painted_files(where)
    folder = where.folder / f"painted-{THICKNESS}mm"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [in_thick_slices(path, folder) for path in thin]
    prepared = prepared_scans(*_with_masks(paths), folder.name, where)
    for row, path in enumerate(paths):
        labels = nib.load(_beside(thin[row], "labels"))
        lesions = np.asarray(images.load_mask(_beside(path, "lesions")).dataobj) > 0
        lesions = np.repeat(lesions, THICKNESS, axis=2)
        yield painted_case(THICK, path, labels, lesions, prepared, row)


def painted_files(where: Results) -> list[Path]:
    """Paint all label maps; return the paths of the scans."""
    folder = where.folder / "painted"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, path in enumerate(sorted((DATA / "synthseg_labels").glob("*.nii.gz"))):
        paths.append(paint(path, folder, np.random.default_rng(index)))
    return paths


def painted_case(kind: str, path: Path, labels, lesions, prepared: Prepared, row: int) -> Case:
    """Return a painted subject.

    Parameters
    ----------
    kind : str
    path : Path
        Of the scan; its lesion mask is beside it.
    labels : nibabel.Nifti1Image
    lesions : ndarray of bool, shape (X, Y, Z)
        On the grid of the labels, of which it may have the first slices alone.
    prepared : Prepared
    row : int
    """
    matrix = matrix_of(prepared, row)
    values = np.asarray(labels.dataobj)[:, :, : lesions.shape[2]]
    marked = lesion_regions.read_lesions(_beside(path, "lesions"), matrix, prepared.lesions(row))
    return Case(
        kind=kind,
        name=path.name.removesuffix("_FLAIR.nii.gz"),
        scan=prepared.image(row),
        brain=prepared.brain(row),
        ventricles=labelled(labels, VENTRICLES, matrix),
        lesions=marked,
        cortex=labelled(labels, CORTEX, matrix),
        white=labelled(labels, WHITE, matrix),
        by_lst_ai=regions_by_lst_ai(
            lesions,
            touching={
                PERIVENTRICULAR: np.isin(values, VENTRICLES),
                JUXTACORTICAL: np.isin(values, CORTEX),
                lesion_regions.REGIONS[0]: np.isin(values, INFRATENTORIAL),
            },
        ),
    )


def simulated():
    """Yield subjects of the simulator."""
    names = list(template.CLASSES)
    numbers = [1 + names.index(name) for name in ("ventricle", "choroid plexus", "septum")]
    for index, (kind, group, age) in enumerate(SUBJECTS):
        session = subject.Session(age=age)
        person = subject.simulate(
            kind, group, 100 + index, index, session=session, modality="FLAIR"
        )
        yield Case(
            kind=SIMULATED,
            name=f"{group}, {age:.0f} years",
            scan=images.normalise(person.image, person.brain),
            brain=person.brain,
            ventricles=np.isin(person.classes, numbers),
            lesions=lesion_regions.on_model_grid(person.lesions),
        )


def paint(path: Path, folder: Path, rng) -> Path:
    """Paint a FLAIR from labels, cut out of the head; with its masks and labels beside it."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.rint(image.get_fdata()).astype("int16")
    is_brain = (labels > 0) & (labels < 100) & (labels != 24)
    box = ndimage.find_objects(is_brain.astype(int))[0]
    box = tuple(slice(max(side.start - 6, 0), side.stop + 6) for side in box)
    labels = labels[box]
    # A mask of a brain goes over its sulci.
    wide = ndimage.distance_transform_edt(~is_brain[box]) <= 4
    brain = is_brain[box] | (ndimage.distance_transform_edt(wide) > 3)
    bright = np.full(labels.shape, FLAIR[24])
    for tissue in template.CLASSES.values():
        bright[np.isin(labels, tissue.labels)] = tissue.flair
    bright[np.isin(labels, CORTEX)] = template.CLASSES["cortex"].flair
    for label, value in FLAIR.items():
        bright[labels == label] = value
    bright = ndimage.gaussian_filter(bright, BLUR) + rng.normal(0, NOISE, labels.shape)
    affine = image.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(affine, [side.start for side in box])
    name = path.name.removesuffix(".nii.gz")
    arrays = {
        "FLAIR": np.where(brain, GAIN * np.maximum(bright, 0.02), 0).astype("float32"),
        "brain": brain.astype("uint8"),
        "lesions": np.isin(labels, LESIONS).astype("uint8"),
        "labels": labels,
    }
    for kind, values in arrays.items():
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}_{kind}.nii.gz")
    return folder / f"{name}_FLAIR.nii.gz"


def in_thick_slices(path: Path, folder: Path) -> Path:
    """Average a painted scan and its masks over thick slices; return the path of the scan."""
    for kind in ("FLAIR", "brain", "lesions"):
        file = _beside(path, kind)
        image = nib.load(file)
        values = np.asarray(image.dataobj, "float32")
        whole = values.shape[2] // THICKNESS * THICKNESS
        values = values[:, :, :whole].reshape(*values.shape[:2], -1, THICKNESS).mean(axis=3)
        if kind != "FLAIR":
            values = (values >= 0.5).astype("uint8")
        affine = image.affine.copy()
        affine[:3, 3] += affine[:3, 2] * (THICKNESS - 1) / 2
        affine[:3, 2] *= THICKNESS
        nib.save(nib.Nifti1Image(values, affine), folder / file.name)
    return folder / path.name


def prepared_scans(paths, masks, brains, name: str, where: Results) -> Prepared:
    """Register and prepare scans as notebook 01 does."""
    cohort = from_images(
        [str(path) for path in paths],
        [str(path) for path in masks],
        name=name,
        brain_masks=[str(path) for path in brains],
    )
    options = PreparationOptions(registration="auto", derivatives=where.registration(name))
    path = where.prepared(f"{name}-regions")
    prepare(cohort, splits.make(cohort.table, (0, 0), 0.15, 0), path, options)
    return Prepared(path)


def matrix_of(prepared: Prepared, row: int) -> np.ndarray:
    """Return the affine from a scan's space to MNI152."""
    record = json.loads(prepared.table["registration"].iloc[row])
    return np.array(record.get("matrix", np.eye(4)))


def labelled(image, labels, matrix) -> np.ndarray:
    """Return where an image has some labels, on the model's grid."""
    mask = np.isin(np.asarray(image.dataobj), labels).astype("float32")
    return images.mask_to_grid(registration.place(nib.Nifti1Image(mask, image.affine), matrix))


def lateral(ventricles) -> np.ndarray:
    """Return the lateral ones of all ventricles of a person."""
    atlas = own_anatomy.template()
    away = own_anatomy.distance(atlas.ventricles)
    others = own_anatomy.distance(atlas.other_fluid | atlas.infratentorial)
    return ventricles & (away < others)


def regions_by_lst_ai(lesions, touching: dict) -> list[str]:
    """Return the region of each lesion by the rule of LST-AI, on the grid of a file.

    Parameters
    ----------
    lesions : ndarray of bool, shape (X, Y, Z)
    touching : dict
        Region to where it lies, bool of the same shape. A lesion belongs to the first that it
        touches with any of the 26 neighbours of its voxels, else it is deep.
    """
    labels, count = lesion_regions.label_lesions(lesions)
    regions = []
    for number, box in enumerate(ndimage.find_objects(labels, count), start=1):
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        widened = ndimage.binary_dilation(labels[around] == number, images.NEIGHBOURHOOD_26)
        region = DEEP
        for name, mask in touching.items():
            if mask[around][widened].any():
                region = name
                break
        regions.append(region)
    return regions


def regions_of(case: Case, own: Anatomy) -> dict[str, list[str]]:
    """Return the region of each lesion by the template, by the scan, and by what is known."""
    cortex = own.cortex if case.cortex is None else case.cortex
    anatomies = {
        "template": own_anatomy.of_template(),
        "own": own,
        "known": Anatomy(case.ventricles, cortex),
    }
    regions = {}
    for name, anatomy in anatomies.items():
        regions[name] = lesion_regions.of_lesions(case.lesions, anatomy)["region"].tolist()
    regions["lst_ai"] = case.by_lst_ai or [""] * case.lesions.count
    return regions


def row_of(case: Case, own: Anatomy) -> dict:
    """Return what is measured of the anatomy of a subject."""
    of_template = own_anatomy.of_template()
    row = {
        "kind": case.kind,
        "subject": case.name,
        "ventricles_ml": case.ventricles.sum() * images.VOXEL_VOLUME / 1000,
        "dice_template": dice(of_template.ventricles, case.ventricles),
        "dice_own": dice(own.ventricles, case.ventricles),
        "own_ventricles": own.own_ventricles,
        "own_cortex": own.own_cortex,
        "added_sulci": own.added_sulci,
    }
    if case.cortex is not None:
        known = near(case.cortex)[case.white]
        row["cortex_kappa_template"] = kappa(near(of_template.cortex)[case.white], known)
        row["cortex_kappa_own"] = kappa(near(own.cortex)[case.white], known)
        row |= placed_columns(case, own)
    return row


def placed_columns(case: Case, own: Anatomy) -> dict:
    """Return the agreement of the regions of placed lesions with what is known."""
    lesions = placed_lesions(case.white, np.random.default_rng(SEED))
    known = lesion_regions.of_lesions(lesions, Anatomy(case.ventricles, case.cortex))["region"]
    columns = {}
    for name, cortex in {"template": own_anatomy.template().cortex, "own": own.cortex}.items():
        given = lesion_regions.of_lesions(lesions, Anatomy(own.ventricles, cortex))["region"]
        columns[f"placed_kappa_{name}"] = kappa(given, known)
    return columns


def placed_lesions(white, rng) -> Lesions:
    """Place cubes at random in white matter; none touches another."""
    free = white.copy()
    lesions = np.zeros_like(white)
    count = 0
    for place in rng.permutation(np.argwhere(white)):
        edge = rng.integers(1, LONGEST_EDGE + 1)
        cube = tuple(slice(start, start + edge) for start in place)
        if not free[cube].all():
            continue
        lesions[cube] = True
        free[tuple(slice(start - 1, start + edge + 1) for start in place)] = False
        count += 1
        if count == PLACED:
            break
    return lesion_regions.on_model_grid(lesions)


def lesion_columns(regions: dict[str, list[str]]) -> dict:
    """Return counts of lesions by region, and the agreement with what is known."""
    known = np.array(regions["known"], str)
    columns = {"lesions": len(known), "periventricular": int((known == PERIVENTRICULAR).sum())}
    for name in ("template", "own"):
        given = np.array(regions[name], str)
        is_periventricular = given == PERIVENTRICULAR
        columns[f"periventricular_{name}"] = int(is_periventricular.sum())
        columns[f"periventricular_kappa_{name}"] = kappa(
            is_periventricular, known == PERIVENTRICULAR
        )
        columns[f"region_kappa_{name}"] = kappa(given, known)
    columns |= lst_ai_columns(regions)
    moved = np.array(regions["template"], str) != np.array(regions["own"], str)
    columns["moved"] = int(moved.sum())
    return columns


def lst_ai_columns(regions: dict[str, list[str]]) -> dict:
    """Return the agreement of the person's regions with LST-AI's rule; nothing where it has none.

    It is known for all regions where a lesion is juxtacortical or infratentorial by it: so not in
    patients, whose ventricles alone are known.
    """
    by_rule = np.array(regions["lst_ai"], str)
    if not by_rule.all():
        return {}
    own = np.array(regions["own"], str)
    columns = {
        "lst_ai_periventricular": int((by_rule == PERIVENTRICULAR).sum()),
        "lst_ai_periventricular_kappa": kappa(own == PERIVENTRICULAR, by_rule == PERIVENTRICULAR),
    }
    if JUXTACORTICAL in by_rule:
        columns["lst_ai_region_kappa"] = kappa(own, by_rule)
    return columns


def pooled(rows: list[dict], regions: list[dict]) -> dict:
    """Return the row of all subjects of a kind, with intervals by bootstrap over subjects."""
    row = {"kind": rows[0]["kind"], "subject": "all"}
    for name in rows[0]:
        if name.startswith(("dice", "cortex", "placed", "ventricles")):
            row[name] = float(np.mean([one[name] for one in rows]))
    row |= lesion_columns(_joined(regions))
    for name in ("template", "own"):
        low, high = kappa_interval(regions, name)
        row[f"periventricular_kappa_{name}_low"] = low
        row[f"periventricular_kappa_{name}_high"] = high
    return row


def kappa_interval(regions: list[dict], name: str) -> tuple[float, float]:
    """Return the 95 % interval of kappa for periventricular, by bootstrap over subjects."""
    rng = np.random.default_rng(SEED)
    kappas = []
    for _ in range(DRAWS):
        chosen = rng.integers(len(regions), size=len(regions))
        joined = _joined([regions[index] for index in chosen])
        given = np.array(joined[name], str) == PERIVENTRICULAR
        known = np.array(joined["known"], str) == PERIVENTRICULAR
        kappas.append(kappa(given, known))
    low, high = np.nanquantile(kappas, [0.025, 0.975])
    return float(low), float(high)


def _joined(regions: list[dict]) -> dict[str, list[str]]:
    """Join the lesions of several subjects."""
    joined = {"template": [], "own": [], "known": [], "lst_ai": []}
    for of_subject in regions:
        for name, values in joined.items():
            values.extend(of_subject[name])
    return joined


def table_of(cases) -> pd.DataFrame:
    """Measure all subjects of a kind: one row each, and one for all."""
    rows = []
    regions = []
    for case in cases:
        print(f"{case.kind}: {case.name}", flush=True)
        own = own_anatomy.find(case.scan, case.brain, case.lesions.labels > 0)
        regions.append(regions_of(case, own))
        rows.append(row_of(case, own) | lesion_columns(regions[-1]))
    return pd.DataFrame([*rows, pooled(rows, regions)])


def near(mask) -> np.ndarray:
    """Return where a lesion would touch a structure."""
    return own_anatomy.distance(mask) <= lesion_regions.ABUTTING


def dice(first, second) -> float:
    """Return Dice's coefficient of two masks."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def kappa(first, second) -> float:
    """Return Cohen's kappa; NaN where all are in one class by both."""
    first, second = np.asarray(first), np.asarray(second)
    by_chance = 0.0
    for value in np.unique(np.concatenate([first, second])):
        by_chance += (first == value).mean() * (second == value).mean()
    if by_chance == 1 or not len(first):
        return np.nan
    return float(((first == second).mean() - by_chance) / (1 - by_chance))


def _with_masks(paths: list[Path]) -> tuple[list[Path], list[Path], list[Path]]:
    """Return scans, their lesion masks and their brain masks."""
    masks = [_beside(path, "lesions") for path in paths]
    return paths, masks, [_beside(path, "brain") for path in paths]


def _beside(path: Path, kind: str) -> Path:
    """Return the path of a mask of a scan."""
    return path.with_name(path.name.replace("_FLAIR", f"_{kind}"))


def main() -> None:
    """Measure and write."""
    if not (DATA / "ms3seg").is_dir():
        raise SystemExit(f"{DATA}: found no scan of ms3seg.")
    where = Results("runs/proof")
    kinds = [patients(where), painted(where), painted_in_thick_slices(where), simulated()]
    table = pd.concat([table_of(cases) for cases in kinds], ignore_index=True)
    print(table.round(3).T.to_string())
    path = HERE / "regions_of_lesions.tsv"
    tsv.write(table, path, float_format="%.4g")
    parameters = {"draws": DRAWS, "seed": SEED, "noise": NOISE, "blur": BLUR}
    parameters["thickness"] = THICKNESS
    scans = {}
    for folder in ("ms3seg", "synthseg_labels"):
        for file in sorted((DATA / folder).glob("*.nii.gz")):
            scans[file.name] = provenance.sha256(file)
    record = provenance.record(parameters, (), [path], scans=scans)
    provenance.write_json(path.with_suffix(".json"), record)


if __name__ == "__main__":
    main()

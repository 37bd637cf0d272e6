"""A cohort with its lesions filled, for networks that are trained and tested without lesions.

A fill that only patients have could be learnt in place of the lesions. Therefore every control is
filled, too, at the sites of a patient's lesions (sham filling). Number, size and location of filled
sites, and the method, are alike in both groups.

A scan without a lesion mask is not a scan without lesions. Unless it is a control's, it is left out
by name (`unfilled`): its row stays, so that rows mean the same scans with and without lesions, but
it is in no part of the filled cohort.
"""

import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd

from msxai.base import provenance
from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data import images, lesion_filling
from msxai.data.cohorts.cohort import Cohort
from msxai.data.prepared import FEW, PreparationOptions, Prepared, prepare

__all__ = [
    "Matched",
    "arrays",
    "changed",
    "fillings",
    "further",
    "prepared_filled",
    "unfilled",
    "write",
]


@dataclass(frozen=True)
class Matched:
    """Fills lesions, and in controls the sites of a patient's lesions, too.

    It is an `alter` of `msxai.data.prepared.prepare`.

    Parameters
    ----------
    arrays : str
        The untouched cohort (`msxai.data.prepared.Prepared`), whose lesion masks are the sites.
    donors : dict
        Part of the split to the rows of its patients with lesions; a control is given the sites of
        one of its own part.
    how, seed
        See `msxai.data.lesion_filling.Filler`.
    """

    arrays: str
    donors: dict
    how: str = "noise"
    seed: int = 0

    def __call__(self, scan, mask, row: dict) -> nib.Nifti1Image:
        """Return the filled scan; a control without a lesion mask counts as one without lesions.

        A patient's scan without a mask, or one of an unknown group, comes back as it is.
        """
        if mask is None and row["label"] != 0:
            return scan
        if mask is None:
            mask = images.with_space_of(scan, np.zeros(scan.shape[:3], "uint8"))
        donors = []
        if row["label"] == 0:
            donors = self.donors.get(row["part"], [])
        if len(donors):
            donor = self._draw(donors, row)
            mask = self._with_sites_of(donor, scan, mask)
        filler = lesion_filling.Filler(self.how, "lesions", self.seed)
        return filler(scan, mask, row)

    def _draw(self, donors, row: dict) -> int:
        """Draw a donor; the seed and the scan's name decide which."""
        name = f"{row['participant_id']} {row['session_id']}"
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return donors[rng.integers(len(donors))]

    def _with_sites_of(self, donor: int, scan, mask) -> nib.Nifti1Image:
        """Return a scan's lesions and, where it is normal-appearing, the lesions of a donor."""
        donor_mask = Prepared(self.arrays).lesions(donor).astype("uint8")
        sites = lesion_filling.on_grid(nib.Nifti1Image(donor_mask, images.AFFINE), scan)
        own = lesion_filling.on_grid(mask, scan)
        normal = lesion_filling.normal_appearing(
            values=np.asarray(scan.dataobj, "float32"),
            white=lesion_filling.white_matter(scan),
            lesions=own,
            size=nib.affines.voxel_sizes(scan.affine),
        )
        filled = own | (sites & normal)
        return images.with_space_of(scan, filled.astype("uint8"))


def write(
    where, cohort: str, filling: str, parameters: dict, *, seed: int = 0, jobs: int = 1
) -> tuple[Prepared | None, str]:
    """Prepare a cohort once more with its lesions filled; the record is written last.

    Options and split are those of the untouched cohort. Scans whose lesions are not known are left
    out by name (`unfilled`).

    Parameters
    ----------
    where : msxai.base.results.Results
    cohort : str
    filling : {"noise", "constant"}
        See `msxai.data.lesion_filling.fill`.
    parameters : dict
        The notebook's.
    seed : int
        Of donors and draws.
    jobs : int
        Processes.

    Returns
    -------
    filled : Prepared or None
    left_out : str
        Empty, or why the cohort cannot be filled. Then the record has the reason, and no arrays are
        written.

    Raises
    ------
    ParameterError
        Unknown `filling`.
    """
    one_of("filling", filling, lesion_filling.FILLINGS[1:])
    untouched = Prepared(where.require_prepared(cohort), where.split(cohort))
    path = where.prepared(cohort, filling)
    record = where.record(cohort, filling)
    record.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    reason = _reason_against_filling(untouched)
    outputs = []
    if not reason:
        prepared_filled(
            untouched, path, filling, derivatives=where.registration(cohort), seed=seed, jobs=jobs
        )
        outputs.append(path)
    content = provenance.record(
        parameters,
        [untouched.path, where.split(cohort)],
        outputs,
        synthetic=untouched.synthetic,
        left_out=reason,
    )
    provenance.write_json(record, content)
    if reason:
        return None, reason
    return Prepared(path, where.split(cohort)), ""


def _reason_against_filling(untouched: Prepared) -> str:
    """Return why a cohort cannot be filled; empty where it can."""
    if untouched.normalisation == "voxelwise":
        return "a voxel-wise z-score belongs to the cohort that it was taken from"
    patients = (untouched.table["label"] == 1).to_numpy(bool, na_value=False)
    if not (patients & untouched.has_lesions).any():
        return "no patient has a lesion mask"
    return ""


def _not_known(untouched: Prepared) -> np.ndarray:
    """Return whose lesions are not known: no mask, and no control."""
    controls = untouched.table["label"].eq(0).fillna(False).to_numpy(bool)
    return ~untouched.has_lesions & ~controls


def unfilled(filled: Prepared) -> list[str]:
    """Name the scans of a filled cohort that could not be filled: participant and session."""
    scans = filled.table.loc[filled.unfilled, ["participant_id", "session_id"]]
    return [" ".join(filter(None, scan)) for scan in scans.itertuples(index=False, name=None)]


def prepared_filled(
    untouched: Prepared, path, filling: str, *, derivatives=None, seed: int = 0, jobs: int = 1
) -> None:
    """Prepare scans once more from their files, with the same options, but filled.

    Parameters
    ----------
    untouched : Prepared
    path : path
        HDF5 file to write.
    filling : str
    derivatives : path, optional
        Registrations of scans that are not in MNI space.
    seed, jobs
        See `write`.
    """
    table = untouched.table
    patients = table["label"].eq(1).fillna(False).to_numpy(bool)
    parameters = {"filling": filling}
    not_known = table.loc[_not_known(untouched), ["participant_id", "session_id"]]
    if len(not_known):
        parameters["unfilled"] = not_known.to_numpy().tolist()
    donors = {}
    for part, rows in table.groupby("part").indices.items():
        with_lesions = [row for row in rows if patients[row] and untouched.lesions(row).any()]
        donors[part] = [int(row) for row in with_lesions]
    added = ["part", "registration", *(name for name in table if name.endswith("_sha256"))]
    source = Cohort(
        untouched.name, table.drop(columns=added), untouched.synthetic, untouched.modality
    )
    options = PreparationOptions(
        normalisation=untouched.normalisation,
        interpolation=untouched.interpolation,
        registration=untouched.parameters.get("registration", "none"),
        derivatives=derivatives,
    )
    prepare(
        source,
        table[["participant_id", "session_id", "part"]],
        path,
        options,
        alter=Matched(str(untouched.path), donors, filling, seed),
        parameters=parameters,
        jobs=jobs,
    )


def changed(untouched: Prepared, filled: Prepared, least: float = 0.1) -> pd.DataFrame:
    """Return the share of the brain that filling has changed, in patients and in controls.

    Parameters
    ----------
    untouched, filled : Prepared
    least : float
        Smallest difference that counts, in units of the prepared scans: the second normalisation
        changes all voxels a little.

    Returns
    -------
    pandas.DataFrame
        group; mean, median and max of the scans' shares.
    """
    rows = filled.rows("all")
    shares = []
    for row in rows:
        difference = np.abs(filled.image(row) - untouched.image(row))
        in_brain = difference[untouched.brain(row)]
        shares.append((in_brain > least).mean())
    by_group = untouched.table.iloc[rows].assign(share=shares).groupby("group")["share"]
    return by_group.agg(["mean", "median", "max"]).reset_index()


def arrays(where, cohort: str, trained: dict) -> dict:
    """Return the filled arrays of each variant that was trained on filled scans.

    Parameters
    ----------
    where : msxai.base.results.Results
    cohort : str
    trained : dict
        Variant to a list of (folder, record) (`msxai.base.results.Results.require_trial`).

    Returns
    -------
    dict
        Variant to Prepared.

    Raises
    ------
    MissingStepError, StaleInputError
        See `msxai.base.results.Results.require_prepared`.
    """
    filled = {}
    for variant, filling in fillings(trained).items():
        path = where.require_prepared(cohort, filling)
        filled[variant] = Prepared(path, where.split(cohort))
    return filled


def fillings(trained: dict) -> dict:
    """Return how the scans of each variant were filled, for variants trained on filled scans.

    Raises
    ------
    ParameterError
        The trials of one variant differ.
    """
    by_variant = {}
    for variant, trials in trained.items():
        used = {record["parameters"].get("filling", "none") for _, record in trials}
        if len(used) > 1:
            raise ParameterError(
                f"variant {variant}",
                f"trials with filling {', '.join(sorted(used))}",
                "the same filling in all trials of a variant",
                "Run 03_fine_tuning for all trials of this variant with one value of `filling`.",
            )
        filling = used.pop()
        if filling != "none":
            by_variant[variant] = filling
    return by_variant


def further(
    where, subjects: Prepared | None, cohort: str, trained: dict, *, seed: int = 0, jobs: int = 1
) -> dict:
    """Fill further subjects for each variant that was trained on filled scans.

    Parameters
    ----------
    where, cohort, trained
        As in `arrays`.
    subjects : Prepared or None
        From `msxai.evaluation.prediction.further`.
    seed, jobs
        See `write`.

    Returns
    -------
    dict
        Variant to Prepared; empty without further subjects.
    """
    if subjects is None:
        return {}
    if len(subjects.table) <= FEW:
        jobs = 1
    name = f"{cohort}-further"
    written = set()
    filled = {}
    for variant, filling in fillings(trained).items():
        path = where.prepared(name, filling)
        if path not in written:
            prepared_filled(subjects, path, filling, seed=seed, jobs=jobs)
            written.add(path)
        filled[variant] = Prepared(path, where.split(name))
    return filled

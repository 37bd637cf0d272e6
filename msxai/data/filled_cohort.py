"""A cohort with its lesions filled, for networks that train and are tested without lesions: which sites, in patients and in controls.

A fill that only patients have can be learnt in the lesions' stead. So every control is filled too, at the sites of a patient's lesions
(sham filling): where, how much and how the scans are filled is alike in both groups.
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
from msxai.data.prepared import PreparationOptions, Prepared, prepare


@dataclass(frozen=True)
class Matched:
    """Fills the lesions of every scan, and in controls the sites of a patient's lesions too: an `alter` of `msxai.data.prepared.prepare`.

    Parameters
    ----------
    arrays : str
        The untouched cohort (`msxai.data.prepared.Prepared`), whose lesion masks are the sites.
    donors : dict
        Part of the split to the rows of its patients with lesions; a control is given one of its own part.
    how, seed
        See `msxai.data.lesion_filling.Filler`.
    """

    arrays: str
    donors: dict
    how: str = "noise"
    seed: int = 0

    def __call__(self, scan, mask, row: dict) -> nib.Nifti1Image:
        """The filled scan; a control without a lesion mask counts as one without lesions."""
        mask = (
            images.with_space_of(scan, np.zeros(scan.shape[:3], "uint8")) if mask is None else mask
        )
        donors = self.donors.get(row["part"], []) if row["label"] == 0 else []
        if len(donors):
            name = zlib.crc32(f"{row['participant_id']} {row['session_id']}".encode())
            donor = donors[np.random.default_rng([self.seed, name]).integers(len(donors))]
            site = nib.Nifti1Image(
                Prepared(self.arrays).lesions(donor).astype("uint8"), images.AFFINE
            )
            own, other = lesion_filling.on_grid(mask, scan), lesion_filling.on_grid(site, scan)
            size = nib.affines.voxel_sizes(scan.affine)
            normal = lesion_filling.normal_appearing(
                np.asarray(scan.dataobj, "float32"), lesion_filling.white_matter(scan), own, size
            )
            mask = images.with_space_of(scan, (own | other & normal).astype("uint8"))
        return lesion_filling.Filler(self.how, "lesions", self.seed)(scan, mask, row)


def write(
    where, cohort: str, filling: str, parameters: dict, *, seed: int = 0, jobs: int = 1
) -> tuple[Prepared | None, str]:
    """Prepare a cohort once more with its lesions filled, by the parameters and the split of the untouched one; the record last.

    Parameters
    ----------
    where : msxai.base.results.Results
    cohort : str
    filling : {"noise", "constant"}
        See `msxai.data.lesion_filling.fill`.
    parameters : dict
        The notebook's.
    seed, jobs : int
        Of donors and draws; processes.

    Returns
    -------
    filled : Prepared or None
    left_out : str
        Empty, or why the cohort cannot be filled; the record says it too, and no arrays are written.

    Raises
    ------
    ParameterError
        Unknown `filling`.
    """
    one_of("filling", filling, lesion_filling.FILLINGS[1:])
    untouched = Prepared(where.require_prepared(cohort), where.split(cohort))
    path, record = where.prepared(cohort, filling), where.record(cohort, filling)
    for old in (record, path):
        old.unlink(missing_ok=True)
    reason = _unfillable(untouched)
    if not reason:
        prepared_filled(
            untouched, path, filling, derivatives=where.registration(cohort), seed=seed, jobs=jobs
        )
    outputs = [path] if path.exists() else []
    more = {"synthetic": untouched.synthetic, "left_out": reason}
    provenance.write_json(
        record,
        provenance.record(parameters, [untouched.path, where.split(cohort)], outputs, **more),
    )
    return (None if reason else Prepared(path, where.split(cohort))), reason


def _unfillable(untouched: Prepared) -> str:
    patients = (untouched.table["label"] == 1).to_numpy(bool, na_value=False)
    if untouched.normalisation == "voxelwise":
        return "a voxel-wise z-score belongs to the cohort that it was taken from"
    if not (patients & untouched.has_lesions).any():
        return "no patient has a lesion mask"
    bare = untouched.table.loc[patients & ~untouched.has_lesions, "participant_id"]
    return (
        f"{len(bare)} of {patients.sum()} scans of patients have no lesion mask ({bare.iloc[0]} ...)"
        if len(bare)
        else ""
    )


def prepared_filled(
    untouched: Prepared, path, filling: str, *, derivatives=None, seed: int = 0, jobs: int = 1
) -> None:
    """Prepare scans once more from their files as they were prepared, but filled.

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
    donors = {
        part: [int(row) for row in rows if patients[row] and untouched.lesions(row).any()]
        for part, rows in table.groupby("part").indices.items()
    }
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
        parameters={"filling": filling},
        jobs=jobs,
    )


def changed(untouched: Prepared, filled: Prepared, least: float = 0.1) -> pd.DataFrame:
    """Share of the brain that the filling has changed, in patients and in controls.

    Parameters
    ----------
    untouched, filled : Prepared
    least : float
        In units of the prepared scans: normalising once more moves all voxels a little.

    Returns
    -------
    pandas.DataFrame
        group; mean, median and largest share of scans.
    """
    shares = []
    for row in range(len(untouched.table)):
        brain = untouched.brain(row)
        shares.append((np.abs(filled.image(row) - untouched.image(row))[brain] > least).mean())
    return (
        untouched.table.assign(share=shares)
        .groupby("group")["share"]
        .agg(["mean", "median", "max"])
        .reset_index()
    )


def arrays(where, cohort: str, trained: dict) -> dict:
    """Filled arrays of each variant that was trained on such; the others are not in it.

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
    return {
        variant: Prepared(where.require_prepared(cohort, filling), where.split(cohort))
        for variant, filling in fillings(trained).items()
    }


def fillings(trained: dict) -> dict:
    """How the scans of each variant were filled, of those that were trained on filled ones.

    Raises
    ------
    ParameterError
        The trials of one variant differ.
    """
    found = {}
    for variant, trials in trained.items():
        hows = {record["parameters"].get("filling", "none") for _, record in trials}
        if len(hows) > 1:
            raise ParameterError(
                f"variant {variant}",
                f"trials with filling {', '.join(sorted(hows))}",
                "one",
                "Train them alike.",
            )
        found[variant] = hows.pop()
    return {variant: how for variant, how in found.items() if how != "none"}


def further(
    where, more: Prepared | None, cohort: str, trained: dict, *, seed: int = 0, jobs: int = 2
) -> dict:
    """Further subjects (`msxai.evaluation.prediction.further`), filled for each variant that was trained on filled scans.

    Parameters
    ----------
    where, cohort, trained
        As in `arrays`.
    more : Prepared or None
    seed, jobs
        See `write`.

    Returns
    -------
    dict
        Variant to Prepared; empty without further subjects.
    """
    found, name = {}, f"{cohort}-further"
    for variant, filling in (fillings(trained) if more is not None else {}).items():
        path = where.prepared(name, filling)
        if not any(other.path == path for other in found.values()):
            prepared_filled(more, path, filling, seed=seed, jobs=jobs)
        found[variant] = Prepared(path, where.split(name))
    return found

"""A cohort: which scans belong to whom, their masks, labels and covariates."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from msxai.base.errors import CohortError
from msxai.base.parameters import located, one_of
from msxai.data.cohorts import adni, bids, tables

FILES = ("image", "brain_mask", "lesion_mask", "flair")
COLUMNS = (
    "participant_id",
    "session_id",
    *FILES,
    "group",
    "label",
    "age",
    "sex",
    "site",
    "scanner",
    "edss",
)


@dataclass(frozen=True)
class Cohort:
    """A table with one row a scan.

    Attributes
    ----------
    name : str
        Name of its folder, table or YAML.
    table : pandas.DataFrame
        participant_id, session_id ("" if there are none), image, brain_mask, lesion_mask, flair (of the same visit, beside a scan of
        another modality; paths or None), group, label (1 patient, 0 control, NA unknown), age (years), sex, site, scanner, edss; unknown
        covariates are NaN or None.
    synthetic : bool
        Simulated, as its dataset_description.json says.
    modality : str
        FLAIR or T1w.
    notes : tuple of str
        What was left out, and why.
    """

    name: str
    table: pd.DataFrame
    synthetic: bool
    modality: str
    notes: tuple[str, ...] = ()


SETTINGS = {
    "bids": ("kind", "path", "modality", "patients", "controls", "label_column"),
    "table": ("kind", "path", "modality", "patients", "controls", "label_column"),
    "adni": ("kind", "path", "modality", "series", "conversions", "missing"),
}  # of a cohort's YAML, by its kind


def open_cohort(
    source,
    modality: str = "FLAIR",
    patients: str = "MS",
    controls: str = "HC",
    label_column: str = "group",
    images=(),
    lesion_masks=(),
    name: str = "",
) -> Cohort:
    """Open a cohort: a BIDS dataset, ADNI as downloaded, a table of paths, a YAML that names one of them, or a plain list of scans.

    Parameters
    ----------
    source : str
        A folder with participants.tsv (BIDS) or with ADNI's table of images; a table (.csv, .tsv); a cohort's YAML (.yaml, .yml), whose
        settings hold before the ones given here. A relative path starts at the checkout. Not read where `images` are given.
    modality, patients, controls, label_column
        See `from_bids`.
    images, lesion_masks, name
        See `from_images`.

    Raises
    ------
    CohortError, ParameterError
        See `from_bids`, `from_adni`, `from_table`, `from_yaml` and `from_images`.
    """
    if images:
        return from_images(images, lesion_masks, Path(name).name, modality)
    path = located(str(source))
    if path.suffix in (".yaml", ".yml"):
        return from_yaml(
            path, modality=modality, patients=patients, controls=controls, label_column=label_column
        )
    if _kind(path) == "adni":
        return from_adni(path, modality)
    return (from_table if _kind(path) == "table" else from_bids)(
        path, modality, patients, controls, label_column
    )


def _kind(path: Path) -> str:
    if path.suffix in (".csv", ".tsv"):
        return "table"
    return (
        "adni" if not (path / "participants.tsv").is_file() and adni.find_tables(path) else "bids"
    )


def from_yaml(path, **given) -> Cohort:
    """Open the cohort that a YAML file names, under the file's own name.

    Its keys: `path` (folder or table; a relative one starts at the YAML's folder), `kind` (bids, adni or table; found out where it is
    not given), and the settings of that kind (`SETTINGS`), as the parameters of `from_bids`, `from_adni` and `from_table`.

    Parameters
    ----------
    path : path
    **given
        Settings for what the file does not say.

    Raises
    ------
    CohortError
        No such file, no YAML, no mapping, a value that is not one text, or no `path`.
    ParameterError
        An unknown key, or one of another kind (with the nearest one).
    """
    path = located(str(path))
    told = _told(path)
    source = path.parent / Path(told["path"]).expanduser()
    kind = one_of(f"kind in {path}", told.get("kind") or _kind(source), SETTINGS)
    for key in told:
        one_of(f"in {path}", key, SETTINGS[kind])
    if kind == "adni":
        given = {"modality": "T1w"}
    settings = {
        **given,
        **{key: value for key, value in told.items() if key not in ("kind", "path")},
    }
    return replace(
        {"bids": from_bids, "adni": from_adni, "table": from_table}[kind](source, **settings),
        name=path.stem,
    )


def _told(path: Path) -> dict[str, str]:
    """What a cohort's YAML says."""
    if not path.is_file():
        raise CohortError(path, "no such file", "a cohort's YAML", "Check the parameter cohort.")
    try:  # all values as text: patients: NO or controls: 0 are names of groups
        told = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
    except (ValueError, yaml.YAMLError) as error:
        raise CohortError(
            path,
            f"no YAML ({' '.join(str(error).split())})",
            "lines like `path: scans.csv`",
            "Mend the line.",
        ) from error
    told = told if isinstance(told, dict) else {}
    for key, value in told.items():
        one_of(f"in {path}", key, list(dict.fromkeys(sum(SETTINGS.values(), ()))))
        if not isinstance(value, str):
            raise CohortError(f"{path}, key {key}", repr(value), "one text", "Mend the line.")
    if not told.get("path"):
        raise CohortError(
            path,
            "no path in it",
            "lines like `path: scans.csv`",
            "Name the cohort's folder or table.",
        )
    return told


def watched(source) -> list[Path]:
    """Tables and YAML that decide a cohort, for a workflow that makes it anew when they change; none of an embedded one."""
    path = located(str(source))
    if path.suffix in (".yaml", ".yml"):
        return [path, *watched(path.parent / Path(_told(path)["path"]).expanduser())]
    return (
        [path]
        if path.is_file()
        else [*filter(Path.is_file, [path / "participants.tsv"])] or adni.find_tables(path)
    )


def from_table(
    path,
    modality: str = "FLAIR",
    patients: str = "MS",
    controls: str = "HC",
    label_column: str = "group",
) -> Cohort:
    """Read a table of scans.

    Parameters
    ----------
    path : path
        .csv or .tsv with one row a scan: participant_id, image and `label_column`, and, where known, session_id, brain_mask,
        lesion_mask, flair, age, sex, site, scanner, edss. Paths in it start at its folder.
    modality, patients, controls, label_column
        As in `from_bids`.

    Raises
    ------
    CohortError
        A missing file or column, a table that cannot be read, an identifier that is none, a scan twice, a subject with two groups, a
        label that is neither; the message names file and column.
    """
    path = located(str(path))
    rows = tables.read(path)
    tables.need(
        rows,
        ("participant_id", "image", label_column),
        path,
        "Add it, or name yours with the parameter label_column.",
    )
    rows["participant_id"] = tables.identifiers(
        rows["participant_id"], "sub", f"{path}, column participant_id"
    )
    if "session_id" in rows:
        told = rows["session_id"].notna()
        rows.loc[told, "session_id"] = tables.identifiers(
            rows.loc[told, "session_id"], "ses", f"{path}, column session_id"
        )
    groups = rows.groupby("participant_id")[label_column].nunique(dropna=False)
    if (groups > 1).any():
        found = f"two groups of {groups.index[groups > 1][0]}"
        raise CohortError(
            f"{path}, column {label_column}",
            found,
            "one group a subject",
            "Mend the table, or leave the subject out.",
        )
    if rows["image"].isna().any():
        found = f"no path for {rows.loc[rows['image'].isna(), 'participant_id'].iloc[0]}"
        raise CohortError(
            f"{path}, column image", found, "a scan in each row", "Fill it in, or remove the row."
        )
    for column in FILES:
        if column in rows:
            rows[column] = [
                None
                if pd.isna(told)
                else tables.existing(
                    path.parent / Path(told).expanduser(), f"{path}, column {column}", "the table"
                )
                for told in rows[column]
            ]
    rows = tables.label(rows, label_column, patients, controls, path)
    return Cohort(
        path.stem,
        _complete(rows, path),
        _synthetic(path.parent),
        modality,
        tuple(_unlabelled(rows)),
    )


def from_adni(
    folder,
    modality: str = "T1w",
    series: str = "",
    conversions: str = "error",
    missing: str = "error",
) -> Cohort:
    """Read ADNI as downloaded: the archive's tables of images (CSV) in a folder, the scans somewhere below it.

    Alzheimer's disease (AD, Dementia) against controls (CN, NL); MCI of any kind, SMC and images without a diagnosis are left out, and
    `notes` counts them. The table's image number finds the file (..._I45112.nii, or any NIfTI file in a folder I45112). A visit becomes a
    session; of two images of one visit the one with the lower number is kept. The site is the first part of the subject's number.

    Parameters
    ----------
    folder : path
    modality : str
        T1w: all MRI whose description does not name a FLAIR, which is then kept beside its visit's scan. FLAIR: those alone.
    series : str
        Only images with this in their description, without regard to case and punctuation ("N3; Scaled"); empty: all.
    conversions : {"error", "exclude"}
        What to do with subjects who are CN at one visit and AD at another.
    missing : {"error", "exclude"}
        What to do with images that the table has and the folder has not.

    Raises
    ------
    CohortError
        No table, an unknown diagnosis, a subject with both, a missing file, two files of one image, or a file that names another subject.
    ParameterError
        Another value of `conversions` or `missing`.
    """
    folder = located(str(folder))
    rows, notes = adni.read(folder, modality, series, conversions, missing)
    return Cohort(folder.name, _complete(rows, folder), _synthetic(folder), modality, tuple(notes))


def from_images(images, lesion_masks=(), name: str = "scans", modality: str = "FLAIR") -> Cohort:
    """Make a cohort without labels of plain image files.

    Parameters
    ----------
    images, lesion_masks : sequences of path
        One mask for each image, or none at all.
    name, modality : str
        What to call the cohort; what the scans are.

    Raises
    ------
    CohortError
        Another number of masks than of images, a missing file, or two images of one name.
    """
    if lesion_masks and len(lesion_masks) != len(images):
        raise CohortError(
            "parameter lesion_masks",
            f"{len(lesion_masks)} masks",
            f"{len(images)}, one for each of images",
            "Or give none.",
        )
    rows = []
    for index, path in enumerate(map(located, images)):
        stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(f"_{modality}")
        mask = (
            tables.existing(located(lesion_masks[index]), "parameter lesion_masks")
            if lesion_masks
            else None
        )
        rows.append(
            {
                "participant_id": f"sub-{stem.replace('_', '').replace('-', '')}",
                "image": tables.existing(path, "parameter images"),
                "lesion_mask": mask,
            }
        )
    return Cohort(name, _complete(pd.DataFrame(rows), "parameter images"), False, modality)


def from_bids(
    folder,
    modality: str = "FLAIR",
    patients: str = "MS",
    controls: str = "HC",
    label_column: str = "group",
) -> Cohort:
    """Read a BIDS dataset.

    Scans are sub-*/[ses-*/]anat/*_<modality>.nii[.gz]; masks stand under derivatives/*/ at the same place as
    *_desc-brain_mask and *_label-lesion_mask; ages, sites and scanners of visits in sub-*/sub-*_sessions.tsv. Beside a scan of another
    modality the FLAIR of the same visit is found too.

    Parameters
    ----------
    folder : path
        With participants.tsv; a relative path starts at the checkout.
    modality : str
        FLAIR or T1w.
    patients, controls : str
        What `label_column` says of a patient and of a control.
    label_column : str
        Column of participants.tsv.

    Raises
    ------
    CohortError
        A missing folder, table, column or scan, a table that cannot be read, a participant twice, a label that is neither; the message
        names file and column.
    """
    folder = located(str(folder))
    rows, notes = bids.read(folder, modality, patients, controls, label_column)
    table = _complete(rows, folder / "participants.tsv")
    return Cohort(
        folder.name, table, _synthetic(folder), modality, tuple(notes + _unlabelled(rows))
    )


def _unlabelled(rows: pd.DataFrame) -> list[str]:
    count = rows.loc[rows["label"].isna(), "participant_id"].nunique()
    return (
        [f"{count} participants without a group: prepared, neither trained on nor scored"]
        if count
        else []
    )


def _synthetic(folder: Path) -> bool:
    path = folder / "dataset_description.json"
    try:
        return path.is_file() and bool(
            json.loads(path.read_text(encoding="utf-8-sig")).get("Synthetic", False)
        )
    except (ValueError, AttributeError) as error:
        raise CohortError(
            path, f"no description ({error})", "a JSON object", "Mend or remove it."
        ) from error


def _complete(table: pd.DataFrame, where) -> pd.DataFrame:
    """All columns, in order, with their types."""
    twice = table.loc[
        table.duplicated(
            [column for column in ("participant_id", "session_id") if column in table]
        ),
        "participant_id",
    ]
    if len(twice):
        raise CohortError(
            where,
            f"two scans of {twice.iloc[0]}",
            "each scan once",
            "Remove one, or tell the visits apart by their sessions.",
        )
    table = table.reindex(columns=COLUMNS)
    table["session_id"] = table["session_id"].fillna("")
    table["label"] = table["label"].astype("Int64")
    for column in ("age", "edss"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = table.loc[~np.isfinite(numbers.astype(float)) & table[column].notna(), column]
        if len(wrong):
            raise CohortError(
                f"{where}, column {column}",
                repr(wrong.iloc[0]),
                "a number or n/a",
                "Mend the table.",
            )
        table[column] = numbers.astype(float)
    for column in FILES:
        table[column] = [None if pd.isna(value) else str(value) for value in table[column]]
    return table.sort_values(["participant_id", "session_id"], ignore_index=True)

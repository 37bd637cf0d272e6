"""A cohort: which scans belong to whom, their masks, labels and covariates."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import yaml

from msxai.base import given_paths, short_texts
from msxai.base.errors import CohortError, ParameterError, in_place_of_file
from msxai.base.parameters import located, one_of
from msxai.data.cohorts import adni, bids, groups, identifiers, masks, scan_files, tables

__all__ = [
    "COLUMNS",
    "FILES",
    "SETTINGS",
    "Cohort",
    "from_adni",
    "from_bids",
    "from_images",
    "from_table",
    "from_yaml",
    "open_cohort",
    "watched",
]

FILES = ("image", "brain_mask", "lesion_mask", "flair")
"""Columns of a cohort's table that hold paths."""

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
"""Columns of a cohort's table."""

_OURS = ("group", "label")  # columns that come from `label_column`

SETTINGS = {
    "bids": ("kind", "path", "modality", "patients", "controls", "label_column"),
    "table": ("kind", "path", "modality", "patients", "controls", "label_column"),
    "adni": ("kind", "path", "modality", "series", "conversions", "missing"),
}
"""Keys of a cohort's YAML by its kind."""

_YAML = (".yaml", ".yml")
_TABLE = (".csv", ".tsv", ".txt")
_LISTS = ("patients", "controls")  # keys of a YAML that may hold several texts


@dataclass(frozen=True)
class Cohort:
    """A table with one row a scan.

    Attributes
    ----------
    name : str
        Name of its folder, table or YAML.
    table : pandas.DataFrame
        participant_id, session_id ("" if there are none), image, brain_mask, lesion_mask, flair
        (of the same visit, next to a scan of another modality; paths or None), group, label
        (1 patient, 0 control, NA unknown), age (years), sex, site, scanner, edss. Unknown
        covariates are NaN or None.
    synthetic : bool
        Simulated, as its dataset_description.json says.
    modality : str
        FLAIR or T1w.
    notes : tuple of str
        What was left out or mended, and why.
    """

    name: str
    table: pd.DataFrame
    synthetic: bool
    modality: str
    notes: tuple[str, ...] = ()


def open_cohort(
    source,
    modality: str = "FLAIR",
    patients="MS",
    controls="HC",
    label_column: str = "group",
) -> Cohort:
    """Open a cohort of any kind; for a plain list of scans see `from_images`.

    Parameters
    ----------
    source : str
        One of: a BIDS dataset (a folder with participants.tsv); ADNI as downloaded (a folder with
        its table of images); a table of paths (.csv, .tsv); a cohort's YAML (.yaml, .yml), whose
        settings take precedence over the ones given here. A relative path starts at the checkout.
    modality, patients, controls, label_column
        See `from_bids`.

    Raises
    ------
    CohortError, ParameterError
        See `from_bids`, `from_adni`, `from_table` and `from_yaml`.

    Examples
    --------
    A table of paths, relative to the table:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import nibabel as nib
    >>> import numpy as np
    >>> import pandas as pd
    >>> from msxai import open_cohort
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a", "b"):
    ...     nib.save(nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)), folder / f"{name}.nii")
    >>> columns = {"participant_id": ["a", "b"], "group": ["MS", "HC"], "image": ["a.nii", "b.nii"]}
    >>> pd.DataFrame(columns).to_csv(folder / "scans.csv", index=False)
    >>> cohort = open_cohort(folder / "scans.csv")
    >>> cohort.table["participant_id"].tolist(), cohort.table["label"].tolist()
    (['sub-a', 'sub-b'], [1, 0])
    """
    path = located(str(source))
    settings = {
        "modality": modality,
        "patients": patients,
        "controls": controls,
        "label_column": label_column,
    }
    if path.suffix.lower() in _YAML:
        return from_yaml(path, **settings)
    kind = _kind(path)
    if kind == "adni":
        return from_adni(path, modality)
    if kind == "table":
        return from_table(path, **settings)
    return from_bids(path, **settings)


def from_yaml(path, **defaults) -> Cohort:
    """Open the cohort that a YAML file describes; its name is the file's.

    Its keys: `path` (folder or table; a relative one starts at the YAML's folder), `kind` (bids,
    adni or table; recognised if not given), and the settings of that kind (`SETTINGS`), as the
    parameters of `from_bids`, `from_adni` and `from_table`.

    Parameters
    ----------
    path : path
    **defaults
        Settings that the file does not give; `open_cohort` has those of a dataset and a table.

    Raises
    ------
    CohortError
        No such file, no YAML, no mapping, no `path`, a key twice, the `path` of another YAML, or a
        value that is not one text (patients and controls may be lists of texts).
    ParameterError
        An unknown key, or one of another kind (with the nearest one), or an unknown modality.
    """
    path = located(str(path))
    content = _read_yaml(path)
    source = _yaml_source(path, content)
    kind = one_of(f"kind in {path}", content.get("kind") or _kind(source), SETTINGS)
    for key in content:
        one_of(f"in {path}", key, SETTINGS[kind])
    settings = {"modality": "T1w"} if kind == "adni" else dict(defaults)
    settings |= content
    settings.pop("path")
    settings.pop("kind", None)
    if "modality" in content:
        one_of(f"modality in {path}", content["modality"], scan_files.MODALITIES)
    openers = {"bids": from_bids, "adni": from_adni, "table": from_table}
    cohort = openers[kind](source, **settings)
    return replace(cohort, name=path.stem)


def watched(source) -> list[Path]:
    """Return the tables and YAML files that decide a cohort.

    A workflow makes the cohort anew when one of them changes. An embedded cohort has none.
    """
    path = located(str(source))
    if path.suffix.lower() in _YAML:
        return [path, *watched(_yaml_source(path, _read_yaml(path)))]
    if path.is_file():
        return [path]
    participants = bids.participants_table(path)
    if participants.is_file():
        return [participants]
    return adni.find_tables(path)


def from_table(path, modality: str, patients, controls, label_column: str) -> Cohort:
    """Read a table of scans; `open_cohort` has the defaults.

    Parameters
    ----------
    path : path
        .csv or .tsv with one row a scan: participant_id, image and `label_column`, and, if known,
        session_id, brain_mask, lesion_mask, flair, age, sex, site, scanner, edss. Paths in it start
        at its folder.
    modality, patients, controls, label_column
        As in `from_bids`.

    Raises
    ------
    CohortError
        A missing file or column, a table that cannot be read, a wrong identifier, a scan twice, a
        subject with two groups, or a label that is neither. The message names file and column.
    ParameterError
        Unknown modality, or a label column that is no text.
    """
    one_of("modality", modality, scan_files.MODALITIES)
    _check_label_column(label_column)
    path = located(str(path))
    given = [column for column in COLUMNS if column not in _OURS]
    rows, notes = tables.read(path, [*given, label_column])
    mend = "Add it, or name yours with the parameter label_column."
    tables.need(rows, ("participant_id", "image", label_column), path, mend)
    notes += _clean_identifiers(rows, path)
    rows, spellings = groups.label(rows, label_column, patients, controls, path)
    groups.check_one_a_subject(rows, label_column, path)
    notes += _locate_files(rows, path)
    table, numbers = _complete(rows, path)
    of_masks = _unused_masks(rows) + masks.of_several_people(table)
    return Cohort(
        name=path.stem,
        table=table,
        synthetic=_synthetic(path.parent),
        modality=modality,
        notes=tuple(notes + spellings + numbers + of_masks + _unlabelled(rows)),
    )


def from_adni(
    folder,
    modality: str = "T1w",
    series: str = "",
    conversions: str = "error",
    missing: str = "error",
) -> Cohort:
    """Read ADNI as downloaded: the archive's tables of images (CSV), the scans below the folder.

    Alzheimer's disease (AD, Dementia) against controls (CN, NL). MCI of any kind, SMC and images
    without a diagnosis are left out, and `Cohort.notes` counts them. The image number in the table
    finds the file (..._I45112.nii, or any NIfTI file in a folder I45112). A visit is a session; of
    two images of one visit the one with the lower number is used. The site is the first part of
    the subject's number.

    Parameters
    ----------
    folder : path
    modality : str
        T1w: all MRI whose description does not name a FLAIR; a FLAIR becomes the column flair of
        its visit's scan. FLAIR: FLAIR images alone.
    series : str
        Only images with this in their description, without regard to case and punctuation
        ("N3; Scaled"); empty: all.
    conversions : {"error", "exclude"}
        What to do with subjects who are CN at one visit and AD at another.
    missing : {"error", "exclude"}
        What to do with images that are in the table and not in the folder.

    Raises
    ------
    CohortError
        No table, an unknown diagnosis, a subject with both, a missing file, two files of one image,
        or a file that names another subject.
    ParameterError
        Another value of `conversions` or `missing`, or an unknown modality.
    """
    one_of("modality", modality, scan_files.MODALITIES)
    folder = located(str(folder))
    rows, notes = adni.read(folder, modality, series, conversions, missing)
    table, numbers = _complete(rows, folder)
    return Cohort(
        name=folder.name,
        table=table,
        synthetic=_synthetic(folder),
        modality=modality,
        notes=tuple(notes + numbers),
    )


def from_images(
    images,
    lesion_masks=(),
    name: str = "scans",
    modality: str = "FLAIR",
    *,
    brain_masks=(),
    participants=(),
) -> Cohort:
    """Make a cohort without labels from plain image files.

    It is synthetic if the dataset_description.json of a folder above an image says so.

    Parameters
    ----------
    images, lesion_masks, brain_masks : sequences of path
        One mask of a kind for each image, or no masks of that kind.
    name : str
        Name of the cohort; of a path, its last part.
    modality : str
        Modality of the scans, FLAIR or T1w.
    participants : sequence of str
        The participant_id of each image; by default made of its file name.

    Raises
    ------
    CohortError
        Another number of masks or participants than of images, a missing file, or two images of
        one name.
    ParameterError
        Unknown modality.
    """
    one_of("modality", modality, scan_files.MODALITIES)
    given = {"lesion_masks": lesion_masks, "brain_masks": brain_masks, "participants": participants}
    for parameter, values in given.items():
        _check_count(parameter, values, images)
    rows = []
    for index, image in enumerate(images):
        path = located(image)
        rows.append(
            {
                "participant_id": _participant_of(path, modality),
                "image": tables.existing(path, "parameter images"),
                "lesion_mask": _mask_of(lesion_masks, index, "lesion_masks"),
                "brain_mask": _mask_of(brain_masks, index, "brain_masks"),
            }
        )
    scans = pd.DataFrame(rows)
    notes: list[str] = []
    if participants:
        scans["participant_id"] = participants
    elif rows:
        given = scans["participant_id"]
        scans["participant_id"], notes = identifiers.safe(given, "sub", "parameter images")
    table, _ = _complete(scans, "parameter images")
    synthetic = any(_in_synthetic_folder(Path(path)) for path in table["image"])
    return Cohort(
        name=Path(name).name,
        table=table,
        synthetic=synthetic,
        modality=modality,
        notes=tuple(notes + masks.of_several_people(table)),
    )


def from_bids(folder, modality: str, patients, controls, label_column: str) -> Cohort:
    """Read a BIDS dataset; `open_cohort` has the defaults.

    Scans are sub-*/[ses-*/]anat/*_<modality>.nii[.gz]. Masks lie under derivatives/*/ in the same
    subfolder as *_desc-brain_mask and *_label-lesion_mask. Ages, sites and scanners of visits are
    in sub-*/sub-*_sessions.tsv. For a scan of another modality the FLAIR of the same visit is
    looked up too.

    Parameters
    ----------
    folder : path
        With participants.tsv; a relative path starts at the checkout.
    modality : str
        FLAIR or T1w.
    patients, controls : str or list of str
        The value of `label_column` for a patient and for a control. Several values are a list, or
        one text with commas ("RRMS, SPMS"). Another case is the same value.
    label_column : str
        Column of participants.tsv.

    Raises
    ------
    CohortError
        A missing folder, table, column or scan, a table that cannot be read, a participant twice,
        a scan that names another person or visit than its folder, a folder whose name has neither
        letter nor digit, or a label that is neither. The message names file and column.
    ParameterError
        Unknown modality, or a label column that is no text.
    """
    one_of("modality", modality, scan_files.MODALITIES)
    _check_label_column(label_column)
    folder = located(str(folder))
    rows, notes = bids.read(folder, modality, patients, controls, label_column)
    table, numbers = _complete(rows, bids.participants_table(folder))
    return Cohort(
        name=folder.name,
        table=table,
        synthetic=_synthetic(folder),
        modality=modality,
        notes=tuple(notes + numbers + _unlabelled(rows)),
    )


def _kind(path: Path) -> str:
    """Recognise the kind of a cohort."""
    if path.is_file() or path.suffix.lower() in _TABLE:
        return "table"
    if bids.participants_table(path).is_file():
        return "bids"
    return "adni" if adni.find_tables(path) else "bids"


def _read_yaml(path: Path) -> dict[str, str]:
    """Read and check a cohort's YAML."""
    if not path.is_file():
        mend = "Check the parameter cohort."
        raise CohortError(path, in_place_of_file(path), "a cohort's YAML", mend)
    text_lines = "lines like `path: scans.csv`"
    try:
        # All values are read as text, because `patients: NO` and `controls: 0` name groups.
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except _KeyTwiceError as error:
        raise CohortError(path, str(error), "each key once", "Keep one of the lines.") from error
    except RecursionError as error:
        actual = "no YAML (too many brackets in one another)"
        raise CohortError(path, actual, text_lines, "Mend the line.") from error
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CohortError(path, f"no YAML ({reason})", text_lines, "Mend the line.") from error
    if not isinstance(content, dict):
        content = {}
    keys = _all_keys()
    for key, value in content.items():
        one_of(f"in {path}", key, keys)
        if not _is_text(value, key):
            raise CohortError(
                f"{path}, key {key}", short_texts.value(value), "one text", "Mend the line."
            )
    if not content.get("path"):
        mend = "Name the cohort's folder or table."
        raise CohortError(path, "no path in it", text_lines, mend)
    if content["path"].lower().endswith(_YAML):
        expected = "the path of a folder or a table"
        mend = "Name the folder or table itself."
        raise CohortError(f"{path}, key path", "the path of a YAML", expected, mend)
    return content


class _KeyTwiceError(Exception):
    """A key stands twice in a mapping of YAML."""


class _Loader(yaml.BaseLoader):
    """A reader of YAML that refuses a key that stands there twice: the last one would win."""

    def construct_mapping(self, node, deep=False):
        """Return the mapping of a node whose keys differ."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused by the reader itself
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in lines:
                raise _KeyTwiceError(f"the key {name} in lines {lines[name]} and {line}")
            lines[name] = line
        return super().construct_mapping(node, deep=deep)


def _is_text(value, key: str) -> bool:
    """Return whether a value of a YAML is one text, or a list of texts where that is allowed."""
    texts = value if isinstance(value, list) and key in _LISTS else [value]
    return all(isinstance(text, str) for text in texts)


def _check_label_column(label_column) -> None:
    """Refuse anything but the name of a column."""
    if not isinstance(label_column, str):
        actual = short_texts.value(label_column)
        mend = "Name the column with the groups."
        raise ParameterError("parameter label_column", actual, "the name of one column", mend)


def _all_keys() -> list[str]:
    """Return the keys of all kinds of cohorts, each once, in order."""
    keys = []
    for settings in SETTINGS.values():
        keys += settings
    return list(dict.fromkeys(keys))


def _yaml_source(path: Path, content: dict[str, str]) -> Path:
    """Return the folder or table that a cohort's YAML names."""
    return given_paths.whole(content["path"], path.parent, f"{path}, key path", CohortError)


def _clean_identifiers(rows: pd.DataFrame, path: Path) -> list[str]:
    """Make the identifiers of a table of scans those of BIDS, in place; return what was mended."""
    where = f"{path}, column participant_id"
    rows["participant_id"], notes = identifiers.clean(rows["participant_id"], "sub", where)
    if "session_id" in rows:
        given = rows["session_id"].notna()
        sessions = rows.loc[given, "session_id"]
        where = f"{path}, column session_id"
        rows.loc[given, "session_id"], whole = identifiers.clean(sessions, "ses", where)
        notes += whole
        visits = rows[given]
        identifiers.check_visits(visits["session_id"], visits["participant_id"], where)
    return notes


def _locate_files(rows: pd.DataFrame, path: Path) -> list[str]:
    """Replace the paths in a table of scans by those of existing files; return what was mended."""
    lacking = rows["image"].isna()
    if lacking.any():
        subject = rows.loc[lacking, "participant_id"].iloc[0]
        raise CohortError(
            f"{path}, column image",
            f"no path for {subject}",
            "a scan in each row",
            "Fill it in, or remove the row.",
        )
    notes = []
    for column in FILES:
        if column in rows:
            where = f"{path}, column {column}"
            cells = rows[column]
            rows[column] = [_file_of(cell, path.parent, where) for cell in cells]
            is_of_windows = cells.fillna("").str.contains("\\", regex=False)
            if is_of_windows.any():
                notes.append(f"{path.name}, column {column}: \\ in paths is read as /")
    return notes


def _file_of(cell, folder: Path, where: str) -> Path | None:
    """Return the file that a cell names; None for an empty cell."""
    if pd.isna(cell):
        return None
    path = given_paths.whole(cell, folder, where, CohortError)
    if not path.is_file() and "\\" in cell:
        path = given_paths.whole(cell.replace("\\", "/"), folder, where, CohortError)
    return tables.existing(path, where, start="the table")


def _check_count(parameter: str, values, images) -> None:
    """Refuse a list that has an entry for some of the images only."""
    if values and len(values) != len(images):
        raise CohortError(
            f"parameter {parameter}",
            f"{len(values)} {parameter.replace('_', ' ')}",
            f"{len(images)}, one for each of images",
            "Or give none.",
        )


def _mask_of(masks_of_images, index: int, parameter: str) -> Path | None:
    """Return the existing mask of an image; None where no masks are given."""
    if not masks_of_images:
        return None
    return tables.existing(located(masks_of_images[index]), f"parameter {parameter}")


def _participant_of(path: Path, modality: str) -> str:
    """Return an identifier made of an image's file name."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(f"_{modality}")
    return f"sub-{stem.replace('_', '').replace('-', '')}"


def _unlabelled(rows: pd.DataFrame) -> list[str]:
    """Return a note that counts the participants without a group, or none."""
    count = rows.loc[rows["label"].isna(), "participant_id"].nunique()
    if not count:
        return []
    return [f"{count} participants without a group: prepared, neither trained on nor scored"]


def _unused_masks(rows: pd.DataFrame) -> list[str]:
    """Return a note about lesion masks beside scans of a table that names none for them."""
    used = rows.reindex(columns=["lesion_mask"])["lesion_mask"]
    return masks.beside_scans(rows.loc[used.isna(), "image"], used.dropna())


def _synthetic(folder: Path) -> bool:
    """Return whether a folder's dataset_description.json says that the data are simulated."""
    path = folder / "dataset_description.json"
    if not path.exists():
        return False
    mend = "Mend or remove it."
    if not path.is_file():
        raise CohortError(path, in_place_of_file(path), "a JSON object", mend)
    try:
        text = path.read_text(encoding="utf-8-sig")
        description = json.loads(text, object_pairs_hook=_with_keys_once)
        synthetic = description.get("Synthetic", False)
    except (ValueError, AttributeError) as error:  # not JSON, or not an object
        actual = f"no description ({error})"
        raise CohortError(path, actual, "a JSON object", mend) from error
    except RecursionError as error:
        actual = "no description (too many brackets in one another)"
        raise CohortError(path, actual, "a JSON object", mend) from error
    if type(synthetic) is not bool:
        # "false" is a text, and would count as true.
        raise CohortError(
            f"{path}, key Synthetic",
            json.dumps(synthetic),
            "true (the data are simulated) or false, without quotes",
            "Mend the value, or remove the key from real data.",
        )
    return synthetic


def _with_keys_once(pairs: list[tuple]) -> dict:
    """Return an object of JSON; refuse one that says twice whether the data are simulated."""
    content = dict(pairs)
    if [key for key, _ in pairs].count("Synthetic") > 1:
        raise ValueError("the key Synthetic twice")
    return content


def _in_synthetic_folder(image: Path) -> bool:
    """Return whether a scan lies in a dataset, at any depth, that says that it is simulated."""
    for folder in image.absolute().parents:
        try:
            if _synthetic(folder):
                return True
        except (CohortError, OSError):  # a broken or closed file of another project
            continue
    return False


def _complete(table: pd.DataFrame, where) -> tuple[pd.DataFrame, list[str]]:
    """Return all columns, in order, with their types, and what was mended."""
    scan = [column for column in ("participant_id", "session_id") if column in table]
    repeated = table.loc[table.duplicated(scan), "participant_id"]
    if len(repeated):
        raise CohortError(
            where,
            f"two scans of {repeated.iloc[0]}",
            "each scan once",
            "Remove one, or distinguish the visits by their sessions.",
        )
    table = table.reindex(columns=COLUMNS)
    table["session_id"] = table["session_id"].fillna("")
    table["label"] = table["label"].astype("Int64")
    notes = []
    for column in ("age", "edss"):
        table[column], mended = tables.numbers(table[column], column, where)
        notes += mended
    for column in ("sex", "site", "scanner"):
        name = f"{Path(where).name}, column {column}"
        table[column], mended = tables.categories(table[column], name)
        notes += mended
    for column in FILES:
        table[column] = [None if pd.isna(path) else str(path) for path in table[column]]
    return table.sort_values(["participant_id", "session_id"], ignore_index=True), notes

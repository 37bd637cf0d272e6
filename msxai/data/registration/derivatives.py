"""Registrations as BIDS derivatives: written, and read again where they still hold."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from msxai.base import provenance
from msxai.base.errors import RegistrationError
from msxai.data import images
from msxai.data.registration import registration
from msxai.data.registration.alignment import LPS
from msxai.data.registration.registration import Registration, parameters_of


def registered(
    source, folder, entities: str, *, modality: str, brain=None, partner=None, mode: str = "auto"
) -> Registration:
    """A scan's registration: read where an earlier run has kept it for these very files and parameters, else made and kept.

    Parameters
    ----------
    source : path
        The scan.
    folder, entities
        Where it is kept; see `save`.
    brain : path, optional
        The scan's own brain mask.
    modality, partner, mode
        See `msxai.data.registration.registration.register`.

    Raises
    ------
    ParameterError, ImageError, RegistrationError
        The latter two name the file.
    """
    image, mask = images.load(source), None if brain is None else images.load(brain)
    sources = [Path(path) for path in (source, brain) if path is not None]
    known = load(
        folder, entities, image, parameters_of(modality, mode, mask, partner), sources=sources
    )
    if known is not None:
        return known
    try:
        found = registration.register(
            image, modality=modality, brain=mask, partner=partner, mode=mode
        )
    except RegistrationError as error:
        where = brain if error.where == "brain mask" else source
        raise RegistrationError(where, error.found, error.expected, error.mend) from error
    save(found, folder, entities, sources=sources)
    return found


def save(registration: Registration, folder, entities: str, *, sources=()) -> Path:
    """Write a registration as BIDS derivatives, its record last.

    Parameters
    ----------
    registration : Registration
    folder : path
        ``derivatives/<pipeline>/sub-.../[ses-.../]anat``.
    entities : str
        How the files' names begin: ``sub-01[_ses-01]``.
    sources : iterable of path
        Files that it was made from, for their hashes.

    Returns
    -------
    pathlib.Path
        The record (JSON). The image is written only where it is no longer the source's.
    """
    modality = registration.record["parameters"]["modality"]
    image, mask, transform, record = _paths(folder, entities, modality)
    record.unlink(missing_ok=True)
    files = {mask: registration.brain} | (
        {image: registration.image} if registration.route == "full" else {}
    )
    for path, content in files.items():
        with provenance.replacing(path) as draft:
            nib.save(content, draft)
    with provenance.replacing(transform) as draft:
        draft.write_text(_itk(registration.matrix), encoding="ascii")
    about = {key: value for key, value in registration.record.items() if key != "parameters"}
    about |= {"route": registration.route, "matrix": registration.matrix.tolist()}
    provenance.write_json(
        record,
        provenance.record(
            registration.record["parameters"], sources, [*files, transform], **about
        ),
    )
    return record


def load(folder, entities: str, image, parameters: dict, *, sources=()) -> Registration | None:
    """Read what `save` has written; None where it is missing, unfinished, changed since, of other sources or other parameters.

    Parameters
    ----------
    folder, entities, sources
        As in `save`.
    image : nibabel.Nifti1Image
        The source scan.
    parameters : dict
        What `msxai.data.registration.registration.parameters_of` gives for this call.
    """
    changed, mask, transform, path = _paths(folder, entities, parameters["modality"])
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = [mask, transform, *([changed] if record["route"] == "full" else [])]
        current = (
            record["parameters"] == json.loads(json.dumps(parameters))
            and record["inputs"]
            == {provenance.relative(source): provenance.sha256(source) for source in sources}
            and record["outputs"]
            == {provenance.relative(file): provenance.sha256(file) for file in files}
        )
    except (OSError, ValueError, KeyError):
        return None
    if not current:
        return None
    whole = images.load(changed) if record["route"] == "full" else image
    brain = nib.load(mask)
    return Registration(record["route"], whole, brain, np.array(record["matrix"]), record)


def describe(folder, cohort: str, synthetic: bool) -> None:
    """Write the dataset_description.json of a folder of registrations, which makes it a BIDS derivative."""
    provenance.write_json(
        Path(folder) / "dataset_description.json",
        {
            "Name": f"Registrations of {cohort} to MNI152",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "Synthetic": bool(synthetic),
            "GeneratedBy": [
                {"Name": "msxai.data.registration.registration", "Version": provenance.__version__}
            ],
        },
    )


def _paths(folder, entities: str, modality: str) -> tuple[Path, Path, Path, Path]:
    """Image, brain mask, transform and record."""
    stem = f"{folder}/{entities}"
    transform = f"{stem}_from-{modality}_to-MNI152_mode-image_xfm"
    return (
        Path(f"{stem}_desc-preproc_{modality}.nii.gz"),
        Path(f"{stem}_space-{modality}_desc-brain_mask.nii.gz"),
        Path(f"{transform}.txt"),
        Path(f"{transform}.json"),
    )


def _itk(matrix) -> str:
    """The text file that ANTs and ITK-SNAP read: where a point of MNI152 lies in the scan, in LPS."""
    turned = LPS @ np.linalg.inv(matrix) @ LPS
    numbers = " ".join(f"{value:.9g}" for value in [*turned[:3, :3].ravel(), *turned[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )

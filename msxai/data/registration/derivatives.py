"""Registrations as BIDS derivatives: written, and read again where they still hold."""

import json
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from msxai.base import json_files, provenance
from msxai.base.errors import RegistrationError
from msxai.data import images
from msxai.data.registration import registration
from msxai.data.registration.alignment import LPS
from msxai.data.registration.registration import Registration, parameters_of

__all__ = ["describe", "load", "registered", "save"]


def registered(
    source, folder, entities: str, *, modality: str, brain=None, partner=None, mode: str = "auto"
) -> Registration:
    """Return a scan's registration, from an earlier run where it still holds.

    It holds for the same files and the same parameters. Otherwise it is made and written.

    Parameters
    ----------
    source : path
        The scan.
    folder, entities
        Where it is written; see `save`.
    brain : path, optional
        The scan's own brain mask.
    modality, partner, mode
        See `msxai.data.registration.registration.register`.

    Raises
    ------
    ParameterError, ImageError, RegistrationError
        The latter two name the file.
    """
    image = images.load(source)
    mask = None if brain is None else images.load_mask(brain, image, brain=True)
    sources = [Path(path) for path in (source, brain) if path is not None]
    parameters = parameters_of(modality, mode, mask, partner)
    earlier = load(folder, entities, image, parameters, sources=sources)
    if earlier is not None:
        return earlier
    try:
        result = registration.register(
            image, modality=modality, brain=mask, partner=partner, mode=mode
        )
    except RegistrationError as error:
        path = brain if error.where == "brain mask" else source
        raise RegistrationError(path, error.found, error.expected, error.mend) from error
    save(result, folder, entities, sources=sources)
    return result


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
    parameters = registration.record["parameters"]
    paths = _paths(folder, entities, parameters["modality"])
    paths.record.unlink(missing_ok=True)
    files = {paths.mask: registration.brain}
    if registration.route == "full":
        files[paths.image] = registration.image
    for path, content in files.items():
        with provenance.replacing(path) as draft:
            nib.save(content, draft)
    with provenance.replacing(paths.transform) as draft:
        draft.write_text(_itk(registration.matrix), encoding="ascii")
    details = dict(registration.record)
    del details["parameters"]
    details["route"] = registration.route
    details["matrix"] = registration.matrix.tolist()
    outputs = [*files, paths.transform]
    record = provenance.record(parameters, sources, outputs, **details)
    provenance.write_json(paths.record, record)
    return paths.record


def load(folder, entities: str, image, parameters: dict, *, sources=()) -> Registration | None:
    """Read what `save` has written.

    Parameters
    ----------
    folder, entities, sources
        As in `save`.
    image : nibabel.Nifti1Image
        The source scan.
    parameters : dict
        From `msxai.data.registration.registration.parameters_of`, for this call.

    Returns
    -------
    Registration or None
        None where the registration is missing, unfinished, changed since, of other sources or of
        other parameters.
    """
    paths = _paths(folder, entities, parameters["modality"])
    record = json_files.read_or_empty(paths.record)
    try:
        matrix = np.array(record["matrix"], float)
        outputs = [paths.mask, paths.transform]
        if record["route"] == "full":
            outputs.append(paths.image)
        same_parameters = record["parameters"] == json.loads(json.dumps(parameters))
        same_inputs = record["inputs"] == _hashes(sources)
        same_outputs = record["outputs"] == _hashes(outputs)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    is_transform = matrix.shape == (4, 4) and np.isfinite(matrix).all()
    if record["route"] not in ("resampled", "affine", "full"):
        return None
    if not (is_transform and same_parameters and same_inputs and same_outputs):
        return None
    return Registration(
        route=record["route"],
        image=images.load(paths.image) if record["route"] == "full" else image,
        brain=nib.load(paths.mask),
        matrix=matrix,
        record=record,
    )


def describe(folder, cohort: str, synthetic: bool) -> None:
    """Write dataset_description.json, which makes a folder of registrations a BIDS derivative."""
    generator = {"Name": "msxai.data.registration.registration", "Version": provenance.__version__}
    description = {
        "Name": f"Registrations of {cohort} to MNI152",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "Synthetic": bool(synthetic),
        "GeneratedBy": [generator],
    }
    provenance.write_json(Path(folder) / "dataset_description.json", description)


class _Paths(NamedTuple):
    """Files of one registration."""

    image: Path
    mask: Path
    transform: Path
    record: Path


def _paths(folder, entities: str, modality: str) -> _Paths:
    """Return the files of one registration."""
    stem = f"{folder}/{entities}"
    transform = f"{stem}_from-{modality}_to-MNI152_mode-image_xfm"
    return _Paths(
        image=Path(f"{stem}_desc-preproc_{modality}.nii.gz"),
        mask=Path(f"{stem}_space-{modality}_desc-brain_mask.nii.gz"),
        transform=Path(f"{transform}.txt"),
        record=Path(f"{transform}.json"),
    )


def _hashes(paths) -> dict:
    """Return the SHA-256 of files, as a record has them."""
    return {provenance.relative(path): provenance.sha256(path) for path in paths}


def _itk(matrix) -> str:
    """Return the text that ANTs and ITK-SNAP read: from MNI152 points to the scan's, in LPS."""
    turned = LPS @ np.linalg.inv(matrix) @ LPS
    values = [*turned[:3, :3].ravel(), *turned[:3, 3]]
    numbers = " ".join(f"{value:.9g}" for value in values)
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )

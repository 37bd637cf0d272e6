"""Files of simulated patients, for the benchmarks of `msxai explain`."""

from pathlib import Path

import nibabel as nib
import numpy as np

from msxai.data import images
from msxai.data.synthetic import subject


def patient(seed: int, number: int, **keywords) -> subject.Subject:
    """Simulate a patient; the same numbers give the same person.

    Keywords are those of `msxai.data.synthetic.subject.simulate`.
    """
    return subject.simulate("ms", "MS", [seed, number], [seed, number, 1], **keywords)


def write(path: Path, values: np.ndarray, affine=images.AFFINE) -> str:
    """Write a scan (float) or a mask (bool) in MNI152 space; return the path as text."""
    file_type = "uint8" if values.dtype == bool else "float32"
    image = nib.Nifti1Image(values.astype(file_type), affine)
    image.set_sform(affine, code=4)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return str(path)

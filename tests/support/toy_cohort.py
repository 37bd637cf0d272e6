"""Six subjects made by hand on the model's grid."""

import nibabel as nib
import numpy as np
import pandas as pd

from msxai.data import images
from msxai.data.prepared import Prepared


class Toy:
    """Six subjects on the model's grid; patients' lesions are larger."""

    name, synthetic, affine, parameters = "toy", True, images.AFFINE, {"filling": "noise"}
    lesion_volumes = Prepared.lesion_volumes

    def __init__(self, folder, masks=True):
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(6, *images.SHAPE)).astype("float32")
        self.volumes = np.array([1, 100, 2, 200, 3, 300])
        self.has_lesions = np.full(6, masks)
        columns = {
            "participant_id": [f"sub-{number}" for number in range(6)],
            "session_id": "",
            "label": pd.array([0, 1] * 3, "Int64"),
            "group": ["HC", "MS"] * 3,
            "part": ["training"] * 4 + ["holdout"] * 2,
            "source_sha256": "0",
            "image": [str(folder / f"scan{number}.nii.gz") for number in range(6)],
            "registration": '{"route": "resampled", "flags": []}',
        }
        self.table = pd.DataFrame(columns)
        for path in self.table["image"]:
            image = nib.Nifti1Image(
                rng.normal(size=(10, 12, 14)).astype("float32"), np.diag([-9.0, 9, 9, 1])
            )
            image.set_sform(image.affine, 4)
            nib.save(image, path)

    def rows(self, part):
        if part == "all":
            return np.arange(6)
        return np.flatnonzero(self.table["part"] == part)

    def image(self, row):
        return self.images[row]

    def brain(self, row):
        return np.ones(images.SHAPE, bool)

    def lesions(self, row):
        mask = np.zeros(images.SHAPE, bool)
        mask.ravel()[: self.volumes[row]] = True
        return mask

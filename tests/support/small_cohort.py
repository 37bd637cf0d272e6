"""Five small scans made by hand."""

import numpy as np
import pandas as pd

from msxai.data import images


class Cohort:
    """As much of `msxai.data.prepared.Prepared` as is used, with a small brain.

    All scans but the last have a bright lesion; the rows `known` have a mask.
    """

    name, synthetic = "by hand", True

    def __init__(self, known=(0, 1, 2, 3, 4), label=(1, 1, 1, 0, 0)):
        rng = np.random.default_rng(0)
        self.inside = np.zeros(images.SHAPE, bool)
        self.inside[30:62, 40:72, 30:60] = True
        self.masks = np.zeros((5, *images.SHAPE), bool)
        for row in range(4):
            self.masks[row, 40 : 43 + row, 50:54, 40:44] = True
        self.images = np.where(
            self.inside, rng.normal(size=self.masks.shape) + 6 * self.masks, 0
        ).astype("float32")
        self.has_lesions = np.isin(np.arange(5), known)
        self.masks[~self.has_lesions] = False
        names = [f"sub-{row}" for row in range(5)]
        self.table = pd.DataFrame(
            {"participant_id": names, "session_id": "", "label": pd.array(label, "Int64")}
        )
        self.parts = {"training": [0, 3], "validation": [1, 2], "holdout": [1, 2, 3, 4]}
        self.image, self.lesions, self.brain = (
            self.images.__getitem__,
            self.masks.__getitem__,
            lambda row: self.inside,
        )

    def rows(self, part):
        return np.array(self.parts[part])

"""Five small scans made by hand."""

import numpy as np
import pandas as pd

from msxai.data import images


class Cohort:
    """As much of `msxai.data.prepared.Prepared` as is used, with a small brain.

    All scans but the last have a bright lesion; the rows `known` have a mask. A smaller `shape`
    takes the end of each axis away; the brain begins at `corner`.
    """

    name, synthetic = "by hand", True

    def __init__(
        self,
        known=(0, 1, 2, 3, 4),
        label=(1, 1, 1, 0, 0),
        shape=images.SHAPE,
        corner=(30, 40, 30),
    ):
        rng = np.random.default_rng(0)
        x, y, z = corner
        self.inside = np.zeros(shape, bool)
        self.inside[x : x + 32, y : y + 32, z : z + 30] = True
        self.masks = np.zeros((5, *shape), bool)
        x, y, z = np.add(corner, 10)
        for row in range(4):
            self.masks[row, x : x + 3 + row, y : y + 4, z : z + 4] = True
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

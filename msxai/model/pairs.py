"""Training beside counterfactuals: each patient's scan next to the same scan with its lesions filled.

Labels say who is a patient and not why; two persons differ in thousands of voxels, a scan and its filled version in the lesions alone. So
a batch holds a patient, the same patient filled (which counts as a control: nothing of the disease is left to be seen), another patient,
and a control, half of the time one that is filled at the sites of a patient's lesions (`msxai.data.filled_cohort`), or the fill itself would tell
the classes apart. Besides the usual cross-entropy the loss asks that a scan's logit lies above that of its filled version (the logistic
loss of a pair; Burges et al. 2005, doi:10.1145/1102351.1102363). Counterfactual pairs for training: Kaushik et al. 2020, arXiv:1909.12434.

The lesion masks of the training part are used, by way of the fill; those of other parts are not read.
"""

import keras
import numpy as np
from keras import ops

from msxai.base.errors import CohortError, ParameterError
from msxai.model.training import Volumes, augment

ORDER = ("patient", "the same, filled", "another patient", "control")  # in a batch


class Pairs(Volumes):
    """Batches of four scans, in the order of `ORDER`; each epoch has every patient twice.

    Parameters
    ----------
    prepared, filled : msxai.data.prepared.Prepared
        A cohort and the same with its lesions filled, row by row the same scans.
    rows : sequence of int
        Which scans.
    seed : int
        Of order and augmentation, which a scan and its filled version share.
    augmentation : bool
        See `msxai.model.training.Volumes`.

    Raises
    ------
    ParameterError
        `prepared` is filled itself.
    CohortError
        They are not of the same scans, or one group is missing.
    """

    def __init__(self, prepared, filled, rows, seed: int, augmentation: bool = False):
        own = prepared.parameters.get("filling", "none")
        if own != "none" or prepared.path == filled.path:
            mend = "Leave filling at none, or beside."
            raise ParameterError(
                "parameters filling and beside",
                f"scans filled by {own}",
                "untouched scans beside filled ones",
                mend,
            )
        names = [
            list(one.table[["participant_id", "session_id"]].itertuples(index=False, name=None))
            for one in (prepared, filled)
        ]
        if names[0] != names[1]:
            found = f"{len(names[1])} scans, of which {len(set(names[0]) & set(names[1]))} are among the {len(names[0])} untouched ones"
            raise CohortError(
                f"{filled.name}, filled",
                found,
                "the same scans in the same order",
                "Run 01b_lesion_filling again.",
            )
        self.filled = filled
        labels = prepared.table["label"].to_numpy("float32", na_value=np.nan)[rows]
        self.groups = [np.asarray(rows)[labels == label] for label in (1, 0)]
        if not all(map(len, self.groups)):
            found = f"{len(self.groups[0])} patients and {len(self.groups[1])} controls"
            raise CohortError(
                f"{prepared.name}, training part",
                found,
                "both groups",
                "Prepare the cohort with more subjects.",
            )
        super().__init__(prepared, rows, len(ORDER), seed, augmentation)

    def __len__(self):
        return len(self.groups[0])

    def _shuffle(self):
        rng = np.random.default_rng([self.seed, self.epoch])
        patients, controls = self.groups
        others = np.resize(
            rng.permutation([2 * row + filled for row in controls for filled in (0, 1)]),
            len(patients),
        )
        self.order = np.stack(
            [
                2 * (first := rng.permutation(patients)),
                2 * first + 1,
                2 * rng.permutation(patients),
                others,
            ],
            axis=1,
        )

    def __getitem__(self, index):
        volumes = [self._scan(int(code), index) for code in self.order[index]]
        return np.stack(volumes)[..., None], np.array([[1], [0], [1], [0]], "float32")

    def _scan(self, code: int, index: int):
        """Scan of row `code` // 2, filled where `code` is odd."""
        row = code // 2
        volume = (self.filled if code % 2 else self.prepared).image(row)
        return (
            augment(volume, np.random.default_rng([self.seed, self.epoch, index, row]))
            if self.augmentation
            else volume
        )


def loss(labels, logits):
    """Cross-entropy of a batch of `Pairs`, half its weight, and the logistic loss of its pair.

    Parameters
    ----------
    labels, logits : array of shape (4, 1); for other sizes (validation) the value has no meaning
    """
    return ops.sum(ops.softplus(logits[1:2] - logits[:1])) + 0.5 * keras.losses.BinaryCrossentropy(
        from_logits=True
    )(labels, logits)


def options(prepared, filled, seed: int, augmentation: bool) -> dict:
    """What `msxai.model.training.fit` takes for a training in pairs on the training part; nothing where `filled` is None."""
    return (
        {
            "batches": Pairs(prepared, filled, prepared.rows("training"), seed, augmentation),
            "loss": loss,
        }
        if filled
        else {}
    )

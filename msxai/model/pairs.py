"""Training in counterfactual pairs: each patient's scan and the same scan with its lesions filled.

Labels say who is a patient and not why; two persons differ in thousands of voxels, a scan and its
filled version in the lesions alone. So a batch holds four scans:

1. a patient;
2. the same patient with lesions filled, which counts as a control because no sign of the disease
   is left;
3. another patient;
4. a control, half of the time filled at the sites of a patient's lesions
   (`msxai.data.filled_cohort`). Otherwise the fill itself would distinguish the classes.

Besides the cross-entropy the loss asks that a scan's logit lies above that of its filled version:
the logistic loss of a pair (Burges et al. 2005, doi:10.1145/1102351.1102363). Counterfactual pairs
for training: Kaushik et al. 2020, arXiv:1909.12434.

The lesion masks of the training part are used, through the fill; those of other parts are not read.

A cohort of patients without controls can be trained on, too (`Beside`): each patient's scan stands
beside the same scan with its lesions filled, and nothing else. What is learnt is whether a brain
has lesions. No diagnosis can be learnt from patients alone. So that the fill itself says nothing,
half of the scans with lesions have sham sites filled. The masks of the validation part are used,
too.
"""

import keras
import numpy as np
from keras import ops

from msxai.base.errors import CohortError, ParameterError
from msxai.data import images, lesion_filling
from msxai.model import tasks
from msxai.model.acquisition import rescanned
from msxai.model.augmentation import augment
from msxai.model.training import Epochs, Volumes

__all__ = ["ORDER", "Beside", "Pairs", "loss", "options"]

ORDER = ("patient", "the same, filled", "another patient", "control")
"""The four scans of a batch."""

_LABELS = np.array([[1], [0], [1], [0]], "float32")  # in `ORDER`
_SHAM = 1  # sets the draw of sham filling apart from that of augmentation
_UNTOUCHED = 0.5  # share of scans with lesions that are shown as they are


class Pairs(Volumes):
    """Batches of four scans in the order of `ORDER`; each epoch has every patient twice.

    Parameters
    ----------
    prepared, filled : msxai.data.prepared.Prepared
        A cohort and the same with its lesions filled, row by row the same scans.
    rows : sequence of int
        Which scans.
    seed : int
        Of order and augmentation, which a scan and its filled version share.
    augmentation, realism : str
        See `msxai.model.training.Volumes`.

    Raises
    ------
    ParameterError
        `prepared` is filled itself.
    CohortError
        They are not of the same scans, or one group is missing.
    """

    def __init__(
        self,
        prepared,
        filled,
        rows,
        seed: int,
        augmentation: str = "none",
        realism: str = "plain",
    ):
        _require_untouched(prepared, filled)
        _require_same_scans(prepared, filled)
        self.filled = filled
        rows = np.asarray(rows)
        labels = prepared.table["label"].to_numpy("float32", na_value=np.nan)[rows]
        self.patients = rows[labels == 1]
        self.controls = rows[labels == 0]
        if len(self.patients) == 0 or len(self.controls) == 0:
            raise CohortError(
                f"{prepared.name}, training part",
                f"{len(self.patients)} patients and {len(self.controls)} controls",
                "both groups",
                "Prepare the cohort with more subjects.",
            )
        super().__init__(prepared, rows, len(ORDER), seed, augmentation, realism)

    def __len__(self):
        return len(self.patients)

    def _shuffle(self):
        """Draw an epoch: `order` has a row a batch, of codes 2 * row, plus 1 where filled."""
        rng = np.random.default_rng([self.seed, self.epoch])
        control_codes = []
        for row in self.controls:
            control_codes += [2 * row, 2 * row + 1]
        drawn_controls = rng.permutation(control_codes)
        first_patients = rng.permutation(self.patients)
        other_patients = rng.permutation(self.patients)
        columns = [
            2 * first_patients,
            2 * first_patients + 1,
            2 * other_patients,
            np.resize(drawn_controls, len(self.patients)),
        ]
        self.order = np.stack(columns, axis=1)

    def __getitem__(self, index):
        volumes = [self._scan(int(code), index) for code in self.order[index]]
        return np.stack(volumes)[..., None], _LABELS.copy()

    def _scan(self, code: int, index: int):
        """Return the scan of row `code` // 2, filled where `code` is odd."""
        row = code // 2
        source = self.filled if code % 2 else self.prepared
        volume = source.image(row)
        rng = np.random.default_rng([self.seed, self.epoch, index, row])
        return augment(rescanned(volume, rng, self.realism), rng, self.augmentation)


class Beside(Epochs):
    """Batches of patients alone: each scan, and after it the same scan with its lesions filled.

    Scans with sham sites filled are held in memory, 2 MB each.

    Parameters
    ----------
    prepared, filled : msxai.data.prepared.Prepared
        As for `Pairs`; no control is needed.
    rows : sequence of int
        Which scans, all with a lesion.
    seed : int, optional
        Of order, augmentation, and of which scans have sham sites filled. Without it, as for
        validation, all have: the fill alone cannot distinguish the two scans then.
    augmentation, realism : str
        See `msxai.model.training.Volumes`.

    Raises
    ------
    ParameterError
        `prepared` is filled itself.
    CohortError
        They are not of the same scans.
    """

    def __init__(
        self,
        prepared,
        filled,
        rows,
        seed: int | None = None,
        augmentation: str = "none",
        realism: str = "plain",
    ):
        _require_untouched(prepared, filled)
        _require_same_scans(prepared, filled)
        super().__init__(rows, len(ORDER) // 2, seed, augmentation, realism)
        self.prepared = prepared
        self.filled = filled
        self._sham_scans = {}

    def __getitem__(self, index):
        scans = []
        for row in self.batch_rows(index):
            scans.append(self.varied(self._with_lesions(row), row))
            scans.append(self.varied(self.filled.image(row), row))
        labels = np.resize(_LABELS, (len(scans), 1))
        return np.stack(scans)[..., None], labels

    def _with_lesions(self, row: int) -> np.ndarray:
        """Return a scan with its lesions: as it is, or with sham sites filled."""
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, self.epoch, row, _SHAM])
            if rng.random() < _UNTOUCHED:
                return self.prepared.image(row)
        return self._sham(row)

    def _sham(self, row: int) -> np.ndarray:
        """Return a scan with sham sites filled; it is filled once."""
        if row not in self._sham_scans:
            how = self.filled.parameters.get("filling", "noise")
            values = lesion_filling.Filler(how, "sham").prepared_scan(self.prepared, row)
            brain = self.prepared.brain(row)
            normalised = images.normalise(values, brain, self.prepared.normalisation)
            self._sham_scans[row] = normalised.astype("float16")
        return self._sham_scans[row].astype("float32")


def _with_lesions(prepared, filled, part: str) -> list[int]:
    """Return the scans of a part that could be filled and have a lesion."""
    rows = np.intersect1d(prepared.rows(part), filled.rows(part))
    lesioned = [int(row) for row in rows if prepared.lesions(row).any()]
    if not lesioned:
        raise CohortError(
            f"{prepared.name}, {part} part",
            "no scan with a lesion in its mask",
            "a patient with lesions in the training part and in the validation part",
            "Give lesion masks, or another share of validation (01_data_preparation).",
        )
    return lesioned


def _require_untouched(prepared, filled) -> None:
    """Refuse a cohort that is filled itself."""
    filling = prepared.parameters.get("filling", "none")
    if filling != "none" or prepared.path == filled.path:
        raise ParameterError(
            "parameters filling and counterfactual_pairs",
            f"scans filled by {filling}",
            "untouched scans, each with its filled version",
            "Leave filling or counterfactual_pairs at none.",
        )


def _require_same_scans(prepared, filled) -> None:
    """Refuse two cohorts whose rows are not the same scans."""
    own = _scan_names(prepared)
    filled_names = _scan_names(filled)
    if own != filled_names:
        shared = set(own) & set(filled_names)
        raise CohortError(
            f"{filled.name}, filled",
            f"{len(filled_names)} scans, of which {len(shared)} are among the {len(own)} untouched"
            " ones",
            "the same scans in the same order",
            "Run 01b_lesion_filling again.",
        )


def _scan_names(prepared) -> list[tuple]:
    table = prepared.table[["participant_id", "session_id"]]
    return list(table.itertuples(index=False, name=None))


def loss(labels, logits):
    """Cross-entropy of a batch of `Pairs`, half its weight, and the logistic loss of its pair.

    Parameters
    ----------
    labels, logits : array of shape (4, 1)
        For other sizes (validation) the value has no meaning.
    """
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
    pair = ops.sum(ops.softplus(logits[1:2] - logits[:1]))
    return pair + 0.5 * cross_entropy


def options(prepared, filled, seed: int, augmentation: str, realism: str = "plain") -> dict:
    """Return what `msxai.model.training.fit` takes for a training in pairs on the training part.

    Empty where `filled` is None: a training on labels alone. Scans that could not be filled are
    left out. Without any control in the cohort, patients are trained on alone (`Beside`), and the
    validation part is shown in the same way.
    """
    if filled is None:
        return {}
    if not prepared.table["label"].eq(0).any():
        rows = _with_lesions(prepared, filled, "training")
        validation = _with_lesions(prepared, filled, "validation")
        return {
            "batches": Beside(prepared, filled, rows, seed, augmentation, realism),
            "validation": Beside(prepared, filled, validation),
            "loss": tasks.lesion_loss,
        }
    rows = np.intersect1d(prepared.rows("training"), filled.rows("training"))
    batches = Pairs(prepared, filled, rows, seed, augmentation, realism)
    return {"batches": batches, "loss": loss}

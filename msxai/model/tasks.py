"""What a network can be pre-trained for: a diagnosis, lesions, or the volume of lesions.

- "diagnosis": the labels of a cohort, as in the paper (`msxai.model.training.Volumes`).
- "lesions": which of two scans of one brain has lesions. Besides the cross-entropy, the loss asks
  that the logit of the scan with lesions lies above that of the other one: the logistic loss of a
  pair (Burges et al. 2005, doi:10.1145/1102351.1102363).
- "volume": the logarithm of the lesion volume, by the squared error.

The last two see simulated pairs alone (`msxai.data.synthetic.simulated_pairs`) and no cohort. That
the task of pre-training decides what explanations show, at equal accuracy, is a finding of Oliveira
et al. 2024, arXiv:2306.12150.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import pandas as pd
from keras import ops

from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data.synthetic.simulated_pairs import WITH, WITHOUT
from msxai.model import seen_scans, training

__all__ = [
    "SIMULATED",
    "TASKS",
    "PairBatches",
    "Source",
    "check",
    "lesion_loss",
    "of_cohort",
    "of_pairs",
    "parts",
    "target",
]

SIMULATED = ("lesions", "volume")
"""Tasks that are learnt from simulated pairs."""

TASKS = ("diagnosis", *SIMULATED)

_SMALLEST = 0.1  # ml: added to volumes before the logarithm is taken
_MM3_A_ML = 1000
_VALIDATION = 0.15  # share of the pairs


class PairBatches(training.Epochs):
    """Batches of brains, each with its lesions and without: the two scans follow each other.

    Parameters
    ----------
    pairs : msxai.data.synthetic.simulated_pairs.SimulatedPairs
    rows : sequence of int
        Which pairs.
    batch_size : int
        Scans a batch, an even number.
    task : str
        One of `SIMULATED`: decides the targets.
    seed, augmentation, realism
        As for `msxai.model.training.Epochs`. The same changes are drawn for both scans of a pair.
        Each scan is then normalised by its own mean and standard deviation.

    Raises
    ------
    ParameterError
        Another task, or an odd batch size.
    """

    def __init__(
        self,
        pairs,
        rows,
        batch_size: int,
        *,
        task: str = "lesions",
        seed: int | None = None,
        augmentation: str = "none",
        realism: str = "plain",
    ):
        one_of("task", task, SIMULATED)
        if batch_size < 2 or batch_size % 2:
            raise ParameterError(
                "parameter batch_size",
                f"{batch_size}",
                "an even number, for two scans of each brain",
                "Mend the number.",
            )
        super().__init__(rows, batch_size // 2, seed, augmentation, realism)
        self.pairs = pairs
        self.task = task

    def __getitem__(self, index):
        scans = []
        targets = []
        for row in self.batch_rows(index):
            for which in (WITH, WITHOUT):
                scans.append(self.varied(self.pairs.scan(row, which), row))
                volume = self.pairs.volumes[row] if which == WITH else 0.0
                targets.append(target(self.task, volume))
        return np.stack(scans)[..., None], np.array(targets, "float32")[:, None]


def check(task: str, normalisation: str) -> None:
    """Refuse an unknown task, and a normalisation that the simulated scans do not have.

    Raises
    ------
    ParameterError
    """
    one_of("task", task, TASKS)
    if task in SIMULATED:
        one_of("normalisation", normalisation, ["zscore"])


@dataclass(frozen=True)
class Source:
    """What a pre-training learns from.

    Attributes
    ----------
    task : str
        One of `TASKS`.
    scans : pandas.DataFrame
        Number of scans and of subjects by part and group.
    seen : pandas.DataFrame
        As `msxai.model.seen_scans.of_cohort`.
    example : ndarray of shape (X, Y, Z)
        The first scan of the training part.
    target : float
        What the network is to say of it.
    batches : callable
        ``batches(part, settings)`` of "training" or "validation".
    loss : callable or None
        None: the cross-entropy.
    has_labels : bool
        Whether targets are labels.
    synthetic : bool
    """

    task: str
    scans: pd.DataFrame
    seen: pd.DataFrame
    example: np.ndarray
    target: float
    batches: Callable
    loss: Callable | None
    has_labels: bool
    synthetic: bool


def of_cohort(prepared) -> Source:
    """Learn the diagnosis in a prepared cohort.

    Raises
    ------
    CohortError
        The training or the validation part lacks one of the two groups.
    """
    for part in ("training", "validation"):
        training.require_both_groups(prepared, part)
    by_part = prepared.table.groupby(["part", "group"])["participant_id"]
    first = prepared.rows("training")[0]

    return Source(
        task="diagnosis",
        scans=by_part.agg(scans="size", subjects="nunique"),
        seen=seen_scans.of_cohort(prepared),
        example=prepared.image(first),
        target=float(prepared.table["label"][first]),
        batches=partial(training.batches_of, prepared),
        loss=None,
        has_labels=True,
        synthetic=prepared.synthetic,
    )


def of_pairs(pairs, task: str) -> Source:
    """Learn lesions, or their volume, from simulated pairs.

    Parameters
    ----------
    pairs : msxai.data.synthetic.simulated_pairs.SimulatedPairs
    task : str
        One of `SIMULATED`.

    Raises
    ------
    ParameterError
        Another task.
    """
    one_of("task", task, SIMULATED)
    members = parts(len(pairs))
    counts = {part: [2 * len(rows), len(rows)] for part, rows in members.items()}
    scans = pd.DataFrame.from_dict(counts, orient="index", columns=["scans", "subjects"])

    def batches(part: str, settings: training.Settings):
        if part == "validation":
            return PairBatches(pairs, members[part], settings.batch_size, task=task)
        return PairBatches(
            pairs,
            members[part],
            settings.batch_size,
            task=task,
            seed=settings.seed,
            augmentation=settings.augmentation,
            realism=settings.realism,
        )

    return Source(
        task=task,
        scans=scans.rename_axis("part"),
        seen=seen_scans.of_pairs(pairs, members),
        example=pairs.scan(0, WITH),
        target=target(task, pairs.volumes[0]),
        batches=batches,
        loss=_LOSSES[task],
        has_labels=task == "lesions",
        synthetic=True,
    )


def parts(n_pairs: int) -> dict[str, range]:
    """Divide pairs: the last 15 % (at least one) validate, the others train.

    Examples
    --------
    >>> parts(20)
    {'training': range(0, 17), 'validation': range(17, 20)}
    """
    n_validation = max(1, round(_VALIDATION * n_pairs))
    first = n_pairs - n_validation
    return {"training": range(first), "validation": range(first, n_pairs)}


def target(task: str, volume: float) -> float:
    """Return what a network is to say of a scan with this lesion volume (mm3).

    "lesions": 1 or 0. "volume": the logarithm of the volume (ml) plus 0.1, which is above 0 from
    0.9 ml on.

    Examples
    --------
    >>> target("lesions", 7000.0), round(target("volume", 7000.0), 3)
    (1.0, 1.96)
    """
    if task == "lesions":
        return float(volume > 0)
    return float(np.log(volume / _MM3_A_ML + _SMALLEST))


def lesion_loss(labels, logits):
    """Logistic loss of each pair, and half of the cross-entropy.

    Parameters
    ----------
    labels, logits : array of shape (scans, 1)
        The two scans of a pair follow each other, the one with lesions first.
    """
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
    differences = logits[WITH::2] - logits[WITHOUT::2]
    return ops.mean(ops.softplus(-differences)) + 0.5 * cross_entropy


def _volume_loss(targets, outputs):
    """Mean squared error."""
    return ops.mean(ops.square(targets - outputs))


_LOSSES = {"lesions": lesion_loss, "volume": _volume_loss}

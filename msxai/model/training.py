"""Training and prediction: batches streamed from disk, augmentation, stopping, the best weights.

Protocol and defaults: Eitel et al. 2019, NeuroImage: Clinical 24:102003,
doi:10.1016/j.nicl.2019.102003.
"""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai.base import provenance, tsv
from msxai.base.errors import CohortError
from msxai.base.parameters import one_of
from msxai.model import acquisition, checkpoints, control_constraint, network, seen_scans
from msxai.model import augmentation as augmentations

__all__ = [
    "BestWeights",
    "Epochs",
    "Settings",
    "Volumes",
    "batches_of",
    "fit",
    "fit_batches",
    "outputs",
    "outputs_of_each",
    "permute_labels",
    "predict",
    "require_both_groups",
    "save",
]


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Attributes
    ----------
    learning_rate, decay : float
        Adam with learning_rate / (1 + decay * step). The paper: 1e-3 and 0 in pre-training, 5e-4
        and 2e-3 in fine-tuning.
    batch_size : int
        Scans a batch.
    epochs : int
        Most epochs.
    patience : int
        Epochs without a lower validation loss before training stops.
    seed : int
        Of the order of scans and of the augmentation.
    augmentation : str
        How training scans are varied: one of `msxai.model.augmentation.NAMES`.
    realism : str
        Whether other scanners show the training scans: one of `msxai.model.acquisition.REALISM`.
    averaging : float
        Share of the running mean of the weights that each step keeps (Polyak & Juditsky 1992,
        doi:10.1137/0330046); validated and stored are these means. 0: the weights themselves.
    control_penalty : float
        Weight of the positive relevance of controls in the loss
        (`msxai.model.control_constraint`); 0: none.
    """

    learning_rate: float
    decay: float
    batch_size: int
    epochs: int
    patience: int
    seed: int
    augmentation: str
    averaging: float = 0.0
    control_penalty: float = 0.0
    realism: str = "plain"

    def __post_init__(self):
        """Refuse names that mean nothing."""
        one_of("augmentation", self.augmentation, augmentations.NAMES)
        one_of("realism", self.realism, acquisition.REALISM)


class Epochs(keras.utils.PyDataset):
    """Rows in batches, in a new order each epoch. Subclasses read what stands in a row.

    Parameters
    ----------
    rows : sequence of int
        In which order.
    batch_size : int
        Rows a batch; the last batch may be smaller.
    seed : int, optional
        Shuffles anew each epoch; without it the order is that of `rows`.
    augmentation : str
        How each scan is varied: one of `msxai.model.augmentation.NAMES`. What it becomes depends
        only on the seed, the epoch and its row.
    realism : str
        Whether another scanner shows it before: one of `msxai.model.acquisition.REALISM`.

    Attributes
    ----------
    epoch : int
    order : ndarray of int
        The rows in the order of this epoch.
    """

    def __init__(
        self,
        rows,
        batch_size: int,
        seed: int | None = None,
        augmentation: str = "none",
        realism: str = "plain",
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        self.rows = np.asarray(rows)
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.realism = realism
        self.epoch = 0
        self.order = self.rows
        self._shuffle()

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def on_epoch_end(self):
        """Begin the next epoch's order and augmentation."""
        self.epoch += 1
        self._shuffle()

    def start_at(self, epoch: int) -> None:
        """Go to the order and augmentation of an epoch."""
        self.epoch = epoch
        self._shuffle()

    def batch_rows(self, index: int) -> np.ndarray:
        """Return the rows of a batch."""
        start = index * self.batch_size
        return self.order[start : start + self.batch_size]

    def varied(self, volume, row: int) -> np.ndarray:
        """Return the scan of a row as this epoch shows it."""
        rng = np.random.default_rng([self.seed or 0, self.epoch, row])
        volume = acquisition.rescanned(volume, rng, self.realism)
        return augmentations.augment(volume, rng, self.augmentation)

    def _shuffle(self):
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, self.epoch])
            self.order = rng.permutation(self.rows)


class Volumes(Epochs):
    """Batches of one part of a prepared cohort, read as they are needed.

    Memory does not grow with the cohort.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Arrays on disk.
    rows, batch_size, seed, augmentation, realism
        As for `Epochs`; a row is a scan.
    """

    def __init__(
        self,
        prepared,
        rows,
        batch_size: int,
        seed: int | None = None,
        augmentation: str = "none",
        realism: str = "plain",
    ):
        super().__init__(rows, batch_size, seed, augmentation, realism)
        self.prepared = prepared
        self.labels = prepared.table["label"].to_numpy("float32", na_value=np.nan)

    def __getitem__(self, index):
        rows = self.batch_rows(index)
        volumes = [self.varied(self.prepared.image(row), row) for row in rows]
        return np.stack(volumes)[..., None], self.labels[rows, None]


class BestWeights(keras.callbacks.Callback):
    """Keep the weights of the epoch with the highest validation accuracy.

    Among equal accuracies the lowest validation loss decides. The paper checkpoints on accuracy
    alone; a small validation part ties often, and the first of the tied epochs is the least
    trained one.
    """

    def __init__(self):
        super().__init__()
        self.epoch = None
        self.score = None
        self.weights = None

    def on_epoch_end(self, epoch, logs=None):
        """Compare this epoch with the best so far."""
        loss = logs.get("val_cross_entropy", logs["val_loss"])
        score = (logs["val_accuracy"], -loss)
        if self.score is None or score > self.score:
            self.epoch = epoch
            self.score = score
            self.weights = self.model.get_weights()

    def on_train_end(self, logs=None):
        """Give the model its best weights back."""
        self.model.set_weights(self.weights)


class _Progress(keras.callbacks.Callback):
    """One bar over the epochs that shows the validation scores."""

    def __init__(self, first_epoch: int):
        super().__init__()
        self.first_epoch = first_epoch

    def on_train_begin(self, logs=None):
        self.bar = tqdm(
            total=self.params["epochs"], initial=self.first_epoch, desc="training", unit="epoch"
        )

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix(
            loss=f"{logs['loss']:.3f}",
            val_loss=f"{logs['val_loss']:.3f}",
            val_accuracy=f"{logs['val_accuracy']:.2f}",
        )
        self.bar.update()

    def on_train_end(self, logs=None):
        self.bar.close()


def fit(
    model: keras.Model,
    prepared,
    settings: Settings,
    *,
    batches: Epochs | None = None,
    validation: Epochs | None = None,
    loss=None,
    checkpoint: checkpoints.Checkpoint | None = None,
) -> pd.DataFrame:
    """Train on the training part, stop and select on the validation part; never read the holdout.

    Parameters
    ----------
    model : keras.Model
        From `msxai.model.network.build`; on return it holds the best weights by validation
        (`BestWeights`).
    prepared : msxai.data.prepared.Prepared
        Arrays with their split.
    settings : Settings
    batches : Epochs, optional
        In place of `Volumes` of the training part, for instance `msxai.model.pairs.Pairs`.
    validation : Epochs, optional
        In place of the scans and labels of the validation part. With it, parts of one group are
        enough (`msxai.model.pairs.Beside`).
    loss : callable, optional
        In place of the cross-entropy; validation is measured by the cross-entropy in any case.
    checkpoint : msxai.model.checkpoints.Checkpoint, optional
        Where the state of each epoch is kept. If an interrupted run of the same training has left
        one, the training goes on from it.

    Returns
    -------
    pandas.DataFrame
        One row an epoch: epoch, accuracy, loss, val_accuracy, val_loss (the cross-entropy, also
        with another `loss`), learning_rate, best (true in one row).

    Raises
    ------
    CohortError
        The training or the validation part lacks one of the two groups.
    """
    if validation is None:
        require_both_groups(prepared, "training")
        require_both_groups(prepared, "validation")
        validation = batches_of(prepared, "validation", settings)
    if batches is None:
        batches = batches_of(prepared, "training", settings)
    if settings.control_penalty:
        model = control_constraint.constrained(model, settings.control_penalty)
    return fit_batches(model, batches, validation, settings, loss=loss, checkpoint=checkpoint)


def batches_of(prepared, part: str, settings: Settings) -> Volumes:
    """Return the batches of one part of a cohort: shuffled and varied for training only.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    part : {"training", "validation"}
    settings : Settings
    """
    rows = prepared.rows(part)
    if part == "validation":
        return Volumes(prepared, rows, settings.batch_size)
    return Volumes(
        prepared,
        rows,
        settings.batch_size,
        settings.seed,
        settings.augmentation,
        settings.realism,
    )


def fit_batches(
    model: keras.Model,
    batches: Epochs,
    validation: Epochs,
    settings: Settings,
    *,
    loss=None,
    has_labels: bool = True,
    checkpoint: checkpoints.Checkpoint | None = None,
) -> pd.DataFrame:
    """Train on batches, stop and select on the validation batches.

    Parameters
    ----------
    model : keras.Model
        On return it holds the best weights by validation (`BestWeights`).
    batches, validation : Epochs
        Scans and targets.
    settings : Settings
    loss : callable, optional
        In place of the cross-entropy.
    has_labels : bool
        Whether the targets are labels, 0 or 1. Then the cross-entropy measures validation in any
        case, else `loss` does.
    checkpoint : msxai.model.checkpoints.Checkpoint, optional
        As for `fit`.

    Returns
    -------
    pandas.DataFrame
        As `fit`.
    """
    own_loss = loss is not None and has_labels
    _compile(model, settings, loss, own_loss)
    stopping_score = "val_cross_entropy" if own_loss else "val_loss"
    stop = keras.callbacks.EarlyStopping(stopping_score, patience=settings.patience, mode="min")
    best = BestWeights()
    state = checkpoint.read() if checkpoint else None
    first_epoch = state.epochs if state else 0
    averaging = None
    if settings.averaging:
        averaging = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    keep_state = checkpoints.KeepState(checkpoint, state, best, stop, averaging)
    # The averaging first, so that the others see the mean weights
    callbacks = [averaging, best, stop, _Progress(first_epoch), keep_state]
    if state:
        print(f"goes on after epoch {first_epoch}, where an earlier run was interrupted")
        batches.start_at(first_epoch)
    if state and (state.is_stopped or first_epoch == settings.epochs):
        model.set_weights(state.best_weights)
        best.epoch = state.best_epoch
    else:
        model.fit(
            batches,
            validation_data=validation,
            epochs=settings.epochs,
            initial_epoch=first_epoch,
            verbose=0,
            shuffle=False,
            callbacks=[callback for callback in callbacks if callback],
        )
    history = pd.DataFrame(keep_state.history).rename_axis("epoch").reset_index()
    if own_loss:
        history = _with_cross_entropy_as_loss(history)
    steps = (history["epoch"] + 1) * len(batches)
    return history.assign(
        learning_rate=settings.learning_rate / (1 + settings.decay * steps),
        best=history["epoch"] == best.epoch,
    )


def require_both_groups(prepared, part: str) -> None:
    """Refuse a part of a cohort that has scans of one group only.

    Raises
    ------
    CohortError
        One of the two groups is missing.
    """
    rows = prepared.rows(part)
    labels = prepared.table["label"].iloc[rows].dropna()
    present = sorted(int(label) for label in set(labels))
    if len(present) < 2:
        scans_of_part = f"{len(rows)} scans with the labels {present}"
        if prepared.unfilled.any():
            scans_of_part += f", without the {prepared.unfilled.sum()} that have no lesion mask"
        raise CohortError(
            f"{prepared.name}, {part} part",
            scans_of_part,
            "scans of both groups",
            "Prepare the cohort with more subjects or another share of validation"
            " (01_data_preparation).",
        )


def _compile(model: keras.Model, settings: Settings, loss, with_cross_entropy: bool) -> None:
    """Set optimiser, loss and metrics of a model."""
    rate = keras.optimizers.schedules.InverseTimeDecay(settings.learning_rate, 1, settings.decay)
    metrics = [keras.metrics.MeanMetricWrapper(_sign_agreement, name="accuracy")]
    if loss is None:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    if with_cross_entropy:
        metrics.append(keras.metrics.BinaryCrossentropy("cross_entropy", from_logits=True))
    optimizer = keras.optimizers.Adam(
        rate, use_ema=settings.averaging > 0, ema_momentum=settings.averaging
    )
    model.compile(optimizer, loss, metrics=metrics, jit_compile=network.compiles_steps())


def _sign_agreement(targets, outputs):
    """Whether each output lies on the same side of 0 as its target, 1 or 0.

    For labels the mean is the accuracy; 0 counts as the side of controls.
    """
    is_same = keras.ops.equal(keras.ops.greater(targets, 0), keras.ops.greater(outputs, 0))
    return keras.ops.cast(is_same, "float32")


def _with_cross_entropy_as_loss(history: pd.DataFrame) -> pd.DataFrame:
    """Give a history the same kind of loss that every training has."""
    own_loss = ["loss", "val_loss"]
    names = {"cross_entropy": "loss", "val_cross_entropy": "val_loss"}
    return history.drop(columns=own_loss).rename(columns=names)


def permute_labels(prepared, seed: int) -> None:
    """Permute the labels of a cohort's subjects over training and validation part, in place.

    A network that learns them learns no disease.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Arrays with their split. All visits of a subject get one label; scans without a label and
        the holdout keep what they have.
    seed : int

    References
    ----------
    A control of explanations by "data randomisation": Adebayo et al. 2018, arXiv:1810.03292.
    """
    table = prepared.table
    has_label = table["label"].notna()
    chosen = table["part"].isin(["training", "validation"]) & has_label
    labels = table[chosen].groupby("participant_id", sort=False)["label"].first()
    rng = np.random.default_rng(seed)
    permuted = pd.Series(rng.permutation(labels.to_numpy(int)), labels.index)
    drawn = table.loc[chosen, "participant_id"].map(permuted)
    table.loc[chosen, "label"] = drawn.astype("Int64")


def predict(model: keras.Model, prepared, rows, batch_size: int = 4) -> np.ndarray:
    """Compute the logits of scans; positive means patient.

    Returns
    -------
    ndarray of shape (len(rows),), float32
        In the order of `rows`.
    """
    return outputs(model, prepared, rows, batch_size)[:, 0]


def outputs(model: keras.Model, prepared, rows, batch_size: int = 4) -> np.ndarray:
    """Compute a model's outputs for scans.

    Returns
    -------
    ndarray of shape (len(rows), outputs), float32
        In the order of `rows`.
    """
    (values,) = outputs_of_each([model], prepared, rows, batch_size)
    return values


def outputs_of_each(models, prepared, rows, batch_size: int = 4) -> list[np.ndarray]:
    """Compute the outputs of several models for scans, each of which is read once.

    Returns
    -------
    list of ndarray
        As of `outputs`, one for each model.
    """
    batches = Volumes(prepared, rows, batch_size)
    values = [[] for _ in models]
    for index in tqdm(range(len(batches)), desc="predicting", unit="batch"):
        volumes, _ = batches[index]
        for model, of_model in zip(models, values, strict=True):
            batch = model(volumes, training=False)
            of_model.append(keras.ops.convert_to_numpy(batch))
    return [np.concatenate(of_model) for of_model in values]


def save(
    folder,
    model: keras.Model,
    history: pd.DataFrame,
    parameters: dict,
    inputs,
    seen: pd.DataFrame,
) -> dict:
    """Write weights.npz, history.tsv, subjects.tsv and, last, provenance.json.

    Parameters
    ----------
    folder : pathlib.Path
        The trial's folder.
    model : keras.Model
        With its best weights.
    history : pandas.DataFrame
        From `fit`.
    parameters : dict
        The notebook's.
    inputs : iterable of path
        What the training has read.
    seen : pandas.DataFrame
        The scans that the network has seen (`msxai.model.seen_scans`).

    Returns
    -------
    dict
        The record, with the validation scores of the best epoch.
    """
    weights_path = folder / "weights.npz"
    network.save_weights(model, weights_path)
    history_path = folder / "history.tsv"
    tsv.write(history, history_path)
    seen_path = folder / seen_scans.LIST
    tsv.write(seen, seen_path)
    best = history[history["best"]].iloc[0]
    record = provenance.record(
        parameters,
        inputs,
        [weights_path, history_path, seen_path],
        backend=keras.backend.backend(),
        best_epoch=int(best["epoch"]),
        val_accuracy=float(best["val_accuracy"]),
        val_loss=float(best["val_loss"]),
    )
    provenance.write_json(folder / "provenance.json", record)
    (folder / checkpoints.NAME).unlink(missing_ok=True)
    return record

"""Training and prediction: batches streamed from prepared arrays, augmentation, stopping, the best weights, the record.

Protocol and defaults: Eitel et al. 2019, NeuroImage: Clinical 24:102003, doi:10.1016/j.nicl.2019.102003.
"""

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.errors import CohortError
from msxai.model import network


def augment(volume, rng: np.random.Generator, shift: int = 2) -> np.ndarray:
    """Flip a volume left-right with probability .5 and shift it along x by -`shift`..`shift` voxels; a new array.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        One scan; voxels shifted in from outside are 0.
    rng : numpy.random.Generator
        Two numbers are drawn from it, whatever they say.
    shift : int
        Largest shift (voxels).
    """
    flip, step = rng.random() < 0.5, int(rng.integers(-shift, shift + 1))
    out = np.zeros_like(volume)
    source = volume[::-1] if flip else volume
    size = len(volume) - abs(step)
    out[max(step, 0) :][:size] = source[max(-step, 0) :][:size]
    return out


class Volumes(keras.utils.PyDataset):
    """Batches of one part of a prepared cohort, read as they are needed: memory does not grow with the cohort.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Arrays on disk.
    rows : sequence of int
        Which scans, in which order.
    batch_size : int
        Scans a batch; the last batch may be smaller.
    seed : int, optional
        Shuffles anew each epoch; without it the order is that of `rows`.
    augmentation : bool
        `augment` each scan; what it becomes depends only on the seed, the epoch and its row.
    """

    def __init__(
        self, prepared, rows, batch_size: int, seed: int | None = None, augmentation: bool = False
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        self.prepared, self.rows, self.batch_size, self.seed, self.epoch = (
            prepared,
            np.asarray(rows),
            batch_size,
            seed,
            0,
        )
        self.augmentation = augmentation
        self.labels = prepared.table["label"].to_numpy("float32", na_value=np.nan)
        self.order = self.rows
        self._shuffle()

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size :][: self.batch_size]
        return np.stack([self._volume(row) for row in rows])[..., None], self.labels[rows, None]

    def on_epoch_end(self):
        """Begin the next epoch's order and augmentation."""
        self.epoch += 1
        self._shuffle()

    def _shuffle(self):
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)

    def _volume(self, row):
        volume = self.prepared.image(row)
        return (
            volume
            if not self.augmentation
            else augment(volume, np.random.default_rng([self.seed, self.epoch, row]))
        )


class BestWeights(keras.callbacks.Callback):
    """Keep the weights of the epoch with the highest validation accuracy; among equals the lowest validation loss.

    The paper checkpoints on accuracy alone. A small validation part ties often, and the first of the tied epochs is the least trained one.
    """

    def __init__(self):
        super().__init__()
        self.epoch, self.score, self.weights = None, None, None

    def on_epoch_end(self, epoch, logs=None):
        """Compare this epoch with the best so far."""
        score = (logs["val_accuracy"], -logs.get("val_cross_entropy", logs["val_loss"]))
        if self.score is None or score > self.score:
            self.epoch, self.score, self.weights = epoch, score, self.model.get_weights()

    def on_train_end(self, logs=None):
        """Give the model its best weights back."""
        self.model.set_weights(self.weights)


class _Progress(keras.callbacks.Callback):
    """One bar over the epochs, with the validation scores beside it."""

    def on_train_begin(self, logs=None):
        self.bar = tqdm(total=self.params["epochs"], desc="training", unit="epoch")

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
    *,
    learning_rate: float,
    decay: float,
    batch_size: int,
    epochs: int,
    patience: int,
    seed: int,
    augmentation: bool,
    batches: keras.utils.PyDataset | None = None,
    loss=None,
) -> pd.DataFrame:
    """Train on the training part, stop and select on the validation part; the holdout is not read.

    Parameters
    ----------
    model : keras.Model
        From `msxai.model.network.build`; on return it holds the best weights by validation (`BestWeights`).
    prepared : msxai.data.prepared.Prepared
        Arrays with their split.
    learning_rate, decay : float
        Adam with learning_rate / (1 + decay * step); the paper: 1e-3 and 0, then 5e-4 and 2e-3.
    batch_size, epochs, patience : int
        Scans a batch; most epochs; epochs without a lower validation loss before it stops.
    seed : int
        Of the order and the augmentation.
    augmentation : bool
        Flip and shift training scans (`augment`).
    batches, loss : optional
        In place of `Volumes` of the training part (`batch_size`, `seed` and `augmentation` are then not used for it) and of the
        cross-entropy, which validation is measured by in any case: see `msxai.model.pairs`.

    Returns
    -------
    pandas.DataFrame
        One row an epoch: epoch, accuracy, loss, val_accuracy, val_loss (the cross-entropy, also with another `loss`),
        learning_rate, best (true in one row).

    Raises
    ------
    CohortError
        The training or the validation part lacks one of the two groups.
    """
    parts = {part: prepared.rows(part) for part in ("training", "validation")}
    for part, rows in parts.items():
        found = sorted(map(int, set(prepared.table["label"].iloc[rows].dropna())))
        if len(found) < 2:
            raise CohortError(
                f"{prepared.name}, {part} part",
                f"{len(rows)} scans with the labels {found}",
                "scans of both groups",
                "Prepare the cohort with more subjects or another share of validation (01_data_preparation).",
            )
    rate = keras.optimizers.schedules.InverseTimeDecay(learning_rate, 1, decay)
    metrics, scored = [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)], "val_loss"
    if loss is not None:
        metrics, scored = (
            [*metrics, keras.metrics.BinaryCrossentropy("cross_entropy", from_logits=True)],
            "val_cross_entropy",
        )
    model.compile(
        keras.optimizers.Adam(rate),
        loss or keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=metrics,
        jit_compile=False,
    )
    best, stop = BestWeights(), keras.callbacks.EarlyStopping(scored, patience=patience, mode="min")
    training = batches or Volumes(prepared, parts["training"], batch_size, seed, augmentation)
    history = model.fit(
        training,
        validation_data=Volumes(prepared, parts["validation"], batch_size),
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[best, stop, _Progress()],
    )
    table = pd.DataFrame(history.history).rename_axis("epoch").reset_index()
    if loss is not None:  # of the same kind for every training
        table = table.drop(columns=["loss", "val_loss"]).rename(
            columns={"cross_entropy": "loss", "val_cross_entropy": "val_loss"}
        )
    steps = (table["epoch"] + 1) * len(training)
    return table.assign(
        learning_rate=learning_rate / (1 + decay * steps), best=table["epoch"] == best.epoch
    )


def permute_labels(prepared, seed: int) -> None:
    """Permute the labels of a cohort's subjects over training and validation part, in place: a network that learns them learns no disease.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Arrays with their split; all visits of a subject get one label, scans without a label and the holdout keep what they have.
    seed : int

    References
    ----------
    A control of explanations by "data randomisation": Adebayo et al. 2018, arXiv:1810.03292.
    """
    table = prepared.table
    known = table["part"].isin(["training", "validation"]) & table["label"].notna()
    labels = table[known].groupby("participant_id", sort=False)["label"].first()
    drawn = pd.Series(np.random.default_rng(seed).permutation(labels.to_numpy(int)), labels.index)
    table.loc[known, "label"] = table.loc[known, "participant_id"].map(drawn).astype("Int64")


def predict(model: keras.Model, prepared, rows, batch_size: int = 4) -> np.ndarray:
    """Logits of scans, in the order of `rows`: ndarray of shape (len(rows),), float32. Positive = patient."""
    return outputs(model, prepared, rows, batch_size)[:, 0]


def outputs(model: keras.Model, prepared, rows, batch_size: int = 4) -> np.ndarray:
    """What a model makes of scans, in the order of `rows`: ndarray of shape (len(rows), outputs), float32."""
    batches = Volumes(prepared, rows, batch_size)
    found = [
        model(batches[index][0], training=False)
        for index in tqdm(range(len(batches)), desc="predicting", unit="batch")
    ]
    return np.concatenate([keras.ops.convert_to_numpy(batch) for batch in found])


def save(folder, model: keras.Model, history: pd.DataFrame, parameters: dict, inputs) -> dict:
    """Write weights.npz, history.tsv and, last, provenance.json with the validation scores of the best epoch.

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

    Returns
    -------
    dict
        The record.
    """
    files = folder / "weights.npz", folder / "history.tsv"
    network.save_weights(model, files[0])
    with provenance.replacing(files[1]) as draft:
        history.to_csv(draft, sep="\t", index=False)
    best = history[history["best"]].iloc[0]
    record = provenance.record(
        parameters,
        inputs,
        files,
        backend=keras.backend.backend(),
        best_epoch=int(best["epoch"]),
        val_accuracy=float(best["val_accuracy"]),
        val_loss=float(best["val_loss"]),
    )
    provenance.write_json(folder / "provenance.json", record)
    return record

"""Keep the state of a training after each epoch, so that a killed one goes on where it was.

The state is all that the next epoch depends on: weights, optimiser, the generators of dropout, the
mean of the weights, the best weights so far and the history. Order and augmentation depend on the
seed and the number of the epoch alone. So an interrupted training ends with the same bits as an
uninterrupted one.

`keras.callbacks.BackupAndRestore` keeps weights, optimiser and epoch. Early stopping, the choice of
the best epoch, the history and the mean of the weights would begin anew, and it cannot tell whether
a state is of the same training.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

import msxai
from msxai.base import keras_settings, provenance

__all__ = ["NAME", "Checkpoint", "KeepState", "State"]

NAME = "checkpoint.npz"
"""Name of the file in a trial's folder. It is removed when the trial is saved."""

_VERSIONS = ("keras", "numpy", *keras_settings.BACKENDS)


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of one training is kept, and what identifies the training.

    Attributes
    ----------
    path : pathlib.Path
    identity : str
        SHA-256 over parameters, inputs, the code of `msxai.model` and versions. A state of another
        identity is not used.

    Examples
    --------
    >>> first = Checkpoint.of("runs/demo/finetuning/scratch/trial-0", {"seed": 100}, inputs=[])
    >>> other = Checkpoint.of("runs/demo/finetuning/scratch/trial-0", {"seed": 101}, inputs=[])
    >>> first.path.name, first.identity == other.identity
    ('checkpoint.npz', False)
    """

    path: Path
    identity: str

    @classmethod
    def of(cls, folder, parameters: dict, inputs) -> "Checkpoint":
        """Identify a training.

        Parameters
        ----------
        folder : path
            The trial's.
        parameters : dict
            The notebook's, JSON types.
        inputs : iterable of path
            What the training reads.
        """
        record = provenance.record(parameters, inputs)
        versions = record["versions"]
        content = {
            "parameters": record["parameters"],
            "inputs": record["inputs"],
            "versions": {package: versions.get(package) for package in _VERSIONS},
            "machine": record["machine"],
            "backend": keras.backend.backend(),
            "code": _code(),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return cls(Path(folder) / NAME, hashlib.sha256(text.encode()).hexdigest())

    def read(self) -> "State | None":
        """Read the state that an interrupted run of this training has left.

        None without one, and where the file is damaged: the training then starts anew.
        """
        try:
            with np.load(self.path, allow_pickle=False) as file:
                described = json.loads(str(file["described"]))
                if described.pop("identity") != self.identity:
                    return None
                arrays = {
                    group: [file[f"{group}-{index}"] for index in range(count)]
                    for group, count in described.pop("counts").items()
                }
            return State(**described, **arrays)
        except Exception:  # zipfile and numpy fail in many ways on a damaged file
            return None

    def write(self, state: "State") -> None:
        """Write a state, all or nothing."""
        described = dataclasses.asdict(state)
        arrays = {}
        counts = {}
        for group in ("variables", "optimizer", "best_weights"):
            values = described.pop(group)
            counts[group] = len(values)
            arrays |= {f"{group}-{index}": value for index, value in enumerate(values)}
        described |= {"identity": self.identity, "counts": counts}
        with provenance.replacing(self.path) as draft:
            np.savez(draft, described=json.dumps(described), **arrays)

    def remove(self) -> None:
        """Remove the state, because the training has been saved."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class State:
    """All that the next epoch of a training depends on.

    Attributes
    ----------
    epochs : int
        Number of finished epochs.
    history : dict
        Name of each score to its values, one an epoch.
    is_stopped : bool
        Whether the training ended early.
    wait, best_loss
        Of `keras.callbacks.EarlyStopping`: epochs without a better loss, and the best one.
    best_epoch, best_score, best_weights
        Of `msxai.model.training.BestWeights`.
    variables : list of ndarray
        Of the model: weights, and generators of dropout.
    optimizer : list of ndarray
        Its variables, the mean of the weights included.
    """

    epochs: int
    history: dict
    is_stopped: bool
    wait: int
    best_loss: float
    best_epoch: int
    best_score: list
    best_weights: list
    variables: list
    optimizer: list


class KeepState(keras.callbacks.Callback):
    """Write the state after each epoch; at the start of a training, take up that of `state`.

    It must be the last callback: the others set themselves back at the start of a training.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        None: nothing is written.
    state : State or None
        From `Checkpoint.read`.
    best : msxai.model.training.BestWeights
    stopping : keras.callbacks.EarlyStopping
    averaging : keras.callbacks.SwapEMAWeights or None
    """

    def __init__(self, checkpoint, state, best, stopping, averaging):
        super().__init__()
        self.checkpoint = checkpoint
        self.state = state
        self.best = best
        self.stopping = stopping
        self.averaging = averaging
        self.history = dict(state.history) if state else {}

    def on_train_begin(self, logs=None):
        """Take up the state."""
        state = self.state
        if state is None:
            return
        _assign(self.model.variables, state.variables)
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        _assign(optimizer.variables, state.optimizer)
        self.best.epoch = state.best_epoch
        self.best.score = tuple(state.best_score)
        self.best.weights = state.best_weights
        self.stopping.wait = state.wait
        self.stopping.best = state.best_loss
        if self.averaging:
            # An epoch ends with the mean in the model, and the next one puts it back
            self.averaging._ema_weights_in_model = True

    def on_epoch_end(self, epoch, logs=None):
        """Write the state of this epoch."""
        for name, value in (logs or {}).items():
            self.history[name] = [*self.history.get(name, []), float(value)]
        if self.checkpoint is None:
            return
        self.checkpoint.write(
            State(
                epochs=epoch + 1,
                history=self.history,
                is_stopped=bool(self.model.stop_training),
                wait=self.stopping.wait,
                best_loss=float(self.stopping.best),
                best_epoch=self.best.epoch,
                best_score=[float(value) for value in self.best.score],
                best_weights=self.best.weights,
                variables=_values(self.model.variables),
                optimizer=_values(self.model.optimizer.variables),
            )
        )


def _values(variables) -> list[np.ndarray]:
    return [ops.convert_to_numpy(variable) for variable in variables]


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _code() -> list[str]:
    """Return the SHA-256 of each module that decides what a training does."""
    folder = Path(msxai.__file__).parent
    modules = sorted((folder / "model").rglob("*.py"))
    return [provenance.sha256(module) for module in modules]

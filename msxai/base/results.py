"""Where each result lies in a results folder (``runs/<profile>``), and which notebook makes it."""

import os
from pathlib import Path

from msxai import ROOT
from msxai.base import given_paths, provenance
from msxai.base.errors import MissingStepError, ParameterError
from msxai.base.parameters import PRETRAINING, located, one_of

__all__ = ["Results", "cohort_name"]

_PREPARATION = "01_data_preparation"
_FILLING = "01b_lesion_filling"
_PRETRAINING = "02_pretraining"
_FINE_TUNING = "03_fine_tuning"
_EVALUATION = "04_evaluation"
_HEATMAPS = "05_lrp_heatmaps"
_REGIONS = "06_region_relevance"

_DIAGNOSIS = "diagnosis"  # the task of a pre-training whose folder names none
_RECORD = "provenance.json"  # written last by every notebook from 02 on
_TAKEN = (  # folders of other results than those of 07
    "prepared",
    "lesion-filled",
    "derivatives",
    "quality-control",
    "simulated",
    PRETRAINING,
    "finetuning",
    "evaluation",
    "heatmaps",
    "states",
    "regions",
    "figures",
    "notebooks",
    "report",
)


class Results:
    """The layout of one results folder.

    Methods named after a result return its path. Methods ``require_...`` also check that the result
    exists, is whole and fits this run.

    Parameters
    ----------
    folder : str
        The folder as given in a notebook's parameters; a relative one starts at the checkout.

    Attributes
    ----------
    given : str
        `folder` as given.
    folder : pathlib.Path

    Raises
    ------
    ParameterError
        The folder is the checkout, whose notebooks and figures would be replaced, or the whole disk
        (``/``); by the methods: a variant whose name leads out of the folder.

    Examples
    --------
    >>> Results("/results").trial("scratch", 3).as_posix()
    '/results/finetuning/scratch/trial-3'
    """

    def __init__(self, folder: str):
        self.given = folder
        self.folder = given_paths.whole(folder, ROOT, "parameter results")
        _check_folder(self.folder, folder)

    def prepared(self, cohort: str, filling: str = "none") -> Path:
        """Return the HDF5 file of a cohort's arrays, from 01_data_preparation.

        With a `filling` other than "none": the arrays with lesions filled, from 01b_lesion_filling.
        """
        return self._arrays(filling) / f"{cohort_name(cohort)}.h5"

    def split(self, cohort: str) -> Path:
        """Return the TSV of the one split that every later step reads, from 01_data_preparation."""
        return self._arrays("none") / f"{cohort_name(cohort)}_split.tsv"

    def record(self, cohort: str, filling: str = "none") -> Path:
        """Return the JSON record of a cohort's arrays; 01 (or 01b if filled) writes it last."""
        return self._arrays(filling) / f"{cohort_name(cohort)}.json"

    def registration(self, cohort: str) -> Path:
        """Return the BIDS derivative of transforms and brain masks, from 01_data_preparation."""
        return self.folder / "derivatives" / f"registration-{cohort_name(cohort)}"

    def quality_control(self, cohort: str) -> Path:
        """Return the folder of qc.html, qc.tsv and qc.json, from 01_data_preparation."""
        return self.folder / "quality-control" / cohort_name(cohort)

    def simulated_pairs(self, seed: int, contrast: str) -> Path:
        """Return the HDF5 file of simulated pairs, from 02_pretraining if its task needs them."""
        return self.folder / "simulated" / f"pairs-{contrast}-seed-{seed}.h5"

    def trial(self, variant: str, trial: int, task: str = _DIAGNOSIS) -> Path:
        """Return the folder of one training: weights, history, subjects seen and record.

        The variant "pretraining" is made by 02_pretraining for a `task`, any other by
        03_fine_tuning.
        """
        if variant == PRETRAINING:
            return self._pretraining(task) / f"trial-{trial}"
        return self._of_variant("finetuning", variant) / f"trial-{trial}"

    def evaluation(self) -> Path:
        """Return the folder of predictions.tsv, scores.tsv, provenance.json, from 04_evaluation."""
        return self.folder / "evaluation"

    def heatmaps(self, variant: str) -> Path:
        """Return the BIDS derivative of a variant's heatmaps, from 05_lrp_heatmaps."""
        return self._of_variant("heatmaps", variant)

    def quality(self, variant: str, choice: str = "quality") -> Path:
        """Return the folder of a variant's explanation quality, from 07_explanation_quality."""
        given_paths.check_name(choice, "parameter folder")
        if choice in _TAKEN:
            raise ParameterError(
                "parameter folder",
                f"{choice!r}, a folder of other results",
                "a name that no other results have",
                "Choose another name, such as league.",
            )
        return self._of_variant(choice, variant)

    def states(self, variant: str) -> Path:
        """Return the folder of maps by network state and method, from 07_explanation_quality."""
        return self._of_variant("states", variant)

    def regions(self, variant: str) -> Path:
        """Return the folder of a variant's tables of regions, from 06_region_relevance."""
        return self._of_variant("regions", variant)

    def figures(self) -> Path:
        """Return the folder of figures, from 08_figures."""
        return self.folder / "figures"

    def command(self, notebook: str, **parameters) -> str:
        """Return the command that makes a missing result by hand."""
        options = "".join(
            f" -p {name} {value}" for name, value in {"results": self.given, **parameters}.items()
        )
        run = f".venv/bin/papermill notebooks/{notebook}.ipynb {self.given}/{notebook}.ipynb"
        return f"{run}{options}   (or: make figures)"

    def require_prepared(self, cohort: str, filling: str = "none", **expected) -> Path:
        """Return the path of a cohort's arrays after checking them.

        Parameters
        ----------
        cohort : str
        filling : str
            "none", or the filling of the lesions.
        **expected
            Parameters that the arrays must have been made with.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        if filling != "none":
            return self._require_filled(cohort, filling, **expected)
        command = self.command(_PREPARATION, cohort=cohort)
        record = provenance.require(
            self.record(cohort), _PREPARATION, command, cohort=cohort, **expected
        )
        provenance.check_output(record, self.prepared(cohort), command)
        provenance.check_output(record, self.split(cohort), command)
        return self.prepared(cohort)

    def require_trial(
        self, variant: str, trial: int, task: str = _DIAGNOSIS, **expected
    ) -> tuple[Path, dict]:
        """Return the folder and the record of one training made with the `expected` parameters.

        `task` is that of a pre-training (`trial`).

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        folder = self.trial(variant, trial, task)
        if variant == PRETRAINING:
            notebook = _PRETRAINING
            command = self.command(notebook, trial=trial, task=task)
        else:
            notebook = _FINE_TUNING
            command = self.command(notebook, variant=variant, trial=trial)
        record = provenance.require(folder / _RECORD, notebook, command, **expected)
        provenance.check_output(record, folder / "weights.npz", command)
        return folder, record

    def require_evaluation(self, cohort: str) -> tuple[Path, dict]:
        """Return the folder and the record of the evaluation, made from the arrays as they are now.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        files = ("predictions.tsv", "scores.tsv")
        return self._require_made(self.evaluation(), files, _EVALUATION, cohort)

    def require_heatmaps(self, variant: str, cohort: str) -> tuple[Path, dict]:
        """Return the folder and the record of heatmaps, made from the arrays as they are now.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        files = ("heatmaps.tsv",)
        folder = self.heatmaps(variant)
        return self._require_made(folder, files, _HEATMAPS, cohort, variant=variant)

    def require_regions(self, variant: str, cohort: str) -> tuple[Path, dict]:
        """Return the folder and the record of tables of regions, made from the present arrays.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        files = ("relevance.tsv", "tests.tsv", "lesions.tsv")
        folder = self.regions(variant)
        return self._require_made(folder, files, _REGIONS, cohort, variant=variant)

    def initial_weights(self, source: str, **expected) -> Path | None:
        """Return the weights file that a fine-tuning starts from; None for random weights.

        Parameters
        ----------
        source : str
            "scratch" (random weights), "best" (the pre-training trial of highest validation
            accuracy, then lowest loss), "trial-N" of the pre-training, or a weights file (.npz).
            "TASK/best" and "TASK/trial-N" name the task of the pre-training; without one it is
            the diagnosis.
        **expected
            Parameters that the pre-training must have been made with.

        Raises
        ------
        ParameterError
            No such source.
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        if source == "scratch":
            return None
        if source.endswith(".npz"):
            return located(source)
        task, _, name = source.rpartition("/")
        task = task or _DIAGNOSIS
        folder = self._pretraining(task)
        trials = sorted(path.parent.name for path in folder.glob(f"trial-*/{_RECORD}"))
        if not name.startswith("trial-"):
            one_of("initial_weights", name, ["best", "scratch", *trials])
        if name != "best":
            trials = [name]
        if not trials:
            trials = ["trial-0"]  # its error names the command that makes it
        return self._best_trial(trials, task, **expected) / "weights.npz"

    def _arrays(self, filling: str) -> Path:
        if filling == "none":
            return self.folder / "prepared"
        return self.folder / "lesion-filled" / filling

    def _of_variant(self, kind: str, variant: str) -> Path:
        given_paths.check_name(variant, "parameter variant")
        return self.folder / kind / variant

    def _pretraining(self, task: str) -> Path:
        if task == _DIAGNOSIS:
            return self.folder / PRETRAINING
        return self.folder / PRETRAINING / task

    def _best_trial(self, trials: list[str], task: str, **expected) -> Path:
        """Return the pre-training of highest validation accuracy, then lowest loss."""
        trainings = []
        for name in trials:
            trial = name.removeprefix("trial-")
            trainings.append(self.require_trial(PRETRAINING, trial, task, **expected))

        def rank(training):
            folder, record = training
            path = folder / _RECORD
            accuracy = provenance.entry(record, "val_accuracy", int | float, path)
            loss = provenance.entry(record, "val_loss", int | float, path)
            return accuracy, -loss

        folder, _ = max(trainings, key=rank)
        return folder

    def _require_filled(self, cohort: str, filling: str, **expected) -> Path:
        """Return the path of a cohort's arrays with lesions filled after checking them."""
        original = self.require_prepared(cohort, **expected)
        command = self.command(_FILLING, cohort=cohort, filling=filling)
        record_path = self.record(cohort, filling)
        record = provenance.require(record_path, _FILLING, command, cohort=cohort, filling=filling)
        left_out = provenance.entry(record, "left_out", str, record_path)
        if left_out:
            raise MissingStepError(
                provenance.relative(record_path),
                f"no arrays, as {left_out}",
                "scans with their lesions filled",
                "Leave this variant out.",
            )
        filled = self.prepared(cohort, filling)
        provenance.check_input(record, original, command)
        provenance.check_output(record, filled, command)
        return filled

    def _require_made(
        self, folder: Path, files, notebook: str, cohort: str, **parameters
    ) -> tuple[Path, dict]:
        """Return a result's folder and record after checking its files and the cohort's arrays."""
        command = self.command(notebook, cohort=cohort, **parameters)
        record = provenance.require(
            folder / _RECORD, notebook, command, cohort=cohort, **parameters
        )
        for name in files:
            provenance.check_output(record, folder / name, command)
        provenance.check_input(record, self.prepared(cohort), command)
        return folder, record


def cohort_name(cohort: str) -> str:
    """Return the name of a cohort in results.

    Parameters
    ----------
    cohort : str
        A folder, a table (.csv, .tsv), a YAML, or the name of an embedded cohort.

    Returns
    -------
    str
        The last part of the path, without the ending of a table or YAML.

    Raises
    ------
    ParameterError
        The last part is no name: the results of ``..`` would lie elsewhere.

    Examples
    --------
    >>> cohort_name("study/scans.csv")
    'scans'
    """
    path = Path(cohort)
    is_table = path.suffix in (".yaml", ".yml", ".csv", ".tsv")
    name = path.stem if is_table else path.name
    if name.strip(".") == "":
        raise ParameterError(
            "parameter cohort",
            repr(cohort),
            "a path that ends in a name",
            "Its results have this name. Write the path of the folder in full.",
        )
    return name


def _check_folder(folder: Path, given: str) -> None:
    """Refuse a folder of results that holds something else: the checkout, or the whole disk."""
    path = Path(os.path.abspath(folder))
    contents = {ROOT: "the folder of the checkout", Path(path.anchor): "the whole disk"}
    if path in contents:
        raise ParameterError(
            "parameter results",
            f"{str(given)!r}, which is {contents[path]}",
            "a folder for results alone",
            "Name one below runs, such as runs/my-study.",
        )

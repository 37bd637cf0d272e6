"""Where each result is stored below a results folder (``runs/<profile>``), and which notebook and command make it."""

from pathlib import Path

from msxai.base import provenance
from msxai.base.errors import MissingStepError
from msxai.base.parameters import located, one_of

PREPARATION, PRETRAINING, FINE_TUNING = "01_data_preparation", "02_pretraining", "03_fine_tuning"
FILLING = "01b_lesion_filling"
EVALUATION, HEATMAPS, REGIONS = "04_evaluation", "05_lrp_heatmaps", "06_region_relevance"


class Results:
    """The layout of one results folder.

    Parameters
    ----------
    folder : str
        The folder as given in a notebook's parameters; a relative one starts at the checkout.
    """

    def __init__(self, folder: str):
        self.given, self.folder = folder, located(folder)

    def prepared(self, cohort: str, filling: str = "none") -> Path:
        """Arrays of a cohort, HDF5, from 01_data_preparation; with its lesions filled from 01b_lesion_filling."""
        return self._arrays(filling) / f"{cohort_name(cohort)}.h5"

    def split(self, cohort: str) -> Path:
        """The one split of a cohort that every later step reads, TSV, from 01_data_preparation."""
        return self.folder / "prepared" / f"{cohort_name(cohort)}_split.tsv"

    def record(self, cohort: str, filling: str = "none") -> Path:
        """What made a cohort's arrays, JSON, written last by 01_data_preparation or 01b_lesion_filling."""
        return self._arrays(filling) / f"{cohort_name(cohort)}.json"

    def _arrays(self, filling: str) -> Path:
        return (
            self.folder / "prepared"
            if filling == "none"
            else self.folder / "lesion-filled" / filling
        )

    def registration(self, cohort: str) -> Path:
        """Transforms and brain masks of registered scans as BIDS derivatives, from 01_data_preparation."""
        return self.folder / "derivatives" / f"registration-{cohort_name(cohort)}"

    def quality_control(self, cohort: str) -> Path:
        """qc.html, qc.tsv and qc.json of a cohort, from 01_data_preparation."""
        return self.folder / "quality-control" / cohort_name(cohort)

    def trial(self, variant: str, trial: int) -> Path:
        """One training: weights.npz, history.tsv, provenance.json; the variant "pretraining" is 02's, any other 03's."""
        return (
            self.folder / "pretraining"
            if variant == "pretraining"
            else self.folder / "finetuning" / variant
        ) / f"trial-{trial}"

    def evaluation(self) -> Path:
        """predictions.tsv, scores.tsv, provenance.json from 04_evaluation."""
        return self.folder / "evaluation"

    def heatmaps(self, variant: str) -> Path:
        """Heatmaps of a variant as a BIDS derivative with heatmaps.tsv and provenance.json from 05_lrp_heatmaps."""
        return self.folder / "heatmaps" / variant

    def quality(self, variant: str, choice: str = "quality") -> Path:
        """Explanation quality of a variant: scores.tsv, league.tsv, summary.tsv, figures, provenance.json from 07_explanation_quality."""
        return self.folder / choice / variant

    def states(self, variant: str) -> Path:
        """Maps of several methods on networks in several states, methods.tsv, scans.tsv, provenance.json from 07_explanation_quality."""
        return self.folder / "states" / variant

    def regions(self, variant: str) -> Path:
        """Tables of regions of a variant's heatmaps and provenance.json from 06_region_relevance."""
        return self.folder / "regions" / variant

    def figures(self) -> Path:
        """Figures from 08_figures."""
        return self.folder / "figures"

    def command(self, notebook: str, **parameters) -> str:
        """The command that makes a missing result by hand."""
        options = "".join(
            f" -p {name} {value}" for name, value in {"results": self.given, **parameters}.items()
        )
        return f".venv/bin/papermill notebooks/{notebook}.ipynb {self.given}/{notebook}.ipynb{options}   (or: make figures)"

    def require_prepared(self, cohort: str, filling: str = "none", **expected) -> Path:
        """Path of a cohort's arrays, whole and made with the `expected` parameters; with its lesions filled unless `filling` is "none".

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        if filling != "none":
            untouched, command = (
                self.require_prepared(cohort, **expected),
                self.command(FILLING, cohort=cohort, filling=filling),
            )
            record = provenance.require(
                self.record(cohort, filling), FILLING, command, cohort=cohort, filling=filling
            )
            if record["left_out"]:
                raise MissingStepError(
                    provenance.relative(self.record(cohort, filling)),
                    f"no arrays, as {record['left_out']}",
                    "scans with their lesions filled",
                    "Leave this variant out.",
                )
            provenance.unchanged(record, untouched, command)
            provenance.untouched(record, self.prepared(cohort, filling), command)
            return self.prepared(cohort, filling)
        command = self.command(PREPARATION, cohort=cohort)
        record = provenance.require(
            self.record(cohort), PREPARATION, command, cohort=cohort, **expected
        )
        for path in (self.prepared(cohort), self.split(cohort)):
            provenance.untouched(record, path, command)
        return self.prepared(cohort)

    def require_trial(self, variant: str, trial: int, **expected) -> tuple[Path, dict]:
        """Folder and record of one training made with the `expected` parameters.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        folder = self.trial(variant, trial)
        notebook = PRETRAINING if variant == "pretraining" else FINE_TUNING
        command = self.command(
            notebook, **({"variant": variant} if notebook == FINE_TUNING else {}), trial=trial
        )
        record = provenance.require(folder / "provenance.json", notebook, command, **expected)
        provenance.untouched(record, folder / "weights.npz", command)
        return folder, record

    def require_evaluation(self, cohort: str) -> tuple[Path, dict]:
        """Folder and record of the evaluation of a cohort, made from the arrays as they are now.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        return self._require_made(
            self.evaluation(), ("predictions.tsv", "scores.tsv"), EVALUATION, cohort
        )

    def require_heatmaps(self, variant: str, cohort: str) -> tuple[Path, dict]:
        """Folder and record of a variant's heatmaps, made from the arrays as they are now.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        return self._require_made(
            self.heatmaps(variant), ("heatmaps.tsv",), HEATMAPS, cohort, variant=variant
        )

    def require_regions(self, variant: str, cohort: str) -> tuple[Path, dict]:
        """Folder and record of the tables of regions of a variant's heatmaps, made from the arrays as they are now.

        Raises
        ------
        MissingStepError, StaleInputError
            See `msxai.base.provenance.require`.
        """
        files = ("relevance.tsv", "tests.tsv", "lesions.tsv")
        return self._require_made(self.regions(variant), files, REGIONS, cohort, variant=variant)

    def _require_made(
        self, folder: Path, files, notebook: str, cohort: str, **more
    ) -> tuple[Path, dict]:
        command = self.command(notebook, cohort=cohort, **more)
        record = provenance.require(
            folder / "provenance.json", notebook, command, cohort=cohort, **more
        )
        for name in files:
            provenance.untouched(record, folder / name, command)
        provenance.unchanged(record, self.prepared(cohort), command)
        return folder, record

    def start(self, start: str, **expected) -> Path | None:
        """Weights that a fine-tuning starts from.

        Parameters
        ----------
        start : str
            "scratch" (none), "best" (the pre-training trial of highest validation accuracy, then lowest loss), "trial-N" of the
            pre-training, or a weights file (.npz).
        **expected
            Parameters that the pre-training must have been made with.
        """
        if start == "scratch":
            return None
        if start.endswith(".npz"):
            return located(start)
        there = sorted(
            record.parent.name
            for record in self.trial("pretraining", 0).parent.glob("trial-*/provenance.json")
        )
        if not start.startswith("trial-"):
            one_of("start", start, ["best", "scratch", *there])
        trials = [
            name.removeprefix("trial-")
            for name in (there or ["trial-0"] if start == "best" else [start])
        ]
        records = [self.require_trial("pretraining", trial, **expected) for trial in trials]
        return (
            max(records, key=lambda item: (item[1]["val_accuracy"], -item[1]["val_loss"]))[0]
            / "weights.npz"
        )


def cohort_name(cohort: str) -> str:
    """The name of a cohort in results: the last part of its folder, table or YAML without the ending, or the embedded cohort's name."""
    path = Path(cohort)
    return path.stem if path.suffix in (".yaml", ".yml", ".csv", ".tsv") else path.name

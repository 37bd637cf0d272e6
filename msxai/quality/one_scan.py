"""Everything that is computed of one scan: preparation, map, warnings, lesions, files.

`Explainer` holds the networks and explains scan after scan. `Findings` is what comes back for a
scan. `write_maps` writes its map in MNI space and in the scan's own space. Where an earlier scan of
the same person is given, `Earlier` says what has changed since, and `write_changes` writes it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from msxai.base import provenance, tsv
from msxai.base.errors import ParameterError
from msxai.base.parameters import located
from msxai.data import images, quality_control
from msxai.data.cohorts import cohort as cohorts
from msxai.data.prepared import PreparationOptions, Prepared, prepare, remove_paths
from msxai.data.registration import derivatives
from msxai.data.registration.registration import Registration
from msxai.data.single_scans import ScanFiles
from msxai.lrp import heatmaps, shipped_reference, trust_warnings
from msxai.lrp.explanation import conserved
from msxai.model import network, shipped, training_records
from msxai.model.training_records import Card
from msxai.quality import lesion_by_lesion, self_test, visit_noise
from msxai.quality.lesion_by_lesion import LesionReport
from msxai.quality.self_test import SelfTest
from msxai.quality.two_visits import Comparison, Visit
from msxai.regions import lesion_regions, mcdonald, own_anatomy
from msxai.regions.lesion_regions import NEIGHBOURS, Lesions
from msxai.regions.mcdonald import RegionCounts

__all__ = [
    "ALIGNED",
    "CHANGE_FILES",
    "MAPS",
    "ROW",
    "SEPARATE",
    "UNMOVED",
    "Earlier",
    "Explainer",
    "Findings",
    "Settings",
    "lesions_of",
    "remove_names",
    "write_changes",
    "write_maps",
]

ROW = 0
"""Row of the scan in its `Prepared`, which holds one scan."""

MAPS = {"MNI152": "relevance_space-MNI152.nii.gz", "orig": "relevance_space-orig.nii.gz"}
"""Space to the file name of the map."""

CHANGE_FILES = {
    "map": "relevance_change_space-MNI152.nii.gz",
    "scan": "scan_before_space-MNI152.nii.gz",
    "lesions": "changes.tsv",
}
"""What is written of the comparison with an earlier scan."""

ALIGNED, UNMOVED, SEPARATE = ("aligned", "unmoved", "separate")
"""How two visits came to one place: the earlier scan was aligned to the other one (rigid); both lay
in MNI space already; one did, and the other was brought there alone.
"""

_PREPARED, _PREPARED_T1, _REGISTRATION = "prepared.h5", "prepared_T1w.h5", "registration"
_PREPARED_BEFORE = "prepared_before.h5"
_BEFORE = "ses-before"  # keeps the registrations of both visits apart
_TARGETS = {
    "lesions": "logit of a brain with lesions",
    "diagnosis": "logit of the patient class",
}  # by task; "logit" where the task is not known
_DIGITS = 8  # of the SHA-256 that stands for the scan's name


@dataclass(frozen=True)
class Settings:
    """How scans are explained.

    Attributes
    ----------
    weights : tuple of str
        Weights files (.npz); none for the networks that the package brings. The map and the logit
        are means over them.
    explanation : msxai.lrp.heatmaps.Settings
        Rule, epsilon, copies.
    seed : int
        Of lesion filling.
    self_test : bool
        Paint lesions of known size into each scan (`msxai.quality.self_test`).
    """

    weights: tuple[str, ...] = ()
    explanation: heatmaps.Settings = field(
        default_factory=lambda: heatmaps.Settings("epsilon_gamma")
    )
    seed: int = 0
    self_test: bool = False

    @property
    def paths(self) -> list[Path]:
        """The weights files."""
        if not self.weights:
            return shipped.weights()
        return [located(path) for path in self.weights]


@dataclass(frozen=True)
class Earlier:
    """An earlier visit of the same person, and what has changed since.

    Attributes
    ----------
    prepared : msxai.data.prepared.Prepared
        The earlier scan alone, in row `ROW`.
    quality : pandas.Series
        Its measures (`msxai.data.quality_control.measure`).
    alignment : str
        `ALIGNED`, `UNMOVED` or `SEPARATE`.
    comparison : msxai.quality.two_visits.Comparison
    """

    prepared: Prepared
    quality: pd.Series
    alignment: str
    comparison: Comparison

    @property
    def registration(self) -> dict:
        """Route of the earlier scan into MNI space, with its flags."""
        return _registration_record(self.prepared)


@dataclass(frozen=True)
class Findings:
    """What was computed of one scan.

    Attributes
    ----------
    code : str
        Stands for the scan where its name must not: the first digits of its SHA-256.
    prepared : msxai.data.prepared.Prepared
        The scan alone, in row `ROW`.
    t1 : msxai.data.prepared.Prepared or None
        The T1-weighted scan alone.
    maps : msxai.lrp.heatmaps.ScanMaps
        Map of each network, with what it distributes: the mean logit over the copies of the scan.
    logits : list of float
        f(x) of each network for the scan itself, not for its shifted and mirrored copies.
    flags : list of dict
        Of `msxai.lrp.trust_warnings.flags`.
    quality : pandas.Series
        Measures of the scan (`msxai.data.quality_control.measure`).
    marked : Lesions or None
        The lesions that the mask marks; None without a lesion mask.
    lesions : LesionReport or None
        None without a lesion mask, where it is empty, or where nothing could be filled.
    amounts : pandas.DataFrame
        Relevance by distance from lesions (`msxai.quality.lesion_by_lesion.by_distance`).
    self_test : SelfTest or None
        None where it was not asked for, or has no place in the scan.
    compared : Stored or None
        Simulated subjects that the answer is compared with; None where none are known.
    regions : RegionCounts or None
        Lesions of the mask by region. None without a lesion mask.
    earlier : Earlier or None
        None without an earlier scan.
    """

    code: str
    prepared: Prepared
    t1: Prepared | None
    maps: heatmaps.ScanMaps
    logits: list[float]
    flags: list[dict]
    quality: pd.Series
    marked: Lesions | None
    lesions: LesionReport | None
    amounts: pd.DataFrame
    self_test: SelfTest | None = None
    compared: shipped_reference.Stored | None = None
    regions: RegionCounts | None = None
    earlier: Earlier | None = None

    @property
    def relevance(self) -> np.ndarray:
        """Mean map over networks, in logits, of shape (96, 114, 96)."""
        return self.maps.mean

    @property
    def logit(self) -> float:
        """f(x), the mean logit over networks."""
        return float(np.mean(self.logits))

    @property
    def map_logit(self) -> float:
        """What the map distributes: the mean logit over networks and copies."""
        return float(np.mean(self.maps.logits))

    @property
    def probabilities(self) -> list[float]:
        """Of each network: calibrated on `compared`, else the sigmoid of the logit."""
        if self.compared is None:
            return network.probability(self.logits).tolist()
        return self.compared.calibrated(self.logits)

    @property
    def probability(self) -> float:
        """Mean of `probabilities`."""
        return float(np.mean(self.probabilities))

    @property
    def has_mask(self) -> bool:
        """Whether a lesion mask was given."""
        return bool(self.prepared.has_lesions[ROW])

    @property
    def registration(self) -> dict:
        """Route of the scan into MNI space, with its flags."""
        return _registration_record(self.prepared)

    @property
    def conserved(self) -> float:
        """Sum of the map divided by the logit that it distributes; NaN near a logit of 0."""
        total = self.relevance.sum(dtype=float)
        return float(conserved([total], [self.map_logit])[0])


class Explainer:
    """Networks that explain scans.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    ParameterError
        A file is no weights file, an unknown rule, a network that does not answer yes or no,
        networks that answer different questions, or a normalisation of the training that one scan
        alone does not have.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.paths = settings.paths
        self.models = [network.restore(path) for path in self.paths]
        self._fast = [network.restore(path, fast=True) for path in self.paths]
        self.cards = [_card(path) for path in self.paths]
        _require_yes_or_no(self.cards, self.paths)
        _require_one_question(self.cards, self.paths)
        self.normalisation = _normalisation(self.cards, self.paths)
        self._compared = shipped_reference.read(self.paths)
        self._reference = None

    @property
    def reference(self) -> heatmaps.Reference:
        """What warnings compare a scan with; computed when first needed."""
        if self._reference is None:
            explanation = self.settings.explanation
            self._reference = heatmaps.reference_of(self.models, self.paths, explanation)
        return self._reference

    def logits_of(self, scans) -> np.ndarray:
        """Return the mean logit over networks of scans of shape (N, X, Y, Z)."""
        return np.mean(self._logits_of_each(scans), axis=0)

    def explain(self, files: ScanFiles, folder, say: Callable = print) -> Findings:
        """Explain one scan.

        Parameters
        ----------
        files : ScanFiles
        folder : path
            For the prepared scan and its registration; exists.
        say : callable
            Called with a sentence before a step that takes time.

        Returns
        -------
        Findings

        Raises
        ------
        ImageError, RegistrationError, CohortError
            A file cannot be used; the error names it.
        """
        code = provenance.sha256(located(files.image))[:_DIGITS]
        say("bringing the scan into MNI space")
        prepared = _prepare(files, f"sub-{code}", folder, self.normalisation)
        t1 = None
        if files.t1:
            say("bringing the T1 into MNI space")
            t1 = _prepare_t1(files, prepared, folder)
        say("computing the map")
        scan = prepared.image(ROW)
        explanations = []
        for model in self.models:
            explanation = self.settings.explanation.explain(model, scan[None, ..., None])
            explanations.append(explanation)
        maps = heatmaps.ScanMaps.of(explanations, 0)
        logits = maps.logits
        if self.settings.explanation.copies > 1:
            logits = [float(values[0]) for values in self._logits_of_each(scan[None])]
        marked = lesions_of(files, prepared)
        now = Visit(scan, prepared.brain(ROW), maps.mean, float(np.mean(logits)), marked)
        earlier = self._earlier(files, prepared, now, folder, say)
        regions = _regions(files, prepared, marked)
        lesions = None
        if marked is not None and len(marked.numbers):
            say("filling lesions one by one")
            lesions = lesion_by_lesion.measure(
                prepared,
                ROW,
                marked,
                maps.mean,
                self.logits_of,
                seed=self.settings.seed,
                anatomy=regions.anatomy,
            )
        return Findings(
            code=code,
            prepared=prepared,
            t1=t1,
            maps=maps,
            logits=logits,
            flags=self._flags(prepared, maps),
            quality=quality_control.measure(prepared).iloc[ROW],
            marked=marked,
            lesions=lesions,
            amounts=lesion_by_lesion.by_distance(
                maps.mean, prepared.lesions(ROW), prepared.brain(ROW)
            ),
            self_test=self._tested(prepared, say),
            compared=self._compared,
            regions=regions,
            earlier=earlier,
        )

    def map_of(self, scan) -> np.ndarray:
        """Return the mean map over networks of a scan of shape (X, Y, Z)."""
        maps = []
        for model in self.models:
            explanation = self.settings.explanation.explain(model, scan[None, ..., None])
            maps.append(explanation.relevance[0, ..., 0])
        return np.mean(maps, axis=0)

    def _logits_of_each(self, scans) -> list[np.ndarray]:
        """Return the logits of scans of shape (N, X, Y, Z), for each network."""
        volumes = np.asarray(scans, "float32")[..., None]
        return [network.logits(model, volumes) for model in self._fast]

    def _tested(self, prepared, say: Callable) -> SelfTest | None:
        """Return the test on painted lesions, where it is asked for."""
        if not self.settings.self_test:
            return None
        say("painting lesions one by one")
        seed = self.settings.seed
        return self_test.run(prepared, ROW, self.map_of, self.logits_of, seed)

    def _earlier(
        self, files: ScanFiles, prepared, now: Visit, folder, say: Callable
    ) -> Earlier | None:
        """Return what has changed since an earlier scan, where there is one."""
        if not files.before:
            return None
        say("bringing the earlier scan to the same place")
        before = _prepare_before(files, prepared, folder, self.normalisation)
        say("computing the map of the earlier scan")
        scan = before.image(ROW)
        visit = Visit(
            scan=scan,
            brain=before.brain(ROW),
            relevance=self.map_of(scan),
            logit=float(self.logits_of(scan[None])[0]),
            lesions=_lesions_before(files, before, prepared),
        )
        explanation = self.settings.explanation
        noise = visit_noise.read(
            self.paths, explanation.rule, explanation.epsilon, explanation.copies
        )
        return Earlier(
            prepared=before,
            quality=quality_control.measure(before).iloc[ROW],
            alignment=_alignment(before, prepared),
            comparison=Comparison.of(visit, now, noise),
        )

    def _flags(self, prepared, maps: heatmaps.ScanMaps) -> list[dict]:
        """Return the warnings of the map."""
        values = trust_warnings.measure(maps.relevance, maps.logits, prepared.brain(ROW))
        distance = self.reference.distances(self._fast, prepared, [ROW])[ROW]
        values["out_of_distribution"] = trust_warnings.number(distance)
        return trust_warnings.flags(values, self.reference.limits, self.reference.source)


def lesions_of(files: ScanFiles, prepared: Prepared, neighbours: int = 26) -> Lesions | None:
    """Return the lesions of a scan's mask, numbered in the space of its file.

    Parameters
    ----------
    files : ScanFiles
    prepared : msxai.data.prepared.Prepared
        The same scan, in row `ROW`.
    neighbours : {6, 18, 26}
        Of `msxai.regions.lesion_regions.NEIGHBOURS`.

    Returns
    -------
    Lesions or None
        None without a lesion mask.
    """
    if not files.lesion_mask:
        return None
    path = located(files.lesion_mask)
    lesions = prepared.lesions(ROW)
    return lesion_regions.read_lesions(path, _matrix(prepared), lesions, neighbours)


def _regions(files: ScanFiles, prepared: Prepared, marked: Lesions | None) -> RegionCounts | None:
    """Count the lesions of a scan by region, with each neighbourhood; None without a mask."""
    if marked is None:
        return None
    by_neighbours = {}
    for neighbours in NEIGHBOURS:
        by_neighbours[neighbours] = lesions_of(files, prepared, neighbours)
    anatomy = own_anatomy.find(prepared.image(ROW), prepared.brain(ROW), prepared.lesions(ROW))
    return mcdonald.count(by_neighbours, anatomy)


def write_maps(findings: Findings, folder, explainer: Explainer) -> list[Path]:
    """Write the map in MNI space and in the scan's own space, with sidecars, and the scan in MNI.

    Parameters
    ----------
    findings : Findings
    folder : path
    explainer : Explainer
        What has made the map.

    Returns
    -------
    list of pathlib.Path
        The NIfTI files.
    """
    folder = Path(folder)
    prepared = findings.prepared
    scan = _in_mni_space(np.where(prepared.brain(ROW), prepared.image(ROW), 0))
    in_mni = _in_mni_space(findings.relevance)
    in_own = heatmaps.on_file_grid(findings.relevance, prepared.table.iloc[ROW])
    written = {"MNI152": in_mni, "orig": in_own}
    paths = [folder / "scan_space-MNI152.nii.gz"]
    nib.save(scan, paths[0])
    for space, image in written.items():
        path = folder / MAPS[space]
        nib.save(image, path)
        total = float(np.sum(image.dataobj, dtype=float))
        sidecar = _sidecar(findings, explainer) | {"Space": space, "SumOfRelevance": total}
        provenance.write_json(str(path).replace(".nii.gz", ".json"), sidecar)
        paths.append(path)
    return paths


def write_changes(findings: Findings, folder, explainer: Explainer) -> list[Path]:
    """Write the change of the map with its sidecar, the earlier scan, and the table of lesions.

    Parameters
    ----------
    findings : Findings
        With an earlier scan.
    folder : path
    explainer : Explainer
        What has made the maps.

    Returns
    -------
    list of pathlib.Path
        The files of `CHANGE_FILES`; the table only where both visits have a lesion mask.
    """
    comparison = findings.earlier.comparison
    paths = {kind: Path(folder) / name for kind, name in CHANGE_FILES.items()}
    before = comparison.before
    nib.save(_in_mni_space(np.where(before.brain, before.scan, 0)), paths["scan"])
    nib.save(_in_mni_space(comparison.relevance_change), paths["map"])
    sidecar = _change_sidecar(findings, explainer)
    provenance.write_json(str(paths["map"]).replace(".nii.gz", ".json"), sidecar)
    if comparison.lesions is None:
        return [paths["map"], paths["scan"]]
    tsv.write(comparison.lesions, paths["lesions"], float_format="%.6g")
    return list(paths.values())


def remove_names(folder) -> None:
    """Remove from a scan's folder what may name or show a person.

    Paths in the prepared scan become words. What only the preparation needs is removed: a
    registered scan shows the face.

    Parameters
    ----------
    folder : path
        That of `Explainer.explain`, whose findings are written and whose files are closed.
    """
    folder = Path(folder)
    remove_paths(folder / _PREPARED)
    (folder / _PREPARED_T1).unlink(missing_ok=True)
    (folder / _PREPARED_BEFORE).unlink(missing_ok=True)
    if (folder / _REGISTRATION).exists():
        shutil.rmtree(folder / _REGISTRATION)


def _prepare(files: ScanFiles, participant: str, folder, normalisation: str) -> Prepared:
    """Bring a scan and its masks onto the model's grid."""
    scans = cohorts.from_images(
        [files.image],
        [files.lesion_mask] if files.lesion_mask else [],
        name="one scan",
        brain_masks=[files.brain_mask] if files.brain_mask else [],
        participants=[participant],
    )
    return _written(scans, Path(folder) / _PREPARED, folder, normalisation)


def _prepare_t1(files: ScanFiles, prepared: Prepared, folder) -> Prepared:
    """Bring the T1 of a scan onto the model's grid, by the transform of the scan."""
    participant = prepared.table["participant_id"].iloc[ROW]
    scans = cohorts.from_images([files.t1], modality="T1w", participants=[participant])
    table = scans.table.assign(flair=str(located(files.image)))
    scans = replace(scans, table=table)
    return _written(scans, Path(folder) / _PREPARED_T1, folder, "zscore")


def _prepare_before(files: ScanFiles, prepared: Prepared, folder, normalisation: str) -> Prepared:
    """Bring the earlier scan and its mask onto the model's grid, aligned to the scan of now.

    Two visits that are brought to the template each on its own lie 0.45 mm apart on average, those
    of which one is aligned to the other 0.17 mm (patient 01 of Lesjak et al. 2016, against the
    published transforms).
    """
    participant = prepared.table["participant_id"].iloc[ROW]
    scans = cohorts.from_images(
        [files.before],
        [files.before_lesion_mask] if files.before_lesion_mask else [],
        name="one scan",
        participants=[participant],
    )
    scans = replace(scans, table=scans.table.assign(session_id=_BEFORE))
    partner = _registration_of(files, prepared, folder)
    return _written(scans, Path(folder) / _PREPARED_BEFORE, folder, normalisation, partner)


def _registration_of(files: ScanFiles, prepared: Prepared, folder) -> Registration | None:
    """Return the registration of the scan of now; None where it lay in MNI space already."""
    if not _is_registered(prepared):
        return None
    participant = prepared.table["participant_id"].iloc[ROW]
    return derivatives.registered(
        located(files.image),
        Path(folder) / _REGISTRATION / participant / "anat",
        participant,
        modality="FLAIR",
        brain=located(files.brain_mask) if files.brain_mask else None,
    )


def _is_registered(prepared: Prepared) -> bool:
    """Return whether a scan was brought into MNI space by a registration."""
    return _registration_record(prepared)["route"] != "resampled"


def _alignment(before: Prepared, now: Prepared) -> str:
    """Return how two visits came to one place."""
    registered = {_is_registered(before), _is_registered(now)}
    if registered == {True, False}:
        return SEPARATE
    return ALIGNED if registered == {True} else UNMOVED


def _lesions_before(files: ScanFiles, before: Prepared, now: Prepared) -> Lesions | None:
    """Return the lesions of the earlier scan, with volumes of the space of the scan of now.

    Without this, a lesion would grow where one of the files is in MNI space, in which brains are
    larger.
    """
    lesions = lesions_of(ScanFiles(files.before, files.before_lesion_mask), before)
    if lesions is None:
        return None
    enlarged_before = images.voxel_volume(_matrix(before))
    enlarged_now = images.voxel_volume(_matrix(now))
    return replace(lesions, volumes=lesions.volumes * enlarged_before / enlarged_now)


def _registration_record(prepared: Prepared) -> dict:
    """Return the route of a scan into MNI space, with its flags."""
    return json.loads(prepared.table["registration"].iloc[ROW])


def _matrix(prepared: Prepared) -> np.ndarray:
    """Return the affine from the space of a scan's file to MNI152 (mm), shape (4, 4)."""
    return np.array(_registration_record(prepared).get("matrix", np.eye(4)))


def _in_mni_space(values) -> nib.Nifti1Image:
    """Return values on the model's grid as an image that says that it is in MNI152 space."""
    grid = nib.Nifti1Image(np.zeros(images.SHAPE, "uint8"), images.AFFINE)
    grid.set_sform(images.AFFINE, code=4)
    grid.set_qform(images.AFFINE, code=4)
    return images.with_space_of(grid, values)


def _written(
    scans, path: Path, folder, normalisation: str, partner: Registration | None = None
) -> Prepared:
    """Prepare a cohort of one scan, and open it."""
    split = scans.table[["participant_id", "session_id"]].assign(part="holdout")
    options = PreparationOptions(
        normalisation=normalisation,
        registration="auto",
        derivatives=Path(folder) / _REGISTRATION,
        partner=partner,
    )
    prepare(scans, split, path, options)
    return Prepared(path)


def _require_yes_or_no(cards: list[Card], paths: list[Path]) -> None:
    """Refuse networks whose output is no answer of yes or no."""
    for card, path in zip(cards, paths, strict=True):
        if card.task == "volume":
            raise ParameterError(
                "parameter weights",
                f"{path.name}, a network that estimates the volume of lesions",
                "networks that answer yes or no (task lesions or diagnosis)",
                "Leave it out.",
            )


def _require_one_question(cards: list[Card], paths: list[Path]) -> None:
    """Refuse networks that answer different questions: a mean over them would answer none."""
    questions = {}
    for card, path in zip(cards, paths, strict=True):
        question = f"task {card.task}" if card.task else "a task that no record names"
        if card.cohort:
            question += f" on {card.cohort}"
        questions.setdefault(question, path.name)
    if len(questions) > 1:
        named = [f"{name}: {question}" for question, name in questions.items()]
        raise ParameterError(
            "parameter weights",
            f"networks of different trainings ({', '.join(named)})",
            "networks that answer the same question, as trials of one training do",
            "Explain the scan by each of them alone.",
        )


def _card(path: Path) -> Card:
    """Return what is known of a network; its modality by its cohort, where that is at hand."""
    card = training_records.card(path)
    if card.modality:
        return card
    cohort, _ = trust_warnings.reference(path)
    return card if cohort is None else replace(card, modality=cohort.modality)


def _normalisation(cards: list[Card], paths: list[Path]) -> str:
    """Return the normalisation that all networks were trained with."""
    names = {card.parameters.get("normalisation", "zscore") for card in cards}
    if len(names) > 1 or names == {"voxelwise"}:
        raise ParameterError(
            "parameter weights",
            f"networks trained with the normalisation {', '.join(sorted(names))}",
            "zscore for all, or max for all",
            f"Leave out or train anew: {', '.join(path.name for path in paths)}.",
        )
    return names.pop()


def _sidecar(findings: Findings, explainer: Explainer) -> dict:
    """Return what the sidecar of a map says; no name, path or date."""
    prepared = findings.prepared
    explanation = explainer.settings.explanation
    return {
        **heatmaps.common_sidecar(prepared, explainer.paths, explanation),
        **heatmaps.scan_sidecar(prepared.table.iloc[ROW], findings.maps, findings.flags),
        "Target": _TARGETS.get(explainer.cards[0].task, "logit"),
        "Statistic": "mean over networks",
        "LogitsOfScan": findings.logits,
    }


def _change_sidecar(findings: Findings, explainer: Explainer) -> dict:
    """Return what the sidecar of the change says; no name, path or date."""
    comparison = findings.earlier.comparison
    explanation = explainer.settings.explanation
    limits = {}
    if comparison.noise is not None:
        noise = comparison.noise
        limits = {
            "OneScanner": _limits_in_sidecar(noise.one_scanner),
            "TwoScanners": _limits_in_sidecar(noise.two_scanners),
            "From": noise.source,
        }
    return {
        **heatmaps.common_sidecar(findings.prepared, explainer.paths, explanation),
        "Target": _TARGETS.get(explainer.cards[0].task, "logit"),
        "Statistic": "mean over networks, this scan minus the earlier scan",
        "Space": "MNI152",
        "SumOfRelevance": float(comparison.relevance_change.sum(dtype=float)),
        "Logit": comparison.now.logit,
        "LogitBefore": comparison.before.logit,
        "LimitsOfNoise": limits,
        "Alignment": findings.earlier.alignment,
        "ScanSHA256": findings.prepared.table["source_sha256"].iloc[ROW],
        "ScanBeforeSHA256": findings.earlier.prepared.table["source_sha256"].iloc[ROW],
    }


def _limits_in_sidecar(limits: visit_noise.Limits) -> dict:
    """Return limits of noise as a sidecar has them."""
    entries = {"LogitChange": limits.logit}
    if limits.has_maps:
        entries["ChangeOf5Percent"] = limits.of_map("map_95")
        entries["ChangeOf0.1Percent"] = limits.of_map("map_999")
    return entries

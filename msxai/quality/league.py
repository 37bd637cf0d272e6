"""Rules, other methods and baselines compared on the same scans: the data of the league table."""

from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai.base import provenance, tsv
from msxai.base.parameters import one_of
from msxai.model import network
from msxai.quality import checks, faithfulness, localisation, reference_maps, scan_maps

__all__ = [
    "CONTROLLED",
    "CONTROLS",
    "NEVER",
    "PERMUTED",
    "UNTRAINED",
    "Comparison",
    "Settings",
    "compare",
    "controls",
    "rank",
    "save",
    "spread_evenly",
    "summary",
]

UNTRAINED = "untrained"
PERMUTED = "permuted labels"
CONTROLS = (UNTRAINED, PERMUTED)
CONTROLLED = ("auprc", "rma", "rra")  # measures of the controls
NEVER = {
    "random logit": ("with one output the map of the other class is this map with its sign turned")
}
_SUBJECT = "participant_id"


@dataclass(frozen=True)
class Settings:
    """What `compare` compares, and how.

    Attributes
    ----------
    rules, methods : sequence of str
        Of `msxai.lrp.rules.NAMES` and `msxai.lrp.METHODS`.
    checked_maps : sequence of str
        Maps that the first network's deletion, insertion, randomisation, conservation and jitter
        are measured for; of baselines deletion and insertion only.
    n_checked_scans : int
        Number of judged scans that they are measured on, evenly spread.
    width : int
        Filters of each convolution of the untrained network.
    epsilon : float
        Of the epsilon rule.
    tta_copies : int
        Shifted and mirrored copies of a scan that a map of a rule or method is the mean over
        (`msxai.lrp.tta`), also for the controls. Randomisation, conservation and jitter use the
        scan alone.
    seed : int
        Of the untrained network and the random map.
    threads : int
        Of the kernels.

    Raises
    ------
    ParameterError
        A name in `checked_maps` that is no map, with the nearest one.
    """

    rules: tuple
    methods: tuple
    checked_maps: tuple
    n_checked_scans: int
    width: int
    epsilon: float = 1e-3
    tta_copies: int = 1
    seed: int = 0
    threads: int = 1

    def __post_init__(self):
        choices = [*self.explained, *reference_maps.NAMES]
        for name in self.checked_maps:
            one_of("checked_maps", name, choices)

    @property
    def explained(self) -> list[str]:
        """Names of the rules and methods."""
        return [*self.rules, *self.methods]


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Attributes
    ----------
    scores : pandas.DataFrame
        One row a map and judged scan: map, kind (rule, method or baseline), participant_id,
        session_id, label, lesion_voxels, positive (sum of R+), consistency (Spearman's correlation
        of the first two networks' maps, else NaN), and with a lesion mask the results of
        `msxai.quality.localisation.measure`. Judged are the scans with lesions; where no mask is
        known the patients, or all scans if none is a patient.
    controls : pandas.DataFrame
        One row a map, control (of `CONTROLS`) and scan with lesions: map, control, participant_id,
        session_id, label, and `CONTROLLED` measures of the same map of a network that has not
        learnt the disease.
    faithfulness : pandas.DataFrame
        map, deletion, insertion, participant_id, session_id, label of some judged scans; see
        `msxai.quality.faithfulness.compare`.
    checks, cascades : pandas.DataFrame
        See `msxai.quality.checks.run`; of the first network on the same scans.
    means : dict
        Map to {1: mean map of patients, 0: of controls}, where there are such scans.
    brain : ndarray of bool, shape (X, Y, Z)
        Voxels inside the brain of at least half of the scans.
    left_out : dict
        What is missing, and why.
    judged : list of int
        Rows of the judged scans.
    example : tuple of (int, dict)
        Row of the judged scan with the median lesion volume, a patient where there is one, and its
        maps.
    """

    scores: pd.DataFrame
    controls: pd.DataFrame
    faithfulness: pd.DataFrame
    checks: pd.DataFrame
    cascades: pd.DataFrame
    means: dict
    brain: np.ndarray
    left_out: dict
    judged: list
    example: tuple


@dataclass(frozen=True)
class _Networks:
    """Trained networks, and control to networks that have not learnt the disease."""

    trained: list
    controls: dict

    @property
    def untrained(self) -> keras.Model:
        return self.controls[UNTRAINED][0]


@dataclass(frozen=True)
class _Selection:
    """Which scans are used for what.

    Attributes
    ----------
    lesioned : set of int
        Rows of scans with lesions.
    judged : list of int
    checked : list of int
        Some judged scans, evenly spread.
    example : int
    """

    lesioned: set
    judged: list
    checked: list
    example: int


@dataclass(frozen=True)
class _Scan:
    """One scan as the measures need it."""

    row: int
    image: np.ndarray
    brain: np.ndarray
    target: localisation.Target
    lesioned: bool
    identifiers: dict


@dataclass(frozen=True)
class _Map:
    """A map of one scan: mean over networks, and the map of each network (none of a baseline)."""

    kind: str
    mean: np.ndarray
    by_network: list


@dataclass
class _Means:
    """Sums of maps and brains over scans, from which means are taken."""

    sums: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)
    brains: np.ndarray | int = 0
    scans: int = 0

    def add(self, scan: _Scan, maps: dict) -> None:
        """Add one scan."""
        label = scan.identifiers["label"]
        for name, relevance in maps.items():
            key = (name, label)
            self.sums[key] = self.sums.get(key, 0) + relevance.mean
            self.counts[key] = self.counts.get(key, 0) + 1
        self.brains = self.brains + scan.brain
        self.scans += 1

    def maps(self) -> dict:
        """Map to {label: mean}."""
        means = {}
        for (name, label), total in self.sums.items():
            means.setdefault(name, {})[label] = total / self.counts[name, label]
        return means

    def brain(self) -> np.ndarray:
        """Voxels inside the brain of at least half of the scans."""
        return self.brains >= self.scans / 2


def compare(
    prepared,
    rows,
    weights,
    tuned: reference_maps.Tuned | None,
    settings: Settings,
    permuted=(),
) -> Comparison:
    """Explain scans by every rule and method, and measure each map; a map is a mean over networks.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Which scans. Those that are not judged (see `Comparison`) count only in the mean maps.
    weights : sequence of path
        One weights file (.npz) for each network.
    tuned : msxai.quality.reference_maps.Tuned or None
        With None, only baselines that need no lesion masks are used.
    settings : Settings
    permuted : sequence of path
        Weights files of networks that were trained on permuted labels, if there are any.

    Returns
    -------
    Comparison
    """
    networks = _networks(weights, permuted, settings)
    selection, left_out = _select(prepared, rows, len(networks.trained), settings)
    left_out |= _missing_inputs(tuned, permuted)
    logit = faithfulness.logit_of(networks.trained[0], settings.threads)
    scores = []
    control_scores = []
    faithful = []
    means = _Means()
    for row in tqdm(rows, desc="comparing", unit="scan"):
        scan = _read(prepared, row, row in selection.lesioned)
        maps = _maps(prepared, scan, networks, tuned, settings)
        means.add(scan, maps)
        if row in selection.judged:
            scores += _scores(scan, maps)
        if scan.lesioned:
            control_scores += _control_scores(scan, networks.controls, settings)
        if row == selection.example:
            example_maps = {name: relevance.mean for name, relevance in maps.items()}
        if row in selection.checked and settings.checked_maps:
            faithful.append(_faithfulness(scan, maps, logit, settings))
    checked, cascades = _checks(prepared, selection, networks, settings)
    columns = ["map", "deletion", "insertion"]
    faithful = faithful or [pd.DataFrame(columns=columns)]
    return Comparison(
        scores=pd.DataFrame(scores),
        controls=pd.DataFrame(control_scores),
        faithfulness=pd.concat(faithful, ignore_index=True),
        checks=checked,
        cascades=cascades,
        means=means.maps(),
        brain=means.brain(),
        left_out=left_out,
        judged=selection.judged,
        example=(selection.example, example_maps),
    )


def _networks(weights, permuted, settings: Settings) -> _Networks:
    """Load the networks and build the untrained one."""
    trained = [network.restore(path) for path in weights]
    untrained = reference_maps.untrained(settings.width, settings.seed)
    with_permuted_labels = [network.restore(path) for path in permuted]
    return _Networks(trained, {UNTRAINED: [untrained], PERMUTED: with_permuted_labels})


def _select(prepared, rows, n_networks: int, settings: Settings) -> tuple[_Selection, dict]:
    """Select scans; return with them what is left out for want of masks, groups or networks."""
    left_out = dict(NEVER)
    lesioned = set(reference_maps.with_lesions(prepared, rows).tolist())
    labels = prepared.table["label"].iloc[list(rows)].to_numpy("float", na_value=np.nan)
    patients = {int(row) for row, label in zip(rows, labels, strict=True) if label == 1}
    without_mask = sum(not prepared.has_lesions[row] for row in rows)
    if not lesioned:
        reason = f"no lesions are known in the {len(rows)} scans ({without_mask} without a mask)"
        for name in ("scores against lesions", "league", "dose"):
            left_out[name] = reason
    elif without_mask:
        reason = f"{without_mask} of {len(rows)} scans have no lesion mask"
        left_out["scores against lesions: some scans"] = reason
    if not {0, 1} <= set(labels):
        left_out["contrast"] = "it takes scans of patients and of controls"
    if n_networks < 2:
        left_out["consistency"] = "it takes two networks"
    judged = sorted(lesioned or patients or {int(row) for row in rows})
    checked = spread_evenly(judged, settings.n_checked_scans)
    example = _median_lesions(prepared, judged, patients)
    return _Selection(lesioned, judged, checked, example), left_out


def _median_lesions(prepared, judged: list, patients: set) -> int:
    """Return the judged scan with the median lesion volume, of patients where there are any."""
    candidates = [row for row in judged if row in patients] or judged
    by_volume = sorted(candidates, key=lambda row: prepared.lesions(row).sum())
    return by_volume[len(by_volume) // 2]


def _missing_inputs(tuned, permuted) -> dict:
    """Return what is left out for want of tuned baselines or of networks on permuted labels."""
    left_out = {}
    if not len(permuted):
        reason = "no such networks were given (make quality has one)"
        left_out["training on permuted labels"] = reason
    if tuned is None:
        reason = (
            "baselines are tuned on scans with lesions, "
            "which the training or the validation part lacks"
        )
        left_out |= {"league": reason, "baselines edges and prior": reason}
    return left_out


def spread_evenly(rows, count: int) -> list[int]:
    """Return at most `count` of the rows, evenly spread.

    Examples
    --------
    >>> spread_evenly([10, 11, 12, 13, 14], 3)
    [10, 12, 14]
    """
    if not len(rows):
        return []
    positions = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return [int(rows[position]) for position in np.unique(positions)]


def _read(prepared, row: int, lesioned: bool) -> _Scan:
    """Read one scan."""
    entry = prepared.table.iloc[row]
    identifiers = {
        "participant_id": entry["participant_id"],
        "session_id": entry["session_id"],
        "label": None if pd.isna(entry["label"]) else int(entry["label"]),
    }
    brain = prepared.brain(row)
    target = localisation.Target(prepared.lesions(row), brain)
    return _Scan(row, prepared.image(row), brain, target, lesioned, identifiers)


def _maps(prepared, scan: _Scan, networks: _Networks, tuned, settings: Settings) -> dict:
    """Return name to `_Map`: of rules and methods, then of baselines."""
    maps = {}
    for name, by_network in _explained(networks.trained, scan, settings).items():
        kind = "method" if name in settings.methods else "rule"
        maps[name] = _Map(kind, np.mean(by_network, axis=0), by_network)
    baselines = reference_maps.maps(
        prepared,
        scan.row,
        tuned,
        networks.untrained,
        settings.seed,
        epsilon=settings.epsilon,
        threads=settings.threads,
    )
    for name, relevance in baselines.items():
        maps[name] = _Map("baseline", relevance, [])
    return maps


def _explained(models, scan: _Scan, settings: Settings) -> dict:
    """Return name of a rule or method to the map of each network; empty without networks."""
    by_name = {}
    for model in models:
        maps = scan_maps.of_scan(
            model,
            scan.image,
            settings.explained,
            epsilon=settings.epsilon,
            copies=settings.tta_copies,
            threads=settings.threads,
        )
        for name, relevance in maps.items():
            by_name.setdefault(name, []).append(relevance)
    return by_name


def _scores(scan: _Scan, maps: dict) -> list[dict]:
    """Return the rows of `Comparison.scores` of one scan."""
    scores = []
    for name, relevance in maps.items():
        row = {"map": name, "kind": relevance.kind, **scan.identifiers}
        if scan.lesioned:
            row["lesion_voxels"] = scan.target.size
            row |= _measured(relevance.mean, scan)
        else:
            row["lesion_voxels"] = np.nan
            row["positive"] = float(localisation.positive(relevance.mean).sum())
        row["consistency"] = np.nan
        if len(relevance.by_network) > 1:
            first, second = relevance.by_network[:2]
            row["consistency"] = localisation.consistency(first, second, scan.brain)
        scores.append(row)
    return scores


def _measured(relevance, scan: _Scan, names=None) -> dict:
    """Measure a map against the lesions of a scan."""
    target = scan.target
    return localisation.measure(relevance, target.lesions, target.brain, target, names)


def _control_scores(scan: _Scan, networks: dict, settings: Settings) -> list[dict]:
    """Return the rows of `Comparison.controls` of one scan."""
    scores = []
    for control, models in networks.items():
        for name, by_network in _explained(models, scan, settings).items():
            measures = _measured(np.mean(by_network, axis=0), scan, CONTROLLED)
            row = {"map": name, "control": control, **scan.identifiers}
            for measure in CONTROLLED:
                row[measure] = measures[measure]
            scores.append(row)
    return scores


def _faithfulness(scan: _Scan, maps: dict, logit, settings: Settings) -> pd.DataFrame:
    """Return deletion and insertion of the checked maps of one scan."""
    mask = scan.target.lesions if scan.lesioned else None
    filled = faithfulness.fill(scan.image, scan.brain, settings.seed, mask=mask)
    exchange = faithfulness.Exchange(scan.image, filled, scan.brain)
    checked = {name: maps[name].mean for name in settings.checked_maps if name in maps}
    table = faithfulness.compare(logit, exchange, checked, seed=settings.seed, orders=1)
    return table.assign(**scan.identifiers)


def _checks(prepared, selection: _Selection, networks: _Networks, settings: Settings):
    """Return checks and cascades of the checked maps that depend on the network."""
    names = [name for name in settings.checked_maps if name in settings.explained]
    if not names:
        return pd.DataFrame(), pd.DataFrame()
    return checks.run(
        networks.trained[0],
        prepared,
        selection.checked,
        names,
        epsilon=settings.epsilon,
        seed=settings.seed,
        threads=settings.threads,
    )


def rank(comparison: Comparison, seed: int = 0) -> pd.DataFrame:
    """Return the league table, with all baselines; empty where it is left out.

    See `msxai.quality.localisation.rank`.
    """
    if "league" in comparison.left_out:
        return pd.DataFrame()
    scores = comparison.scores
    with_lesions = scores[scores["lesion_voxels"].notna()]
    return localisation.rank(with_lesions, reference_maps.NAMES, seed)


def controls(comparison: Comparison, seed: int = 0) -> pd.DataFrame:
    """Compare each map with the same map of networks that have not learnt the disease.

    Returns
    -------
    pandas.DataFrame
        One row a map, control and measure (of `CONTROLLED`): map, control, measure, trained and
        value (means over subjects), difference with `_low` and `_high` (paired, bootstrap over
        subjects), subjects. Empty without lesion masks.
    """
    if comparison.controls.empty:
        return pd.DataFrame()
    measures = list(CONTROLLED)
    trained = comparison.scores.groupby(["map", _SUBJECT])[measures].mean()
    rows = []
    for (name, control), scores in comparison.controls.groupby(["map", "control"], sort=False):
        untaught = scores.groupby(["map", _SUBJECT])[measures].mean()
        for measure in CONTROLLED:
            columns = {"trained": trained[measure], "value": untaught[measure]}
            pairs = pd.concat(columns, axis=1, join="inner").dropna()
            differences = pairs["trained"] - pairs["value"]
            difference, low, high = localisation.mean_interval(differences, seed)
            row = {
                "map": name,
                "control": control,
                "measure": measure,
                "trained": pairs["trained"].mean(),
                "value": pairs["value"].mean(),
                "difference": difference,
                "difference_low": low,
                "difference_high": high,
                "subjects": len(pairs),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def summary(comparison: Comparison, seed: int = 0) -> pd.DataFrame:
    """Return what is one number for each map.

    Returns
    -------
    pandas.DataFrame
        map; dose (Pearson's correlation of sum(R+) with lesion volume), consistency of two
        networks, deletion and insertion, each with `_low` and `_high`; contrast (correlation of
        the mean maps of patients and of controls); deletion_p and insertion_p of Wilcoxon's
        one-sided test over subjects. NaN where something is missing.
    """
    rows = []
    for name, scores in comparison.scores.groupby("map", sort=False):
        by_subject = scores.groupby(_SUBJECT, sort=False)
        means = by_subject[["positive", "lesion_voxels", "consistency"]].mean()
        deletion = _by_subject(comparison.faithfulness, name, "deletion")
        insertion = _by_subject(comparison.faithfulness, name, "insertion")
        row = {
            "map": name,
            "deletion_p": localisation.above_zero(deletion),
            "insertion_p": localisation.above_zero(insertion),
        }
        intervals = {
            "dose": _dose(means, seed),
            "consistency": localisation.mean_interval(means["consistency"], seed),
            "deletion": localisation.mean_interval(deletion, seed),
            "insertion": localisation.mean_interval(insertion, seed),
        }
        for key, (value, low, high) in intervals.items():
            row |= {key: value, f"{key}_low": low, f"{key}_high": high}
        row["contrast"] = _contrast(comparison, name)
        rows.append(row)
    return pd.DataFrame(rows)


def _by_subject(table: pd.DataFrame, name: str, column: str) -> np.ndarray:
    """Return a column of one map, mean over the visits of each subject."""
    if table.empty:
        return np.zeros(0)
    rows = table[table["map"] == name]
    return rows.groupby(_SUBJECT, sort=False)[column].mean().to_numpy(float)


def _dose(means: pd.DataFrame, seed: int) -> tuple[float, float, float]:
    """Return the correlation of sum(R+) with lesion volume; NaN for fewer than three subjects."""
    with_mask = means[means["lesion_voxels"].notna()]
    if len(with_mask) < 3 or means["positive"].nunique() < 2:
        return np.nan, np.nan, np.nan
    return localisation.correlation_interval(
        with_mask["positive"], with_mask["lesion_voxels"], seed
    )


def _contrast(comparison: Comparison, name: str) -> float:
    """Return the correlation of the mean maps of both groups; NaN where a group is missing."""
    means = comparison.means[name]
    if not {0, 1} <= set(means):
        return np.nan
    return localisation.class_contrast(means[1], means[0], comparison.brain)


def save(folder, tables: dict, parameters: dict, inputs, left_out: dict | None = None) -> None:
    """Write the tables that are not empty, and what was left out; last provenance.json.

    Parameters
    ----------
    folder : path
    tables : dict
        Name without ending to a table. The file of an empty table, of an earlier run, is removed.
    parameters : dict
        Of the notebook.
    inputs : iterable of path
        Files that the tables depend on.
    left_out : dict, optional
        What is missing, and why.
    """
    folder = Path(folder)
    left_out = left_out or {}
    reasons = pd.DataFrame({"what": list(left_out), "why": list(left_out.values())})
    outputs = []
    for name, table in {**tables, "left_out": reasons}.items():
        path = folder / f"{name}.tsv"
        path.unlink(missing_ok=True)
        if len(table):
            outputs.append(tsv.write(table, path, float_format="%.6g"))
    record = provenance.record(parameters, inputs, outputs, left_out=left_out)
    provenance.write_json(folder / "provenance.json", record)

"""Rules, other ways of explaining, and baselines side by side on the same scans: what the league table is made from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.parameters import one_of
from msxai.model import network
from msxai.quality import (
    faithfulness,
    localisation,
    model_randomisation,
    reference_maps,
    scan_maps,
)

UNTRAINED, PERMUTED = CONTROLS = ("untrained", "permuted labels")
CONTROLLED = ("auprc", "rma", "rra")  # measures of the controls
NEVER = {
    "random logit": "with one output the map of the other class is this map with its sign turned"
}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    scores : pandas.DataFrame
        One row a map and judged scan: map, kind (rule, method or baseline), participant_id, session_id, label, lesion_voxels, positive
        (sum of R+), consistency (Spearman of the first two networks' maps; NaN otherwise), and where there are masks what
        `msxai.quality.localisation.measure` gives. Judged are the scans with lesions; where no mask is known the patients, else all.
    controls : pandas.DataFrame
        One row a map, control (of `CONTROLS`) and scan with lesions: participant_id, session_id, and auprc, rma and rra of the same
        map of a network that has learnt nothing of the disease.
    faithfulness : pandas.DataFrame
        map, deletion, insertion, participant_id of some judged scans: see `msxai.quality.faithfulness.compare`.
    checks, cascades : pandas.DataFrame
        See `msxai.quality.model_randomisation.checks`; of the first network on the same scans.
    means : dict
        Map to {1: mean map of patients, 0: of controls}, where there are such scans.
    brain : ndarray of bool, shape (X, Y, Z)
        Voxels inside the brain of at least half of the scans.
    left_out : dict
        What is not there, and why.
    judged : list of int
        Rows of the judged scans.
    example : tuple of (int, dict)
        Row of the judged scan with the median lesion volume, a patient where there is one, and its maps.
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


def compare(
    prepared,
    rows,
    weights,
    tuned,
    *,
    rules,
    methods,
    epsilon,
    examined,
    checked,
    width,
    seed,
    threads,
    permuted=(),
    copies=1,
) -> Comparison:
    """Explain scans in every way and measure each map; a map is the mean over the networks.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Which scans. Those that are not judged (see `Comparison`) count in the mean maps alone.
    weights : sequence of path
        One weights file (.npz) a network.
    tuned : msxai.quality.reference_maps.Tuned or None
        None: baselines that need no lesion masks only.
    rules, methods : sequence of str
        Of `msxai.lrp.rules.NAMES` and `msxai.lrp.METHODS`.
    epsilon : float
        Of the epsilon rule.
    examined : sequence of str
        Maps whose deletion, insertion (baselines too), randomisation, conservation and jitter are measured, by the first network.
    checked : int
        On how many of the judged scans, evenly spread.
    width, seed, threads : int
        Of the untrained network; of it and the random map; of the kernels.
    permuted : sequence of path
        Weights files of networks that were trained on permuted labels, if any.
    copies : int
        Shifted and mirrored copies of a scan that a map of the rules and methods is the mean over (`msxai.lrp.tta`), the controls' too;
        randomisation, conservation and jitter are of the scan alone.
    """
    names = [*rules, *methods]
    examined = [one_of("examined", name, [*names, *reference_maps.NAMES]) for name in examined]
    models = [network.restore(path) for path in weights]
    controls = {
        UNTRAINED: [reference_maps.untrained(width, seed)],
        PERMUTED: [network.restore(path) for path in permuted],
    }
    logit, options = (
        faithfulness.logit_of(models[0], threads),
        {"epsilon": epsilon, "threads": threads},
    )
    scores, others, faithful, sums, brains, shown = [], [], [], {}, 0, {}
    lesioned, judged, left_out = _judged(prepared, rows, tuned, len(models))
    if not len(permuted):
        left_out["training on permuted labels"] = (
            "no such networks were given (make quality has one)"
        )
    example, chosen = _example(prepared, judged), few(sorted(judged), checked)
    for row in tqdm(rows, desc="comparing", unit="scan"):
        scan, image, brain, lesions = (
            prepared.table.iloc[row],
            prepared.image(row),
            prepared.brain(row),
            prepared.lesions(row),
        )
        found = explained(models, image, names, copies=copies, **options)
        maps = {
            name: ("method" if name in methods else "rule", np.mean(each, axis=0))
            for name, each in found.items()
        }
        rest = reference_maps.maps(prepared, row, tuned, controls[UNTRAINED][0], seed, **options)
        maps |= {name: ("baseline", values) for name, values in rest.items()}
        brains = brains + brain
        label = None if pd.isna(scan["label"]) else int(scan["label"])
        who = {
            "participant_id": scan["participant_id"],
            "session_id": scan["session_id"],
            "label": label,
        }
        target, volume = (
            localisation.Target(lesions, brain),
            int(lesions.sum()) if row in lesioned else np.nan,
        )
        for name, (kind, values) in maps.items():
            total, count = sums.setdefault(name, {}).get(label, (0, 0))
            sums[name][label] = total + values, count + 1
            if row in judged:
                each = found.get(name, [])
                alike = (
                    localisation.consistency(each[0], each[1], brain) if len(each) > 1 else np.nan
                )
                known = row in lesioned
                more = (
                    localisation.measure(values, lesions, brain, target)
                    if known
                    else {"positive": float(localisation.positive(values).sum())}
                )
                scores.append(
                    {
                        "map": name,
                        "kind": kind,
                        **who,
                        "lesion_voxels": volume,
                        **more,
                        "consistency": alike,
                    }
                )
        for control, networks in controls.items() if row in lesioned else ():
            for name, each in explained(networks, image, names, copies=copies, **options).items():
                one = localisation.measure(
                    np.mean(each, axis=0), lesions, brain, target, CONTROLLED
                )
                others.append(
                    {
                        "map": name,
                        "control": control,
                        **who,
                        **{measure: one[measure] for measure in CONTROLLED},
                    }
                )
        if row == example:
            shown = {name: values for name, (_, values) in maps.items()}
        if row in chosen and examined:
            filled = faithfulness.fill(
                image, brain, seed, mask=lesions if row in lesioned else None
            )
            some = {name: maps[name][1] for name in examined if name in maps}
            faithful.append(
                faithfulness.compare(logit, image, brain, some, filled, seed=seed, orders=1).assign(
                    **who
                )
            )
    means = {
        name: {label: total / count for label, (total, count) in both.items()}
        for name, both in sums.items()
    }
    faithful = (
        pd.concat(faithful, ignore_index=True)
        if faithful
        else pd.DataFrame(columns=["map", "deletion", "insertion"])
    )
    dependent = [name for name in examined if name in names]
    checks, cascades = (
        model_randomisation.checks(models[0], prepared, chosen, dependent, seed=seed, **options)
        if dependent
        else (pd.DataFrame(),) * 2
    )
    return Comparison(
        pd.DataFrame(scores),
        pd.DataFrame(others),
        faithful,
        checks,
        cascades,
        means,
        brains >= len(rows) / 2,
        left_out,
        sorted(judged),
        (example, shown),
    )


def _judged(prepared, rows, tuned, count: int) -> tuple[set, set, dict]:
    """Rows with lesions, rows that are judged, and what is left out, why."""
    lesioned, left_out = set(reference_maps.with_lesions(prepared, rows).tolist()), dict(NEVER)
    labels = prepared.table["label"].iloc[list(rows)].to_numpy("float", na_value=np.nan)
    patients = {int(row) for row, label in zip(rows, labels, strict=True) if label == 1}
    unknown = sum(not prepared.has_lesions[row] for row in rows)
    if not lesioned:
        why = f"no lesions are known in the {len(rows)} scans ({unknown} without a mask)"
        left_out |= dict.fromkeys(("scores against lesions", "league", "dose"), why)
    elif unknown:
        left_out["scores against lesions: some scans"] = (
            f"{unknown} of {len(rows)} scans have no lesion mask"
        )
    if not {0, 1} <= set(labels):
        left_out["contrast"] = "it takes scans of patients and of controls"
    if count < 2:
        left_out["consistency"] = "it takes two networks"
    if tuned is None:
        why = "baselines are tuned on scans with lesions, which the training or the validation part lacks"
        left_out |= {"league": why, "baselines edges and prior": why}
    return lesioned, lesioned or patients or set(map(int, rows)), left_out


def _example(prepared, judged) -> int:
    """The scan with the median lesion volume, of patients where there are any."""
    judged = sorted(judged)
    patients = [
        row
        for row in judged
        if prepared.table["label"].iloc[row] is not pd.NA and prepared.table["label"].iloc[row] == 1
    ] or judged
    return sorted(patients, key=lambda row: prepared.lesions(row).sum())[len(patients) // 2]


def explained(models, image, names, **options) -> dict:
    """Maps of one scan of shape (X, Y, Z): name to a map of each network; `options` of `msxai.quality.scan_maps.of_scan`."""
    found = [scan_maps.of_scan(model, image, names, **options) for model in models]
    return {name: [one[name] for one in found] for name in names} if found else {}


def few(rows, count: int) -> list[int]:
    """`count` of the rows, evenly spread."""
    return (
        [
            int(rows[place])
            for place in np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
        ]
        if len(rows)
        else []
    )


def league(found: Comparison, seed: int = 0) -> pd.DataFrame:
    """`msxai.quality.localisation.league` with all baselines; empty where it is left out."""
    if "league" in found.left_out:
        return pd.DataFrame()
    return localisation.league(
        found.scores[found.scores["lesion_voxels"].notna()], reference_maps.NAMES, seed
    )


def controls(found: Comparison, seed: int = 0) -> pd.DataFrame:
    """Each map beside the same of networks that have learnt nothing of the disease.

    Returns
    -------
    pandas.DataFrame
        One row a map, control and measure (of `CONTROLLED`): map, control, measure, trained and value (means over subjects), difference
        with `_low` and `_high` (paired, bootstrap over subjects), subjects. Empty without lesion masks.
    """
    if found.controls.empty:
        return pd.DataFrame()
    keys, rows = ["map", "participant_id"], []
    trained = found.scores.groupby(keys)[list(CONTROLLED)].mean()
    for (name, control), one in found.controls.groupby(["map", "control"], sort=False):
        both = one.groupby(keys)[list(CONTROLLED)].mean()
        for measure in CONTROLLED:
            pair = pd.concat(
                [trained[measure], both[measure]], axis=1, keys=["trained", "value"], join="inner"
            ).dropna()
            difference, low, high = localisation.mean_interval(
                pair["trained"] - pair["value"], seed
            )
            rows.append(
                {
                    "map": name,
                    "control": control,
                    "measure": measure,
                    **pair.mean(),
                    "difference": difference,
                    "difference_low": low,
                    "difference_high": high,
                    "subjects": len(pair),
                }
            )
    return pd.DataFrame(rows)


def summary(found: Comparison, seed: int = 0) -> pd.DataFrame:
    """What is one number a map and not one a subject.

    Returns
    -------
    pandas.DataFrame
        map; dose (Pearson's correlation of sum(R+) with lesion volume) with `_low` and `_high`; consistency of two networks with its
        interval; contrast (correlation of the mean maps of patients and controls); deletion and insertion with their intervals and the
        p of Wilcoxon's one-sided test over subjects. NaN where something is not there.
    """
    rows = []
    for name, table in found.scores.groupby("map", sort=False):
        means, row = found.means[name], {"map": name}
        table = table.groupby("participant_id", sort=False)[
            ["positive", "lesion_voxels", "consistency"]
        ].mean()  # visits of a subject
        enough = table["lesion_voxels"].notna().sum() > 2 and table["positive"].nunique() > 1
        known = table[table["lesion_voxels"].notna()]
        values = {
            "dose": localisation.correlation_interval(
                known["positive"], known["lesion_voxels"], seed
            )
            if enough
            else (np.nan,) * 3,
            "consistency": localisation.mean_interval(table["consistency"], seed),
        }
        faithful = found.faithfulness[found.faithfulness["map"] == name]
        for way in ("deletion", "insertion"):
            each = (
                faithful.groupby("participant_id", sort=False)[way].mean().to_numpy(float)
                if len(faithful)
                else np.zeros(0)
            )
            values[way] = localisation.mean_interval(each, seed)
            row[f"{way}_p"] = localisation.above_zero(each)
        for key, (value, low, high) in values.items():
            row |= {key: value, f"{key}_low": low, f"{key}_high": high}
        row["contrast"] = (
            localisation.class_contrast(means[1], means[0], found.brain)
            if {0, 1} <= set(means)
            else np.nan
        )
        rows.append(row)
    return pd.DataFrame(rows)


def save(folder, tables: dict, parameters: dict, inputs, left_out: dict | None = None) -> None:
    """Write tables (name to DataFrame) that are not empty, and what was left out, as .tsv; last provenance.json."""
    tables = {
        **tables,
        "left_out": pd.DataFrame(
            {"what": list(left_out or {}), "why": list((left_out or {}).values())}
        ),
    }
    for name in tables:
        (folder / f"{name}.tsv").unlink(missing_ok=True)  # of an earlier run, that another has
    tables = {name: table for name, table in tables.items() if len(table)}
    files = [folder / f"{name}.tsv" for name in tables]
    for path, table in zip(files, tables.values(), strict=True):
        with provenance.replacing(path) as draft:
            table.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    record = provenance.record(parameters, inputs, files, left_out=left_out or {})
    provenance.write_json(folder / "provenance.json", record)

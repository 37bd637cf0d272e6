"""Rules, other ways of explaining, and baselines side by side on the same scans: what the league table is made from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from . import attribution, integrity, lrp, network, quality, reference_maps, sanity
from .parameters import one_of

FASTER = {"integrated_gradients": {"steps": 8}, "smoothgrad": {"steps": 8}, "occlusion": {"size": 12}}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    scores : pandas.DataFrame
        One row a map and scan with lesions: map, kind (rule, method or baseline), participant_id, session_id, label, lesion_voxels, then
        what `msxai.quality.measure` gives, and consistency (Spearman of the first two networks' maps; NaN otherwise).
    faithfulness : pandas.DataFrame
        map, deletion, insertion, participant_id: see `msxai.sanity.faithfulness`.
    means : dict
        Map to {1: mean map of patients, 0: of controls}, where there are such scans.
    brain : ndarray of bool, shape (X, Y, Z)
        Voxels inside the brain of at least half of the scans.
    """

    scores: pd.DataFrame
    faithfulness: pd.DataFrame
    means: dict
    brain: np.ndarray


def compare(prepared, rows, weights, tuned, *, rules, methods, epsilon, faithful, width, seed, threads) -> Comparison:
    """Explain scans in every way and measure each map; a map is the mean over the networks.

    Parameters
    ----------
    prepared : msxai.prepared.Prepared
    rows : sequence of int
        Which scans. Those without lesions count in the mean maps alone.
    weights : sequence of path
        One weights file (.npz) a network.
    tuned : msxai.reference_maps.Tuned
    rules, methods : sequence of str
        Of `msxai.rules.NAMES` and `msxai.attribution.METHODS`.
    epsilon : float
        Of the epsilon rule.
    faithful : sequence of str
        Maps whose deletion and insertion are measured, by the first network.
    width, seed, threads : int
        Of the untrained network; of it and the random map; of the kernels.
    """
    models, untrained = [network.restore(path) for path in weights], reference_maps.untrained(width, seed)
    scores, faithfulness, sums, brains = [], [], {}, 0
    lesioned = set(reference_maps.with_lesions(prepared, rows))
    for row in tqdm(rows, desc="comparing", unit="scan"):
        scan, brain, lesions = prepared.table.iloc[row], prepared.brain(row), prepared.lesions(row)
        found = explained(models, prepared.image(row), rules, methods, epsilon, threads)
        maps = {name: (kind, np.mean(each, axis=0)) for name, (kind, each) in found.items()}
        rest = reference_maps.maps(prepared, row, tuned, untrained, seed, rule="epsilon", epsilon=epsilon, threads=threads)
        maps |= {name: ("baseline", values) for name, values in rest.items()}
        brains = brains + brain
        label = None if pd.isna(scan["label"]) else int(scan["label"])
        who = {"participant_id": scan["participant_id"], "session_id": scan["session_id"], "label": label}
        for name, (kind, values) in maps.items():
            total, count = sums.setdefault(name, {}).get(label, (0, 0))
            sums[name][label] = total + values, count + 1
            if row in lesioned:
                each = found.get(name, ("", []))[1]
                alike = quality.consistency(each[0], each[1], brain) if len(each) > 1 else np.nan
                more = quality.measure(values, lesions, brain) | {"consistency": alike}
                scores.append({"map": name, "kind": kind, **who, "lesion_voxels": int(lesions.sum()), **more})
        if row in lesioned and len(faithful):
            chosen = {one_of("faithful", name, list(maps)): "" for name in faithful}
            chosen = {name: maps[name][1] for name in chosen}
            table = sanity.faithfulness(sanity.logit_of(models[0]), prepared.image(row), brain, chosen, seed=seed, orders=1)
            faithfulness.append(table.assign(**who))
    means = {name: {label: total / count for label, (total, count) in both.items()} for name, both in sums.items()}
    faithfulness = pd.concat(faithfulness, ignore_index=True) if faithfulness else pd.DataFrame(columns=["map", "deletion", "insertion"])
    return Comparison(pd.DataFrame(scores), faithfulness, means, brains >= len(rows) / 2)


def explained(models, image, rules, methods, epsilon: float, threads: int) -> dict:
    """Maps of one scan of shape (X, Y, Z): name to (kind, a map of each network)."""
    volume, found = image[None, ..., None], {}
    for rule in rules:
        maps = [lrp.explain(model, volume, rule, epsilon, threads=threads).relevance[0, ..., 0] for model in models]
        found[rule] = "rule", maps
    for method in methods:
        maps = [attribution.explain(model, volume, method, **FASTER.get(method, {})).relevance[0, ..., 0] for model in models]
        found[method] = "method", maps
    return found


def maps_of(prepared, row: int, weights, tuned, *, width, rules, methods, epsilon, seed, threads: int = 1) -> dict:
    """All maps of one scan, name to array of shape (X, Y, Z); parameters as in `compare`."""
    found = explained([network.restore(path) for path in weights], prepared.image(row), rules, methods, epsilon, threads)
    maps = {name: np.mean(each, axis=0) for name, (_, each) in found.items()}
    options = {"rule": "epsilon", "epsilon": epsilon, "threads": threads}
    return maps | reference_maps.maps(prepared, row, tuned, reference_maps.untrained(width, seed), seed, **options)


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
        enough = len(table) > 2 and table["positive"].nunique() > 1
        values = {
            "dose": quality.correlation_interval(table["positive"], table["lesion_voxels"], seed) if enough else (np.nan,) * 3,
            "consistency": quality.mean_interval(table["consistency"], seed),
        }
        faithful = found.faithfulness[found.faithfulness["map"] == name]
        for way in ("deletion", "insertion"):
            values[way] = quality.mean_interval(faithful[way].to_numpy(float), seed)
            row[f"{way}_p"] = quality.above_zero(faithful[way])
        for key, (value, low, high) in values.items():
            row |= {key: value, f"{key}_low": low, f"{key}_high": high}
        row["contrast"] = quality.class_contrast(means[1], means[0], found.brain) if {0, 1} <= set(means) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def save(folder, tables: dict, parameters: dict, inputs) -> None:
    """Write tables (name to DataFrame) as .tsv and, last, provenance.json."""
    files = [folder / f"{name}.tsv" for name in tables]
    for path, table in zip(files, tables.values(), strict=True):
        with integrity.replacing(path) as draft:
            table.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    integrity.write_json(folder / "provenance.json", integrity.provenance(parameters, inputs, files))

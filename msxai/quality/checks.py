"""When not to trust a map: randomisation, registration jitter and conservation on a few scans."""

import keras
import numpy as np
import pandas as pd

from msxai import lrp
from msxai.quality import (
    completeness,
    localisation,
    model_randomisation,
    robustness,
    scan_maps,
)

__all__ = ["EXPECTED", "run"]

EXPECTED = {
    "randomised: SSIM": "<= .2 or the reference",
    "randomised: rank": "<= .2",
    "randomised: eMPRT": "> 0",
    "conservation error": "near 0",
    "conservation error without biases": "<= 1e-4",
    "moved by half a voxel: rank": "near the reference",
    "moved by one voxel: rank": "near the reference",
    "moved by 2 degrees: rank": "near the reference",
}
"""Name of a check to its expected value, in the order of the table."""

_KEYS = ["map", "check", "participant_id"]


def run(
    model: keras.Model, prepared, rows, names, *, epsilon: float, seed: int, threads: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check maps scan by scan; return means over subjects with bootstrap intervals.

    Parameters
    ----------
    model : keras.Model
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        A few scans. Each takes about ten explanations for each map.
    names : sequence of str
        Rules and methods, see `msxai.quality.scan_maps.of_scan`.
    epsilon : float
        Of the epsilon rule.
    seed : int
        Of the new weights and the bootstrap.
    threads : int
        Of the kernels.

    Returns
    -------
    table : pandas.DataFrame
        One row a map and check: map, check, value, low, high (mean over subjects), reference,
        subjects, expected. Conservation is checked for rules of LRP only. The reference of jitter
        is the score of a map that was only interpolated. The reference of SSIM is the score of the
        map with its voxels shuffled within the brain: two maps with few high voxels are similar
        because both are 0 almost everywhere, so that chance may be far above 0.
    cascades : pandas.DataFrame
        `msxai.quality.model_randomisation.cascade` of each scan, with participant_id and
        session_id.
    """
    options = {"epsilon": epsilon, "threads": threads}
    without_biases = completeness.bias_free(model)
    rules = [name for name in names if name not in lrp.METHODS]
    results = []
    cascades = []
    for row in rows:
        volume = prepared.image(row)
        brain = prepared.brain(row)
        entry = prepared.table.iloc[row]
        subject = {name: entry[name] for name in ("participant_id", "session_id")}
        maps = scan_maps.of_scan(model, volume, names, **options)
        steps = model_randomisation.cascade(model, volume, brain, names, seed, maps, **options)
        cascades.append(steps.assign(**subject))
        of_scan = _randomisation(steps, maps, brain, seed)
        of_scan += _jitter(robustness.jitter(model, volume, brain, names, maps, **options))
        if rules:
            of_scan += _conservation("conservation error", model, volume, rules, **options)
            of_scan += _conservation(
                "conservation error without biases",
                without_biases,
                volume,
                rules,
                epsilon=1e-9,
                threads=threads,
                dtype="float64",
            )
        results += [subject | result for result in of_scan]
    return _table(pd.DataFrame(results), names, seed), pd.concat(cascades, ignore_index=True)


def _result(name: str, check: str, value: float, reference: float = np.nan) -> dict:
    return {"map": name, "check": check, "value": float(value), "reference": reference}


def _randomisation(steps: pd.DataFrame, maps: dict, brain, seed: int) -> list[dict]:
    """Return the results at the end of a cascade, when all layers have new weights."""
    last = steps.drop_duplicates("map", keep="last").set_index("map")
    results = []
    for name, relevance in maps.items():
        shuffled = np.zeros(brain.shape)
        shuffled[brain] = np.random.default_rng(seed).permutation(relevance[brain])
        chance = model_randomisation.ssim(relevance, shuffled, brain)
        results += [
            _result(name, "randomised: SSIM", last.loc[name, "ssim"], chance),
            _result(name, "randomised: rank", last.loc[name, "rank"]),
            _result(name, "randomised: eMPRT", last.loc[name, "emprt"]),
        ]
    return results


def _jitter(correlations: dict) -> list[dict]:
    """Return the results of `msxai.quality.robustness.jitter`."""
    results = []
    for (name, jitter_name), (value, ceiling) in correlations.items():
        results.append(_result(name, f"moved by {jitter_name}: rank", value, ceiling))
    return results


def _conservation(
    check: str, model, volume, rules, *, epsilon: float, threads: int, dtype: str = "float32"
) -> list[dict]:
    """Return the conservation error of rules of LRP."""
    explanations = lrp.explain_each(
        model,
        volume[None, ..., None],
        rules,
        epsilon=epsilon,
        computation=lrp.Computation(dtype=dtype, threads=threads),
    )
    results = []
    for name, explanation in explanations.items():
        results.append(_result(name, check, completeness.conservation(explanation)[0]))
    return results


def _table(results: pd.DataFrame, names, seed: int) -> pd.DataFrame:
    """Return means over subjects; visits of a subject are averaged first."""
    by_subject = results.groupby(_KEYS, sort=False)[["value", "reference"]].mean()
    by_check = dict(list(by_subject.groupby(["map", "check"])))
    rows = []
    for name in names:
        for check, expected in EXPECTED.items():
            if (name, check) not in by_check:
                continue
            subjects = by_check[name, check]
            mean, low, high = localisation.mean_interval(subjects["value"], seed)
            row = {
                "map": name,
                "check": check,
                "value": mean,
                "low": low,
                "high": high,
                "reference": subjects["reference"].mean(),
                "subjects": len(subjects),
                "expected": expected,
            }
            rows.append(row)
    return pd.DataFrame(rows)

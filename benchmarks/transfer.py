"""Networks trained on simulated scans, applied to two real patients: do their maps find lesions,
and does the logit follow them?

Usage: python benchmarks/transfer.py [RESULTS]      (default runs/demo; needs `make quality` first,
and ../shared/data/open_ms)

Patients 07 and 19 of Lesjak et al. 2017 (doi:10.1007/s12021-017-9348-7) are prepared as any cohort.
Their maps are measured beside the same baselines as in 07_explanation_quality, all tuned on
simulated scans. Counterfactuals: their lesions filled (`msxai.data.lesion_filling`), and as a
control the same masks mirrored into normal-appearing white matter and filled there (sham). Written
beside this file, numbers alone: transfer.tsv (measures of each map and patient),
transfer_filled.tsv (what filling moves), transfer_trust.tsv (the warnings of
`msxai.lrp.trust_warnings`) and transfer.json. Two patients are two examples: no interval is given,
and nothing follows for networks trained on scans.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import msxai
from msxai import lrp
from msxai.base import provenance
from msxai.base.results import Results
from msxai.data import lesion_filling
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import from_images
from msxai.data.prepared import PreparationOptions, Prepared, prepare
from msxai.lrp import heatmaps, rules
from msxai.model import network
from msxai.quality import league, localisation, reference_maps

HERE, PATIENTS, VARIANTS = Path(__file__).parent, ("07", "19"), ("pretrained", "scratch", "pairs")
FOLDER = Path(msxai.ROOT).parent / "shared" / "data" / "open_ms"
RULES = [
    "epsilon",
    "alpha2_beta1",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_half_gamma_box",
    "epsilon_gamma",
]
METHODS = ["gradient", "input_x_gradient", "guided_backpropagation"]
FILLINGS = {
    "filled": lesion_filling.Filler("noise"),
    "sham": lesion_filling.Filler("noise", "sham"),
}


def real(where, name="real", alter=None) -> Prepared:
    """The two patients on the model's grid, registered as the series would; `alter` of
    `msxai.data.prepared.prepare`.
    """
    scans = [FOLDER / "mni" / f"patient{number}_FLAIR.nii.gz" for number in PATIENTS]
    masks = [FOLDER / "lesions_mni" / f"patient{number}_lesions.nii.gz" for number in PATIENTS]
    cohort = from_images(list(map(str, scans)), list(map(str, masks)), name="real")
    path = where.prepared(name)
    prepare(
        cohort,
        splits.make(cohort.table, (0, 0), 0.15, 0),
        path,
        PreparationOptions(registration="auto", derivatives=where.registration("real")),
        alter=alter,
    )
    return Prepared(path)


def moved(models, cohorts: dict) -> pd.DataFrame:
    """Logit and relevance (epsilon) of the scans as they are, filled and sham-filled, by the mean
    over networks; one row a scan.
    """
    rows, before = [], {}
    for name, cohort in cohorts.items():
        for row, participant in enumerate(cohort.table["participant_id"]):
            mask, brain, image = (
                cohorts["as it is"].lesions(row),
                cohort.brain(row),
                cohort.image(row)[None, ..., None],
            )
            explanations = [
                lrp.explain(model, image, "epsilon", computation=lrp.Computation(threads=2))
                for model in models
            ]
            relevance, logits = (
                np.mean([explanation.relevance[0, ..., 0] for explanation in explanations], axis=0),
                [float(explanation.logits[0]) for explanation in explanations],
            )
            before.setdefault(participant, relevance)
            positive = localisation.positive(relevance)
            rows.append(
                {
                    "participant_id": participant,
                    "scan": name,
                    "logit": np.mean(logits),
                    "lowest": min(logits),
                    "highest": max(logits),
                    "relevance": relevance.sum(dtype=float),
                    "in_lesions": relevance[mask].sum(dtype=float),
                    "positive": positive.sum(),
                    "positive_in_lesions": positive[mask].sum(),
                    "voxels_changed": int(
                        (np.abs(image[0, ..., 0] - cohorts["as it is"].image(row)) > 0.25).sum()
                    ),
                    "rank_with_before": localisation.consistency(
                        before[participant], relevance, brain
                    ),
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    where, work = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"), Results("runs/proof")
    network.configure(0, 2)
    simulated = Prepared(where.prepared("phantom-ms"), where.split("phantom-ms"))
    tuned, words = reference_maps.attempt(simulated)
    cohorts = {"as it is": real(work)} | {
        name: real(work, f"real-{name}", alter) for name, alter in FILLINGS.items()
    }
    scores, moves, flags, used = [], [], [], [where.prepared("phantom-ms")]
    for folder in (where.trial(variant, 0).parent for variant in VARIANTS):
        paths = sorted(folder.glob("trial-*/weights.npz"))
        models = [network.restore(path) for path in paths]
        settings = league.Settings(
            rules=RULES,
            methods=METHODS,
            checked_maps=["epsilon", rules.DEFAULT, "epsilon_gamma", "brightness"],
            n_checked_scans=2,
            width=models[0].get_layer("conv1").filters,
            threads=2,
        )
        comparison = league.compare(cohorts["as it is"], [0, 1], paths, tuned, settings)
        keys = ["map", "participant_id", "session_id", "label"]
        scores.append(
            comparison.scores.merge(comparison.faithfulness, "left", keys).assign(
                variant=folder.name
            )
        )
        moves.append(moved(models, cohorts).assign(variant=folder.name))
        folder_of_maps = work.heatmaps(f"real-{folder.name}")
        heatmaps.write(
            folder_of_maps,
            cohorts["as it is"],
            [0, 1],
            paths,
            heatmaps.Settings(rule="epsilon", computation=lrp.Computation(threads=2)),
        )
        flags.append(
            heatmaps.read_trust(folder_of_maps)
            .drop(columns="session_id")
            .assign(variant=folder.name)
        )
        used += paths
    tables = {
        "transfer": pd.concat(scores).drop(columns=["session_id", "label"]),
        "transfer_filled": pd.concat(moves),
        "transfer_trust": pd.concat(flags),
    }
    for name, table in tables.items():
        first = ["variant", "participant_id"]
        table = table[[*first, *(column for column in table if column not in first)]].sort_values(
            first, kind="stable"
        )
        print(table.round(3).to_string())
        with provenance.replacing(HERE / f"{name}.tsv") as draft:
            table.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.4g")
    settings = {
        "results": where.given,
        "patients": PATIENTS,
        "rules": RULES,
        "methods": METHODS,
        "baselines": words,
    }
    label = "transfer from synthetic training to two real patients"
    registration = [
        {key: value for key, value in way_of_scan.items() if key in ("route", "dice", "scales")}
        for way_of_scan in map(json.loads, cohorts["as it is"].table["registration"])
    ]
    record = provenance.record(
        settings,
        used,
        [HERE / f"{name}.tsv" for name in tables],
        what=label,
        registration=registration,
    )
    provenance.write_json(HERE / "transfer.json", record)

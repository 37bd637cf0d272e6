"""Do the demo's networks hold on subjects that were never trained on? Needs `make figures` first;
about 5 minutes on 2 cores.

Usage: python benchmarks/generalisation.py [RESULTS]      (default runs/demo)

200 further MS and control subjects and 200 further AD and control subjects are simulated with seeds
of their own. Written beside this file: generalisation.tsv (AUC of each trial's mean with DeLong's
95 % interval, paired differences), relevance.tsv (positive relevance per voxel inside and outside
lesions of the holdout's true positives) and generalisation.json (commit, versions, hashes).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msxai.base import provenance, statistics
from msxai.base.results import Results
from msxai.data import images
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import Prepared, prepare
from msxai.data.synthetic import phantom
from msxai.lrp import heatmaps
from msxai.model import network, training

SUBJECTS, SEEDS = 200, {"ms": 1001, "ad": 1002}
HERE = Path(__file__).parent


def further(kind, folder):
    """Prepared arrays of further subjects."""
    name = f"phantom-{kind}-further"
    cohort = open_cohort(
        phantom.find(name, SUBJECTS, SEEDS[kind], 2),
        phantom.MODALITY[kind],
        phantom.PATIENTS[kind],
        "HC",
    )
    path = Results(folder).prepared(name)
    prepare(cohort, splits.make(cohort.table, (0, 0), 0.15, 0), path, jobs=2)
    return Prepared(path)


def first_visits(prepared):
    """One row a subject."""
    return np.flatnonzero(~prepared.table["participant_id"].duplicated())


def row(what, labels, scores):
    """One line of the table."""
    low, high = statistics.auc_interval(labels, scores)
    return {
        "what": what,
        "n": len(labels),
        "value": statistics.auc(labels, scores),
        "low": low,
        "high": high,
    }


def difference(what, labels, scores, reference):
    """One line of the table: a paired difference of two AUCs."""
    value, low, high, _ = statistics.auc_difference(labels, scores, reference)
    return {"what": what, "n": len(labels), "value": value, "low": low, "high": high}


def logits(where, variant, prepared, rows):
    """Mean logit over the trials of a variant."""
    paths = sorted(where.trial(variant, 0).parent.glob("trial-*/weights.npz"))
    return np.mean(
        [training.predict(network.restore(path, fast=True), prepared, rows) for path in paths],
        axis=0,
    ), paths


def relevance(where, variant, cohort):
    """Positive relevance per voxel inside and outside the lesions of each true positive of the
    holdout.
    """
    prepared, table, relevances = (
        Prepared(where.prepared(cohort), where.split(cohort)),
        heatmaps.read(where.heatmaps(variant)),
        [],
    )
    for entry in table[(table["label"] == 1) & (table["probability"] > 0.5)].itertuples():
        index = prepared.row(entry.participant_id, entry.session_id)
        lesions, brain = prepared.lesions(index), prepared.brain(index)
        positive = np.maximum(images.to_grid(images.load(entry.path)), 0)
        inside, outside = positive[lesions].mean(), positive[brain & ~lesions].mean()
        relevances.append(
            {
                "participant_id": entry.participant_id,
                "lesion_voxels": int(lesions.sum()),
                "inside": inside,
                "outside": outside,
            }
        )
    return pd.DataFrame(relevances).assign(
        ratio=lambda relevances: relevances["inside"] / relevances["outside"]
    )


if __name__ == "__main__":
    where = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    network.configure(0, 2)
    ms, ad = further("ms", "runs/proof"), further("ad", "runs/proof")
    rows, table, used, scores = ms.rows("all"), [], [], {}
    labels = ms.table["label"].to_numpy(int)
    for folder in sorted((where.folder / "finetuning").iterdir()):
        scores[folder.name], paths = logits(where, folder.name, ms, rows)
        used += paths
        table.append(row(f"MS: {folder.name}", labels, scores[folder.name]))
    load = ms.lesion_volumes(rows)
    table.append(row("MS: lesion load", labels, load))
    if {"pretrained", "scratch"} <= set(scores):
        table.append(
            difference("MS: pretrained - scratch", labels, scores["pretrained"], scores["scratch"])
        )
        table.append(difference("MS: pretrained - lesion load", labels, scores["pretrained"], load))
    first = first_visits(ad)
    mean_logits, paths = logits(where, "pretraining", ad, first)
    table.append(row("AD: pretraining", ad.table["label"].to_numpy(int)[first], mean_logits))
    table, maps = pd.DataFrame(table), relevance(where, "pretrained", "phantom-ms")
    print(
        table.round(3).to_string(),
        maps.round(6).to_string(),
        f"median ratio {maps['ratio'].median():.2f}",
        sep="\n",
    )
    table.to_csv(HERE / "generalisation.tsv", sep="\t", index=False, float_format="%.4g")
    maps.to_csv(HERE / "relevance.tsv", sep="\t", index=False, float_format="%.4g")
    outputs = [HERE / "generalisation.tsv", HERE / "relevance.tsv"]
    record = provenance.record({"results": where.given, "seeds": SEEDS}, [*used, *paths], outputs)
    provenance.write_json(HERE / "generalisation.json", record)

"""Nothing is learnt where nothing is there: labels permuted over the whole cohort before the split;
about 6 minutes on 2 cores.

Usage: python benchmarks/permutation.py

400 MS and control subjects are simulated, their labels permuted, the cohort split (half of it held
out) and a network trained as 03_fine_tuning does. The AUC over the held-out subjects must hold .5
in its 99 % interval. Then a leak is planted (a held-out scan, noised, in training under another
name) and must be found by its nearest neighbour. Written beside this file: permutation.json.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from msxai.base import provenance, statistics
from msxai.data import prepared
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import Cohort, open_cohort
from msxai.data.synthetic import phantom
from msxai.model import network, training

SUBJECTS, SEED, WIDTH, EPOCHS = 400, 2001, 16, 12


def leaky(cohort, split, folder):
    """The cohort with one held-out scan, noised, in training under another name; and that scan's
    participant.
    """
    victim = split.loc[split["part"] == "holdout", "participant_id"].iloc[0]
    row = cohort.table[cohort.table["participant_id"] == victim].iloc[0].to_dict()
    image = nib.load(row["image"])
    voxels = np.asarray(image.dataobj, float)
    noise = np.random.default_rng(0).normal(0, 0.02 * voxels.max(), voxels.shape)
    copy = Path(folder) / "copy.nii.gz"
    nib.save(
        nib.Nifti1Image(
            np.where(voxels > 0, voxels + noise, 0).astype("int16"), image.affine, image.header
        ),
        copy,
    )
    table = pd.concat(
        [cohort.table, pd.DataFrame([{**row, "participant_id": "sub-leak", "image": str(copy)}])],
        ignore_index=True,
    )
    entry = pd.DataFrame([{"participant_id": "sub-leak", "session_id": "", "part": "training"}])
    return (
        Cohort("leaky", table.astype(cohort.table.dtypes), True, cohort.modality),
        pd.concat([split, entry], ignore_index=True),
        victim,
    )


if __name__ == "__main__":
    network.configure(SEED, 2)
    cohort = open_cohort(phantom.find("phantom-ms-permuted", SUBJECTS, SEED, 2))
    labels = np.random.default_rng(SEED).permutation(cohort.table["label"])
    cohort = Cohort(
        "permuted", cohort.table.assign(label=pd.array(labels, "Int64")), True, cohort.modality
    )
    split = splits.make(cohort.table, (0.5, 0.5), 0.15, SEED)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "permuted.h5"
        prepared.prepare(cohort, split, path, jobs=2)
        arrays = prepared.Prepared(path)
        model = network.build(WIDTH, dropout=0.1, fast=True)
        settings = training.Settings(
            learning_rate=1e-3,
            decay=0.0,
            batch_size=4,
            epochs=EPOCHS,
            patience=EPOCHS,
            seed=SEED,
            augmentation="paper",
        )
        history = training.fit(model, arrays, settings)
        rows = arrays.rows("holdout")
        truth, logits = (
            arrays.table["label"].to_numpy(int)[rows],
            training.predict(model, arrays, rows),
        )
        low, high = statistics.auc_interval(truth, logits, level=0.99)
        clean = prepared.leaks(arrays)
        arrays.close()
        # a part of the cohort is enough to look for the leak
        few = split.groupby("part").head(25)
        table = cohort.table[cohort.table["participant_id"].isin(few["participant_id"])]
        planted, leaking, victim = leaky(Cohort("few", table, True, cohort.modality), few, name)
        prepared.prepare(planted, leaking, Path(name) / "leaky.h5", jobs=2)
        leaks = prepared.leaks(prepared.Prepared(Path(name) / "leaky.h5"))
    result = {
        "n": len(rows),
        "auc": statistics.auc(truth, logits),
        "low_99": low,
        "high_99": high,
        "holds_half": bool(low <= 0.5 <= high),
        "pairs_in_clean_cohort": len(clean),
        "pairs_in_leaky_cohort": leaks.to_dict("records"),
        "planted": victim,
        "training_accuracy": float(history["accuracy"].iloc[-1]),
    }
    print(result)
    settings = {"subjects": SUBJECTS, "seed": SEED, "width": WIDTH, "epochs": EPOCHS}
    provenance.write_json(
        Path(__file__).parent / "permutation.json", provenance.record(settings, result=result)
    )

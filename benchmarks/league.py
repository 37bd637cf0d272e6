"""The full league: every LRP rule and other method beside the baselines, for the demo's variants; `make quality`, after `make figures`.

Usage: python benchmarks/league.py [RESULTS]      (default runs/demo)

Variants: pretrained and scratch of the demo, and pairs (workflow/quality.yaml), which `make quality` trains. One baseline more than in
07_explanation_quality: LRP (epsilon) of a network trained from scratch for 8 epochs on permuted labels. Deletion and insertion are in
07_explanation_quality, for a few maps. Written to figures/quality:
fig_league_VARIANT (picture, numbers, provenance), scores_VARIANT.tsv (each subject) and summary_VARIANT.tsv. Occlusion is left out: it
takes hundreds of passes a map.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import msxai
from msxai import attribution, explainers, figures, integrity, lrp, network, quality, reference_maps, rules, training
from msxai.prepared import Prepared
from msxai.results import Results

FOLDER, PERMUTED = Path(msxai.ROOT) / "figures" / "quality", "epsilon, permuted labels"
RULES = [name for name in rules.NAMES if name not in ("alpha_beta", "alpha1_beta0")]  # alpha2_beta1 and z_plus under other names
METHODS = [name for name in attribution.METHODS if name != "occlusion"]
VARIANTS, EPOCHS, SEED = ("pretrained", "scratch", "pairs"), 8, 3001


def permuted(cohort, path, width, epochs=EPOCHS):
    """Weights of a network trained on labels that were permuted over training and validation part; kept at `path`."""
    if not path.is_file():
        labels, known = cohort.table["label"].copy(), cohort.table["part"].isin(["training", "validation"])
        cohort.table.loc[known, "label"] = np.random.default_rng(SEED).permutation(labels[known])
        network.configure(SEED, 1)
        model = network.build(width, dropout=0.1, fast=True)  # the demo's settings of 03, but for the epochs
        options = {"learning_rate": 1e-3, "decay": 0.0, "batch_size": 4, "epochs": epochs, "patience": epochs}
        history = training.fit(model, cohort, **options, seed=SEED, augmentation=True)
        print(history[["loss", "accuracy", "val_accuracy"]].round(3).to_string())
        network.save_weights(model, path)
        cohort.table["label"] = labels
    return path


def scores_of(model, cohort, rows, epsilon=1e-3):
    """Scores of its epsilon maps, as `msxai.explainers.compare` has them."""
    found = []
    for row in rows:
        lesions, brain, scan = cohort.lesions(row), cohort.brain(row), cohort.table.iloc[row]
        values = lrp.explain(model, cohort.image(row)[None, ..., None], "epsilon", epsilon, threads=1).relevance[0, ..., 0]
        who = {"participant_id": scan["participant_id"], "session_id": scan["session_id"], "lesion_voxels": int(lesions.sum())}
        found.append({"map": PERMUTED, "kind": "baseline", **who, **quality.measure(values, lesions, brain)})
    return pd.DataFrame(found)


if __name__ == "__main__":
    where = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    network.configure(0, 1)
    cohort = Prepared(where.prepared("phantom-ms"), where.split("phantom-ms"))
    tuned, words = reference_maps.attempt(cohort)
    for folder in (where.trial(variant, 0).parent for variant in VARIANTS):
        paths = sorted(folder.glob("trial-*/weights.npz"))
        width = network.restore(paths[0]).get_layer("conv1").filters
        other = permuted(cohort, Results("runs/proof").folder / f"permuted-{width}.npz", width)
        options = {"rules": RULES, "methods": METHODS, "epsilon": 1e-3, "faithful": [], "seed": 0, "threads": 1}
        found = explainers.compare(cohort, cohort.rows("holdout"), paths, tuned, width=width, **options)
        scores = pd.concat([found.scores, scores_of(network.restore(other), cohort, found.judged)], ignore_index=True)
        table, summary = quality.league(scores, [*reference_maps.NAMES, PERMUTED]), explainers.summary(found)
        print(table[["map", "auprc", "auprc_difference_low", "rma", "rra", "pointing"]].round(3).to_string())
        figure, source = figures.league(table, synthetic=cohort.synthetic, variant=folder.name)
        settings = {"results": where.given, "variant": folder.name, **options, "epochs_permuted": EPOCHS, "seed_permuted": SEED}
        record = integrity.provenance(settings, [where.prepared("phantom-ms"), *paths, other], baselines=words)
        figures.save(figure, FOLDER, f"fig_league_{folder.name}", source, record)
        for name, one in {"scores": scores, "summary": summary.dropna(axis=1, how="all")}.items():
            with integrity.replacing(FOLDER / f"{name}_{folder.name}.tsv") as draft:
                one.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.5g")

"""Is the embedded cohort as hard as reality? One row a seed: how bright lesions are, and what can
be told without looking at lesions.

Usage: python benchmarks/phantom_realism.py [SEED ...]      (default 1 2 3 4; about 80 seconds a
seed on 2 cores)

Writes phantom_realism.tsv, phantom_lesions.tsv, phantom_realism.md (both for a reader) and
phantom_realism.json beside this file. Brightness is measured by ../shared/tools/flair_realism.py,
lesion sizes and places against the masks in ../shared/data/open_ms/lesions_mni; both lie outside
the repository.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msxai import ROOT
from msxai.base import provenance
from msxai.data import images
from msxai.data.synthetic import lesions, phantom, template

SHARED = Path(ROOT).parent / "shared"
TISSUES = {
    "csf": ("csf", "ventricle"),
    "grey": ("cortex", "insula", "cerebellar cortex", "hippocampus", "caudate", "putamen"),
    "white": ("white matter", "corpus callosum", "cerebellar white matter", "brain stem"),
    "thalamus": ("thalamus",),
}
OTHER_PEOPLE = 100  # added to a cohort's seed for its second cohort
PER_BAND = 15  # subjects
BANDS = {"small": (0.0008, 0.002), "large": (0.005, 0.01)}  # lesion share of the brain


def flair_realism():
    """The tool that defines brightness, grid and brain for real and simulated scans alike."""
    path = SHARED / "tools" / "flair_realism.py"
    if not path.exists():
        sys.exit(
            f"{path.name}: not found beside the checkout (../shared/tools). This proof "
            "compares with real scans; it needs that folder."
        )
    spec = importlib.util.spec_from_file_location("flair_realism", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def subjects(kind, count, seed):
    """Simulate a cohort's first visits; yields (participant, subject)."""
    people = phantom.draw_people(kind, count, seed)
    work = Parallel(2, return_as="generator")(delayed(person.scan)() for person in people)
    return zip([person.participant for person in people], work, strict=True)


def features(subject, names):
    """Volume of each tissue (ml) and its mean in the z-scored image."""
    values = images.normalise(subject.image, subject.brain)
    masks = [
        np.isin(
            subject.classes,
            [1 + list(template.CLASSES).index(tissue) for tissue in TISSUES.get(name, (name,))],
        )
        for name in names
    ]
    return [mask.sum() * images.VOXEL_VOLUME / 1e3 for mask in masks], [
        values[mask].mean() for mask in masks
    ]


def cross_validated(table, labels, seed):
    """AUC of a logistic regression, ten-fold cross-validated."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(10, shuffle=True, random_state=seed)
    return roc_auc_score(
        labels,
        cross_val_predict(model, np.asarray(table), labels, cv=folds, method="predict_proba")[:, 1],
    )


def ms(seed, folder):
    """All figures of one MS cohort; bands with fewer than 15 of its subjects are filled with those
    of a second one.
    """
    tool, table, tissue, labels, load = flair_realism(), [], [], [], []
    for person, subject in subjects("ms", 147, seed):
        labels.append(person["group"] == "MS")
        load.append(subject.lesions.sum())
        tissue.append(np.concatenate(features(subject, TISSUES)))
        _brightness(tool, subject, folder, table)
    for person in phantom.draw_people("ms", 147, seed + OTHER_PEOPLE):
        wanting = [
            name
            for name, edges in BANDS.items()
            if sum(edges[0] <= row[0] <= edges[1] for row in table) < PER_BAND
        ]
        share = person.participant["volume"] / 1.75e6  # mm3 of a usual brain
        if any(BANDS[name][0] < share < BANDS[name][1] for name in wanting):
            _brightness(tool, person.scan(), folder, table)
    table = pd.DataFrame(
        table, columns=["share", "lesion_z", "z95", "z99_5", "above95", "auprc", "cv"]
    )
    bands = {
        name: table[table["share"].between(*edges)].head(PER_BAND) for name, edges in BANDS.items()
    }
    both = pd.concat(bands.values())
    measured = {"seed": seed, "subjects": len(both)}
    for name, band in bands.items():
        measured |= {f"n_{name}": len(band), f"auprc_{name}": band["auprc"].median()}
    measured |= {
        "lesion_z": both["lesion_z"].median(),
        "z99_5": both["z99_5"].median(),
        "cv": both["cv"].median(),
    }
    return measured | {
        "auc_lesion_load": roc_auc_score(labels, load),
        "auc_tissues": cross_validated(tissue, labels, seed),
    }


def _brightness(tool, subject, folder, table):
    """Append the tool's row of a subject near one of the bands."""
    share = subject.lesions.sum() / subject.brain.sum()
    if any(low * 0.9 <= share <= high * 1.2 for low, high in BANDS.values()):
        paths = [folder / f"{name}.nii" for name in ("flair", "lesions")]
        for path, values in zip(
            paths, (subject.image, subject.lesions.astype("uint8")), strict=True
        ):
            nib.save(nib.Nifti1Image(values, images.AFFINE), path)
        table.append(tool.row(*paths))


def ad(seed, count=160):
    """AUC of hippocampal and ventricular volume alone, and the white-matter hypointensities; one
    visit a subject.
    """
    volumes, rows = [], []
    for person, subject in subjects("ad", count, seed):
        volumes.append(np.log(features(subject, ("hippocampus", "ventricle"))[0]))
        rows.append(
            {
                "is_patient": person["group"] == "AD",
                "age": person["age"],
                **hypointensities(subject),
            }
        )
    rows = pd.DataFrame(rows)
    return {
        "auc_hippocampus_ventricle": cross_validated(volumes, rows["is_patient"], seed)
    } | hypointensities_of(rows)


def hypointensities(subject):
    """Volume (cm3), brightness and place of one subject's white-matter hypointensities."""
    white = 1 + list(template.CLASSES).index("white matter")
    around = (subject.classes == white) & ~subject.lesions
    ventricle = 1 + list(template.CLASSES).index("ventricle")
    distance = ndimage.distance_transform_edt(
        subject.classes != ventricle, sampling=images.VOXEL_SIZE
    )
    return {
        "volume": subject.lesions.sum() * images.VOXEL_VOLUME / 1e3,
        "ratio": subject.image[subject.lesions].mean() / subject.image[around].mean(),
        "within_10mm": (distance[subject.lesions] <= 10).mean(),
    }


def hypointensities_of(rows):
    """Figures of a cohort's hypointensities: controls at 66 years and their increase by a fit, and
    patients against controls of the same age.
    """
    controls, patients = rows[~rows["is_patient"]], rows[rows["is_patient"]]
    a_year, at_66 = np.polyfit(controls["age"] - 66, controls["volume"], 1)
    logarithm = np.log(rows["volume"])
    slope = np.polyfit(rows["age"], logarithm, 1)[0]
    free_of_age = logarithm - slope * rows["age"]
    of_group = [free_of_age[rows["is_patient"] == label] for label in (False, True)]
    spread = np.sqrt(np.mean([values.var(ddof=1) for values in of_group]))
    return {
        "hypo_at_66": at_66,
        "hypo_a_year": a_year,
        "hypo_controls": controls["volume"].mean(),
        "hypo_patients": patients["volume"].mean(),
        "hypo_d": (of_group[1].mean() - of_group[0].mean()) / spread,
        "hypo_ratio_low": rows["ratio"].quantile(0.05),
        "hypo_ratio_high": rows["ratio"].quantile(0.95),
        "hypo_within_10mm": rows["within_10mm"].median(),
    }


def lesion_shapes(masks):
    """Sizes (voxels), counts, totals and places of lesions of masks on the model's grid, each with
    its distance to the ventricles.
    """
    sizes, counts, totals, places = [], [], [], []
    for mask, distance in masks:
        parts, count = ndimage.label(mask, images.NEIGHBOURHOOD_26)
        sizes.extend(np.bincount(parts.ravel())[1:])
        counts.append(count)
        totals.append(mask.sum())
        places.append(np.histogram(distance[mask], lesions.DISTANCES)[0] / max(mask.sum(), 1))
    slope, level = np.polyfit(np.log(totals), np.log(counts), 1)
    quantiles = dict(
        zip(
            ("size_25", "size_50", "size_75", "size_95", "size_99"),
            np.percentile(sizes, [25, 50, 75, 95, 99]),
            strict=True,
        )
    )
    shares = dict(
        zip(
            [f"place_{edge}" for edge in lesions.DISTANCES[1:]],
            np.mean(places, axis=0),
            strict=True,
        )
    )
    large = np.array(sizes)[np.array(sizes) * images.VOXEL_VOLUME > 1000].sum() / np.sum(sizes)
    return {
        **quantiles,
        "share_above_1000mm3": large,
        "count_at_700": np.exp(level + slope * np.log(700)),
        "count_slope": slope,
        **shares,
    }


WANTED = {  # quantity: (what it is, lowest, highest, of each seed or of their mean)
    "auprc_small": ("AUPRC of brightness, lesion share .08-.2 % of the brain", 0.12, 0.30, "each"),
    "auprc_large": ("AUPRC of brightness, lesion share .5-1 %", 0.35, 0.60, "each"),
    "lesion_z": ("z of lesions", 1.2, 2.1, "each"),
    "z99_5": ("z of the brain's 99.5th percentile", 1.2, 2.0, "each"),
    "auc_lesion_load": ("AUC of lesion load", 0.92, 0.985, "mean"),
    "auc_tissues": ("AUC of tissue volumes and means, MS vs HC", 0.0, 0.65, "mean"),
    "auc_hippocampus_ventricle": (
        "AUC of hippocampal and ventricular volume, AD vs HC",
        0.70,
        0.85,
        "mean",
    ),
    "hypo_controls": ("hypointensities, controls of the AD cohort, cm3", 6.3, 8.9, "mean"),
    "hypo_patients": ("hypointensities, patients of the AD cohort, cm3", 9.5, 14.0, "mean"),
    "hypo_at_66": ("hypointensities of controls at 66 years, cm3, by a fit", 3.2, 6.2, "mean"),
    "hypo_a_year": ("their increase in a year of age, cm3", 0.15, 0.6, "mean"),
    "hypo_d": ("d of their logarithm, AD vs HC, age removed (assumed: 0.5)", 0.3, 0.7, "mean"),
    "hypo_ratio_low": (
        "their T1 brightness, of white matter's; 5th percentile",
        0.68,
        0.80,
        "each",
    ),
    "hypo_ratio_high": ("their T1 brightness; 95th percentile", 0.68, 0.80, "each"),
    "hypo_within_10mm": ("share of them within 10 mm of the ventricles", 0.6, 0.9, "each"),
}


def markdown(table, lesions):
    """Both tables for a reader; each row says whether it holds."""
    seeds, mean = table[table["seed"] != "mean"], table[table["seed"] == "mean"].iloc[0]
    lines = [
        "# How real the embedded cohorts are",
        "",
        "Written by `make proof-phantom` (phantom_realism.py, phantom_realism.json has "
        "commit and versions). Everything here is simulated",
        'but the column "real" below. Brightness: medians over 15 subjects in each band; '
        "AUCs: cohorts of 147 (MS) and 160 (AD) subjects.",
        "",
        f"| | {' | '.join(f'seed {seed}' for seed in seeds['seed'])} | mean | wanted | of | "
        "holds |",
        "|" + "---|" * (len(seeds) + 5),
    ]
    for name, (words, low, high, of) in WANTED.items():
        holds = seeds[name].between(low, high).all() if of == "each" else low <= mean[name] <= high
        values = [f"{value:.3f}" for value in [*seeds[name], mean[name]]]
        lines.append(
            f"| {words} | {' | '.join(values)} | {low:g}-{high:g} | {of} | "
            f"{'yes' if holds else '**no**'} |"
        )
    lines += [
        "",
        "## Lesions",
        "",
        "20 real masks (Lesjak et al. 2017) on the model's grid against simulated ones of "
        "the same volumes. Sizes in voxels of",
        f"{images.VOXEL_VOLUME:.1f} mm3; `place_n`: share of the volume up to n mm from the "
        "lateral ventricles (from the row above on).",
        "",
        "| | real | simulated |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['real']:.3g} | {row['simulated']:.3g} |"
        for name, row in lesions.iterrows()
    ]
    return "\n".join([*lines, ""])


def real_and_simulated(seed=1):
    """Lesions of the real masks and of as many simulated subjects with the same volumes."""
    tool, distance = flair_realism(), template.template().ventricle_distance
    masks = [
        tool.on_grid(path) >= 0.5
        for path in sorted((SHARED / "data/open_ms/lesions_mni").glob("*_lesions.nii.gz"))
    ]
    rows = []
    for index, mask in enumerate(masks):
        brain, visit = np.random.SeedSequence([seed, index]).spawn(2)
        subject = phantom.simulate(
            "ms", "MS", brain, visit, volume=mask.sum() * images.VOXEL_VOLUME
        )
        rows.append((subject.lesions, distance))
    return pd.DataFrame(
        {
            "real": lesion_shapes([(mask, distance) for mask in masks]),
            "simulated": lesion_shapes(rows),
        }
    )


if __name__ == "__main__":
    seeds = [int(argument) for argument in sys.argv[1:]] or [1, 2, 3, 4]
    with tempfile.TemporaryDirectory() as name:
        table = pd.DataFrame([ms(seed, Path(name)) | ad(seed) for seed in seeds])
    table.loc[len(table)] = {"seed": "mean", **table.drop(columns="seed").mean()}
    lesions = real_and_simulated()
    text = markdown(table, lesions)
    print(text)
    here = Path(__file__).parent
    (here / "phantom_realism.md").write_text(text, encoding="utf-8")
    table.to_csv(here / "phantom_realism.tsv", sep="\t", index=False, float_format="%.4g")
    lesions.to_csv(
        here / "phantom_lesions.tsv", sep="\t", index_label="measure", float_format="%.4g"
    )
    record = provenance.record(
        {"seeds": seeds},
        outputs=[here / f"phantom_{name}" for name in ("realism.tsv", "lesions.tsv", "realism.md")],
    )
    provenance.write_json(here / "phantom_realism.json", record)

"""Networks of simulated scans on eight real patients of two centres: do their maps find lesions?

Usage: python benchmarks/real.py [RESULTS]      (default runs/demo, for the fine-tuned networks)

Needs the scans of ../shared/data: patients 07 and 19 of Ljubljana (3 T, 3D FLAIR, in MNI space;
Lesjak et al. 2017, doi:10.1007/s12021-017-9348-7), and six of Tabriz (1.5 T, slices of 5 to 6 mm,
raw heads; MS3SEG, doi:10.6084/m9.figshare.30393475). About 15 minutes of one core.

Every scan is prepared as a cohort's is. The map of a variant is the mean over its networks. Rules
and copies were fixed on simulated scans; nothing is chosen on these eight patients. Measured are

- maps: `msxai.quality.localisation` against the lesion mask, beside the brightness of the scan;
- answers: the share of patients with a logit above 0, as they are, with their lesions filled, and
  with as much normal white matter filled (sham). For the package's networks also by the calibrated
  probability of the page, above 0.5.

Written beside this file, numbers alone: real.tsv (variant, rule, copies, site, measure, value, low,
high, n), real_scores.tsv (the measures of each scan) and real.json. Intervals are 95 % by bootstrap
over patients. Eight patients are few: the intervals say how little is known.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import msxai
from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import from_images
from msxai.data.prepared import PreparationOptions, Prepared, prepare
from msxai.lrp import shipped_reference
from msxai.model import network, shipped
from msxai.quality import lesion_by_lesion, localisation, scan_maps
from msxai.regions import lesion_regions

HERE = Path(__file__).parent
DATA = Path(msxai.ROOT).parent / "shared" / "data"
VARIANTS = ("pretrained", "scratch", "pretrained-lesions", "pairs")
SHIPPED = "lesions, no fine-tuning"
MAPS = (("epsilon", 1), ("epsilon_gamma", 1), ("epsilon_gamma", 8))
"""Rules and numbers of copies."""

MEASURES = ("auprc", "rra", "rma", "pointing", "sensitivity")
FEWEST_LESION_VOXELS = 10


@dataclass(frozen=True)
class Scan:
    """A real scan with its lesion mask.

    Attributes
    ----------
    site, name : str
    image, lesions : pathlib.Path
    """

    site: str
    name: str
    image: Path
    lesions: Path


def scans_of(data: Path) -> list[Scan]:
    """List the scans that have a mask, by site."""
    scans = []
    for image in sorted((data / "open_ms" / "mni").glob("*_FLAIR.nii.gz")):
        name = image.name.removesuffix("_FLAIR.nii.gz")
        mask = data / "open_ms" / "lesions_mni" / f"{name}_lesions.nii.gz"
        scans.append(Scan("Ljubljana", name, image, mask))
    for image in sorted((data / "ms3seg").glob("*_FLAIR.nii.gz")):
        name = image.name.removesuffix("_FLAIR.nii.gz")
        scans.append(Scan("Tabriz", name, image, image.with_name(f"{name}_lesions.nii.gz")))
    if not scans:
        raise SystemExit(f"{data}: found no scan of open_ms or ms3seg.")
    return scans


def prepared_scans(scans: list[Scan], where: Results) -> Prepared:
    """Register and prepare the scans as notebook 01 does."""
    cohort = from_images(
        [str(scan.image) for scan in scans],
        [str(scan.lesions) for scan in scans],
        name="real-patients",
    )
    options = PreparationOptions(
        registration="auto", derivatives=where.registration("real-patients")
    )
    path = where.prepared("real-patients")
    prepare(cohort, splits.make(cohort.table, (0, 0), 0.15, 0), path, options)
    return Prepared(path)


def weights_of(where: Results) -> dict[str, list[Path]]:
    """Weights of each variant; the networks that the package brings come first."""
    weights = {SHIPPED: shipped.weights()}
    for name in VARIANTS:
        paths = sorted((where.folder / "finetuning" / name).glob("trial-*/weights.npz"))
        if paths:
            weights[name] = paths
    return weights


def scores_of_scan(models, image, lesions, brain) -> list[dict]:
    """Measure the mean map over networks of one scan, for each of `MAPS`."""
    target = localisation.Target(lesions, brain)
    bright = localisation.measure(image, lesions, brain, target, list(MEASURES))
    scores = []
    for rule, copies in MAPS:
        maps = []
        for model in models:
            by_rule = scan_maps.of_scan(model, image, [rule], copies=copies, threads=1)
            maps.append(by_rule[rule])
        measures = localisation.measure(
            np.mean(maps, axis=0), lesions, brain, target, list(MEASURES)
        )
        score = {"rule": rule, "copies": copies}
        for measure in MEASURES:
            score[measure] = measures[measure]
            score[f"{measure}_minus_brightness"] = measures[measure] - bright[measure]
        scores.append(score)
    return scores


def answers_of_scan(models, prepared, row: int, stored=None) -> dict:
    """Mean logit of a scan as it is, with its lesions filled, and with normal tissue filled.

    With the subjects that the package stores for its networks
    (`msxai.lrp.shipped_reference.Stored`), also the calibrated probability.
    """
    labels = lesion_regions.on_model_grid(prepared.lesions(row)).labels
    filled = lesion_by_lesion.fill_lesions(prepared, row, labels)
    sham = lesion_by_lesion.fill_sham_sites(prepared, row, labels)
    scans = {"as_it_is": filled.untouched, "filled": filled.all()}
    if sham.sets:
        scans["sham"] = sham.filled.these(sham.sets[0])
    batch = np.stack(list(scans.values()))[..., None].astype("float32")
    logits = np.stack([np.asarray(model(batch, training=False))[:, 0] for model in models])
    answers = {}
    for name, of_scan in zip(scans, logits.T, strict=True):
        answers[f"logit_{name}"] = float(of_scan.mean())
        if stored is not None:
            answers[f"probability_{name}"] = float(np.mean(stored.calibrated(of_scan)))
    return answers


def scores_of(prepared: Prepared, scans: list[Scan], weights: dict) -> pd.DataFrame:
    """One row a scan, variant and map."""
    rows = []
    for variant, paths in weights.items():
        models = [network.restore(path) for path in paths]
        predicting = [network.restore(path, fast=True) for path in paths]
        stored = shipped_reference.read(paths)
        for row, scan in enumerate(tqdm(scans, desc=variant, unit="scan")):
            image, brain, lesions = prepared.image(row), prepared.brain(row), prepared.lesions(row)
            if lesions.sum() < FEWEST_LESION_VOXELS:
                continue
            answers = answers_of_scan(predicting, prepared, row, stored)
            for score in scores_of_scan(models, image, lesions, brain):
                scan_columns = {"variant": variant, "site": scan.site, "scan": scan.name}
                rows.append({**scan_columns, **score, **answers})
    return pd.DataFrame(rows)


def table_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Means with intervals over patients: of each variant and map, for each site and all."""
    rows = []
    for site in ("all", *scores["site"].unique()):
        own = scores if site == "all" else scores[scores["site"] == site]
        for (variant, rule, copies), maps in own.groupby(["variant", "rule", "copies"], sort=False):
            first = {"variant": variant, "rule": rule, "copies": copies, "site": site}
            for measure in maps.columns:
                if measure.removesuffix("_minus_brightness") in MEASURES:
                    rows.append(first | _row(measure, maps[measure]))
        for variant, maps in own.groupby("variant", sort=False):
            of_scans = maps.drop_duplicates("scan")
            first = {"variant": variant, "rule": "", "copies": 0, "site": site}
            for name in ("as_it_is", "filled", "sham"):
                logits = of_scans.get(f"logit_{name}")
                if logits is None:
                    continue
                rows.append(first | _row(f"called_yes_{name}", _share_above(logits, 0)))
                rows.append(first | _row(f"logit_{name}", logits))
                probabilities = of_scans.get(f"probability_{name}")
                if probabilities is None or probabilities.isna().all():
                    continue
                said_yes = _share_above(probabilities, 0.5)
                rows.append(first | _row(f"called_yes_calibrated_{name}", said_yes))
                rows.append(first | _row(f"probability_{name}", probabilities))
            fall = of_scans["logit_as_it_is"] - of_scans["logit_filled"]
            rows.append(first | _row("logit_falls_by_filling", fall))
    return pd.DataFrame(rows)


def _share_above(values: pd.Series, limit: float) -> pd.Series:
    """1 where a value is above a limit, 0 where it is not; missing values stay missing."""
    return (values > limit).astype(float).where(values.notna())


def _row(measure: str, values) -> dict:
    value, low, high = localisation.mean_interval(values)
    n = int(pd.Series(values).notna().sum())
    return {"measure": measure, "value": value, "low": low, "high": high, "n": n}


def main() -> None:
    """Prepare, measure and write."""
    parser = argparse.ArgumentParser(description="Do maps find lesions of real patients?")
    parser.add_argument("results", nargs="?", default="runs/demo")
    where = Results(parser.parse_args().results)
    network.configure(0, 1)
    scans = scans_of(DATA)
    prepared = prepared_scans(scans, Results("runs/proof"))
    weights = weights_of(where)
    scores = scores_of(prepared, scans, weights)
    table = table_of(scores)
    print(table[table["site"] == "all"].round(3).to_string())
    tsv.write(table, HERE / "real.tsv", float_format="%.4g")
    tsv.write(scores, HERE / "real_scores.tsv", float_format="%.4g")
    used = [path for paths in weights.values() for path in paths]
    parameters = {"results": where.given, "maps": [list(pair) for pair in MAPS]}
    hashes = {name: [provenance.sha256(path) for path in paths] for name, paths in weights.items()}
    outputs = [HERE / "real.tsv", HERE / "real_scores.tsv"]
    record = provenance.record(parameters, used, outputs, weights=hashes)
    provenance.write_json(HERE / "real.json", record)


if __name__ == "__main__":
    main()

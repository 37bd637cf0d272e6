"""Networks of simulated scans on eight real patients of two centres: do their maps find lesions?

Usage: python benchmarks/real.py [RESULTS]      (default runs/demo, for the fine-tuned networks)
       python benchmarks/real.py --from-scores  (real.tsv anew, from real_scores.tsv)

The networks of workflow/real.yaml are trained first by make proof-real: in pairs with lesion masks,
and the variants whose training scans are changed as other scanners might show them (randomised).

Needs the scans of ../shared/data: patients 07 and 19 of Ljubljana (3 T, 3D FLAIR, in MNI space;
Lesjak et al. 2017, doi:10.1007/s12021-017-9348-7), and six of Tabriz (1.5 T, slices of 5 to 6 mm,
raw heads; MS3SEG, doi:10.6084/m9.figshare.30393475). About an hour, half of it the trainings.

Every scan is prepared as a cohort's is. The map of a variant is the mean over its networks. Rules
and copies were fixed on simulated scans; nothing is chosen on these eight patients. Measured are

- maps: `msxai.quality.localisation` against the lesion mask, minus the same of the scan's
  brightness; sensitivity also by size of the lesions (below 30 mm3, up to 300 mm3, and larger: a
  ball of 3.9 mm and 8.3 mm in diameter);
- maps without a network, as rows of their own: brightness, the prior (mean lesion mask of the
  simulated training subjects), and a classifier of voxels that was trained on simulated scans with
  their lesion masks (`benchmarks/localisation.py`);
- the warnings of the page (`msxai.lrp.trust_warnings`) for the package's networks, and whether the
  map is worse where there are more of them (Spearman's correlation over patients);
- answers: the share of patients with a logit above 0, as they are, with their lesions filled, and
  with as much normal white matter filled (sham). For the package's networks also by the calibrated
  probability of the page, above 0.5;
- answers with the offset of the other centre: the share of patients above a threshold that is
  midway between the mean logits of the other centre's scans as they are and with lesions filled.

On 200 further simulated subjects, the AUC of each variant, and that of each randomised one minus
the plain one, paired: what the randomised training costs there.

Thresholding of FLAIR was published for 30 patients of Ljubljana (Meissen et al. 2021,
arXiv:2109.06023). `as_published` repeats that evaluation for the patients of each centre who are
here: the voxels of all patients in one set, background included; the area under the
precision-recall curve by trapezoids; the largest Dice of 100 equally spaced thresholds, after parts
of at most 70 mm3 are removed. Brightness is equalised by its histogram, as there. Differences:
2 of their 30 patients, voxels of 2 mm, all slices (theirs: 110 of 155), our brain masks.

Written beside this file, numbers alone: real.tsv (variant, rule, copies, site, measure, value, low,
high, n), real_scores.tsv (the measures of each scan), real_simulated.tsv, real_published.tsv and
real.json. Intervals are 95 %: of shares of patients by Clopper and Pearson, of all else by
bootstrap over patients. Eight patients are few: the intervals say how little is known.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import localisation as ladder
import numpy as np
import pandas as pd
import sight
from scipy import ndimage, stats
from sklearn import metrics
from tqdm import tqdm

import msxai
from msxai.base import provenance, statistics, tsv
from msxai.base.results import Results
from msxai.data import images
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import from_images
from msxai.data.prepared import PreparationOptions, Prepared, prepare
from msxai.lrp import shipped_reference, trust_warnings
from msxai.model import network, shipped
from msxai.quality import lesion_by_lesion, localisation, reference_maps, scan_maps
from msxai.regions import lesion_regions

HERE = Path(__file__).parent
TABLE, SCORES, RECORD = HERE / "real.tsv", HERE / "real_scores.tsv", HERE / "real.json"
SIMULATED, PUBLISHED = HERE / "real_simulated.tsv", HERE / "real_published.tsv"
DATA = Path(msxai.ROOT).parent / "shared" / "data"
RANDOMISED = "-randomised"
"""End of the name of a variant whose training scans another scanner might have shown."""

VARIANTS = (
    "pretrained",
    f"pretrained{RANDOMISED}",
    "scratch",
    "pretrained-lesions",
    f"pretrained-lesions{RANDOMISED}",
    "pairs",
    f"pairs{RANDOMISED}",
)
PRETRAININGS = ("lesions-randomised",)
"""Variants without fine-tuning, measured where their weights are in RESULTS or in runs/sight."""

SHIPPED = "lesions, no fine-tuning"
MAPS = (("epsilon", 1), ("epsilon_gamma", 1), ("epsilon_gamma", 8))
"""Rules and numbers of copies."""

WARNED = ("epsilon_gamma", 1)
"""The map that the page of a scan shows, whose warnings are counted."""

EPSILON = 1e-3
BRIGHTNESS, PRIOR = "brightness", "prior"
COHORT = "phantom-ms"  # whose lesion masks the prior and the classifier of voxels know
MEASURED = ("auprc", "rra", "rma", "pointing", "sensitivity")
BY_SIZE = tuple(f"sensitivity_{size}" for size in sight.SIZES)
MEASURES = (*MEASURED, *BY_SIZE)
FEWEST_LESION_VOXELS = 10
ANSWERED = ("as_it_is", "filled", "sham")
"""What a network is asked about."""

SHARES = ("pointing", "called_yes", "warned")
"""Measures of these names, and those that go on after "_", are shares of patients."""

THRESHOLD = "threshold_of_other_centres"
OF_PUBLISHED = ("epsilon_gamma", 8)
"""The map that is evaluated as the published thresholding."""

EQUALISED = "brightness, equalised"
THRESHOLDS, BINS = 100, 256
SMALLEST_PART = 70.3  # mm3: 20 voxels of 1.875 x 1.875 x 1 mm
PUBLISHED_RESULT = {"auprc": 0.271, "dice": 0.374}


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
    """List the scans that have a mask, in the order of their names, as a cohort has them."""
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
    return sorted(scans, key=lambda scan: scan.name)


def prepared_scans(scans: list[Scan], where: Results) -> Prepared:
    """Register and prepare the scans as notebook 01 does; a row is the scan of the same number."""
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
    prepared = Prepared(path)
    check_rows(prepared, scans)
    return prepared


def check_rows(prepared: Prepared, scans: list[Scan]) -> None:
    """Refuse scans in another order than the rows: each would get the name of another."""
    rows = [Path(image).name for image in prepared.table["image"]]
    expected = [scan.image.name for scan in scans]
    if rows != expected:
        raise ValueError(f"{prepared.path}: found the scans {rows}, expected {expected}.")


def weights_of(where: Results) -> dict[str, list[Path]]:
    """Weights of each variant; the networks that the package brings come first."""
    weights = {SHIPPED: shipped.weights()}
    for name in VARIANTS:
        paths = sorted((where.folder / "finetuning" / name).glob("trial-*/weights.npz"))
        if paths:
            weights[name] = paths
    for name in PRETRAININGS:
        for folder in (where.folder, Results("runs/sight").folder):
            paths = sorted((folder / "pretraining" / name).glob("trial-*/weights.npz"))
            if paths:
                weights.setdefault(name, paths)
    return weights


class Case:
    """One scan, and what the brightness of its voxels scores.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    lesions, brain : ndarray of bool, same shape
    """

    def __init__(self, image, lesions, brain):
        self.image = image
        self.brain = brain
        self._target = localisation.Target(lesions, brain)
        self._bright = self._measures(image)

    def score(self, heatmap) -> dict:
        """Return `MEASURES` of a map, and each minus that of brightness."""
        measures = self._measures(heatmap)
        score = {}
        for measure in MEASURES:
            score[measure] = measures[measure]
            score[f"{measure}_minus_brightness"] = measures[measure] - self._bright[measure]
        return score

    def _measures(self, heatmap) -> dict:
        lesions = self._target.lesions
        measures = localisation.measure(heatmap, lesions, self.brain, self._target, list(MEASURED))
        return measures | sight.sensitivity_by_size(heatmap, lesions, self.brain)


def maps_of(models, image, rule: str, copies: int) -> list[np.ndarray]:
    """Return the map of each network."""
    maps = []
    for model in models:
        by_rule = scan_maps.of_scan(model, image, [rule], epsilon=EPSILON, copies=copies, threads=1)
        maps.append(by_rule[rule])
    return maps


def scores_of_scan(models, case: Case, maps) -> list[dict]:
    """Measure the mean map over networks of one scan, for each rule and number of copies."""
    scores = []
    for rule, copies in maps:
        mean_map = np.mean(maps_of(models, case.image, rule, copies), axis=0)
        scores.append({"rule": rule, "copies": copies, **case.score(mean_map)})
    return scores


@dataclass(frozen=True)
class Baselines:
    """Maps without a network, from simulated scans with lesion masks.

    Attributes
    ----------
    prior : ndarray of shape (X, Y, Z)
        Blurred mean lesion mask of the training part.
    classifier : localisation.VoxelClassifier
        Trained on scans of the same part.
    """

    prior: np.ndarray
    classifier: ladder.VoxelClassifier

    @classmethod
    def of(cls, where: Results) -> "Baselines":
        """Make them from the simulated cohort of a results folder."""
        cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
        tuned = reference_maps.tune(cohort)
        rows = reference_maps.with_lesions(cohort, cohort.rows("training"))[: ladder.SCANS]
        return cls(tuned.prior, ladder.voxel_classifier(cohort, tuned, rows))

    def maps(self, prepared: Prepared, row: int) -> dict:
        """Return name to map of one scan."""
        brain = prepared.brain(row)
        bright = reference_maps.zscore(prepared, row)
        return {
            BRIGHTNESS: prepared.image(row),
            PRIOR: self.prior * brain,
            ladder.BOUND: self.classifier.map_of(bright, brain),
        }


def warnings_of_scan(models, stored, prepared: Prepared, row: int) -> dict:
    """Return the warnings of the page of a scan: how many, and each one's value.

    Parameters
    ----------
    models : list of keras.Model
    stored : msxai.lrp.shipped_reference.Stored
    prepared : msxai.data.prepared.Prepared
    row : int
    """
    rule, copies = WARNED
    image, brain = prepared.image(row), prepared.brain(row)
    maps = maps_of(models, image, rule, copies)
    batch = image[None, ..., None].astype("float32")
    logits = [float(network.logits(model, batch)[0]) for model in models]
    values = trust_warnings.measure(np.stack(maps), logits, brain)
    features = trust_warnings.features(models, prepared, [row])
    values["out_of_distribution"] = float(stored.distance(features)[0])
    limits = stored.limits_of(rule, EPSILON, copies)
    flags = trust_warnings.flags(values, limits, stored.source)
    warned = {f"warned_{flag['Flag']}": float(bool(flag["Flagged"])) for flag in flags}
    return {
        "warnings": sum(warned.values()),
        "distance": values["out_of_distribution"],
        **warned,
    }


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
    logits = np.stack([network.logits(model, batch) for model in models])
    answers = {}
    for name, of_scan in zip(scans, logits.T, strict=True):
        answers[f"logit_{name}"] = float(of_scan.mean())
        if stored is not None:
            answers[f"probability_{name}"] = float(np.mean(stored.calibrated(of_scan)))
    return answers


def cases_of(prepared: Prepared, scans: list[Scan]) -> dict:
    """Return row to case, for the scans with enough lesions."""
    cases = {}
    for row in range(len(scans)):
        lesions = prepared.lesions(row)
        if lesions.sum() >= FEWEST_LESION_VOXELS:
            cases[row] = Case(prepared.image(row), lesions, prepared.brain(row))
    return cases


def scores_of_baselines(
    prepared: Prepared, scans: list[Scan], cases: dict, baselines
) -> pd.DataFrame:
    """One row a scan and map that no network has made; `cases` are those of `cases_of`."""
    rows = []
    for row, case in tqdm(cases.items(), desc="baselines", unit="scan"):
        scan_columns = {"site": scans[row].site, "scan": scans[row].name}
        for name, heatmap in baselines.maps(prepared, row).items():
            first = {"variant": name, "rule": "", "copies": 1}
            rows.append({**first, **scan_columns, **case.score(heatmap)})
    return pd.DataFrame(rows)


def scores_of(
    prepared: Prepared, scans: list[Scan], cases: dict, weights: dict, maps=MAPS
) -> pd.DataFrame:
    """One row a scan, variant and map.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    scans : list of Scan
        Of all rows.
    cases : dict
        The rows to be measured (`cases_of`).
    weights : dict
        Variant to its weights files.
    maps : sequence of (str, int)
        Rules and numbers of copies.
    """
    rows = []
    for variant, paths in weights.items():
        models = [network.restore(path) for path in paths]
        predicting = [network.restore(path, fast=True) for path in paths]
        stored = shipped_reference.read(paths)
        for row, case in tqdm(cases.items(), desc=variant, unit="scan"):
            answers = answers_of_scan(predicting, prepared, row, stored)
            if stored is not None:
                answers |= warnings_of_scan(models, stored, prepared, row)
            scan_columns = {"variant": variant, "site": scans[row].site, "scan": scans[row].name}
            for score in scores_of_scan(models, case, maps):
                rows.append({**scan_columns, **score, **answers})
    return pd.DataFrame(rows)


def table_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Means with intervals over patients: of each variant and map, for each site and all."""
    scores = with_threshold_of_other_centres(scores)
    rows = []
    for site in ("all", *scores["site"].unique()):
        own = scores if site == "all" else scores[scores["site"] == site]
        for (variant, rule, copies), maps in own.groupby(["variant", "rule", "copies"], sort=False):
            first = {"variant": variant, "rule": rule, "copies": copies, "site": site}
            for measure in maps.columns:
                if measure.removesuffix("_minus_brightness") in MEASURES:
                    rows.append(first | row_of(measure, maps[measure]))
        for variant, maps in own.groupby("variant", sort=False):
            of_scans = maps.drop_duplicates("scan")
            if of_scans["logit_as_it_is"].isna().all():  # no network
                continue
            first = {"variant": variant, "rule": "", "copies": 0, "site": site}
            answers = answers_of(of_scans)
            rows += [first | row_of(measure, answers[measure]) for measure in answers]
            rows += [first | row for row in _rows_of_warnings(maps)]
    return pd.DataFrame(rows)


def with_threshold_of_other_centres(scores: pd.DataFrame) -> pd.DataFrame:
    """Add the column `THRESHOLD`: of each variant and site, from the scans of the other sites.

    It is midway between the mean logit of scans as they are and that of the same scans with their
    lesions filled, so that no scan of the site itself decides. NaN where there is no other site, or
    no network.
    """
    result = scores.copy()
    result[THRESHOLD] = np.nan
    if "logit_filled" not in result:
        return result
    for (variant, site), rows in result.groupby(["variant", "site"]).groups.items():
        is_other = (scores["variant"] == variant) & (scores["site"] != site)
        others = scores[is_other].drop_duplicates("scan")
        middle = (others["logit_as_it_is"].mean() + others["logit_filled"].mean()) / 2
        result.loc[rows, THRESHOLD] = middle
    return result


def answers_of(of_scans: pd.DataFrame) -> pd.DataFrame:
    """Return what a variant answers to each scan, and whether this is a yes.

    Parameters
    ----------
    of_scans : pandas.DataFrame
        One row a scan; logits, and where they are known calibrated probabilities.
    """
    answers = {}
    for name in ANSWERED:
        logits = of_scans.get(f"logit_{name}")
        if logits is None:
            continue
        answers[f"called_yes_{name}"] = _above(logits, 0)
        answers[f"logit_{name}"] = logits
        if of_scans[THRESHOLD].notna().any():
            said_yes = _above(logits, of_scans[THRESHOLD])
            answers[f"called_yes_other_centre_{name}"] = said_yes
        probabilities = of_scans.get(f"probability_{name}")
        if probabilities is None or probabilities.isna().all():
            continue
        answers[f"called_yes_calibrated_{name}"] = _above(probabilities, 0.5)
        answers[f"probability_{name}"] = probabilities
    answers["logit_falls_by_filling"] = of_scans["logit_as_it_is"] - of_scans["logit_filled"]
    return pd.DataFrame(answers)


def _rows_of_warnings(maps: pd.DataFrame) -> list[dict]:
    """Return the warnings of a variant's scans, and their relation to the accuracy of its maps."""
    if "warnings" not in maps or maps["warnings"].isna().all():
        return []
    rule, copies = WARNED
    of_scans = maps[(maps["rule"] == rule) & (maps["copies"] == copies)]
    rows = []
    for name in of_scans.columns:
        if name in ("warnings", "distance") or name.startswith("warned_"):
            rows.append(row_of(name, of_scans[name]))
    for name in ("warnings", "distance"):
        for measure in ("auprc", "auprc_minus_brightness"):
            value, low, high = spearman(of_scans[name], of_scans[measure])
            row = {"measure": f"spearman_{name}_{measure}", "n": len(of_scans)}
            rows.append(row | {"value": value, "low": low, "high": high})
    return rows


def spearman(first, second) -> tuple[float, float, float]:
    """Spearman's correlation with a bootstrap interval over patients; NaN where one is constant."""
    ranks = [stats.rankdata(values) for values in (first, second)]
    if min(np.ptp(values) for values in ranks) == 0:
        return np.nan, np.nan, np.nan
    return localisation.correlation_interval(*ranks)


def _above(values: pd.Series, limit) -> pd.Series:
    """1 where a value is above its limit, 0 where it is not; missing values stay missing."""
    return (values > limit).astype(float).where(values.notna())


def row_of(measure: str, values) -> dict:
    """Return measure, mean, interval and number of patients.

    A bootstrap of eight times yes would say that this is certain. So shares have an exact interval.
    """
    value, low, high = localisation.mean_interval(values)
    n = int(pd.Series(values).notna().sum())
    if is_share(measure):
        low, high = statistics.exact_interval(value * n, n)
    return {"measure": measure, "value": value, "low": low, "high": high, "n": n}


def is_share(measure: str) -> bool:
    """Whether a measure is a share of patients, and no difference of shares."""
    if "_minus_" in measure:
        return False
    return any(measure == name or measure.startswith(f"{name}_") for name in SHARES)


def simulated_accuracy(where: Results, weights: dict) -> pd.DataFrame:
    """Return the AUC of each variant on further simulated subjects, as `accuracy_table` does."""
    cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
    further = sight.further_subjects(where, cohort)
    logits = {}
    for name, paths in tqdm(weights.items(), desc="simulated subjects", unit="variant"):
        variant = sight.Variant(name, paths, labels_only=False)
        logits[name] = sight.logits_of(variant, further).mean(axis=0)
    return accuracy_table(logits, further.table["label"].to_numpy(int))


def accuracy_table(logits: dict, labels) -> pd.DataFrame:
    """AUC with its interval, and that of each randomised variant minus the plain one, paired.

    Parameters
    ----------
    logits : dict
        Variant to the mean logit over its networks, one value a subject.
    labels : ndarray of int
    """
    rows = []
    for name, values in logits.items():
        low, high = statistics.auc_interval(labels, values)
        row = {"variant": name, "measure": "auc", "value": statistics.auc(labels, values)}
        rows.append({**row, "low": low, "high": high, "n": len(labels)})
        plain = name.removesuffix(RANDOMISED)
        if plain != name and plain in logits:
            value, low, high, _ = statistics.auc_difference(labels, values, logits[plain])
            row = {"variant": name, "measure": "auc_minus_plain", "value": value}
            rows.append({**row, "low": low, "high": high, "n": len(labels)})
    return pd.DataFrame(rows)


def equalised(values, inside) -> np.ndarray:
    """Return the cumulative histogram of each voxel's value; 0 outside.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    inside : ndarray of bool, same shape
    """
    counts, edges = np.histogram(values[inside], BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    cumulative = np.cumsum(counts) / counts.sum()
    return np.interp(values, centres, cumulative) * inside


def largest_dice(maps, lesions, voxel_volume: float) -> float:
    """Largest Dice over thresholds that all patients share, then without small parts.

    Parameters
    ----------
    maps : ndarray of shape (patients, X, Y, Z)
    lesions : ndarray of bool, same shape
    voxel_volume : float
        In mm3.
    """
    thresholds = np.linspace(maps.min(), maps.max(), THRESHOLDS)
    dice = [_dice(maps > threshold, lesions) for threshold in thresholds]
    marked = maps > thresholds[int(np.argmax(dice))]
    for patient in range(len(marked)):
        parts, _ = ndimage.label(marked[patient], ndimage.generate_binary_structure(3, 3))
        is_small = np.bincount(parts.ravel()) * voxel_volume <= SMALLEST_PART
        marked[patient] &= ~is_small[parts]
    return _dice(marked, lesions)


def _dice(marked, lesions) -> float:
    overlap = np.count_nonzero(marked & lesions)
    return 2 * overlap / (np.count_nonzero(marked) + np.count_nonzero(lesions))


def as_published(prepared: Prepared, scans: list[Scan], cases: dict, weights: dict) -> pd.DataFrame:
    """Evaluate maps and brightness as the published thresholding was; one row a map and site."""
    rule, copies = OF_PUBLISHED
    rows = [{"site": "Ljubljana", "map": "thresholding, published", "patients": 30}]
    rows[0] |= PUBLISHED_RESULT
    voxel_volume = images.voxel_volume(prepared.affine)
    for site in sorted({scans[row].site for row in cases}):
        of_site = [row for row in cases if scans[row].site == site]
        lesions = np.stack([prepared.lesions(row) for row in of_site])
        bright = [equalised(prepared.image(row), prepared.brain(row)) for row in of_site]
        maps = {EQUALISED: np.stack(bright)}
        for variant, paths in weights.items():
            models = [network.restore(path) for path in paths]
            of_variant = []
            for row in of_site:
                mean_map = np.mean(maps_of(models, prepared.image(row), rule, copies), axis=0)
                of_variant.append(np.maximum(mean_map, 0))
            maps[variant] = np.stack(of_variant)
        for name, values in maps.items():
            first = {"site": site, "map": name, "patients": len(of_site)}
            precision, recall, _ = metrics.precision_recall_curve(lesions.ravel(), values.ravel())
            area = metrics.auc(recall, precision)
            rows.append(
                first | {"auprc": area, "dice": largest_dice(values, lesions, voxel_volume)}
            )
    return pd.DataFrame(rows)


def write_table() -> pd.DataFrame:
    """Write real.tsv from real_scores.tsv: what can be read there decides each digit."""
    table = table_of(tsv.read(SCORES))
    tsv.write(table, TABLE, float_format="%.4g")
    return table


def write_table_anew() -> None:
    """Write real.tsv from the scores of an earlier run, and its hash into that run's record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    provenance.check_output(record, SCORES, "make proof-real")
    write_table()
    now = provenance.record({}, outputs=[TABLE])
    record["outputs"] |= now["outputs"]
    record["table_written"] = {"commit": now["commit"], "written": now["written"]}
    provenance.write_json(RECORD, record)


def main() -> None:
    """Prepare, measure and write."""
    parser = argparse.ArgumentParser(description="Do maps find lesions of real patients?")
    parser.add_argument("results", nargs="?", default="runs/demo")
    parser.add_argument("--from-scores", action="store_true", help="write the table anew")
    options = parser.parse_args()
    if options.from_scores:
        write_table_anew()
        return
    where = Results(options.results)
    network.configure(0, 1)
    scans = scans_of(DATA)
    prepared = prepared_scans(scans, Results("runs/proof"))
    weights = weights_of(where)
    cases = cases_of(prepared, scans)
    of_baselines = scores_of_baselines(prepared, scans, cases, Baselines.of(where))
    of_networks = scores_of(prepared, scans, cases, weights)
    scores = pd.concat([of_networks, of_baselines], ignore_index=True)
    tsv.write(scores, SCORES, float_format="%.4g")
    tsv.write(simulated_accuracy(where, weights), SIMULATED, float_format="%.4g")
    published = as_published(prepared, scans, cases, {SHIPPED: weights[SHIPPED]})
    tsv.write(published, PUBLISHED, float_format="%.4g")
    table = write_table()
    print(table[table["site"] == "all"].round(3).to_string())
    used = [path for paths in weights.values() for path in paths]
    used.append(where.prepared(COHORT))
    parameters = {"results": where.given, "maps": [list(pair) for pair in MAPS]}
    hashes = {name: [provenance.sha256(path) for path in paths] for name, paths in weights.items()}
    record = provenance.record(
        parameters, used, [TABLE, SCORES, SIMULATED, PUBLISHED], weights=hashes
    )
    provenance.write_json(RECORD, record)


if __name__ == "__main__":
    main()

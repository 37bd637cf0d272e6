"""Do maps of LRP show lesions or artefacts? Every rule beside SmoothGrad, GradCAM and others.

Usage: python benchmarks/artefact_or_signal.py [RESULTS] [--networks NAME ...]
(default runs/demo; make proof-artefact trains the network in pairs first; about two hours)

Siegel et al. 2025 (arXiv:2508.02560) explain networks on MRI with known signals. They find that
GradCAM does not localise, that LRP shows artefacts, and that SmoothGrad is right. Here 100 further
simulated patients, whom no training and no choice has read, are explained by one network (trial 0)
of each kind: the paper's (pretrained), the best by labels (pretrained-lesions), and one trained in
pairs with lesion masks (pairs). Compared with SmoothGrad on the same scans are

- six rules of LRP, input x gradient, guided backpropagation, and GradCAM (Selvaraju et al. 2017,
  doi:10.1109/ICCV.2017.74) at the fourth convolution;
- two rules of LRP averaged over the same noise as SmoothGrad;
- integrated gradients from the scan with its lesions filled, which know where the lesions are: a
  bound, not a method;
- the brightness of the scan.

SmoothGrad has 50 samples. Its noise, and whether the gradient, its magnitude or its product with
the scan is taken, are chosen for each network by AUPRC on validation patients. Nothing else is
chosen.

Written beside this file, after each network: artefact_or_signal.tsv (network, map, measure, value,
low, high, n, and the paired difference from SmoothGrad), artefact_or_signal_scores.tsv (each
patient), artefact_or_signal.json, artefact_or_signal.png. With `--networks`, the rows of other
networks stay if their weights are the same. Intervals are 95 % by bootstrap over patients.
Measures: AUPRC, relevance rank and pointing game of lesions, and `edges`: the rank correlation of
the map's magnitude with the edges of the scan, in healthy tissue, where a map without artefacts has
no reason to follow edges.
"""

import argparse
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage, stats
from tqdm import tqdm

from msxai import lrp
from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.evaluation import prediction
from msxai.model import network
from msxai.quality import league, lesion_by_lesion, localisation, reference_maps, scan_maps
from msxai.regions import lesion_regions
from msxai.report.figures import sheet

HERE = Path(__file__).parent
TABLE = HERE / "artefact_or_signal.tsv"
SCORES = HERE / "artefact_or_signal_scores.tsv"
PICTURE = HERE / "artefact_or_signal.png"
RECORD = HERE / "artefact_or_signal.json"
COHORT = "phantom-ms"
FURTHER = 200
PATIENTS = 100
NETWORKS = ("pretrained", "pretrained-lesions", "pairs")
RULES = (
    "epsilon",
    "alpha2_beta1",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_half_gamma_box",
    "epsilon_gamma",
)
GRADIENTS = ("input_x_gradient", "guided_backpropagation")
UNDER_NOISE = ("epsilon", "epsilon_gamma")
SMOOTHGRAD = "smoothgrad"
GRAD_CAM = "grad_cam"
FROM_FILLED = "integrated_gradients_from_filled"
BRIGHTNESS = "brightness"
SAMPLES, SAMPLES_OF_CHOICE = 50, 8
NOISES = (0.01, 0.02, 0.05, 0.1, 0.2)
KINDS = ("gradient", "magnitude", "times scan")
STEPS = 16  # of integrated gradients
AT_A_TIME = 10  # noisy scans
MEASURES = ("auprc", "rra", "pointing", "edges")
EDGE_VOXELS = 20_000  # of healthy tissue, drawn at random, for the correlation with edges
HEALTHY = 3  # voxels away from lesions
BLOCK = 5  # patients a task
LAST = "elu4"
CELL, FIRST_CELL = 9, 26  # voxels: size of a cell of the fourth convolution, centre of the first


@dataclass(frozen=True)
class Choice:
    """What SmoothGrad is for one network.

    Attributes
    ----------
    noise : float
        Standard deviation, as a share of the range of the scan.
    kind : str
        One of `KINDS`.
    """

    noise: float
    kind: str


def grad_cam(model: keras.Model, scan) -> np.ndarray:
    """GradCAM at the fourth convolution, interpolated linearly between its cells.

    Parameters
    ----------
    model : keras.Model
        Of `msxai.model.network.build`.
    scan : ndarray of shape (X, Y, Z)
    """
    import tensorflow as tf

    names = [layer.name for layer in model.layers]
    below = keras.Model(model.inputs, model.get_layer(LAST).output)
    maps = below(tf.constant(scan[None, ..., None]), training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = maps
        for layer in model.layers[names.index(LAST) + 1 :]:
            logits = layer(logits, training=False)
    gradient = tape.gradient(logits, maps).numpy()[0]
    weights = gradient.mean(axis=(0, 1, 2))
    cells = np.maximum(maps.numpy()[0] @ weights, 0)
    places = np.indices(scan.shape).reshape(3, -1)
    values = ndimage.map_coordinates(
        cells, (places - FIRST_CELL) / CELL, order=1, mode="nearest", prefilter=False
    )
    return values.reshape(scan.shape)


def noisy(scan, noise: float, samples: int, seed: int) -> np.ndarray:
    """Return noisy copies of a scan, (samples, X, Y, Z), with the noise of `lrp.SmoothGrad`."""
    rng = np.random.default_rng(seed)
    spread = noise * np.ptp(scan)
    copies = [scan + rng.normal(0, spread, scan.shape).astype("float32") for _ in range(samples)]
    return np.stack(copies)


def mean_map(model, scans, rule: str) -> np.ndarray:
    """Mean map of some scans, (N, X, Y, Z), by a rule or method."""
    total = np.zeros(scans.shape[1:])
    for first in range(0, len(scans), AT_A_TIME):
        part = scans[first : first + AT_A_TIME]
        explanation = lrp.explain(
            model, part[..., None], rule, computation=lrp.Computation(threads=1)
        )
        total += explanation.relevance[..., 0].sum(axis=0, dtype=float)
    return total / len(scans)


def smoothgrad(gradient, scan, kind: str) -> np.ndarray:
    """Return the map of a mean gradient."""
    if kind == "magnitude":
        return np.abs(gradient)
    if kind == "times scan":
        return gradient * scan
    return gradient


def from_filled(model, scan, filled) -> np.ndarray:
    """Integrated gradients on the line from the filled scan to the scan."""
    shares = (np.arange(STEPS) + 0.5) / STEPS
    line = filled + shares[:, None, None, None] * (scan - filled)
    return (scan - filled) * mean_map(model, line.astype("float32"), "gradient")


def maps_of(model, prepared, row: int, choice: Choice) -> dict[str, np.ndarray]:
    """All maps of one scan."""
    scan = prepared.image(row).astype("float32")
    maps = scan_maps.of_scan(model, scan, [*RULES, *GRADIENTS], threads=1)
    copies = noisy(scan, choice.noise, SAMPLES, row)
    maps[SMOOTHGRAD] = smoothgrad(mean_map(model, copies, "gradient"), scan, choice.kind)
    for rule in UNDER_NOISE:
        maps[f"{rule}, same noise"] = mean_map(model, copies, rule)
    maps[GRAD_CAM] = grad_cam(model, scan)
    labels = lesion_regions.on_model_grid(prepared.lesions(row)).labels
    filled = lesion_by_lesion.fill_lesions(prepared, row, labels).all()
    maps[FROM_FILLED] = from_filled(model, scan, filled)
    maps[BRIGHTNESS] = scan
    return maps


def edge_correlation(heatmap, edges, healthy, seed: int) -> float:
    """Rank correlation of a map's magnitude with the scan's edges, in healthy tissue."""
    places = np.flatnonzero(healthy)
    rng = np.random.default_rng(seed)
    if len(places) > EDGE_VOXELS:
        places = rng.choice(places, EDGE_VOXELS, replace=False)
    return float(stats.spearmanr(np.abs(heatmap.ravel()[places]), edges.ravel()[places])[0])


def scores_of_scan(maps: dict, prepared, row: int) -> list[dict]:
    """Measure all maps of one scan."""
    brain = prepared.brain(row)
    lesions = prepared.lesions(row) & brain
    target = localisation.Target(lesions, brain)
    edges = reference_maps.edges(reference_maps.zscore(prepared, row), brain)
    healthy = brain & ~ndimage.binary_dilation(lesions, iterations=HEALTHY)
    scores = []
    for name, heatmap in maps.items():
        values = localisation.measure(heatmap, lesions, brain, target, list(MEASURES[:3]))
        score = {"map": name, "row": int(row)}
        score |= {measure: values[measure] for measure in MEASURES[:3]}
        score["edges"] = edge_correlation(heatmap, edges, healthy, row)
        scores.append(score)
    return scores


def chosen(model, prepared, rows) -> Choice:
    """Choose SmoothGrad's noise and kind by AUPRC on validation patients."""
    scores = {Choice(noise, kind): [] for noise in NOISES for kind in KINDS}
    for row in rows:
        scan = prepared.image(row).astype("float32")
        brain, lesions = prepared.brain(row), prepared.lesions(row)
        target = localisation.Target(lesions, brain)
        for noise in NOISES:
            gradient = mean_map(model, noisy(scan, noise, SAMPLES_OF_CHOICE, row), "gradient")
            for kind in KINDS:
                heatmap = smoothgrad(gradient, scan, kind)
                values = localisation.measure(heatmap, lesions, brain, target, ["auprc"])
                scores[Choice(noise, kind)].append(values["auprc"])
    return max(scores, key=lambda choice: np.mean(scores[choice]))


@cache
def _restored(path) -> keras.Model:
    network.configure(0, 1)
    return network.restore(path)


def measured(arrays, rows, weights, choice: Choice) -> list[dict]:
    """Explain and measure some patients."""
    model = _restored(weights)
    prepared = Prepared(arrays)
    scores = []
    for row in rows:
        scores += scores_of_scan(maps_of(model, prepared, row, choice), prepared, row)
    return scores


def table_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Means with intervals, and the paired difference from SmoothGrad."""
    rows = []
    for name in scores["network"].unique():
        own = scores[scores["network"] == name].set_index("row")
        reference = own[own["map"] == SMOOTHGRAD]
        for heatmap in own["map"].unique():
            values = own[own["map"] == heatmap]
            for measure in MEASURES:
                first = {"network": name, "map": heatmap, "measure": measure}
                rows.append(first | _interval(values[measure], ""))
                if heatmap != SMOOTHGRAD:
                    difference = values[measure] - reference[measure]
                    rows[-1] |= _interval(difference, "_minus_smoothgrad")
    return pd.DataFrame(rows)


def _interval(values, ending: str) -> dict:
    value, low, high = localisation.mean_interval(values)
    names = (f"value{ending}", f"low{ending}", f"high{ending}")
    row = dict(zip(names, (value, low, high), strict=True))
    return row | {"n": int(values.notna().sum())}


@sheet.drawn
def picture(table: pd.DataFrame):
    """Draw the AUPRC of each map, a panel for each network."""
    auprc = table[table["measure"] == "auprc"]
    names = list(auprc["map"].unique())
    heights = np.arange(len(names))[::-1]
    networks = list(auprc["network"].unique())
    notes = [
        f"{int(auprc['n'].max())} patients, one network of each kind: mean and 95 % interval over "
        "patients (bootstrap). Dashed: SmoothGrad. Black: LRP; blue: other methods; grey: maps "
        "that are no explanation of the network alone."
    ]
    title = "Lesions or artefacts? Rules of LRP beside SmoothGrad and GradCAM"
    height = 0.24 * len(names)
    figure, bottom = sheet.sheet(2.4 + 2.2 * len(networks), height + 0.7, title, notes, True)
    for number, name in enumerate(networks):
        own = auprc[auprc["network"] == name].set_index("map").loc[names]
        axes = sheet.place(figure, 2.3 + 2.2 * number, bottom + 0.45, 1.9, height)
        for level, (heatmap, row) in zip(heights, own.iterrows(), strict=True):
            axes.plot([row["low"], row["high"]], [level, level], color=_colour(heatmap), lw=1)
            axes.plot(row["value"], level, "o", ms=4, color=_colour(heatmap))
        axes.axvline(own.loc[SMOOTHGRAD, "value"], color="0.6", ls="--", lw=0.9, zorder=0)
        axes.set_yticks(heights, [] if number else [label.replace("_", " ") for label in names])
        axes.set(xlim=(0, None), xlabel="AUPRC of lesions", title=name)
    return figure, auprc


def _colour(heatmap: str) -> str:
    """Colour of a map by what kind it is."""
    if heatmap in (FROM_FILLED, BRIGHTNESS):
        return "#777777"
    if heatmap in (*GRADIENTS, SMOOTHGRAD, GRAD_CAM):
        return "#0072B2"
    return "black"


def main(
    where: Results, name: str, n_patients: int = PATIENTS, jobs: int = 2
) -> tuple[pd.DataFrame, Choice]:
    """Explain and measure with one network; return the scores and the choice."""
    network.configure(0, 1)
    cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
    further, reason = prediction.further(where, cohort, COHORT, FURTHER)
    if further is None:
        raise SystemExit(reason)
    labels = further.table["label"].to_numpy(int)
    with_lesions = reference_maps.with_lesions(further, np.flatnonzero(labels == 1))
    patients = league.spread_evenly(with_lesions, n_patients)
    validation = reference_maps.with_lesions(cohort, cohort.rows("validation"))
    weights = weights_of(where, name)
    choice = chosen(_restored(weights), cohort, validation)
    print(name, choice, flush=True)
    blocks = [patients[first : first + BLOCK] for first in range(0, len(patients), BLOCK)]
    work = [delayed(measured)(further.path, rows, weights, choice) for rows in blocks]
    results = Parallel(jobs, return_as="generator")(work)
    results = tqdm(results, desc=name, total=len(work), unit="block")
    scores = [{"network": name, **score} for block in results for score in block]
    return pd.DataFrame(scores), choice


def weights_of(where: Results, name: str) -> Path:
    """Path of the weights of one network."""
    weights = where.folder / "finetuning" / name / "trial-0" / "weights.npz"
    if not weights.exists():
        raise SystemExit(f"{name}: no network. Run make figures, then make proof-artefact.")
    return weights


def with_scores(earlier: pd.DataFrame | None, name: str, scores: pd.DataFrame) -> pd.DataFrame:
    """Put the scores of one network in the place of its earlier ones, in the order of NETWORKS."""
    of_networks = {} if earlier is None else dict(list(earlier.groupby("network", sort=False)))
    of_networks[name] = scores
    order = [known for known in NETWORKS if known in of_networks]
    order += [other for other in of_networks if other not in NETWORKS]
    return pd.concat([of_networks[known] for known in order], ignore_index=True)


def write_all(where: Results, scores: pd.DataFrame, choices: dict) -> None:
    """Write the table, the picture and the record of all networks measured so far."""
    table = table_of(scores)
    tsv.write(scores, SCORES, float_format="%.5g")
    tsv.write(table, TABLE, float_format="%.4g")
    figure, _ = picture(table)
    figure.savefig(PICTURE, dpi=sheet.DPI)
    files = {name: weights_of(where, name) for name in choices}
    parameters = {"results": where.given, "smoothgrad": choices, "samples": SAMPLES}
    hashes = {name: provenance.sha256(path) for name, path in files.items()}
    outputs = [TABLE, SCORES, PICTURE]
    record = provenance.record(parameters, list(files.values()), outputs, weights=hashes)
    provenance.write_json(RECORD, record)


def same_networks(where: Results, record: dict) -> dict:
    """Choices of an earlier run for networks whose weights are the same now."""
    choices = {}
    for name, choice in record["parameters"]["smoothgrad"].items():
        path = where.folder / "finetuning" / name / "trial-0" / "weights.npz"
        if path.exists() and provenance.sha256(path) == record["weights"][name]:
            choices[name] = choice
    return choices


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Do maps of LRP show lesions or artefacts?")
    parser.add_argument("results", nargs="?", default="runs/demo")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    options = parser.parse_args()
    where = Results(options.results)
    choices, scores = {}, None
    if RECORD.exists() and SCORES.exists():
        choices = same_networks(where, json.loads(RECORD.read_text()))
        scores = tsv.read(SCORES)
        scores = scores[scores["network"].isin(choices)]
    for name in options.networks:
        of_network, choice = main(where, name)
        scores = with_scores(scores, name, of_network)
        choices[name] = {"noise": choice.noise, "kind": choice.kind}
        write_all(where, scores, choices)
    table = table_of(scores)
    print(table[table["measure"] == "auprc"].round(3).to_string())

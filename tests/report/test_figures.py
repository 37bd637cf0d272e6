"""Figures: the numbers they return against hand-made cases, what must be written in them, and that
no text covers another.
"""

import itertools
import json
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from support.pictures import BRAIN, MARKS, Scans, check_layout, overlays, rendered, words

from msxai.base import paper_results, provenance, statistics
from msxai.data import images
from msxai.report import figures

VOXEL = abs(np.linalg.det(images.AFFINE[:3, :3]))


def relevance(row):
    """Net positive on the right of patients' brains, negative everywhere in controls', and a
    negative box in all.
    """
    values = np.random.default_rng(row).normal(0, 1e-5, images.SHAPE) * BRAIN
    values[60:66, 50:56, 40:50] += 1e-3 if row < 3 else -2e-4
    values[20:24, 30:34, 30:34] -= 5e-4
    return values.astype("float32")


@pytest.fixture(scope="module")
def heatmaps(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("heatmaps"), []
    for row, entry in Scans().table.iterrows():
        path = folder / f"{entry['participant_id']}_statmap.nii.gz"
        nib.Nifti1Image(relevance(row), images.AFFINE).to_filename(path)
        logit = [2.0, 0.5, -1, 0.2, -3][row]
        rows.append(
            {
                **entry[["participant_id", "session_id", "group", "label"]],
                "logit": logit,
                "probability": 1 / (1 + np.exp(-logit)),
                "path": str(path),
                "sha256": provenance.sha256(path),
            }
        )
    return pd.DataFrame(rows)


def predictions(trials=2):
    rng = np.random.default_rng(0)
    label = np.repeat([1, 0], [13, 10])
    rows = [
        pd.DataFrame(
            {
                "variant": variant,
                "trial": trial,
                "participant_id": np.arange(23),
                "label": label,
                "score": 1 / (1 + np.exp(-rng.normal(shift * (label - 0.5), 1))),
            }
        )
        for variant, shift in (("pretrained", 3), ("scratch", 1))
        for trial in range(trials)
    ]
    return pd.concat(
        [*rows, rows[0].assign(variant="lesion load", score=label * 0.8)], ignore_index=True
    )


def history(epochs, offset):
    epoch = np.arange(epochs)
    loss = 1 / (1 + epoch) + offset
    return pd.DataFrame(
        {
            "epoch": epoch,
            "loss": loss,
            "accuracy": 1 - loss / 3,
            "val_loss": loss + 0.1,
            "val_accuracy": 0.9 - loss / 3,
            "best": epoch == epochs - 1,
        }
    )


def audit():
    """Two scans, two trials, logits of both signs: dense keeps a tenth of the logit by its bias,
    conv1 a fifth of it by the stabiliser.
    """
    rows = [
        {
            "participant_id": scan,
            "session_id": "",
            "trial": trial,
            "layer": layer,
            "rule": "epsilon",
            "arriving": arriving * logit,
            "passed": passed * logit,
            "bias": bias * logit,
            "stabiliser": lost * logit,
        }
        for scan, trial, logit in (
            ("sub-0", 0, 3.0),
            ("sub-0", 1, 1.0),
            ("sub-1", 0, -2.0),
            ("sub-1", 1, -4.0),
        )
        for layer, arriving, passed, bias, lost in (
            ("dense", 1, 0.9, 0.1, 0),
            ("conv1", 0.9, 0.7, 0, 0.2),
        )
    ]
    return pd.DataFrame(rows)


def kernels():
    return np.random.default_rng(0).normal(size=(2, 3, 3, 3, 1, 7))


DRAW = {
    "cohort": lambda heat, **marks: figures.cohort_table(
        Scans().table, np.arange(5) * 1e4, paper_results.read(), **marks
    ),
    "lesions": lambda heat, **marks: figures.lesion_distribution(Scans(), **marks),
    "no lesions": lambda heat, **marks: figures.lesion_distribution(Scans(masks=False), **marks),
    "curves": lambda heat, **marks: figures.training_curves(
        {0: history(4, 0), 1: history(6, 0.2)}, "Pre-training", **marks
    ),
    "filters": lambda heat, **marks: figures.first_filters(*kernels(), **marks),
    "results": lambda heat, **marks: figures.results_table(
        statistics.score_table(predictions()), paper_results.read(), **marks
    ),
    "roc": lambda heat, **marks: figures.roc(predictions(), **marks),
    "individual": lambda heat, **marks: figures.individual(Scans(), heat, "", **marks),
    "positive": lambda heat, **marks: figures.individual(
        Scans(), heat, "HC", positive=True, **marks
    ),
    "no individual": lambda heat, **marks: figures.individual(Scans(), heat, "AD", **marks),
    "heatmap": lambda heat, **marks: figures.heatmap(Scans(), 1, heat.iloc[1], **marks),
    "average": lambda heat, **marks: average(heat, heat["label"] == 1, heat["label"] == 0, **marks),
    "half average": lambda heat, **marks: average(
        heat, heat["label"] == 1, heat["label"] == 7, **marks
    ),
    "no average": lambda heat, **marks: average(
        heat, heat["label"] == 7, heat["label"] == 7, **marks
    ),
    "audit": lambda heat, **marks: figures.audit(audit(), **marks),
    "no audit": lambda heat, **marks: figures.audit(audit().iloc[:0], **marks),
    "scan": lambda heat, **marks: figures.show_scan(
        Scans().image(0), BRAIN, Scans().lesions(0), **marks
    ),
    "view": lambda heat, **marks: (
        figures.view_heatmap(heat["path"][0], heat["path"][0], **marks),
        None,
    ),
}
CLINICAL = {
    "individual",
    "positive",
    "no individual",
    "heatmap",
    "average",
    "half average",
    "no average",
    "audit",
    "no audit",
    "view",
}


def average(heat, first, second, **marks):
    groups = {"true positives": heat[first], "true negatives": heat[second]}
    return figures.average(
        groups, figures.mean_anatomy(Scans(), range(5)), "Mean heatmaps", **marks
    )


@pytest.fixture(scope="module")
def drawn(heatmaps):
    """Each figure with its source, drawn once."""
    return {name: draw(heatmaps, **MARKS) for name, draw in DRAW.items()}


@pytest.mark.parametrize("name", DRAW)
def test_no_text_covers_another_or_leaves_the_figure(drawn, name):
    figure, _ = drawn[name]
    assert len(check_layout(figure)) > 2


@pytest.mark.parametrize("name", DRAW)
def test_each_figure_says_what_it_is(drawn, name):
    texts = words(drawn[name][0])
    assert "Synthetic" in texts
    assert ("Not for clinical use" in texts) == (name in CLINICAL)


@pytest.mark.parametrize(
    "name",
    ["cohort", "curves", "filters", "results", "roc", "no lesions", "no average", "audit", "view"],
)
def test_real_data_are_not_called_synthetic(heatmaps, name):
    assert "ynthetic" not in words(DRAW[name](heatmaps, synthetic=False)[0])


def test_figures_are_closed_and_leave_the_style_alone(heatmaps):
    before, size = plt.get_fignums(), plt.rcParams["font.size"]
    DRAW["roc"](heatmaps, **MARKS)
    assert plt.get_fignums() == before
    assert plt.rcParams["font.size"] == size


def test_cohort_table_by_hand(drawn):
    figure, source = drawn["cohort"]
    rows = source.set_index(["quantity", "part", "group"])
    assert rows.loc[("age", "all", "MS"), ["n", "mean", "sd", "min", "max"]].tolist() == [
        3,
        40,
        10,
        30,
        50,
    ]
    assert rows.loc[("edss", "all", "MS"), ["n", "missing", "mean"]].tolist() == [2, 1, 2]
    assert rows.loc[("lesion_volume", "training", "MS"), "mean"] == 5000
    assert rows.loc[("subjects", "holdout", "HC"), "n"] == 1
    assert rows.loc[("lesion_volume", "paper", "MS"), ["mean", "sd", "min", "max"]].tolist() == [
        7283,
        8091,
        121,
        47466,
    ]
    texts = words(figure)
    for text in (
        "40.0 ± 10.0",
        "1.0–3.0 (n=2)",
        "2 / 1",
        "7,283 ± 8,091",
        "Cohort: 5 subjects, 5 scans",
    ):
        assert text in texts
    assert "Scans" not in texts, "as many as subjects"


def test_cohort_table_counts_a_subject_once_and_leaves_rows_out_with_a_reason():
    table = Scans().table.drop(columns="edss").assign(group=["AD"] * 3 + ["HC"] * 2, age=np.nan)
    table = pd.concat([table, table.iloc[:2].assign(session_id="ses-2")], ignore_index=True)
    figure, source = figures.cohort_table(table, None, None, **MARKS)
    rows = source.set_index(["quantity", "part", "group"])["n"]
    assert (
        rows["subjects", "all", "AD"],
        rows["scans", "all", "AD"],
        rows["sex", "all", "AD"],
    ) == (3, 5, 3)
    for reason in ("Age (years): left out", "EDSS: left out", "Lesion volume (mm³): left out"):
        assert reason in words(figure)
    assert "paper" not in set(source["part"])


def test_cohort_table_takes_a_person_at_the_first_visit():
    table = (
        Scans()
        .table.iloc[[0, 0, 1]]
        .assign(
            participant_id=["sub-1", "sub-1", "sub-2"],
            session_id=["ses-10", "ses-9", ""],
            age=[50.0, 40.0, 30.0],
            group="MS",
        )
    )
    _, source = figures.cohort_table(table, None, None, **MARKS)
    ages = source.query("quantity == 'age' and part == 'all'")
    assert (ages["min"].item(), ages["max"].item()) == (30, 40)


def test_cohort_without_groups_is_still_described():
    table = Scans().table.assign(group=None, label=pd.array([None] * 5, "Int64"), part="holdout")
    assert figures.cohort_table(table, None, paper_results.read(), **MARKS)[1].query(
        "quantity == 'subjects'"
    )["n"].tolist() == [5, 5]


def test_lesion_distribution_by_hand(drawn):
    figure, source = drawn["lesions"]
    # z = 4 mm is voxel 40: all three patients and one of the two controls have their box there;
    # voxel 47 (z = 18 mm) has none
    assert set(source["z_mm"]) == {round(images.AFFINE[2, 3] + 40 * images.AFFINE[2, 2], 1)}
    assert source.groupby("group")["value"].agg(["size", "min", "max"]).loc["MS"].tolist() == [
        16,
        100,
        100,
    ]
    assert source.groupby("group")["value"].agg(["size", "min", "max"]).loc["HC"].tolist() == [
        16,
        50,
        50,
    ]
    corner = nib.affines.apply_affine(images.AFFINE, [60, 50, 40])
    assert source[["x_mm", "y_mm"]].min().tolist() == pytest.approx(corner[:2].tolist(), abs=0.06)
    assert "n = 3" in words(figure)


def test_left_of_the_picture_is_the_left_of_the_brain(drawn):
    figure, _ = drawn["lesions"]
    pixels, shown = rendered(figure)
    axes = next(
        text.axes for text in shown if text.get_text() == "z=4"
    )  # the boxes of all lesions lie there, at x > 0
    sides = {text.get_text(): text.get_window_extent().x0 for text in axes.texts}
    assert sides["L"] < sides["R"]
    box = axes.get_window_extent()
    region = pixels[::-1][int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
    coloured = np.flatnonzero((np.ptp(region, axis=2) > 60).any(axis=0))
    assert len(coloured) > 2
    assert coloured.min() > region.shape[1] / 2


def test_training_curves_by_hand(drawn):
    figure, source = drawn["curves"]
    mean = source[source["trial"] == "mean"].set_index("epoch")["loss"]
    assert mean[0] == pytest.approx(1.1)
    assert mean[5] == pytest.approx(1 / 6 + 0.2), "the first trial has stopped"
    lines = figure.axes[0].lines
    assert (
        sorted(line.get_linewidth() for line in lines if line.get_marker() == "None")
        == [0.6] * 4 + [2] * 2
    )
    assert {line.get_xdata()[0] for line in lines if line.get_marker() == "None"} == {1}, (
        "the first epoch is 1"
    )
    marked = next(line for line in lines if line.get_marker() == "o")
    assert marked.get_xdata().tolist() == [4, 6]
    assert "1 trial " in words(figures.training_curves({0: history(3, 0)}, **MARKS)[0]) + " "


def test_first_filters_stand_where_the_note_says(drawn):
    figure, source = drawn["filters"]
    trained, untrained = kernels()
    picture = np.asarray(figure.axes[0].images[0].get_array())[
        ::-1
    ].T  # from the top left, x to the right
    panel = picture[13 : 13 + 11, 0:3]  # second column, first row: kernel 1
    assert panel[4:7] == pytest.approx(trained[:, ::-1, 1, 0, 1]), "its middle slice, y upwards"
    assert figure.axes[0].images[0].get_clim() == pytest.approx(
        (-np.abs(kernels()).max(), np.abs(kernels()).max())
    )
    row = source.query("x == 1 and y == 0 and z == 2 and filter == 6").iloc[0]
    assert (row["after"], row["before"]) == (trained[1, 0, 2, 0, 6], untrained[1, 0, 2, 0, 6])


def test_results_table_shows_the_scores_beside_the_papers(drawn):
    figure, source = drawn["results"]
    scores = statistics.score_table(predictions()).set_index("variant")
    rows = source.set_index(["variant", "measure"])
    for variant, measure in itertools.product(scores.index, statistics.MEASURES):
        columns = [measure] + [f"{measure}_{bound}" for bound in ("min", "max", "low", "high")]
        shown = rows.loc[(variant, measure), ["mean", "min", "max", "low", "high"]].tolist()
        assert shown == pytest.approx((100 * scores.loc[variant, columns]).tolist())
    assert rows.loc[("pretrained", "auc"), "paper_mean"] == 96.08
    assert rows.loc[("linear SVM", "auc"), ["paper_mean"]].tolist() == [66.92]
    assert np.isnan(rows.loc[("linear SVM", "auc"), "mean"])
    sensitivity = rows.loc[("pretrained", "sensitivity")]
    expected = "{mean:.1f} ({min:.1f}–{max:.1f}) [{low:.1f}–{high:.1f}]".format(**sensitivity)
    assert expected in words(figure)
    assert "13 patients and 10 controls" in words(figure)
    assert f"100.0 [{rows.loc[('lesion load', 'auc'), 'low']:.1f}–100.0]" in words(figure), (
        "one trial has no range"
    )


def test_roc_shows_the_band_of_the_trials(drawn):
    figure, source = drawn["roc"]
    table = predictions()
    labels, _, scores = statistics.trial_scores(table[table["variant"] == "scratch"])
    band = statistics.roc_band(labels, scores)
    rows = source[source["variant"] == "scratch"]
    assert rows["mean"].to_numpy() == pytest.approx(band["mean"])
    assert [axes.get_title() for axes in figure.axes] == ["pretrained", "scratch", "lesion load"]
    assert [len(axes.lines) for axes in figure.axes] == [4, 4, 3], "chance, trials, mean"
    for axes in figure.axes:
        for low, high in (axes.get_xlim(), axes.get_ylim()):
            assert low < 0 < 1 < high, "the corners of the curves are not cut off"
    edge = figure.axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert edge[1:202] == pytest.approx((band["mean"] - band["sd"]).clip(lower=0))
    assert edge[203:404][::-1] == pytest.approx((band["mean"] + band["sd"]).clip(upper=1))
    score = statistics.score_table(table).set_index("variant").loc["scratch"]
    assert f"AUC {score['auc']:.2f}" in words(figure)
    assert f"95 % {score['auc_low']:.2f}–{score['auc_high']:.2f}" in words(figure)


def test_roc_of_one_group_says_so():
    figure, source = figures.roc(predictions().query("label == 1"), **MARKS)
    assert "Nothing to draw" in words(figure)
    assert "Nothing to draw" in source.iloc[0, 0]


def test_individual_heatmaps_name_their_files_and_slices(drawn, heatmaps):
    figure, source = drawn["individual"]
    # five scans by probability 0, 1, 3, 2, 4; four equal steps of rank 0, 1.33, 2.67, 4
    assert source["participant_id"].tolist() == ["sub-0", "sub-1", "sub-2", "sub-4"]
    assert source["sha256"].tolist() == heatmaps["sha256"].iloc[[0, 1, 2, 4]].tolist()
    assert source["lesion_volume"].tolist() == pytest.approx(
        [32 * VOXEL, 48 * VOXEL, 64 * VOXEL, 0]
    )
    assert "sub-0: probability 0.88, mean logit +2.00, lesions" in words(figure)
    brain = np.concatenate([np.abs(relevance(row))[BRAIN] for row in (0, 1, 2, 4)])
    assert source["threshold"].tolist() == pytest.approx([np.quantile(brain, 0.95)] * 4, rel=1e-4)
    assert source["full_colour"].tolist() == pytest.approx(
        [np.quantile(brain, 0.999)] * 4, rel=1e-4
    )
    for axis, low, high in (("x", 60, 66), ("y", 50, 56), ("z", 40, 50)):
        number = "xyz".index(axis)
        at = (
            np.array(source[f"{axis}_mm"].iloc[0].split(), float) - images.AFFINE[number, 3]
        ) / images.AFFINE[number, number]
        assert len(at) == 5
        assert (np.diff(at) * images.AFFINE[number, number] > 8).all()
        assert ((at.round() >= low) & (at.round() < high)).any(), (
            "a slice through the box of most relevance"
        )
        assert f"{axis}={source[f'{axis}_mm'].iloc[0].split()[0]}" in words(figure)


def test_several_groups_are_drawn_together(heatmaps):
    """As `PATIENTS=RRMS,SPMS` names them; a group with a comma in its name is one group."""
    subtypes = heatmaps.assign(group=["RRMS", "HC", "SPMS", "A, B", "HC"])
    for named, subjects in (("RRMS, SPMS", {"sub-0", "sub-2"}), ("A, B", {"sub-3"})):
        _, source = figures.individual(Scans(), subtypes, named, synthetic=True)
        assert set(source["participant_id"]) == subjects


def test_another_network_is_drawn_on_the_scans_that_it_is_compared_on(heatmaps):
    """In their order, whatever its own probabilities; a scan without a heatmap is left out."""
    shown = pd.DataFrame({"participant_id": ["sub-3", "sub-9", "sub-0"], "session_id": ""})
    figure, source = figures.individual(
        Scans(), heatmaps, "", shown=shown, heading="another network: ", synthetic=True
    )
    assert source["participant_id"].tolist() == ["sub-3", "sub-0"]
    assert source["sha256"].tolist() == heatmaps["sha256"].iloc[[3, 0]].tolist()
    title = "another network: Net relevance, all: the same 2 of 5 scans"
    assert title in words(figure)
    check_layout(figure)


def test_net_relevance_is_symmetric_and_positive_relevance_positive(drawn):
    net, positive = (
        overlays(drawn["heatmap"][0], figures.SYMMETRIC),
        overlays(drawn["positive"][0], figures.POSITIVE),
    )
    assert len(net) == 15
    assert len(positive) == 30
    top = drawn["heatmap"][1]["full_colour"].iloc[0]
    assert all(limits == pytest.approx((-top, top)) for limits, _ in net)
    assert min(shown.min() for _, shown in net if shown.size) < 0
    low = drawn["heatmap"][1]["threshold"].iloc[0]
    assert min(np.abs(shown).min() for _, shown in net if shown.size) >= low * (1 - 1e-6)
    assert all(limits[0] == 0 for limits, _ in positive)
    sizes = np.concatenate([relevance(row)[BRAIN].clip(0) for row in (3, 4)])
    assert drawn["positive"][1]["threshold"].tolist() == pytest.approx(
        [np.quantile(sizes, 0.95)] * 2, rel=1e-4
    )
    assert min(shown.min() for _, shown in positive if shown.size) >= 0


def test_audit_by_hand(drawn):
    source = drawn["audit"][1].set_index(["layer", "trial"])
    for trial in ("all", "0", "1"):
        assert source.loc[
            ("dense", trial), ["passed", "bias", "stabiliser"]
        ].tolist() == pytest.approx([0.9, 0.1, 0])
        assert source.loc[
            ("conv1", trial), ["passed", "bias", "stabiliser"]
        ].tolist() == pytest.approx([0.7, 0, 0.2])
    conserved = audit()
    conserved.loc[
        conserved["participant_id"] == "sub-1", ["passed", "bias", "stabiliser"]
    ] *= -1  # relevance against its logit
    source = figures.audit(conserved, **MARKS)[1].set_index(["layer", "trial"])
    assert source.loc[("conv1", "all"), "passed"] == pytest.approx(0.7 * (4 - 6) / 10)
    assert source.loc[("conv1", "0"), "passed"] == pytest.approx(0.7 * (3 - 2) / 5)


def test_average_heatmaps_by_hand(drawn):
    figure, source = drawn["average"]
    colours = {
        text.get_text().split("\n")[1]: text.get_color()
        for text in figure.texts
        if text.get_text().startswith("true")
    }
    assert colours == {"positives": figures.PATIENT, "negatives": figures.CONTROL}
    net = [np.mean([relevance(row) for row in rows], axis=0) for rows in ((0, 1, 2), (3, 4))]
    positive = [
        np.mean([relevance(row).clip(0) for row in rows], axis=0) for rows in ((0, 1, 2), (3, 4))
    ]
    for flag, maps in ((False, net), (True, positive)):
        sizes = np.concatenate([np.abs(values)[BRAIN] for values in maps])
        rows = source[source["positive"] == flag]
        assert rows["threshold"].unique() == pytest.approx([np.quantile(sizes, 0.95)], rel=1e-4)
        assert rows["full_colour"].unique() == pytest.approx([np.quantile(sizes, 0.999)], rel=1e-4)
        assert rows["average"].tolist() == ["true positives"] * 3 + ["true negatives"] * 2
    assert source["file"].str.endswith("_statmap.nii.gz").all()
    assert "/" not in "".join(source["file"])


def test_what_cannot_be_drawn_is_said(drawn):
    assert "true negatives: nothing to draw" in words(drawn["half average"][0])
    assert "n = 3" in words(drawn["half average"][0])
    assert "true positives: nothing to draw" in words(drawn["no average"][0])
    assert "no lesion masks" in words(drawn["no lesions"][0])
    assert "no scan of group AD" in words(drawn["no individual"][0])


def test_a_map_of_zeros_can_be_drawn(heatmaps, tmp_path):
    path = tmp_path / "zero_statmap.nii.gz"
    nib.Nifti1Image(np.zeros(images.SHAPE, "float32"), images.AFFINE).to_filename(path)
    figure, source = figures.heatmap(
        Scans(masks=False), 4, heatmaps.iloc[4].replace(heatmaps["path"][4], str(path)), **MARKS
    )
    assert "no lesion mask" in words(figure)
    middle = images.AFFINE[2, 3] + images.AFFINE[2, 2] * 9
    assert all(float(mm) > middle for mm in source["z_mm"][0].split()), "slices of the brain"


def test_interactive_view_holds_both_images_and_needs_no_network(heatmaps, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "an open notebook")
    path = heatmaps["path"][0]
    view = figures.view_heatmap(path, path, interactive=True, **MARKS)
    viewer, caption = view.children
    assert "Not for clinical use" in caption.value
    assert "Synthetic" in caption.value
    assert [volume.path for volume in viewer.volumes] == [Path(path)] * 2, "local files"
    assert all(volume.url is None for volume in viewer.volumes)
    values = np.abs(relevance(0)[relevance(0) != 0])
    overlay = viewer.volumes[1]
    assert overlay.cal_min == pytest.approx(np.quantile(values, 0.95), rel=1e-4)
    assert overlay.cal_max == pytest.approx(np.quantile(values, 0.999), rel=1e-4)


def test_interactive_view_shows_both_signs_alike(heatmaps, monkeypatch):
    """The same limits; the colours of one sign are those of the other with red and blue changed."""
    monkeypatch.setenv("JPY_SESSION_NAME", "an open notebook")
    path = heatmaps["path"][0]
    view = figures.view_heatmap(path, path, interactive=True, **MARKS)
    viewer, caption = view.children
    overlay = viewer.volumes[1]
    assert (overlay.cal_min_neg, overlay.cal_max_neg) == (-overlay.cal_max, -overlay.cal_min)
    positive = viewer.colormap_from_key(overlay.colormap)
    negative = viewer.colormap_from_key(overlay.colormap_negative)
    assert (negative.R, negative.G, negative.B) == (positive.B, positive.G, positive.R)
    assert (negative.A, negative.I) == (positive.A, positive.I)
    assert "Orange raises the logit" in caption.value


@pytest.mark.parametrize("interactive", [True, False])
def test_a_view_shows_the_lesion_mask(heatmaps, monkeypatch, interactive):
    monkeypatch.setenv("JPY_SESSION_NAME", "an open notebook")
    path = heatmaps["path"][0]
    inside = np.zeros(images.SHAPE, "uint8")
    inside[40:50, 50:60, 45:55] = 1
    mask = nib.Nifti1Image(inside, images.AFFINE)
    said = "Lesions of the mask are green."
    options = {"interactive": interactive, **MARKS}
    view = figures.view_heatmap(path, path, lesions=mask, **options)
    without = figures.view_heatmap(path, path, **options)
    if not interactive:
        assert said in words(view)
        assert said not in words(without)
        assert _contours(view) > _contours(without)
        return
    viewer, caption = view.children
    assert said in caption.value
    assert said not in without.children[1].value
    layer = viewer.volumes[2]
    assert layer.colormap == "green"
    assert (layer.cal_min, layer.cal_max) == (0, 1)
    shown = nib.Nifti1Image.from_bytes(layer.data)
    np.testing.assert_array_equal(np.asarray(shown.dataobj), inside)


def _contours(figure) -> int:
    """Number of outlines in all axes."""
    drawn = [axes.findobj(QuadContourSet) for axes in figure.axes]
    return sum(map(len, drawn))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("sub-1_ses-2_space-MNI152_statmap.nii.gz", "sub-1: net relevance in MNI space"),
        ("sub-1_space-orig_statmap.nii.gz", "sub-1: net relevance in the scan's own space"),
        ("relevance_space-MNI152.nii.gz", "Net relevance in MNI space"),
        ("relevance_space-orig.nii.gz", "Net relevance in the scan's own space"),
    ],
)
def test_the_title_of_a_view_names_a_subject_and_the_space_of_the_map(name, title):
    assert figures.heatmaps._title_of(name) == title


def test_interactive_view_is_a_picture_where_nobody_has_opened_the_notebook(heatmaps, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    path = heatmaps["path"][0]
    picture = figures.view_heatmap(path, path, interactive=True, **MARKS)
    assert isinstance(picture, Figure)
    assert "Not for clinical use" in words(picture)


def test_save_writes_all_files_with_their_hashes(drawn, tmp_path):
    figure, source = drawn["roc"]
    record = {"parameters": {"seed": 1}, "outputs": {}}
    paths = figures.save(figure, tmp_path / "new", "fig06_roc", source, record, svg=True)
    assert [path.name for path in paths] == [
        f"fig06_roc.{ending}" for ending in ("png", "svg", "tsv", "json")
    ]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert pd.read_csv(paths[2], sep="\t", na_values="n/a")["mean"].to_numpy() == pytest.approx(
        source["mean"], rel=1e-5
    )
    content = json.loads(paths[3].read_text())
    assert content["outputs"] == {path.name: provenance.sha256(path) for path in paths[:3]}
    assert content["parameters"] == {"seed": 1}
    assert record["outputs"] == {}
    before = [path.read_bytes() for path in paths]
    figures.save(figure, tmp_path / "new", "fig06_roc", source, record, svg=True)
    assert [path.read_bytes() for path in paths] == before, "the same figure, the same bytes"
    assert not figures.save(figure, tmp_path, "map", source, record)[0].with_suffix(".svg").exists()
    assert (
        figures.save(drawn["individual"][0], tmp_path, "fig07", source, record)[0].stat().st_size
        < 9e5
    )


def test_save_leaves_nothing_half_written(drawn, tmp_path, monkeypatch):
    figure, source = drawn["roc"]

    def broken(path, **_):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, tmp_path, "fig06_roc", source, {})
    assert list(tmp_path.iterdir()) == []

"""Figures of explanation quality: what stands in the table and over the maps, against hand-made
scores; no text covers another.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from support.pictures import MARKS, Scans, overlays, rendered, words

from msxai.data import images
from msxai.quality import localisation
from msxai.report import figures
from msxai.report.figures.slices import OUTLINE


@pytest.fixture(scope="module")
def scores():
    """Two scans, three maps; `rule` is better by .2 in rank and by .1 in precision-recall than the
    stronger baseline.
    """
    rows = []
    for name, level in {"rule": 0.5, "brightness": 0.4, "random": 0.1}.items():
        for number, advantage in ((0, 0.0), (2, 0.1)):
            rows.append(
                {
                    "map": name,
                    "participant_id": f"sub-{number}",
                    "session_id": "",
                    "auprc": level + advantage,
                    "rma": np.nan if name == "random" else level,
                    "rra": level + advantage + 0.1 * (name == "rule"),
                }
            )
    return pd.DataFrame(rows)


def clear(figure):
    """Fails where a text covers another or leaves the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in rendered(figure)[1]]
    assert all(
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for _, box in boxes
    )
    for (first, this_box), (second, next_box) in itertools.combinations(boxes, 2):
        width, height = (
            min(this_box.x1, next_box.x1) - max(this_box.x0, next_box.x0),
            min(this_box.y1, next_box.y1) - max(this_box.y0, next_box.y0),
        )
        assert not (width > 1 and height > 1), f"{first!r} and {second!r} overlap"


def test_the_league_by_hand(scores):
    table = localisation.rank(scores, ["brightness", "random"])
    figure, source = figures.league(table, **MARKS)
    assert source is table
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells[cells.index("rule") :][:6] == [
        "rule",
        "0.550\n(0.50, 0.60)",
        "0.500\n(0.50, 0.50)",
        "0.650\n(0.60, 0.70)",
        "+0.100\n(+0.10, +0.10)\nbrightness",
        "+0.200\n(+0.20, +0.20)\nbrightness",
    ]
    assert cells[cells.index("brightness (baseline)") :][4:6] == ["–", "–"], (
        "a baseline is not compared with itself"
    )
    assert cells[cells.index("random (baseline)") :][2] == "–", (
        "an earlier version had no value for a map without positive relevance"
    )
    assert (
        cells.index("rule")
        < cells.index("brightness (baseline)")
        < cells.index("random (baseline)")
    ), "the best comes first"
    texts = words(figure)
    assert "2 subjects with lesions" in texts
    assert "Synthetic" in texts
    clear(figure)


def test_a_league_that_is_left_out_says_why():
    named = figures.league(
        pd.DataFrame(), why="no lesion masks came with it", synthetic=False, variant="scratch"
    )[0]
    assert any(text.get_text() == "Explanation quality: scratch" for text in named.texts)
    figure, source = figures.league(
        pd.DataFrame(), why="no lesion masks came with it", synthetic=False
    )
    assert "Left out: no lesion masks came with it." in words(figure)
    assert "no lesion masks" in source.iloc[0, 0]
    assert "ynthetic" not in words(figure)


def test_the_checks_by_hand():
    summary = pd.DataFrame(
        [
            {
                "map": "rule",
                "dose": 0.5,
                "dose_low": 0.4,
                "dose_high": 0.6,
                "consistency": 0.2,
                "consistency_low": 0.1,
                "consistency_high": 0.3,
                "deletion": 1.5,
                "deletion_low": 1.0,
                "deletion_high": 2.0,
                "deletion_p": 0.004,
                "contrast": 0.9,
                "insertion": np.nan,
            },
            {
                "map": "brightness",
                "dose": 0.7,
                "dose_low": 0.6,
                "dose_high": 0.8,
                "deletion": 0.5,
                "deletion_low": 0.4,
                "deletion_high": 0.6,
            },
            {"map": "not examined", "dose": 0.1, "dose_low": 0.0, "dose_high": 0.2},
        ]
    )
    of_rule = {"map": "rule", "low": 0.1, "high": 0.3, "subjects": 8, "expected": ""}
    table = pd.DataFrame(
        [
            {**of_rule, "check": "randomised: SSIM", "value": 0.2, "reference": 0.95},
            {**of_rule, "check": "conservation error", "value": 3e-7, "reference": np.nan},
        ]
    )
    figure, source = figures.checks(summary, table, variant="scratch", **MARKS)
    cells = [text.get_text() for text in figure.axes[0].texts]
    row = cells[cells.index("rule") :][:14]
    assert row == [
        "rule",
        "1.50 (1.00, 2.00)\np = 0.004",
        "–",
        "–",
        "0.20 (0.10, 0.30)\n[0.95]",
        "–",
        "–",
        "–",
        "–",
        "3e-07",
        "–",
        "0.20 (0.10, 0.30)",
        "0.50 (0.40, 0.60)",
        "0.90",
    ]
    assert cells[cells.index("brightness") :][1] == "0.50 (0.40, 0.60)"
    assert "not examined" not in cells
    texts = words(figure)
    assert "These are on 8 subjects" in texts
    assert "Synthetic" in texts
    assert "scratch" in texts
    assert source.set_index("map").loc[
        "rule", ["randomised: SSIM", "randomised: SSIM, reference"]
    ].tolist() == [0.2, 0.95]
    assert source.set_index("map").loc["rule", "deletion_p"] == 0.004
    clear(figure)
    nothing, _ = figures.checks(summary.assign(deletion=np.nan), pd.DataFrame(), synthetic=False)
    assert "no map was examined" in words(nothing)


def maps():
    """One map that is high in the lesion of row 2, one that is high on the other side, one of
    zeros.
    """
    right, left = np.zeros(images.SHAPE), np.zeros(images.SHAPE)
    right[60:64, 50:54, 40:44] = 3.0
    left[20:24, 50:54, 40:44] = 500.0
    left[30:34, 50:54, 40:44] = -900.0  # negative relevance is not shown
    return {"rule": right, "brightness": left, "random": np.zeros(images.SHAPE)}


def test_the_contest_by_hand(scores):
    other = scores.assign(
        participant_id="sub-2", session_id="02", auprc=0.99
    )  # another visit of the same subject
    figure, source = figures.contest(Scans(), 2, maps(), pd.concat([other, scores]), **MARKS)
    assert source["map"].tolist() == ["rule", "brightness", "random"]
    texts = words(figure)
    for text in (
        "rule: AUPRC 0.60, mass 0.50, rank 0.70",
        "random: AUPRC 0.20, mass nan",
        "sub-2, lesions 440 mm³",
        "outline of the lesion",
    ):
        assert text in texts, text
    assert "0.99" not in texts
    assert "Not for clinical use" in texts
    clear(figure)
    pixels = rendered(figure)[0]
    green = np.array([int(OUTLINE[start : start + 2], 16) for start in (1, 3, 5)])
    assert (np.abs(pixels - green).sum(-1) < 60).any(), "the lesion is outlined"
    shown = overlays(figure, figures.POSITIVE)
    assert shown, "the maps are drawn"
    assert max(values.max(initial=0) for _, values in shown) == pytest.approx(1), (
        "a map of few voxels too"
    )
    assert all(limits == (0, 1) and (values >= 0).all() for limits, values in shown), (
        "each on its own scale, positive part alone"
    )


def test_without_a_mask_the_maps_are_shown_without_scores(scores):
    figure, _ = figures.contest(Scans(masks=False), 2, maps(), scores, synthetic=False)
    texts = words(figure)
    assert "no lesion mask" in texts
    assert "AUPRC" not in texts
    assert "ynthetic" not in texts
    clear(figure)

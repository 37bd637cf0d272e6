"""Figures of regions: their numbers on hand-made cases, and what they say where there is nothing to
draw.
"""

import numpy as np
import pandas as pd
import pytest
from support.pictures import bar_lengths, dots, words

from msxai.report import figures
from msxai.report.figures.regions import summary

MARKS = {"synthetic": True}


def table(values, atlas="tracts", sign="positive"):
    """Region to values of four subjects, two patients (1, 2) and two controls (3, 4)."""
    rows = [
        {
            "participant_id": f"sub-{number}",
            "session_id": "",
            "label": int(number < 3),
            "atlas": atlas,
            "region": region,
            "sign": sign,
            "sum": value,
            "density": value / 10,
            "share": value / 100,
            "volume": value,
        }
        for region, four in values.items()
        for number, value in enumerate(four, 1)
    ]
    return pd.DataFrame(rows)


def both(values, atlas="tracts"):
    return pd.concat(
        [
            table(values, atlas),
            table({name: [-v for v in four] for name, four in values.items()}, atlas, "net"),
        ]
    )


def p_values(atlas="tracts"):
    return pd.DataFrame(
        [
            {"atlas": atlas, "region": name, "sign": sign, "measure": "sum", "p_fwe": p}
            for sign in ("net", "positive")
            for name, p in (("A", 0.01), ("B", 0.5))
        ]
    )


def value(source, **where):
    for name, wanted in where.items():
        source = source[source[name] == wanted]
    assert len(source) == 1
    return source.iloc[0]


VALUES = {"A": [1.0, 3, 5, 5], "B": [10.0, 20, 0, 0]}


def test_means_and_intervals_of_subjects_by_hand():
    rows = summary(table(VALUES), "sum")
    row = value(rows, region="A", label=1)
    assert row[["subjects", "mean", "low", "high"]].tolist() == [2, 2, 1, 3], (
        "of two subjects a resample is one, the other, or both"
    )
    assert value(rows, region="A", label=0)[["mean", "low", "high"]].tolist() == [5, 5, 5]
    again = pd.concat(
        [
            table(VALUES),
            table(VALUES).query("participant_id == 'sub-1'").assign(session_id="ses-2", sum=7.0),
        ]
    )
    assert value(summary(again, "sum"), region="A", label=1)["mean"] == 3.5, (
        "visits of a subject are averaged first"
    )


def test_lesion_volumes_by_hand():
    figure, source = figures.lesion_volumes(table(VALUES), **MARKS)
    assert value(source, region="B", label=1)["mean"] == 15
    assert np.expm1(dots(figure.axes[0], figures.PATIENT)) == pytest.approx([1, 3, 10, 20])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["B", "A"]


def test_tracts_by_hand():
    figure, source = figures.tracts(both(VALUES), p_values(), **MARKS)
    assert value(source, region="B", label=1, sign="positive", measure="density")["mean"] == 1.5
    assert value(source, region="B", label=1, sign="net", measure="sum")["mean"] == -15
    assert [axes.get_title() for axes in figure.axes] == [
        "net, whole tract",
        "net, per voxel",
        "positive, whole tract",
        "positive, per voxel",
    ]
    assert bar_lengths(figure.axes[2])[0] == [15, 2]
    for axes in figure.axes:
        assert [text.get_position()[1] for text in axes.texts] == [1], (
            "a star at A, the second, alone"
        )


def test_areas_by_hand():
    figure, source = figures.areas(both(VALUES, "areas"), p_values("areas"), **MARKS)
    assert value(source, region="A", label=0, sign="positive")["mean"] == 5
    assert "the paper counts 69" in words(figure)
    assert dots(figure.axes[2], figures.CONTROL) == pytest.approx([0, 0, 5, 5])


def test_with_without_by_hand():
    filled = both({name: [v / 2 for v in four] for name, four in VALUES.items()})
    figure, source = figures.with_without(both(VALUES), filled, p_values(), **MARKS)
    assert value(source, region="B", lesions="with", sign="positive")["mean"] == 15
    assert value(source, region="B", lesions="filled", sign="positive")["mean"] == 7.5
    assert figure.axes[2].xaxis_inverted()
    assert not figure.axes[3].xaxis_inverted()
    assert bar_lengths(figure.axes[3]) == [[7.5, 1]]


def test_figures_of_heatmaps_bear_the_notice():
    tests, rows = p_values(), both(VALUES)
    for figure, _ in (
        figures.tracts(rows, tests, **MARKS),
        figures.areas(both(VALUES, "areas"), p_values("areas"), **MARKS),
        figures.with_without(rows, rows, tests, **MARKS),
    ):
        assert "Not for clinical use" in words(figure)


@pytest.mark.parametrize(
    "draw",
    [
        lambda empty: figures.lesion_volumes(empty, "make atlases", **MARKS),
        lambda empty: figures.tracts(empty, empty, "make atlases", **MARKS),
        lambda empty: figures.with_without(empty, empty, empty, "make atlases", **MARKS),
    ],
)
def test_without_an_atlas_the_figure_says_why(draw):
    figure, source = draw(table(VALUES).iloc[:0])
    assert "make atlases" in words(figure)
    assert "make atlases" in source.iloc[0, 0]

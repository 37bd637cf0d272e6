"""Confounds against plain formulas on small tables; what cannot be tested says why."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from msxai.data.cohorts import confounds, visits
from msxai.data.cohorts.cohort import COLUMNS


def _cohort(rows):
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table["participant_id"] = table["participant_id"].fillna(
        pd.Series([f"sub-{row:03}" for row in range(len(table))])
    )
    table["session_id"] = table["session_id"].fillna("")
    table["group"] = table["label"].map({1: "MS", 0: "HC"})
    return table.astype({"label": "Int64"})


def _paper():
    """As the paper's cohort: 30 of 71 controls are of another series than any patient."""
    return _cohort(
        [{"label": 1, "site": "A"}] * 76
        + [{"label": 0, "site": "A"}] * 41
        + [{"label": 0, "site": "B"}] * 30
    )


def test_a_site_of_one_group_is_said():
    (site, effect) = confounds.warnings(_paper())
    assert site.startswith("1 of 2 sites have one group only: B (30 HC).")
    assert effect.startswith("site differs between the groups (Cramer's V 0.52")
    balance = confounds.balance(_paper()).set_index("variable")
    # 2 x 2 by hand: n (ad - bc)^2 / (row and column sums)
    chi2 = 147 * (76 * 30 - 0 * 41) ** 2 / (76 * 71 * 117 * 30)
    assert balance.loc["site", "size"] == pytest.approx(np.sqrt(chi2 / 147))
    assert balance.loc["site", "p"] == pytest.approx(stats.chi2.sf(chi2, 1))
    table = confounds.table(_paper()).set_index(["variable", "level", "group"])["n"]
    assert table.to_dict() == {
        ("site", "A", "HC"): 41,
        ("site", "B", "HC"): 30,
        ("site", "missing", "HC"): 0,
        ("site", "A", "MS"): 76,
        ("site", "missing", "MS"): 0,
    }


def test_many_sites_of_one_group_are_one_sentence():
    rows = [{"label": site % 2, "scanner": f"s{site:02}"} for site in range(14) for _ in range(3)]
    (scanner, _) = confounds.warnings(_cohort(rows))
    assert scanner.startswith("14 of 14 scanners have one group only: ")
    assert scanner.count("(3 ") == 5
    assert ", ... A network" not in scanner
    assert ", ...." in scanner


def test_a_balanced_cohort_has_no_warning():
    rows = [
        {"label": label, "site": site, "scanner": site, "sex": sex, "age": age}
        for label in (0, 1)
        for site in "AB"
        for sex in "FM"
        for age in (30, 40, 50)
    ]
    assert confounds.warnings(_cohort(rows)) == []
    balance = confounds.balance(_cohort(rows)).set_index("variable")
    np.testing.assert_allclose(balance["size"], 0, atol=1e-12)
    assert (balance["note"] == "").all()


@settings(max_examples=10)
@given(*[st.lists(st.integers(20, 90), min_size=2, max_size=30)] * 2)
def test_the_standardised_mean_difference(patients, controls):
    table = _cohort(
        [{"label": 1, "age": age} for age in patients]
        + [{"label": 0, "age": age} for age in controls]
    )
    result = confounds.balance(table).set_index("variable").loc["age"]
    variance = [
        sum((value - sum(ages) / len(ages)) ** 2 for value in ages) / (len(ages) - 1)
        for ages in (patients, controls)
    ]
    if not any(variance):
        assert np.isnan(result["size"])
        assert result["note"] in (
            "no spread within the groups",
            f"all have the same ({patients[0]})",
        )
        return
    expected = (sum(patients) / len(patients) - sum(controls) / len(controls)) / np.sqrt(
        sum(variance) / 2
    )
    assert result["size"] == pytest.approx(expected)
    assert result["n"] == len(patients) + len(controls)
    assert any("age differs" in sentences for sentences in confounds.warnings(table)) == (
        abs(result["size"]) > 0.5
    )
    described = confounds.table(table).query("variable == 'age' and level == ''").set_index("group")
    assert described.loc["MS", "mean"] == pytest.approx(np.mean(patients))
    assert described.loc["HC", "sd"] == pytest.approx(np.std(controls, ddof=1))


def test_visits_are_not_counted_as_subjects():
    rows = [
        {
            "participant_id": "sub-1",
            "session_id": session,
            "label": 1,
            "age": age,
            "sex": "F",
            "site": site,
        }
        for session, age, site in (("ses-1", 40, "A"), ("ses-2", 41, "B"), ("ses-3", 42, "B"))
    ]
    rows += [{"participant_id": "sub-2", "label": 0, "age": 50, "sex": "M", "site": "B"}]
    table = confounds.table(_cohort(rows)).set_index(["variable", "level", "group"])
    assert table.loc[("sex", "F", "MS"), "n"] == 1
    assert table.loc[("age", "", "MS"), "mean"] == 40
    assert table.loc[("site", "A", "MS"), "n"] == table.loc[("site", "B", "MS"), "n"] == 1
    sentences = confounds.warnings(_cohort(rows))
    assert len(sentences) == 1  # A has MS alone; B both
    assert "A (1 MS)" in sentences[0]


@pytest.mark.parametrize(
    ("sessions", "ages"),
    [
        (["ses-9", "ses-10", "ses-100"], [40, None, 50]),
        (["ses-sc", "ses-bl", "ses-m06", "ses-m108"], [None, 60, 61, 69]),
        (["ses-adnisc", "ses-4bl", "ses-4m06"], [None, 60, 61]),
        (["ses-pre", "ses-post"], [40, 41]),
        (["ses-2", "ses-10"], [40, 40]),
        (["", "ses-1"], [40, None]),
        (["ses-20060502", "ses-20070502"], [40, None]),
    ],
)
def test_the_first_visit_is_the_earliest(sessions, ages):
    rows = []
    for session, age in zip(sessions, ages, strict=True):
        rows.append({"participant_id": "sub-1", "session_id": session, "age": age, "label": 1})
    rows += [{"participant_id": "sub-2", "label": 0, "age": 50}]
    shuffled = _cohort(rows[::-1])
    ordered = visits.in_order(shuffled)
    assert ordered["session_id"].tolist() == [*sessions, ""]
    described = confounds.table(shuffled).set_index(["variable", "level", "group"])
    first = next(age for age in ages if age is not None)
    assert described.loc[("age", "", "MS"), "mean"] == first


def test_missing_values_are_counted():
    rows = (
        [{"label": 1, "age": 40.0, "sex": "F"}] * 3
        + [{"label": 1}] * 2
        + [{"label": 0, "sex": "M"}] * 4
        + [{"label": None, "sex": "M"}]
    )
    table = confounds.table(_cohort(rows)).set_index(["variable", "level", "group"])["n"]
    assert table["age", "missing", "MS"] == 2
    assert table["age", "missing", "HC"] == 4
    assert table["age", "", "HC"] == 0
    assert table["sex", "M", "unknown"] == 1
    assert "site" not in table
    balance = confounds.balance(_cohort(rows)).set_index("variable")
    assert (
        balance.loc["age", "note"]
        == "3 patients and 0 controls have it: at least 2 of each are needed"
    )
    assert balance.loc["site", "note"] == "no subject with a group has it"
    assert balance.loc["sex", "note"] == "expected counts below 5: p is rough"
    assert confounds.warnings(_cohort(rows))[-1].startswith("age is known of MS only")


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1], [None, None], [0, 1], [0, 1, 1]])
def test_a_small_cohort_is_left_out_with_a_reason(labels):
    table = _cohort(
        [
            {"label": label, "age": 30.0 + row, "sex": "FM"[row % 2], "site": "A"}
            for row, label in enumerate(labels)
        ]
        or {"label": []}
    )
    balance = confounds.balance(table)
    assert balance["size"].isna().all()
    assert (balance["note"] != "").all()
    assert confounds.warnings(table) == []
    assert len(confounds.table(table)) == 0 or set(confounds.table(table)["group"]) <= {
        "MS",
        "HC",
        "unknown",
    }


def test_missing_columns_are_as_unknown():
    table = _paper()[["participant_id", "session_id", "group", "label"]]
    assert confounds.table(table).empty
    assert confounds.warnings(table) == []

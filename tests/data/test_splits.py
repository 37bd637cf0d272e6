"""Splits: subjects never cross, strata are exact, nothing but the subjects and the seed decides."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msxai.base.errors import ParameterError, SplitError
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort


def _table(labels, sessions):
    """Subject i with label labels[i] (None: unknown) and sessions[i] scans."""
    rows = [
        {
            "participant_id": f"sub-{index:03}",
            "session_id": f"ses-{visit}" if count > 1 else "",
            "label": label,
        }
        for index, (label, count) in enumerate(zip(labels, sessions, strict=True))
        for visit in range(count)
    ]
    return pd.DataFrame(rows).astype({"label": "Int64"})


@st.composite
def tables(draw):
    labels = draw(st.lists(st.sampled_from([0, 1, None]), min_size=12, max_size=60))
    assume(labels.count(0) >= 5 and labels.count(1) >= 5)
    return _table(
        labels, draw(st.lists(st.integers(1, 4), min_size=len(labels), max_size=len(labels)))
    )


def _counts(table, split):
    """Number of subjects by (label, part), counted plainly."""
    label = dict(zip(table["participant_id"], table["label"], strict=True))
    result = {}
    for subject, part in set(zip(split["participant_id"], split["part"], strict=True)):
        key = (None if pd.isna(label[subject]) else int(label[subject]), part)
        result[key] = result.get(key, 0) + 1
    return result


@settings(max_examples=80)
@given(
    tables(),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([0.0, 0.15, 0.4]),
    st.integers(0, 2**32),
)
def test_subjects_stay_together_and_strata_are_exact(table, holdout, validation, seed):
    split = splits.make(table, holdout, validation, seed)
    assert list(split.columns) == ["participant_id", "session_id", "part"]
    assert sorted(zip(split["participant_id"], split["session_id"], strict=True)) == sorted(
        zip(table["participant_id"], table["session_id"], strict=True)
    )
    assert split.groupby("participant_id")["part"].nunique().max() == 1
    result, subjects = _counts(table, split), table.drop_duplicates("participant_id")
    for label in (0, 1):
        rest = int((subjects["label"] == label).sum()) - holdout[label]
        selecting = max(1, round(validation * rest)) if validation else 0
        assert result.get((label, "holdout"), 0) == holdout[label]
        assert result.get((label, "validation"), 0) == selecting
        assert result.get((label, "training"), 0) == rest - selecting
    assert {part for label, part in result if label is None} <= {"holdout"}


@settings(max_examples=40)
@given(tables(), st.integers(0, 100), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(table, seed, random):
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = splits.make(table.iloc[order], (2, 2), 0.2, seed)
    pd.testing.assert_frame_equal(splits.make(table, (2, 2), 0.2, seed), shuffled)


def test_the_seed_decides():
    table = _table([0, 1] * 20, [1] * 40)
    assert splits.make(table, (4, 4), seed=1).equals(splits.make(table, (4, 4), seed=1))
    assert not splits.make(table, (4, 4), seed=1).equals(splits.make(table, (4, 4), seed=2))


def test_by_default_nobody_is_held_out():
    table = _table([0, 1] * 20, [1] * 40)
    split = splits.make(table)
    assert split["part"].value_counts().to_dict() == {"training": 34, "validation": 6}
    assert split.equals(splits.make(table, holdout=(0, 0), validation=0.15, seed=0))


def test_one_control_is_enough_without_validation_and_the_refusal_says_so():
    table = _table([0] + [1] * 6, [1] * 7)
    with pytest.raises(SplitError, match=r"With validation: 0, 1 would be enough"):
        splits.make(table, (0, 0), validation=0.15)
    split = splits.make(table, (0, 0), validation=0)
    assert split["part"].eq("training").all()


def test_the_refusal_does_not_promise_what_validation_0_cannot_give():
    table = _table([0] + [1] * 6, [1] * 7)
    with pytest.raises(SplitError, match="more than 2 of them") as refused:
        splits.make(table, (1, 0), validation=0.15)
    assert "validation: 0" not in str(refused.value)


def test_every_subject_can_be_held_out():
    table = _table([0, 1] * 10, [1] * 20)
    held = [
        set(splits.make(table, (2, 2), seed=seed).query("part == 'holdout'")["participant_id"])
        for seed in range(60)
    ]
    assert set.union(*held) == set(table["participant_id"])


@settings(max_examples=40)
@given(st.integers(8, 60), st.integers(8, 60), st.floats(0.05, 0.5), st.floats(0.07, 0.5))
def test_shares_hold_out_the_rounded_number(controls, patients, first, second):
    table = _table([0] * controls + [1] * patients, [1] * (controls + patients))
    result = _counts(table, splits.make(table, (first, second), 0))
    assert result.get((0, "holdout"), 0) == round(first * controls)
    assert result.get((1, "holdout"), 0) == round(second * patients)


def test_the_papers_numbers():
    table = _table([1] * 76 + [0] * 71, [1] * 147)
    split = splits.make(table, holdout=(10, 13))
    result = _counts(table, split)
    assert result[0, "holdout"] == 10
    assert result[1, "holdout"] == 13
    assert result[0, "training"] + result[0, "validation"] == 61
    assert result[1, "training"] + result[1, "validation"] == 63
    assert (split["part"] != "holdout").sum() == 124


@pytest.mark.parametrize("holdout", [(5, 0), (4, 0), (8, 0), (0, 30), (0.99, 0)])
def test_too_few_subjects(holdout):
    with pytest.raises(SplitError, match="holdout"):
        splits.make(_table([0] * 5 + [1] * 20, [1] * 25), holdout)


@pytest.mark.parametrize(
    "holdout",
    [
        *[(-1, 0), (2.5, 0), (0,), (1, 2, 3), (float("nan"), 0), ("2", "2")],
        *[(True, 2), 2, None, "2,2", (None, 2)],
    ],
)
def test_a_holdout_that_makes_no_sense(holdout):
    with pytest.raises(SplitError, match="holdout"):
        splits.make(_table([0, 1] * 10, [1] * 20), holdout)


@pytest.mark.parametrize("holdout", [(0.01, 0.01), (0, 0.04)])
def test_shares_that_hold_nobody_out_are_refused(holdout):
    with pytest.raises(SplitError, match="which is nobody after rounding") as refused:
        splits.make(_table([0] * 5 + [1] * 7, [1] * 12), holdout)
    assert f"{holdout[0]} of 5 controls and {holdout[1]} of 7 patients" in str(refused.value)
    assert set(splits.make(_table([None, None], [1, 2]), holdout)["part"]) == {"holdout"}


def test_counts_of_numpy_are_counts():
    table = _table([0, 1] * 10, [1] * 20)
    assert splits.make(table, np.array([2, 3])).equals(splits.make(table, (2, 3)))


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_a_seed_is_a_whole_number(seed):
    table = _table([0, 1] * 10, [1] * 20)
    for call in (lambda: splits.make(table, seed=seed), lambda: splits.fold(table, 0, 2, 0, seed)):
        with pytest.raises(ParameterError, match="parameter seed"):
            call()


@pytest.mark.parametrize(("number", "folds"), [(0.0, 2), (0, 2.0), ("0", 2), (0, None), (True, 2)])
def test_a_fold_is_a_whole_number(number, folds):
    with pytest.raises(SplitError, match="parameters fold, folds"):
        splits.fold(_table([0, 1] * 4, [1] * 8), number, folds)


@pytest.mark.parametrize("validation", [-0.1, 1.0, 3, "0.2", None, False, float("nan")])
def test_a_validation_share_that_makes_no_sense(validation):
    with pytest.raises(SplitError, match="validation"):
        splits.make(_table([0, 1] * 10, [1] * 20), (1, 1), validation)


def test_a_cohort_may_be_held_out_whole():
    table = _table([0] * 5 + [1] * 20, [1] * 25)
    assert set(splits.make(table, (5, 20))["part"]) == {"holdout"}


def test_one_group_alone_or_no_label_at_all_can_be_split():
    only = splits.make(_table([1] * 10, [2] * 10), (0, 2))
    assert only.query("part == 'holdout'")["participant_id"].nunique() == 2
    assert set(splits.make(_table([None, None], [1, 2]), (10, 13))["part"]) == {"holdout"}


def test_two_labels_of_one_subject():
    table = _table([0, 1] * 5, [2] * 10)
    table.loc[1, "label"] = 1
    with pytest.raises(SplitError, match=r"sub-000.*two labels"):
        splits.make(table)


def test_a_written_split_reads_as_it_was(tmp_path):
    split = splits.make(_table([0, 1] * 10, [1, 3] * 10), (2, 2))
    splits.write(split, tmp_path / "split.tsv")
    pd.testing.assert_frame_equal(splits.read(tmp_path / "split.tsv"), split)
    assert [path.name for path in tmp_path.iterdir()] == ["split.tsv"]


def test_a_split_of_a_crossing_subject_is_neither_written_nor_read(tmp_path):
    split = splits.make(_table([0, 1] * 10, [3] * 20), (2, 2))
    before = split["part"][0]
    split.loc[0, "part"] = next(part for part in splits.PARTS if part != before)
    path = tmp_path / "split.tsv"
    with pytest.raises(SplitError, match="sub-000"):
        splits.write(split, path)
    assert not list(tmp_path.iterdir())
    split.to_csv(path, sep="\t", index=False)
    with pytest.raises(SplitError, match=r"split.tsv, sub-000.*each subject in one part"):
        splits.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("participant_id\tsession_id\tpart\nsub-1\t\ttest\n", "column part"),
        (
            "participant_id\tsession_id\tpart\nsub-1\t\ttraining\nsub-1\t\ttraining\n",
            "stands twice",
        ),
        ("participant_id\tpart\nsub-1\ttraining\n", "session_id"),
        ("", "split.tsv"),
    ],
)
def test_a_file_that_is_no_split(tmp_path, content, message):
    path = tmp_path / "split.tsv"
    path.write_text(content)
    with pytest.raises(SplitError, match=message):
        splits.read(path)


def test_no_split_file(tmp_path):
    from msxai.base.errors import MissingStepError

    with pytest.raises(MissingStepError, match=r"01_data_preparation"):
        splits.read(tmp_path / "none_split.tsv")


# Leave a site out


def _at(sites, labels):
    """One subject for each tuple of sites (one scan a site)."""
    rows = [
        (f"sub-{index:03}", f"ses-{visit}", label, site)
        for index, (subject_sites, label) in enumerate(zip(sites, labels, strict=True))
        for visit, site in enumerate(subject_sites)
    ]
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "label", "site"]).astype(
        {"label": "Int64"}
    )


TWO = _at([("A",)] * 20 + [("B",)] * 6 + [("A", "B")] * 2 + [(None,)] * 2, [0, 1] * 15)


def test_a_site_is_held_out_whole():
    split = splits.make(TWO, (5, 5), 0.2, 0, "B").merge(TWO)
    held = split[split["part"] == "holdout"]
    assert set(held["participant_id"]) == {
        f"sub-{index:03}" for index in range(20, 28)
    }  # also those scanned at both
    assert set(split.loc[split["part"] != "holdout", "site"].dropna()) == {"A"}
    assert split.query("part == 'validation'").groupby("label")[
        "participant_id"
    ].nunique().tolist() == [2, 2]
    assert splits.make(TWO, (0, 0), 0.2, 0, ["B"]).equals(splits.make(TWO, (5, 5), 0.2, 0, "B"))


@pytest.mark.parametrize("site", ["2", "2.0", 2, 2.0, [2], ["2.0"], np.array([2])])
@pytest.mark.parametrize(
    "names", [{"A": "1", "B": "2"}, {"A": "1.0", "B": "2.0"}, {"A": 1, "B": 2}]
)
def test_a_site_whose_name_is_a_number(site, names):
    table = TWO.assign(site=TWO["site"].map(names, na_action="ignore").astype(object))
    assert splits.make(table, (0, 0), 0.2, 0, site).equals(splits.make(TWO, (0, 0), 0.2, 0, "B"))


@pytest.mark.parametrize("site", [[None], {"A": 1}.items(), True, object()])
def test_what_is_no_site(site):
    with pytest.raises(ParameterError, match=r"parameter holdout_site: .* names of sites"):
        splits.make(TWO, (0, 0), 0.2, 0, site)


def test_without_a_site_nothing_changes():
    for none in ("", (), [], None):
        assert splits.make(TWO, (2, 3), 0.2, 5, none).equals(
            splits.make(TWO.drop(columns="site"), (2, 3), 0.2, 5)
        )


def test_the_split_is_the_one_it_was():
    """Compare the parts of subjects 0 to 19 with those of the first release.

    A split must not change with the code.
    """
    split = splits.make(_table([0, 1] * 10, [1] * 20), (3, 2), 0.2, 7)
    assert "".join(part[0] for part in split["part"]) == "thttvttththvtvthttht"


@pytest.mark.parametrize(
    ("table", "site", "error", "words"),
    [
        (TWO, "C", ParameterError, ["holdout_site", "'C'", "one of A, B"]),
        (TWO.drop(columns="site"), "A", SplitError, ["column site"]),
        (TWO.assign(site=None), "A", SplitError, ["column site", "no site of any subject"]),
        (
            TWO,
            ["A", "B"],
            SplitError,
            ["holdout_site", "15 subjects with label 0, 14 of them at A, B"],
        ),
        (
            _at([("A",)] * 10 + [("B",)] * 10, [0] * 10 + [1] * 10),
            "B",
            SplitError,
            ["10 subjects with label 1, 10 of them at B"],
        ),
        (
            _at([("A",)] * 11 + [("B",)] * 9, [0] * 10 + [1] * 10),
            "B",
            SplitError,
            ["10 subjects with label 1, 9 of them at B"],
        ),
    ],
)
def test_a_site_that_cannot_be_held_out(table, site, error, words):
    with pytest.raises(error) as caught:
        splits.make(table, (1, 1), 0.15, 0, site)
    for word in (*words, caught.value.mend):
        assert word in str(caught.value)


# From a cohort's own table to the split: nobody crosses


@st.composite
def people(draw):
    """Rows of a table of paths: several visits at several sites.

    Some labels are unknown; identifiers have a prefix or none.
    """
    labels = draw(st.lists(st.sampled_from(["MS", "HC", "n/a"]), min_size=12, max_size=40))
    assume(labels.count("MS") >= 6 and labels.count("HC") >= 6)
    rows = []
    for index, label in enumerate(labels):
        for visit in range(draw(st.integers(1, 4))):
            prefix, site = (
                draw(st.sampled_from(["", "sub-"])),
                draw(st.sampled_from(["A", "B", "n/a"])),
            )
            rows.append(
                (
                    f"{prefix}{index:02}",
                    f"{draw(st.sampled_from(['', 'ses-']))}{visit}",
                    label,
                    "scan.nii",
                    site,
                )
            )
    return draw(st.permutations(rows))


def _opened(folder, rows):
    table = pd.DataFrame(rows, columns=["participant_id", "session_id", "group", "image", "site"])
    (folder / "scan.nii").touch()
    table.to_csv(folder / "mine.csv", index=False)
    return open_cohort(folder / "mine.csv").table


cohorts_to_split = given(
    people(),
    st.sampled_from([(2, 2), (0.2, 0.2), (0, 0), "A", ["B"]]),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)


@settings(max_examples=15)
@cohorts_to_split
def test_no_subject_ever_crosses(tmp_path_factory, rows, holdout, seed, random):
    _check_that_no_subject_crosses(tmp_path_factory, rows, holdout, seed, random)


@pytest.mark.long(reason="a hundred cohorts, 12 s; fifteen are quick")
@settings(max_examples=100)
@cohorts_to_split
def test_no_subject_of_a_hundred_cohorts_crosses(tmp_path_factory, rows, holdout, seed, random):
    _check_that_no_subject_crosses(tmp_path_factory, rows, holdout, seed, random)


def _check_that_no_subject_crosses(tmp_path_factory, rows, holdout, seed, random):
    folder = tmp_path_factory.mktemp("people")
    table = _opened(folder, rows)
    assert len(table) == len(rows)
    how = {"holdout": holdout} if isinstance(holdout, tuple) else {"holdout_site": holdout}
    try:
        split = splits.make(table, validation=0.2, seed=seed, **how)
    except (SplitError, ParameterError):
        assert "holdout_site" in how  # of tiny cohorts a site may hold a whole group, or nobody
        return
    parts = {}
    for row in split.itertuples():
        parts.setdefault(row.participant_id, set()).add(row.part)
    assert set(parts) == {f"sub-{row[0].removeprefix('sub-')}" for row in rows}
    assert all(len(result) == 1 for result in parts.values())
    if "holdout_site" in how:
        there = {f"sub-{row[0].removeprefix('sub-')}" for row in rows if row[4] in list(holdout)}
        assert all(
            (parts[subject] == {"holdout"}) == (subject in there)
            for subject, label in _labels(rows).items()
            if label != "n/a"
        )
    random.shuffle(rows)
    pd.testing.assert_frame_equal(
        splits.make(_opened(folder, rows), validation=0.2, seed=seed, **how), split
    )
    splits.write(split, folder / "split.tsv")
    pd.testing.assert_frame_equal(splits.read(folder / "split.tsv"), split)


def _labels(rows):
    return {f"sub-{row[0].removeprefix('sub-')}": row[2] for row in rows}


adni_visits = given(
    st.lists(
        st.tuples(st.sampled_from(["AD", "CN", "MCI"]), st.integers(1, 4)), min_size=10, max_size=30
    ),
    st.integers(0, 2**32),
    st.data(),
)


@settings(max_examples=10)
@adni_visits
def test_no_subject_of_the_pretraining_cohort_crosses(tmp_path_factory, subjects, seed, data):
    _check_that_no_subject_of_adni_crosses(tmp_path_factory, subjects, seed, data)


@pytest.mark.long(reason="fifty folders of ADNI, 6 s; ten are quick")
@settings(max_examples=50)
@adni_visits
def test_no_subject_of_fifty_adni_folders_crosses(tmp_path_factory, subjects, seed, data):
    _check_that_no_subject_of_adni_crosses(tmp_path_factory, subjects, seed, data)


def _check_that_no_subject_of_adni_crosses(tmp_path_factory, subjects, seed, data):
    """ADNI as downloaded: its many visits of few people."""
    diagnoses = [diagnosis for diagnosis, _ in subjects]
    assume(diagnoses.count("AD") >= 3 and diagnoses.count("CN") >= 3)
    folder, rows = tmp_path_factory.mktemp("adni"), []
    for index, (diagnosis, visits) in enumerate(subjects):
        for visit in range(visits):
            rows.append(
                f"{index % 7:03}_S_{index:04},I{index}{visit}9,{diagnosis},m{12 * visit:02}"
            )
            (folder / f"ADNI_{index % 7:03}_S_{index:04}_I{index}{visit}9.nii").touch()
    result = []
    for order in (rows, data.draw(st.permutations(rows))):
        (folder / "table.csv").write_text(
            "Subject,Image Data ID,Group,Visit\n" + "\n".join(order) + "\n"
        )
        table = open_cohort(folder, "T1w").table
        split = splits.make(table, (0, 0), 0.3, seed).merge(table)
        assert len(split) == sum(visits for diagnosis, visits in subjects if diagnosis != "MCI")
        assert split.groupby("participant_id")["part"].nunique().max() == 1
        assert set(split["part"]) == {"training", "validation"}
        result.append(split)
    pd.testing.assert_frame_equal(*result)


def test_each_subject_is_held_out_in_one_fold_and_groups_stay_even():
    table = _table([0, 1] * 13 + [None], [1, 2, 1] * 9)
    held, labels = [], dict(zip(table["participant_id"], table["label"], strict=True))
    for number in range(5):
        split = splits.fold(table, number, 5, seed=3)
        splits.check(split)
        assert len(split) == len(table)
        pd.testing.assert_frame_equal(
            splits.fold(table.sample(frac=1, random_state=0), number, 5, seed=3), split
        )
        away = set(split.loc[split["part"] == "holdout", "participant_id"]) - {"sub-026"}
        assert sum(labels[name] for name in away) in (2, 3)
        assert len(away) - sum(labels[name] for name in away) in (2, 3)
        rest = split[split["part"] == "validation"]["participant_id"]
        assert {labels[name] for name in rest} == {0, 1}
        held += away
    assert sorted(held) == sorted(set(table["participant_id"]) - {"sub-026"})


@pytest.mark.parametrize("label", [0, 1])
def test_folds_of_one_group_divide_it(label):
    """Patients without controls: each is held out once."""
    table = _table([label] * 8, [1] * 8)
    held = []
    for number in range(4):
        split = splits.check(splits.fold(table, number, 4))
        assert split["part"].value_counts().to_dict() == {
            "training": 5,
            "holdout": 2,
            "validation": 1,
        }
        held += list(split.loc[split["part"] == "holdout", "participant_id"])
    assert sorted(held) == sorted(table["participant_id"])
    with pytest.raises(SplitError, match="8 subjects in the smallest group"):
        splits.fold(table, 0, 9)


def test_folds_of_nobody_are_an_error():
    with pytest.raises(SplitError, match="0 subjects in the smallest group"):
        splits.fold(_table([None] * 4, [1] * 4), 0, 2)


@pytest.mark.parametrize(("number", "folds"), [(5, 5), (-1, 5), (0, 1), (0, 14)])
def test_a_fold_that_cannot_be_is_an_error(number, folds):
    with pytest.raises(SplitError, match="parameters fold, folds"):
        splits.fold(_table([0, 1] * 13, [1] * 26), number, folds)

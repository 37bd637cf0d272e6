"""The layout of a results folder: no name leads out of it, or to other results."""

import pytest

import msxai
from msxai.base import provenance, results
from msxai.base.errors import ParameterError, StaleInputError
from msxai.base.results import Results

OF_A_VARIANT = {
    "trial": lambda where, variant: where.trial(variant, 0),
    "heatmaps": lambda where, variant: where.heatmaps(variant),
    "quality": lambda where, variant: where.quality(variant),
    "states": lambda where, variant: where.states(variant),
    "regions": lambda where, variant: where.regions(variant),
}


@pytest.mark.parametrize("variant", ["../../../x", "..", "", "a/b", "a b", ".a", "-a", "a\n", 1])
@pytest.mark.parametrize("result", OF_A_VARIANT)
def test_a_variant_stays_in_the_folder(tmp_path, result, variant):
    where = Results(str(tmp_path))
    with pytest.raises(ParameterError, match=r"parameter variant: found .* expected a letter o"):
        OF_A_VARIANT[result](where, variant)


def test_a_variant_has_letters_digits_dots_dashes_and_underscores(tmp_path):
    where = Results(str(tmp_path))
    assert where.trial("début_2.0-b", 3) == tmp_path / "finetuning" / "début_2.0-b" / "trial-3"
    assert where.trial("pretraining", 0) == tmp_path / "pretraining" / "trial-0"
    assert where.quality("scratch", "league") == tmp_path / "league" / "scratch"


def test_a_choice_of_maps_replaces_no_other_results(tmp_path):
    where = Results(str(tmp_path))
    with pytest.raises(ParameterError, match="parameter folder: found 'heatmaps', a folder of oth"):
        where.quality("scratch", "heatmaps")
    with pytest.raises(ParameterError, match=r"parameter folder: found '\.\./x'"):
        where.quality("scratch", "../x")


@pytest.mark.parametrize(
    ("folder", "contents"),
    [("/", "the whole disk"), ("runs/..", "the folder of the checkout"), (".", "the folder of th")],
)
def test_results_lie_in_a_folder_of_their_own(folder, contents):
    with pytest.raises(ParameterError, match=f"parameter results: found '.*', which is {contents}"):
        Results(folder)
    with pytest.raises(ParameterError, match="parameter results: found an empty path"):
        Results("")
    assert Results("runs/demo").folder == msxai.ROOT / "runs" / "demo"


@pytest.mark.parametrize("cohort", ["..", ".", "", "/", "data/..", "..yaml"])
def test_a_cohort_without_a_name_is_refused(cohort):
    with pytest.raises(ParameterError, match=r"parameter cohort: found .* a path that ends in a n"):
        results.cohort_name(cohort)
    assert results.cohort_name("data/..study.csv") == "..study"


@pytest.mark.parametrize("entries", [{}, {"val_accuracy": "0.9", "val_loss": 1}])
def test_the_best_training_is_chosen_by_its_records_scores(tmp_path, entries):
    where = Results(str(tmp_path))
    weights = where.trial("pretraining", 0) / "weights.npz"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    path = weights.with_name("provenance.json")
    provenance.write_json(path, provenance.record({}, [], [weights], **entries))
    with pytest.raises(StaleInputError, match=r"a damaged file \(no val_accuracy\)"):
        where.initial_weights("best")


def test_a_record_of_filled_scans_says_whether_there_are_any(tmp_path):
    where = Results(str(tmp_path))
    for path in (where.prepared("ms"), where.split("ms")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    files = [where.prepared("ms"), where.split("ms")]
    made = provenance.record({"cohort": "ms"}, [], files)
    provenance.write_json(where.record("ms"), made)
    filled = provenance.record({"cohort": "ms", "filling": "noise"}, files, [], left_out=None)
    provenance.write_json(where.record("ms", "noise"), filled)
    with pytest.raises(StaleInputError, match=r"a damaged file \(no left_out\)"):
        where.require_prepared("ms", "noise")

"""A small version of benchmarks/wide.py: five scans made by hand, networks of one filter; and its
arguments.
"""

import pytest
from support.networks import with_weights
from support.scripts import script
from support.small_cohort import Cohort

from msxai.base.results import Results
from msxai.model import network
from msxai.quality import reference_maps


@pytest.fixture(scope="module")
def wide():
    """The script on five scans made by hand."""
    patch, module = pytest.MonkeyPatch(), script("wide")
    patch.setattr(module, "Prepared", lambda *paths: Cohort())
    patch.setattr(Cohort, "path", "by hand", raising=False)
    patch.setattr(
        module.network,
        "restore",
        lambda path: with_weights(1, network.SHAPE, sum(map(ord, str(path)))),
    )
    patch.setattr(
        module.network, "configure", lambda *_: None
    )  # other tests may have started TensorFlow with more threads
    patch.setattr(module, "BLOCK", 2)
    yield module
    patch.undo()


@pytest.fixture(scope="module")
def outcome(wide, tmp_path_factory):
    where = Results(str(tmp_path_factory.mktemp("results")))
    return wide.run(where, trials=2, patients=3)


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_every_row_of_both_widths_is_measured_on_every_patient(wide, outcome):
    assert set(outcome.table["map"]) == {
        *(f"{kind}: {row}" for kind in wide.KINDS for row in wide.ROWS),
        *reference_maps.NAMES,
    }
    assert (outcome.table["subjects"] == 3).all()
    assert len(outcome.files) == 3 + 2 * len(wide.KINDS)
    for kind in wide.KINDS:
        notes = outcome.notes[kind]
        assert len(notes["AUC, each"]) == 2
        assert 0 <= notes["AUC, mean of the networks"] <= 1
        low, high = notes["agreement, two networks"][1:]
        assert -1 <= low <= high <= 1


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_differences_are_those_of_the_table(wide, outcome):
    rows = outcome.table.set_index("map")
    first, *wider = wide.KINDS
    assert wider
    for kind in wider:
        for name in wide.ROWS:
            differences = outcome.notes[kind][f"less {first}: {name}"]
            for measure in wide.MEASURES:
                mean, low, high = differences[measure]
                assert mean == pytest.approx(
                    rows.loc[f"{kind}: {name}", measure] - rows.loc[f"{first}: {name}", measure],
                    abs=1e-6,
                )
                assert low <= mean <= high


def test_settings_are_those_of_the_demo_and_of_the_pairs_of_make_quality(wide):
    in_pairs = wide.settings("quality")["variants"]["pairs"]
    assert (in_pairs["epochs"], in_pairs["trials"]) == (wide.EPOCHS, wide.TRIALS)
    demo = wide.settings("demo")["03_fine_tuning"]
    assert wide.KINDS["width-16"] == wide.Kind(demo["width"], demo["dropout"])
    assert {kind.filters for kind in wide.KINDS.values()} == {16, 64}

"""A small version of benchmarks/wide.py: five scans made by hand, networks of one filter; and its
arguments.
"""

import numpy as np
import pytest
from support.networks import with_weights
from support.scripts import script
from support.small_cohort import Cohort

from msxai.base.results import Results
from msxai.model import network
from msxai.quality import reference_maps


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    patch, script_ = pytest.MonkeyPatch(), script("wide")
    patch.setattr(script_, "Prepared", lambda *paths: Cohort())
    patch.setattr(Cohort, "path", "by hand", raising=False)
    patch.setattr(
        script_.network,
        "restore",
        lambda path: with_weights(1, network.SHAPE, sum(map(ord, str(path)))),
    )
    patch.setattr(
        script_.network, "configure", lambda *_: None
    )  # other tests may have started TensorFlow with more threads
    patch.setattr(script_, "BLOCK", 2)
    table, about, files = script_.run(
        Results(str(tmp_path_factory.mktemp("results"))), trials=2, patients=3
    )
    patch.undo()
    return script_, table, about, files


def test_every_row_of_both_widths_is_measured_on_every_patient(found):
    script_, table, about, files = found
    assert set(table["map"]) == {
        *(f"{kind}: {row}" for kind in script_.KINDS for row in script_.ROWS),
        *reference_maps.NAMES,
    }
    assert (table["subjects"] == 3).all()
    assert len(files) == 3 + 2 * len(script_.KINDS)
    for kind in script_.KINDS:
        assert len(about[kind]["AUC, each"]) == 2
        assert 0 <= about[kind]["AUC, mean of the networks"] <= 1
        low, high = about[kind]["agreement, two networks"][1:]
        assert -1 <= low <= high <= 1


def test_differences_are_those_of_the_table(found):
    script_, table, about, _ = found
    rows, (first, *others) = table.set_index("map"), script_.KINDS
    assert others
    for kind in others:
        for name in script_.ROWS:
            for measure in script_.MEASURES:
                mean, low, high = about[kind][f"less {first}: {name}"][measure]
                assert mean == pytest.approx(
                    rows.loc[f"{kind}: {name}", measure] - rows.loc[f"{first}: {name}", measure],
                    abs=1e-6,
                )
                assert low <= mean <= high


def test_settings_are_those_of_the_demo_and_of_the_pairs_of_make_quality(found):
    script_ = found[0]
    how = script_.settings("quality")["variants"]["pairs"]
    assert (how["epochs"], how["trials"]) == (script_.EPOCHS, script_.TRIALS)
    assert script_.KINDS["width-16"] == tuple(
        script_.settings("demo")["03_fine_tuning"][name] for name in ("width", "dropout")
    )
    assert np.all([width in (16, 64) for width, _ in script_.KINDS.values()])

"""What notebooks refuse before any work; in a checkout in which no step has run."""

import re

import pytest
from support.checkout import Checkout

pytestmark = [
    pytest.mark.series,
    pytest.mark.long(reason="five notebooks are started"),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("check out"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cohrt": "phantom-ms-smoke"}, "Did you mean cohort?"),
        (
            {"validation": "much"},
            "parameter validation: found 'much' (str); expected a number (float)",
        ),
        ({"normalisation": "zscor"}, "Did you mean zscore?"),
        ({"cohort": "data/nothing-here"}, "no such folder; expected a BIDS dataset"),
    ],
)
def test_a_bad_parameter_fails_the_run_and_the_executed_notebook_is_kept(
    checkout, tmp_path, given, message
):
    usual = {
        "cohort": "phantom-ms-smoke",
        "subjects": 8,
        "holdout": [1, 1],
        "results": str(tmp_path),
    }
    result = checkout.papermill("01_data_preparation", **{**usual, **given})
    assert result.returncode != 0
    assert message in result.stderr
    assert message in re.sub(r"\\u001b\[[0-9;]*m", "", checkout.executed.read_text())
    assert not list(tmp_path.rglob("*.h5"))


def test_a_missing_step_names_the_notebook_and_the_command(checkout, tmp_path):
    result = checkout.papermill("03_fine_tuning", cohort="phantom-ms-smoke", results=str(tmp_path))
    assert result.returncode != 0
    assert (
        "expected the result of 01_data_preparation. Run it first: .venv/bin/papermill"
        in result.stderr
    )

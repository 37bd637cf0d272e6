"""The series on other cohorts than the embedded ones, and the cohort in folds."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from support.checkout import BIN, ITEMS, Checkout
from support.scripts import script

import msxai

pytestmark = [
    pytest.mark.series,
    pytest.mark.long(reason="the series runs on three more cohorts, and one in two folds"),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("check out"))


def test_cross_validation_of_the_networks(checkout):
    """`make cv` on two folds: each subject is held out once, by networks that have not seen it.

    The folds are gathered.
    """
    import pandas as pd

    (checkout.folder / ".venv").symlink_to(BIN.parent)
    shutil.copytree(msxai.ROOT / "tools", checkout.folder / "tools")
    checkout.environment["CV"] = "workflow/cv-smoke.yaml"
    result = subprocess.run(
        ["sh", "tools/cv.sh"],
        cwd=checkout.folder,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    folds = [checkout.folder / "runs" / "cv-smoke" / f"fold-{fold}" for fold in range(2)]
    held = [
        pd.read_csv(fold / "prepared" / "phantom-ms-smoke_split.tsv", sep="\t").query(
            "part == 'holdout'"
        )
        for fold in folds
    ]
    assert len(pd.concat(held)["participant_id"].unique()) == 20 == sum(map(len, held))
    for fold, rows in zip(folds, held, strict=True):
        predictions = pd.read_csv(fold / "evaluation" / "predictions.tsv", sep="\t").query(
            "variant == 'pretrained'"
        )
        assert set(predictions["participant_id"]) == set(rows["participant_id"])
    assert "pretrained" in result.stdout
    (checkout.folder / ".venv").unlink()


def foreign(folder):
    """A BIDS dataset as another lab would bring it.

    Heads as scanned and brains in MNI space, two sites, words of its own, gaps.
    """
    import nibabel as nib
    import pandas as pd
    from support.raw_heads import head, sampled

    from msxai.data import images
    from msxai.data.synthetic import phantom

    rows = []
    mni = nib.Nifti1Image(
        np.zeros((91, 109, 91), "uint8"),
        np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]),
    )
    scanner = nib.Nifti1Image(
        np.zeros((180, 215, 75), "uint8"),
        np.array([[-1.0, 0, 0, 92], [0, -1, 0, 92], [0, 0, 2.5, -80], [0, 0, 0, 1]]),
    )
    for number in range(12):
        name, group = f"sub-berlin{number:02}", ("RRMS", "control")[number % 2]
        subject = phantom.simulate(
            "ms",
            "MS" if group == "RRMS" else "HC",
            500 + number,
            600 + number,
            volume=6000 if group == "RRMS" else 0,
        )
        raw = number in (2, 5)
        values, grid = (head(subject, 500 + number), scanner) if raw else (subject.image, mni)
        files = {f"{name}/anat/{name}_acq-3d_FLAIR": (values, "int16")}
        if number != 4:
            files[f"derivatives/reader/{name}/anat/{name}_label-lesion_mask"] = (
                subject.lesions,
                "uint8",
            )
        for path, (stored, kind) in files.items():
            stored = sampled(stored, images.AFFINE, grid)
            image = nib.Nifti1Image(
                (stored >= 0.5 if kind == "uint8" else stored).astype(kind), grid.affine
            )
            image.set_sform(grid.affine, 1 if raw else 4)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, folder / f"{path}.nii.gz")
        rows.append(
            {
                "participant_id": name,
                "diagnosis": group,
                "age": "n/a" if number == 3 else 30 + number,
                "sex": "FM"[number % 3 == 0],
                "site": "north" if number < 6 else "south",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)


def test_a_foreign_cohort_runs_by_parameters_alone(checkout, tmp_path):
    """All notebooks of the series, raw scans registered on the way.

    Only parameters distinguish the run from one on the embedded cohort.
    """
    import pandas as pd

    from msxai.data.prepared import Prepared

    foreign(tmp_path / "berlin")
    variables = {
        "COHORT": str(tmp_path / "berlin"),
        "PATIENTS": "RRMS",
        "CONTROLS": "control",
        "LABEL": "diagnosis",
        "HOLDOUT": "2,2",
    }
    given = script("cohort_options", folder="tools").options(variables, "runs/berlin-tiny")
    # One patient has no mask, and is left out of the variants on filled scans and in pairs.
    given["variants"] = {
        "pretrained": {"counterfactual_pairs": "noise"},
        "lesion-filled": {"initial_weights": "best", "filling": "noise"},
    }
    given["filled"] = "lesion-filled"
    # Two patients for validation: with one, it could be the one without a mask.
    given["01_data_preparation"] = {"validation": 0.5}
    result = checkout.snakemake(profile="tiny", config=given)
    assert result.returncode == 0, result.stderr[-4000:]
    results = checkout.folder / "runs" / "berlin-tiny"
    cohort = Prepared(results / "prepared" / "berlin.h5")
    routes = cohort.table.set_index("participant_id")["registration"].map(
        lambda text: json.loads(text)["route"]
    )
    assert routes[routes == "full"].index.tolist() == ["sub-berlin02", "sub-berlin05"]
    assert set(routes[routes != "full"]) == {"resampled"}
    assert cohort.has_lesions.sum() == 11
    assert cohort.lesions(cohort.row("sub-berlin02")).any()
    assert cohort.table["age"].isna().sum() == 1
    quality = pd.read_csv(
        results / "quality-control" / "berlin" / "qc.tsv", sep="\t", na_values="n/a"
    ).set_index("participant_id")
    assert (quality.loc[["sub-berlin02", "sub-berlin05"], "dice"] > 0.9).all()
    assert (results / "quality-control" / "berlin" / "qc.html").stat().st_size > 100_000
    assert {path.stem[:5] for path in (results / "figures").glob("fig*.png")} == {
        f"fig{item:02}" for item in ITEMS
    }
    assert (
        "lesion load: left out, because the cohort has scans without a lesion mask"
        in (results / "notebooks" / "04_evaluation.ipynb").read_text()
    )
    assert (
        "lesion-filled: left out, because it has no lesion mask: sub-berlin04"
        in (results / "notebooks" / "04_evaluation.ipynb").read_text()
    )
    assert not json.loads((results / "figures" / "provenance.json").read_text()).get(
        "synthetic", False
    )


def test_patients_without_controls_are_trained_on_in_pairs(checkout, tmp_path):
    """As `make beside`, on simulated patients; one of them has no mask."""
    import pandas as pd

    from msxai.data.synthetic import phantom

    cohort, results = tmp_path / "patients", tmp_path / "results"
    phantom.write_cohort("ms", cohort, 14, seed=1, progress=False)
    people = pd.read_csv(cohort / "participants.tsv", sep="\t")
    people = people[people["group"] == "MS"]
    people.to_csv(cohort / "participants.tsv", sep="\t", index=False)
    unmasked = people["participant_id"].iloc[0]
    for mask in (cohort / "derivatives").rglob(f"{unmasked}*lesion_mask.nii.gz"):
        mask.unlink()
    given = {"cohort": str(cohort), "results": str(results)}
    training = {"variant": "beside", "initial_weights": "scratch", "width": 2, "epochs": 2}
    steps = [
        ("01_data_preparation", {"holdout": [0, 1], "validation": 0.25}),
        ("01b_lesion_filling", {}),
        ("03_fine_tuning", {**training, "counterfactual_pairs": "noise"}),
    ]
    for notebook, options in steps:
        result = checkout.papermill(notebook, **given, **options)
        assert result.returncode == 0, result.stderr[-3000:]
        if notebook == "01b_lesion_filling":
            named = f"left out, because it has no lesion mask: {unmasked}"
            assert named in checkout.executed.read_text()
    assert (results / "finetuning" / "beside" / "trial-0" / "weights.npz").is_file()


def test_a_cohort_without_masks_ages_or_edss_runs(checkout, tmp_path):
    """A cohort of scans and groups alone: 04, 05 and 08 say what they leave out."""
    import pandas as pd

    from msxai.data.synthetic import phantom

    cohort, results = tmp_path / "bare", tmp_path / "results"
    phantom.write_cohort("ms", cohort, 20, seed=1, progress=False)
    shutil.rmtree(cohort / "derivatives")
    people = pd.read_csv(cohort / "participants.tsv", sep="\t")
    people[["participant_id", "group"]].to_csv(cohort / "participants.tsv", sep="\t", index=False)
    given = {"cohort": str(cohort), "results": str(results)}
    judged = {
        "width": 2,
        "rules": ["epsilon"],
        "methods": ["gradient"],
        "checked_maps": ["epsilon"],
        "n_checked_scans": 1,
    }
    steps = [
        ("01_data_preparation", {"holdout": [3, 3], "validation": 0.25}),
        ("03_fine_tuning", {"initial_weights": "scratch", "width": 2, "epochs": 1}),
        (
            "04_evaluation",
            {"variants": ["pretrained"], "trials": 1, "width": 2, "folds": 2, "repeats": 1},
        ),
        ("05_lrp_heatmaps", {"trials": 1}),
        ("06_region_relevance", {"permutations": 50, "randoms": 5}),
        ("07_explanation_quality", {"trials": 1, **judged}),
        ("08_figures", {"pretraining_trials": 0}),
        ("09_results_page", {}),
    ]
    for notebook, options in steps:
        parameters = {
            name: value
            for name, value in given.items()
            if (notebook, name) != ("09_results_page", "cohort")
        }
        result = checkout.papermill(notebook, **parameters, **options)
        assert result.returncode == 0, result.stderr[-3000:]
        if notebook == "04_evaluation":
            assert (
                "lesion load: left out, because the cohort has scans without a lesion mask"
                in checkout.executed.read_text()
            )
    assert {path.stem[:5] for path in (results / "figures").glob("fig*.png")} == {
        f"fig{item:02}" for item in ITEMS
    } - {"fig04"}
    page = (results / "report" / "index.html").read_text()
    assert (
        "no lesion volumes of tracts: no scan has a lesion mask" in page
        or "their atlas is not here" in page
    )
    assert "in quality/scores.tsv. Either no scan had a lesion mask" in page

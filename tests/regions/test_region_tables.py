"""The tables of regions: a tiny cohort made by hand, in which every number is known, and what is
said where something is missing.
"""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.regions import region_statistics, region_tables, regional_relevance

A, B, T = np.s_[10:14, 10, 10], np.s_[20:22, 20, 20:23], np.s_[30:40, 30, 30]
RUN = {"cohort": "tiny", "variant": "pretrained"}


class Tiny:
    """Six patients (0 to 5) and six controls (6 to 11); patient k has k + 1 voxels of lesion in the
    tract T, controls have no mask.
    """

    affine = images.AFFINE
    lesion_volumes = Prepared.lesion_volumes

    def __init__(self):
        number = np.arange(12)
        patient = number < 6
        self.table = pd.DataFrame(
            {
                "participant_id": [f"sub-{one:02}" for one in number],
                "session_id": "",
                "group": np.where(patient, "MS", "HC"),
                "label": pd.array(patient.astype(int), "Int64"),
                "age": np.where(patient, 60 - number, [30.0, 40, 50] * 4),
                "edss": np.where(patient, number / 2, np.nan),
            }
        )
        self.has_lesions = patient

    def row(self, participant_id, session_id=""):
        return int(participant_id[-2:])

    def brain(self, row):
        mask = np.zeros(images.SHAPE, bool)
        mask[5:45, 5:45, 5:45] = True
        return mask

    def lesions(self, row):
        mask = np.zeros(images.SHAPE, bool)
        if self.has_lesions[row]:
            mask[30 : 31 + row, 30, 30] = True
        return mask


def atlas(**boxes):
    """(grouped, groups) of an atlas whose regions are these boxes."""
    grouped = np.zeros(images.SHAPE, int)
    for number, box in enumerate(boxes.values(), 1):
        grouped[box] = number
    return grouped, pd.DataFrame(
        {"group": list(boxes), "tissue": "grey"}, index=range(1, len(boxes) + 1)
    )


PARTS = {
    "areas": atlas(A=A, B=B),
    "tracts": atlas(T=T),
    "zones": atlas(Z=np.s_[28:34, 28:34, 28:34]),
}


def found(*names):
    atlas = regional_relevance.combine({name: PARTS[name] for name in names or PARTS})
    atlas.left_out, atlas.notes = ({} if not names else {"tracts": "make atlases"}), ["two areas"]
    return atlas


@pytest.fixture
def written(tmp_path):
    """Maps: subject k has k + 1 in area A (patients 10 more), 2 in B, and -(k + 1) in the tract."""
    where, cohort, rows = Results(str(tmp_path / "results")), Tiny(), []
    for place in (where.prepared("tiny"), where.heatmaps("pretrained") / "heatmaps.tsv"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("as it was")
    for number, scan in cohort.table.iterrows():
        values = np.zeros(images.SHAPE, "float32")
        values[A], values[B], values[T] = (
            (number + 1 + 10 * (number < 6)) / 4,
            2 / 6,
            -(number + 1) / 10,
        )
        path = tmp_path / f"{scan['participant_id']}.nii"
        nib.save(nib.Nifti1Image(values, images.AFFINE), path)
        rows.append({**scan[regional_relevance.SCAN], "path": path})

    def write(cohort, table, known):
        draws = region_tables.Draws(permutations=1000, random_regions=50)
        made = region_tables.write(where, cohort, table, known, RUN, draws)
        folder = where.regions("pretrained")
        stored = region_tables.read(folder)
        assert set(stored.pop("permuted")["test"]) <= {"labels permuted"}
        assert stored.pop("left_out") == made["notes"]["left_out"]
        for name, volume in stored.items():
            assert list(volume.columns) == list(made[name].columns)
            assert len(volume) == len(made[name])
        assert where.require_regions("pretrained", "tiny")[1]["parameters"] == RUN
        return stored | {"notes": json.loads((folder / "notes.json").read_text())}

    return write, cohort, pd.DataFrame(rows)


def pick(table, **where):
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    assert len(table) == 1
    return table.iloc[0]


def test_every_number_of_a_tiny_cohort(written):
    write, cohort, table = written
    made = write(cohort, table, found())
    assert len(made["relevance"]) == 12 * 4 * 3
    row = pick(made["relevance"], participant_id="sub-03", region="A", sign="positive")
    assert row[["sum", "density"]].tolist() == pytest.approx([14, 3.5])
    assert row["share"] == pytest.approx(14 / 16)

    mean = {
        "patients": np.mean([11, 12, 13, 14, 15, 16]),
        "controls": np.mean([7, 8, 9, 10, 11, 12]),
    }
    row = pick(made["tests"], test="labels permuted", region="A", sign="positive", measure="sum")
    assert row["difference"] == pytest.approx(mean["patients"] - mean["controls"])
    assert row["subjects"] == 12
    assert row["p_fwe"] <= 0.05
    assert (
        pick(made["tests"], test="labels permuted", region="B", sign="positive", measure="sum")[
            "p_fwe"
        ]
        == 1
    )
    for group, value in mean.items():
        row = pick(made["tests"], test="random regions", group=group, region="A", sign="positive")
        assert row["density"] == pytest.approx(value / 4)
        assert row["p"] == pytest.approx(1 / 51)
    row = pick(made["tests"], test="random regions", group="patients", region="T", sign="net")
    assert row["density"] == pytest.approx(-3.5 / 10)
    assert row["p_fdr"] == row["p"] == 1, "the only one of its atlas, below all random regions"

    assert set(made["lesions"]["participant_id"]) == {f"sub-{one:02}" for one in range(6)}
    row = pick(made["lesions"], participant_id="sub-05", region="T")
    assert row[["label", "volume", "lesions"]].tolist() == pytest.approx(
        [1, 6 * images.VOXEL_VOLUME, 1]
    )
    assert pick(made["lesions"], participant_id="sub-05", region="Z")["volume"] == pytest.approx(
        4 * images.VOXEL_VOLUME
    )

    def r(covariate, region="A", group="patients", sign="positive"):
        row = pick(
            made["correlations"],
            covariate=covariate,
            region=region,
            group=group,
            sign=sign,
            measure="sum",
        )
        return [row["n"], row["r"]]

    assert r("edss") == r("lesion volume") == pytest.approx([6, 1])
    assert r("age") == pytest.approx([6, -1])
    assert r("age", group="controls") == pytest.approx([6, 8 / np.sqrt(17.5 * 16)])
    assert r(region_statistics.REGION_VOLUME, "T", sign="net") == pytest.approx([6, -1])
    assert set(made["correlations"]["covariate"]) == {
        "edss",
        "age",
        "lesion volume",
        region_statistics.REGION_VOLUME,
    }
    assert set(made["notes"]["left_out"]) == {"edss, controls", "lesion volume, controls"}
    assert made["notes"]["notes"] == ["two areas"]


def test_without_lesion_masks(written):
    write, cohort, table = written
    cohort.has_lesions = np.zeros(12, bool)
    made = write(cohort, table, found())
    assert made["lesions"].empty
    assert set(made["correlations"]["covariate"]) == {"edss", "age"}
    assert made["notes"]["left_out"]["lesions"] == "no scan has a lesion mask"
    assert "known of 0 explained patients" in made["notes"]["left_out"]["lesion volume, patients"]
    assert len(made["tests"]) == 4 * 3 * 2 + 4 * 2 * 2


def test_without_ages_and_edss(written):
    write, cohort, table = written
    cohort.table = cohort.table.drop(columns="age").assign(
        edss=[1.0, 2, 3, 4, np.nan, np.nan] + [np.nan] * 6
    )
    made = write(cohort, table, found())
    assert set(made["correlations"]["covariate"]) == {
        "lesion volume",
        region_statistics.REGION_VOLUME,
    }
    left_out = made["notes"]["left_out"]
    assert "known of 4 explained patients" in left_out["edss, patients"]
    assert "known of 0 explained controls" in left_out["age, controls"]


def test_without_jhu(written):
    write, cohort, table = written
    made = write(cohort, table, found("areas", "zones"))
    assert made["notes"]["left_out"]["tracts"] == "make atlases"
    for name in ("relevance", "tests", "correlations"):
        assert set(made[name]["atlas"]) == {"areas", "zones"}
    assert set(made["lesions"]["atlas"]) == {"zones"}


def test_without_labels_or_with_one_group(written):
    write, cohort, table = written
    made = write(cohort, table.assign(label=pd.array([pd.NA] * 12, "Int64")), found())
    assert made["tests"].empty
    assert made["correlations"].empty
    assert len(made["relevance"]) == 12 * 4 * 3
    expected = {
        "scans without a label",
        "patients against controls",
        "random regions",
        "correlations, patients",
        "correlations, controls",
    }
    assert expected <= set(made["notes"]["left_out"])
    made = write(cohort, table.iloc[:7], found())  # one control
    assert set(made["tests"]["test"]) == {"random regions"}
    assert (
        "two explained subjects of each group"
        in made["notes"]["left_out"]["patients against controls"]
    )


def test_visits_of_a_subject_count_as_one_in_a_mean_map(written):
    _, _, table = written
    twice = pd.concat([table.iloc[[0, 1]], table.iloc[[1]].assign(session_id="ses-2")])
    means = region_statistics.mean_maps(twice)
    assert means["patients", "positive"][10, 10, 10] == pytest.approx((11 + 12) / 2 / 4)
    assert means["patients", "net"][30, 30, 30] == pytest.approx(-0.15)
    assert means["patients", "positive"][30, 30, 30] == 0
    assert set(means) == {("patients", "net"), ("patients", "positive")}


def test_a_map_without_relevance_has_no_share(written, tmp_path):
    _, _, table = written
    nib.save(
        nib.Nifti1Image(np.zeros(images.SHAPE, "float32"), images.AFFINE), tmp_path / "nothing.nii"
    )
    shares = regional_relevance.relevance(
        table.iloc[[0]].assign(path=tmp_path / "nothing.nii"), found()
    )["share"]
    assert (shares == 0).all()


def test_changes_of_patients_are_paired(written):
    _, _, table = written
    relevance = regional_relevance.relevance(table, found())
    other = relevance.assign(
        sum=np.where(relevance["region"] == "A", relevance["sum"] / 2, relevance["sum"])
    )
    other = other[other["participant_id"] != "sub-05"].sample(frac=1, random_state=0)
    made = region_statistics.changes(relevance, other, found(), n=100)
    row = pick(made, region="A", sign="net")
    assert row[["subjects", "difference"]].tolist() == pytest.approx(
        [5, np.mean([11, 12, 13, 14, 15]) / 2]
    )
    assert row["p_fwe"] == pytest.approx(2 / 2**5), (
        "all the same sign: one of 32 flips, and its mirror"
    )
    assert pick(made, region="T", sign="net")[["difference", "p_fwe"]].tolist() == [0, 1]
    assert region_statistics.changes(relevance[relevance["label"] == 0], other, found()).empty


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("", "the profile has no variant on scans with filled lesions."),
        ("lesion-filled", "06_region_relevance has not run for lesion-filled."),
    ],
)
def test_without_a_variant_on_filled_scans_it_says_so(tmp_path, variant, reason):
    assert region_tables._left_out(Results(str(tmp_path)), "tiny", variant) == reason


def test_ten_thousand_permutations_are_the_default():
    """As in the paper; and a thousand random regions."""
    expected = region_tables.Draws(permutations=10_000, random_regions=1000, seed=0)
    assert region_tables.Draws() == expected

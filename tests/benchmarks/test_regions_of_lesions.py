"""The proof of regions of lesions: measures by hand, the committed table, a painted brain."""

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from support.real_scans import SHARED
from support.scripts import script

import msxai
from msxai.base import tsv
from msxai.data import images
from msxai.regions import lesion_regions, own_anatomy

proof = script("regions_of_lesions")
INFRATENTORIAL, PERIVENTRICULAR, CORTICAL, DEEP = lesion_regions.REGIONS


def test_kappa_is_that_of_scikit_learn(rng):
    first = rng.choice(lesion_regions.REGIONS, 50)
    second = np.where(rng.random(50) < 0.6, first, DEEP)
    assert proof.kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert np.isnan(proof.kappa([True, True], [True, True]))
    assert np.isnan(proof.kappa([], []))


def test_counts_and_agreement_of_lesions():
    regions = {
        "known": [PERIVENTRICULAR, PERIVENTRICULAR, DEEP, CORTICAL],
        "own": [PERIVENTRICULAR, PERIVENTRICULAR, DEEP, DEEP],
        "template": [PERIVENTRICULAR, DEEP, DEEP, DEEP],
        "lst_ai": [PERIVENTRICULAR, DEEP, DEEP, CORTICAL],
    }
    columns = proof.lesion_columns(regions)
    assert columns["lesions"] == 4
    assert columns["periventricular"] == columns["periventricular_own"] == 2
    assert columns["periventricular_kappa_own"] == 1
    assert columns["periventricular_kappa_template"] == pytest.approx(0.5)
    assert columns["moved"] == 1
    assert columns["region_kappa_own"] < 1
    assert columns["lst_ai_periventricular"] == 1
    assert columns["lst_ai_periventricular_kappa"] == pytest.approx(0.5)
    expected = cohen_kappa_score(regions["own"], regions["lst_ai"])
    assert columns["lst_ai_region_kappa"] == pytest.approx(expected)
    ventricles_alone = regions | {"lst_ai": [PERIVENTRICULAR, DEEP, DEEP, DEEP]}
    assert "lst_ai_region_kappa" not in proof.lesion_columns(ventricles_alone)
    unknown = regions | {"lst_ai": [""] * 4}
    assert "lst_ai_periventricular" not in proof.lesion_columns(unknown)


def test_the_first_structure_that_a_lesion_touches_decides_by_the_rule_of_lst_ai():
    lesions = np.zeros((12, 12, 12), bool)
    lesions[1, 1, 1:4] = True  # touches the ventricle by a corner, and the cortex
    lesions[5, 5, 5:7] = True  # touches the cortex
    lesions[9, 9, 9] = True  # one voxel lies between it and the cortex
    ventricles = np.zeros_like(lesions)
    ventricles[2, 2, 4] = True
    cortex = np.zeros_like(lesions)
    cortex[1, 1, 0] = cortex[5, 6, 5] = cortex[9, 9, 11] = True
    touching = {PERIVENTRICULAR: ventricles, CORTICAL: cortex}
    assert proof.regions_by_lst_ai(lesions, touching) == [PERIVENTRICULAR, CORTICAL, DEEP]


def test_the_lateral_ventricles_of_all_ventricles():
    atlas = own_anatomy.template()
    all_of_them = atlas.ventricles | atlas.other_fluid
    assert (proof.lateral(all_of_them) == atlas.ventricles).all()


def test_all_subjects_are_joined():
    agree = {"known": [PERIVENTRICULAR, DEEP], "own": [PERIVENTRICULAR, DEEP]}
    agree["template"] = [DEEP, DEEP]
    agree["lst_ai"] = ["", ""]
    rows = [{"kind": "patient", "dice_own": 0.8}, {"kind": "patient", "dice_own": 0.6}]
    row = proof.pooled(rows, [agree, agree])
    assert row["dice_own"] == pytest.approx(0.7)
    assert (row["lesions"], row["moved"]) == (4, 2)
    assert row["periventricular_kappa_own_low"] == row["periventricular_kappa_own_high"] == 1
    assert row["periventricular_kappa_template"] == 0


def test_the_committed_table_says_that_own_anatomy_is_nearer():
    table = tsv.read(msxai.ROOT / "benchmarks" / "regions_of_lesions.tsv")
    of_subjects = table[table["subject"] != "all"]
    assert of_subjects["kind"].value_counts().to_dict() == {
        "patient": 6,
        "painted": 4,
        "painted, slices of 6 mm": 4,
        "simulated": 2,
    }
    assert (of_subjects["dice_own"] > of_subjects["dice_template"]).all()
    whole = table[table["subject"] == "all"].set_index("kind")
    kappas = whole[["periventricular_kappa_own", "periventricular_kappa_template"]]
    assert kappas.loc["patient"].tolist() == sorted(kappas.loc["patient"], reverse=True)


def test_the_committed_table_says_that_sulci_help_on_thick_slices():
    table = tsv.read(msxai.ROOT / "benchmarks" / "regions_of_lesions.tsv")
    of_subjects = table[table["subject"] != "all"].set_index("kind")
    thick = of_subjects.loc[proof.THICK]
    assert thick["added_sulci"].all()
    assert (thick["cortex_kappa_own"] > thick["cortex_kappa_template"]).all()
    assert (thick["placed_kappa_own"] > thick["placed_kappa_template"]).all()
    assert not of_subjects.loc["painted", "added_sulci"].any()


def test_placed_lesions_lie_apart_in_white_matter(rng):
    white = np.zeros(images.SHAPE, bool)
    white[30:50, 40:60, 40:60] = True
    lesions = proof.placed_lesions(white, rng)
    assert not (lesions.labels[~white] > 0).any()
    sizes = np.bincount(lesions.labels.ravel())[1:]
    assert set(sizes) == {1, 8, 27}
    again = proof.placed_lesions(white, np.random.default_rng(1))
    assert 50 < again.count <= proof.PLACED


def test_slices_are_averaged_and_stay_in_place(tmp_path, rng):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [5, -7, 11]
    values = rng.random((4, 3, 14)).astype("float32")
    for kind in ("FLAIR", "brain", "lesions"):
        image = nib.Nifti1Image(values, affine)
        nib.save(image, tmp_path / f"one_{kind}.nii.gz")
    folder = tmp_path / "thick"
    folder.mkdir()
    path = proof.in_thick_slices(tmp_path / "one_FLAIR.nii.gz", folder)
    thick = nib.load(path)
    assert thick.shape == (4, 3, 2)
    second = np.asarray(thick.dataobj)[:, :, 1]
    assert second == pytest.approx(values[:, :, 6:12].mean(axis=2))
    middle = nib.affines.apply_affine(thick.affine, [0, 0, 1])
    assert middle == pytest.approx([5, -7, 11 + 8.5])
    lesions = np.asarray(nib.load(folder / "one_lesions.nii.gz").dataobj)
    assert (lesions[:, :, 1] == (second >= 0.5)).all()


@pytest.mark.real
def test_a_painted_brain_has_the_labels_of_its_file(tmp_path, rng):
    folder = SHARED / "data" / "synthseg_labels"
    if not folder.is_dir():
        pytest.skip("the label maps of ../shared/data/synthseg_labels are not here")
    path = proof.paint(folder / "training_seg_05.nii.gz", tmp_path, rng)
    scan = images.load(path)
    values = np.asarray(scan.dataobj)
    labels = np.asarray(images.load(tmp_path / "training_seg_05_labels.nii.gz").dataobj)
    assert np.median(values[np.isin(labels, proof.WHITE)]) == pytest.approx(1000, rel=0.05)
    assert np.median(values[np.isin(labels, (4, 43))]) == pytest.approx(180, rel=0.1)
    assert (values[labels >= 500] == 0).mean() > 0.9
    assert (labels == 4).sum() == 30766  # no voxel of a ventricle is cut off

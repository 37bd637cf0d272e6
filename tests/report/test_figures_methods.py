"""The figure of attribution methods, from saved files: its numbers and marks by hand, and words
where there is nothing.
"""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support.pictures import MARKS, Scans, check_layout, intervals, points, words

from msxai.data import images
from msxai.quality import model_states
from msxai.report import figures


@pytest.fixture
def saved(tmp_path):
    """Two methods on two states; maps of sub-0 that are highest at the one corner or the other of
    its brain.
    """
    shares = {
        ("epsilon_gamma", model_states.TUNED): (0.4, 0.3, 0.5, 0.1),
        ("epsilon_gamma", model_states.RANDOM): (0.2, 0.1, 0.3, np.nan),
        ("gradient", model_states.TUNED): (0.2, 0.1, 0.3, -0.1),
        ("gradient", model_states.RANDOM): (0.21, 0.1, 0.3, np.nan),
    }
    summary, scans = [], []
    for number, ((method, state), (share, low, high, difference_low)) in enumerate(shares.items()):
        summary.append(
            {
                "state": state,
                "method": method,
                "subjects": 2,
                "networks": 3,
                "share": share,
                "low": low,
                "high": high,
                "chance": 0.05,
                "difference_low": difference_low,
            }
        )
        image = nib.Nifti1Image(
            np.indices(images.SHAPE).sum(0).astype("float32") * (-1) ** number, images.AFFINE
        )
        image.set_sform(images.AFFINE, 4)
        nib.save(image, tmp_path / f"{number}.nii.gz")
        scans += [
            {
                "state": state,
                "method": method,
                "participant_id": f"sub-{subject}",
                "session_id": "",
                "share": share,
                "path": f"{number}.nii.gz" if subject == 0 else np.nan,
            }
            for subject in (1, 0)
        ]
    return pd.DataFrame(summary), pd.DataFrame(scans), tmp_path


def test_methods_by_hand(saved):
    summary, scans, folder = saved
    heading = "another network: "
    figure, source = figures.methods(Scans(), summary, scans, folder, heading=heading, **MARKS)
    assert source.equals(summary)
    lrp, gradient = [
        axes
        for axes in figure.axes
        if [label.get_text() for label in axes.get_yticklabels()] == list(model_states.STATES[::2])
    ]
    assert np.concatenate(points(lrp)).tolist() == [0.4, 0.2]
    assert intervals(lrp)[0] == pytest.approx(np.array([[0.3, 0.5]]))
    assert [text.get_text() for text in lrp.texts] == ["+"]
    assert not gradient.texts, "no mark where the interval of the difference reaches 0"
    texts = words(figure)
    for text in (
        "Maps of sub-0",
        "mean over subjects (n = 2)",
        "fine-tuned 3, random weights 3",
        "another network: Explanation methods",
        "LRP (epsilon gamma)",
        "not for clinical",
    ):
        assert text.lower() in texts.lower(), text
    assert "Synthetic" in texts
    check_layout(figure)


def test_without_lesions_the_figure_says_why(saved):
    summary, scans, folder = saved
    figure, source = figures.methods(
        Scans(), summary.iloc[:0], scans.iloc[:0], folder, "no masks came with it", **MARKS
    )
    assert "no masks came with it" in words(figure)
    assert "no masks came with it" in source.iloc[0, 0]

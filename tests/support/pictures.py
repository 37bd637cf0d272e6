"""Five scans to draw, and what a figure shows: its pixels, its maps, its words."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.text import Text

from msxai.data import images

MARKS = {"synthetic": True}


BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[14:82, 16:98, 10:84] = True


class Scans:
    """Five scans, three patients and two controls, with boxes for lesions; reads like
    `msxai.data.prepared.Prepared`.
    """

    affine = images.AFFINE

    def __init__(self, masks=True):
        names = [f"sub-{number}" for number in range(5)]
        label = pd.array([1, 1, 1, 0, 0], "Int64")
        part = ["training", "training", "holdout", "training", "holdout"]
        people = {
            "age": [30.0, 40, 50, 20, 60],
            "sex": list("FFMMF"),
            "edss": [1.0, np.nan, 3, np.nan, np.nan],
        }
        group = ["MS"] * 3 + ["HC"] * 2
        self.table = pd.DataFrame(
            {
                "participant_id": names,
                "session_id": "",
                "group": group,
                "label": label,
                "part": part,
                **people,
            }
        )
        self.has_lesions = np.full(5, masks)

    def image(self, row):
        ramp = np.indices(images.SHAPE).sum(0) / 100 + row
        return np.where(BRAIN, ramp, 0).astype("float32")

    def brain(self, row):
        return BRAIN

    def lesions(self, row):
        mask = np.zeros(images.SHAPE, bool)
        if self.has_lesions[row] and row != 4:
            mask[60:64, 50:54, 40 : 42 + row] = True
        return mask

    def row(self, participant, session=""):
        return int(participant[-1])


def rendered(figure):
    """Draw the figure; its pixels (RGB, from the top) and the texts that were drawn (tick labels
    outside the limits are not).
    """
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        original = Text.draw
        patch.setattr(
            Text, "draw", lambda self, renderer: (texts.append(self), original(self, renderer))[1]
        )
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int), shown


def check_layout(figure):
    """No text covers another or leaves the figure, and no axes leave it; the texts."""
    for axes in figure.axes:
        low, high = axes.get_position().get_points()
        assert (low >= 0).all(), axes.get_title()
        assert (high <= 1).all(), axes.get_title()
    texts = rendered(figure)[1]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (text, box), (next_text, next_box) in itertools.combinations(boxes, 2):
        width = min(box.x1, next_box.x1) - max(box.x0, next_box.x0)
        height = min(box.y1, next_box.y1) - max(box.y0, next_box.y0)
        assert not (width > 1 and height > 1), (
            f"{text!r} and {next_text!r} overlap by {width:.0f}x{height:.0f} pixels"
        )
    return texts


def overlays(figure, colours):
    """Limits of the maps drawn over the anatomy, and what they show."""
    pictures = [
        image for axes in figure.axes for image in axes.images if image.get_cmap().name == colours
    ]
    return [(image.get_clim(), np.ma.compressed(image.get_array())) for image in pictures]


def bar_lengths(axes):
    """Lengths of horizontal bars, one list a group."""
    groups = [group for group in axes.containers if isinstance(group, BarContainer)]
    return [[bar.get_width() for bar in group.patches] for group in groups]


def dots(axes, colour):
    """Horizontal positions of the dots of single subjects in one colour, sorted."""
    positions = []
    for collection in axes.collections:
        is_dots = isinstance(collection, PathCollection) and len(collection.get_offsets())
        if is_dots and to_hex(collection.get_facecolor()[0]).upper() == colour:
            positions += collection.get_offsets()[:, 0].tolist()
    return np.sort(positions)


def points(axes):
    """Horizontal positions of the points of each group, from the top of the chart."""
    lines = [line for line in axes.lines if line.get_linestyle() == "None"]
    positions = [np.asarray(line.get_xdata(), float) for line in lines]
    return [values[~np.isnan(values)] for values in positions]


def intervals(axes):
    """Both ends of the horizontal intervals of each group, one row a point."""
    groups = [group for group in axes.containers if not isinstance(group, BarContainer)]
    ends = []
    for group in groups:
        segments = group[2][0].get_segments()
        ends.append(np.array([segment[:, 0] for segment in segments]))
    return ends


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")

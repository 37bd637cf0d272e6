"""How bright tissues and lesions are in a simulated scan: as in FLAIR, in T1, or drawn at random.

Anatomy, position and lesion mask of a simulated scan do not depend on its contrast.
"""

from dataclasses import dataclass

import numpy as np

from msxai.base.errors import CohortError
from msxai.data.synthetic import template
from msxai.data.synthetic.lesions import LesionLook

__all__ = ["CONTRASTS", "FLAIR", "T1", "Contrast", "chosen", "random_contrast"]

CONTRASTS = ("own", "random")

# Tissues that have one brightness in random contrasts; every other class has its own.
_ALIKE = (
    ("csf", "ventricle"),
    ("white matter", "corpus callosum", "cerebellar white matter"),
    ("cortex", "insula", "cerebellar cortex", "hippocampus"),
)
_WHITE = list(template.CLASSES).index("white matter")
# Range of brightness in random contrasts; white matter in FLAIR and T1 has 1. White matter is
# not darker than its range, because noise does not depend on the contrast.
_LEVELS = (0.15, 1.4)
_WHITE_LEVELS = (0.5, 1.4)
_LESION_AWAY = (0.2, 0.6)  # difference between lesions and white matter, share of the latter


@dataclass(frozen=True)
class Contrast:
    """Brightness in one scan.

    Attributes
    ----------
    tissues : ndarray of shape (16,), float32
        Of each of `msxai.data.synthetic.template.CLASSES`.
    lesions : msxai.data.synthetic.lesions.LesionLook
    caps : float
        Of white matter next to the ventricles, as a multiple of what FLAIR adds there; negative
        where it is darker than other white matter.
    """

    tissues: np.ndarray
    lesions: LesionLook
    caps: float


# Lesions of T1 have 0.80 and 0.68 of the white matter's brightness in two real patients. The level
# is that of a lesion's core: the mean of its mask is brighter by partial volume and blur.
FLAIR = Contrast(template.FLAIR, LesionLook(level=1.341, decoys=1.32), caps=1.0)
T1 = Contrast(
    template.T1, LesionLook(level=0.64, decoys=0.66, spread=0.5, is_darker=True), caps=0.0
)
_OF_MODALITY = {"FLAIR": FLAIR, "T1w": T1}


def chosen(modality: str, contrast: str, rng) -> Contrast:
    """Return the contrast that a scan is asked to have.

    Parameters
    ----------
    modality : {"FLAIR", "T1w"}
    contrast : {"own", "random"}
        That of the modality, or one drawn at random in its place.
    rng : numpy.random.Generator
        Nothing is drawn for the modality's own contrast.

    Raises
    ------
    CohortError
        Unknown modality or contrast.
    """
    if modality not in _OF_MODALITY:
        expected = " or ".join(_OF_MODALITY)
        raise CohortError("parameter modality", repr(modality), expected, "Mend the name.")
    if contrast not in CONTRASTS:
        expected = " or ".join(CONTRASTS)
        raise CohortError("parameter contrast", repr(contrast), expected, "Mend the name.")
    if contrast == "random":
        return random_contrast(rng)
    return _OF_MODALITY[modality]


def random_contrast(rng) -> Contrast:
    """Draw a contrast that no scanner needs to have, in the manner of SynthSeg.

    Each tissue's brightness is drawn anew, so that fluid may be brighter than white matter. Lesions
    are brighter or darker than white matter, each in half of the draws, by 0.2 to 0.6 of its
    brightness (Billot et al. 2023, Medical Image Analysis 86:102789,
    doi:10.1016/j.media.2023.102789, draw the brightness of every class from one uniform
    distribution).

    Parameters
    ----------
    rng : numpy.random.Generator

    Examples
    --------
    >>> contrast = random_contrast(np.random.default_rng(3))
    >>> contrast.tissues.shape
    (16,)
    """
    levels = rng.uniform(*_LEVELS, len(template.CLASSES))
    levels[_WHITE] = rng.uniform(*_WHITE_LEVELS)
    names = list(template.CLASSES)
    for tissues in _ALIKE:
        indices = [names.index(tissue) for tissue in tissues]
        levels[indices] = levels[indices[0]]
    white = levels[_WHITE]
    is_darker = rng.random() < 0.5
    away = rng.uniform(*_LESION_AWAY) * white
    if is_darker:
        away = -away
    spread = abs(away) / (FLAIR.lesions.level - 1)
    lesions = LesionLook(
        level=white + away, decoys=white + away, spread=spread, is_darker=is_darker
    )
    caps = -spread if is_darker else spread
    return Contrast(levels.astype("float32"), lesions, caps)

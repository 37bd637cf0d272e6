"""The lesions of one scan, in words and rounded numbers for its page."""

import numpy as np
import pandas as pd

from msxai.quality import lesion_by_lesion
from msxai.quality.lesion_by_lesion import NEAR, ShamReport
from msxai.quality.one_scan import Findings
from msxai.regions import lesion_regions

__all__ = ["amounts", "described", "missing", "number"]

_EFFECTS = {
    lesion_by_lesion.SPEAKS_FOR: "speaks for yes: the network uses the lesion",
    lesion_by_lesion.NO_EFFECT: "no effect: the logit changes by no more than the limit",
    lesion_by_lesion.RAISES: "filling raises the logit: the lesion speaks against yes, or the "
    "filling itself disturbs the network",
    lesion_by_lesion.NOT_FILLED: "could not be filled: not known",
    lesion_by_lesion.TOO_SMALL: "too small for the network (no voxel on its grid): not known",
}
_PLACES = {
    "inside": "inside lesions",
    "near": f"near lesions (up to {NEAR:.0f} mm)",
    "elsewhere": "elsewhere in the brain",
    "outside_brain": "outside the brain",
}


def described(findings: Findings, crops: dict[int, str]) -> dict | None:
    """Return what the page says of the lesions; None where nothing was measured.

    Parameters
    ----------
    findings : Findings
    crops : dict
        Number of a lesion to its small picture.
    """
    report = findings.lesions
    if report is None:
        return None
    table = report.table
    used = table["used"].fillna(False)
    return {
        "rows": [_row(findings, lesion, crops) for lesion in table.to_dict("records")],
        "count": len(table),
        "volume": _millilitres(table),
        "measured": _measured(findings),
        "used": int(used.sum()),
        "used_volume": _millilitres(table[used]),
        "effects": _effects(table),
        "logit_all_filled": f"{report.logit_all_filled:+.2f}",
        "limit": f"{report.sham.limit:.3f}",
        "sham": _sham(findings.logit, report.sham),
        "regions": _regions(table),
        "order": lesion_regions.ORDER,
    }


def missing(findings: Findings) -> str:
    """Return why nothing was measured of the lesions; "" where something was.

    Parameters
    ----------
    findings : Findings
        Of a scan with a lesion mask.
    """
    marked = findings.marked
    if findings.lesions is not None:
        return ""
    if not marked.count:
        return "The lesion mask is empty."
    lesions = "lesion" if marked.count == 1 else "lesions"
    text = (
        f"The mask has {marked.count} {lesions} with a total volume of "
        f"{marked.volumes.sum() / 1000:.2f} ml."
    )
    if not len(marked.numbers):
        return f"{text} All of this is too small for the network: it has no voxel on its grid."
    return (
        f"{text} No lesion could be filled, because the scan has no white matter that looks "
        "normal. It is not known whether the network uses the lesions."
    )


def amounts(findings: Findings) -> list[dict]:
    """Return the relevance by distance from lesions; no row where no lesion is on the grid.

    Parameters
    ----------
    findings : Findings
    """
    if findings.marked is None or not len(findings.marked.numbers):
        return []
    table = findings.amounts
    rows = []
    for name, words in _PLACES.items():
        row = table.loc[name]
        rows.append(
            {
                "where": words,
                "net": number(row["net"], 3),
                "positive": number(row["positive"], 3),
                "negative": number(row["negative"], 3),
                "share_positive": _share(row["share_positive"]),
                "share_brain": _share(row["share_brain"]),
            }
        )
    total = table[["net", "positive", "negative"]].sum()
    sums = {name: number(value, 3) for name, value in total.items()}
    rows.append({"where": "whole map", **sums, "share_positive": "100 %", "share_brain": "–"})
    return rows


def number(value: float, digits: int) -> str:
    """Return a number with its sign; a dash where it is missing.

    Examples
    --------
    >>> number(0.12345, 3), number(-1e-9, 3), number(np.nan, 3)
    ('+0.123', '0.000', '–')
    """
    if np.isnan(value):
        return "–"
    rounded = round(value, digits)
    if rounded == 0:
        return f"{0:.{digits}f}"
    return f"{rounded:+.{digits}f}"


def _row(findings: Findings, lesion: dict, crops: dict[int, str]) -> dict:
    """Return the row of a lesion."""
    affine = findings.prepared.affine
    return {
        "number": lesion["lesion"],
        "picture": crops.get(lesion["lesion"], ""),
        "z": round((lesion["z"] - affine[2, 3]) / affine[2, 2]),
        "place": f"{lesion['x']:.0f}, {lesion['y']:.0f}, {lesion['z']:.0f}",
        "volume": f"{lesion['volume']:,.0f}",
        "region": lesion["region"],
        "relevance": number(lesion["relevance"], 3),
        "peak": number(lesion["peak"], 4),
        "change_filled": number(lesion["change_filled"], 3),
        "change_all_but_this": number(lesion["change_all_but_this"], 3),
        "adds_alone": number(lesion["adds_alone"], 3),
        "effect": lesion["effect"],
        "used": lesion["effect"] == lesion_by_lesion.SPEAKS_FOR,
    }


def _measured(findings: Findings) -> str:
    """Return in which space lesions are counted and measured."""
    text = "Lesions are counted and measured on the voxels of the mask's file."
    if findings.registration["route"] == "resampled":
        text += (
            " This file was already in MNI space, where a brain may be larger or smaller than in "
            "the person, and lesions with it."
        )
    return text


def _effects(table: pd.DataFrame) -> list[dict]:
    """Return which lesions have each effect."""
    rows = []
    for effect, meaning in _EFFECTS.items():
        lesions = table[table["effect"] == effect]
        if not len(lesions) and effect not in lesion_by_lesion.EFFECTS:
            continue
        rows.append(
            {
                "effect": meaning,
                "count": len(lesions),
                "volume": _millilitres(lesions),
                "lesions": ", ".join(map(str, lesions["lesion"])) or "–",
            }
        )
    return rows


def _sham(logit: float, sham: ShamReport) -> dict:
    """Return what filling of normal tissue does."""
    return {
        "sites": sham.sites,
        "is_measured": sham.is_measured,
        "logit": number(logit + sham.change_all, 2),
        "share": f"{sham.share:.0%}",
    }


def _regions(table: pd.DataFrame) -> list[dict]:
    """Return count, volume and relevance of the lesions of each region."""
    rows = []
    for region in lesion_regions.REGIONS:
        lesions = table[table["region"] == region]
        rows.append(
            {
                "region": region,
                "count": len(lesions),
                "used": int(lesions["used"].fillna(False).sum()),
                "volume": _millilitres(lesions),
                "relevance": number(lesions["relevance"].sum(), 3),
            }
        )
    return rows


def _millilitres(table: pd.DataFrame) -> str:
    return f"{table['volume'].sum() / 1000:.2f}"


def _share(value: float) -> str:
    """Return a share in percent; a dash where it is missing."""
    if np.isnan(value):
        return "–"
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"

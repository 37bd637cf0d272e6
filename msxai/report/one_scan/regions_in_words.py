"""The lesions of one scan by the regions of the McDonald criteria, in words for its page."""

from msxai.quality.one_scan import Findings
from msxai.regions import lesion_regions, mcdonald
from msxai.regions.lesion_regions import GREY_MATTER, REGIONS
from msxai.regions.mcdonald import RegionCounts

__all__ = ["described"]

_INFRATENTORIAL, _PERIVENTRICULAR, _CORTICAL, _DEEP = REGIONS
_THALAMUS, _DEEP_GREY = GREY_MATTER
_LABELS = {
    _PERIVENTRICULAR: "periventricular",
    _CORTICAL: "juxtacortical or cortical",
    _INFRATENTORIAL: "infratentorial",
    _DEEP: "deep (no region of the criteria)",
    _THALAMUS: "of all lesions: in the thalamus",
    _DEEP_GREY: "of all lesions: in deep grey matter",
}


def described(findings: Findings) -> dict | None:
    """Return what the page says of regions; None without a lesion mask.

    Parameters
    ----------
    findings : Findings
    """
    counts = findings.regions
    if counts is None:
        return None
    return {
        "rows": [_row(counts, name) for name in _LABELS],
        "missing": list(mcdonald.NOT_ASSESSABLE.items()),
        "anatomy": _anatomy(counts),
        "order": lesion_regions.ORDER,
        "source": mcdonald.SOURCE,
    }


def _row(counts: RegionCounts, name: str) -> dict:
    """Return the row of a region."""
    row = counts.table.loc[name]
    return {
        "region": _LABELS[name],
        "lesions": int(row["lesions"]),
        "from_3_mm": int(row["from_3_mm"]),
        "neighbours_18": int(row["neighbours_18"]),
        "neighbours_6": int(row["neighbours_6"]),
        "volume": f"{row['volume'] / 1000:.2f}",
    }


def _anatomy(counts: RegionCounts) -> str:
    """Return whose ventricles and cortex have decided the regions, and what this changes."""
    if not counts.anatomy.own_ventricles:
        return (
            "Ventricles and cortex are those of the template, because the scan does not show fluid "
            "in the ventricles. A lesion next to enlarged ventricles may count as deep."
        )
    if counts.anatomy.own_cortex:
        text = "The lateral ventricles and the cortex were found in this scan."
    elif counts.anatomy.added_sulci:
        text = (
            "The lateral ventricles were found in this scan. Its thick slices hide many sulci. The "
            "cortex is that of the template and, around the sulci that the scan shows, that of the "
            "person."
        )
    else:
        text = (
            "The lateral ventricles were found in this scan. The cortex is that of the template, "
            "because the scan does not show enough of the sulci."
        )
    lesions = int(counts.table.loc[list(REGIONS), "lesions"].sum())
    return (
        f"{text} By the ventricles and the cortex of the template, {counts.moved} of {lesions} "
        "lesions would belong to another region."
    )

"""What has changed since an earlier scan, in words and rounded numbers for the page of a scan.

Each number stands next to what two scans of one unchanged simulated person differ by.
"""

import numpy as np
import pandas as pd

from msxai.quality import visit_noise
from msxai.quality.one_scan import ALIGNED, CHANGE_FILES, SEPARATE, UNMOVED, Earlier, Findings
from msxai.quality.two_visits import CHANGES, GONE, NEW, RULE, Comparison
from msxai.quality.visit_noise import BETWEEN, BEYOND, WITHIN, Noise, judged
from msxai.report.one_scan import pictures
from msxai.report.one_scan.lesions_in_words import number

__all__ = ["NOT_KNOWN", "VERDICTS", "described"]

VERDICTS = {
    WITHIN: "within what two scans of an unchanged simulated person differ, even on one scanner",
    BETWEEN: "more than two scans of an unchanged simulated person differ on one scanner, within "
    "what they differ on two scanners",
    BEYOND: "more than two scans of an unchanged simulated person differ, even on two scanners",
}
"""What a change is, compared with its limits, in full."""

NOT_KNOWN = "noise not known"
"""The same without limits."""

_ALIGNMENT = {
    ALIGNED: "The earlier scan was aligned to this scan by a rigid transform. Both then took the "
    "same transform into MNI space.",
    UNMOVED: "Both scans lay in MNI space already. They were not aligned to each other.",
    SEPARATE: "One of the two scans lay in MNI space already. The other one was brought there "
    "alone, so the scans may lie at slightly different places.",
}
_MOST_ROWS = 60  # lesions in the table of the page; all are in the file


def described(findings: Findings) -> dict | None:
    """Return what the page says of the changes; None without an earlier scan.

    Parameters
    ----------
    findings : Findings
    """
    earlier = findings.earlier
    if earlier is None:
        return None
    comparison = earlier.comparison
    colours = _colours(comparison.noise)
    drawn = pictures.draw_changes(comparison, colours)
    return {
        "numbers": _numbers(comparison),
        "shares": _shares(comparison),
        "colours": colours and [f"{limit:.2g}" for limit in colours],
        "pictures": drawn,
        "gradient": pictures.colour_bar(drawn.scale),
        "lesions": _lesions(comparison),
        "no_lesions": _no_lesions(comparison),
        "warnings": _warnings(earlier),
        "alignment": _ALIGNMENT[earlier.alignment],
        "noise": _noise(comparison),
        "files": CHANGE_FILES,
    }


def _numbers(comparison: Comparison) -> list[dict]:
    """Return the logit and the map at both visits, their change and its limit."""
    noise = comparison.noise
    rows = [
        {
            "what": "logit",
            "before": number(comparison.before.logit, 2),
            "now": number(comparison.now.logit, 2),
            "change": number(comparison.logit_change, 2),
            **_judged(comparison.logit_change, _limits(noise, "logit"), ".2f"),
        }
    ]
    for kind, share in visit_noise.RARE.items():
        change = comparison.quantile_of_change(share)
        rows.append(
            {
                "what": f"map: magnitude of change that {_percent(share)} of the brain's voxels "
                "exceed",
                "before": "–",
                "now": "–",
                "change": f"{change:.2g}",
                **_judged(change, _limits(noise, kind), ".2g"),
            }
        )
    return rows


def _limits(noise: Noise | None, kind: str) -> list[float]:
    """Return the limits of the logit, or of the map, on one scanner and on two."""
    if noise is None:
        return [np.nan, np.nan]
    both = (noise.one_scanner, noise.two_scanners)
    if kind == "logit":
        return [limits.logit for limits in both]
    return [limits.of_map(kind) for limits in both]


def _judged(change: float, limits: list[float], form: str) -> dict:
    """Return limits in words, and what a change is compared with them."""
    verdict = judged(abs(change), *limits)
    return {
        "one_scanner": "–" if np.isnan(limits[0]) else format(limits[0], form),
        "two_scanners": "–" if np.isnan(limits[1]) else format(limits[1], form),
        "verdict": VERDICTS.get(verdict, NOT_KNOWN),
        "short": verdict or NOT_KNOWN,
        "more": verdict == BEYOND,
    }


def _colours(noise: Noise | None) -> tuple[float, float] | None:
    """Return from which change on the picture has a colour, and the full one; None without noise.

    Limits are those of one scanner. In an unchanged patient, few voxels have a colour.
    """
    if noise is None or not noise.has_maps:
        return None
    return noise.one_scanner.of_map("map_95"), noise.one_scanner.of_map("map_999")


def _shares(comparison: Comparison) -> list[dict]:
    """Return which share of the brain changes by more than the limits; none without limits."""
    noise = comparison.noise
    if noise is None or not noise.has_maps:
        return []
    shares = []
    for scanners, limit in zip(("one", "two"), _limits(noise, "map_999"), strict=True):
        shares.append(
            {
                "scanners": scanners,
                "limit": f"{limit:.2g}",
                "share": _percent(comparison.share_above(limit)),
            }
        )
    return shares


def _lesions(comparison: Comparison) -> dict | None:
    """Return the lesions of both visits; None where a mask is missing."""
    table = comparison.lesions
    if table is None:
        return None
    rows = [_row(lesion) for lesion in table.head(_MOST_ROWS).to_dict("records")]
    return {
        "rows": rows,
        "left_out": len(table) - len(rows),
        "counts": [_count(table, change) for change in CHANGES],
        "rule": RULE,
    }


def _row(lesion: dict) -> dict:
    """Return the row of lesions that belong together."""
    limits = [lesion["limit_one_scanner"], lesion["limit_two_scanners"]]
    return {
        "now": lesion["lesions_now"].replace(",", ", ") or "–",
        "before": lesion["lesions_before"].replace(",", ", ") or "–",
        "change": lesion["change"],
        "place": f"{lesion['x']:.0f}, {lesion['y']:.0f}, {lesion['z']:.0f}",
        "volume_before": "–" if lesion["change"] == NEW else f"{lesion['volume_before']:,.0f}",
        "volume_now": "–" if lesion["change"] == GONE else f"{lesion['volume_now']:,.0f}",
        "relevance_before": number(lesion["relevance_before"], 3),
        "relevance_now": number(lesion["relevance_now"], 3),
        "relevance_change": number(lesion["relevance_change"], 3),
        **_judged(lesion["relevance_change"], limits, ".3f"),
    }


def _count(table: pd.DataFrame, change: str) -> dict:
    """Return how many lesions have a change, their volumes, and in how many relevance changes."""
    rows = table[table["change"] == change]
    beyond = "–"
    if table["noise"].notna().all():
        beyond = str(int((rows["noise"] == BEYOND).sum()))
    return {
        "change": change,
        "count": len(rows),
        "volume_before": f"{rows['volume_before'].sum():,.0f}",
        "volume_now": f"{rows['volume_now'].sum():,.0f}",
        "beyond": beyond,
    }


def _no_lesions(comparison: Comparison) -> str:
    """Return why lesions are not compared; "" where they are."""
    if comparison.lesions is None:
        return (
            "Lesions are not compared, because that needs a lesion mask of both scans (--lesions "
            "and --before-lesions)."
        )
    if comparison.lesions.empty:
        return "Neither lesion mask marks a lesion."
    return ""


def _warnings(earlier: Earlier) -> list[str]:
    """Return what speaks against comparing the two scans."""
    sentences = []
    comparison = earlier.comparison
    noise = comparison.noise
    if noise is not None and not comparison.similarity >= noise.two_scanners.similarity:
        sentences.append(
            f"The two scans resemble each other less (correlation {comparison.similarity:.2f}) "
            "than two scans of one simulated person, even on two scanners (limit "
            f"{noise.two_scanners.similarity:.2f}). Check that both are FLAIR scans of this person."
        )
    if earlier.alignment == SEPARATE:
        sentences.append(
            f"{_ALIGNMENT[SEPARATE]} Give both scans raw, or both already in MNI space."
        )
    for sentence in earlier.quality["flags"]:
        sentences.append(f"Quality control of the earlier scan: {sentence}")
    for sentence in earlier.registration.get("notes", []):
        sentences.append(f"Something was unusual in a file of the earlier scan. {sentence}")
    return sentences


def _noise(comparison: Comparison) -> str:
    """Return where the limits come from, or that there are none."""
    noise = comparison.noise
    if noise is None:
        return (
            "The noise is not known for these networks. It has been measured only for the networks "
            "that the package brings. A change may be noise, whatever its magnitude."
        )
    text = (
        f"Limits come from {noise.patients} simulated patients who did not change. Each was "
        "scanned again by the same random scanner, and by another one, moved by up to half a voxel "
        f"of the network's grid. At most {visit_noise.EXCEEDED:.0%} of such patients exceed a "
        "limit. Use the limit for one scanner only if scanner and sequence were the same at both "
        "visits. Real scans may differ by more than simulated ones."
    )
    if not noise.has_maps:
        text += (
            " For maps of this rule and number of copies, the noise is not known. It has been "
            "measured for the default ones."
        )
    return text


def _percent(share: float) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> _percent(0.05), _percent(0.001), _percent(0.0), _percent(0.998)
    ('5 %', '0.1 %', '0 %', '100 %')
    """
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"

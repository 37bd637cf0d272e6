"""What speaks against trusting one map, in plain words, and what to do."""

from dataclasses import dataclass

import numpy as np

from msxai.data import images
from msxai.quality.lesion_by_lesion import LesionReport
from msxai.quality.one_scan import ROW, Explainer, Findings
from msxai.report.one_scan import lesions_in_words

__all__ = ["FINE", "LEVELS", "UNKNOWN", "WARNING", "Message", "messages"]

WARNING, UNKNOWN, FINE = LEVELS = ("warning", "unknown", "no warning")
"""Kinds of messages, the most important first."""

_UNDECIDED = 1.0  # logit: a probability between 0.27 and 0.73
_MOSTLY = 0.5  # share of the logit that lesions must explain, beyond what sham sites do
_ENOUGH_SHAM = 0.5  # volume of sham sites as a share of the lesions' volume
_NOT_CONSERVED = 0.5  # of the logit: limit where no validation scans are at hand
_FAINT = 1.5  # standard deviations of white matter: right masks have 4 and more, others about 0
_EACH_ALONE = (
    "Explain the scan with each weights file alone (--weights). "
    "Trust only places that all maps mark."
)
_OUTSIDE = 0.05  # share of the map outside the brain: limit where none are at hand
_NO_LIMIT = "No limit is known for this network, because its training scans are not available."


@dataclass(frozen=True)
class Message:
    """One message of the page.

    Attributes
    ----------
    level : str
        One of `LEVELS`.
    text : str
        What was noticed.
    action : str
        What to do; "" where there is nothing to do.
    """

    level: str
    text: str
    action: str = ""


def messages(findings: Findings, explainer: Explainer) -> list[Message]:
    """Return all messages of a map, warnings first.

    Parameters
    ----------
    findings : Findings
    explainer : Explainer
        What has made the map.
    """
    flags = {flag["Flag"]: flag for flag in findings.flags}
    collected = [
        _training(explainer),
        *_scan(findings),
        _decision(findings),
        _lesions(findings),
        *_mask(findings),
        _conservation(findings, flags["conservation"], explainer.settings.explanation.copies),
        _distance(flags["out_of_distribution"]),
        _outside(flags["outside_brain"]),
        _agreement(flags["agreement"], len(explainer.paths)),
    ]
    return sorted(collected, key=lambda message: LEVELS.index(message.level))


def _training(explainer: Explainer) -> Message:
    """Return what the network was trained on, as far as it limits what it can say."""
    tasks = {card.task for card in explainer.cards}
    if tasks <= {"lesions", "volume"}:
        return Message(
            WARNING,
            "The network has learnt from simulated scans alone. It has seen no scan of a person.",
            "Do not read its answer as a diagnosis. Check whether it uses the lesions.",
        )
    if "" in tasks:
        return Message(
            WARNING,
            "No record of these weights lies next to their file, so it is not known what the "
            "network was trained on.",
            "Ask who trained it: on which scanner, sequence and patients?",
        )
    modality = explainer.cards[0].modality
    if modality not in ("", "FLAIR"):
        return Message(
            WARNING,
            f"The network was trained on {modality} scans, not on FLAIR.",
            "Do not use its answer or its map for a FLAIR. They mean nothing.",
        )
    return Message(
        UNKNOWN,
        "The network was trained on a cohort. It is not known whether this scan resembles that "
        "cohort in scanner, sequence and disease.",
        "Compare scanner and sequence with those of the cohort.",
    )


def _scan(findings: Findings) -> list[Message]:
    """Return the sentences of quality control, and what was odd in the files."""
    collected = []
    for sentence in findings.quality["flags"]:
        collected.append(
            Message(
                WARNING,
                f"Quality control of the scan: {sentence}",
                "Look at the slices below. If the brain is turned or cut off, give a better scan, "
                "or a brain mask (--brain-mask).",
            )
        )
    for sentence in findings.registration.get("notes", []):
        text = f"Something was unusual in a file. {sentence}"
        collected.append(Message(WARNING, text, "Check that the file was read correctly."))
    collected += _thick_slices(findings)
    if not collected:
        text = (
            "Quality control found nothing unusual, for instance in position, size or orientation."
        )
        collected.append(Message(FINE, text))
    return collected


def _thick_slices(findings: Findings) -> list[Message]:
    """Return a warning where thick slices make small lesions uncertain."""
    image = images.load(findings.prepared.table["image"].iloc[ROW])
    thickest = float(max(image.header.get_zooms()[:3]))
    if thickest < 4:
        return []
    return [
        Message(
            WARNING,
            f"The slices of the scan are {thickest:.1f} mm thick. Lesions smaller than that may "
            "be blurred or missing.",
            "Use a 3D FLAIR if there is one.",
        )
    ]


def _decision(findings: Findings) -> Message:
    """Return whether the network is decided."""
    logit = findings.logit
    if abs(logit) < _UNDECIDED:
        return Message(
            WARNING,
            f"The network is undecided: the logit {logit:+.2f} lies between -1 and 1.",
            "Do not interpret the sign of the logit.",
        )
    return Message(FINE, f"The network is not undecided: the logit {logit:+.2f} is not near 0.")


def _lesions(findings: Findings) -> Message:
    """Return whether the logit depends on the lesions."""
    if not findings.has_mask:
        return Message(
            UNKNOWN,
            "No lesion mask was given, so it is not known whether the logit depends on lesions.",
            "Give a lesion mask (--lesions), for instance from a segmentation program.",
        )
    if findings.lesions is None:
        return Message(
            UNKNOWN,
            lesions_in_words.missing(findings),
            "If the scan shows lesions, check the mask and the position of the brain.",
        )
    return _without_lesions(findings.logit, findings.lesions)


def _without_lesions(before: float, report: LesionReport) -> Message:
    """Return whether the logit falls without the lesions, and by more than at sham sites."""
    sham = report.sham
    after = report.logit_all_filled
    text = f"With all lesions filled, the logit is {after:+.2f} instead of {before:+.2f}."
    if before <= 0:
        return Message(
            WARNING,
            f"{text} The network says no although the mask has lesions.",
            "Do not use this map to look for lesions.",
        )
    fall = before - after
    fall_of_sham = 0.0
    if sham.sites:
        fall_of_sham = max(-sham.change_all, 0.0)
        text += (
            f" With sham sites in normal white matter filled ({sham.share:.0%} of the lesions' "
            f"volume), it is {before + sham.change_all:+.2f}."
        )
        if abs(sham.change_all) >= abs(fall):
            return Message(
                WARNING,
                f"{text} Filling of normal tissue changes the logit by as much.",
                "Do not conclude that the logit depends on these lesions.",
            )
    if fall - fall_of_sham < _MOSTLY * before:
        return Message(
            WARNING,
            f"{text} More than half of the logit does not depend on these lesions.",
            "Do not take the logit as evidence of lesions. Look at the coloured places elsewhere.",
        )
    if sham.share < _ENOUGH_SHAM:
        return Message(
            UNKNOWN,
            f"{text} The scan has too little normal white matter to compare lesions with.",
            "Part of the fall may come from the filling itself.",
        )
    return Message(FINE, f"{text} At least half of the logit depends on these lesions.")


def _mask(findings: Findings) -> list[Message]:
    """Return whether the mask marks what is bright, as lesions on a FLAIR are."""
    report = findings.lesions
    if report is None:
        return []
    if np.isnan(report.contrast):
        text = "It is not known how bright the lesions of the mask are."
        return [Message(UNKNOWN, text, "Check that the mask belongs to this scan.")]
    text = (
        f"The lesions of the mask are {report.contrast:.1f} standard deviations brighter than the "
        "white matter around them."
    )
    if report.contrast >= _FAINT:
        return [Message(FINE, text)]
    return [
        Message(
            WARNING,
            f"{text} On a FLAIR, this contrast is usually much larger.",
            "Check that the mask belongs to this scan, that it is aligned with it, and that the "
            "scan is a FLAIR.",
        )
    ]


def _conservation(findings: Findings, flag: dict, copies: int) -> Message:
    """Return whether the map adds up to the logit that it distributes."""
    total = float(findings.relevance.sum(dtype=float))
    logit = f"the logit is {findings.logit:+.2f}"
    if copies > 1:
        logit = f"the mean logit of the {copies} copies of the scan is {findings.map_logit:+.2f}"
    text = f"The map adds up to {total:+.2f}; {logit}."
    if _exceeds(flag, _NOT_CONSERVED):
        return Message(
            WARNING,
            f"{text} This difference is large.",
            "Compare places within the map. Do not read its values as shares of the logit.",
        )
    if flag["Flagged"] is None:
        return Message(UNKNOWN, f"{text} {_NO_LIMIT}")
    return Message(FINE, f"{text} The difference is below the limit of a warning.")


def _distance(flag: dict) -> Message:
    """Return whether the scan resembles the scans of the training."""
    if flag["Flagged"] is None:
        return Message(
            UNKNOWN,
            "It is not known how much this scan differs from the training scans, because those "
            "are not available.",
            "If scanner or sequence differ from those of the training, trust the network less.",
        )
    if flag["Flagged"]:
        return Message(
            WARNING,
            "The scan differs much from scans like those of the training (distance "
            f"{flag['Value']:.1f}, limit {flag['Limit']:.1f}).",
            "Do not rely on the logit or the map.",
        )
    text = "The distance of the scan from scans like those of the training is below the limit."
    return Message(FINE, text)


def _outside(flag: dict) -> Message:
    """Return whether much of the map lies outside the brain."""
    if flag["Value"] is None:
        return Message(
            WARNING,
            "The map is zero everywhere.",
            "Do not interpret it. Check the scan and the weights file.",
        )
    text = f"{flag['Value']:.1%} of the map's magnitude lies outside the brain."
    if _exceeds(flag, _OUTSIDE):
        return Message(
            WARNING, text, "Check the brain mask. The network may use the edge of the mask."
        )
    if flag["Flagged"] is None:
        return Message(UNKNOWN, f"{text} {_NO_LIMIT}")
    return Message(FINE, text)


def _agreement(flag: dict, count: int) -> Message:
    """Return whether the networks agree."""
    if count == 1:
        return Message(
            UNKNOWN,
            "There is only one network, so it is not known whether another training would give the "
            "same map.",
            "Give several weights files (--weights) if you have them.",
        )
    if flag["Value"] is None:
        return Message(
            WARNING,
            f"The map of at least one of the {count} networks has one value everywhere, so it is "
            "not known whether the maps agree.",
            _EACH_ALONE,
        )
    correlation = flag["Value"]
    text = f"The rank correlation of the maps of the {count} networks is {correlation:.2f}."
    if flag["Flagged"] is None:
        return Message(UNKNOWN, f"{text} {_NO_LIMIT}", _EACH_ALONE)
    if flag["Flagged"]:
        return Message(WARNING, f"{text} This is low.", _EACH_ALONE)
    return Message(FINE, text)


def _exceeds(flag: dict, limit: float) -> bool:
    """Return whether a value is flagged; where no limit is at hand, whether it exceeds `limit`."""
    if flag["Flagged"] is not None:
        return flag["Flagged"]
    return flag["Value"] is not None and flag["Value"] > limit

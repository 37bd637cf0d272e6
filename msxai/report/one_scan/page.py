"""The page of one scan: one HTML file that loads nothing and names nobody."""

import importlib.metadata
import platform
from pathlib import Path

import jinja2
import keras
import numpy as np

from msxai.base import page_policy, provenance
from msxai.base.notices import NOTICE, SYNTHETIC
from msxai.data import images
from msxai.model.training_records import Card
from msxai.quality import self_test
from msxai.quality.one_scan import MAPS, ROW, Explainer, Findings
from msxai.report.one_scan import (
    changes_in_words,
    lesions_in_words,
    pictures,
    regions_in_words,
    reporting,
    viewer,
    warnings_in_words,
)

__all__ = ["MOST_BYTES", "command_of", "notices", "probability", "template", "write"]

MOST_BYTES = 8_000_000
"""Largest page: where all slices would take more, it shows fewer."""

_STEPS = (2, 3, 4)  # every second slice, every third, ...

_PACKAGES = ("keras", "numpy", "scipy", "nibabel", "nilearn", "antspyx")
_ROUTES = {
    "resampled": "The scan was already in MNI space and was only resampled.",
    "affine": "The brain was aligned to the MNI template by an affine transform.",
    "full": "The scan was corrected for the bias field. The brain was extracted and aligned to the "
    "MNI template by an affine transform.",
}


def write(folder, findings: Findings, explainer: Explainer) -> Path:
    """Write the page of one scan, index.html.

    Parameters
    ----------
    folder : path
    findings : Findings
    explainer : Explainer
        What has made the map.

    Returns
    -------
    pathlib.Path
        One file, at most `MOST_BYTES`, that loads nothing from elsewhere. Pictures show the brain
        only. No name of a person or file, no date and no path stands in it.
    """
    text = _text(findings, explainer)
    for step in _STEPS:
        if len(text.encode()) <= MOST_BYTES:
            break
        text = _text(findings, explainer, step)
    path = Path(folder) / "index.html"
    with provenance.replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _text(findings: Findings, explainer: Explainer, step: int = 1) -> str:
    """Return the page; every `step`-th slice is drawn."""
    labels = None if findings.marked is None else findings.marked.labels
    layers = _layers(findings)
    drawn = pictures.draw(layers, labels, step)
    viewed = viewer.build(layers, drawn.scale, labels, findings.prepared.normalisation)
    scripts = {
        "page": page_policy.script("msxai.report", "one_scan.js"),
        "viewer": page_policy.script("msxai.report", "viewer.js"),
    }
    run = list(scripts.values())
    if viewed is not None:
        run.append(viewed.niivue.script)
    return template("one_scan.html").render(
        code=findings.code,
        notices=notices(findings.prepared.synthetic),
        answer=_answer(findings, explainer.cards),
        messages=warnings_in_words.messages(findings, explainer),
        pictures=drawn,
        gradient=pictures.colour_bar(drawn.scale),
        viewer=viewed,
        policy=page_policy.policy(*run),
        scripts=scripts,
        route=_ROUTES[findings.registration["route"]],
        lesions=lesions_in_words.described(findings, drawn.crops),
        not_measured=lesions_in_words.missing(findings) if findings.has_mask else "",
        has_mask=findings.has_mask,
        amounts=lesions_in_words.amounts(findings),
        regions=regions_in_words.described(findings),
        voxel=f"{images.VOXEL_SIZE.mean():.1f}",
        self_test=_self_test(findings),
        self_test_asked=explainer.settings.self_test,
        changes=changes_in_words.described(findings),
        files=[MAPS["MNI152"], MAPS["orig"], "scan_space-MNI152.nii.gz"],
        provenance=_provenance(findings, explainer),
        reporting=reporting.items(explainer.cards).to_dict("records"),
        command=command_of(findings, explainer),
    )


def notices(synthetic: bool) -> str:
    """Return the notices of a page, of simulated scans or of others."""
    return f"{NOTICE} {SYNTHETIC}" if synthetic else NOTICE


def template(name: str) -> jinja2.Template:
    """Return a template of the package; it escapes all values."""
    loader = jinja2.PackageLoader("msxai.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template(name)


def command_of(findings: Findings, explainer: Explainer) -> str:
    """Return the command that makes the page anew, with words in place of paths."""
    settings = explainer.settings
    words = ["msxai explain SCAN"]
    if findings.has_mask:
        words.append("--lesions MASK")
    if findings.prepared.table["brain_mask"].iloc[ROW]:
        words.append("--brain-mask MASK")
    if findings.t1 is not None:
        words.append("--t1 T1")
    if findings.earlier is not None:
        words.append("--before EARLIER")
        if findings.earlier.comparison.before.lesions is not None:
            words.append("--before-lesions MASK")
    if settings.weights:
        words.append("--weights WEIGHTS")
    if settings.self_test:
        words.append("--self-test")
    words.append(f"--rule {settings.explanation.rule} --copies {settings.explanation.copies}")
    words.append("--out DIR")
    return " ".join(words)


def _layers(findings: Findings) -> pictures.Layers:
    """Return what is drawn."""
    prepared = findings.prepared
    return pictures.Layers(
        scan=prepared.image(ROW),
        brain=prepared.brain(ROW),
        relevance=findings.relevance,
        lesions=prepared.lesions(ROW) if findings.has_mask else None,
        t1=findings.t1.image(ROW) if findings.t1 is not None else None,
    )


def _answer(findings: Findings, cards: list[Card]) -> dict:
    """Return what the network says, in words."""
    logits = findings.logits
    spread = ""
    if len(logits) > 1:
        spread = (
            f"The logit is the mean of {len(logits)} networks, whose logits range from "
            f"{min(logits):+.2f} to {max(logits):+.2f}."
        )
    return {
        "logit": f"{findings.logit:+.2f}",
        "probability": probability(findings.probability),
        "kind": "not calibrated",
        "spread": spread,
        "standing": "",
        **_training(cards),
        **_compared(findings),
    }


def _compared(findings: Findings) -> dict:
    """Return the answer beside those of simulated subjects; nothing where none are known."""
    if findings.compared is None:
        return {}
    standing = findings.compared.standing(findings.logit)
    probabilities = findings.probabilities
    scans = standing.patients + standing.controls
    low, high = probability(min(probabilities)), probability(max(probabilities))
    return {
        "kind": "calibrated on simulated subjects",
        "standing": f"Of {standing.patients} simulated scans of patients, "
        f"{standing.patients_below} have a lower logit than this scan. Of {standing.controls} "
        f"simulated scans of controls, {standing.controls_above} have a higher one.",
        "calibration": "The probability is calibrated on simulated subjects: a logistic regression "
        f"on the logits of {scans} scans of subjects that no training has seen, "
        f"{standing.patients / scans:.0%} of them of patients, each as a random scanner would "
        f"show it. By one network alone it is {low} to {high}. It may not hold for people: most "
        "scans of eight people got a probability above 0.5 even with their lesions filled. Do not "
        "read it as the chance of a disease.",
    }


def probability(value: float) -> str:
    """Return a probability in words; 1 and 0 are never reached.

    Examples
    --------
    >>> probability(0.5), probability(0.99999)
    ('0.500', '> 0.999')
    """
    if value > 0.999:
        return "> 0.999"
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}"


def _training(cards: list[Card]) -> dict:
    """Return what the network answers, what it learnt from, and whether it is calibrated."""
    card = cards[0]
    if card.task == "lesions":
        return {
            "question": "Does this brain have lesions like the simulated ones?",
            "trained": _trained_on_simulated_brains(cards),
            "calibration": "The probability is not calibrated on people. It comes from a network "
            "that was trained and selected on simulated scans. Read it as a score from 0 to 1, not "
            "as the chance of a disease.",
        }
    if card.task == "diagnosis":
        question = "Is this scan of a patient, or of a control, of the cohort of the training?"
        cohort = f"the cohort {card.cohort}" if card.cohort else "a cohort"
        kind = card.modality or "of a kind that is not recorded here"
        trained = f"The network was trained on scans of patients and controls of {cohort} ({kind})."
    else:
        question = "This is not recorded."
        trained = "What it was trained on is not recorded."
    return {
        "question": question,
        "trained": trained,
        "calibration": "The probability is not calibrated. It is the sigmoid of the logit (the "
        "mean over networks). Read it as a score from 0 to 1, not as the chance of a disease.",
    }


def _trained_on_simulated_brains(cards: list[Card]) -> str:
    """Return what networks of the task `lesions` learnt from, and how often they were right."""
    pairs = cards[0].parameters.get("simulated_pairs", "simulated")
    subject, pronoun = "The network", "It was"
    if len(cards) > 1:
        subject, pronoun = f"Each of the {len(cards)} networks", "They were"
    trained = f"{subject} learnt from {pairs} simulated brains, each with and without lesions."
    accuracies = [card.accuracy for card in cards if card.accuracy is not None]
    if len(accuracies) < len(cards):
        return trained
    shares = f"{min(accuracies):.0%}"
    if f"{max(accuracies):.0%}" != shares:
        shares = f"{shares} to {max(accuracies):.0%}"
    return (
        f"{trained} {pronoun} right in {shares} of the simulated scans that were used to select "
        "the weights. How often a network is right on scans of people has not been measured."
    )


def _self_test(findings: Findings) -> dict | None:
    """Return the table of painted lesions and sham sites, in words."""
    result = findings.self_test
    if result is None:
        return None
    rows = []
    for row in result.table.to_dict("records"):
        words = {
            "kind": "painted lesion" if row["kind"] == "painted" else "sham site",
            "size": f"{row['size']:.0f}",
            "voxels": f"{row['voxels']:,}",
            "centre": f"{row['x']:.0f}, {row['y']:.0f}, {row['z']:.0f}",
            "change": lesions_in_words.number(row["change"], 3),
            "place": "–",
            "seen": "–",
        }
        if row["kind"] == "painted":
            words["place"] = f"{row['place'] + 1:,.0f}"
            words["seen"] = "yes" if row["seen"] else "no"
        rows.append(words)
    painted = result.table[result.table["kind"] == "painted"]
    return {
        "rows": rows,
        "seen": int(painted["seen"].sum()),
        "painted": len(painted),
        "smallest": _smallest_seen(result),
        "left_out": _left_out(result),
        "contrast": f"{self_test.CONTRAST}",
        "contrast_from": self_test.CONTRAST_FROM,
    }


def _smallest_seen(result: self_test.SelfTest) -> str:
    """Return from which size on the network sees painted lesions."""
    if np.isnan(result.smallest_seen):
        return "It does not even see all of the largest ones."
    return f"It sees all of {result.smallest_seen:.0f} mm and larger."


def _left_out(result: self_test.SelfTest) -> str:
    """Return which sizes were not tested; "" where all were."""
    if not result.left_out:
        return ""
    sizes = " and ".join(f"{size:.0f}" for size in result.left_out)
    return (
        f"Balls of {sizes} mm were left out, because normal white matter of this scan has no room "
        "for them."
    )


def _provenance(findings: Findings, explainer: Explainer) -> list[tuple[str, str]]:
    """Return versions and hashes."""
    table = findings.prepared.table.iloc[ROW]
    entries = [("msxai", provenance.__version__), ("Python", platform.python_version())]
    for package in (keras.config.backend(), *_PACKAGES):
        entries.append((package, importlib.metadata.version(package)))
    entries.append(("SHA-256 of the scan", table["source_sha256"]))
    for column, label in (("lesion_mask", "lesion mask"), ("brain_mask", "brain mask")):
        if table[f"{column}_sha256"]:
            entries.append((f"SHA-256 of the {label}", table[f"{column}_sha256"]))
    if findings.earlier is not None:
        before = findings.earlier.prepared.table.iloc[ROW]
        entries.append(("SHA-256 of the earlier scan", before["source_sha256"]))
        if before["lesion_mask_sha256"]:
            entries.append(("SHA-256 of its lesion mask", before["lesion_mask_sha256"]))
    for card in explainer.cards:
        entries.append(("SHA-256 of the weights", card.sha256))
    return entries

"""Faults planted into the files of a simulated patient: does msxai notice each?

Usage: python benchmarks/planted.py [--write]      (`make proof-planted`; about 15 minutes)

A simulated patient is explained by the networks that the package brings, as `msxai explain` does.
Then one fault at a time is planted: in the scan, in a mask, in a header, in a file, in a map, or in
the weights. The outcome of a fault is

- refused: one sentence instead of a page;
- flagged: the page has a warning, or says that something cannot be known, and does not do so
  without the fault;
- same scan: no new warning, and the network sees the same scan as without the fault (r >= 0.9 over
  the grid), for instance after registration;
- registered: no new warning, and the page says that the scan was brought into MNI space;
- missed: nothing of this;
- crashed: an error that is no message to the user.

Some inputs only look like faults (thick slices, a scan in a 4D file with one volume). These must
give a page. Twenty simulated patients without a fault show how often a warning is a false alarm.

Written beside this file with --write: planted.tsv (kind, fault, expected, outcome, said) and
planted.json. Everything is simulated. A fault of a real scan may look different.
"""

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import simulated_files
from scipy import ndimage
from tqdm import tqdm

from msxai.base import provenance, tsv
from msxai.base.errors import MsxaiError
from msxai.data import images
from msxai.data.single_scans import ScanFiles
from msxai.lrp import heatmaps
from msxai.model import network, shipped
from msxai.quality import one_scan
from msxai.report.one_scan import warnings_in_words

HERE = Path(__file__).parent
SEED = 8101
VOLUME = 3000  # mm3 of lesions: a lesion takes a second
GOOD_SCANS = 20
NOTICED, WORKS, MENDED = "noticed", "works", "mended or noticed"
REFUSED, FLAGGED, SAME, MISSED, CRASHED = "refused", "flagged", "same scan", "missed", "crashed"
REGISTERED = "registered"
EXPECTED = {
    NOTICED: (REFUSED, FLAGGED),
    WORKS: (SAME, FLAGGED, REGISTERED),
    MENDED: (SAME, FLAGGED, REGISTERED),
}
"""Which outcomes are as they should be."""

SAME_SCAN = 0.9  # correlation


@dataclass(frozen=True)
class Volumes:
    """What is written to the three files of a scan.

    Attributes
    ----------
    image : ndarray
    lesions, brain : ndarray or None
        None: no such file.
    affine, mask_affine : ndarray of shape (4, 4)
        Of the image, and of the masks.
    """

    image: np.ndarray
    lesions: np.ndarray | None
    brain: np.ndarray | None
    affine: np.ndarray = field(default_factory=images.AFFINE.copy)
    mask_affine: np.ndarray = field(default_factory=images.AFFINE.copy)


def patient(number: int, **keywords) -> Volumes:
    """Simulate a patient; the same number gives the same person."""
    person = simulated_files.patient(SEED, number, volume=VOLUME, **keywords)
    return Volumes(person.image.astype("float32"), person.lesions, person.brain)


def write(volumes: Volumes, folder: Path) -> ScanFiles:
    """Write the files of a scan."""
    image = simulated_files.write(folder / "image.nii.gz", volumes.image, volumes.affine)
    masks = {"lesions": "", "brain": ""}
    for name in masks:
        values = getattr(volumes, name)
        if values is not None:
            path = folder / f"{name}.nii.gz"
            masks[name] = simulated_files.write(path, values, volumes.mask_affine)
    return ScanFiles(image, masks["lesions"], masks["brain"])


# Faults of the scan


def shifted(volumes: Volumes) -> Volumes:
    """The header of the scan says 10 mm too far to the right."""
    affine = volumes.affine.copy()
    affine[0, 3] += 10
    return replace(volumes, affine=affine)


def all_shifted(volumes: Volumes) -> Volumes:
    """All headers say 20 mm too far to the front."""
    affine = volumes.affine.copy()
    affine[1, 3] += 20
    return replace(volumes, affine=affine, mask_affine=affine)


def mirrored(volumes: Volumes) -> Volumes:
    """Left and right of the scan are swapped, not those of the masks."""
    return replace(volumes, image=volumes.image[::-1])


def upside_down(volumes: Volumes) -> Volumes:
    """Scan and masks are upside down."""
    return replace(
        volumes,
        image=volumes.image[:, :, ::-1],
        lesions=volumes.lesions[:, :, ::-1],
        brain=volumes.brain[:, :, ::-1],
    )


def front_to_back(volumes: Volumes) -> Volumes:
    """Scan and masks are turned by 180 degrees about the vertical axis."""
    return replace(
        volumes,
        image=volumes.image[::-1, ::-1],
        lesions=volumes.lesions[::-1, ::-1],
        brain=volumes.brain[::-1, ::-1],
    )


def as_t1(volumes: Volumes) -> Volumes:
    """The T1-weighted scan of the same person."""
    return replace(volumes, image=patient(0, modality="T1w").image)


def inverted(volumes: Volumes) -> Volumes:
    """Bright is dark and dark is bright."""
    top = volumes.image[volumes.brain].max()
    image = np.where(volumes.brain, top - volumes.image, 0)
    return replace(volumes, image=image)


def half_a_brain(volumes: Volumes) -> Volumes:
    """The left half is missing in scan and masks."""
    half = volumes.image.shape[0] // 2
    kept = np.zeros(volumes.image.shape, bool)
    kept[half:] = True
    return replace(
        volumes,
        image=volumes.image * kept,
        lesions=volumes.lesions & kept,
        brain=volumes.brain & kept,
    )


def ghosts(volumes: Volumes) -> Volumes:
    """Motion: 40 % of the scan once more, a quarter of the field of view away, on both sides."""
    step = volumes.image.shape[1] // 4
    ghost = np.roll(volumes.image, step, axis=1) + np.roll(volumes.image, -step, axis=1)
    image = (volumes.image + 0.4 * ghost) * volumes.brain
    return replace(volumes, image=image)


def noisy(volumes: Volumes) -> Volumes:
    """Noise as strong as the differences between tissues."""
    rng = np.random.default_rng(SEED)
    noise = rng.normal(scale=volumes.image[volumes.brain].std(), size=volumes.image.shape)
    return replace(volumes, image=(volumes.image + noise) * volumes.brain)


def blurred(volumes: Volumes) -> Volumes:
    """A blur of 10 mm."""
    width = 10 / (2.355 * images.AFFINE[1, 1])
    image = ndimage.gaussian_filter(volumes.image, width) * volumes.brain
    return replace(volumes, image=image)


def clipped(volumes: Volumes) -> Volumes:
    """Everything above the median has one value."""
    middle = np.median(volumes.image[volumes.brain])
    return replace(volumes, image=np.minimum(volumes.image, middle))


def constant(volumes: Volumes) -> Volumes:
    """The scan has one value."""
    return replace(volumes, image=np.where(volumes.brain, 5.0, 0))


def missing_values(volumes: Volumes) -> Volumes:
    """A hundred voxels of the brain are not finite."""
    image = volumes.image.copy()
    places = np.argwhere(volumes.brain)[:100]
    image[tuple(places.T)] = np.nan
    return replace(volumes, image=image)


def two_volumes(volumes: Volumes) -> Volumes:
    """A 4D file with two volumes."""
    return replace(volumes, image=np.stack([volumes.image] * 2, axis=-1))


def in_metres(volumes: Volumes) -> Volumes:
    """The header has metres where it says millimetres."""
    affine = volumes.affine.copy()
    affine[:3] /= 1000
    return replace(volumes, affine=affine, mask_affine=affine)


# Faults of the masks


def mask_of_another(volumes: Volumes) -> Volumes:
    """The lesion mask of another patient."""
    return replace(volumes, lesions=patient(1).lesions)


def empty_mask(volumes: Volumes) -> Volumes:
    """The lesion mask of a patient is empty."""
    return replace(volumes, lesions=np.zeros_like(volumes.lesions))


def whole_brain_as_mask(volumes: Volumes) -> Volumes:
    """The lesion mask is the brain mask."""
    return replace(volumes, lesions=volumes.brain)


def mask_shifted(volumes: Volumes) -> Volumes:
    """The lesion mask lies 10 voxels too far to the front."""
    return replace(volumes, lesions=np.roll(volumes.lesions, 10, axis=1))


def brain_mask_empty(volumes: Volumes) -> Volumes:
    """The brain mask is empty."""
    return replace(volumes, brain=np.zeros_like(volumes.brain))


def brain_mask_small(volumes: Volumes) -> Volumes:
    """The brain mask lacks 15 voxels at its edge."""
    return replace(volumes, brain=ndimage.binary_erosion(volumes.brain, iterations=15))


# What only looks like a fault


def thick_slices(volumes: Volumes) -> Volumes:
    """A stack of slices of 5.7 mm: three voxels of the grid."""
    slices = volumes.image.shape[2] // 3
    stack = volumes.image[:, :, : 3 * slices].reshape(*volumes.image.shape[:2], slices, 3).mean(3)
    affine = volumes.affine.copy()
    affine[:3, 3] += affine[:3, 2]  # the middle of the first three
    affine[:3, 2] *= 3
    return replace(volumes, image=stack, affine=affine)


def one_volume(volumes: Volumes) -> Volumes:
    """A 4D file with one volume."""
    return replace(volumes, image=volumes.image[..., None])


def scaled(volumes: Volumes) -> Volumes:
    """Brightness in other units."""
    return replace(volumes, image=volumes.image * 731.0 + 0.0)


def other_axes(volumes: Volumes) -> Volumes:
    """Voxels in another order, and a header that says so."""
    turned = {}
    for name in ("image", "lesions", "brain"):
        turned[name] = getattr(volumes, name).transpose(2, 0, 1)[::-1]
    affine = volumes.affine[:, [2, 0, 1, 3]].copy()
    last = turned["image"].shape[0] - 1
    affine[:3, 3] += affine[:3, 0] * last
    affine[:3, 0] *= -1
    return replace(volumes, **turned, affine=affine, mask_affine=affine)


VOLUME_FAULTS = (
    (NOTICED, shifted),
    (MENDED, all_shifted),
    (NOTICED, mirrored),
    (NOTICED, upside_down),
    (NOTICED, front_to_back),
    (NOTICED, as_t1),
    (NOTICED, inverted),
    (NOTICED, half_a_brain),
    (NOTICED, ghosts),
    (NOTICED, noisy),
    (NOTICED, blurred),
    (NOTICED, clipped),
    (NOTICED, constant),
    (NOTICED, missing_values),
    (NOTICED, two_volumes),
    (NOTICED, in_metres),
    (NOTICED, mask_of_another),
    (NOTICED, empty_mask),
    (NOTICED, whole_brain_as_mask),
    (NOTICED, mask_shifted),
    (NOTICED, brain_mask_empty),
    (NOTICED, brain_mask_small),
    (WORKS, thick_slices),
    (WORKS, one_volume),
    (WORKS, scaled),
    (WORKS, other_axes),
)


# Faults of a file


def cut_short(path: Path) -> None:
    """The file of the scan ends early."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def not_nifti(path: Path) -> None:
    """The file of the scan is a text."""
    path.write_text("no scan")


FILE_FAULTS = (cut_short, not_nifti)


# Faults of maps and networks


@dataclass(frozen=True)
class DoubledMaps(heatmaps.Settings):
    """Maps with twice the relevance."""

    def explain(self, model, scans):
        """Explain, then double."""
        explanation = super().explain(model, scans)
        return replace(explanation, relevance=explanation.relevance * 2)


@dataclass(frozen=True)
class ForeignMaps(heatmaps.Settings):
    """Maps of another network than the one that gives the logits."""

    path: str = ""

    def explain(self, model, scans):
        """Explain the other network."""
        other = network.restore(self.path)
        explanation = super().explain(model, scans)
        return replace(explanation, relevance=super().explain(other, scans).relevance)


def changed_weights(folder: Path, change: Callable) -> str:
    """Write weights in which something is wrong."""
    with np.load(shipped.weights()[0]) as arrays:
        content = dict(arrays)
    change(content)
    path = folder / "weights.npz"
    np.savez(path, **content)
    return str(path)


def other_width(content: dict) -> None:
    """One layer is of a network of another width."""
    name = sorted(name for name, values in content.items() if values.ndim == 5)[1]
    content[name] = content[name][..., :8]


def not_finite(content: dict) -> None:
    """A weight is not finite."""
    name = next(name for name, values in content.items() if values.ndim == 5)
    content[name] = content[name].copy()
    content[name].flat[0] = np.nan


def random_weights(content: dict) -> None:
    """Weights that nobody has trained."""
    rng = np.random.default_rng(SEED)
    for name, values in content.items():
        content[name] = rng.normal(scale=values.std() + 1e-3, size=values.shape).astype("float32")


WEIGHT_FAULTS = (other_width, not_finite, random_weights)


@dataclass(frozen=True)
class Page:
    """What matters of a scan's page.

    Attributes
    ----------
    warnings : dict
        What to do about a warning (the same words for each scan) to its text.
    scan : ndarray
        What the network sees.
    route : str
        How the scan came into MNI space.
    """

    warnings: dict
    scan: np.ndarray
    route: str


def page_of(explainer, files: ScanFiles, folder: Path) -> Page:
    """Explain a scan as `msxai explain` does; its warnings, and what the network saw."""
    findings = explainer.explain(files, folder, lambda text: None)
    collected = {}
    for message in warnings_in_words.messages(findings, explainer):
        counts = message.level == warnings_in_words.WARNING
        counts |= message.level == warnings_in_words.UNKNOWN and bool(message.action)
        if counts:
            collected[message.action] = message.text
    scan = findings.prepared.image(one_scan.ROW)
    route = findings.registration["route"]
    findings.prepared.close()
    return Page(collected, scan, route)


def page_with(settings: one_scan.Settings, files: ScanFiles, folder: Path) -> Page:
    """Load networks, then explain a scan."""
    return page_of(one_scan.Explainer(settings), files, folder)


def outcome_of(make: Callable, clean: Page) -> tuple[str, str]:
    """What happens with a fault, and what is said about it.

    Parameters
    ----------
    make : callable
        Explains the scan with the fault; its `Page`.
    clean : Page
        Of the scan without the fault.
    """
    try:
        page = make()
    except MsxaiError as error:
        return REFUSED, str(error)
    except Exception as error:
        return CRASHED, f"{type(error).__name__}: {error}"
    new = [text for action, text in page.warnings.items() if action not in clean.warnings]
    if new:
        return FLAGGED, " ".join(new)
    agreement = np.corrcoef(page.scan.ravel(), clean.scan.ravel())[0, 1]
    if agreement >= SAME_SCAN:
        return SAME, ""
    if page.route != clean.route:
        return REGISTERED, f"route {page.route}"
    return MISSED, f"correlation with the scan without the fault {agreement:.2f}"


def name_of(fault: Callable) -> str:
    """The first sentence of a fault's description."""
    return fault.__doc__.splitlines()[0].rstrip(".")


def row_of(kind: str, fault: str, expected: str, outcome: tuple[str, str], folder: Path) -> dict:
    """A row of the table, without the paths of this machine."""
    result, said = outcome
    said = said.replace(str(folder), "FOLDER").replace(str(shipped.folder()), "WEIGHTS")
    said = re.sub(r"FOLDER/tmp\w+", "FOLDER", said)  # another name at each run
    return {
        "kind": kind,
        "fault": fault,
        "expected": expected,
        "outcome": result,
        "as_expected": result in EXPECTED[expected],
        "said": said,
    }


def planted(explainer, folder: Path) -> list[dict]:
    """Plant each fault; one row for each."""
    volumes = patient(0)
    rows = []
    clean = page_of(explainer, write(volumes, _new(folder)), _new(folder))

    def add(kind, fault, expected, make):
        outcome = outcome_of(make, clean)
        rows.append(row_of(kind, fault, expected, outcome, folder))
        print(f"{rows[-1]['outcome']:9} {fault}: {rows[-1]['said'][:140]}", flush=True)

    for expected, fault in VOLUME_FAULTS:
        files = write(fault(volumes), _new(folder))
        explained = partial(page_of, explainer, files, _new(folder))
        add("scan and masks", name_of(fault), expected, explained)
    for fault in FILE_FAULTS:
        files = write(volumes, _new(folder))
        fault(Path(files.image))
        add("file", name_of(fault), NOTICED, partial(page_of, explainer, files, _new(folder)))
    files = write(volumes, _new(folder))
    untrained = changed_weights(_new(folder), random_weights)
    for maps in (DoubledMaps("epsilon_gamma"), ForeignMaps("epsilon_gamma", path=untrained)):
        settings = one_scan.Settings(explanation=maps)
        explained = partial(page_with, settings, files, _new(folder))
        add("map", name_of(type(maps)), NOTICED, explained)
    for fault in WEIGHT_FAULTS:
        settings = one_scan.Settings(weights=(changed_weights(_new(folder), fault),))
        explained = partial(page_with, settings, files, _new(folder))
        add("weights", name_of(fault), NOTICED, explained)
    return rows


def false_alarms(explainer, folder: Path) -> list[dict]:
    """Count the warnings of simulated patients without a fault."""
    counts = Counter()
    for number in tqdm(range(GOOD_SCANS), desc="without a fault", unit="scan"):
        files = write(patient(100 + number), _new(folder))
        counts.update(page_of(explainer, files, _new(folder)).warnings.keys())
    rows = []
    for action, count in counts.most_common():
        rows.append(
            {
                "kind": "without a fault",
                "fault": f"{count} of {GOOD_SCANS} scans",
                "expected": "",
                "outcome": "warning",
                "as_expected": pd.NA,
                "said": action,
            }
        )
    return rows


def _new(folder: Path) -> Path:
    """Make a new folder."""
    return Path(tempfile.mkdtemp(dir=folder))


def main() -> None:
    """Plant, count, print, and write with --write."""
    parser = argparse.ArgumentParser(description="Does msxai notice planted faults?")
    parser.add_argument("--write", action="store_true", help="write planted.tsv and planted.json")
    options = parser.parse_args()
    network.configure(0, 1)
    explainer = one_scan.Explainer(one_scan.Settings())
    with tempfile.TemporaryDirectory() as folder:
        rows = planted(explainer, Path(folder))
        rows += false_alarms(explainer, Path(folder))
    table = pd.DataFrame(rows)
    faults = table[table["expected"] != ""]
    right = int(faults["as_expected"].sum())
    print(faults["outcome"].value_counts().to_string())
    print(f"{right} of {len(faults)} as expected")
    if options.write:
        tsv.write(table, HERE / "planted.tsv")
        parameters = {"seed": SEED, "volume": VOLUME, "good_scans": GOOD_SCANS}
        record = provenance.record(parameters, shipped.weights(), [HERE / "planted.tsv"])
        provenance.write_json(HERE / "planted.json", record)


if __name__ == "__main__":
    main()

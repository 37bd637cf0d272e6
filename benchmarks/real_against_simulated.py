"""Where do simulated and real FLAIR differ, and do the random scanners of training cover it?

Usage: python benchmarks/real_against_simulated.py      (make proof-real-against-simulated; about
8 minutes)

Real: the eight patients of benchmarks/real.py, two of Ljubljana (slices of 1 mm, already in MNI
space) and six of Tabriz (raw heads, slices of 5 to 6 mm). Simulated: 30 patients of a seed that no
other cohort has, as they are, and the same as `msxai.model.acquisition.rescanned` shows them. All
are prepared alike. Measured are `scan_properties.MEASURES`; four more by
../shared/tools/flair_realism.py; and the thickness of slices, of the file (real and simulated) or
drawn (random scanners).

Written beside this file, numbers alone: real_against_simulated.tsv, one row a measure, and
real_against_simulated.json. Columns:

- real, Ljubljana, Tabriz, simulated, randomised: mean over scans, and `_sd`;
- gap: real mean minus simulated mean, in standard deviations of the simulated scans;
- d, d_randomised: the same difference in pooled standard deviations (Cohen's d; the mean of both
  variances), from the simulated scans as they are, and as random scanners show them;
- low, high: 5 % and 95 % quantile of the randomised scans; covered: whether the real mean lies
  between them; patients_covered: how many of the real patients do.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import phantom_realism
import real
import scan_properties
from scan_properties import View
from tqdm import tqdm

from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data import images
from msxai.data.synthetic import phantom
from msxai.model import acquisition

HERE = Path(__file__).parent
TABLE = HERE / "real_against_simulated.tsv"
SEED = 9203
PATIENTS, SUBJECTS = 30, 58  # of 58 subjects of a simulated cohort 30 are patients
SIMULATED, RANDOMISED = "simulated", "randomised"
TOOL = {
    "tool_lesion_z": "lesions, mean (z)",
    "tool_z99_5": "99.5 % quantile of the brain (z)",
    "tool_above95": "share of lesions above the 95 % quantile",
    "tool_auprc": "brightness finds lesions: AUPRC",
}
TOOL_COLUMNS = ("share", "lesion_z", "z95", "z99_5", "above95", "auprc", "cv")
BY_TOOL = "by flair_realism.py"
THICKNESS = "thickness"  # from one slice to the next, gaps included
MEASURES = {
    **scan_properties.MEASURES,
    THICKNESS: (scan_properties.TEXTURE, "distance between slices (mm)"),
    **{name: (BY_TOOL, words) for name, words in TOOL.items()},
}
OFFSET = 6.0  # added to z-scores for the tool, which takes voxels far below the mean for air
COVERED = (0.05, 0.95)  # quantiles of the randomised scans


def measured(view: View, thickness: float, tool, folder: Path) -> dict:
    """All measures of one scan."""
    return {
        **scan_properties.measure(view),
        THICKNESS: thickness,
        **measured_by_tool(view, tool, folder),
    }


def measured_by_tool(view: View, tool, folder: Path) -> dict:
    """The measures of `TOOL`, by the tool that defines them for files."""
    scan, mask = folder / "flair.nii", folder / "lesions.nii"
    shown = np.where(view.brain, view.image + OFFSET, 0).astype("float32")
    nib.save(nib.Nifti1Image(shown, images.AFFINE), scan)
    nib.save(nib.Nifti1Image(view.lesions.astype("uint8"), images.AFFINE), mask)
    by_column = dict(zip(TOOL_COLUMNS, tool.row(scan, mask), strict=True))
    return {name: float(by_column[name.removeprefix("tool_")]) for name in TOOL}


def real_rows(tool, folder: Path) -> list[dict]:
    """Measures of the real patients."""
    scans = real.scans_of(real.DATA)
    prepared = real.prepared_scans(scans, Results("runs/proof"))
    rows = []
    for row, scan in enumerate(tqdm(scans, desc="real", unit="scan")):
        brain = prepared.brain(row)
        view = View(prepared.image(row), brain, prepared.lesions(row) & brain)
        thickness = float(max(nib.load(scan.image).header.get_zooms()[:3]))
        rows.append({"scans": scan.site, **measured(view, thickness, tool, folder)})
    return rows


def simulated_rows(tool, folder: Path, patients: int = PATIENTS) -> list[dict]:
    """Measures of simulated patients, as they are and by random scanners."""
    people = phantom.draw_people("ms", SUBJECTS, SEED)
    ill = [person for person in people if person.participant["group"] == "MS"]
    rows = []
    for number, person in enumerate(tqdm(ill[:patients], desc="simulated", unit="scan")):
        subject = person.scan()
        image = images.normalise(subject.image, subject.brain)
        lesions = subject.lesions & subject.brain
        view = View(image, subject.brain, lesions)
        thickness = float(max(images.VOXEL_SIZE))
        rows.append({"scans": SIMULATED, **measured(view, thickness, tool, folder)})
        view, thickness = rescanned(image, lesions, np.random.default_rng([SEED, number]))
        rows.append({"scans": RANDOMISED, **measured(view, thickness, tool, folder)})
    return rows


def rescanned(image, lesions, rng: np.random.Generator) -> tuple[View, float]:
    """Show a simulated scan as a random scanner would; with the thickness of its slices (mm)."""
    scanner = acquisition.draw(rng)
    shown = acquisition.scanned(image, scanner, rng)
    brain = shown != 0
    shown = images.normalise(shown, brain)
    thickness = max(scanner.thickness, *images.VOXEL_SIZE)
    return View(shown, brain, lesions & brain), float(thickness)


def table_of(scans: pd.DataFrame) -> pd.DataFrame:
    """One row a measure.

    Parameters
    ----------
    scans : pandas.DataFrame
        One row a scan: scans (the centre, `SIMULATED` or `RANDOMISED`) and the measures.
    """
    centres = [name for name in scans["scans"].unique() if name not in (SIMULATED, RANDOMISED)]
    of_kind = {
        "real": scans["scans"].isin(centres),
        **{centre: scans["scans"] == centre for centre in centres},
        SIMULATED: scans["scans"] == SIMULATED,
        RANDOMISED: scans["scans"] == RANDOMISED,
    }
    rows = []
    for measure, (group, words) in MEASURES.items():
        values = {kind: scans.loc[members, measure].dropna() for kind, members in of_kind.items()}
        row = {"measure": measure, "group": group, "words": words}
        for kind, of_scans in values.items():
            row[kind] = of_scans.mean()
            row[f"{kind}_sd"] = of_scans.std()
        patients, plain, random = values["real"], values[SIMULATED], values[RANDOMISED]
        row["gap"] = _ratio(patients.mean() - plain.mean(), plain.std())
        row["d"] = cohen(patients, plain)
        row["d_randomised"] = cohen(patients, random)
        low, high = random.quantile(COVERED)
        row |= {"low": low, "high": high}
        row["covered"] = bool(low <= patients.mean() <= high)
        row["patients_covered"] = int(patients.between(low, high).sum())
        row["patients"] = len(patients)
        rows.append(row)
    return pd.DataFrame(rows)


def cohen(first, second) -> float:
    """Difference of means over the root of the mean variance; NaN where nothing varies."""
    return _ratio(first.mean() - second.mean(), np.sqrt((first.var() + second.var()) / 2))


def _ratio(difference: float, spread: float) -> float:
    return difference / spread if spread > 1e-9 else np.nan


def main() -> None:
    """Measure and write."""
    tool = phantom_realism.flair_realism()
    with tempfile.TemporaryDirectory() as name:
        rows = real_rows(tool, Path(name))
        rows += simulated_rows(tool, Path(name))
    table = table_of(pd.DataFrame(rows))
    order = table["d"].abs().sort_values(ascending=False).index
    columns = ["measure", "real", SIMULATED, RANDOMISED, "gap", "d", "d_randomised", "covered"]
    print(table.loc[order, columns].round(3).to_string())
    tsv.write(table, TABLE, float_format="%.4g")
    parameters = {"seed": SEED, "patients": PATIENTS, "covered": list(COVERED)}
    provenance.write_json(
        TABLE.with_suffix(".json"), provenance.record(parameters, outputs=[TABLE])
    )


if __name__ == "__main__":
    main()

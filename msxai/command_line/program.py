"""The commands of `msxai` and their arguments.

Exit codes: 0 all is done; 1 some scans could not be used; 2 the input was refused, or the results
cannot be written, and nothing half-written is left; 3 the program failed.
"""

import argparse
import math
import re
import sys
import tempfile
from pathlib import Path

import pandas as pd

from msxai.base import given_paths, provenance
from msxai.base.errors import MsxaiError, ParameterError, in_place_of_file
from msxai.base.parameters import one_of
from msxai.command_line import home, notebook_runs
from msxai.data import image_files, scan_folders, single_scans
from msxai.lrp import rules

__all__ = [
    "COMMANDS",
    "DONE",
    "ERROR",
    "FAILED",
    "PROGRAM_ERROR",
    "REFUSED",
    "SOME_FAILED",
    "main",
    "parser",
]

DONE, SOME_FAILED, REFUSED, PROGRAM_ERROR = 0, 1, 2, 3
"""Exit codes."""

FAILED, ERROR = "failed", "error"
"""Status of a scan in the table that could not be used, and of one at which the program failed
(those of `msxai.report.one_scan.batch`, which takes long to import).
"""

COMMANDS = ("explain", "score", "fill", "simulate")
"""Names of all commands."""

_RULE = "epsilon_gamma"
_MOST_COPIES = 1458  # that differ: 9 shifts along each of three axes, mirrored or not
_LONGEST = 40  # characters of a wrong number that a message shows
_OF_ONE_SCAN = ("--lesions", "--t1")  # scans may share a template's brain mask, or a first visit
_MOST_JOBS = 1000  # more is a slip of the keyboard
_EXPLAIN = """\
Example:
  msxai explain flair.nii.gz --lesions lesions.nii.gz --out explained

Then open explained/index.html in a browser. This is research software. It is not for clinical use.
"""

_SCORE = """\
Example:
  msxai score maps.npy masks.npy --brain brains.npy --out scores

Then open scores/fig_scores.png.
"""
_FILL = """\
Example:
  msxai fill flair.nii.gz lesions.nii.gz -o filled.nii.gz
"""
_SIMULATE = """\
Example:
  msxai simulate --subjects 4 --out simulated

The folder is a BIDS dataset: simulated/sub-001/anat/sub-001_FLAIR.nii.gz and so on.
"""


def main(arguments=None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line; by default those of this process.

    Returns
    -------
    int
        Exit code.
    """
    options = parser().parse_args(arguments)
    try:
        with home.writable_folders():
            return options.run(options)
    except (MsxaiError, notebook_runs.Refused) as error:
        print(f"msxai {options.command}: {error}", file=sys.stderr)
        return REFUSED
    except notebook_runs.NotebookFailed as error:
        print(f"msxai {options.command}: {error}", file=sys.stderr)
        return PROGRAM_ERROR


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    program = _Parser(
        prog="msxai",
        description="Explain what a 3D network says about a brain scan. Not for clinical use.",
    )
    program.add_argument("--version", action="version", version=f"msxai {provenance.__version__}")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
    _add_score(commands)
    _add_fill(commands)
    _add_simulate(commands)
    return program


def _whole(text: str) -> int:
    """Return a whole number of digits from 0 to 9; int alone takes 1_0 and digits of any script."""
    if re.fullmatch(r"[+-]?[0-9]{1,40}", text):
        return int(text)
    shown = ascii(text) if len(text) <= _LONGEST else f"a text of {len(text)} characters"
    raise argparse.ArgumentTypeError(f"found {shown}; expected a whole number such as 2")


class _Parser(argparse.ArgumentParser):
    """A parser that refuses in one sentence."""

    def error(self, message):
        """Print what is wrong, and end with the exit code of a refusal."""
        self.exit(REFUSED, f"{self.prog}: {message}. Help: {self.prog} --help\n")


def _add_explain(commands) -> None:
    """Add `msxai explain`."""
    explain = commands.add_parser(
        "explain",
        help="what does the network say about a scan, and does it use the lesions?",
        description="Write a page, maps in two spaces and a table of lesions for each scan.",
        epilog=_EXPLAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.set_defaults(run=_explain)
    add = explain.add_argument
    kinds = "FLAIR (NIfTI), raw or preprocessed; a folder of them; or a BIDS dataset"
    add("scans", nargs="+", metavar="SCAN", help=kinds)
    several = {"nargs": "+", "default": []}
    add("--lesions", **several, metavar="MASK", help="a lesion mask for each scan")
    add("--brain-mask", **several, metavar="MASK", help="a brain mask for each scan")
    add(
        "--t1",
        **several,
        metavar="T1",
        help="a T1 of the same visit for each scan, shown on the page",
    )
    add(
        "--before",
        **several,
        metavar="EARLIER",
        help="an earlier FLAIR of the same person for each scan: what has changed?",
    )
    add("--before-lesions", **several, metavar="MASK", help="a lesion mask for each earlier scan")
    add("--weights", **several, metavar="FILE", help="weights (.npz) of networks that you trained")
    add("--rule", default=_RULE, help=f"rule of LRP (default {_RULE})")
    copies = "shifted and mirrored copies to average (default 1)"
    add("--copies", type=_whole, default=1, help=copies)
    add("--jobs", type=_whole, default=1, help="scans at the same time (default 1)")
    add("--self-test", action="store_true", help="paint lesions of known size into each scan")
    add(
        "--resume",
        action="store_true",
        help="skip scans that were explained before and are unchanged",
    )
    add("--out", required=True, metavar="DIR", help="folder of the results")


def _add_score(commands) -> None:
    """Add `msxai score`."""
    score = commands.add_parser(
        "score",
        help="do heatmaps of any program find the lesions?",
        description="Score maps of any program against lesion masks, with baselines.",
        epilog=_SCORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    score.set_defaults(run=_score)
    kinds = "an array (.npy) of shape (N, X, Y, Z), a NIfTI file, or a folder of NIfTI files"
    score.add_argument("maps", metavar="MAPS", help=kinds)
    score.add_argument(
        "masks", metavar="MASKS", help="lesion masks, given in the same way and order"
    )
    score.add_argument("--brain", metavar="BRAINS", help="brain masks, in the same way")
    score.add_argument(
        "--scan",
        metavar="SCANS",
        help="scans; adds the baselines brightness and edges, and gives the brain without --brain",
    )
    score.add_argument("--out", required=True, metavar="DIR", help="folder of the results")


def _add_fill(commands) -> None:
    """Add `msxai fill`."""
    fill = commands.add_parser(
        "fill",
        help="what does a scan look like without its lesions?",
        description="Fill lesions with tissue that resembles the white matter around them.",
        epilog=_FILL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fill.set_defaults(run=_fill)
    fill.add_argument("scan", metavar="SCAN", help="FLAIR (NIfTI), raw or preprocessed")
    fill.add_argument("mask", metavar="MASK", help="its lesion mask")
    fill.add_argument("--brain-mask", metavar="MASK", help="its brain mask")
    fill.add_argument("--seed", type=_whole, default=0, help="seed of the filling (default 0)")
    fill.add_argument("-o", "--out", required=True, metavar="FILLED", help="file to write")


def _add_simulate(commands) -> None:
    """Add `msxai simulate`."""
    simulate = commands.add_parser(
        "simulate",
        help="simulated scans with known lesions, to try the other commands on",
        description="Simulate patients with multiple sclerosis and controls (FLAIR, BIDS).",
        epilog=_SIMULATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulate.set_defaults(run=_simulate)
    simulate.add_argument(
        "--subjects",
        type=_whole,
        default=4,
        help="number of subjects, at least 4 (default 4)",
    )
    simulate.add_argument(
        "--seed",
        type=_whole,
        default=1,
        help="another seed gives other subjects (default 1)",
    )
    simulate.add_argument("--jobs", type=_whole, default=1, help="parallel processes (default 1)")
    simulate.add_argument("--out", required=True, metavar="DIR", help="new folder of the dataset")


def _score(options: argparse.Namespace) -> int:
    """Run notebook 11 on the maps."""
    given = {
        "maps": ("MAPS", options.maps),
        "masks": ("MASKS", options.masks),
        "brains": ("--brain", options.brain),
        "scans": ("--scan", options.scan),
    }
    parameters = {}
    for name, (option, path) in given.items():
        parameters[name] = ""
        if path is None:
            continue
        (parameters[name],) = _absolute(option, [path])
        if not Path(parameters[name]).exists():
            kinds = "a .npy file, a NIfTI file or a folder"
            raise ParameterError(path, "no such file", kinds, "Check the path.")
    if options.brain is None and options.scan is None:
        raise ParameterError(
            "--brain",
            "neither brain masks nor scans",
            "--brain or --scan: all measures compare voxels of the brain",
            "Give brain masks, or scans without the skull.",
        )
    (out,) = map(Path, _absolute("--out", [options.out]))
    _check_writable(out)
    notebook_runs.run("11_score_maps", parameters | {"out": str(out)}, out)
    print(f"{out / 'ranking.tsv'}: means with 95 % intervals. The figure is fig_scores.png.")
    return DONE


def _fill(options: argparse.Namespace) -> int:
    """Fill the lesions of a scan; say whether the filling looks like white matter."""
    from msxai.data import filled_scan  # registration takes long to import

    _check_between("--seed", options.seed, 0)
    (scan,) = _absolute("SCAN", [options.scan])
    (mask,) = _absolute("MASK", [options.mask])
    (out,) = _absolute("-o", [options.out])
    if not out.endswith((".nii", ".nii.gz")):
        raise ParameterError(
            f"-o {options.out}", "another ending", ".nii or .nii.gz", "Change the ending."
        )
    brain_mask = None
    if options.brain_mask is not None:
        (brain_mask,) = _absolute("--brain-mask", [options.brain_mask])
    _check_no_input(f"-o {options.out}", out, [scan, mask, brain_mask])
    _check_writable(Path(out).parent)
    check = filled_scan.fill_scan(scan, mask, out, brain_mask=brain_mask, seed=options.seed)
    print(f"{out}: {check.changed_voxels} voxels filled")
    print(
        f"Mean of the lesions minus mean of white matter, in standard deviations of white matter: "
        f"{check.shift_before:+.2f} before filling, {check.shift:+.2f} after filling. Standard "
        f"deviation of the filled tissue, divided by that of white matter: {check.spread:.2f}."
    )
    if not check.passed:
        print(
            "msxai fill: warning: the filled tissue differs from white matter. Look at the result.",
            file=sys.stderr,
        )
    return DONE


def _simulate(options: argparse.Namespace) -> int:
    """Write simulated people."""
    from msxai.data.synthetic import phantom

    (out,) = map(Path, _absolute("--out", [options.out]))
    if out.exists():
        raise ParameterError(
            f"--out {out}", "an existing path", "a new folder", "Choose another name."
        )
    _check_between("--jobs", options.jobs, 1, _MOST_JOBS)
    _check_between("--seed", options.seed, 0)
    _check_writable(out)
    phantom.write_cohort("ms", out, options.subjects, options.seed, options.jobs)
    print(f"{out}: {options.subjects} simulated subjects. Lesion masks are in derivatives/.")
    return DONE


def _explain(options: argparse.Namespace) -> int:
    """Run notebook 10 on the scans."""
    one_of("--rule", options.rule, rules.NAMES)
    _check_between("--copies", options.copies, 1, _MOST_COPIES)
    _check_between("--jobs", options.jobs, 1, _MOST_JOBS)
    files = _scans_of(options)
    scans = [scan.image for scan in files]
    single_scans.folder_names(scans)
    if len(files) == 1:  # of several, a bad one does not stop the others
        (only,) = files
        for path in only.given.values():
            image_files.opened(path)
    weights = _absolute("--weights", options.weights)
    _check_files("--weights", weights)
    (out,) = map(Path, _absolute("--out", [options.out]))
    _check_writable(out)
    parameters = {
        "scans": scans,
        "lesion_masks": _all_or_none([scan.lesion_mask for scan in files]),
        "brain_masks": _all_or_none([scan.brain_mask for scan in files]),
        "t1_scans": _all_or_none([scan.t1 for scan in files]),
        "before_scans": _all_or_none([scan.before for scan in files]),
        "before_lesion_masks": _all_or_none([scan.before_lesion_mask for scan in files]),
        "weights": weights,
        "rule": options.rule,
        "tta_copies": options.copies,
        "out": str(out),
        "self_test": options.self_test,
        "jobs": options.jobs,
        "resume": options.resume,
    }
    notebook_runs.run("10_one_scan", parameters, out)
    return _summary(out)


def _scans_of(options: argparse.Namespace) -> list[single_scans.ScanFiles]:
    """Return the files of each scan; those of a folder are looked for."""
    paths = _absolute("SCAN", options.scans)
    folders = [path for path in paths if Path(path).is_dir()]
    given = {
        "--lesions": options.lesions,
        "--brain-mask": options.brain_mask,
        "--t1": options.t1,
        "--before": options.before,
        "--before-lesions": options.before_lesions,
    }
    if not folders:
        lists = [_absolute(option, values) for option, values in given.items()]
        scans = single_scans.list_scans(paths, *lists)
        for option, files in zip(given, lists, strict=True):
            if option in _OF_ONE_SCAN:
                _note_repeated(option, files)
        return scans
    for option, values in given.items():
        if values:
            raise ParameterError(
                option,
                f"{len(values)} files beside the folder {folders[0]}",
                "this option beside files only",
                "Name the scans in place of the folder. Masks of a BIDS dataset are found by their "
                "names.",
            )
    scans = []
    for path in paths:
        if path not in folders:
            scans += single_scans.list_scans([path])
            continue
        of_folder = scan_folders.scans_of(path)
        scans += of_folder.scans
        for note in of_folder.notes:
            print(f"msxai explain: {note}", file=sys.stderr)
    masks = sum(bool(scan.lesion_mask) for scan in scans)
    print(f"{len(scans)} scans, {masks} with a lesion mask", file=sys.stderr)
    return scans


def _note_repeated(option: str, files: list[str]) -> None:
    """Say which file is given for several scans."""
    for path in dict.fromkeys(files):
        count = files.count(path)
        if count > 1:
            print(
                f"msxai explain: {option}: {path} is given for {count} scans. Does it belong to "
                "all of them?",
                file=sys.stderr,
            )


def _all_or_none(paths: list[str]) -> list[str]:
    """Return a list for the notebook: empty where no scan has such a file."""
    return paths if any(paths) else []


def _summary(out: Path) -> int:
    """Print what became of each scan; return the exit code."""
    table = pd.read_csv(out / "scans.csv")
    failed = table[table["status"].isin([FAILED, ERROR])]
    print(f"{out / 'index.html'}: {len(table) - len(failed)} of {len(table)} scans explained")
    for row in failed.itertuples():
        print(f"msxai explain: {row.scan} was left out. {row.reason}", file=sys.stderr)
    return SOME_FAILED if len(failed) else DONE


def _absolute(option: str, paths) -> list[str]:
    """Return paths of an option as a notebook can find them from any folder."""
    for path in paths:
        given_paths.check(path, where=option)
    return [str(Path(path).expanduser().absolute()) for path in paths]


def _check_between(option: str, value: int, lowest: int, highest: float = math.inf) -> None:
    if value < lowest:
        raise ParameterError(option, f"{value}", f"at least {lowest}", "Give a larger number.")
    if value > highest:
        raise ParameterError(option, f"{value}", f"at most {highest}", "Give a smaller number.")


def _check_no_input(option: str, out: str, inputs: list) -> None:
    """Refuse to write over a file that is read, also through a link."""
    if not Path(out).exists():
        return
    for path in inputs:
        if path is not None and Path(path).exists() and Path(path).samefile(out):
            raise ParameterError(
                option, f"an input, {path}", "another file than the inputs", "Choose another name."
            )


def _check_files(option: str, paths: list[str]) -> None:
    for path in paths:
        if not Path(path).is_file():
            actual = in_place_of_file(path)
            raise ParameterError(f"{option} {path}", actual, "a file", "Check the path.")


def _check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to; leave nothing in it."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ParameterError(
            f"--out {folder}",
            f"a place where nothing can be written ({error.strerror})",
            "a folder that you may write to",
            "Choose another folder.",
        ) from error

"""Simulated brains to pre-train on, each scanned twice: with its lesions and without them.

The two scans of a pair are equal but for the lesions, so that nothing else tells them apart:
anatomy, contrast, position, noise, bias field and bright spots that are no lesions are the same.
A contrast drawn at random for each brain (in the manner of SynthSeg: Billot et al. 2023, Medical
Image Analysis 86:102789, doi:10.1016/j.media.2023.102789) makes lesions brighter than white matter
in some brains and darker in others. What is learnt from them then does not depend on the sequence.

These scans know what a simulated lesion looks like. A network that was pre-trained on them, and is
tested on other simulated lesions, has an advantage that it does not have on real patients.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.synthetic import contrast as contrasts
from msxai.data.synthetic import phantom, subject

__all__ = ["WITH", "WITHOUT", "PairOptions", "SimulatedPairs", "ensure", "simulate_pair"]

WITH, WITHOUT = 0, 1
"""Position of the two scans of a pair."""

_STREAM = 2  # beside those of `msxai.data.synthetic.phantom`: 0 people, 1 anatomies
_FEWEST = 2


@dataclass(frozen=True)
class PairOptions:
    """Which pairs are simulated.

    Attributes
    ----------
    pairs : int
        Number of brains.
    seed : int
        Other seeds give other brains; none is one of the embedded cohorts' subjects.
    contrast : {"random", "own"}
        Drawn at random for each brain, or that of FLAIR.

    Raises
    ------
    ParameterError
        Fewer than two brains, or an unknown contrast.
    """

    pairs: int
    seed: int = 0
    contrast: str = "random"

    def __post_init__(self):
        one_of("contrast", self.contrast, contrasts.CONTRASTS)
        if self.pairs < _FEWEST:
            raise ParameterError(
                "parameter simulated_pairs",
                f"{self.pairs}",
                f"at least {_FEWEST}: some train, the others validate",
                "Ask for more.",
            )


class SimulatedPairs:
    """Pairs on disk, read as they are needed.

    Parameters
    ----------
    path : path
        HDF5 file that `ensure` has written.

    Attributes
    ----------
    options : PairOptions
    volumes : ndarray of shape (pairs,), float64
        Lesion volume of each brain (mm3).
    sha256 : list of str
        Of each pair's scans.
    """

    synthetic = True

    def __init__(self, path):
        self._path = Path(path)
        with h5py.File(self._path) as file:
            self.volumes = file["volumes"][:]
            self.sha256 = [digest.decode() for digest in file["sha256"][:]]
            stored = json.loads(file.attrs["generator"])
        stored.pop("source")
        self.options = PairOptions(**stored)
        self._file = None

    def __len__(self):
        return len(self.volumes)

    @property
    def name(self) -> str:
        """Name of the data set: the seed decides who is in it."""
        return f"simulated-pairs-{self.options.seed}"

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def scan(self, pair: int, which: int) -> np.ndarray:
        """Read one z-scored scan of a pair.

        Parameters
        ----------
        pair : int
        which : {WITH, WITHOUT}

        Returns
        -------
        ndarray of shape (96, 114, 96), float32
            0 outside the brain.
        """
        if self._file is None:
            self._file = h5py.File(self._path)
        return self._file["scans"][pair, which].astype("float32")


def simulate_pair(options: PairOptions, index: int) -> tuple[np.ndarray, float]:
    """Simulate one brain with its lesions and without.

    Parameters
    ----------
    options : PairOptions
    index : int
        Which of the brains.

    Returns
    -------
    scans : ndarray of shape (2, 96, 114, 96), float16
        With lesions, without; z-scored inside the brain, 0 outside.
    volume : float
        Lesion volume (mm3).
    """
    root = np.random.SeedSequence([options.seed, _STREAM, index])
    person_seed, brain_seed, visit_seed = root.spawn(3)
    rng = np.random.default_rng(person_seed)
    group = str(rng.choice(["MS", "HC"]))
    age = subject.AGE["ms"]
    session = phantom.Session(
        age=float(np.clip(rng.normal(age.mean, age.spread), age.lowest, age.highest)),
        site=str(rng.choice(list(phantom.SITES))),
    )
    # Of patients in any case: the scans without lesions are the pair's other half.
    drawn_volume = subject.draw_volume("MS", rng)
    scans = []
    for volume in (drawn_volume, 0.0):
        person = phantom.simulate(
            "ms",
            group,
            brain_seed,
            visit_seed,
            volume=volume,
            session=session,
            contrast=options.contrast,
        )
        scans.append(images.normalise(person.image.astype("float32"), person.brain, "zscore"))
    return np.stack(scans).astype("float16"), drawn_volume


def ensure(path, options: PairOptions, jobs: int = 1) -> SimulatedPairs:
    """Simulate pairs unless `path` already holds exactly these.

    Parameters
    ----------
    path : path
        HDF5 file, about 1.6 MB a pair; replaced as a whole.
    options : PairOptions
    jobs : int
        Processes; the result does not depend on their number.
    """
    path = Path(path)
    with provenance.alone(path):  # two trials may need the same pairs at once
        if not _is_current(path, options):
            with provenance.replacing(path) as draft:
                _write(draft, options, jobs)
    return SimulatedPairs(path)


def _is_current(path: Path, options: PairOptions) -> bool:
    """Return whether a file holds these pairs, by this version of the simulator."""
    try:
        with h5py.File(path) as file:
            stored = json.loads(file.attrs["generator"])
    except (OSError, KeyError, ValueError):
        return False
    return stored == _generator(options)


def _generator(options: PairOptions) -> dict:
    """Return what decides the scans: the options and the simulator's source."""
    return asdict(options) | {"source": phantom.source_hashes()}


def _write(path: Path, options: PairOptions, jobs: int) -> None:
    """Simulate all pairs and write them."""
    tasks = [delayed(simulate_pair)(options, index) for index in range(options.pairs)]
    results = Parallel(jobs, return_as="generator")(tasks)
    results = tqdm(results, total=options.pairs, desc="simulating pairs", unit="pair")
    volumes = []
    digests = []
    with h5py.File(path, "w") as file:
        scans = file.create_dataset(
            "scans",
            (options.pairs, 2, *images.SHAPE),
            "f2",
            chunks=(1, 1, *images.SHAPE),
            compression="gzip",
            compression_opts=1,
        )
        for index, (pair, volume) in enumerate(results):
            scans[index] = pair
            volumes.append(volume)
            digests.append(hashlib.sha256(pair.tobytes()).hexdigest().encode())
        file.create_dataset("volumes", data=volumes)
        file.create_dataset("sha256", data=digests)
        file.attrs["generator"] = json.dumps(_generator(options))
        file.attrs["synthetic"] = True

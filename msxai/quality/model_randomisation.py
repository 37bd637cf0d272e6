"""Does a map depend on what the network has learnt?

Cascading randomisation (Adebayo et al. 2018, arXiv:1810.03292) gives the layers new weights, from
the output down. A map that stays the same explains nothing. eMPRT (Hedstroem et al. 2024,
arXiv:2401.06465) compares the complexity of the map before and after. Such tests can reject a
method, they cannot rank methods (Binder et al. 2023, doi:10.1109/CVPR52729.2023.01550).
"""

import keras
import numpy as np
import pandas as pd
from scipy import stats
from skimage.metrics import structural_similarity

from msxai.quality import localisation, scan_maps

__all__ = ["cascade", "complexity", "randomised", "ssim"]

# Added to a seed. The seed of a training would give the weights that the training began with, and
# trained weights resemble those.
_OTHER_SEEDS = 1_000_003
BINS = 100  # of the histogram of eMPRT's entropy
_WINDOW = 7  # voxels, edge of the cube of SSIM


def ssim(first, second, mask) -> float:
    """Return the mean structural similarity of two maps over a mask.

    Each map is divided by its own largest magnitude first.

    Parameters
    ----------
    first, second : ndarray of shape (X, Y, Z)
    mask : ndarray of bool, same shape

    References
    ----------
    Wang et al. 2004, IEEE Transactions on Image Processing 13:600, doi:10.1109/TIP.2003.819861
    (uniform window of 7 voxels, range 2).
    """
    around = localisation.box(mask, _WINDOW)
    _, similarity = structural_similarity(
        _scaled(first)[around],
        _scaled(second)[around],
        win_size=_WINDOW,
        data_range=2,
        full=True,
    )
    return float(similarity[mask[around]].mean())


def _scaled(relevance) -> np.ndarray:
    """Return a map divided by its largest magnitude, float64; a map of zeros stays as it is."""
    relevance = np.asarray(relevance, float)
    return relevance / max(np.abs(relevance).max(), 1e-300)


def randomised(model: keras.Model, seed: int = 0):
    """Draw the weights of one layer after the other anew, from the output down.

    Parameters
    ----------
    model : keras.Model
        Stays as it is.
    seed : int
        Of the new weights.

    Yields
    ------
    name : str
        Of the layer.
    copy : keras.Model
        The model with new weights in this and all later layers; the same object every time.
    """
    keras.utils.set_random_seed(_OTHER_SEEDS + seed)
    copy = keras.models.clone_model(model)
    new_weights = {layer.name: layer.get_weights() for layer in copy.layers}
    copy.set_weights(model.get_weights())
    for layer in reversed(copy.layers):
        if new_weights[layer.name]:
            layer.set_weights(new_weights[layer.name])
            yield layer.name, copy


def cascade(
    model: keras.Model,
    volume,
    brain,
    names,
    seed: int = 0,
    original: dict | None = None,
    **options,
) -> pd.DataFrame:
    """Explain one scan while the layers get new weights, and compare the maps.

    Parameters
    ----------
    model : keras.Model
    volume : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    names : sequence of str
        Rules and methods, see `msxai.quality.scan_maps.of_scan`.
    seed : int
        Of the new weights.
    original : dict, optional
        Maps of the trained network, where they are available.
    **options
        For `msxai.quality.scan_maps.of_scan`: epsilon, threads.

    Returns
    -------
    pandas.DataFrame
        One row a map and step: map, layer ("" before the first), ssim and rank (Spearman) with the
        map of the trained network over the brain, complexity (entropy of the map), and emprt
        (complexity divided by that of the trained network's map, minus 1).
    """
    original = original or scan_maps.of_scan(model, volume, names, **options)
    rows = {}
    for name in names:
        entropy = complexity(original[name], brain)
        first = {"map": name, "layer": "", "ssim": 1.0, "rank": 1.0, "complexity": entropy}
        rows[name] = [first]
    for layer, copy in randomised(model, seed):
        maps = scan_maps.of_scan(copy, volume, names, **options)
        for name, relevance in maps.items():
            row = {
                "map": name,
                "layer": layer,
                "ssim": ssim(original[name], relevance, brain),
                "rank": localisation.consistency(original[name], relevance, brain),
                "complexity": complexity(relevance, brain),
            }
            rows[name].append(row)
    tables = []
    for name in names:
        table = pd.DataFrame(rows[name])
        trained = table["complexity"].iloc[0]
        table["emprt"] = table["complexity"] / trained - 1 if trained > 0 else np.nan
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def complexity(relevance, brain) -> float:
    """Return the entropy (nat) of the histogram of a map over the brain, as in eMPRT.

    The histogram has 100 bins between the smallest and the largest value.
    """
    counts, _ = np.histogram(np.asarray(relevance)[brain], BINS)
    return float(stats.entropy(counts))

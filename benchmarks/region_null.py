"""Does the test of regions find what is there, and nothing where nothing is? 2 to 5 minutes on one
core that others share.

Usage: python benchmarks/region_null.py

Simulated patients, all of one group, are explained by one network with random weights: a fixed
function of each scan. 200 seeded labellings call half of them patients: whatever is then found is
false. In each family (an atlas's regions, one sign, one measure) at most 17 of the 200 may be
rejected at .05 (10 are expected; more than 17 has a probability of .012). Then one tract's
relevance is raised in half of the subjects: by two standard deviations it must be found, one is
reported. Written beside this file: region_null.json.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from msxai import lrp
from msxai.base import permutation, provenance
from msxai.data.synthetic import phantom
from msxai.model import network
from msxai.regions import regional_relevance

SUBJECTS, SEED, WIDTH, LABELLINGS, PERMUTATIONS, LEVEL = 40, 3001, 8, 200, 1000, 0.05


def explained(regions, subjects, seed, width) -> dict:
    """Sign to the sums of relevance, (subjects, regions), of simulated patients."""
    network.configure(seed, 1)
    model, maps = network.build(width), []
    for number in range(subjects):
        subject = phantom.simulate("ms", "MS", (seed, number))
        image = subject.image.astype("float32")
        image = np.where(
            subject.brain, (image - image[subject.brain].mean()) / image[subject.brain].std(), 0
        )
        maps.append(
            lrp.explain(model, image[None, ..., None].astype("float32"), "epsilon").relevance[
                0, ..., 0
            ]
        )
    positive, negative = (
        np.concatenate([regional_relevance.sums(part([heatmap], 0), regions) for heatmap in maps])
        for part in (np.maximum, np.minimum)
    )
    return {"positive": positive, "negative": negative, "net": positive + negative}


def false_positives(values, labellings, permutations, seed) -> int:
    """Of `labellings` random labellings, how many find any region."""
    rng, labels = (
        np.random.default_rng(seed),
        np.repeat([1, 0], [len(values) // 2, len(values) - len(values) // 2]),
    )
    smallest = [
        permutation.two_groups(values, rng.permutation(labels), permutations, labelling)[
            "p_fwe"
        ].min()
        for labelling in range(labellings)
    ]
    return int(np.sum(np.array(smallest) <= LEVEL))


def planted(values, tract, effect, permutations, seed) -> dict:
    """p_fwe of a region raised by `effect` standard deviations in a random half, and of the best of
    the others.
    """
    labels = np.random.default_rng(seed).permutation(
        np.repeat([1, 0], [len(values) // 2, len(values) - len(values) // 2])
    )
    raised = values.copy()
    raised[labels == 1, tract] += effect * values[:, tract].std(ddof=1)
    p = permutation.two_groups(raised, labels, permutations, seed)["p_fwe"].to_numpy()
    return {
        "effect_sd": effect,
        "p_fwe": p[tract],
        "p_fwe_of_the_others": np.delete(p, tract).min(),
    }


if __name__ == "__main__":
    regions = regional_relevance.read()
    sums, rows = explained(regions, SUBJECTS, SEED, WIDTH), []
    for atlas in dict.fromkeys(regions.table["atlas"]):
        here = (regions.table["atlas"] == atlas).to_numpy()
        for sign in regional_relevance.SIGNS:
            count = false_positives(sums[sign][:, here], LABELLINGS, PERMUTATIONS, SEED)
            rows.append(
                {
                    "atlas": atlas,
                    "regions": int(here.sum()),
                    "sign": sign,
                    "false_positives": count,
                    "of": LABELLINGS,
                }
            )
    name = "posterior corona radiata"
    tracts = regions.table[regions.table["atlas"] == "tracts"].reset_index(drop=True)
    tract = int(np.flatnonzero(tracts["region"].str.lower() == name)[0]) if len(tracts) else 0
    atlas = "tracts" if len(tracts) else "areas"
    values = sums["positive"][:, (regions.table["atlas"] == atlas).to_numpy()]
    effects = [planted(values, tract, effect, PERMUTATIONS, SEED) for effect in (1.0, 2.0)]
    print(
        pd.DataFrame(rows),
        effects,
        f"probability of more than 17: {stats.binom.sf(17, 200, 0.05):.3f}",
        sep="\n",
    )
    settings = {
        "subjects": SUBJECTS,
        "seed": SEED,
        "width": WIDTH,
        "labellings": LABELLINGS,
        "permutations": PERMUTATIONS,
        "level": LEVEL,
    }
    record = provenance.record(
        settings, null=rows, planted=effects, planted_region=name, left_out=regions.left_out
    )
    provenance.write_json(Path(__file__).parent / "region_null.json", record)

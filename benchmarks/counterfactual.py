"""What do the demo's networks make of subjects whose lesions are filled? Needs `make figures`
first; about 6 minutes on 1 core.

Usage: python benchmarks/counterfactual.py [RESULTS]      (default runs/demo)

The 200 further subjects of 04_evaluation, as they are, with all lesions filled, and with other
normal-appearing white matter filled at sham sites (msxai.evaluation.counterfactuals); all trials of
all variants that were fine-tuned on untouched scans. Written beside this file: counterfactual.tsv
(AUC of each, paired differences with 95 % intervals by DeLong, mean change of the logits),
counterfactual.png and counterfactual.json.
"""

import json
import re
import sys
import time
from pathlib import Path

from msxai.base import provenance
from msxai.base.results import Results
from msxai.data import filled_cohort
from msxai.data.prepared import Prepared
from msxai.evaluation import counterfactuals, prediction
from msxai.model import network
from msxai.report import figures

COHORT, SUBJECTS, SEED = "phantom-ms", 200, 0
HERE = Path(__file__).parent


def trained(where):
    """Folders of the trials of each variant, as the functions of `msxai.evaluation.prediction` take
    them.
    """
    networks = {}
    for path in sorted(
        where.folder.glob("finetuning/*/trial-*/provenance.json"),
        key=lambda path: re.split(r"(\d+)", str(path)),
    ):
        networks.setdefault(path.parents[1].name, []).append(
            (path.parent, json.loads(path.read_text()))
        )
    return {
        variant: trials
        for variant, trials in networks.items()
        if variant not in filled_cohort.fillings(networks)
    }


def measure(where, scratch, subjects=SUBJECTS):
    """Table and predictions of all variants; scratch is where further subjects are kept; seconds
    that filling and predicting took.
    """
    nets = trained(where)
    further, reason = prediction.further(
        scratch, Prepared(where.prepared(COHORT)), COHORT, subjects
    )
    if further is None:
        raise SystemExit(reason)
    untouched = prediction.predict(further, further.rows("all"), nets)
    start = time.perf_counter()
    predictions, reason = counterfactuals.predict(
        further, further.rows("all"), nets, untouched, seed=SEED
    )
    print(reason)
    return counterfactuals.table(predictions), predictions, time.perf_counter() - start


if __name__ == "__main__":
    where = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    network.configure(SEED, 1)
    table, _, seconds = measure(where, Results("runs/proof"))
    print(table.round(3).T.to_string(), f"{seconds:.0f} s", sep="\n")
    figure, _ = figures.counterfactual(table, synthetic=True)
    weights = [folder / "weights.npz" for trials in trained(where).values() for folder, _ in trials]
    settings = {"cohort": COHORT, "subjects": SUBJECTS, "seed": SEED}
    record = provenance.record(settings, weights, seconds=round(seconds))
    figures.save(figure, HERE, "counterfactual", table, record)

#!/bin/sh
# Cross-validation of the networks (make cv): one pre-training, then each fold in a results folder of its own, then all folds together.
set -u
cd "$(dirname "$0")/.." || exit 1
profile=${CV:-workflow/cv.yaml}
results=$(sed -n 's/^common: {results: \([^},]*\).*/\1/p' "$profile") folds=$(sed -n 's/^folds: *//p' "$profile")
set -- .venv/bin/python tools/run_alone.py "$results" .venv/bin/snakemake --snakefile workflow/Snakefile --configfile "$profile" --workflow-profile workflow/local "$@"
"$@" -- "$results/pretraining/trial-0/provenance.json" || exit 1
fold=0
while [ "$fold" -lt "$folds" ]; do
    target=$results/fold-$fold
    "$@" --config "results=$target" "fold=$fold" -- "$target/evaluation/provenance.json" || exit 1
    fold=$((fold + 1))
done
.venv/bin/python -c "import sys; from msxai.evaluation import comparison; print(comparison.gather(sys.argv[1], int(sys.argv[2])))" "$results" "$folds"

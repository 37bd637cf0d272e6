#!/bin/sh
# The series on another cohort (make run); results and figures under runs/<name of the cohort>-<profile>, or $RESULTS.
#   sh tools/run.sh [TARGET ...]    what Snakemake makes; without one, the whole series
# ON_TOP names a second file of settings, workflow/<name>.yaml, which also names the results (make beside).
set -u
cd "$(dirname "$0")/.." || exit 1

fail() {
    printf 'run: %s\n' "$1" >&2
    exit 2
}

cohort=${COHORT:-} profile=${PROFILE:-demo} scheduler=${SCHEDULER:-local} on_top=${ON_TOP:-}
[ -n "$cohort" ] || fail "COHORT is empty. Name a BIDS dataset, a table or a cohort's YAML: make run COHORT=data/my-study PROFILE=demo (layout: docs/your-cohort.md)"
[ -f "workflow/$profile.yaml" ] || fail "no profile $profile. Choose PROFILE=smoke, demo or paper"
[ -d "workflow/$scheduler" ] || fail "no scheduler $scheduler. Choose SCHEDULER=local or slurm"
sh tools/setup.sh || exit 1

name=$(basename -- "$cohort" | sed -E 's/\.(yaml|yml|csv|tsv)$//') # as msxai.results.cohort_name
results=${RESULTS:-runs/$name-${on_top:-$profile}}
results=${results%/}
case "$results" in
*[!/.]*) ;;
*) fail "RESULTS: found '$RESULTS'; expected a folder for results alone. Name one: RESULTS=runs/my-study" ;;
esac
.venv/bin/python tools/cohort_options.py --check "$results" || exit 2
# The options are written once the folder is locked: a second run must not change those of the first.
exec .venv/bin/python tools/run_alone.py "$results" .venv/bin/python tools/cohort_options.py "$results" \
    .venv/bin/snakemake --snakefile workflow/Snakefile \
    --configfile "workflow/$profile.yaml" ${on_top:+"workflow/$on_top.yaml"} "$results/cohort.yaml" \
    --workflow-profile "workflow/$scheduler" -- "$@"

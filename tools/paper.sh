#!/bin/sh
# Runs the paper's protocol on simulated cohorts and draws the figures into figures/paper.
#
# Usage: sh tools/paper.sh     (make paper; needs .venv)
#
# With MINUTES=9 it stops after so many minutes, for a computer that is lent for a short time. The
# same command goes on where it stopped: a training after its last finished epoch. Jobs of this
# profile need more memory than workflow/local allows, so all but a fifth of the computer's is used.
set -u
cd "$(dirname "$0")/.." || exit 1

# Of 0 minutes, timeout would make no limit at all.
case "${MINUTES:-}" in
*[!0-9.]* | *.*.*) is_time=false ;;
"" | *[1-9]*) is_time=true ;;
*) is_time=false ;;
esac
if [ "$is_time" = false ]; then
    echo "paper: MINUTES: found '$MINUTES', expected a number above 0, such as 9." >&2
    exit 1
fi
memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)

python=.venv/bin/python
limit=""
[ -z "${MINUTES:-}" ] || limit="timeout --signal=TERM --kill-after=60 ${MINUTES}m"
$limit "$python" tools/run_alone.py runs/paper .venv/bin/snakemake --snakefile workflow/Snakefile \
    --configfile workflow/paper.yaml --workflow-profile workflow/local \
    --resources "mem_mb=$memory"
status=$?
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    echo "paper: the $MINUTES minutes are over. The same command goes on where it stopped."
    exit 0
fi
[ "$status" = 0 ] || exit "$status"
"$python" tools/copy_figures.py runs/paper/figures figures/paper .png .svg .tsv .json

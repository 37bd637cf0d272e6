#!/bin/sh
# Runs the tests (make test, make test-long): all of them, or those of the box $BOX.
#   BOX=lrp sh tools/test.sh -m "not long"      options are pytest's
set -u
cd "$(dirname "$0")/.." || exit 1
box=${BOX:-}
[ -z "$box" ] || [ -d "tests/$box" ] || {
    printf 'test: BOX=%s: there is no folder tests/%s. Choose one of: %s\n' "$box" "$box" "$(cd tests && echo [a-z]*/ | tr -d /)" >&2
    exit 2
}
if [ -z "$box" ]; then
    set -- "$@" tests msxai
elif [ -d "msxai/$box" ]; then
    set -- "$@" "tests/$box" "msxai/$box"
else
    set -- "$@" "tests/$box"
fi
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"

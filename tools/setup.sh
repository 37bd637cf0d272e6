#!/bin/sh
# Makes .venv from its locks, once, and again only when a lock changes. `make` calls it before anything that needs Python.
#   sh tools/setup.sh           PYTHON=/path/to/python3.12 sh tools/setup.sh
#   GPU=1 sh tools/setup.sh     Keras on PyTorch with CUDA, without TensorFlow. .venv stays of this kind until GPU=0.
# Any fault is one message with the command that mends it, and leaves no stamp, so that the next call tries again.
set -u
cd "$(dirname "$0")/.." || exit 1
venv=.venv
stamp=$venv/.stamp
log=$venv/setup.log
again="make setup"
of_gpu=$venv/.gpu # this file marks an environment for a GPU

fail() { # what is wrong, what to do
    rm -f "$stamp"
    printf 'set-up: %s\n  To mend it: %s\n' "$1" "$2" >&2
    exit 1
}

usable() { # an interpreter: prints its version where it runs and is 3.11 to 3.13
    "$1" -I -c 'import sys; v = sys.version_info; print("%d.%d" % v[:2]); sys.exit(not (3, 11) <= v[:2] <= (3, 13))' 2>/dev/null
}

has_venv() { # Debian ships Python without ensurepip
    "$1" -I -c 'import venv, ensurepip' 2>/dev/null
}

venv_missing() { # an interpreter, its version
    fail "$1 (Python $2) has no venv module." \
        "apt-get install python$2-venv && $again   (or name another Python: PYTHON=/path/to/python3.12 $again)"
}

# Which kind of environment: the one that is asked for, else the one that is there.
is_gpu=0
[ ! -f "$of_gpu" ] || is_gpu=1
wants_gpu=${GPU:-$is_gpu}
case $wants_gpu in
0) locks="requirements.lock innvestigate.lock" size="3.3 GB" room="4 GB" ;;
1) locks=requirements-gpu.lock size="8.3 GB" room="13 GB" again="make setup GPU=1" ;;
*) fail "GPU=$wants_gpu is neither 1 nor 0." "make setup GPU=1 on a computer with an NVIDIA GPU, make setup GPU=0 on any other" ;;
esac

# The stamp says where the environment was made and from what. Contents count, not times, which every checkout changes.
# The commands of the package count, too: pip writes their scripts.
# shellcheck disable=SC2086
wanted=$(pwd && for lock in $locks; do cksum <$lock || exit; done && sed -n '/^\[project.scripts\]/,/^$/p' pyproject.toml 2>/dev/null | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$venv/bin/python" ]; then
    exit 0
fi
if [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$(pwd)" ]; then
    rm -rf "$venv" # the checkout was moved, and with it the paths inside the environment's scripts
fi
rm -f "$stamp"
# No package of the other kind stays: Keras must find one backend only.
[ "$wants_gpu" = "$is_gpu" ] || rm -rf "$venv"

# What made .venv goes on serving it where only a lock changed or an install failed, unless $PYTHON is of another version.
kept=$("$venv/bin/python" -I -c 'import pip' 2>/dev/null && usable "$venv/bin/python") || kept=
if [ -n "${PYTHON:-}" ]; then
    version=$(usable "$PYTHON") || fail "PYTHON=$PYTHON is ${version:+Python }${version:-no Python that runs}; 3.11, 3.12 or 3.13 is needed." \
        "PYTHON=/path/to/python3.12 $again"
    python=$PYTHON
    [ "$version" = "$kept" ] || has_venv "$PYTHON" || venv_missing "$PYTHON" "$version"
elif [ -n "$kept" ]; then
    python=$venv/bin/python version=$kept
else
    python='' without=''
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        version=$(usable "$candidate") || continue # a name on the path need not run: pyenv's shims fail
        if has_venv "$candidate"; then
            python=$candidate
            break
        fi
        without=${without:-"$candidate $version"}
    done
    # shellcheck disable=SC2086
    [ -n "$python" ] || [ -z "$without" ] || venv_missing $without
    [ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 runs here." \
        "apt-get install python3.12 python3.12-venv && $again   (or name one: PYTHON=/path/to/python3.12 $again)"
fi

echo "set-up: $python (Python $version) fills .venv ($size, about 5 minutes, once)"
if [ "$version" != "$kept" ]; then
    rm -rf "$venv"
    "$python" -I -m venv "$venv" >/dev/null 2>&1 || fail "$python (Python $version) could not make .venv." \
        "see to $room of free disk, or name another Python: PYTHON=/path/to/python3.12 $again"
fi

install() { # pip's arguments; what it says goes to the log, the errors to the screen too
    "$venv/bin/python" -I -m pip install --no-input --progress-bar off "$@" >>"$log" 2>&1 && return
    fail "pip could not install the packages ($(grep -h '^ERROR' "$log" | tail -n 1); all of it: $log)." \
        "see to the network and to $room of free disk, then: $again"
}

: >"$log"
if [ "$wants_gpu" = 1 ]; then
    : >"$of_gpu" # before the packages, so that a set-up that was cut short goes on as it began
    install --require-hashes --no-deps -r requirements-gpu.lock
else
    install --require-hashes --no-deps -r requirements.lock
    # iNNvestigate declares older versions than it runs with (tests/lrp shows that it does), hence a call of its own.
    install --require-hashes --no-deps --ignore-requires-python -r innvestigate.lock
fi
install --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >"$stamp"
# The environment is complete. Without compiled kernels the first notebook or test compiles them.
"$venv/bin/python" tools/compile_kernels.py || echo "set-up: the kernels are compiled at their first use" >&2
echo "set-up: done"

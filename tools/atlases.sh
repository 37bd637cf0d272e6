#!/bin/sh
# Puts the JHU ICBM-DTI-81 white-matter labels into data/atlases, out of Debian's package mricron-data; needs no root, installs nothing.
#   sh tools/atlases.sh           DEB=/path/to/mricron-data_all.deb sh tools/atlases.sh
# Without a network: DEB= names the package, copied here by hand; or $FSLDIR names an FSL, whose own labels msxai then takes.
set -u
cd "$(dirname "$0")/.." || exit 1
case ${DEB:-} in '' | /*) ;; *) DEB=$OLDPWD/$DEB ;; esac
name=JHU-WhiteMatter-labels-1mm.nii.gz
there=data/atlases/$name
wanted=a286981ae14b45019db3aa0917eddda8998ecaff749d4be2d6a2f28b4c3a5ad2 # of the file as decompressed: each build of a package compresses anew

fail() { # what is wrong, what to do
    printf 'atlases: %s\n  To mend it: %s\n' "$1" "$2" >&2
    exit 1
}

fits() { # a file
    [ -f "$1" ] && gzip -t "$1" 2>/dev/null && [ "$(gzip -dc "$1" | sha256sum | cut -d ' ' -f 1)" = "$wanted" ]
}

if fits "$there"; then
    echo "atlases: $there is there and whole"
    exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -n "${DEB:-}" ]; then
    [ -f "$DEB" ] || fail "DEB=$DEB is not there." "DEB=/path/to/mricron-data_all.deb make atlases"
else
    by_hand="copy Debian's package mricron-data here and: DEB=/path/to/it make atlases   (or set FSLDIR to an FSL, which has these labels)"
    command -v apt-get >/dev/null || fail "there is no apt-get to fetch Debian's package mricron-data with." "$by_hand"
    if ! (cd "$work" && apt-get download mricron-data) >"$work/log" 2>&1; then # lists of packages may be missing: read them into $work
        mkdir -p "$work/lists/partial" "$work/cache"
        set -- -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=
        (apt-get "$@" update && cd "$work" && apt-get "$@" download mricron-data) >>"$work/log" 2>&1 ||
            fail "apt-get could not fetch the package mricron-data (no network? $(grep -h '^E:' "$work/log" | tail -n 1))." "$by_hand"
    fi
    DEB=$(echo "$work"/mricron-data_*.deb)
fi
if command -v dpkg-deb >/dev/null; then
    dpkg-deb -x "$DEB" "$work/unpacked" 2>"$work/log"
else # a .deb is an ar archive of tar archives
    mkdir "$work/unpacked" && (cd "$work" && ar x "$DEB" && tar -xf data.tar.* -C unpacked) 2>"$work/log"
fi || fail "$DEB could not be unpacked ($(tail -n 1 "$work/log"))." "copy or download it again, then: make atlases"
found=$work/unpacked/usr/share/mricron/templates/$name
[ -f "$found" ] || fail "the package $(basename "$DEB") holds no $name." "take Debian's package mricron-data: DEB=/path/to/it make atlases"
fits "$found" || fail "$name of $(basename "$DEB") has another content than the known one (SHA-256, decompressed: $(gzip -dc "$found" | sha256sum | cut -d ' ' -f 1), expected $wanted)." \
    "take the package of Debian 12: DEB=/path/to/it make atlases"
mkdir -p data/atlases && cp "$found" "data/atlases/.$name" && mv "data/atlases/.$name" "$there" || fail "data/atlases could not be written." "see to its rights and free disk"
echo "atlases: $there (Mori et al. 2008, from $(basename "$DEB"))"

#!/usr/bin/env bash
# Makes .venv from the lock file of the newest TFX that this machine can load, and keeps it up to date.
# PYTHON=/path/to/python chooses the interpreter; otherwise the ones on the PATH, of pyenv and of uv are tried.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly STAMP=$VENV/edge-exray.stamp

say() { echo "setup: $*"; }
die() { say "$*" >&2; exit 1; }

python="" stack="" lock="" why=""

# Prints what an interpreter is good for: `new`, `old`, or the reason why it is neither; nothing when it does not run.
probe() {
    "$1" - 2>/dev/null <<'PYTHON'
import ctypes, importlib.util, os, platform, sys, sysconfig

name = f"Python {platform.python_version()}"

def gap():
    """What the TFX 1.21 wheels of ml-metadata and TFDV lack here: they carry the tag manylinux_2_39 and need CXXABI_1.3.15."""
    libc = platform.libc_ver()
    if libc[0] != "glibc" or tuple(map(int, libc[1].split("."))) < (2, 39):
        return f"has {libc[0] or 'no glibc'} {libc[1]}, TFX 1.21 needs glibc 2.39"
    try:
        ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return "has no libstdc++, TFX 1.21 needs that of GCC 14"
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "libstdc++.so.6" in line)
    with open(path, "rb") as library:
        return "" if b"CXXABI_1.3.15" in library.read() else f"has {path} older than GCC 14's, which TFX 1.21 needs"

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    print(f"{name} is not 3.10-3.13")
elif importlib.util.find_spec("ensurepip") is None:
    print(f"{name} cannot make environments, install python3-venv")
elif not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print(f"{name} has no Python.h to build pyfarmhash with, install python3-dev")
elif sys.version_info[:2] == (3, 10):
    print("old")
else:
    problem = gap()
    print(f"this machine {problem}" if problem else "new")
PYTHON
}

candidates() {
    if [[ -n ${PYTHON:-} ]]; then
        echo "$PYTHON"
        return
    fi
    local version pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}
    command -v pyenv >/dev/null && pyenv_root=$(pyenv root)
    for version in 3.13 3.12 3.11 3.10; do
        command -v "python$version" || true
        compgen -G "$pyenv_root/versions/$version.*/bin/python$version" || true
        command -v uv >/dev/null && uv python find --no-python-downloads "$version" 2>/dev/null || true
    done
}

choose() {
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        die "TFX has wheels for Linux x86_64 only; here, install the library alone: pip install -e '.[cli,report]'"
    command -v c++ >/dev/null || die "pyfarmhash, which TFX needs, is compiled here: install a C++ compiler (apt install g++)"
    local candidate fitness
    local -A reasons=()
    while read -r candidate; do
        fitness=$(probe "$candidate") || true
        case $fitness in
            new) python=$candidate stack="TFX 1.21" lock=requirements/py311plus.txt ;;
            old) python=$candidate stack="TFX 1.16" lock=requirements/py310.txt ;;
            "") [[ -z ${PYTHON:-} ]] || die "PYTHON=$PYTHON does not run"; continue ;;
            *) reasons[$fitness]=1; continue ;;
        esac
        break
    done < <(candidates)
    [[ ${#reasons[@]} -eq 0 ]] || why=$(printf '; %s' "${!reasons[@]}")
    why=${why#; }
    [[ -n $python ]] || die "no usable Python (${why:-none of 3.10-3.13 found}); get Python 3.10 (pyenv install 3.10," \
        "or uv python install 3.10), or take Debian 13 or Ubuntu 24.04 (apt install g++ python3-venv python3-dev)"
}

# What a finished environment was made from.
fingerprint() {
    { pwd; build_of "$python"; cat "$lock" setup.py edge_exray/version.py; } | sha256sum
}

build_of() { "$1" -c 'import sys; print(sys.version)' 2>/dev/null; }

choose
say "$stack on $("$python" -V) ($python)${why:+, not a newer one: $why}"

exec 9<setup.py
flock --nonblock 9 || { say "waiting for another set-up of this tree"; flock 9; }

current=$(fingerprint)
if [[ -f $STAMP && $(<"$STAMP") == "$current" ]]; then
    exit 0
fi
# Without a stamp it was interrupted, and a package may be half there: uv's cache makes a fresh start cheap.
if [[ ! -f $STAMP || $(build_of "$VENV/bin/python") != "$(build_of "$python")" ]]; then
    say "making $VENV"
    "$python" -m venv --clear "$VENV"
fi
rm -f "$STAMP"
uv_pin=$(grep -oE '^uv==[^ ]+' "$lock")
if [[ $("$VENV/bin/uv" --version 2>/dev/null) != "uv ${uv_pin#uv==}"* ]]; then
    say "installing ${uv_pin/==/ }"
    "$VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "$uv_pin"
fi
export VIRTUAL_ENV=$PWD/$VENV
say "installing $lock (the first time: some minutes, 3 GB)"
# Where Python may not write bytecode, it is made now: TFX's imports take four times as long without.
"$VENV/bin/uv" pip sync ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} "$lock" 2>&1 | sed '/^ [-+~] /d'
"$VENV/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .
echo "$current" >"$STAMP"
say "done; the command is $VENV/bin/exray (on the PATH after: source $VENV/bin/activate)"

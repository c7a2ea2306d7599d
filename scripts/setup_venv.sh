#!/bin/sh
# Make the virtual environment at $1 with the first Python that is 3.11 or newer.
# PYTHON=/path/to/python chooses one. On Debian and Ubuntu a missing python3-venv is installed when run as root.
set -eu
venv=$1

fail() {
    echo "setup: $*" >&2
    exit 1
}

found=
for python in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    # a version manager's shim can be on the path and still not run, so each is tried
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        found=$python
        break
    fi
done

is_debian_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

if [ -z "$found" ]; then
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON does not run, or is older than Python 3.11."
    is_debian_root || fail "Python 3.11 or newer is needed and none was found. On Debian or Ubuntu: sudo apt-get install python3 python3-venv"
    apt-get update && apt-get install -y --no-install-recommends python3 python3-venv
    found=python3
    "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "this system's python3 is $("$found" -V 2>&1); install Python 3.11 or newer and run again with PYTHON=/path/to/it."
fi

# Debian splits ensurepip off; without it `python -m venv` leaves half an environment behind
if ! "$found" -c 'import ensurepip' >/dev/null 2>&1; then
    package=$("$found" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    is_debian_root || fail "$found has no venv module. On Debian or Ubuntu: sudo apt-get install $package"
    apt-get update && apt-get install -y --no-install-recommends "$package"
fi

# llama-cpp-python is compiled on the way in
if ! command -v c++ >/dev/null; then
    is_debian_root || fail "a C++ compiler is needed and none was found. On Debian or Ubuntu: sudo apt-get install g++"
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++
fi

rm -rf "$venv"
"$found" -m venv "$venv"
echo "setup: $venv uses $("$venv/bin/python" -V)"

#!/usr/bin/env bash
# Sets up everything that the demo and the tests need, from a machine that has only
# bash and apt: PostgreSQL with both extensions, Python 3.11 or later, and a virtual
# environment with flywheel-db in it. `make` calls it before everything else, so it
# finds out quickly that there is nothing to do.
#
# As root or as an ordinary user with sudo; never reads stdin.
#
# Environment:
#   VENV    the virtual environment (.venv)
#   PYTHON  the Python to make it with (python3)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-python3}"

# The tests check every PL/pgSQL function with it; a server in use does not need it.
export WITH_PLPGSQL_CHECK=yes
# Silent when all is there; what it warns about, `flywheel-db doctor` says too.
docker/install-postgres.sh --check >/dev/null 2>&1 || docker/install-postgres.sh

# Debian's python3 comes without the part that puts pip into a virtual environment.
python_is_ready() {
  "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

install_python() {
  # shellcheck source=docker/install-postgres.sh
  source docker/install-postgres.sh
  require_supported
  WORK="$(mktemp -d)"
  trap cleanup EXIT
  [[ -n "$(candidate python3-venv)" ]] || update_lists
  install_packages python3 python3-venv
  rm -rf "$WORK"
}

# In a subshell, since it brings in the functions and names of another script.
python_is_ready || (install_python)
if ! python_is_ready; then
  echo "bootstrap: error: $PYTHON is not Python 3.11 or later with venv and ensurepip." >&2
  echo "  Set PYTHON to one that is: PYTHON=/path/to/python3 make setup" >&2
  exit 1
fi

# The stamp says what the environment was made from. Its first line is Python's version:
# an environment does not survive a new one. The second changes when the dependencies may
# have; then pip is run again in the same environment.
version="$("$PYTHON" -c 'import sys; print(sys.version_info[:2])')"
contents="$(sha256sum pyproject.toml)"
stamp="$VENV/.bootstrap"
if [[ -f "$stamp" && "$(cat "$stamp")" == "$version"$'\n'"$contents" ]]; then exit 0; fi

# One at a time: two calls of make would write into the same environment.
exec 9<"${BASH_SOURCE[0]}"
flock 9

if [[ ! -f "$stamp" || "$(head -n 1 "$stamp")" != "$version" ]]; then
  echo "bootstrap: making $VENV" >&2
  "$PYTHON" -m venv --clear "$VENV"
fi
echo "bootstrap: installing flywheel-db and what its tests need into $VENV" >&2
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[test]' </dev/null
printf '%s\n%s\n' "$version" "$contents" >"$stamp"

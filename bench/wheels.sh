#!/usr/bin/env bash
# Download packages that a machine with PyTorch may lack, for `bench/gpu.sh --wheels FOLDER`:
#
#     bench/wheels.sh FOLDER [PACKAGE...]
#
# Downloads the versions installed here, for this version of Python. Needs network access.
set -euo pipefail
folder=${1:?usage: bench/wheels.sh FOLDER [PACKAGE...]}
shift
[ $# -gt 0 ] || set -- optuna alembic mako colorlog sqlalchemy pydantic pydantic-core \
    annotated-types typing-inspection tyro docstring-parser typeguard platformdirs
pinned=()
for package in "$@"; do
    pinned+=("$package==$(python3 -c 'import sys, importlib.metadata as m
print(m.version(sys.argv[1]))' "$package")")
done
mkdir -p "$folder"
python3 -m pip download -q --no-deps --only-binary :all: --dest "$folder" "${pinned[@]}"
du -sh "$folder"

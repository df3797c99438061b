#!/usr/bin/env bash
# Download what a machine with PyTorch is likely to lack, for `bench/gpu.sh --wheels FOLDER`:
#
#     bench/wheels.sh FOLDER [PACKAGE...]
#
# in the versions that are installed here, for this version of Python. It needs a network.
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

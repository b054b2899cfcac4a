#!/usr/bin/env bash
# Generates the code of the protos and compiles: clients/cpp/build.sh OUT_FOLDER
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
out="$(cd "$1" && pwd)"

"$here/../../protos/generate.sh" "$out/gen" cpp
make -s -C "$out" -f "$here/build.mk" HERE="$here"

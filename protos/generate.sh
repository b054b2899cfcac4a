#!/usr/bin/env bash
# Generates the typed Python code of the protos: protos/generate.sh [OUTPUT_FOLDER]
# Files that no proto stands behind any more are removed. grpcio-tools is pinned so that the result
# imports under protobuf 6 and 7 (docs/adr/0001).
set -euo pipefail
cd "$(dirname "$0")"

python="${PYTHON:-$PWD/../.venv/bin/python}"
out="${1:-gen/python}"

# protoc finds its mypy plugins on the path.
PATH="$(dirname "$python"):$PATH"

rm -rf "$out/darkroom"
mkdir -p "$out"
"$python" -m grpc_tools.protoc -I. \
  --python_out="$out" --grpc_python_out="$out" \
  --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" \
  darkroom/v1/*.proto
touch "$out/darkroom/v1/py.typed"

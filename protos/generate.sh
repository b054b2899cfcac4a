#!/usr/bin/env bash
# Generates the Python package from the protos into protos/gen/python.
# grpcio-tools is pinned so that the result imports under protobuf 6 and 7 (docs/adr/0001).
set -euo pipefail
cd "$(dirname "$0")"
python="${PYTHON:-../.venv/bin/python}"
out="${1:-gen/python}"
bin="$(dirname "$("$python" -c 'import sys; print(sys.executable)')")"
mkdir -p "$out"
PATH="$bin:$PATH" "$python" -m grpc_tools.protoc -I. \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" \
  darkroom/v1/*.proto
find "$out/darkroom" -type d -exec touch {}/py.typed \;

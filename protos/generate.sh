#!/usr/bin/env bash
# Generates the code of the protos: protos/generate.sh [OUTPUT_FOLDER [LANGUAGE]]
# Without arguments the committed Python code, in place. Files that no proto stands behind any more
# are removed. Other languages: typescript go cpp java ruby; each needs its own generator, see clients/.
# `protos/generate.sh "$PWD/docs" markdown` writes docs/protocol.md and docs/model-config.md.
set -euo pipefail
cd "$(dirname "$0")"

python="${PYTHON:-$PWD/../.venv/bin/python}"
out="${1:-$PWD/gen/python}"
language="${2:-python}"
template="buf.gen.$language.yaml"
[ -f "$template" ] || { echo "generate.sh: no $template" >&2; exit 2; }

# buf finds Python and its plugins on the path.
PATH="$(dirname "$python"):$PATH"

# The protocol of other servers is spoken by this one alone: its clients have their own code.
case "$language" in python) parts=() ;; *) parts=(--path darkroom/v1) ;; esac

mkdir -p "$out"
rm -rf "$out/darkroom"
buf generate --template "$template" -o "$out" "${parts[@]}"

# The details of errors, where the language has no package with them, or an old one.
case "$language" in typescript | cpp | java)
  google="$(mktemp -d)"
  trap 'rm -rf "$google"' EXIT
  mkdir -p "$google/google/rpc"
  rpc="$("$python" -c 'import google.rpc.status_pb2 as module; print(module.__file__)')"
  cp "$(dirname "$rpc")"/{status,error_details}.proto "$google/google/rpc"
  rm -rf "$out/google"
  buf generate "$google" --template "$template" -o "$out"
  ;;
esac
case "$language" in python) touch "$out"/darkroom/{v1,kserve/v2,xds/{data,service}/orca/v3}/py.typed ;; esac

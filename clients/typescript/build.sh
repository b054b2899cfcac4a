#!/usr/bin/env bash
# Installs what the package needs, generates the code of the protos, compiles: clients/typescript/build.sh
set -euo pipefail
cd "$(dirname "$0")"

npm ci --no-fund --no-audit --silent
../../protos/generate.sh "$PWD/src/gen" typescript
rm -rf dist
npx --no-install tsc

#!/usr/bin/env bash
# Installs what the package needs, generates the code of the protos, compiles, tests.
set -euo pipefail
cd "$(dirname "$0")"

npm ci --no-fund --no-audit --silent
../../protos/generate.sh "$PWD/src/gen" typescript
rm -rf dist
npx --no-install tsc
node --test --test-reporter=dot dist/test/*.test.js

#!/usr/bin/env bash
# Generates the code of the protos: clients/ruby/build.sh OUT_FOLDER
set -euo pipefail
"$(dirname "$0")/../../protos/generate.sh" "$(realpath -m "$1")" ruby

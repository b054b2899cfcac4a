#!/usr/bin/env bash
# Refuses changes of the protos that break callers: protos/breaking.sh [COMMIT]
# Without a commit, compares with the last tag before this one; where there is none yet, with the commit before.
set -euo pipefail
cd "$(dirname "$0")"

base="${1:-$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null || true)}"
[ -n "$base" ] || base="HEAD^"
if ! commit="$(git rev-parse --quiet --verify "$base^{commit}")"; then
  echo "protos: there is no commit $base to compare with" >&2
  exit "$([ $# -gt 0 ] && echo 1 || echo 0)"
fi
# What stood there, in a folder of its own: buf reads no commit of a shallow clone or of a worktree.
before="$(mktemp -d)"
trap 'rm -rf "$before"' EXIT
git -C .. archive "$commit" protos | tar -x -C "$before"
echo "protos: compared with $base (${commit:0:7})"
buf breaking --against "$before/protos"

#!/usr/bin/env bash
# Generates the code of the protos, compiles and tests, without modules: clients/go/build.sh OUT_FOLDER
# Go finds its packages where Debian puts them. What goes into OUT_FOLDER is a GOPATH and `darkroom`.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
out="$(cd "$1" && pwd)"

"$here/../../protos/generate.sh" "$out/src" go
cp -r "$here"/*.go "$here/cmd" "$out/src/darkroom/"

export GO111MODULE=off GOFLAGS= GOPATH="$out:/usr/share/gocode"
cd "$out"
go vet darkroom darkroom/cmd/darkroom
go test darkroom
go build -o darkroom darkroom/cmd/darkroom

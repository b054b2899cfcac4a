#!/usr/bin/env bash
# Generates the code of the protos and compiles: clients/java/build.sh OUT_FOLDER
# Libraries are looked for where Debian puts them. OUT_FOLDER gets classes and the program `darkroom`.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
out="$(cd "$1" && pwd)"

jars=/usr/share/java
path=""
for name in guava failureaccess gson protobuf protobuf-util opencensus-api \
  geronimo-annotation-1.3-spec perfmark-api perfmark-impl "grpc-*" "netty-*"; do
  for jar in $jars/$name.jar; do
    # Each is there twice, once with its version.
    case "$jar" in *-[0-9]*.[0-9]*.[0-9]*) ;; *) [ ! -f "$jar" ] || path="$path:$jar" ;; esac
  done
done

"$here/../../protos/generate.sh" "$out/gen" java
rm -rf "$out/classes"
find "$out/gen" "$here/src" -name '*.java' >"$out/sources"
javac -nowarn -Xlint:-deprecation -cp "$path" -d "$out/classes" "@$out/sources"
cat >"$out/darkroom" <<PROGRAM
#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -cp "$out/classes$path" Darkroom "\$@"
PROGRAM
chmod +x "$out/darkroom"

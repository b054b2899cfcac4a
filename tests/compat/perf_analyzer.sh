#!/usr/bin/env bash
# Installs Triton's perf_analyzer as PyPI has it: tests/compat/perf_analyzer.sh FOLDER
# Its binary needs a newer C library than Debian 12 has: FOLDER/run starts it with that of Debian 13,
# unpacked beside it. Does nothing where it is there already.
set -euo pipefail
[ -x "$1/run" ] && exit 0
python="${PYTHON:-$(dirname "$0")/../../.venv/bin/python}"
mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/debs"
home="$(cd "$1" && pwd)"

"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
  --platform manylinux_2_38_x86_64 -d "$home/wheel" perf-analyzer==2.60.0
"$python" -m zipfile -e "$home"/wheel/perf_analyzer-*.whl "$home/unpacked"
chmod +x "$home/unpacked/perf_analyzer/bin/perf_analyzer"

echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" \
  > "$home/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$home/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$home/lists" -o "Dir::Cache=$home/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$home/debs" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libzstd1)
for package in "$home"/debs/*.deb; do dpkg -x "$package" "$home/root"; done
rm -rf "$home/debs" "$home/lists" "$home/cache" "$home/wheel"

cat > "$home/run.new" <<END
#!/bin/sh
exec "$home/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$home/root/usr/lib/x86_64-linux-gnu" \\
  "$home/unpacked/perf_analyzer/bin/perf_analyzer" "\$@"
END
chmod +x "$home/run.new"
"$home/run.new" --version >/dev/null
mv "$home/run.new" "$home/run"

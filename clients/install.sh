#!/usr/bin/env bash
# Installs the compilers and libraries of clients: clients/install.sh [LANGUAGE...]
# All languages without arguments. Debian's packages; does nothing where all are there.
set -euo pipefail

[ $# -gt 0 ] || set -- python typescript go cpp java ruby
packages=()
for language in "$@"; do
  case "$language" in
    python) ;;
    typescript)
      # Node is often there from elsewhere, and must be 20 or newer, which Debian 12 has not.
      command -v npm >/dev/null || packages+=(nodejs npm) ;;
    go)
      # Not protoc-gen-go and golang-goprotobuf-dev: they conflict with the newer pair here.
      packages+=(golang-go golang-google-grpc-dev golang-google-protobuf-dev golang-google-genproto-dev
        golang-github-golang-protobuf-1-5-dev protoc-gen-go-1-5 protoc-gen-go-grpc) ;;
    cpp)
      packages+=(g++ make pkg-config libgrpc++-dev libprotobuf-dev libssl-dev protobuf-compiler
        protobuf-compiler-grpc) ;;
    java)
      packages+=(default-jdk-headless libgrpc-java libprotobuf-java libguava-java libgoogle-gson-java
        libnetty-java libperfmark-java libgeronimo-annotation-1.3-spec-java protobuf-compiler
        protobuf-compiler-grpc-java-plugin) ;;
    ruby)
      packages+=(ruby ruby-grpc ruby-googleapis-common-protos-types protobuf-compiler
        protobuf-compiler-grpc) ;;
    *) echo "install.sh: no client in $language" >&2; exit 2 ;;
  esac
done

if [[ " $* " == *" typescript "* ]] && command -v node >/dev/null; then
  version=$(node -p 'process.versions.node')
  [ "${version%%.*}" -ge 20 ] || {
    echo "install.sh: the TypeScript client needs Node 20 or newer; here is $version" >&2; exit 1; }
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' ||
    missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install.sh: as root, on Debian 12: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "install.sh: ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null

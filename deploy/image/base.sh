#!/usr/bin/env bash
# Makes a replacement for the base image of the Dockerfile's first stage from this
# machine's Go, for places without a registry: deploy/image/base.sh NAME
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/image/lib.sh
tools
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,tmp,etc/ssl/certs,usr/local}
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh cp mkdir; do ln -s busybox "$root/bin/$name"; done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -r "$(go env GOROOT)" "$root/usr/local/go"
rm -rf "$root"/usr/local/go/{api,doc,test}
tar -C "$root" -c . | podman import --quiet --change ENV=PATH=/usr/local/go/bin:/bin \
  --change ENV=GOTOOLCHAIN=local --change ENV=GOPATH=/go --change ENV=GOCACHE=/root/.cache/go-build - "$1"

#!/usr/bin/env bash
# Builds the image without a container engine and without an image registry:
# deploy/image/build.sh NAME [build arguments]
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/image/lib.sh
tools
name=$1
shift
base=$(sed -n 's/^ARG GO_IMAGE=//p' Dockerfile)
if ! podman image exists "$base"; then
  echo "$base is not here: this machine's own Go stands in for it"
  deploy/image/base.sh "$base"
fi
go mod download
mkdir -p "$(go env GOCACHE)"
arguments=()
for argument; do arguments+=(--build-arg "$argument"); done
platform=linux/$(go env GOARCH)
buildah bud --quiet --pull-never --network host --tag "$name" \
  --build-arg BUILDPLATFORM="$platform" --build-arg TARGETOS=linux --build-arg TARGETARCH="$(go env GOARCH)" "${arguments[@]}" \
  --volume "$(go env GOMODCACHE):/go/pkg/mod" \
  --volume "$(go env GOCACHE):/root/.cache/go-build" .

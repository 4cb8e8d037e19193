#!/usr/bin/env bash
# Builds the image and runs it as README.md says: with a read-only root, no capabilities
# and 64 MB, in a network namespace of its own. Scrapes it from outside.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/image/lib.sh
tools
if [ "${1:-}" != inside ]; then
  go mod download
  # From here on only this script can be reached, and no port of the machine is taken.
  exec unshare --net --mount -- "$0" inside
fi
ip link set lo up
image=localhost/ncp_exporter:test
name=ncp_exporter_test # of the container and of the volume
work=$(mktemp -d)
cleanup() {
  container rm --force --ignore --time 1 "$name" "$name-demo" >/dev/null
  if container volume exists "$name"; then container volume rm "$name" >/dev/null; fi
  rm -rf "$work"
}
trap cleanup EXIT
cleanup
mkdir -p "$work"

fail() {
  echo "image: $*" >&2
  container logs "$name" >&2 || true
  exit 1
}

expect() { # WHAT WANT GOT
  [ "$2" = "$3" ] || fail "$1 is $3, want $2"
}

# Does what README.md asks docker for.
docker() {
  local verb=$1 arguments=()
  shift
  case $verb in
    build) deploy/image/build.sh "$image" VERSION=v9.9.9 REVISION=0123456 DATE=2026-01-02T03:04:05Z ;;
    run)
      while (($#)); do
        case $1 in
          --publish) shift ;; # the network is the host's
          --env-file=*) arguments+=("--env-file=$work/${1#*=}") ;;
          ncp_exporter) arguments+=("$image") ;;
          *) arguments+=("$1") ;;
        esac
        if [ "$1" = --name ] || [ "$1" = --volume ]; then
          arguments+=("${2/#ncp_exporter/$name}")
          shift
        fi
        shift
      done
      container run --network host --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "${arguments[@]}"
      ;;
    *) fail "the README calls docker $verb, which this test does not know" ;;
  esac
}

# curl that waits until the port is open.
curl() { command curl --silent --show-error --fail --retry 20 --retry-delay 1 --retry-connrefused --max-time 60 "$@"; }

printf 'NCLOUD_ACCESS_KEY_ID=key\nNCLOUD_SECRET_ACCESS_KEY=secret\n' >"$work/keys.env"
awk '/^<!-- tested: docker -->$/ {on = 1; next} on && /^```$/ {exit} on && !/^```sh$/' README.md >"$work/readme.sh"
[ "$(wc -l <"$work/readme.sh")" -ge 3 ] || fail "README.md has no block for Docker"
# shellcheck source=/dev/null
. "$work/readme.sh" >"$work/metrics"

grep -q '^ncp_exporter_state_persistent 1$' "$work/metrics" || fail "the ledger is not on the volume"
grep -q '^ncp_exporter_build_info{.*revision="0123456".*version="v9.9.9"' "$work/metrics" || fail "build_info does not tell the version"
awk '$1 == "go_gc_gomemlimit_bytes" && $2 > 0 && $2 <= 0.9 * 64 * 2^20 {ok = 1} END {exit !ok}' "$work/metrics" || fail "Go does not know the memory limit: $(grep '^go_gc_gomemlimit' "$work/metrics")"
grep -q '^ncp_scrape_collector_success{collector="external_access"} 0$' "$work/metrics" || fail "there is no NCP here, and still it is read"
expect "what the health check says" "ncp_exporter is healthy." "$(container exec "$name" /bin/ncp_exporter --health-check)"
data=$(container volume inspect --format '{{.Mountpoint}}' "$name")
expect "the owner of the ledger" 65532:65532 "$(stat -c %u:%g "$data/ncp_exporter.db")"
pid=$(container inspect --format '{{.State.Pid}}' "$name")
expect "the user" 65532 "$(awk '/^Uid:/ {print $2}' "/proc/$pid/status")"
expect "the capabilities" 0000000000000000 "$(awk '/^CapBnd:/ {print $2}' "/proc/$pid/status")"
expect "no new privileges" 1 "$(awk '/^NoNewPrivs:/ {print $2}' "/proc/$pid/status")"
grep -q ' / / ro' "/proc/$pid/mountinfo" || awk '$5 == "/" {print $6}' "/proc/$pid/mountinfo" | grep -q '^ro' || fail "the root file system can be written"
started=$(date +%s)
container stop --time 20 "$name" >/dev/null
(($(date +%s) - started < 15)) || fail "it does not end when it is told to"
expect "the exit code" 0 "$(container inspect --format '{{.State.ExitCode}}' "$name")"

size=$(container image inspect --format '{{.Size}}' "$image")
((size <= 16 * 1024 * 1024)) || fail "its size is $size, more than 16 MB"
inspect() { container image inspect --format "$1" "$image"; }
expect "the label of the version" v9.9.9 "$(inspect '{{index .Labels "org.opencontainers.image.version"}}')"
expect "the label of the revision" 0123456 "$(inspect '{{index .Labels "org.opencontainers.image.revision"}}')"
expect "the label of the license" Apache-2.0 "$(inspect '{{index .Labels "org.opencontainers.image.licenses"}}')"
expect "the user of the image" 65532:65532 "$(inspect '{{.Config.User}}')"

# Without an account, on a clean image: it has CA certificates, and no shell.
container run --detach --name "$name-demo" --network host --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
  --read-only --cap-drop=all --security-opt=no-new-privileges --memory=64m "$image" --demo >/dev/null
curl http://localhost:10420/metrics >"$work/metrics"
grep -q '^ncp_external_access_credential_authentications_total{' "$work/metrics" || fail "the demo has no counters"
container export "$name-demo" | tar -t >"$work/files"
grep -qx etc/ssl/certs/ca-certificates.crt "$work/files" || fail "the certificate authorities are missing"
if grep -E '^(usr/)?bin/(sh|busybox)$' "$work/files"; then fail "there is a shell"; fi
echo "image: $((size / 1024)) KiB, runs read-only as 65532 without capabilities in 64 MB"

#!/usr/bin/env bash
# Installs the package on Debian, with a real systemd as PID 1, and does there what the
# documents say: see inside.sh. As root: test.sh [SUITE...], by default two of Debian.
# ROOTS=DIR keeps what debootstrap made for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in debootstrap dpkg-deb unshare nsenter pivot_root pgrep; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is not there (apt-get install -y debootstrap dpkg util-linux procps)" >&2
    exit 1
  fi
done
if (($# == 0)); then set -- bullseye bookworm; fi
work=$(mktemp -d)
boot=$PWD/deploy/systemd/boot.sh
cleanup() {
  local pidfile
  for pidfile in "$work"/*.pid; do
    if [ -e "$pidfile" ]; then "$boot" stop "${pidfile%.pid}"; fi
  done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# The mirror that this machine's own packages come from; else debootstrap's default.
# shellcheck disable=SC2016 # apt-get expands it
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' | head -n 1)

make_root() { # SUITE
  local kept=${ROOTS:-$work/roots}/$1
  if [ ! -e "$kept" ]; then
    mkdir -p "$kept"
    if ! debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl "$1" "$kept" "$mirror" >"$work/$1.txt" 2>&1; then
      tail -n 20 "$work/$1.txt" >&2
      rm -rf "$kept"
      return 1
    fi
  fi
  cp --archive "$kept" "$work/$1"
}

# The last version, as far as an upgrade can tell: a user for each start, and copies of keys
# that root alone can read.
make_last() { # DEB NEW
  local dir=$work/last
  dpkg-deb --raw-extract "$2" "$dir"
  sed -i 's/^Version: .*/Version: 1.0.0/' "$dir/DEBIAN/control"
  sed -i -e 's/^User=.*/DynamicUser=yes/' -e '/^Group=/d' \
    -e 's|^Environment=NCP_EXPORTER_NCP_KEY_DIRECTORY=.*|LoadCredential=access-key:/etc/ncp_exporter/access-key\nLoadCredential=secret-key:/etc/ncp_exporter/secret-key\nEnvironment=NCP_EXPORTER_NCP_ACCESS_KEY_FILE=/run/credentials/ncp_exporter.service/access-key\nEnvironment=NCP_EXPORTER_NCP_SECRET_KEY_FILE=/run/credentials/ncp_exporter.service/secret-key|' \
    "$dir/usr/lib/systemd/system/ncp_exporter.service"
  rm -r "$dir/usr/lib/sysusers.d" "$dir/usr/lib/tmpfiles.d"
  chmod 700 "$dir/etc/ncp_exporter"
  printf '#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl try-restart ncp_exporter.service\n' >"$dir/DEBIAN/postinst"
  dpkg-deb --root-owner-group --build "$dir" "$1" >/dev/null
}

test_suite() { # SUITE
  local root=$work/$1
  mkdir "$root/root/test"
  cp "$work/files/"* "$root/root/test/"
  "$boot" start "$root"
  "$boot" run "$root" bash /root/test/inside.sh || { echo "systemd-test: $1 failed" >&2; return 1; }
  "$boot" stop "$root"
}

for suite; do make_root "$suite" & roots+=($!); done
mkdir "$work/files"
(cd deploy/release && go run . -out "$work/release" -targets "linux/$(go env GOARCH)" -version v1.0.1 -revision 0123456 -branch main -date 2026-01-02T03:04:05Z) >/dev/null
cp "$work/release/"*.deb deploy/systemd/inside.sh README.md docs/upgrade.md "$work/files/"
make_last "$work/files/last.deb" "$work/release/"*.deb
CGO_ENABLED=0 go build -o "$work/files/ncp" ./deploy/systemd/ncp
for job in "${roots[@]}"; do wait "$job"; done
for suite; do test_suite "$suite" & suites+=($!); done
for job in "${suites[@]}"; do wait "$job"; done

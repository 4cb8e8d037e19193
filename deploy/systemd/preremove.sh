#!/bin/sh
# Runs before a package is removed (deb: remove; rpm: 0 versions left) or replaced.
set -e
case "$1" in
  remove | 0)
    if [ -d /run/systemd/system ] && [ -z "${DPKG_ROOT:-}" ]; then
      systemctl disable --now ncp_exporter.socket ncp_exporter.service
    fi
    ;;
esac

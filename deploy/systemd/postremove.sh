#!/bin/sh
# Runs after a package was removed. It keeps the ledger and the configuration, until dpkg is
# asked to purge them.
set -e
if [ "$1" = purge ]; then
  rm -rf "${DPKG_ROOT:-}/etc/ncp_exporter" "${DPKG_ROOT:-}/var/lib/ncp_exporter" "${DPKG_ROOT:-}/var/lib/private/ncp_exporter"
fi
if [ -d /run/systemd/system ] && [ -z "${DPKG_ROOT:-}" ]; then
  systemctl daemon-reload
fi

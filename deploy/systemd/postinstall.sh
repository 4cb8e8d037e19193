#!/bin/sh
# Runs after a package was installed (deb: configure; rpm: the number of versions).
# It only restarts a service that runs: after a first install there are no keys yet.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart ncp_exporter.service
fi

#!/bin/sh
# Runs after a package was installed (deb: configure; rpm: the number of versions).
# It starts nothing that has not been started: the keys are not there yet.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart ncp_exporter.service
fi

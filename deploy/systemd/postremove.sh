#!/bin/sh
# Runs after a package was removed. The ledger and the keys stay.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

#!/bin/sh
# Runs after a package was removed. It keeps the ledger and the keys.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

#!/bin/sh
# Runs after a package was installed (deb: configure; rpm: the number of versions).
# It only restarts a service that runs: after a first install there are no keys yet.
set -e
# In an image that is being made for another machine, its systemd does this when it boots.
if [ -z "${DPKG_ROOT:-}" ] && command -v systemd-sysusers >/dev/null; then
  systemd-sysusers ncp_exporter.conf
  systemd-tmpfiles --create ncp_exporter.conf
  # Earlier versions were given copies of keys that root alone could read.
  for key in /etc/ncp_exporter/access-key /etc/ncp_exporter/secret-key /etc/ncp_exporter/keys /etc/ncp_exporter/keys/*; do
    if [ "$(stat --format %G "$key" 2>/dev/null)" = root ]; then
      chgrp ncp_exporter "$key"
      chmod g+rX "$key"
    fi
  done
fi
if [ -d /run/systemd/system ] && [ -z "${DPKG_ROOT:-}" ]; then
  systemctl daemon-reload
  systemctl try-restart ncp_exporter.service
fi

#!/usr/bin/env bash
# Runs on a machine that test.sh has booted, beside the packages, the documents and a
# simulated NCP.
set -euo pipefail
cd /root/test

fail() {
  echo "systemd: $*" >&2
  tail -n 3 /tmp/curl.txt >&2 || true
  journalctl --unit ncp_exporter --no-pager --output cat | tail -n 30 >&2
  exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
step() { echo "systemd: $(. /etc/os-release && echo "$VERSION_CODENAME"): $*"; }

sudo() { "$@"; }
around='command' # what the test does around a document's systemctl
systemctl() { "$around" systemctl "$@"; }
# curl that waits until the port is open.
curl() { command curl --silent --show-error --fail --retry 20 --retry-delay 1 --retry-connrefused --max-time 60 "$@" 2>>/tmp/curl.txt; }
# The blocks of a document that are marked so.
block() { # MARK FILE
  local text
  text=$(awk -v mark="<!-- tested: $1 -->" '$0 == mark {on = 1; next} on && /^```$/ {on = 0} on && !/^```sh$/' "$2")
  [ -n "$text" ] || fail "$2 has no block $1"
  printf '%s\n' "$text"
}
metric() { curl "http://localhost:10420/metrics" | awk -v name="$1" '$1 == name {print $2}'; }
expect() { # WHAT WANT GOT
  [ "$2" = "$3" ] || fail "$1 is '$3', want '$2'"
}
works() { # WHAT: both APIs accept the keys
  expect "$1: Certificate Manager" 1 "$(metric 'ncp_scrape_collector_success{collector="certificate_manager"}')"
  expect "$1: External Access" 1 "$(metric 'ncp_scrape_collector_success{collector="external_access"}')"
  expect "$1: a ledger on disk" 1 "$(metric ncp_exporter_state_persistent)"
}
pid() { systemctl show --property MainPID --value ncp_exporter; }
said() { journalctl --unit ncp_exporter --no-pager --output cat --since "$since" | grep --quiet --extended-regexp "$1"; }
waits_for() { # what must be in the log, sooner or later
  for _ in $(seq 300); do
    if said "$1"; then return; fi
    sleep 0.1
  done
  fail "the log does not say: $1"
}
restart() {
  since=$(date '+%F %T.%6N')
  systemctl restart ncp_exporter
}
accept() { curl --request POST "http://127.0.0.1:9000/keys?access=$1&secret=$2"; }
keys() { # ACCESS SECRET: written as README.md has them installed
  printf %s "$1" >access-key
  printf %s "$2" >secret-key
}
default=/etc/default/ncp_exporter
settings= # what is in it after README.md's steps
choose() { # VARIABLE [SETTINGS]: takes the # away from its example
  printf '%s\n' "${2:-$settings}" | sed "s/^#\($1=\)/\1/" >"$default.new"
  mv "$default.new" "$default"
}
since=today

echo 127.0.0.1 localhost >/etc/hosts
install -m 0755 ncp /usr/local/bin/ncp
systemd-run --quiet --unit=ncp /usr/local/bin/ncp
curl http://127.0.0.1:9000/urls >urls

step upgrade over the last version
dpkg --install last.deb >/dev/null
keys Key1 Secret1
accept Key1 Secret1
install -m 0600 access-key secret-key /etc/ncp_exporter/
cat urls >>"$default"
systemctl enable --quiet --now ncp_exporter
works "the last version"
series=ncp_external_access_counting_since_timestamp_seconds
counting=$(metric $series)
expect "the last version's user" dynamic "$(getent passwd ncp_exporter >/dev/null || echo dynamic)"
DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Dpkg::Options::=--force-confold ./ncp-exporter_1.0.1_*.deb >apt.txt 2>&1 || fail "$(cat apt.txt)"
works "after the upgrade"
expect "the time since when it counts" "$counting" "$(metric $series)"
expect "the owner of the ledger" ncp_exporter:600 "$(stat --format %U:%a /var/lib/ncp_exporter/ncp_exporter.db)"
expect "the user" ncp_exporter "$(stat --format %U "/proc/$(pid)")"

step purge
DEBIAN_FRONTEND=noninteractive apt-get purge -qq ncp-exporter >apt.txt 2>&1 || fail "$(cat apt.txt)"
for path in /etc/ncp_exporter $default /var/lib/ncp_exporter /var/lib/private/ncp_exporter /usr/bin/ncp_exporter; do
  if [ -e "$path" ] || [ -L "$path" ]; then fail "after a purge there is $path"; fi
done
if command curl --silent http://localhost:10420/; then fail "after a purge something serves"; fi
if find /etc/systemd/system -name 'ncp_exporter*' | grep .; then fail "after a purge the units are enabled"; fi

step "README.md's steps"
mkdir readme && cd readme
cp ../ncp-exporter_1.0.1_*.deb .
keys Key1 Secret1
# Beside the steps: where NCP is.
# shellcheck disable=SC2317 # by systemctl
with_urls() {
  if [ "$2" = enable ]; then cat ../urls >>"$default"; fi
  command "$@"
}
around=with_urls
block systemd ../README.md >steps.sh
# shellcheck source=/dev/null
. ./steps.sh >steps.txt 2>&1 || fail "$(cat steps.txt)"
around='command'
cd ..
works "README.md's steps"
settings=$(cat "$default")
if systemctl is-active --quiet ncp_exporter.socket; then fail "the socket is on, and nobody asked for it"; fi
level=$(systemd-analyze security --no-pager ncp_exporter.service | sed -n 's/.*exposure level for ncp_exporter.service: \([0-9.]*\) .*/\1/p')
awk -v level="$level" 'BEGIN {exit !(level > 0 && level <= 1.5)}' || fail "the exposure is '$level', more than 1.5"

step rotated keys
before=$(pid)
accept Key2 Secret2
expect "before the keys are there, External Access" 0 "$(metric 'ncp_scrape_collector_success{collector="external_access"}')"
keys Key2 Secret2
install -m 0640 access-key secret-key /etc/ncp_exporter/
works "rotated keys"
expect "the process" "$before" "$(pid)"

step kill
counting=$(metric $series)
kill -KILL "$before"
works "after a kill"
expect "the time since when it counts" "$counting" "$(metric $series)"
if [ "$before" = "$(pid)" ]; then fail "the process is the same after a kill"; fi

step a clean end is a restart too
kill -TERM "$(pid)"
works "after a SIGTERM"

step maintenance and rollback
block maintenance upgrade.md >maintain.sh
# shellcheck disable=SC2317 # by systemctl
with_a_scrape() {
  command "$@"
  if [ "$2" = stop ]; then # a scrape does not start it again
    if command curl --silent http://localhost:10420/metrics; then fail "it serves during the maintenance"; fi
    expect "the service during the maintenance" inactive "$(command systemctl is-active ncp_exporter || true)"
  fi
}
around=with_a_scrape
# shellcheck source=/dev/null
. ./maintain.sh >maintain.txt 2>&1 || fail "$(cat maintain.txt)"
around='command'
works "after the maintenance"
expect "the time since when it counts" "$counting" "$(metric $series)"

step a key file that is missing
mv /etc/ncp_exporter/secret-key kept
restart
waits_for 'level=error .*/etc/ncp_exporter/secret-key.*no such file'
mv kept /etc/ncp_exporter/secret-key
works "once it is there again"

step no keys at all
mv /etc/ncp_exporter/*-key .
restart
waits_for 'level=error .*no NCP keys found: put access-key and secret-key into /etc/ncp_exporter'

step environment file
printf 'NCLOUD_ACCESS_KEY_ID=Key3\nNCLOUD_SECRET_ACCESS_KEY=Secret3\n' >environment
install -m 0600 environment /etc/ncp_exporter/
accept Key3 Secret3
restart
works "keys in the environment file"
said 'keys="environment'
rm /etc/ncp_exporter/environment

step profile file
printf '[DEFAULT]\nncloud_access_key_id = Key4\nncloud_secret_access_key = Secret4\n' >configure
install -m 0640 configure /etc/ncp_exporter/
accept Key4 Secret4
choose NCP_EXPORTER_NCP_CREDENTIALS_FILE
restart
works "keys in a profile file"
said 'keys="profile'

step server role
choose NCP_EXPORTER_NCP_SERVER_ROLE
restart
works "the keys of a server role"
said 'keys="server role'

step demo
choose NCP_EXPORTER_DEMO
restart
expect "the demo: External Access" 1 "$(metric 'ncp_scrape_collector_success{collector="external_access"}')"
expect "the demo: a ledger on disk" 1 "$(metric ncp_exporter_state_persistent)"
waits_for 'msg="Demo: '

step TLS
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -days 1 -keyout tls.key -out tls.crt 2>/dev/null
printf 'tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n' >web.yml
install -m 0640 web.yml tls.key tls.crt /etc/ncp_exporter/
choose NCP_EXPORTER_WEB_CONFIG_FILE
choose NCP_EXPORTER_DEMO "$(cat "$default")"
restart
curl --cacert tls.crt https://localhost:10420/-/healthy >/dev/null

step several accounts
mkdir -p /etc/ncp_exporter/keys
install -m 0640 access-key /etc/ncp_exporter/keys/one.access-key
install -m 0640 secret-key /etc/ncp_exporter/keys/one.secret-key
accept Key2 Secret2
account() { echo "  $1: {keys: {access_key_file: keys/one.access-key, secret_key_file: keys/one.secret-key}}"; }
{ echo accounts:; account one; } >accounts.yml
install -m 0640 accounts.yml /etc/ncp_exporter/
choose NCP_EXPORTER_CONFIG_FILE "$(grep -v _URL= <<<"$settings")"
restart
curl http://localhost:10420/sd | grep --quiet '"one"'
echo '  two: {keys: {server_role: true}}' >>/etc/ncp_exporter/accounts.yml
before=$(pid)
systemctl reload ncp_exporter
waits_for 'accounts.*two|two.*[Aa]ccount|account=two'
for _ in $(seq 100); do curl http://localhost:10420/sd | grep --quiet '"two"' && break; sleep 0.1; done
curl http://localhost:10420/sd | grep --quiet '"two"'
expect "the process after a reload" "$before" "$(pid)"
echo '  three: {sites: gov}' >>/etc/ncp_exporter/accounts.yml
if systemctl reload ncp_exporter 2>/dev/null; then fail "a wrong file is reloaded"; fi
said 'accounts.three.sites|three: .*sites|sites'
expect "the process after a reload that was refused" "$before" "$(pid)"

step reload of one account
echo "$settings" >"$default"
mv access-key secret-key /etc/ncp_exporter/
chgrp ncp_exporter /etc/ncp_exporter/*-key
restart
works "one account again"
before=$(pid)
if systemctl reload ncp_exporter 2>/dev/null; then fail "a reload of one account is not refused"; fi
expect "the process after a reload that was refused" "$before" "$(pid)"

step socket activation, for who enables it
systemctl stop ncp_exporter
systemctl enable --quiet --now ncp_exporter.socket
works "started by a scrape"
systemctl restart ncp_exporter
works "a restart on the socket"
systemctl disable --quiet --now ncp_exporter.socket
restart
works "without the socket again"

#!/usr/bin/env bash
# Boots the systemd of a root file system as PID 1, in namespaces of its own with loopback
# as the only network. Needs root. For `make systemd-test`.
#
#   boot.sh start ROOT          boots it, and returns when it has started
#   boot.sh run ROOT CMD...     runs a command inside
#   boot.sh stop ROOT           ends all that runs in it
set -euo pipefail
verb=$1 root=$(readlink -f "$2")
shift 2
pidfile=$root.pid
cgroups=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
group=$cgroups/boot-$(basename "$(dirname "$root")")-$(basename "$root")

# The systemd inside, by its number out here.
init() { pgrep -P "$(cat "$pidfile")" | head -n 1; }

inside() {
  nsenter --target "$(init)" --mount --pid --uts --ipc --net --cgroup --root --wd \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 "$@"
}

# What a machine has before its systemd starts; then systemd.
boot() {
  mount --make-rprivate /
  mount --bind "$root" "$root"
  cd "$root"
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs dev
  for d in null zero full random urandom tty; do
    touch "dev/$d"
    mount --bind "/dev/$d" "dev/$d"
  done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  touch dev/console
  for d in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$d"; done
  chmod 755 run
  ip link set lo up
  hostname booted
  pivot_root . mnt
  cd /
  umount -l /mnt
  mount --make-rshared /
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal --unit=multi-user.target
}

case $verb in
start)
  mkdir -p "$group"
  export root
  (
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child bash -euc "$(declare -f boot); boot"
  ) </dev/null >"$root.log" 2>&1 &
  echo $! >"$pidfile"
  for _ in $(seq 300); do
    if [ -n "$(init)" ] && inside systemctl is-system-running 2>/dev/null | grep -qxE 'running|degraded'; then exit; fi
    kill -0 "$(cat "$pidfile")" 2>/dev/null || break
    sleep 0.1
  done
  echo "$root has not started in 30 s:" >&2
  cat "$root.log" >&2
  exit 1
  ;;
run) inside "$@" ;;
stop)
  pid=$(cat "$pidfile")
  kill -KILL "$pid" 2>/dev/null || true
  rm "$pidfile"
  for _ in $(seq 100); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    if [ ! -d "$group" ]; then exit; fi
    sleep 0.1
  done
  echo "$group does not end" >&2
  exit 1
  ;;
esac

# shellcheck shell=bash
# For the scripts here: a container engine that needs no daemon, no network bridge and
# no privileges over the machine.
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

tools() {
  local tool
  for tool in buildah podman runc; do
    if ! command -v "$tool" >/dev/null; then
      echo "$tool is not there (apt-get install -y buildah podman runc)" >&2
      exit 1
    fi
  done
}

container() { podman --runtime runc --cgroup-manager cgroupfs "$@"; }

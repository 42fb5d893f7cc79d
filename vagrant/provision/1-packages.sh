#!/usr/bin/env bash
# Installs the distribution's packages that a test host needs: libvirt with QEMU, what the lab's guests are built
# from, Prometheus, and pytest. Debian and Ubuntu. A second run changes nothing, and needs no network.
set -euo pipefail

packages=(
  libvirt-daemon-system libvirt-clients systemd-container  # libvirt; guests in scopes of their own
  qemu-system-x86 qemu-utils                               # the guests
  python3 python3-venv python3-libvirt                     # balloond, with the libvirt binding that fits
  busybox-static cpio gcc libc6-dev                        # what the lab's guests are built from
  procps fdisk                                             # kill for the unit; a swap partition for the checks
  prometheus                                               # what scrapes the daemon
  python3-pytest python3-hypothesis                        # what runs the checks
)

say() { printf 'packages: %s\n' "$*"; }

# The lab boots the distribution's own kernel, the one made for guests; which package holds it differs.
# shellcheck source=/dev/null
case "$(. /etc/os-release && echo "${ID:-}")" in
  ubuntu) packages+=(linux-image-virtual) ;;
  *) packages+=(linux-image-cloud-amd64) ;;
esac

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
  say "all there"
  exit
fi
say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"

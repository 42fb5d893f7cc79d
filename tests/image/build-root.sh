#!/usr/bin/env bash
# Makes the root file system of the test host: build-root.sh SUITE ROOT TREE WHEELS SOURCES
# Runs in namespaces of its own (see disk.py), so its mounts and processes are gone with it, however it ends.
set -euo pipefail
suite=$1 root=$2 tree=$3 wheels=$4 sources=$5

# What makes a Debian a host that boots; libvirt and all the rest is installed by the provisioning script itself.
base=(systemd systemd-sysv dbus udev polkitd kmod iproute2 initramfs-tools linux-image-cloud-amd64 ca-certificates)

mirror=$(cut -d ' ' -f 2 "$sources" | head -n 1) # empty: debootstrap's own
debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
[ -z "$mirror" ] || cp "$sources" "$root/etc/apt/sources.list"

# This machine's way to its mirror: proxies and the like; not what it does with lists of its own.
apt-config dump | grep '^Acquire::' | grep -v -e '^Acquire::IndexTargets' -e ' "";$' >"$root/etc/apt/apt.conf.d/90build" || true
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts while building
chmod 755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mkdir "$root/tmp/tree"
mount --bind -o ro "$tree" "$root/tmp/tree"

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
inside apt-get update -q
inside apt-get install -q -y --no-install-recommends "${base[@]}"
inside /tmp/tree/vagrant/provision/1-packages.sh
inside apt-get clean

rm "$root/usr/sbin/policy-rc.d" "$root/etc/apt/apt.conf.d/90build" "$root/etc/resolv.conf"
cp -r "$wheels" "$root/opt/wheels"
echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
echo test-host >"$root/etc/hostname"
echo '127.0.0.1 localhost test-host' >"$root/etc/hosts"
# The console is for the kernel and systemd alone: a login prompt would wipe it.
ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
# One interface, whose only use is that metrics can be scraped from outside.
printf '[Match]\nName=en*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/host.network"
inside systemctl enable systemd-networkd.service
# Background chores of a machine that lives for months; here they would only take the processor from the checks.
inside systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  prometheus.service systemd-networkd-wait-online.service
cp "$(dirname "$0")/host-test.service" "$root/etc/systemd/system/"
inside systemctl enable host-test.service

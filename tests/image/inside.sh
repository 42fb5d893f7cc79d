#!/usr/bin/env bash
# Runs inside the test host, at every boot of it. At the first it installs the project by vagrant's provisioning
# scripts; at the second, with the service started by systemd alone, it checks. Its output is the report.
# Asked for the self-test (self-test.sh), it does that instead, at the first boot.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels

finish() {
  echo "host-test: exit $1"
  systemctl --no-block poweroff # whoever started the host may end it before
  exit "$1"
}

if grep -qw balloond.self_test /proc/cmdline; then
  tests/image/self-test.sh
  finish $?
fi
if [ ! -e /var/lib/host-test ]; then
  udevadm settle # /dev/kvm comes late
  for script in vagrant/provision/*.sh; do
    echo "== $script"
    "$script" || finish 1
  done
  touch /var/lib/host-test
  echo "== rebooting"
  sync
  systemctl --no-block reboot
  exit
fi
# Of the end-to-end tests one, with one guest: these take hours where guests are emulated inside an emulated host.
END_TO_END=test_shrinking_the_balloon_takes_memory END_TO_END_PATIENCE=10 vagrant/check.sh
finish $?

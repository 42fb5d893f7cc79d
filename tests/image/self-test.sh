#!/usr/bin/env bash
# Do the test host's checks notice a broken unit, and name the cause? Inside the host, the unit is broken on purpose,
# installed and checked, once for each of the ways below; at the end it is mended, and must pass.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
unit=systemd/balloond.service
whole=$(mktemp) output=$(mktemp)
cp "$unit" "$whole"
status=0

# Installs the unit as it is now, and makes the checks that need no guests.
install_and_check() {
  vagrant/provision/2-install.sh >"$output" 2>&1 || echo "self-test: the installation failed" >>"$output"
  END_TO_END=no vagrant/check.sh tests/host/test_0_unit.py tests/host/test_2_sandbox.py >>"$output" 2>&1
}

# broken WHAT SED CAUSE...: changed by SED, the unit must fail the checks with a message that holds each CAUSE.
broken() {
  local what=$1 change=$2 cause missing=
  shift 2
  echo "== a unit with $what: $change"
  sed -e "$change" "$whole" >"$unit"
  ! cmp -s "$whole" "$unit" || missing="that changed nothing"
  ! install_and_check || missing="it passed"
  for cause; do
    grep -qF -e "$cause" "$output" || missing="the message does not say: $cause"
  done
  if [ -z "$missing" ]; then
    for cause; do
      grep -F -m 1 -e "$cause" "$output" | sed -e 's/^/  | /'
    done
    echo "self-test: PASSED a unit with $what fails, and the cause is named"
  else
    cat "$output"
    echo "self-test: FAILED a unit with $what: $missing"
    status=1
  fi
}

broken "a wrong path" 's,^ExecStart=/usr/bin/balloond,ExecStart=/usr/bin/no-such-balloond,' \
  'self-test: the installation failed' \
  'test_it_is_ready_within_ten_seconds_of_its_start_where_the_processor_is_real FAILED' \
  'status=203/EXEC' \
  '/usr/bin/no-such-balloond: No such file or directory'
broken "a sandbox too tight to start in" 's/^RestrictAddressFamilies=.*/RestrictAddressFamilies=AF_INET AF_INET6/' \
  'self-test: the installation failed' \
  'Address family not supported by protocol' \
  'the sandbox is too tight to reach libvirt' \
  'What opens it in balloond.service: AF_UNIX in RestrictAddressFamilies='
broken "a sandbox too tight to merge pages in" '/^ReadWritePaths=.*ksm/d' \
  "the sandbox is too tight to write KSM's settings: OSError: [Errno 30] Read-only file system" \
  'What opens it in balloond.service: ReadWritePaths=-/sys/kernel/mm/ksm'
broken "a start that takes longer than it may" '/^ExecStart=/i ExecStartPre=/bin/sleep 50' \
  'test_it_is_ready_within_ten_seconds_of_its_start_where_the_processor_is_real FAILED' \
  'it was ready only '
broken "no order after libvirt" '/^After=libvirtd/d' \
  'test_it_is_ordered_after_libvirt_in_either_form_and_needs_none FAILED' \
  'test_it_waits_for_a_virtqemud_that_is_being_started FAILED'
broken "a sandbox too wide" '/^InaccessiblePaths=/d; /^ReadOnlyPaths=.proc/d' \
  'the sandbox lets it read password hashes' \
  "choose the OOM killer's victim" \
  "open beyond that: frozenset({'/proc'})"

echo "== the unit as it was"
cp "$whole" "$unit"
if install_and_check; then
  cat "$output"
  echo "self-test: PASSED the mended unit passes"
else
  cat "$output"
  echo "self-test: FAILED the mended unit does not pass"
  status=1
fi
exit "$status"

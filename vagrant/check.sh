#!/usr/bin/env bash
# The report: checks this host with the service as it is installed, then runs the end-to-end tests on real guests.
# The same on bare metal, in a Vagrant machine and in `make test-host`, which runs one of the end-to-end tests: its
# guests are emulated inside an emulated host.
#
# For test hosts only: it rewrites /etc/balloond/balloond.yaml (and puts it back), kills the daemon, starts and
# ends guests of its own, and limits machine.slice for a while.
#
# Arguments: which of the checks; without any, all of tests/host.
# By environment variable: END_TO_END is yes, no, or an expression of pytest's (-k) that says which of those tests;
# END_TO_END_PATIENCE=10 has them wait ten times as long, for guests that are emulated inside an emulated host.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export PYTHONDONTWRITEBYTECODE=1
python=/opt/balloond/bin/python
end_to_end=${END_TO_END:-yes}
status=0

echo "== this host with the service"
HOST_CHECKS=yes "$python" -m pytest -p no:cacheprovider -v --tb=short -rsP "${@:-tests/host}" || status=1

if [ "$end_to_end" != no ]; then
  export BALLOOND_LAB_PATIENCE=${END_TO_END_PATIENCE:-1}
  chosen=()
  [ "$end_to_end" = yes ] || chosen=(-k "$end_to_end")
  echo "== end to end, on real guests ($("$python" -m balloond.lab probe))"
  trap 'systemctl start balloond' EXIT
  systemctl stop balloond # it would manage the tests' guests as well
  "$python" -m pytest -p no:cacheprovider -v --tb=short -m end_to_end "${chosen[@]}" tests/end_to_end || status=1
fi
exit "$status"

#!/usr/bin/env bash
# The report: checks this host with the service as it is installed, then runs the end-to-end tests on real guests.
# The same on bare metal, in a Vagrant machine and in `make test-host`, which leaves the end-to-end tests out
# (END_TO_END=no): its guests are emulated inside an emulated host.
#
# For test hosts only: it rewrites /etc/balloond/balloond.yaml (and puts it back), kills the daemon, starts and
# ends guests of its own, and limits machine.slice for a while.
#
# Arguments: which of the checks; without any, all of tests/host.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export PYTHONDONTWRITEBYTECODE=1
python=/opt/balloond/bin/python
status=0

echo "== this host with the service"
HOST_CHECKS=yes "$python" -m pytest -p no:cacheprovider -v --tb=short -rsP "${@:-tests/host}" || status=1

if [ "${END_TO_END:-yes}" = yes ]; then
  echo "== end to end, on real guests ($("$python" -m balloond.lab probe))"
  systemctl stop balloond # it would manage the tests' guests as well
  "$python" -m pytest -p no:cacheprovider -v --tb=short -m end_to_end tests/end_to_end || status=1
  systemctl start balloond
fi
exit "$status"

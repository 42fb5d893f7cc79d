#!/usr/bin/env bash
# Installs balloond from this tree as README's "Install" says, and starts it as a service. What the operator has
# changed in /etc/balloond stays. A second run changes nothing, and does not restart the daemon.
#
# Where something fails, what was there before stays: a program is built before it replaces another. Run it again, or
# run that of the former tree, and it does what is left to do.
#
# Without a network: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIRECTORY with the wheels of setuptools, wheel and what
# pyproject.toml lists as dependencies.
set -euo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
home=/opt/balloond
due=$home/restart-due # the daemon that runs is older than what was installed

say() { printf 'install: %s\n' "$*"; }

# put SOURCE TARGET: the file at its place, if it is not there already.
put() {
  cmp -s "$1" "$2" && return
  install -D -m 644 "$1" "$2"
  say "wrote $2"
}

# put_for_daemon SOURCE TARGET: likewise what a daemon takes up only when it starts.
put_for_daemon() {
  cmp -s "$1" "$2" && return
  touch "$due"
  put "$1" "$2"
}

# What is installed is known by a digest of the sources: their version need not change between two commits.
digest() {
  (cd "$tree" && find balloond pyproject.toml -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
}

dependencies() {
  "$home/bin/python" -c 'import sys, tomllib
print(*tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"], sep="\n")' "$tree/pyproject.toml"
}

if [ "$(cat "$home/installed" 2>/dev/null)" != "$(digest)" ]; then
  say "the program into $home"
  [ -x "$home/bin/python" ] || python3 -m venv --system-site-packages "$home"
  pip=("$home/bin/pip" --quiet --disable-pip-version-check)
  building=$(mktemp -d) # pip builds in the tree that it is given, and leaves its traces there
  trap 'rm -rf "$building"' EXIT
  cp -r "$tree/balloond" "$tree/pyproject.toml" "$tree/README.md" "$building"
  "${pip[@]}" wheel --no-deps --wheel-dir "$building/wheel" "$building"
  dependencies >"$building/needed"
  "${pip[@]}" install --requirement "$building/needed"
  touch "$due"
  rm -f "$home/installed"
  # By force: one of the same version would stay. If it fails, pip puts the former back.
  "${pip[@]}" install --no-deps --force-reinstall "$building"/wheel/*.whl
  digest >"$home/installed"
fi
for program in balloond balloonctl; do
  [ "$(readlink "/usr/bin/$program")" = "$home/bin/$program" ] && continue
  ln -sfn "$home/bin/$program" "/usr/bin/$program"
  say "linked /usr/bin/$program"
done

[ -e /etc/balloond/balloond.yaml ] || put_for_daemon "$tree/etc/balloond.yaml" /etc/balloond/balloond.yaml
put "$tree/etc/balloond.schema.json" /etc/balloond/balloond.schema.json
for page in "$tree"/docs/*.md; do
  put "$page" "/usr/share/doc/balloond/docs/${page##*/}"
done
put_for_daemon "$tree/systemd/sysusers.conf" /etc/sysusers.d/balloond.conf
put_for_daemon "$tree/systemd/balloond.service" /etc/systemd/system/balloond.service

if [ ! -e "$due" ] && systemctl is-active --quiet balloond; then
  say "the daemon runs, and is up to date"
  exit
fi
systemd-sysusers balloond.conf
systemctl daemon-reload
systemctl is-enabled --quiet balloond || systemctl enable balloond
if ! systemctl restart balloond; then
  say "balloond did not start; systemd says:"
  systemctl --no-pager --full status balloond || true
  journalctl --no-pager --boot --unit balloond --lines 30 || true
  exit 1
fi
rm -f "$due"
say "balloond runs: $(systemctl show --value --property StatusText balloond)"

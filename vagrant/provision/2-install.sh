#!/usr/bin/env bash
# Installs balloond from this tree as README's "Install" says, and starts it as a service. What the operator has
# changed in /etc/balloond stays. A second run changes nothing, and does not restart the daemon.
#
# Without a network: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIRECTORY with the wheels of setuptools, wheel and what
# pyproject.toml lists as dependencies.
set -euo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
home=/opt/balloond
changed=

say() { printf 'install: %s\n' "$*"; }

# put SOURCE TARGET: the file at its place, if it is not there already.
put() {
  cmp -s "$1" "$2" && return
  install -D -m 644 "$1" "$2"
  say "wrote $2"
  changed=yes
}

# What is installed is known by a digest of the sources: their version need not change between two commits.
digest() {
  (cd "$tree" && find balloond pyproject.toml -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
}

if [ "$(cat "$home/installed" 2>/dev/null)" != "$(digest)" ]; then
  say "the program into $home"
  [ -x "$home/bin/python" ] || python3 -m venv --system-site-packages "$home"
  building=$(mktemp -d) # pip builds in the tree that it is given, and leaves its traces there
  trap 'rm -rf "$building"' EXIT
  cp -r "$tree/balloond" "$tree/pyproject.toml" "$tree/README.md" "$building"
  "$home/bin/pip" --quiet --quiet uninstall --yes balloond # else one of the same version would stay
  "$home/bin/pip" --quiet --disable-pip-version-check install "$building"
  digest >"$home/installed"
  changed=yes
fi
for program in balloond balloonctl; do
  [ "$(readlink "/usr/bin/$program")" = "$home/bin/$program" ] && continue
  ln -sfn "$home/bin/$program" "/usr/bin/$program"
  say "linked /usr/bin/$program"
done

[ -e /etc/balloond/balloond.yaml ] || put "$tree/etc/balloond.yaml" /etc/balloond/balloond.yaml
put "$tree/etc/balloond.schema.json" /etc/balloond/balloond.schema.json
for page in "$tree"/docs/*.md; do
  put "$page" "/usr/share/doc/balloond/docs/${page##*/}"
done
put "$tree/systemd/sysusers.conf" /etc/sysusers.d/balloond.conf
put "$tree/systemd/balloond.service" /etc/systemd/system/balloond.service

if [ -z "$changed" ] && systemctl is-active --quiet balloond; then
  say "nothing to do"
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
say "balloond runs: $(systemctl show --value --property StatusText balloond)"

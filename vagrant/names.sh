#!/usr/bin/env bash
# Has machines know each other, and themselves, by name: names.sh FILE ADDRESS NAME [ADDRESS NAME]...
# FILE is /etc/hosts. A machine's own name must not lead to its loopback: libvirt tells it to whoever migrates a guest
# there. A second run changes nothing.
set -euo pipefail
file=$1
shift
wanted=$(mktemp) next=$(mktemp)
trap 'rm -f "$wanted" "$next"' EXIT
cp "$file" "$wanted"
while [ $# -gt 0 ]; do
  awk -v address="$1" -v name="$2" '
    { found = 0; kept = $1; for (i = 2; i <= NF; i++) if ($i == name) found = 1; else kept = kept " " $i }
    !found { print; next }
    kept != $1 { print kept }
    END { print address, name }' "$wanted" >"$next"
  cp "$next" "$wanted"
  shift 2
done
cmp -s "$wanted" "$file" || cat "$wanted" >"$file"

#!/usr/bin/env bash
# Builds what the lab's guests boot: this machine's own kernel, busybox and the workload. Kept under a hash of all
# that went in, so a second run changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1 # the tree is somebody's checkout
printf 'guests: image in %s\n' "$(/opt/balloond/bin/python -m balloond.lab image)"

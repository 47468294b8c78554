#!/usr/bin/env bash
# The Python environment of tests, demo and benchmarks, made anew when its requirements change.
set -euo pipefail
cache="${SLIPWAY_CACHE:-$HOME/.cache/slipway}"
requirements="$(dirname "$0")/../requirements.txt"
mark="$cache/venv/.requirements"
if cmp -s "$requirements" "$mark"; then echo "up to date"; exit 0; fi
[ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
"$cache/venv/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements"
cp "$requirements" "$mark"

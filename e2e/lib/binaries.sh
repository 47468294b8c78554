#!/usr/bin/env bash
# Builds the static binaries and puts them where images and tests find them.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${SLIPWAY_CACHE:-$HOME/.cache/slipway}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --locked --workspace --bins
mkdir -p "$cache/images"
for name in operator trainer server router; do
  built="$CARGO_TARGET_DIR/$triple/release/slipway-$name"
  cmp -s "$built" "$cache/images/slipway-$name" || install -m 755 "$built" "$cache/images/slipway-$name"
done

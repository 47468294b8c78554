#!/bin/sh
# Builds slipway-hub to ${SLIPWAY_CACHE:-$HOME/.cache/slipway}/bin and prints the binary's path.
# A second call with the same sources and toolchain returns at once.
set -eu
cd "$(dirname "$0")"
cache=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
binary=$cache/bin/slipway-hub
mkdir -p "$cache/bin"
sources=$({ find . \( -name '*.go' -o -name go.mod -o -name go.sum \) ! -name '*_test.go' | LC_ALL=C sort | xargs sha256sum; go env GOVERSION; } | sha256sum)
# Callers in parallel must not write the same files.
exec 9>"$cache/bin/.slipway-hub.lock"
flock 9
if [ ! -x "$binary" ] || [ "$(cat "$binary.sources" 2>/dev/null)" != "$sources" ]; then
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$binary.new" .
    mv "$binary.new" "$binary"
    printf '%s\n' "$sources" >"$binary.sources"
fi
printf '%s\n' "$binary"

#!/usr/bin/env bash
# Builds the images of operator, trainer, server and test Hub as OCI archives under $SLIPWAY_CACHE/images.
# A tag is the hash of what went in, so that a changed image is always a new name; NAME.ref holds the current one.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${SLIPWAY_CACHE:-$HOME/.cache/slipway}"
out="$cache/images"
build() { # NAME CONTAINERFILE FILES...
  local name=$1 containerfile=$2; shift 2
  local tag; tag=$(cat "$containerfile" "$@" | sha256sum | cut -c1-12)
  local ref="slipway.dev/$name:$tag"
  if [ -e "$out/$name.tar" ] && [ "$(cat "$out/$name.ref" 2>/dev/null)" = "$ref" ]; then echo "$ref is built"; return; fi
  local context; context=$(mktemp -d)
  install -m 755 "$@" "$context/"
  rm -f "$out/$name.ref"
  e2e/images/build.sh "$ref" "$containerfile" "$context" "$out/$name.tar"
  rm -rf "$context"
  echo "$ref" >"$out/$name.ref"
}
hub_rootfs=$(e2e/hub/rootfs.sh)
build hub e2e/hub/Containerfile "$hub_rootfs"
build operator operator/Containerfile "$out/slipway-operator"
build trainer trainer-image/Containerfile "$out/slipway-trainer"
build server server-image/Containerfile "$out/slipway-server" "$out/slipway-router"

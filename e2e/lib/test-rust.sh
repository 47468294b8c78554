#!/usr/bin/env bash
# Unit and integration tests of the workspace, against the test Hub and a real apiserver.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SLIPWAY_REQUIRE_HUB=1 SLIPWAY_REQUIRE_CLUSTER=1
if [ -z "${KUBECONFIG:-}" ]; then
  # A cluster of its own: the tests run controllers themselves, and an installed operator would interfere.
  cluster=("${SLIPWAY_CACHE:-$HOME/.cache/slipway}/bin/slipway-cluster" --name integration)
  "${cluster[@]}" up
  trap '"${cluster[@]}" down' EXIT
  KUBECONFIG=$("${cluster[@]}" kubeconfig); export KUBECONFIG
fi
cargo test --release --locked --workspace --no-fail-fast

#!/usr/bin/env bash
# Unit and integration tests of the workspace, with the test Hub and the seed models at hand.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SLIPWAY_REQUIRE_HUB=1
cargo test --release --locked --workspace

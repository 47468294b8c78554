#!/usr/bin/env bash
# The end-to-end tests behind Envoy Gateway, which plain `make test` leaves out.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
e2e/lib/cluster.sh up
e2e/lib/cluster.sh load
e2e/lib/cluster.sh load "$cache"/gateway/envoy-gateway.tar "$cache"/gateway/envoy.tar
export KUBECONFIG; KUBECONFIG=$(e2e/lib/cluster.sh kubeconfig)
exec "${PYTHON:-python3}" -m pytest -q --durations=10 -p no:cacheprovider -m gateway e2e/tests

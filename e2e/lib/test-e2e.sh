#!/usr/bin/env bash
# End to end on the cluster: the cluster itself, then everything that runs on it.
set -euo pipefail
cd "$(dirname "$0")/../.."
e2e/lib/cluster.sh up
e2e/lib/cluster.sh load
export KUBECONFIG; KUBECONFIG=$(e2e/lib/cluster.sh kubeconfig)
"${PYTHON:-python3}" -m pytest -q --durations=10 -p no:cacheprovider e2e/tests

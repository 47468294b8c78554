#!/usr/bin/env bash
# End to end on the cluster: the cluster itself, then everything that runs on it.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m pytest -q -p no:cacheprovider e2e/images/tests
# The embedded cluster's own tests start clusters of their own; a given cluster needs none of them.
if [ -z "${KUBECONFIG:-}" ] && [ -z "${CLUSTER:-}" ]; then
  "${PYTHON:-python3}" -m pytest -q --durations=5 -p no:cacheprovider e2e/cluster/tests
fi
e2e/lib/cluster.sh up
e2e/lib/cluster.sh load
export KUBECONFIG; KUBECONFIG=$(e2e/lib/cluster.sh kubeconfig)
tests=("${PYTHON:-python3}" -m pytest -q --durations=10 -p no:cacheprovider e2e/tests)
"${tests[@]}" -n 2 --dist loadgroup -m "not alone"
"${tests[@]}" -m alone

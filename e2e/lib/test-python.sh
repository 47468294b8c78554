#!/usr/bin/env bash
# Tests against reference implementations (PyTorch, PEFT, scikit-learn) and with official clients.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m pytest -q --durations=5 -p no:cacheprovider \
  model/tests trainer-image/tests server-image/tests e2e/hub/tests

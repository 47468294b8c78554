#!/usr/bin/env bash
# Unit tests of the embedded cluster and the test Hub.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CGO_ENABLED=0
(cd e2e/hub && go test ./...)
# With the flags of build.sh, so that Kubernetes is not compiled a second time.
(cd e2e/cluster && go test -trimpath -vet=off ./internal/...)

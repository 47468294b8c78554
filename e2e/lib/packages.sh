#!/usr/bin/env bash
# Installs the Debian packages that builds and tests need, where they are missing. Starts no service.
set -euo pipefail
needed=(buildah busybox-static ca-certificates cmake containerd containernetworking-plugins crun curl file g++ git
  iproute2 iptables make pkg-config prometheus runc util-linux wordnet-base)
missing=()
for package in "${needed[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then echo "all ${#needed[@]} are installed"; exit 0; fi
echo "installing ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
  echo "run as root, or install them yourself: apt-get install ${missing[*]}" >&2; exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Some of these packages would start a daemon; the embedded cluster runs its own.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"

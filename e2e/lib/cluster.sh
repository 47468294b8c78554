#!/usr/bin/env bash
# cluster.sh up|down|kubeconfig|load [ARCHIVE...]: the one place that knows which cluster is used:
# the one of KUBECONFIG, a kind cluster (CLUSTER=kind), or the embedded one. Without archives it loads all of `make images`.
set -euo pipefail
cache="${SLIPWAY_CACHE:-$HOME/.cache/slipway}"
embedded="$cache/bin/slipway-cluster"
kind_name="${KIND_NAME:-slipway}"
mode=embedded
if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$("$embedded" kubeconfig 2>/dev/null || true)" ]; then mode=given; fi
if [ "${CLUSTER:-}" = kind ]; then mode=kind; fi

case "${1:-}" in
up)
  case $mode in
  embedded) "$embedded" up ;;
  kind) kind get clusters | grep -qx "$kind_name" || kind create cluster --name "$kind_name" --wait 120s
    kind get kubeconfig --name "$kind_name" >"$cache/kind.kubeconfig" ;;
  given) echo "using the cluster of KUBECONFIG=$KUBECONFIG" ;;
  esac ;;
down)
  case $mode in
  embedded) [ ! -x "$embedded" ] || "$embedded" down ;;
  kind) kind delete cluster --name "$kind_name" ;;
  given) echo "KUBECONFIG names a cluster that is not ours to stop" ;;
  esac ;;
kubeconfig)
  case $mode in
  embedded) "$embedded" kubeconfig ;;
  kind) echo "$cache/kind.kubeconfig" ;;
  given) echo "$KUBECONFIG" ;;
  esac ;;
load)
  archives=("${@:2}")
  if [ $# = 1 ]; then for ref in "$cache"/images/*.ref; do archives+=("${ref%.ref}.tar"); done; fi
  case $mode in
  embedded) "$embedded" load "${archives[@]}" ;;
  kind) for archive in "${archives[@]}"; do kind load image-archive --name "$kind_name" "$archive"; done ;;
  given) echo "load these into your cluster's nodes or push them where it can pull: ${archives[*]}" ;;
  esac ;;
*) sed -n 2,3p "$0" >&2; exit 2 ;;
esac

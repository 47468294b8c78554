#!/usr/bin/env bash
# Builds one container image into an archive that `slipway-cluster load` and `docker load` take.
#
#   e2e/images/build.sh NAME CONTAINERFILE CONTEXT OUT.tar
#
# Uses a Docker engine where one answers, and buildah elsewhere. Refuses an image of more than MAX_MB (60) megabytes.
set -euo pipefail

fail() { echo "e2e/images/build.sh: $*" >&2; exit 1; }
[[ $# == 4 ]] || fail "usage: e2e/images/build.sh NAME CONTAINERFILE CONTEXT OUT.tar"
name=$1 containerfile=$2 context=$3 out=$4
[[ $name == */*:* ]] || fail "\"$name\" is no full image name; write registry/name:tag, such as slipway.dev/trainer:dev"
[[ -f $containerfile ]] || fail "there is no Containerfile at $containerfile"
[[ -d $context ]] || fail "there is no folder $context to build from"
mkdir -p "$(dirname "$out")"
log=$(mktemp)
trap 'rm -rf "$log" "${storage:-$log}" "$out.new"' EXIT

quietly() {
  if [[ ${V:-} == 1 ]]; then "$@"; else "$@" >"$log" 2>&1 || { cat "$log" >&2; return 1; }; fi
}

rm -f "$out.new"
# `docker --version` answers without an engine.
if docker info >/dev/null 2>&1; then
  quietly docker build -t "$name" -f "$containerfile" "$context" || fail "building $name failed"
  docker save -o "$out.new" "$name" || fail "saving $name failed"
else
  command -v buildah >/dev/null || fail "neither a Docker engine nor buildah is here; run: apt-get install --no-install-recommends buildah crun"
  # Storage of its own: nothing is left behind, and builds at once do not meet. vfs and chroot need no kernel support.
  storage=$(mktemp -d)
  run=(buildah --storage-driver vfs --root "$storage/root" --runroot "$storage/run")
  quietly "${run[@]}" bud --isolation chroot -t "$name" -f "$containerfile" "$context" || fail "building $name failed"
  quietly "${run[@]}" push "$name" "oci-archive:$out.new:$name" || fail "writing $name failed"
fi

# buildah compresses layers and docker does not: the limit is on what the image holds, unpacked.
bytes=$(python3 - "$out.new" <<'PY'
import gzip, io, json, sys, tarfile

total = 0
with tarfile.open(sys.argv[1]) as archive:
    names = set(archive.getnames())
    if "manifest.json" in names:
        layers = json.load(archive.extractfile("manifest.json"))[0]["Layers"]
    else:
        blob = lambda digest: "blobs/" + digest.replace(":", "/")
        index = json.load(archive.extractfile("index.json"))
        manifest = json.load(archive.extractfile(blob(index["manifests"][0]["digest"])))
        layers = [blob(layer["digest"]) for layer in manifest["layers"]]
    for layer in layers:
        content = io.BufferedReader(archive.extractfile(layer))
        stream = gzip.GzipFile(fileobj=content) if content.peek(2)[:2] == b"\x1f\x8b" else content
        while chunk := stream.read(1 << 20):
            total += len(chunk)
print(total)
PY
) || fail "reading $name's archive failed"
limit=${MAX_MB:-60}
awk -v name="$name" -v bytes="$bytes" 'BEGIN { printf "%s: %.1f MB\n", name, bytes / 1e6 }'
((bytes <= limit * 1000000)) || fail "$name is larger than $limit MB; make it smaller, or set MAX_MB"
mv "$out.new" "$out"

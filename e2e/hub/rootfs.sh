#!/bin/sh
# Collects what the image holds, slipway-hub and Debian's git with its libraries, into one tar
# and prints the tar's path. The same inputs give the same bytes, so that its hash can name the image.
set -eu
cd "$(dirname "$0")"
cache=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
tar=$cache/images/hub-rootfs.tar
binary=$(./build.sh)
git=$(command -v git) || { echo "git is not installed: apt-get install git" >&2; exit 1; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
install -D -m 755 "$binary" "$root/usr/bin/slipway-hub"
# The plumbing commands are all inside this one program; helpers, hooks and shells are not needed.
install -D -m 755 "$(readlink -f "$git")" "$root/usr/bin/git"
# "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)" and the loader, "/lib64/ld-linux-x86-64.so.2 (0x…)".
ldd "$git" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$root$library"
done
# Mount points of the pod: repositories, and scratch space.
chmod 755 "$root"  # mktemp makes it unreadable for others, and it becomes the image's /
mkdir -p "$root/data" "$root/tmp"
chmod 1777 "$root/tmp"
mkdir -p "$(dirname "$tar")"
tar --create --file "$tar.new" --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .
mv "$tar.new" "$tar"
printf '%s\n' "$tar"

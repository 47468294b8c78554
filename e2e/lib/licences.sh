#!/usr/bin/env bash
# Refuses dependencies whose licence is not on the list below, in the crates that end up in images.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo metadata --format-version 1 --locked | python3 -c '
import json, re, sys

ALLOWED = {"0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
           "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "OpenSSL", "Unicode-3.0", "Unlicense", "Zlib", "bzip2-1.0.6"}

def allowed(expression):
    """Whether an SPDX expression can be met by allowed licences alone: OR needs one side, AND both."""
    tokens = re.findall(r"\(|\)|[^()\s]+(?: WITH [^()\s]+)?", expression.replace("/", " OR "))
    def either(position):
        value, position = both(position)
        while position < len(tokens) and tokens[position] == "OR":
            right, position = both(position + 1)
            value = value or right
        return value, position
    def both(position):
        value, position = one(position)
        while position < len(tokens) and tokens[position] == "AND":
            right, position = one(position + 1)
            value = value and right
        return value, position
    def one(position):
        if tokens[position] == "(":
            value, position = either(position + 1)
            return value, position + 1
        return tokens[position] in ALLOWED, position + 1
    return either(0)[0]

packages = json.load(sys.stdin)["packages"]
refused = [(p["name"], p["version"], p["license"]) for p in packages
           if p["source"] and not allowed(p["license"] or "NONE")]
for name, version, licence in refused:
    print(f"{name} {version}: {licence} is not an allowed licence")
print(f"{len(packages)} packages looked at, {len(refused)} refused")
sys.exit(bool(refused))
'

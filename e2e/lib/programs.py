"""The workspace's programs and examples, for tests that run them from outside."""

import functools
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


@functools.cache
def programs() -> dict[str, str]:
    """Name to path, built from the sources as they are. The whole workspace at once: building one package alone would
    choose other features of its dependencies and compile them again."""
    command = ["cargo", "build", "--release", "--workspace", "--bins", "--examples", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    messages = map(json.loads, done.stdout.splitlines())
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}

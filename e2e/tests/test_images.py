"""The images: small, from scratch, static."""

import json
import subprocess
import tarfile

import pytest
from harness import CACHE


@pytest.mark.parametrize("name", ["operator", "trainer", "server", "hub"])
def test_an_image_is_under_60_mb_and_runs_as_nobody(name):
    archive = CACHE / "images" / f"{name}.tar"
    assert archive.stat().st_size < 60_000_000
    with tarfile.open(archive) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar if member.isfile() and member.size < 100_000}
    index = json.loads(blobs["index.json"])
    manifest = json.loads(blobs["blobs/sha256/" + index["manifests"][0]["digest"].split(":")[1]])
    config = json.loads(blobs["blobs/sha256/" + manifest["config"]["digest"].split(":")[1]])
    assert config["config"]["User"].split(":")[0] == "65532"


@pytest.mark.parametrize("name", ["operator", "trainer", "server", "router"])
def test_a_binary_is_static_and_complete_in_its_help(name):
    binary = CACHE / "images" / f"slipway-{name}"
    assert binary.stat().st_size < 60_000_000
    described = subprocess.run(["file", "-b", binary], capture_output=True, text=True).stdout
    linked = subprocess.run(["ldd", binary], capture_output=True, text=True)
    assert "statically" in linked.stdout + linked.stderr + described or "not a dynamic" in linked.stderr
    for arguments in (["--help"], ["--version"]):
        done = subprocess.run([binary, *arguments], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout
    assert subprocess.run([binary, "--no-such-flag"], capture_output=True).returncode == 2

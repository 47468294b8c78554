"""Building images into archives, and what is refused."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build.sh"


def build(*args: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(a) for a in (BUILD, *args)], text=True, capture_output=True, timeout=120, env=os.environ | environment)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "payload").write_bytes(bytes(2_000_000))
    (folder / "Containerfile").write_text("FROM scratch\nCOPY payload /payload\n")
    return folder


def test_an_image_becomes_an_archive_and_its_size_is_told(context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "image.tar"
    done = build("slipway.dev/x:test", context / "Containerfile", context, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "slipway.dev/x:test: 2.0 MB\n"
    with tarfile.open(out) as archive:
        assert {"index.json", "manifest.json"} & set(archive.getnames())
    assert [path.name for path in out.parent.iterdir()] == ["image.tar"]


def test_an_image_that_is_too_large_is_refused_and_the_former_archive_kept(context: Path, tmp_path: Path) -> None:
    out = tmp_path / "image.tar"
    out.write_text("former")
    done = build("slipway.dev/x:test", context / "Containerfile", context, out, MAX_MB="1")
    assert done.returncode == 1 and "is larger than 1 MB" in done.stderr
    assert out.read_text() == "former"


@pytest.mark.parametrize(("change", "message"), [
    ({0: "x"}, '"x" is no full image name'),
    ({1: "absent/Containerfile"}, "no Containerfile at absent/Containerfile"),
    ({2: "absent"}, "no folder absent"),
])
def test_wrong_arguments_are_explained(context: Path, tmp_path: Path, change: dict[int, str], message: str) -> None:
    arguments = ["slipway.dev/x:test", str(context / "Containerfile"), str(context), str(tmp_path / "image.tar")]
    for index, value in change.items():
        arguments[index] = value
    done = build(*arguments)
    assert done.returncode == 1 and message in done.stderr


def test_a_failing_build_shows_what_the_builder_said(context: Path, tmp_path: Path) -> None:
    (context / "Containerfile").write_text("FROM scratch\nCOPY missing-file /\n")
    done = build("slipway.dev/x:test", context / "Containerfile", context, tmp_path / "image.tar")
    assert done.returncode == 1 and "missing-file" in done.stderr and "building slipway.dev/x:test failed" in done.stderr
    assert not (tmp_path / "image.tar").exists()

"""The trainer as a program, and tiny models with a tokenizer of one token a word."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "e2e" / "lib"))

from programs import programs  # noqa: E402


@pytest.fixture(scope="session")
def train():
    """Builds the trainer and gives a function that runs a configuration: `train(config, directory)`."""
    program = programs()["slipway-trainer"]

    def run(config, directory):
        directory.mkdir(parents=True)
        config = {
            **config,
            "checkpoint": {"directory": str(directory / "checkpoints")},
            "output": {"directory": str(directory / "out")},
        }
        path = directory / "config.json"
        path.write_text(json.dumps(config))
        done = subprocess.run([program, "train", "--config", path], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        log = (directory / "out/training_log.jsonl").read_text().splitlines()
        return directory / "out", [json.loads(line)["loss"] for line in log if "loss" in line]

    return run

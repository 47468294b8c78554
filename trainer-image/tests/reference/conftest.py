"""The trainer as a program, and tiny models with a tokenizer of one token a word."""

import json
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def train():
    """Builds the trainer and gives a function that runs a configuration: `train(config, directory)`."""
    out = subprocess.run(
        ["cargo", "build", "--release", "-p", "slipway-trainer", "--message-format=json"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout
    messages = [json.loads(line) for line in out.splitlines()]
    program = next(message["executable"] for message in messages if message.get("executable"))

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

"""Training beside PyTorch + PEFT: the same model, batch, sequence length and number of steps, two threads each."""

import json
import pathlib
import random
import shutil

from common import BIN, ROOT, SEED, THREADS, WORK, finish, interleaved, pip, verdict

BATCH, LENGTH, STEPS = 4, 256, 6
MODEL = SEED / "SmolLM2-135M-Instruct"


def sequences() -> pathlib.Path:
    """The same tokens for both: full sequences, so that nothing is padded."""
    path = WORK / "lora-ids.json"
    draw = random.Random(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([[draw.randrange(100, 40000) for _ in range(LENGTH)] for _ in range(BATCH * STEPS)]))
    return path


def rows() -> pathlib.Path:
    """Plain text long enough that every sequence is cut to LENGTH tokens."""
    path = WORK / "lora-rows.jsonl"
    draw = random.Random(1)
    words = "the model learns from many words that people wrote about ships and the sea".split()
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(BATCH * STEPS):
            file.write(json.dumps({"text": " ".join(draw.choice(words) for _ in range(LENGTH * 2))}) + "\n")
    return path


def lora() -> None:
    python = pip()
    ids, data = sequences(), rows()
    output = WORK / "lora-out"

    def train(steps: int) -> tuple[float, float]:
        """Seconds and peak MiB of a whole run."""
        for folder in (output, WORK / "lora-checkpoints"):
            shutil.rmtree(folder, ignore_errors=True)
        config = WORK / "lora.json"
        config.write_text(json.dumps({
            "model": {"path": str(MODEL)}, "task": "CausalLM",
            "dataset": {"source": {"path": str(data)}, "columns": {"text": "text"}},
            "method": {"lora": {"rank": 16, "alpha": 32, "targetModules": ["q_proj", "k_proj", "v_proj", "o_proj"]}},
            "hyperparameters": {"maxSteps": steps, "batchSize": BATCH, "maxSequenceLength": LENGTH},
            "checkpoint": {"directory": str(WORK / "lora-checkpoints"), "everySteps": 1000000},
            "output": {"directory": str(output)}}))
        _, seconds, peak = finish("lora-ours", BIN / "slipway-trainer", "train", "--config", config)
        return seconds, peak

    def ours() -> dict:
        # Loading, warm-up and writing are in both runs; their difference is the steps alone.
        (short, _), (long, peak) = train(1), train(STEPS)
        log = [json.loads(line) for line in (output / "training_log.jsonl").read_text().splitlines()]
        tokens = sum(entry.get("tokens", 0) for entry in log[1:])
        return {"speed": tokens / (long - short), "peak": peak}

    def peer() -> dict:
        out, _, peak = finish("lora-peer", python, ROOT / "bench" / "peers" / "lora_torch.py", "--model", MODEL, "--ids", ids,
                              "--batch", BATCH, "--steps", STEPS, "--threads", THREADS)
        return {"speed": json.loads(out.splitlines()[-1])["tokensPerSecond"], "peak": peak}

    mine, theirs = interleaved(ours, peer)
    peaks = [sorted(entry["peak"] for entry in side)[len(side) // 2] for side in (mine, theirs)]
    verdict("lora-f32", [entry["speed"] for entry in mine], [entry["speed"] for entry in theirs], "torch+peft", "tokens/s",
            extra=f"peak memory ours {peaks[0]:.0f} MiB, torch+peft {peaks[1]:.0f} MiB, ratio {peaks[1] / peaks[0]:.2f}; "
                  f"batch {BATCH} x {LENGTH}, {THREADS} threads")


CASES = {"lora-f32": lora}

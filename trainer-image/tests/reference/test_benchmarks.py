"""Multiple choice: acc and acc_norm are those of lm-evaluation-harness on the same model files, and so is each log-likelihood.

The tasks are the harness's own, read from its YAML; only where their rows come from is another.
"""

import json
import os
import pathlib
import random

import pyarrow.parquet as pq
import pytest
import torch
import transformers as tf
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

# Nothing is fetched: the rows are the tests' own.
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
import lm_eval  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

WORDS = ("water boils when heat is given to it ; the plant grows toward light and ice melts in the sun . "
         "Größe über naïve café 水 is cold but why does iron rust , who eats grass [title] [step] cow Lion").split()
QUESTIONS = 48
SPLITS = {"hellaswag": "validation", "piqa": "validation", "boolq": "validation"}
TASKS = {
    "arc_easy": "arc/arc_easy.yaml", "arc_challenge": "arc/arc_challenge.yaml", "openbookqa": "openbookqa/openbookqa.yaml",
    "sciq": "sciq/sciq.yaml", "piqa": "piqa/piqa.yaml", "hellaswag": "hellaswag/hellaswag.yaml",
    "boolq": "super_glue/boolq/default.yaml",
}
OWN = {
    "name": "own", "description": "Answer as a pupil.\n\n", "prompt": "Q: {{question}}\nA:", "choices": "{{choices.text}}",
    "target": "{{choices.label.index(answerKey)}}", "fewShot": {"count": 2, "sampler": "FirstN"},
    "metrics": [{"name": "acc"}, {"name": "accNorm"}],
}

# Worked examples, and the harness's settings for the same ones: drawn from another split, from the split of the questions,
# and shown before a benchmark that is shipped.
SHOTS = {
    "own": ({"count": 2, "sampler": "FirstN"}, {"fewshot_config": {"sampler": "first_n"}}),
    "own_five": ({"count": 5}, {}),
    "own_same": ({"count": 2, "split": "test"}, {"fewshot_split": "test"}),
    "arc_easy_two": ({"count": 2}, {}),
    "arc_easy_five": ({"count": 5, "sampler": "FirstN", "delimiter": "\n***\n"},
                      {"fewshot_config": {"sampler": "first_n"}, "fewshot_delimiter": "\n***\n"}),
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows(task, count=QUESTIONS):
    """Rows with the columns of the task's dataset; choices differ in length, so that acc and acc_norm differ."""
    rng = random.Random(task)
    text = lambda low, high: " ".join(rng.choices(WORDS, k=rng.randint(low, high)))
    for n in range(count):
        if task.startswith(("arc", "openbookqa")):
            size = rng.choice([3, 4, 5])
            labels = list("ABCDE" if n % 3 else "12345")[:size]
            choices = {"text": [text(1, 7) for _ in labels], "label": labels}
            stem = "question_stem" if task == "openbookqa" else "question"
            # Some questions end in white space, which belongs to the answer then.
            yield {"id": str(n), stem: text(4, 12) + rng.choice(["?", "? ", "", " \n"]), "choices": choices, "answerKey": rng.choice(labels)}
        elif task == "sciq":
            yield {"support": rng.choice(["", "  ", " "]) + text(0, 20), "question": text(4, 9),
                   **{name: text(1, 5) for name in ("distractor1", "distractor2", "distractor3", "correct_answer")}}
        elif task == "piqa":
            yield {"goal": text(3, 9), "sol1": text(2, 9), "sol2": text(2, 9), "label": rng.randint(0, 1)}
        elif task == "hellaswag":
            yield {"activity_label": text(1, 2), "ctx_a": text(5, 12), "ctx_b": rng.choice(["", text(1, 4)]),
                   "endings": [text(2, 9) for _ in range(4)], "label": str(rng.randint(0, 3))}
        else:
            yield {"passage": text(10, 30), "question": text(3, 8), "label": rng.randint(0, 1)}


@pytest.fixture(scope="module", params=["bare", "begins"])
def model(request, tmp_path_factory):
    """A small Llama with byte-level BPE, without and with a token that begins each text."""
    directory = tmp_path_factory.mktemp(request.param)
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator([" ".join(WORDS)] * 3 + ["Question: Answer: yes no"], trainer)
    if request.param == "begins":
        tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(directory)
    torch.manual_seed(5)
    config = tf.LlamaConfig(
        vocab_size=tok.get_vocab_size(), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=160, bos_token_id=0, eos_token_id=1, initializer_range=0.5,
    )
    tf.LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The rows of every task, each in a folder, and the harness's tasks over them."""
    folder = tmp_path_factory.mktemp("tasks")
    for task, original in TASKS.items():
        split = SPLITS.get(task, "test")
        (folder / task).mkdir()
        write(folder / task / f"{split}.jsonl", rows(task))
        config = {
            "include": str(pathlib.Path(lm_eval.__file__).parent / "tasks" / original), "task": f"our_{task}", "tag": None,
            "dataset_path": "json", "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(folder / task / f"{split}.jsonl")}, "cache_dir": str(folder / "cache")},
            "training_split": None, "test_split": None, "validation_split": None, f"{split}_split": split,
        }
        (folder / f"our_{task}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    own = {
        "output_type": "multiple_choice", "description": OWN["description"],
        "doc_to_text": OWN["prompt"], "doc_to_choice": OWN["choices"], "doc_to_target": OWN["target"],
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")],
    }
    shipped = {"include": str(pathlib.Path(lm_eval.__file__).parent / "tasks" / TASKS["arc_easy"]), "tag": None, "dataset_name": None,
               "validation_split": None}
    for task, (shots, settings) in SHOTS.items():
        (folder / task).mkdir()
        files = {split: str(folder / task / f"{split}.jsonl") for split in ("test", "train")}
        write(folder / task / "test.jsonl", rows("arc_easy"))
        write(folder / task / "train.jsonl", rows("arc_challenge", 40))
        config = {
            **(own if task.startswith("own") else shipped), "task": f"our_{task}", "dataset_path": "json", "test_split": "test",
            "training_split": "train", "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
            "fewshot_split": "train", "num_fewshot": shots["count"], **settings,
        }
        (folder / f"our_{task}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "own.benchmark").write_text(yaml.safe_dump(OWN, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def harness(model, data):
    """What the harness says of every task: metrics, and for each row what it asks and the log-likelihoods."""
    lm = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=16)
    tasks = [f"our_{task}" for task in [*TASKS, *SHOTS]]
    found = lm_eval.simple_evaluate(
        model=lm, tasks=tasks, task_manager=TaskManager(include_path=str(data), include_defaults=False), log_samples=True,
        bootstrap_iters=0)

    def each(task):
        samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
        return [(sample["arguments"][0][0], [float(answer[0][0]) for answer in sample["resps"]]) for sample in samples]

    return {task.removeprefix("our_"): (found["results"][task], each(task)) for task in tasks}


@pytest.mark.parametrize("task", [*TASKS, *SHOTS])
def test_a_benchmark_scores_as_the_harness(task, model, data, harness, evaluate, tmp_path):
    """`own` is one of a person: with a description, worked examples, and so long that questions lose their beginning."""
    benchmark = {"path": str(data / "own.benchmark")} if task.startswith("own") else {"name": task.split("_two")[0].split("_five")[0]}
    # `own` has its own; the others are the evaluation's.
    shots = {"fewShot": SHOTS[task][0]} if task in SHOTS and task != "own" else {}
    outcome = evaluate({
        "target": {"model": {"path": str(model)}}, "task": "MultipleChoice", "dataset": {"source": {"path": str(data / task)}},
        "benchmark": benchmark, "predictions": str(tmp_path / "predictions.parquet"), **shots,
    }, tmp_path / "run")
    results, references = harness[task]
    predictions = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert len(predictions) == len(references) == QUESTIONS
    for found, (asked, reference) in zip(predictions, references, strict=True):
        assert found["text"] == asked, "to the byte"
        assert found["logLikelihoods"] == pytest.approx(reference, abs=1e-3)
        assert found["prediction"] == found["choices"][max(range(len(reference)), key=reference.__getitem__)]
    values = {result["metric"]: result for result in outcome["results"]}
    for metric, name in [("acc", "acc,none"), ("accNorm", "acc_norm,none")]:
        assert (metric in values) == (name in results)
        if metric in values:
            assert values[metric]["value"] == results[name]
            assert values[metric]["examples"] == QUESTIONS
            interval = values[metric]["confidenceInterval"]
            assert interval["low"] < results[name] < interval["high"]


def test_a_served_model_scores_and_answers_as_its_files(model, data, evaluate, serve, tmp_path):
    """The same over HTTP: choices by their tokens' log-probabilities, free answers by completions."""
    free = {"name": "free", "prompt": "Q: {{question}}\nA:", "target": "{{answerKey}}", "until": ["\n", "Q:"]}
    (tmp_path / "free").write_text(yaml.safe_dump(free, sort_keys=False))
    asked = {
        "chosen": {"task": "MultipleChoice", "benchmark": {"name": "arc_easy"}},
        "free": {"benchmark": {"path": str(tmp_path / "free")}, "metrics": [{"name": "chrf"}], "maxNewTokens": 12},
    }
    with serve(model) as url:
        targets = {"files": {"model": {"path": str(model)}}, "served": {"endpoint": {"url": url}}}
        found = {}
        for name, target in targets.items():
            for kind, config in asked.items():
                predictions = tmp_path / f"{name}-{kind}.parquet"
                outcome = evaluate({
                    "target": target, "dataset": {"source": {"path": str(data / "arc_easy")}}, "predictions": str(predictions), **config,
                }, tmp_path / f"{name}-{kind}")
                found[name, kind] = outcome["results"], pq.read_table(predictions).to_pylist()
    assert found["files", "chosen"][0] == found["served", "chosen"][0]
    for ours, served in zip(found["files", "chosen"][1], found["served", "chosen"][1], strict=True):
        assert served["logLikelihoods"] == pytest.approx(ours["logLikelihoods"], abs=1e-3)
    assert found["files", "free"] == found["served", "free"]
    assert any(row["prediction"] for row in found["files", "free"][1])

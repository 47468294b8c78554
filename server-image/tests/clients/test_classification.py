"""A BERT classifier made by transformers behind huggingface_hub's InferenceClient."""

import shutil

import pytest
from huggingface_hub import InferenceClient

TEXTS = ["profits rose", "the company was fined, and its shares fell sharply", "a quiet day"]


@pytest.fixture(scope="module")
def model(models, tmp_path_factory):
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    base = models / "all-MiniLM-L6-v2"
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    classifier = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, id2label=labels, label2id={name: place for place, name in labels.items()}
    )
    torch.nn.init.normal_(classifier.classifier.weight, std=0.5)
    folder = tmp_path_factory.mktemp("classifier")
    classifier.eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return folder, classifier


def test_scores_are_those_of_transformers(serve, model):
    import torch
    from transformers import AutoTokenizer

    folder, classifier = model
    url = serve(folder)
    client = InferenceClient(model=url)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        with torch.no_grad():
            scores = classifier(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        expected = {classifier.config.id2label[place]: score for place, score in enumerate(scores.tolist())}
        found = client.text_classification(text)
        assert {entry.label: entry.score for entry in found} == pytest.approx(expected, abs=1e-4)
        assert [entry.label for entry in found] == sorted(expected, key=expected.get, reverse=True)
        assert len(client.text_classification(text, top_k=1)) == 1

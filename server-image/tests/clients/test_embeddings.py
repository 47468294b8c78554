"""all-MiniLM-L6-v2 behind the OpenAI and Hugging Face clients, beside sentence-transformers."""

import numpy
import openai
import pytest
from huggingface_hub import InferenceClient

TEXTS = [
    "A man is eating food.",
    "Naïve café, 日本語, 🎉!",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
]


@pytest.fixture(scope="module")
def url(serve, models):
    return serve(models / "all-MiniLM-L6-v2", "--name", "minilm")


@pytest.fixture(scope="module")
def expected(models):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(models / "all-MiniLM-L6-v2"), device="cpu").encode(TEXTS)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_those_of_sentence_transformers(url, expected, encoding):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    answer = client.embeddings.create(model="minilm", input=TEXTS, encoding_format=encoding)
    vectors = [entry.embedding for entry in answer.data]
    if encoding == "base64":
        import base64

        vectors = [numpy.frombuffer(base64.b64decode(vector), "<f4") for vector in vectors]
    numpy.testing.assert_allclose(numpy.array(vectors), expected, atol=1e-4)
    assert answer.usage.prompt_tokens > 100


def test_the_inference_client_extracts_features(url, expected):
    vector = InferenceClient(model=url).feature_extraction(TEXTS[0])
    numpy.testing.assert_allclose(vector[0], expected[0], atol=1e-4)

"""The official OpenAI client against SmolLM2-135M-Instruct (GGUF, Q4_1)."""

import concurrent.futures

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]


@pytest.fixture(scope="module")
def client(serve, models):
    gguf = models / "SmolLM2-135M-Instruct-GGUF" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    url = serve(gguf, "--name", "smollm2", "--max-tokens", "1024")
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


def test_models(client):
    model = client.models.list().data[0]
    assert model.id == "smollm2"
    assert client.models.retrieve("smollm2") == model


def test_chat_answers_with_sense(client):
    answer = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0, max_tokens=40)
    choice = answer.choices[0]
    assert "Paris" in choice.message.content
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert "<|im_end|>" not in choice.message.content


def test_a_stream_adds_up_to_the_whole(client):
    options = {"model": "smollm2", "messages": QUESTION, "temperature": 0.8, "seed": 11, "max_tokens": 24}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].id != whole.id


def test_the_clients_own_stream_helper_reads_it(client):
    with client.chat.completions.stream(model="smollm2", messages=QUESTION, temperature=0, max_tokens=16) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == final.choices[0].message.content != ""


def test_logprobs(client):
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
    )
    entries = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.token == entry.top_logprobs[0].token
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob)
        assert bytes(entry.bytes).decode() == entry.token


def test_completions(client):
    answer = client.completions.create(
        model="smollm2", prompt=["The capital of France is", "One, two, three,"], temperature=0, max_tokens=6,
        echo=True, logprobs=2, stop="\n",
    )
    first, second = answer.choices
    assert first.text.startswith("The capital of France is Paris")
    assert second.text.startswith("One, two, three, four")
    found = first.logprobs
    assert "".join(found.tokens) == first.text
    assert found.token_logprobs[0] is None
    assert all(logprob <= 0 for logprob in found.token_logprobs[1:])
    starts = [first.text.index(token, offset) for token, offset in zip(found.tokens, found.text_offset)]
    assert starts == found.text_offset


def test_token_ids_are_a_prompt_too(client):
    text = client.completions.create(model="smollm2", prompt="Two plus two is", temperature=0, max_tokens=4)
    ids = client.post("/../tokenize", cast_to=dict, body={"prompt": "Two plus two is"})["tokens"]
    same = client.completions.create(model="smollm2", prompt=ids, temperature=0, max_tokens=4)
    assert same.choices[0].text == text.choices[0].text


def test_eight_clients_at_once_get_what_each_gets_alone(client):
    def ask(topic):
        return client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": f"Say something about {topic}."}],
            temperature=1, seed=5, max_tokens=16,
        ).choices[0].message.content

    topics = ["rain", "tea", "trains", "the sea", "bread", "chess", "stars", "a very long walk in the hills"]
    alone = [ask(topic) for topic in topics]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, topics)) == alone


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.NotFoundError, match="served are smollm2"):
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="takes 1024") as refused:
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "word " * 2000}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="tools"):
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        client.chat.completions.create(model="smollm2", messages=QUESTION, tools=[tool])
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        client.embeddings.create(model="smollm2", input="a")

"""Serving beside llama.cpp's server and ONNX Runtime, over HTTP, two threads each."""

import concurrent.futures
import json
import pathlib
import statistics
import time
import urllib.request

from common import BIN, ROOT, SEED, THREADS, WORK, free_port, interleaved, pip, process, rss_mib, verdict

GGUF = SEED / "SmolLM2-135M-Instruct-GGUF" / "SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = SEED / "all-MiniLM-L6-v2"
LLAMA = "llama-cpp-python[server]==0.3.16"
WORDS = "In the morning the harbour was full of small boats and the people talked about the weather. "


def post(url: str, body: dict, timeout: float = 600) -> dict:
    call = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=timeout) as answer:
        return json.loads(answer.read())


def ours(port: int, model: pathlib.Path = GGUF):
    return process("server", BIN / "slipway-server", "--model", model, "--name", "m", "--listen", f"127.0.0.1:{port}",
                   ready=f"http://127.0.0.1:{port}/health")


def llama(port: int):
    python = pip(LLAMA)
    return process("llama-server", python, "-m", "llama_cpp.server", "--model", GGUF, "--port", port, "--n_threads", THREADS,
                   "--n_threads_batch", THREADS, "--n_ctx", 4096, "--model_alias", "m", ready=f"http://127.0.0.1:{port}/v1/models")


def both():
    mine, theirs = free_port(), free_port()
    return mine, theirs


def decode() -> None:
    """One stream: 128 tokens after a short prompt."""
    tokens = 128

    def run(port: int) -> float:
        start = time.monotonic()
        answer = post(f"http://127.0.0.1:{port}/v1/completions",
                      {"model": "m", "prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0})
        return answer["usage"]["completion_tokens"] / (time.monotonic() - start)

    mine, theirs = both()
    with ours(mine), llama(theirs):
        for port in (mine, theirs):
            run(port)
        a, b = interleaved(lambda: run(mine), lambda: run(theirs))
    verdict("decode-q4_1", a, b, "llama.cpp server", "tokens/s", extra=f"SmolLM2-135M Q4_1, {tokens} tokens, {THREADS} threads")


def prefill() -> None:
    """A prompt of some 512 tokens, one token of answer; a different prompt each time, so that no cache helps."""
    number = iter(range(10000))

    def run(port: int) -> float:
        prompt = f"{next(number)} " + WORDS * 28
        start = time.monotonic()
        answer = post(f"http://127.0.0.1:{port}/v1/completions", {"model": "m", "prompt": prompt, "max_tokens": 1, "temperature": 0})
        return answer["usage"]["prompt_tokens"] / (time.monotonic() - start)

    mine, theirs = both()
    with ours(mine), llama(theirs):
        for port in (mine, theirs):
            run(port)
        a, b = interleaved(lambda: run(mine), lambda: run(theirs), 5)
    verdict("prefill-q4_1", a, b, "llama.cpp server", "tokens/s", extra=f"SmolLM2-135M Q4_1, {THREADS} threads")


def clients(count: int = 16, tokens: int = 64) -> None:
    """`count` clients at once, each one chat of some 110 tokens of prompt and `tokens` of answer."""

    def one(port: int, number: int) -> int:
        body = {"model": "m", "max_tokens": tokens, "temperature": 0,
                "messages": [{"role": "user", "content": f"Client {number}: {WORDS * 5} What happened?"}]}
        return post(f"http://127.0.0.1:{port}/v1/chat/completions", body)["usage"]["completion_tokens"]

    def run(port: int) -> float:
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            made = sum(pool.map(lambda number: one(port, number), range(count)))
        return made / (time.monotonic() - start)

    mine, theirs = both()
    with ours(mine), llama(theirs):
        for port in (mine, theirs):
            one(port, 99)
        a, b = interleaved(lambda: run(mine), lambda: run(theirs))
    verdict("clients-16", a, b, "llama.cpp server", "tokens/s", extra=f"{count} clients x {tokens} tokens, {THREADS} threads")


def start() -> None:
    """From exec to the first token."""

    def run(server) -> float:
        port = free_port()
        begin = time.monotonic()
        with server(port):
            post(f"http://127.0.0.1:{port}/v1/completions", {"model": "m", "prompt": "Hi", "max_tokens": 1, "temperature": 0})
            return time.monotonic() - begin

    pip(LLAMA)
    a, b = interleaved(lambda: run(ours), lambda: run(llama))
    verdict("start", a, b, "llama.cpp server", "s to the first token", more_is_better=False)


def scale_from_zero() -> None:
    """What a request waits for when nothing runs yet: exec of the server to its answer. SmolLM2-135M beside llama.cpp's
    server, and a MiniLM classifier beside ONNX Runtime, whose model was exported before. The files are in the page cache."""
    from classifier import make

    model = make(WORK / "classifier")
    python = pip("onnxruntime", "onnx", "onnxscript")
    pip(LLAMA)
    generate = ("/v1/completions", {"model": "m", "prompt": "Hi", "max_tokens": 1, "temperature": 0})
    classify = ("/predict", {"inputs": "The harbour was full of small boats."})

    def onnx(port: int):
        return process("onnx", python, ROOT / "bench" / "peers" / "onnx_server.py", "--model", model, "--port", port, "--threads", THREADS,
                       ready=f"http://127.0.0.1:{port}/health", timeout=300)

    def run(server, path: str, body: dict) -> float:
        port = free_port()
        begin = time.monotonic()
        with server(port):
            post(f"http://127.0.0.1:{port}{path}", body)
            return time.monotonic() - begin

    # The first start exports the model.
    run(onnx, *classify)
    minilm = interleaved(lambda: run(lambda port: ours(port, model), *classify), lambda: run(onnx, *classify), 5)
    smollm = interleaved(lambda: run(ours, *generate), lambda: run(llama, *generate), 5)
    mine, theirs = (statistics.median(seconds) for seconds in minilm)
    ratio = statistics.median(b / a for a, b in zip(*minilm))
    verdict("scale-from-zero", *smollm, "llama.cpp server", "s to the first answer", more_is_better=False,
            extra=f"SmolLM2-135M Q4_1; MiniLM classifier {ratio:.2f}: ours {mine:.3f} s, ONNX Runtime {theirs:.3f} s")


def memory() -> None:
    """Resident memory after one answer."""

    def run(server) -> float:
        port = free_port()
        with server(port) as child:
            post(f"http://127.0.0.1:{port}/v1/completions", {"model": "m", "prompt": "Hi", "max_tokens": 8, "temperature": 0})
            return rss_mib(child.pid)

    pip(LLAMA)
    a, b = interleaved(lambda: run(ours), lambda: run(llama))
    verdict("memory", a, b, "llama.cpp server", "MiB", more_is_better=False)


def classify(connections: int = 8, seconds: float = 5) -> None:
    """Requests a second of a MiniLM classifier over HTTP, texts of about 30 tokens."""
    from classifier import make

    model = make(WORK / "classifier")
    python = pip("onnxruntime", "onnx", "onnxscript")
    text = WORDS * 2

    def run(port: int) -> float:
        end, begin = time.monotonic() + seconds, time.monotonic()

        def loop(_: int) -> int:
            done = 0
            while time.monotonic() < end:
                post(f"http://127.0.0.1:{port}/predict", {"inputs": text})
                done += 1
            return done

        with concurrent.futures.ThreadPoolExecutor(connections) as pool:
            return sum(pool.map(loop, range(connections))) / (time.monotonic() - begin)

    mine, theirs = both()
    peer = process("onnx", python, ROOT / "bench" / "peers" / "onnx_server.py", "--model", model, "--port", theirs, "--threads", THREADS,
                   ready=f"http://127.0.0.1:{theirs}/health", timeout=300)
    with ours(mine, model), peer:
        for port in (mine, theirs):
            post(f"http://127.0.0.1:{port}/predict", {"inputs": text})
        a, b = interleaved(lambda: run(mine), lambda: run(theirs))
    verdict("classify-http", a, b, "ONNX Runtime", "requests/s", extra=f"MiniLM, 3 labels, {connections} clients, {THREADS} threads")


CASES = {"decode-q4_1": decode, "prefill-q4_1": prefill, "clients-16": clients, "start": start,
         "scale-from-zero": scale_from_zero, "memory": memory, "classify-http": classify}

"""ONNX Runtime behind the smallest HTTP server that still batches what waits: POST /predict {"inputs": text}."""

import argparse
import asyncio
import json
import os

import numpy
import onnxruntime
from tokenizers import Tokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()

onnx = f"{arguments.model}/model.onnx"
if not os.path.exists(onnx):
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(arguments.model).eval()
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(model, (ids, ids), onnx, input_names=["input_ids", "attention_mask"], output_names=["logits"],
                      dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}}, dynamo=False)
with open(f"{arguments.model}/config.json", encoding="utf-8") as config:
    labels = {int(index): label for index, label in json.load(config)["id2label"].items()}
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = arguments.threads
session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(f"{arguments.model}/tokenizer.json")
tokenizer.no_truncation()
tokenizer.enable_padding()
waiting: asyncio.Queue = asyncio.Queue()


def compute(texts: list[str]) -> list:
    encoded = tokenizer.encode_batch(texts)
    logits = session.run(None, {"input_ids": numpy.array([e.ids for e in encoded]),
                                "attention_mask": numpy.array([e.attention_mask for e in encoded])})[0]
    weights = numpy.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return [sorted(({"label": labels[i], "score": float(p)} for i, p in enumerate(row)), key=lambda x: -x["score"]) for row in weights]


async def batches() -> None:
    while True:
        entries = [await waiting.get()]
        while not waiting.empty() and len(entries) < 32:
            entries.append(waiting.get_nowait())
        answers = await asyncio.to_thread(compute, [text for text, _ in entries])
        for (_, future), answer in zip(entries, answers):
            future.set_result(answer)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while request := await reader.readline():
            length = 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = await reader.readexactly(length) if length else b""
            answer = b"{}"
            if b"/predict" in request:
                future = asyncio.get_running_loop().create_future()
                await waiting.put((json.loads(body)["inputs"], future))
                answer = json.dumps([await future]).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
            writer.write(head.encode() + answer)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    asyncio.create_task(batches())
    server = await asyncio.start_server(serve, "127.0.0.1", arguments.port)
    async with server:
        await server.serve_forever()


asyncio.run(main())

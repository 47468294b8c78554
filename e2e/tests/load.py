"""Load at a fixed rate that counts every answer: a program of the standard library alone, for a cluster's network.

Open loop: a request starts when it is due, whatever became of those before it. Three kinds run side by side: `fresh`
(a connection for each request), `kept` (connections kept alive, as most clients do) and `stream` (server-sent events,
whole only with a finish reason, every token asked for, and `[DONE]`). What a client would make of it is counted apart: `first` holds the
outcome of each request's first attempt, `failed` how many had no right answer after none, one and two retries, half a
second and a second later on a fresh connection, as the official OpenAI client does by default. A stream that was cut in
the middle is never retried.

A line on standard input names the stage that failures belong to; its end ends the load. The report is JSON.
"""

import argparse
import asyncio
import collections
import json
import sys
import time

RETRIES = (0.5, 1.0)
KINDS = ("fresh", "kept", "stream")


class Broken(Exception):
    """No whole answer: `refused`, `unreachable`, `reset` before the answer, `cut` within it, or `timeout`."""


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        try:
            return cls(*await asyncio.open_connection(host, port, limit=1 << 24))
        except ConnectionRefusedError:
            raise Broken("refused") from None
        except OSError as error:
            raise Broken("unreachable") from error

    def usable(self) -> bool:
        """A client looks before it reuses a connection: one that the other side closed is left."""
        return not (self.reader.at_eof() or self.writer.is_closing())

    def close(self) -> None:
        self.writer.close()

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, whole body)."""
        try:
            self.writer.write(request)
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (OSError, asyncio.IncompleteReadError):
            raise Broken("reset") from None
        status = int(head[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        try:
            return status, headers, await self.body(headers)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            raise Broken("cut") from None

    async def body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers["content-length"]))
        parts = []
        while True:
            size = int(await self.reader.readline(), 16)
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
            if size == 0:
                return b"".join(parts)


def whole(text: str, tokens: int) -> bool:
    """Whether a stream has every token that was asked for, a finish reason, and its end."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line]
    if not lines or lines.pop() != "[DONE]":
        return False
    events = [json.loads(line) for line in lines]
    finished = any(choice.get("finish_reason") for event in events for choice in event.get("choices", []))
    usage = next((event["usage"] for event in events if event.get("usage")), {})
    return finished and usage.get("completion_tokens") == tokens and not any("error" in event for event in events)


class Kind:
    """What became of the requests of one kind."""

    def __init__(self, rate: float):
        self.rate, self.sent, self.seconds = rate, 0, []
        self.first, self.revisions = collections.Counter(), collections.Counter()
        self.failed, self.failures = [0] * (len(RETRIES) + 1), []

    def report(self) -> dict:
        ordered = sorted(self.seconds)

        def quantile(share: float) -> float | None:
            return round(1000 * ordered[int(share * (len(ordered) - 1))], 1) if ordered else None

        return {"rate": self.rate, "sent": self.sent, "first": dict(self.first), "failed": self.failed,
                "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "revisions": dict(self.revisions),
                "failures": self.failures[:200]}


class Load:
    """The three kinds against one host."""

    def __init__(self, arguments: argparse.Namespace):
        self.host, port = arguments.address.rsplit(":", 1)
        self.port, self.timeout, self.tokens = int(port), arguments.timeout, arguments.tokens
        self.name = arguments.host or self.host
        plain = self.request(arguments.path, arguments.body)
        asked = {"model": arguments.model, "max_tokens": self.tokens, "temperature": 0, "ignore_eos": True, "stream": True,
                 "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": "Tell me a story."}]}
        stream = self.request("/v1/chat/completions", json.dumps(asked))
        self.requests = {"fresh": plain, "kept": plain, "stream": stream}
        self.kinds = {kind: Kind(getattr(arguments, kind)) for kind in KINDS}
        self.idle: list[Connection] = []
        self.stage, self.stopped, self.began = "start", asyncio.Event(), time.monotonic()

    def request(self, path: str, body: str) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: {self.name}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode()

    async def attempt(self, kind: str, retry: bool) -> tuple[str, str]:
        """(outcome, revision that answered) of one attempt; a retry is on a fresh connection."""
        connection, revision, answered = None, "", False
        try:
            async with asyncio.timeout(self.timeout):
                while kind == "kept" and not retry and self.idle and connection is None:
                    idle = self.idle.pop()
                    connection = idle if idle.usable() else None
                connection = connection or await Connection.open(self.host, self.port)
                status, headers, body = await connection.ask(self.requests[kind])
                revision, answered = headers.get("x-slipway-revision", ""), True
        except Broken as broken:
            return str(broken), revision
        except TimeoutError:
            return "timeout", revision
        finally:
            if answered and kind == "kept" and connection.usable():
                self.idle.append(connection)
            elif connection:
                connection.close()
        if status == 200 and kind == "stream" and not whole(body.decode(), self.tokens):
            return "cut", revision
        return str(status), revision

    async def send(self, name: str) -> None:
        kind, stage, started = self.kinds[name], self.stage, time.monotonic()
        kind.sent += 1
        for retries, delay in enumerate((*RETRIES, None)):
            outcome, revision = await self.attempt(name, retries > 0)
            if retries == 0:
                kind.first[outcome] += 1
                kind.revisions[revision] += 1
                if outcome == "200":
                    kind.seconds.append(time.monotonic() - started)
                    return
                at = round(started - self.began, 2)
                kind.failures.append({"at": at, "stage": stage, "outcome": outcome, "revision": revision})
            elif outcome == "200":
                return
            kind.failed[retries] += 1
            if outcome == "cut" or delay is None:
                for later in range(retries + 1, len(kind.failed)):
                    kind.failed[later] += 1
                return
            await asyncio.sleep(delay)

    async def follow(self, name: str) -> None:
        rate, tasks, number = self.kinds[name].rate, set(), 0
        while rate and not self.stopped.is_set():
            due = self.began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.add(asyncio.create_task(self.send(name)))
            number += 1
            tasks = {task for task in tasks if not task.done() or task.result()}
        await asyncio.gather(*tasks)

    async def listen(self) -> None:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self.stage = line.decode().strip()
        self.stopped.set()

    async def run(self) -> dict:
        await asyncio.gather(self.listen(), *(self.follow(kind) for kind in KINDS))
        seconds = round(time.monotonic() - self.began, 1)
        return {"seconds": seconds, **{name: kind.report() for name, kind in self.kinds.items() if kind.rate}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="HOST:PORT")
    for kind, rate in zip(KINDS, (20.0, 10.0, 1.0)):
        parser.add_argument(f"--{kind}", type=float, default=rate, help=f"{kind} requests a second (%(default)s)")
    parser.add_argument("--host", help="what requests say as their host (HOST)")
    parser.add_argument("--path", default="/v1/completions")
    parser.add_argument("--body", default='{"model": "web", "prompt": "Once", "max_tokens": 1, "temperature": 0}')
    parser.add_argument("--model", default="web", help="model of the streams (%(default)s)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of a stream (%(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for an attempt (%(default)s)")

    async def run() -> dict:
        return await Load(parser.parse_args()).run()

    print(json.dumps(asyncio.run(run())))


if __name__ == "__main__":
    main()

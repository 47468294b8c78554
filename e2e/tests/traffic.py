"""Load for tests of what must not cost a request."""

import collections
import threading
import time
import urllib.error

from harness import request


class Traffic:
    """A steady stream of requests; every answer is counted, by status, variant and revision."""

    def __init__(self, url: str, headers: dict[str, str] | None = None):
        self.headers = headers or {}
        self.url, self.codes, self.variants, self.revisions = url, *(collections.Counter() for _ in range(3))
        self.stage, self.failures = "start", []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            try:
                user = {"x-user-id": f"u{number}", **self.headers}
                status, headers, body = request(f"{self.url}/predict", {"inputs": "good"}, user, 20)
                self.codes[status] += 1
                if status != 200:
                    self.failures.append((self.stage, status, body))
                self.variants[headers.get("x-slipway-variant")] += 1
                self.revisions[headers.get("x-slipway-revision")] += 1
            except (OSError, urllib.error.URLError) as error:
                self.codes[type(error).__name__] += 1
            time.sleep(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(30)

"""What the routers of a fake node say: fake_routers.py FILE PORT. FILE has each one's answer by its address; a request's own
address says which router is asked. Ends when FILE is gone."""

import functools
import http.server
import json
import os
import pathlib
import sys
import threading
import time

said = pathlib.Path(sys.argv[1])
NOTHING = {"version": "", "window": "", "series": []}


@functools.lru_cache(1)
def answers(written_at: int) -> dict[str, dict]:
    """What the file says; read again only when it was written."""
    return json.loads(said.read_text())


class Router(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        address = self.connection.getsockname()[0]
        body = json.dumps(answers(said.stat().st_mtime_ns).get(address, NOTHING)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def end_with_the_file() -> None:
    while said.exists():
        time.sleep(1)
    os._exit(0)


threading.Thread(target=end_with_the_file, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Router).serve_forever()

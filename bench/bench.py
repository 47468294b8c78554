"""Runs the benchmarks: bench.py [CASE …]. Each case ends with one line: name, ratio (above 1: ours is better), figures."""

import subprocess
import sys
import time

import cluster
import inference
import rollouts
import router
import training

CASES = {**training.CASES, **inference.CASES, **router.CASES, **cluster.CASES, **rollouts.CASES}


def main() -> int:
    names = sys.argv[1:] or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        start = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            CASES[name]()
        except (RuntimeError, OSError, TimeoutError, subprocess.SubprocessError) as error:
            failed.append(name)
            print(f"{name} was not measured: {error}", file=sys.stderr, flush=True)
        print(f"{name} took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

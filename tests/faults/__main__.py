"""Many scenarios, each in a process of its own, and their account: one line for each broken promise, then figures."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

PATIENCE_S = 400
"""More than all that a scenario ever waits for."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, default=None, metavar="SEED")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    args = parser.parse_args()
    seeds = [args.only] if args.only is not None else range(args.seed, args.seed + args.scenarios)
    failed, waits, started = 0, [], time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        for seed, broken, own in pool.map(apart, seeds):
            waits += own
            failed += bool(broken)
            for text in broken:
                print(f"seed {seed}: {text}", flush=True)
    waits.sort()
    print(json.dumps({
        "scenarios": len(seeds), "broken": failed, "minutes": round((time.monotonic() - started) / 60, 1),
        "asked": len(waits), "median_ms": round(1000 * waits[len(waits) // 2], 1) if waits else None,
        "p99_ms": round(1000 * waits[int(len(waits) * 0.99)], 1) if waits else None,
        "worst_ms": round(1000 * waits[-1], 1) if waits else None,
        "over_250_ms": sum(wait > 0.25 for wait in waits), "load": os.getloadavg()[1],
    }), flush=True)  # fmt: skip
    return 1 if failed else 0


def apart(seed: int) -> tuple[int, list[str], list[float]]:
    """One scenario in a process of its own: no thread of one outlives into the next."""
    code = (
        f"import faulthandler, json; faulthandler.dump_traceback_later({PATIENCE_S - 20}, exit=False)\n"
        f"from tests.faults.scenario import play; print('PLAYED' + json.dumps(play({seed})))"
    )
    words = [sys.executable, "-c", code]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        stands = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        return seed, [f"the scenario did not end within {PATIENCE_S} s; it stood here:\n{stands}"], []
    for line in done.stdout.splitlines():
        if line.startswith("PLAYED"):
            found: tuple[int, list[str], list[float]] = json.loads(line[6:])
            return found
    return seed, [f"the scenario broke: {done.stderr[-400:]}"], []


if __name__ == "__main__":
    sys.exit(main())

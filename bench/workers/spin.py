"""Keep one processor busy for a share of the time, until killed: python -m bench.workers.spin 0.5."""

from __future__ import annotations

import sys
import time

PERIOD = 0.005


def main() -> None:
    """Count and sleep in turn."""
    share = min(float(sys.argv[1]), 1)
    n = 0
    while True:
        until = time.perf_counter() + PERIOD * share
        while time.perf_counter() < until:
            n += 1
        if share < 1:
            time.sleep(PERIOD * (1 - share))


if __name__ == "__main__":
    main()

"""Microseconds a kilobyte that each built-in Python check takes over real outputs, as JSON.

Run with `PYTHONPATH=plpython python -m bench.check_speed_python`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.check_quality import DATA, OUTPUTS, texts

CHECKS = (
    "sensitive_information",
    "language",
    "repetition",
    "readability",
    "prompt_leak",
    "complexity",
    "json_schema",
)
# Every bound given, so that everything is computed.
PARAMETERS: dict[str, list[dict[str, object]]] = {
    "language": [{"detector": "builtin"}, {"detector": "lingua"}],
    "complexity": [{"max_sentences": 1_000, "max_nesting": 50}],
    "readability": [{"min_ease": 0}],
}
SYSTEM_PROMPT = (
    "You are the assistant of a shop. Answer from the handbook below and from nothing else. " * 20
)


def measure(data: Path, rounds: int = 5, count: int = 400) -> dict[str, float]:
    """Median of the rounds, after one that is not counted, by check and parameters."""
    outputs = [text for folder, name, field in OUTPUTS for text in texts(data, folder, name, field)]
    sample = outputs[:: max(1, len(outputs) // count)]
    kilobytes = sum(len(text.encode()) for text in sample) / 1024
    figures = {}
    for name in CHECKS:
        module: Any = import_module(f"flywheel_pl.checks.{name}")
        for parameters in PARAMETERS.get(name, [{}]):
            try:
                check = module.prepare({**module.DEFAULTS, **parameters})
            except ValueError:
                continue  # lingua is not installed
            label = f"{name} {json.dumps(parameters)}" if parameters else name
            figures[label] = _microseconds(check, module.READS, sample, rounds) / kilobytes
    return figures


def _microseconds(
    check: Callable[..., object], reads: tuple[str, ...], sample: list[str], rounds: int
) -> float:
    others = ({"system_prompt": SYSTEM_PROMPT},) if "attributes" in reads else ()
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for text in sample:
            check(text, *others)
        taken.append((time.perf_counter() - start) * 1e6)
    return statistics.median(taken[1:])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real data")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measure(options.data, options.rounds), indent=2))


if __name__ == "__main__":
    main()

"""What a worker has done so far: plain numbers, read by the progress line and by Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict

# Seconds. A judge takes from a fraction of a second to a minute or two.
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0)


class Counters:
    """Counts since the start. Not thread-safe: one event loop writes."""

    def __init__(self) -> None:
        # (kind of validator, outcome): passed, failed, error, skipped, retry, dead, paused, stale,
        # released.
        self.jobs: Counter[tuple[str, str]] = Counter()
        # (task of a schedule, outcome): ok, failed, canceled; and seconds by task.
        self.tasks: Counter[tuple[str, str]] = Counter()
        self.task_seconds: defaultdict[str, float] = defaultdict(float)
        # (model, outcome): ok, transient, permanent, configuration, cancelled.
        self.requests: Counter[tuple[str, str]] = Counter()
        # (model, input | cached | output)
        self.tokens: Counter[tuple[str, str]] = Counter()
        # model -> calls by bucket, the last beyond all of them, and the sum of their seconds
        self.seconds: dict[str, list[int]] = {}
        self.seconds_sum: defaultdict[str, float] = defaultdict(float)
        self.in_flight = 0

    def call(self, model: str, outcome: str, seconds: float) -> None:
        """A call ended."""
        self.requests[model, outcome] += 1
        buckets = self.seconds.setdefault(model, [0] * (len(BUCKETS) + 1))
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds_sum[model] += seconds

    def done(self, *outcomes: str) -> int:
        """Jobs with these outcomes, of all kinds."""
        return sum(count for (_, outcome), count in self.jobs.items() if outcome in outcomes)

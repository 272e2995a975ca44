"""The counters for Prometheus, read when it asks: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flywheel_db.errors import BadInput
from flywheel_db.worker.counters import BUCKETS, Counters

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector


@contextmanager
def served(counters: Counters, host: str, port: int) -> Iterator[None]:
    """Answer GET /metrics meanwhile, from a thread.

    Raises:
        BadInput: the port cannot be listened on.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_collector(counters))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise BadInput(
            f"the metrics cannot be served on {host}:{port}: {error.strerror}",
            hint="give another --metrics-port",
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _collector(counters: Counters) -> Collector:
    from prometheus_client.registry import Collector

    class Reader(Collector):
        def collect(self) -> Iterator[Metric]:
            return families(counters)

    return Reader()


def families(counters: Counters) -> Iterator[Metric]:
    """All metrics as they are now."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    counted: tuple[tuple[str, str, list[str], Callable[[], dict[tuple[str, str], int]]], ...] = (
        ("jobs", "Jobs by outcome.", ["kind", "outcome"], counters.jobs.copy),
        ("requests", "Calls of models by outcome.", ["model", "outcome"], counters.requests.copy),
        ("tokens", "Tokens; input has the cached ones.", ["model", "kind"], counters.tokens.copy),
        ("tasks", "Scheduled tasks by outcome.", ["task", "outcome"], counters.tasks.copy),
    )
    for name, text, labels, values in counted:
        family = CounterMetricFamily(f"flywheel_worker_{name}", text, labels=labels)
        for label, count in values().items():
            family.add_metric(list(label), count)
        yield family

    running = CounterMetricFamily(
        "flywheel_worker_task_seconds", "How long scheduled tasks took.", labels=["task"]
    )
    for task, taken in list(counters.task_seconds.items()):
        running.add_metric([task], taken)
    yield running

    seconds = HistogramMetricFamily(
        "flywheel_worker_call_seconds", "How long calls of models took.", labels=["model"]
    )
    for model, found in list(counters.seconds.items()):
        total, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), list(found), strict=True):
            total += count
            buckets.append((bound, total))
        seconds.add_metric([model], buckets, counters.seconds_sum[model])
    yield seconds
    yield GaugeMetricFamily(
        "flywheel_worker_in_flight", "Calls of models under way.", value=counters.in_flight
    )

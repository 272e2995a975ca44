"""An OpenAI-compatible endpoint on loopback that answers from a script: for tests and figures.

    with replay.Endpoint(replay.verdict(passed=False, reason="rude"), latency=0.2) as endpoint:
        ...  # point a model at endpoint.base_url
        assert endpoint.count == 1

A *responder* decides the answer: a callable from the body of a request to a `Reply`. The ready
ones are in `responders`, the broken ones in `faults`, real recorded texts in `recorded`.
`replay.spawn()` runs the same thing in a process of its own. Not part of the wheel.
"""

from replay.endpoint import Endpoint
from replay.faults import FAULTS, Faulty
from replay.process import Process, spawn
from replay.reply import Reply, Responder, completion, error
from replay.responders import (
    by_keyword,
    by_marker,
    in_turn,
    only_models,
    round_robin,
    text,
    verdict,
)
from replay.server import Received
from replay.vectors import vector_of, vectors

__all__ = [
    "FAULTS",
    "Endpoint",
    "Faulty",
    "Process",
    "Received",
    "Reply",
    "Responder",
    "by_keyword",
    "by_marker",
    "completion",
    "error",
    "in_turn",
    "only_models",
    "round_robin",
    "spawn",
    "text",
    "vector_of",
    "vectors",
    "verdict",
]

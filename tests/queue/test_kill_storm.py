"""Workers, their sessions and the server killed in the middle of judging: nothing is lost or done twice."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import replay
from bench.storm import Plan, Storm
from flywheel_db.server import Server, down, up
from replay import FAULTS, Faulty


@pytest.fixture
def mortal_server() -> Iterator[Server]:
    """A server of this test alone: killing one of its sessions takes all others down."""
    home = Path(tempfile.mkdtemp(prefix="flywheel-test-"))
    shutil.rmtree(home)
    try:
        yield up(home, settings={"fsync": "off", "full_page_writes": "off"})
    finally:
        down(home)
        shutil.rmtree(home, ignore_errors=True)


def test_nothing_is_lost_or_done_twice_when_workers_and_the_server_are_killed(
    mortal_server: Server,
) -> None:
    # No web page: it pauses a validator for a minute, as a wrong address does.
    faults = ["cut", "huge", "server_error", "rate_limited"]
    assert set(faults) < set(FAULTS)
    plan = Plan(
        jobs=300, kills={"worker": 2, "backend": 2, "terminate": 2},
        workers=2, concurrency=6, lease=1, edited=5, deleted=2, seconds=120,
    )  # fmt: skip
    answer = Faulty(replay.verdict(), 0.05, faults=faults)
    with (
        replay.Endpoint(answer, latency=0.1, keep=False) as endpoint,
        Storm(mortal_server, endpoint.base_url, plan) as storm,
    ):
        found = storm.run()

    assert found.kills == plan.kills
    assert (found.missing, found.swept, found.duplicates) == (0, 0, 0)
    assert (found.orphans, found.old) == (0, 0)
    counts = found.coverage
    assert counts["expected"] == plan.jobs - found.deleted
    assert counts["decided"] + counts["skipped"] == counts["expected"]
    assert counts["skipped"] > 0
    # Each of these was worth a call, and a call that was cut off was made again.
    assert endpoint.count >= found.verdict_runs - counts["skipped"]

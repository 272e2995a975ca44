"""A worker that embeds texts: with endpoints that answer well or badly, and with local models."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flywheel_pl.embeddings.reply import parse
from flywheel_pl.judges.hosts import AllowedHosts
from flywheel_pl.judges.reply import CallFailed
from psycopg import Connection

import replay
from flywheel_db.worker import program
from flywheel_db.worker.options import Options
from replay import faults

ROOT = Path(__file__).parents[2]
DIMENSIONS = 8


@pytest.fixture
def admin(connect: Callable[..., Connection]) -> Connection:
    return connect()


@pytest.fixture
def endpoint() -> Iterator[replay.Endpoint]:
    with replay.Endpoint(embedder=replay.vectors(DIMENSIONS)) as running:
        yield running


def create(
    db: Connection, base_url: str, name: str = "small", dimensions: int = DIMENSIONS, **model: Any
) -> None:
    given = {"timeout_seconds": 20} | model
    named = "".join(f", {key} => %({key})s" for key in given)
    db.execute(
        f"select flywheel.create_model(%(name)s, %(url)s, 'e-1'{named})",
        {"name": name, "url": base_url, **given},
    )
    db.execute(
        "select flywheel.create_embedder(%s, 'openai', %s, model => %s)", (name, dimensions, name)
    )


def use(db: Connection, name: str = "small") -> None:
    db.execute("select flywheel.use_embedder(%s)", (name,))
    upkeep(db)


def upkeep(db: Connection) -> None:
    while one(db, "select is_more from flywheel.embed_texts(1)"):
        pass


def insert(db: Connection, *inputs: str) -> None:
    for text in inputs:
        db.execute("insert into flywheel.traces (input) values (%s)", (text,))
    upkeep(db)


def one(db: Connection, query: Any, *values: Any) -> Any:
    row = db.execute(query, values).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def later(db: Connection, interval: str) -> None:
    db.execute(
        f"""
        create or replace function flywheel.now() returns timestamptz
        language sql stable parallel safe
        begin atomic select pg_catalog.now() + interval '{interval}'; end
        """
    )


def stored(db: Connection, name: str = "small", store: str = "log") -> dict[str, list[float]]:
    """The vectors, by the texts of their traces."""
    number = one(db, "select embedder_id from flywheel._embedders where name = %s", name)
    rows = db.execute(
        f"""
        select t.input, v.embedding::text
        from flywheel._vectors_{number}_{store} as v join flywheel.traces as t on t.trace_id = v.item_id
        """
    ).fetchall()
    assert len({text for text, _ in rows}) == len(rows), "a text has two vectors"
    return {text: json.loads(vector) for text, vector in rows}


def expected(text: str) -> list[float]:
    vector = replay.vector_of(text, DIMENSIONS)
    length = math.sqrt(sum(number * number for number in vector))
    return [number / length for number in vector]


@pytest.fixture
def drain(dsn: str) -> Callable[..., None]:
    """Run a worker until nothing is left that can be done now."""

    def run(**options: Any) -> None:
        given: dict[str, Any] = {
            "dsn": dsn, "drain": True, "poll": 0.02, "schedules": False, "name": "w1",
            "hosts": AllowedHosts.parse(["127.0.0.1"]),
        }  # fmt: skip
        program.run(Options(**(given | options)))

    return run


@pytest.mark.parametrize("parameters", ["{}", '{"encoding_format": "base64"}'])
def test_texts_get_the_vectors_of_the_endpoint(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, parameters: str
) -> None:
    create(admin, endpoint.base_url, parameters=parameters, input_price=1000, output_price=0)
    use(admin)
    texts = [f"text {n} 語 🙂" for n in range(100)] + ["ж" * 5_000_000]
    insert(admin, *texts)
    drain()
    found = stored(admin)
    assert set(found) == set(texts)
    for text in texts[:100]:
        assert found[text] == pytest.approx(expected(text), abs=1e-6)
    assert [len(request.body["input"]) for request in endpoint.requests] == [64, 37]
    assert one(admin, "select requests_today, spent_today_usd > 0 from flywheel.models") == (
        2,
        True,
    )


def test_an_endpoint_that_is_down_leaves_traces_and_few_shot_alone(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    create(admin, endpoint.base_url)
    use(admin)
    admin.execute("select flywheel.create_validator('polite', 'sql', 'output is not null')")
    endpoint.embed_with(faults.dropped)
    for minute in (0, 10, 20, 30, 40, 50, 60):
        later(admin, f"{minute} minutes")
        insert(admin, f"the parcel of minute {minute} is late")
        admin.execute(
            "select flywheel.label(trace_id, 'polite', true, split => 'train')"
            " from flywheel.traces order by trace_id desc limit 1"
        )
        drain()
    found = admin.execute("select input, embedder from flywheel.few_shot('polite', 'late parcel')")
    assert [row[1] for row in found] == ["hash"] * 4
    assert stored(admin) == {}
    assert one(admin, "select pending, dead from flywheel.embedders where name = 'small'") == (
        14,
        0,
    )
    assert "the connection" in one(
        admin, "select last_error from flywheel.embedders where name = 'small'"
    )
    endpoint.embed_with(replay.vectors(DIMENSIONS))
    for minute in (80, 90, 100):
        later(admin, f"{minute} minutes")
        drain()
    assert len(stored(admin)) == 7
    assert one(admin, "select pending, dead from flywheel.embedders where name = 'small'") == (0, 0)


def test_another_length_pauses_and_the_worker_goes_on(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    create(admin, endpoint.base_url, dimensions=1536)
    use(admin)
    insert(admin, "a", "b")
    drain()
    assert one(
        admin,
        "select pending, dead, last_error from flywheel.embedders where name = 'small'",
    ) == (2, 0, "small returned vectors of 8 dimensions, the embedder has 1536")


@pytest.mark.parametrize(
    ("embedder", "said"),
    [
        (faults.rate_limited, "Rate limit reached"),
        (faults.server_error, "500"),
        (faults.html, "is not whole JSON a web page"),
        (replay.vectors(spoil=lambda items: items[1:]), "has 1 vectors for 2 texts"),
        (replay.vectors(spoil=lambda items: [items[0], items[0]]), "two vectors for one text"),
        (
            replay.vectors(spoil=lambda items: [item | {"embedding": ["x"]} for item in items]),
            "a vector with what is no number",
        ),
        (replay.text("hello"), "holds no vectors"),
    ],
)  # fmt: skip
def test_garbage_is_told_and_tried_again(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, embedder: Any, said: str
) -> None:
    create(admin, endpoint.base_url)
    use(admin)
    insert(admin, "a", "b")
    endpoint.embed_with(embedder)
    drain()
    assert one(admin, "select pending, dead from flywheel.embedders where name = 'small'") == (2, 0)
    assert said in one(admin, "select last_error from flywheel.embedders where name = 'small'")
    endpoint.embed_with(replay.vectors(DIMENSIONS))
    later(admin, "1 minute")
    drain()
    assert len(stored(admin)) == 2


def test_a_text_that_is_refused_does_not_keep_the_others(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    create(admin, endpoint.base_url)
    use(admin)
    insert(admin, "poison", *(f"text {n}" for n in range(70)))
    endpoint.embed_with(replay.vectors(DIMENSIONS, poison="poison"))
    drain()
    assert len(stored(admin)) == 70
    assert one(admin, "select pending, dead from flywheel.embedders where name = 'small'") == (0, 1)


def test_a_host_that_is_not_allowed_is_not_called(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    create(admin, endpoint.base_url)
    use(admin)
    insert(admin, "a")
    drain(hosts=AllowedHosts.parse(["api.openai.com"]))
    drain(kinds=("llm", "sql"))
    assert endpoint.count == 0
    assert one(admin, "select pending from flywheel.embedders where name = 'small'") == 1


def test_a_worker_with_its_own_role_and_nothing_else(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, dsn: str
) -> None:
    create(admin, endpoint.base_url)
    use(admin)
    insert(admin, "a")
    drain(dsn=f"{dsn} options='-c role=flywheel_worker'")
    assert len(stored(admin)) == 1


def test_reads_never_fail_while_embedders_take_turns(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, connect: Any
) -> None:
    """Two embedders one after the other and back, two of them building, with a reader at work."""
    admin.execute("select flywheel.create_validator('polite', 'sql', 'output is not null')")
    for n in range(150):
        trace = one(
            admin,
            "insert into flywheel.traces (input, output) values (%s, 'x') returning trace_id",
            f"parcel {n} is late",
        )
        if n % 10 == 0:
            admin.execute(
                "select flywheel.label(%s, 'polite', true, corrected_output => 'y', split => 'train')",
                (trace,),
            )
    upkeep(admin)
    create(admin, endpoint.base_url, "small")
    create(admin, endpoint.base_url, "large")
    stop = threading.Event()
    problems: list[Exception] = []
    counts: set[int] = set()
    reads = 0

    def read() -> None:
        nonlocal reads
        reader = connect()
        query = json.dumps(expected("parcel 3 is late"))
        while not stop.is_set():
            try:
                counts.add(
                    len(
                        reader.execute(
                            "select from flywheel.few_shot('polite', 'the parcel is late', 8)"
                        ).fetchall()
                    )
                )
                counts.add(
                    one(
                        reader,
                        """
                        select case when a.provider = 'hash' then 8 else (
                          select count(*) from flywheel._nearest(
                            a.embedder_id, 'log', %s::flywheel._vector, 8
                          ) as n
                        ) end
                        from flywheel._active_embedder() as a
                        """,
                        query,
                    )
                )
                reads += 1
            except Exception as problem:
                problems.append(problem)

    thread = threading.Thread(target=read)
    thread.start()
    minutes = 0
    try:
        for name in ("small", "large", "small", "hash", "large"):
            admin.execute("select flywheel.use_embedder(%s)", (name,))
            for _ in range(4):
                upkeep(admin)
                drain()
                admin.execute("select flywheel.index_vectors(1)")
                minutes += 1
                later(admin, f"{minutes} minutes")
            upkeep(admin)
            state = one(admin, "select state from flywheel.embedders where name = %s", name)
            assert state == "active", name
            if name != "hash":
                assert len(stored(admin, name)) == 150
    finally:
        stop.set()
        thread.join()
    assert problems == []
    assert counts == {8}
    assert reads > 20
    later(admin, f"{minutes + 5} minutes")
    for _ in range(3):
        admin.execute("select flywheel.index_vectors(1)")
    kept = admin.execute(
        "select distinct embedder from flywheel.index_health where store = 'log'"
    ).fetchall()
    assert kept == [("large",)]


def test_a_switch_waits_for_examples_but_not_for_texts_that_were_given_up(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    admin.execute("select flywheel.create_validator('polite', 'sql', 'output is not null')")
    insert(admin, "poison", "good")
    admin.execute(
        "select flywheel.label(trace_id, 'polite', true, split => 'train') from flywheel.traces"
    )
    create(admin, endpoint.base_url)
    endpoint.embed_with(replay.vectors(DIMENSIONS, poison="poison"))
    use(admin)
    # As of a label whose transaction did not see the switch.
    admin.execute("delete from flywheel._embedding_jobs where store = 'examples'")
    admin.execute("update flywheel._embedding_jobs set run_at = run_at - interval '1 hour'")
    drain()
    upkeep(admin)
    assert one(admin, "select state, dead from flywheel.embedders where name = 'small'") == (
        "building", 1,
    )  # fmt: skip
    drain()
    upkeep(admin)
    assert one(admin, "select state, dead from flywheel.embedders where name = 'small'") == (
        "active", 2,
    )  # fmt: skip


def test_a_worker_that_is_killed_loses_nothing(
    admin: Connection, drain: Any, dsn: str, tmp_path: Path
) -> None:
    with replay.Endpoint(embedder=replay.vectors(DIMENSIONS), latency=0.3) as endpoint:
        create(admin, endpoint.base_url)
        use(admin)
        insert(admin, *(f"text {n}" for n in range(400)))
        worker = subprocess.Popen(
            [
                sys.executable, "-c", "from flywheel_db.cli import main; main()", "worker",
                "--dsn", dsn, "--poll", "0.1", "--lease", "2", "--no-schedules",
            ],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"FLYWHEEL_ALLOWED_HOSTS": "127.0.0.1"},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while not endpoint.in_flight and time.monotonic() < deadline:
                time.sleep(0.005)
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        assert len(stored(admin)) < 400
        later(admin, "1 minute")
        drain()
        assert len(stored(admin)) == 400
        assert one(admin, "select count(*) from flywheel._embedding_jobs") == 0


FAKE = '''
"""What sentence-transformers looks like to the worker."""
import os

class SentenceTransformer:
    def __init__(self, name):
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert not [name for name in os.environ if name.startswith("FLYWHEEL_")]
        if name != "tiny":
            raise OSError("there is no such model in the cache")
        print("loading")

    def encode(self, texts, normalize_embeddings, show_progress_bar):
        if "poison" in texts:
            raise ValueError("cannot encode")
        if "killer" in texts:
            os._exit(9)
        return [[len(text), 1.0, 2.0] for text in texts]
'''


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sentence_transformers.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FLYWHEEL_KEY_JUDGE", "sk-0123456789abcdef")


def use_local(db: Connection, model: str = "tiny") -> None:
    db.execute("select flywheel.create_embedder('small', 'local', 3, %s)", (model,))
    use(db)


@pytest.mark.usefixtures("fake")
def test_a_local_model_embeds_in_a_process_of_its_own(admin: Connection, drain: Any) -> None:
    use_local(admin)
    insert(admin, "poison", *(f"text {n}" for n in range(80)))
    drain()
    found = stored(admin)
    assert len(found) == 80
    assert found["text 7"] == pytest.approx([6 / 41**0.5, 1 / 41**0.5, 2 / 41**0.5], abs=1e-6)
    assert (
        one(admin, "select dead, last_error from flywheel.embedders where name = 'small'")[0] == 1
    )


@pytest.mark.usefixtures("fake")
def test_a_local_process_that_dies_is_started_again(admin: Connection, drain: Any) -> None:
    use_local(admin)
    insert(admin, "killer")
    drain()
    insert(admin, "well")
    drain()
    assert set(stored(admin)) == {"well"}
    assert one(admin, "select last_error from flywheel._embedding_jobs") == (
        "the process of local models ended with 9"
    )


@pytest.mark.usefixtures("fake")
def test_a_local_model_that_is_not_here_pauses_the_embedder(admin: Connection, drain: Any) -> None:
    use_local(admin, "huge")
    insert(admin, "a")
    drain()
    assert one(
        admin, "select pending, last_error from flywheel.embedders where name = 'small'"
    ) == (
        1,
        "the model huge cannot be loaded on this machine, and workers download none:"
        " OSError: there is no such model in the cache",
    )


def test_without_the_extra_the_embedder_says_so_and_all_else_goes_on(
    admin: Connection, drain: Any, endpoint: replay.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel_db.worker.embeddings.local.find_spec", lambda name: None)
    use_local(admin)
    insert(admin, "a")
    create(admin, endpoint.base_url, "other")
    use(admin, "other")
    drain()
    assert one(admin, "select pending, last_error from flywheel.embedders where name = 'small'") == (
        1, "the worker w1 has no sentence-transformers: pip install 'flywheel-db[local]'",
    )  # fmt: skip
    assert len(stored(admin, "other")) == 1


def test_the_reply_of_an_endpoint_is_read_in_its_order() -> None:
    body = {
        "data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1.5, None]}],
        "usage": {"prompt_tokens": 5},
    }
    with pytest.raises(CallFailed, match="no number"):
        parse(200, {}, json.dumps(body).encode(), 2)
    body["data"][1]["embedding"] = [1.5]
    found = parse(200, {}, json.dumps(body).encode(), 2)
    assert (found.vectors, found.input_tokens) == (["[1.5]", "[2]"], 5)
    bare = parse(200, {}, b"[[1], [2]]", 2)
    assert (bare.vectors, bare.input_tokens) == (["[1]", "[2]"], 0)
    quoted = {"note": "a [1, 2] list", "data": [{"embedding": [1e-3, -2.5]}]}
    assert parse(200, {}, json.dumps(quoted, indent=1).encode(), 1).vectors == ["[0.001, -2.5]"]
    for said, kind in (("overloaded", "transient"), ("Incorrect API key", "configuration")):
        with pytest.raises(CallFailed) as caught:
            parse(200, {}, json.dumps({"error": {"message": said}}).encode(), 1)
        assert caught.value.kind == kind

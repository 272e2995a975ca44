"""`flywheel-db doctor` about embedders: paused, without a worker, with texts that were given up."""

from collections.abc import Callable

import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb

from flywheel_db import doctor
from flywheel_db.doctor.finding import Finding


@pytest.fixture
def admin(connect: Callable[..., Connection]) -> Connection:
    """An embedder of an endpoint is active, and one text waits for it."""
    session = connect()
    session.execute(
        """
        select flywheel.create_model('e', 'http://127.0.0.1:1/v1', 'e-1');
        select flywheel.create_embedder('small', 'openai', 3, 'e');
        select flywheel.use_embedder('small');
        select flywheel.embed_texts(0);
        insert into flywheel.traces (input) values ('where is my parcel');
        select flywheel.embed_texts(1)
        """
    )
    return session


def found(dsn: str) -> list[Finding]:
    return [finding for finding in doctor.examine(dsn) if finding.name == "embedders"]


def later(session: Connection) -> None:
    session.execute("update flywheel._embedding_jobs set run_at = now() - interval '1 hour'")


def claim(session: Connection) -> Jsonb:
    row = session.execute("select batch from flywheel.claim_embeddings('w')").fetchone()
    assert row is not None
    return Jsonb(row[0])


def test_texts_that_have_just_come_are_nobodys_fault(admin: Connection, dsn: str) -> None:
    (finding,) = found(dsn)
    assert (finding.level, finding.message) == ("ok", "small is active")


def test_no_worker_embeds_texts(admin: Connection, dsn: str) -> None:
    later(admin)
    admin.execute("""select flywheel.start_worker('judges', 1, '{"kinds": ["llm"]}')""")
    (finding,) = found(dsn)
    assert finding.level == "warning"
    assert finding.message == (
        "small: 1 texts wait for their vectors, the oldest for 1:00:00;"
        " no worker that runs embeds texts"
    )
    assert finding.remedy == "start one: flywheel-db worker"
    admin.execute("""select flywheel.start_worker('all', 1, '{"kinds": ["embeddings"]}')""")
    assert [finding.level for finding in found(dsn)] == ["ok"]


def test_a_worker_that_may_not_call_the_model_is_none(admin: Connection, dsn: str) -> None:
    later(admin)
    admin.execute(
        """
        select flywheel.start_worker(
          'w', 1, '{"kinds": ["embeddings"], "refused": {"e": "the host is not allowed"}}'
        )
        """
    )
    (finding,) = found(dsn)
    assert finding.message.endswith("of its model: the host is not allowed")


def test_an_embedder_that_is_paused(admin: Connection, dsn: str) -> None:
    admin.execute(
        "select flywheel.fail_embeddings('w', %s, 'configuration', '401: no such key')",
        (claim(admin),),
    )
    (finding,) = found(dsn)
    assert finding.message == "small is paused, and 1 texts wait: 401: no such key"
    assert finding.remedy.endswith("select flywheel.retry_embeddings('small')")


def test_a_model_that_fails(admin: Connection, dsn: str) -> None:
    later(admin)
    admin.execute(
        "select flywheel._note_model_failure(m.model_id, '503', now(), interval '9 minutes')"
        " from flywheel._models as m"
    )
    (finding,) = found(dsn)
    assert finding.message.endswith("its model is failing: 503")


def test_texts_that_were_given_up(admin: Connection, dsn: str) -> None:
    admin.execute("select flywheel.complete_embeddings('w', %s, array['[0,0,0]'])", (claim(admin),))
    (finding,) = found(dsn)
    assert finding.message == "small: 1 texts were given up and are not found by meaning"
    admin.execute("select flywheel.retry_embeddings('small')")
    assert [finding.level for finding in found(dsn)] == ["ok"]

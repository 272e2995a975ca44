"""Texts a second through flywheel._hash_vectors() in one warm session, with Python and without.

The texts are the queries of clinc150 and banking77 or, where the data are not, sentences of 60
characters; in batches of 1,000, in seconds of the backend's processor where they can be read. And what a validator by nearest neighbours adds to an INSERT of 1,000
rows, with 1,000 reference texts, which are compared one by one, and with 16,000, which have an index.
"""

from __future__ import annotations

import random

from bench.check_quality import DATA, texts
from bench.common import Options, Server, Session, Timing, medians
from bench.report import Figure

BAR = 15_000


def run(server: Server, options: Options) -> list[Figure]:
    """Measure both ways to make a vector, and validators at both sizes."""
    given = _texts()
    with server.database("embedding_speed").admin() as session:
        session.run("create table public.texts (n integer, text text)")
        with session.connection.cursor().copy("copy public.texts from stdin") as copy:
            for n, text in enumerate(given):
                copy.write_row((n, text))
        figures = [_vectors(session, given, options), *_validators(session, options)]
    server.drop("embedding_speed")
    return figures


def _texts() -> list[str]:
    if DATA.is_dir():
        found = [
            text
            for folder in ("clinc150", "banking77")
            for text in texts(DATA, folder, "queries", "text")
        ]
    else:
        words = random.Random(1)
        found = [
            " ".join(f"word{words.randrange(5000)}" for _ in range(7))[:60] for _ in range(28_000)
        ]
    random.Random(1).shuffle(found)
    return found


def _vectors(session: Session, given: list[str], options: Options) -> Figure:
    query = (
        "select sum(cardinality(flywheel._{}(b.texts)))"
        " from (select array_agg(t.text) as texts from public.texts as t where t.n < {} group by t.n / 1000) as b"
    )
    few = min(len(given), 4000)
    session.timed(query.format("hash_vectors", len(given)))  # a warm session
    python = medians(
        [session.timed(query.format("hash_vectors", len(given))) for _ in range(options.rounds)]
    )
    plain = medians(
        [session.timed(query.format("hash_weights_in_sql", few)) for _ in range(options.rounds)]
    )
    return Figure(
        "hash_speed",
        "texts a second, made into vectors by the embedder hash in one warm session",
        len(given) / _seconds(python),
        "a second",
        at_least=BAR,
        parts={
            "characters a text": sum(map(len, given)) / len(given),
            "by the clock": len(given) / python.wall,
            "without Python": few / _seconds(plain),
        },
    )


def _seconds(timing: Timing) -> float:
    return timing.wall if timing.cpu is None else timing.cpu


def _validators(session: Session, options: Options) -> list[Figure]:
    insert = (
        "insert into flywheel.traces (input) select t.text from public.texts as t where t.n < 1000"
    )

    def milliseconds() -> float:
        session.timed(insert)
        return _seconds(medians([session.timed(insert) for _ in range(options.rounds)]))

    bare = milliseconds()
    session.run(
        "select flywheel.create_validator('v', 'knn', 'topic', params => '{\"threshold\": 0.3}')"
    )
    figures = []
    for known in (1000, 16_000):
        session.run(
            "select flywheel.add_references('v', array(select t.text from public.texts as t"
            f" where t.n between 1000 and {999 + known}))"
        )
        figures.append(
            Figure(
                f"knn_row_{known}",
                f"what a validator with {known:,} reference texts adds to each row of a 1,000-row INSERT",
                milliseconds() - bare,
                "ms",
                parts={"bare INSERT, ms a row": bare},
            )
        )
    return figures

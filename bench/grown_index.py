"""An index grown by 100,000 inserts against one built in bulk over the same vectors: recall.

Grown: traces arrive in statements of 100, and the two background functions run after each hundred of
them, as the schedules do. In bulk: pgvector's own `create index` over one table with all of the
vectors. Recall of the 10 nearest against an exact scan, for the same questions, none of which is in it.
"""

from __future__ import annotations

from bench.common import Options, Server, note
from bench.queries import questions
from bench.report import Figure

_K = 10


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    count = options.rows(100_000)
    texts, asked = questions(count, 200)
    database = server.database("grown_index")
    with database.admin() as admin, database.writer() as writer:
        for n in range(0, count, 100):
            writer.run(
                "insert into flywheel.traces (input) select t from unnest(%s::text[]) as t",
                (texts[n : n + 100],),
            )
            if n % 10_000 == 0:
                admin.run("select flywheel.embed_texts(1)")
                admin.run("select flywheel.index_vectors(1)")
        for call in ("embed_texts", "index_vectors"):
            while admin.one(f"select is_more from flywheel.{call}(5)"):
                pass
        note(f"grown to {admin.one('select count(*) from flywheel._vectors_1_log'):,} vectors")
        admin.run(
            """
            create table public.bulk as select v.item_id, v.embedding from flywheel._vectors_1_log as v;
            alter table public.bulk alter column embedding set storage plain;
            set maintenance_work_mem = '1GB';
            create index bulk_embedding_idx on public.bulk using hnsw (embedding flywheel.halfvec_ip_ops);
            set hnsw.ef_search = 120;
            set hnsw.iterative_scan = relaxed_order;
            """
        )
        hits = {"grown": 0, "bulk": 0}
        for question in asked:
            vector = admin.one("select flywheel.embed(%s)::text", (question,))
            queries = {
                "exact": f"select array(select b.item_id from public.bulk as b order by -(b.embedding operator(flywheel.<#>) %s::flywheel.halfvec) desc limit {_K})",
                "bulk": f"select array(select b.item_id from public.bulk as b order by b.embedding operator(flywheel.<#>) %s::flywheel.halfvec limit {_K})",
                "grown": f"select array(select n.item_id from flywheel._nearest(1, 'log', %s::flywheel._vector, {_K}) as n)",
            }
            found = {name: set(admin.one(query, (vector,))) for name, query in queries.items()}
            for name in hits:
                hits[name] += len(found[name] & found["exact"])
        parts = admin.one(
            "select count(*) from flywheel._vector_segments as s where store = 'log' and flywheel._is_searched(s)"
        )
    server.drop("grown_index")
    recall = {name: n / (_K * len(asked)) for name, n in hits.items()}
    return [
        Figure(
            "grown_index", f"recall after {count:,} inserts less that of one index built in bulk",
            recall["grown"] - recall["bulk"], unit="", at_least=-0.01, parts={**recall, "parts": parts},
        )
    ]  # fmt: skip

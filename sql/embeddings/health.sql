-- How well the indexes do: what can be read at once, and recall as it was last measured.

-- By the ids of random items: a scan of a million vectors to draw twenty would cost more than they do.
create or replace function flywheel._sample_items(embedder_id integer, store text, n integer)
returns setof uuid
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_parts constant flywheel._vector_segments[] := array(
    select s
    from flywheel._vector_segments as s
    where s.embedder_id = _sample_items.embedder_id and s.store = _sample_items.store and flywheel._is_searched(s)
  );
  v_share constant integer := ceil(n::numeric / cardinality(v_parts));
  v_part flywheel._vector_segments;
begin
  foreach v_part in array v_parts loop
    return query execute format(
      $query$
      select s.item_id
      from (select v.item_id from %1$s as v tablesample system (least(100, $1 * 100.0 * 20 / greatest($2, 1))) limit $1 * 50) as s
      order by random()
      limit $1$query$,
      flywheel._part_table(v_part)
    ) using v_share, v_part.rows;
  end loop;
end
$$;

comment on function flywheel._sample_items(integer, text, integer) is 'About n random items of a store, from all of its parts.';

create or replace function flywheel._exact_neighbours(embedder_id integer, store text, query flywheel._vector, k integer)
returns double precision[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_indexscan = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
  v_similarities double precision[];
begin
  execute format(
    'select array(select -(v.embedding operator(%1$s.<#>) $1::%1$s.%3$s) from %2$s as v order by v.embedding operator(%1$s.<#>) $1::%1$s.%3$s limit $2)',
    flywheel._vector_schema(), flywheel._store_table(embedder_id, store),
    (select case when e.is_half then 'halfvec' else 'vector' end from flywheel._embedders as e where e.embedder_id = _exact_neighbours.embedder_id)
  ) into v_similarities using query, k;
  return v_similarities;
end
$$;

comment on function flywheel._exact_neighbours(integer, text, flywheel._vector, integer) is
  'Similarities of the k nearest items of a store, greatest first, found by looking at all of them.';

-- Each sampled vector is its own nearest neighbour and does not count.
create or replace function flywheel.measure_index(queries integer default 20, k integer default 10)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_store record;
  v_query record;
  v_begun timestamptz;
  v_near double precision[];
  v_exact double precision[];
  v_index_ms double precision[];
  v_exact_ms double precision[];
  v_hits bigint;
  v_asked bigint;
begin
  if queries is null or not queries between 1 and 1000 or k is null or not k between 1 and 100 then
    raise exception 'queries is %, k is %', coalesce(queries::text, 'null'), coalesce(k::text, 'null')
      using errcode = 'LF002', hint = 'Give from 1 to 1000 queries for from 1 to 100 neighbours.';
  end if;
  for v_store in
    select s.embedder_id, s.store from flywheel._vector_segments as s where s.state = 'open' order by s.part
  loop
    v_index_ms := '{}';
    v_exact_ms := '{}';
    v_hits := 0;
    v_asked := 0;
    for v_query in
      select v.item_id, v.embedding
      from flywheel._vectors_of(
        v_store.embedder_id, v_store.store,
        array(select i from flywheel._sample_items(v_store.embedder_id, v_store.store, queries) as i limit queries)
      ) as v
    loop
      v_begun := clock_timestamp();
      v_near := array(
        select n.similarity from flywheel._nearest(v_store.embedder_id, v_store.store, v_query.embedding, k + 1) as n order by 1 desc
      );
      v_index_ms := v_index_ms || extract(epoch from clock_timestamp() - v_begun)::double precision * 1000;
      v_begun := clock_timestamp();
      v_exact := flywheel._exact_neighbours(v_store.embedder_id, v_store.store, v_query.embedding, k + 1);
      v_exact_ms := v_exact_ms || extract(epoch from clock_timestamp() - v_begun)::double precision * 1000;
      -- By distance: which of equal texts is found does not matter. The first is the query itself.
      v_hits := v_hits + (
        select count(*) from unnest(v_near[2:]) as n (similarity)
        where n.similarity >= v_exact[cardinality(v_exact)] - 1e-6
      );
      v_asked := v_asked + cardinality(v_exact[2:]);
    end loop;
    insert into flywheel._index_measurements as m (embedder_id, store, queries, k, recall, index_ms, exact_ms)
    select v_store.embedder_id, v_store.store, cardinality(v_index_ms), measure_index.k, v_hits::double precision / nullif(v_asked, 0),
      (select percentile_cont(0.5) within group (order by i.ms) from unnest(v_index_ms) as i (ms)),
      (select percentile_cont(0.5) within group (order by i.ms) from unnest(v_exact_ms) as i (ms))
    on conflict on constraint _index_measurements_pkey do update
    set measured_at = excluded.measured_at, queries = excluded.queries, k = excluded.k, recall = excluded.recall,
      index_ms = excluded.index_ms, exact_ms = excluded.exact_ms;
  end loop;
end
$$;

comment on function flywheel.measure_index(integer, integer) is
  'Measures the recall of every index on queries sampled from it, against exact scans; flywheel.index_health shows the result.';

create or replace function flywheel._part_counts(part flywheel._vector_segments, out live bigint, out dead bigint, out bytes bigint)
returns record
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(t.n_live_tup, 0), coalesce(t.n_dead_tup, 0), pg_total_relation_size(to_regclass(flywheel._part_table(part)))
  from (select) as o
  left join pg_stat_all_tables as t on t.relid = to_regclass(flywheel._part_table(part));
$$;

comment on function flywheel._part_counts(flywheel._vector_segments) is 'What the statistics say of a part.';

create or replace view flywheel.index_health as
select
  e.name as embedder,
  e.state,
  s.store,
  s.parts,
  s.vectors,
  s.tail,
  s.dead::double precision / nullif(s.vectors + s.dead, 0) as dead_fraction,
  s.bytes,
  case when s.store = 'log' then w.waiting else 0 end + j.pending as waiting,
  flywheel.now() - least(case when s.store = 'log' then w.since end, j.since) as lag,
  m.recall,
  m.k as recall_at,
  m.queries,
  m.index_ms,
  m.exact_ms,
  m.measured_at
from (
  select p.embedder_id, p.store, count(*) as parts, sum(c.live)::bigint as vectors,
    (sum(c.live) filter (where p.state <> 'indexed'))::bigint as tail, sum(c.dead)::bigint as dead, sum(c.bytes)::bigint as bytes
  from flywheel._vector_segments as p, lateral flywheel._part_counts(p) as c
  where flywheel._is_searched(p)
  group by p.embedder_id, p.store
) as s
join flywheel._embedders as e on e.embedder_id = s.embedder_id
cross join lateral (
  select coalesce(sum(cardinality(a.trace_ids)), 0)::bigint as waiting, min(a.arrived_at) as since
  from flywheel._arrivals as a
) as w
cross join lateral (
  select count(*) as pending, min(b.run_at) as since
  from flywheel._embedding_jobs as b
  where b.embedder_id = s.embedder_id and b.store = s.store and b.state = 'pending'
) as j
left join flywheel._index_measurements as m on m.embedder_id = s.embedder_id and m.store = s.store;

comment on view flywheel.index_health is
  'Each index of vectors: how large, how far behind, and how much of an exact scan''s answer it gives.';
comment on column flywheel.index_health.embedder is 'The embedder.';
comment on column flywheel.index_health.state is 'active, building or ready.';
comment on column flywheel.index_health.store is 'log (traces), examples (for judges) or corrections (for applications).';
comment on column flywheel.index_health.parts is 'Parts it consists of: each query looks into all.';
comment on column flywheel.index_health.vectors is 'Vectors, as the statistics count them.';
comment on column flywheel.index_health.tail is 'Those of them that have no HNSW index yet and are searched exactly.';
comment on column flywheel.index_health.dead_fraction is 'Share of removed vectors that VACUUM has not cleared away.';
comment on column flywheel.index_health.bytes is 'Size on disk with all indexes.';
comment on column flywheel.index_health.waiting is 'Texts that have no vector yet.';
comment on column flywheel.index_health.lag is 'How long the oldest of them has waited; null if none does.';
comment on column flywheel.index_health.recall is 'Share of the exact nearest neighbours that the index found when flywheel.measure_index() last looked.';
comment on column flywheel.index_health.recall_at is 'How many neighbours were asked for.';
comment on column flywheel.index_health.queries is 'How many queries were sampled.';
comment on column flywheel.index_health.index_ms is 'Milliseconds of a query, median.';
comment on column flywheel.index_health.exact_ms is 'Milliseconds of an exact scan, median.';
comment on column flywheel.index_health.measured_at is 'When that was measured.';

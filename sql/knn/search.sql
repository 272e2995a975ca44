-- How near texts are to what their validator compares with: one query for a batch of texts.

-- Bound to pgvector's operator, wherever it is, and inlined, so that an index is used.
create or replace function flywheel._vector_distance(a vector, b vector)
returns double precision
language sql
immutable
parallel safe
begin atomic
  select a <#> b;
end;

comment on function flywheel._vector_distance(vector, vector) is 'Minus the cosine of two vectors of length 1.';

-- With leave_out, equal texts are not compared: how near a reference is to the others.
create or replace function flywheel._nearest_references(validator_id integer, k integer, texts text[], leave_out boolean default false)
returns table (place bigint, similarity double precision, reference_id bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
set max_parallel_workers_per_gather = 0
set hnsw.ef_search = 100
set plan_cache_mode = force_generic_plan
as $$
declare
  v_query constant text := $query$
    select q.place, n.similarity, n.reference_id
    from unnest(flywheel._hash_vectors($1)) with ordinality as q (embedding, place)
    cross join lateral (
      select 0 - avg(r.distance) as similarity, (array_agg(r.reference_id order by r.distance, r.reference_id))[1] as reference_id
      from (
        select r.reference_id, flywheel._vector_distance(r.embedding, q.embedding) as distance
        from flywheel._references as r
        where r.validator_id = %s and q.embedding is not null
          and (not $3 or r.text_hash <> flywheel._text_hash($1[q.place]))
        order by flywheel._vector_distance(r.embedding, q.embedding)
        limit $2
      ) as r
    ) as n
    where n.similarity is not null$query$;
begin
  -- A plan that is kept knows no validator, and so none of their indexes.
  if to_regclass(flywheel._references_index(validator_id)) is not null then
    return query execute format(v_query, validator_id) using texts, k, leave_out;
    return;
  end if;
  return query
    select q.place, n.similarity, n.reference_id
    from unnest(flywheel._hash_vectors(texts)) with ordinality as q (embedding, place)
    cross join lateral (
      select 0 - avg(r.distance) as similarity, (array_agg(r.reference_id order by r.distance, r.reference_id))[1] as reference_id
      from (
        select r.reference_id, flywheel._vector_distance(r.embedding, q.embedding) as distance
        from flywheel._references as r
        where r.validator_id = _nearest_references.validator_id and q.embedding is not null
          and (not leave_out or r.text_hash <> flywheel._text_hash(texts[q.place]))
        order by flywheel._vector_distance(r.embedding, q.embedding)
        limit k
      ) as r
    ) as n
    where n.similarity is not null;
end
$$;

comment on function flywheel._nearest_references(integer, integer, text[], boolean) is
  'For each text the mean similarity of the k nearest reference texts of a validator, and which is nearest.';

-- Recent inputs are those of the log of traces, which follows within moments. The row itself may be in it.
create or replace function flywheel._nearest_recent(
  k integer, since timestamptz, texts text[], pipelines text[], trace_ids uuid[]
)
returns table (place bigint, similarity double precision, trace_id uuid)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
as $$
declare
  v_embedder_id integer;
begin
  select e.embedder_id into v_embedder_id from flywheel._embedders_of('log') as e where e.provider = 'hash';
  if v_embedder_id is null then
    return;
  end if;
  return query execute format(
    $query$
    with enough as (
      -- A few inputs are no picture of what is usual.
      select p.pipeline
      from (select distinct pipeline from unnest($4) as a (pipeline)) as p
      where (select count(*) from (select from %1$s as v where v.scope = p.pipeline and v.at >= $2 limit $6) as c) >= $6
    )
    select q.place, n.similarity, n.item_id
    from rows from (unnest(flywheel._hash_vectors($3)), unnest($4), unnest($5)) with ordinality as q (embedding, pipeline, trace_id, place)
    join enough as g on g.pipeline = q.pipeline
    cross join lateral (
      select avg(s.similarity) as similarity, (array_agg(s.item_id order by s.similarity desc))[1] as item_id
      from (
        select n.item_id, n.similarity
        from flywheel._nearest_%2$s_log(q.embedding, $1 + 2, q.pipeline, $2) as n
        where n.item_id <> q.trace_id
        order by n.similarity desc
        limit $1
      ) as s
    ) as n
    where q.embedding is not null and n.similarity is not null$query$,
    flywheel._store_table(v_embedder_id, 'log'), v_embedder_id
  ) using k, since, texts, pipelines, trace_ids, 30;
end
$$;

comment on function flywheel._nearest_recent(integer, timestamptz, text[], text[], uuid[]) is
  'For each text the mean similarity of the k nearest inputs of its pipeline since then, and which trace is nearest. Nothing for a pipeline with fewer than 30.';

-- The search of a store, written for each whenever its parts change, so that its plan is kept: planning
-- it anew takes as long as running it.

-- Each part is searched by itself, and what they bring is merged: HNSW where a part has it, exactly where
-- it is being written to. The planner cannot know k, and would rather take the index on scope and compare
-- all of a scope: IS TRUE keeps it from that.
--
-- k: how many; scope and since narrow the search; both may be null. What is rare in a large store is
-- found by its scope and compared exactly: HNSW would pass thousands of others on its way. With each, k
-- of every part: parts are in the order of time, so that is k of every age.
create or replace function flywheel._compile_store(embedder flywheel._embedders, store text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name constant text := format('%s_%s', embedder.embedder_id, store);
  v_schema constant text := flywheel._vector_schema();
  v_type constant text := split_part(flywheel._vector_type(embedder), '(', 1);
  v_parts text;
begin
  -- Loads pgvector: a setting that is not known yet could be named by a superuser alone.
  perform flywheel._dimensions_of('[1]');
  select string_agg(format(
    $part$(
          select v.item_id, v.revision, v.at, v.embedding operator(%1$s.<#>) v_query as distance
          from %2$s as v
          where (v.at >= v_since and (v_scope is null or v.scope = v_scope)) is true
          order by v.embedding operator(%1$s.<#>) v_query
          limit v_k
        )$part$,
    v_schema, flywheel._part_table(s)
  ), E'\n        union all ' order by s.first_segment)
  into v_parts
  from flywheel._vector_segments as s
  where s.embedder_id = embedder.embedder_id and s.store = _compile_store.store and flywheel._is_searched(s);

  execute format(
    $function$
    create or replace function flywheel._nearest_%1$s(
      query %3$s.vector, k integer, scope text, since timestamptz, each boolean default false
    )
    returns table (item_id uuid, revision integer, at timestamptz, similarity double precision)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
    set hnsw.ef_search = 100
    set hnsw.iterative_scan = relaxed_order
    set hnsw.max_scan_tuples = 40000
    as $body$
    #variable_conflict use_column
    declare
      v_query constant %4$s := query;
      v_k constant integer := k;
      v_scope constant text := scope;
      v_since constant timestamptz := coalesce(since, '-infinity');
      v_few constant integer := 1000;
    begin
      if v_scope is not null and not exists (
        select from (select from %2$s as v where v.scope = v_scope and v.at >= v_since offset v_few limit 1) as c
      ) then
        return query
          with few as materialized (
            select v.item_id, v.revision, v.at, v.embedding operator(%3$s.<#>) v_query as distance
            from %2$s as v
            where v.scope = v_scope and v.at >= v_since
          )
          select f.item_id, f.revision, f.at, -f.distance
          from few as f
          order by f.distance
          limit case when not each then v_k end;
        return;
      end if;
      return query
        select n.item_id, n.revision, n.at, -n.distance
        from (
        %5$s
        ) as n
        order by n.distance
        limit case when not each then v_k end;
    end
    $body$
    $function$,
    v_name, flywheel._store_table(embedder.embedder_id, store), v_schema, v_type, v_parts
  );
  execute format(
    'comment on function flywheel._nearest_%s(%s.vector, integer, text, timestamptz, boolean) is %L', v_name, v_schema,
    'The items of a store whose vectors are nearest to a vector of length 1; with each, of every part of it.'
  );
  execute format(
    $function$
    create or replace function flywheel._recent_%1$s(query %3$s.vector, k integer, scope text)
    returns table (item_id uuid, revision integer, at timestamptz, similarity double precision)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_sort = off
    set jit = off
    as $body$
    #variable_conflict use_column
    declare
      v_query constant %4$s := query;
    begin
      if scope is null then
        return query
          select n.item_id, n.revision, n.at, -(n.embedding operator(%3$s.<#>) v_query)
          from (
            select v.item_id, v.revision, v.at, v.embedding
            from %2$s as v
            order by v.at desc
            limit k
          ) as n;
        return;
      end if;
      return query
        select n.item_id, n.revision, n.at, -(n.embedding operator(%3$s.<#>) v_query)
        from (
          select v.item_id, v.revision, v.at, v.embedding
          from %2$s as v
          where v.scope = _recent_%1$s.scope
          order by v.at desc
          limit k
        ) as n;
    end
    $body$
    $function$,
    v_name, flywheel._store_table(embedder.embedder_id, store), v_schema, v_type
  );
  execute format(
    'comment on function flywheel._recent_%s(%s.vector, integer, text) is %L', v_name, v_schema,
    'The newest items of a store, or of a scope of it, newest first, and how similar each is to a vector of length 1.'
  );
  execute format(
    $function$
    create or replace function flywheel._vectors_of_%1$s(item_ids uuid[])
    returns table (item_id uuid, revision integer, embedding flywheel._vector)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- Never all of a part, which the statistics may still believe to be empty.
    set enable_hashjoin = off
    set enable_mergejoin = off
    as $body$
    #variable_conflict use_column
    begin
      return query
        select v.item_id, v.revision, v.embedding::%3$s.vector::flywheel._vector
        from unnest(item_ids) as i (item_id)
        join %2$s as v on v.item_id = i.item_id;
    end
    $body$
    $function$,
    v_name, flywheel._store_table(embedder.embedder_id, store), v_schema
  );
  execute format(
    'comment on function flywheel._vectors_of_%s(uuid[]) is %L', v_name, 'The vectors of these items of a store.'
  );
end
$$;

comment on function flywheel._compile_store(flywheel._embedders, text) is 'Writes the functions that search a store.';

create or replace function flywheel._nearest(
  embedder_id integer, store text, query flywheel._vector, k integer, scope text default null, since timestamptz default null,
  each boolean default false
)
returns table (item_id uuid, revision integer, at timestamptz, similarity double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return query execute format('select * from flywheel._nearest_%s_%s($1, $2, $3, $4, $5)', embedder_id, store)
  using query, k, scope, since, each;
end
$$;

comment on function flywheel._nearest(integer, text, flywheel._vector, integer, text, timestamptz, boolean) is
  'The k items of a store that are nearest to a vector of length 1: of one scope, and not older than since, if given; with each, k of every part of the store.';

create or replace function flywheel._recent(embedder_id integer, store text, query flywheel._vector, k integer, scope text)
returns table (item_id uuid, revision integer, at timestamptz, similarity double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return query execute format('select * from flywheel._recent_%s_%s($1, $2, $3)', embedder_id, store)
  using query, k, scope;
end
$$;

comment on function flywheel._recent(integer, text, flywheel._vector, integer, text) is
  'The k newest items of a store, or of a scope of it, newest first, and how similar each is to a vector of length 1.';

create or replace function flywheel._vectors_of(embedder_id integer, store text, item_ids uuid[])
returns table (item_id uuid, revision integer, embedding flywheel._vector)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return query execute format('select * from flywheel._vectors_of_%s_%s($1)', embedder_id, store) using item_ids;
end
$$;

comment on function flywheel._vectors_of(integer, text, uuid[]) is 'The vectors of these items of a store.';

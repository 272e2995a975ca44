-- The search of a store, written for each, so that its plan is kept: planning it anew takes as long as
-- running it.

-- k: how many; scope and since narrow the search; both may be null. What is rare in a large store is
-- found by its scope and compared exactly: HNSW would pass thousands of others on its way.
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
begin
  -- Loads pgvector: a setting that is not known yet could be named by a superuser alone.
  perform flywheel._dimensions_of('[1]');
  execute format(
    $function$
    create or replace function flywheel._nearest_%1$s(query %3$s.vector, k integer, scope text, since timestamptz)
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
      v_since constant timestamptz := coalesce(_nearest_%1$s.since, '-infinity');
      v_few constant integer := 5000;
    begin
      if _nearest_%1$s.scope is null then
        return query
          select n.item_id, n.revision, n.at, -n.distance
          from (
            select v.item_id, v.revision, v.at, v.embedding operator(%3$s.<#>) v_query as distance
            from %2$s as v
            where v.at >= v_since
            order by v.embedding operator(%3$s.<#>) v_query
            limit _nearest_%1$s.k
          ) as n;
      elsif (
        select count(*)
        from (select from %2$s as v where v.scope = _nearest_%1$s.scope and v.at >= v_since limit v_few + 1) as c
      ) > v_few then
        return query
          select n.item_id, n.revision, n.at, -n.distance
          from (
            select v.item_id, v.revision, v.at, v.embedding operator(%3$s.<#>) v_query as distance
            from %2$s as v
            where v.scope = _nearest_%1$s.scope and v.at >= v_since
            order by v.embedding operator(%3$s.<#>) v_query
            limit _nearest_%1$s.k
          ) as n;
      else
        return query
          with few as materialized (
            select v.item_id, v.revision, v.at, v.embedding operator(%3$s.<#>) v_query as distance
            from %2$s as v
            where v.scope = _nearest_%1$s.scope and v.at >= v_since
          )
          select f.item_id, f.revision, f.at, -f.distance
          from few as f
          order by f.distance
          limit _nearest_%1$s.k;
      end if;
    end
    $body$
    $function$,
    v_name, flywheel._store_table(embedder.embedder_id, store), v_schema,
    replace(flywheel._vector_type(embedder), format('(%s)', embedder.dimensions), '')
  );
  execute format(
    'comment on function flywheel._nearest_%s(%s.vector, integer, text, timestamptz) is %L', v_name, v_schema,
    'The items of a store whose vectors are nearest to a vector of length 1; about in that order.'
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
  embedder_id integer, store text, query flywheel._vector, k integer, scope text default null, since timestamptz default null
)
returns table (item_id uuid, revision integer, at timestamptz, similarity double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return query execute format('select * from flywheel._nearest_%s_%s($1, $2, $3, $4)', embedder_id, store)
  using query, k, scope, since;
end
$$;

comment on function flywheel._nearest(integer, text, flywheel._vector, integer, text, timestamptz) is
  'The k items of a store that are nearest to a vector of length 1: of one scope, and not older than since, if given. About in that order.';

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

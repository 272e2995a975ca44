-- From a full segment to an HNSW index, and from small parts to large ones: index_vectors(). What comes
-- before is in arrivals.sql.

create or replace function flywheel._segment_rows(store text)
returns integer
language sql
immutable
parallel safe
begin atomic
  -- What an exact search of the open segment may cost: 10 milliseconds, 3 for examples.
  select case store when 'log' then 16384 else 4096 end;
end;

comment on function flywheel._segment_rows(text) is 'Vectors after which the open segment of a store is closed and indexed.';

create or replace function flywheel._close_segment(embedder_id integer, store text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_open flywheel._vector_segments;
  v_rows bigint;
begin
  select s.* into strict v_open
  from flywheel._vector_segments as s
  where s.embedder_id = _close_segment.embedder_id and s.store = _close_segment.store and s.state = 'open';
  execute format(
    'select count(*) from (select from %s limit %s) as n', flywheel._part_table(v_open), flywheel._segment_rows(store)
  ) into v_rows;
  -- The other of the two background functions may be at it.
  if v_rows < flywheel._segment_rows(store) or not pg_try_advisory_xact_lock(hashtextextended('flywheel._close_segment', 0)) then
    return;
  end if;
  execute format('select count(*) from %s', flywheel._part_table(v_open)) into v_rows;
  -- What is written from now on goes to the next; a writer that has read the old number goes on there.
  update flywheel._vector_segments as s set state = 'closed', rows = v_rows where s.part = v_open.part and s.state = 'open';
  if found then
    perform flywheel._attach_part(
      flywheel._make_part(embedder_id, store, v_open.last_segment + 1, v_open.last_segment + 1, 'open')
    );
    perform flywheel._compile_store(e, _close_segment.store)
    from flywheel._embedders as e
    where e.embedder_id = _close_segment.embedder_id;
  end if;
end
$$;

comment on function flywheel._close_segment(integer, text) is 'Closes the open segment of a store if it is full, and opens the next.';

create or replace function flywheel._index_part(segment flywheel._vector_segments)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set maintenance_work_mem = '1GB'
as $$
begin
  execute format(
    'create index on %s using hnsw (embedding %s.%s_ip_ops) with (m = 16, ef_construction = 64)',
    flywheel._part_table(segment), flywheel._vector_schema(),
    (select case when e.is_half then 'halfvec' else 'vector' end from flywheel._embedders as e where e.embedder_id = segment.embedder_id)
  );
  update flywheel._vector_segments as s
  set state = 'indexed', indexed_at = clock_timestamp()
  where s.part = segment.part;
end
$$;

comment on function flywheel._index_part(flywheel._vector_segments) is
  'Builds the HNSW index of a part in one go. Readers search it exactly meanwhile.';

-- Into a table of its own, which takes the place of the parts in a later transaction: _swap_part().
create or replace function flywheel._merge_parts(parts flywheel._vector_segments[])
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_first constant flywheel._vector_segments := parts[1];
  v_last constant flywheel._vector_segments := parts[cardinality(parts)];
  v_merged flywheel._vector_segments;
begin
  v_merged := flywheel._make_part(v_first.embedder_id, v_first.store, v_first.first_segment, v_last.last_segment, 'closed');
  execute format(
    'insert into %s select * from %s where segment between %s and %s',
    flywheel._part_table(v_merged), flywheel._store_table(v_first.embedder_id, v_first.store),
    v_merged.first_segment, v_merged.last_segment
  );
  get diagnostics v_merged.rows = row_count;
  perform flywheel._index_part(v_merged);
  update flywheel._vector_segments as s
  set state = 'merged', rows = v_merged.rows, merged_by = pg_current_xact_id()
  where s.part = v_merged.part;
  return v_merged.rows;
end
$$;

comment on function flywheel._merge_parts(flywheel._vector_segments[]) is
  'Makes one indexed part of several that are next to each other, to take their place when everybody can see its rows. Returns how many.';

-- To a statement that began before the merge was committed the new part is empty, but the functions that
-- it looks up are the new ones. So the part waits until no such statement, or transaction that keeps its
-- snapshot, is left.
create or replace function flywheel._is_seen_by_all(writer xid8)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  -- What the transaction has read of it before may be older than the commit.
  perform pg_stat_clear_snapshot();
  return not exists (
    select from pg_stat_activity as a
    where a.datname = current_database() and age(a.backend_xmin) >= age(writer::xid)
  );
end
$$;

comment on function flywheel._is_seen_by_all(xid8) is
  'Whether every snapshot in use in this database sees what this transaction has committed. May say no for as long as a transaction runs that has begun to write before it.';

create or replace function flywheel._swap_part(merged flywheel._vector_segments)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '200ms'
as $$
declare
  v_parent constant text := flywheel._store_table(merged.embedder_id, merged.store);
  v_part flywheel._vector_segments;
begin
  -- Until the end of the transaction, who reads the whole store waits. A search that has begun, or whose
  -- function is the old one, goes on with the old parts: they are dropped later.
  for v_try in 1..50 loop
    begin
      for v_part in
        select s.*
        from flywheel._vector_segments as s
        where s.embedder_id = merged.embedder_id and s.store = merged.store and s.state = 'indexed'
          and s.first_segment between merged.first_segment and merged.last_segment
        order by s.first_segment
      loop
        execute format('alter table %s detach partition %s', v_parent, flywheel._part_table(v_part));
        update flywheel._vector_segments as s
        set state = 'replaced', replaced_at = clock_timestamp()
        where s.part = v_part.part;
      end loop;
      perform flywheel._attach_part(merged);
      update flywheel._vector_segments as s set state = 'indexed' where s.part = merged.part;
      perform flywheel._compile_store(e, merged.store) from flywheel._embedders as e where e.embedder_id = merged.embedder_id;
      return true;
    exception when lock_not_available then
      perform pg_sleep(0.1 * random());
    end;
  end loop;
  return false;  -- somebody has been reading for long: another time
end
$$;

comment on function flywheel._swap_part(flywheel._vector_segments) is
  'Lets a merged part take the place of those it was made of; false if readers did not let it in.';

create or replace function flywheel._drop_replaced_parts()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '200ms'
as $$
declare
  v_part flywheel._vector_segments;
begin
  for v_part in
    select s.*
    from flywheel._vector_segments as s
    where s.state = 'replaced' and s.replaced_at < clock_timestamp() - interval '1 minute'
  loop
    execute format('drop table %s', flywheel._part_table(v_part));
    delete from flywheel._vector_segments as s where s.part = v_part.part;
  end loop;
exception when lock_not_available then
  null;  -- somebody is still reading
end
$$;

comment on function flywheel._drop_replaced_parts() is 'Drops the parts that others have taken the place of, a minute ago or more.';

-- Eight neighbours of about one size make the next size, so a vector is indexed once for each power of
-- eight; with nothing else to do, four. A part of which much is gone is written anew.
create or replace function flywheel._parts_to_merge(is_idle boolean)
returns flywheel._vector_segments[]
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  with indexed as (
    select s, s.embedder_id, s.store, s.first_segment,
      floor(log(8, greatest(s.rows, 1)::numeric / flywheel._segment_rows(s.store) + 0.01) + 0.5) as size,
      coalesce(t.n_dead_tup > 0.3 * greatest(s.rows, 1000), false) as is_worn
    from flywheel._vector_segments as s
    left join pg_stat_all_tables as t
      on t.relid = to_regclass(flywheel._part_table(s))
    where s.state = 'indexed'
  ),
  -- Neighbours of one size have the same run.
  runs as (
    select i.*,
      row_number() over (partition by i.embedder_id, i.store order by i.first_segment)
      - row_number() over (partition by i.embedder_id, i.store, i.size order by i.first_segment) as run
    from indexed as i
  ),
  groups as (
    select r.embedder_id, r.store, r.size, r.run, array_agg(r.s order by r.first_segment) as parts, count(*) as n
    from runs as r
    group by r.embedder_id, r.store, r.size, r.run
  ),
  candidates as (
    select g.parts[:case when g.n < 8 then 4 else 8 end] as parts, g.size, 0 as turn
    from groups as g
    where g.n >= case when is_idle and g.size < 1 then 4 else 8 end
    union all
    select array[r.s], r.size, 1
    from runs as r
    where is_idle and r.is_worn
  )
  select c.parts
  from candidates as c
  order by c.turn, c.size
  limit 1;
$$;

comment on function flywheel._parts_to_merge(boolean) is 'Parts of a store that are next to each other and should become one; null if there are none.';

create or replace function flywheel._remove_stale_vectors(most integer)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_stale record;
  v_table text;
  v_count bigint;
  v_removed bigint := 0;
begin
  for v_stale in
    with taken as (
      delete from flywheel._stale_vectors as v
      where v.ctid = any (array(select w.ctid from flywheel._stale_vectors as w limit most))
      returning v.store, v.item_id, v.revision
    )
    select t.store, array_agg(t.item_id) as item_ids, array_agg(t.revision) as revisions
    from taken as t
    group by t.store
  loop
    for v_table in
      select t from flywheel._embedders_of(v_stale.store) as e, flywheel._tables_of_store(e.embedder_id, v_stale.store) as t
    loop
      execute format(
        $delete$
        delete from %s as v
        using rows from (unnest($1), unnest($2)) as k (item_id, revision)
        where v.item_id = k.item_id and (k.revision is null or v.revision < k.revision)$delete$,
        v_table
      ) using v_stale.item_ids, v_stale.revisions;
      get diagnostics v_count = row_count;
      v_removed := v_removed + v_count;
    end loop;
  end loop;
  return v_removed;
end
$$;

comment on function flywheel._remove_stale_vectors(integer) is 'Removes vectors whose trace or example is gone or has changed; returns how many.';

create or replace function flywheel.index_vectors(
  max_seconds double precision default 2, out indexed bigint, out is_more boolean
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_end constant timestamptz := clock_timestamp() + make_interval(secs => max_seconds);
  v_segment flywheel._vector_segments;
  v_merged flywheel._vector_segments;
  v_store record;
  v_parts flywheel._vector_segments[];
begin
  indexed := 0;
  is_more := false;
  if not pg_try_advisory_xact_lock(hashtextextended('flywheel.index_vectors', 0)) then
    return;
  end if;
  perform flywheel._drop_replaced_parts();
  is_more := flywheel._drop_retired_stores();
  -- At most one: the next merge begins when it is in its place.
  select s.* into v_merged from flywheel._vector_segments as s where s.state = 'merged';
  if v_merged.part is not null and flywheel._is_seen_by_all(v_merged.merged_by) and flywheel._swap_part(v_merged) then
    v_merged := null;
    is_more := true;
  end if;
  for v_store in
    select s.embedder_id, s.store from flywheel._vector_segments as s where s.state = 'open' order by s.part
  loop
    perform flywheel._close_segment(v_store.embedder_id, v_store.store);
  end loop;
  loop
    select s.* into v_segment from flywheel._vector_segments as s where s.state = 'closed' order by s.part limit 1;
    exit when not found;
    perform flywheel._index_part(v_segment);
    indexed := indexed + v_segment.rows;
    is_more := true;
    exit when clock_timestamp() >= v_end;
  end loop;
  if v_merged.part is null and clock_timestamp() < v_end then
    v_parts := flywheel._parts_to_merge(not is_more and not exists (select from flywheel._arrivals));
    if v_parts is not null then
      indexed := indexed + flywheel._merge_parts(v_parts);
      is_more := true;
    end if;
  end if;
  -- While nobody is embedding: who is may be about to write a vector of a trace that is deleted right now,
  -- and its note would be gone. Last, because until the end nobody can begin.
  if pg_try_advisory_xact_lock(hashtextextended('flywheel.embed_texts', 0)) then
    is_more := flywheel._remove_stale_vectors(20000) > 0 or is_more;
  end if;
end
$$;

comment on function flywheel.index_vectors(double precision) is
  'Builds the HNSW indexes that are due, for about so many seconds and at least one: of segments that are full, then of small ones merged into larger. Removes the vectors of what is gone. One session does it at a time; in another it returns at once. Returns how many vectors were indexed, and whether there is more to do.';

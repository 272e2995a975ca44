-- How the stores keep up, in the background and in sets.
--
--   INSERT, UPDATE, DELETE of traces --> _arrivals        (compiled triggers; while the log has a policy)
--   label(), withdraw_label(), ...   --> _examples        (examples.sql)
--   embed_texts()    _arrivals, backfill --hash--> open segment, found at once
--                                        --else--> _embedding_jobs --worker--> open segment
--   index_vectors()  open segment, when full --> closed --HNSW--> indexed; small ones merged when idle;
--                    _stale_vectors removed
--
-- Each of the two runs in one session at a time: an advisory lock says whose turn it is. Vectors are only
-- removed by index_vectors(), so nobody ever waits for an index that is being built.

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

-- What an application is asked says what a case is about; the answer, where there is no question.
create or replace function flywheel._text_to_embed(input text, output text)
returns text
language sql
immutable
parallel safe
begin atomic
  select case when input ~ '\S' then input when output ~ '\S' then output end;
end;

comment on function flywheel._text_to_embed(text, text) is 'The text of a trace or example that is embedded: the input, or the output where there is none; null if both are blank.';

create or replace function flywheel._is_in_log(trace_id uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case p.policy
    when 'all' then true
    when 'sample' then flywheel._is_sampled(_is_in_log.trace_id, p.sample_rate)
      or exists (select from flywheel._label_splits as s where s.trace_id = _is_in_log.trace_id)
    else exists (select from flywheel._label_splits as s where s.trace_id = _is_in_log.trace_id)
  end
  from flywheel._index_policy as p;
$$;

comment on function flywheel._is_in_log(uuid) is 'Whether the index policy gives a trace a vector in the log.';

-- Embeds where the embedder is in the database, and enqueues where it is not.
create or replace function flywheel._embed_traces(embedder flywheel._embedders, trace_ids uuid[], priority integer)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_trace_ids uuid[];
  v_revisions integer[];
  v_pipelines text[];
  v_ats timestamptz[];
  v_texts text[];
begin
  execute format(
    $query$
    select array_agg(t.trace_id), array_agg(t.revision), array_agg(t.pipeline), array_agg(t.received_at), array_agg(t.text)
    from (
      select t.trace_id, t.revision, t.pipeline, t.received_at, flywheel._text_to_embed(t.input, t.output) as text
      from unnest($1) as i (trace_id)
      join flywheel.traces as t on t.trace_id = i.trace_id
      where flywheel._is_in_log(t.trace_id)
        and not exists (select from %s as v where v.item_id = t.trace_id and v.revision = t.revision)
    ) as t
    where t.text is not null$query$,
    flywheel._store_table(embedder.embedder_id, 'log')
  ) into v_trace_ids, v_revisions, v_pipelines, v_ats, v_texts using trace_ids;
  if v_trace_ids is null then
    return 0;
  elsif embedder.provider = 'hash' then
    return flywheel._add_vectors(
      embedder, 'log', v_trace_ids, v_revisions, v_pipelines, v_ats, flywheel._hash_vectors(v_texts)
    );
  end if;
  perform flywheel._enqueue_embeddings(embedder.embedder_id, 'log', v_trace_ids, priority);
  return 0;
end
$$;

comment on function flywheel._embed_traces(flywheel._embedders, uuid[], integer) is
  'Gives traces that lack it their vector of the present revision; enqueues them if the embedder is not in the database. Returns how many got one.';

create or replace function flywheel._enqueue_embeddings(embedder_id integer, store text, item_ids uuid[], priority integer)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  insert into flywheel._embedding_jobs as j (embedder_id, store, item_id, priority, run_at)
  select _enqueue_embeddings.embedder_id, _enqueue_embeddings.store, i.item_id, _enqueue_embeddings.priority, flywheel.now()
  from unnest(item_ids) as i (item_id)
  order by i.item_id
  -- One that is at work, or dead, has a newer text now; a backfill has nothing to add.
  on conflict on constraint _embedding_jobs_pkey do update
  set priority = excluded.priority, run_at = excluded.run_at, attempts = 0,
    state = 'pending', token = null, leased_until = null, last_error = null
  where excluded.priority = 0;
$$;

comment on function flywheel._enqueue_embeddings(integer, text, uuid[], integer) is
  'Has a worker embed these items.';

-- Vectors of traces that are gone or have a newer revision, to be removed by index_vectors().
create or replace function flywheel._note_stale(trace_ids uuid[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  insert into flywheel._stale_vectors (store, item_id, revision)
  select 'log', i.trace_id, t.revision
  from unnest(trace_ids) as i (trace_id)
  left join flywheel.traces as t on t.trace_id = i.trace_id
  where t.revision is null or t.revision > 1;
end
$$;

comment on function flywheel._note_stale(uuid[]) is 'Notes which of these traces may have vectors that nobody needs any more.';

create or replace function flywheel._take_arrivals(most integer)
returns uuid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_trace_ids uuid[];
begin
  with next as (
    select a.place
    from (
      select a.ctid as place, sum(cardinality(a.trace_ids)) over (rows unbounded preceding) as running,
        row_number() over () as n
      from (select ctid, trace_ids from flywheel._arrivals limit most) as a
    ) as a
    where a.running <= most or a.n = 1
  ),
  taken as (
    delete from flywheel._arrivals as a
    where a.ctid = any (array(select n.place from next as n))
    returning a.trace_ids
  )
  select array_agg(distinct i.trace_id) into v_trace_ids
  from taken as t, unnest(t.trace_ids) as i (trace_id);
  return v_trace_ids;
end
$$;

comment on function flywheel._take_arrivals(integer) is 'Takes about so many arrived traces out of the queue, or null if none waits.';

-- The traces that were there before the embedder, in the order of their ids, a batch at a time.
create or replace function flywheel._continue_backfill(embedder flywheel._embedders, most integer)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_trace_ids uuid[];
begin
  if embedder.provider <> 'hash'
    and (select count(*) from (select from flywheel._embedding_jobs as j where j.embedder_id = embedder.embedder_id and j.state = 'pending' limit 10000) as j) = 10000 then
    return 0;
  end if;
  v_trace_ids := array(
    select t.trace_id
    from flywheel.traces as t
    where t.trace_id > embedder.backfilled_to
    order by t.trace_id
    limit most
  );
  if v_trace_ids <> '{}' then
    perform flywheel._embed_traces(embedder, v_trace_ids, 1);
    update flywheel._embedders as e
    set backfilled_to = v_trace_ids[cardinality(v_trace_ids)]
    where e.embedder_id = embedder.embedder_id;
  else
    update flywheel._embedders as e set backfilled_to = null where e.embedder_id = embedder.embedder_id;
  end if;
  return cardinality(v_trace_ids);
end
$$;

comment on function flywheel._continue_backfill(flywheel._embedders, integer) is
  'Embeds or enqueues the next traces that were there before the embedder. Returns how many were looked at.';

create or replace function flywheel.embed_texts(
  max_seconds double precision default 2, out embedded bigint, out is_more boolean
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
  v_batch constant integer := 5000;
  v_trace_ids uuid[];
  v_embedder flywheel._embedders;
  v_looked bigint;
begin
  embedded := 0;
  is_more := false;
  if not pg_try_advisory_xact_lock(hashtextextended('flywheel.embed_texts', 0)) then
    return;
  end if;
  perform flywheel._note_disagreements(v_batch);
  loop
    v_looked := 0;
    v_trace_ids := flywheel._take_arrivals(v_batch);
    if v_trace_ids is not null then
      perform flywheel._note_stale(v_trace_ids);
    end if;
    for v_embedder in select e.* from flywheel._embedders_of('log') as e loop
      if v_trace_ids is not null then
        embedded := embedded + flywheel._embed_traces(v_embedder, v_trace_ids, 0);
        v_looked := v_looked + cardinality(v_trace_ids);
      end if;
      if v_embedder.backfilled_to is not null then
        v_looked := v_looked + flywheel._continue_backfill(v_embedder, v_batch);
      end if;
      perform flywheel._close_segment(v_embedder.embedder_id, 'log');
    end loop;
    is_more := v_looked > 0;
    exit when not is_more or clock_timestamp() >= v_end;
  end loop;
  if not is_more and flywheel._cut_over() then
    is_more := true;
  end if;
end
$$;

comment on function flywheel.embed_texts(double precision) is
  'Brings the vectors of the log up to date for about so many seconds: embeds what has arrived, or enqueues it for a worker if the embedder is not in the database, and goes on with the index of a new embedder. One session does it at a time; in another it returns at once. Returns how many vectors were written, and whether there is more to do.';

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

-- Into a table of its own, which takes the place of the parts when its index is ready. Nobody else
-- removes vectors, so nothing is removed from under the copy.
create or replace function flywheel._merge_parts(parts flywheel._vector_segments[])
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '200ms'
as $$
declare
  v_first constant flywheel._vector_segments := parts[1];
  v_last constant flywheel._vector_segments := parts[cardinality(parts)];
  v_parent constant text := flywheel._store_table(v_first.embedder_id, v_first.store);
  v_merged flywheel._vector_segments;
  v_part flywheel._vector_segments;
begin
  v_merged := flywheel._make_part(v_first.embedder_id, v_first.store, v_first.first_segment, v_last.last_segment, 'closed');
  execute format(
    'insert into %s select * from %s where segment between %s and %s',
    flywheel._part_table(v_merged), v_parent, v_merged.first_segment, v_merged.last_segment
  );
  get diagnostics v_merged.rows = row_count;
  update flywheel._vector_segments as s set rows = v_merged.rows where s.part = v_merged.part;
  perform flywheel._index_part(v_merged);
  -- Only now, and until the end of the transaction, who reads the whole store waits. A search that has
  -- begun, or whose function is the old one, goes on with the old parts: they are dropped later.
  for v_try in 1..50 loop
    begin
      foreach v_part in array parts loop
        execute format('alter table %s detach partition %s', v_parent, flywheel._part_table(v_part));
        update flywheel._vector_segments as s
        set state = 'replaced', replaced_at = clock_timestamp()
        where s.part = v_part.part;
      end loop;
      perform flywheel._attach_part(v_merged);
      perform flywheel._compile_store(e, v_first.store) from flywheel._embedders as e where e.embedder_id = v_first.embedder_id;
      return v_merged.rows;
    exception when lock_not_available then
      perform pg_sleep(0.1 * random());
    end;
  end loop;
  -- Somebody has been reading for long: another time.
  execute format('drop table %s', flywheel._part_table(v_merged));
  delete from flywheel._vector_segments as s where s.part = v_merged.part;
  return 0;
end
$$;

comment on function flywheel._merge_parts(flywheel._vector_segments[]) is
  'Makes one indexed part of several that are next to each other. Returns its rows; 0 if readers did not let it in.';

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
  v_embedder flywheel._embedders;
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
    for v_embedder in select e.* from flywheel._embedders_of(v_stale.store) as e loop
      execute format(
        $delete$
        delete from %s as v
        using rows from (unnest($1), unnest($2)) as k (item_id, revision)
        where v.item_id = k.item_id and (k.revision is null or v.revision < k.revision)$delete$,
        flywheel._store_table(v_embedder.embedder_id, v_stale.store)
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
  if clock_timestamp() < v_end then
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

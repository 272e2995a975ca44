-- How the stores keep up, in the background and in sets: embed_texts() here, index_vectors() in parts.sql.
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

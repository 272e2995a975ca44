-- The queue of texts whose vectors a worker gets: of embedders that are not in the database.
--
--   claim_embeddings()     a batch of texts of one embedder, committed before the call
--   complete_embeddings()  its vectors (job_results.sql), or fail_embeddings() (job_failures.sql)
--
-- A batch is an object that says which texts it has and proves, by the token in it, that they are
-- still the worker's. Locks are taken in the order traces and examples, jobs, states of embedders,
-- usage, states of models; rows that somebody else holds are passed over, so that nobody waits for
-- another one while it holds something.

-- One text may be why a batch fails. The more often it was claimed, the fewer others share its fate.
create or replace function flywheel._batch_size(attempts integer, max_texts integer)
returns integer
language sql
immutable
parallel safe
begin atomic
  select case attempts when 0 then max_texts when 1 then greatest(max_texts / 8, 1) else 1 end;
end;

comment on function flywheel._batch_size(integer, integer) is 'How many texts that were claimed so often go into one batch.';

create or replace function flywheel._most_embedding_attempts()
returns integer
language sql
immutable
parallel safe
begin atomic
  select 8;
end;

comment on function flywheel._most_embedding_attempts() is 'After so many attempts that count, a text is given up.';

-- What is to be embedded of an item as it is now; no row if nothing is.
create or replace function flywheel._embedding_sources(embedder flywheel._embedders, store text, item_ids uuid[])
returns table (item_id uuid, revision integer, text text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with known as materialized (
      select v.item_id, v.revision from flywheel._vectors_of(embedder.embedder_id, store, item_ids) as v
    )
    select s.item_id, s.revision, array_to_string(flywheel._shortened(s.text, embedder.max_chars), ' ')
    from (
      select t.trace_id as item_id, t.revision, flywheel._text_to_embed(t.input, t.output) as text
      from unnest(item_ids) as i (item_id)
      join flywheel.traces as t on t.trace_id = i.item_id
      where store = 'log' and flywheel._is_in_log(t.trace_id)
      union all
      select x.example_id, 1, flywheel._text_to_embed(x.input, x.output)
      from unnest(item_ids) as i (item_id)
      join flywheel._examples as x on x.example_id = i.item_id
      where store = flywheel._example_store(x.kind)
    ) as s
    where s.text is not null
      and not exists (select from known as k where k.item_id = s.item_id and k.revision = s.revision);
end
$$;

comment on function flywheel._embedding_sources(flywheel._embedders, text, uuid[]) is
  'The texts of those items of a store that lack the vector of their present revision.';

-- Due texts of one embedder that were claimed about as often, the oldest first.
create or replace function flywheel._due_texts(
  embedder_id integer, priority integer, attempts integer, max_texts integer, at timestamptz
)
returns tid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
begin
  return array(
    select j.ctid
    from flywheel._embedding_jobs as j
    where j.embedder_id = _due_texts.embedder_id and j.state = 'pending' and j.priority = _due_texts.priority
      and j.run_at <= at and (j.leased_until is null or j.leased_until <= at)
      and least(j.attempts, 2) = _due_texts.attempts
    order by j.run_at
    limit flywheel._batch_size(_due_texts.attempts, max_texts)
    for update skip locked
  );
end
$$;

comment on function flywheel._due_texts(integer, integer, integer, integer, timestamptz) is
  'Locks texts of an embedder that are next and that nobody holds, and returns their places.';

-- What needs no vector any more is taken out of the queue. Of very long texts fewer are taken: a request
-- has its limits, and so has the memory of whoever sends it.
create or replace function flywheel._lease_texts(
  embedder flywheel._embedders, places tid[], worker text, token bigint, at timestamptz, lease interval,
  out items jsonb, out texts text[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_most_chars constant integer := 300000;
begin
  -- Each of its workers ended without a word: nobody else should try.
  update flywheel._embedding_jobs as j
  set state = 'dead', token = null, leased_until = null,
    last_error = left(format(
      'the worker %s did not come back, the last of %s attempts%s', j.worker, j.attempts, coalesce('; before that: ' || j.last_error, '')
    ), 1000)
  where j.ctid = any (places) and j.attempts >= flywheel._most_embedding_attempts();

  with wanted as (
    select j.ctid as place, j.store, j.item_id
    from flywheel._embedding_jobs as j
    where j.ctid = any (places) and j.state = 'pending'
  ),
  found as (
    select w.place, s.item_id, w.store, s.revision, s.text, row_number() over k as n,
      sum(length(s.text)) over k as chars
    from (select g.store, array_agg(g.item_id) as item_ids from wanted as g group by g.store) as g
    cross join lateral flywheel._embedding_sources(embedder, g.store, g.item_ids) as s
    join wanted as w on w.store = g.store and w.item_id = s.item_id
    window k as (order by w.store, s.item_id rows unbounded preceding)
  ),
  gone as (
    delete from flywheel._embedding_jobs as j
    using wanted as w
    where j.ctid = w.place and not exists (select from found as f where f.place = w.place)
  ),
  leased as (
    update flywheel._embedding_jobs as j
    set attempts = j.attempts + 1, token = _lease_texts.token, leased_until = at + lease, worker = _lease_texts.worker
    from found as f
    where j.ctid = f.place and (f.n = 1 or f.chars <= v_most_chars)
  )
  select jsonb_agg(jsonb_build_array(f.store, f.item_id, f.revision) order by f.n), array_agg(f.text order by f.n)
  into items, texts
  from found as f
  where f.n = 1 or f.chars <= v_most_chars;
end
$$;

comment on function flywheel._lease_texts(flywheel._embedders, tid[], text, bigint, timestamptz, interval) is
  'Claims locked texts for a worker and reads them; what has used up its attempts dies instead.';

-- One batch, if the embedder may be asked now.
create or replace function flywheel._claim_texts(
  embedder flywheel._embedders, priority integer, max_texts integer, worker text, token bigint, at timestamptz, lease interval,
  out batch jsonb, out texts text[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_is_paused constant boolean := exists (
    select from flywheel._embedder_states as s where s.embedder_id = embedder.embedder_id and s.paused_until is not null
  );
  v_model_id constant integer := (
    select m.model_id from flywheel._models as m where embedder.provider = 'openai' and m.name = embedder.model
  );
  -- Now and then the other way round, so that what has failed before does not wait for ever.
  v_order constant integer[] := case when random() < 0.75 then array[0, 1, 2] else array[2, 1, 0] end;
  v_taken record;
  v_attempts integer;
  v_places tid[];
  v_leased record;
begin
  -- When a pause is over, one batch finds out.
  if v_is_paused then
    perform from flywheel._embedder_states as s
    where s.embedder_id = embedder.embedder_id and s.paused_until <= at
    for update skip locked;
    if not found then
      return;
    end if;
  end if;
  select null::integer as granted, null::integer as tokens_each, false as is_noted into v_taken;
  if v_model_id is not null then
    v_taken := flywheel._take_requests(v_model_id, 1, 1, 25, at);
    if v_taken.granted = 0 then
      return;
    end if;
  end if;
  <<lanes>>
  foreach v_attempts in array v_order loop
    -- Again where nothing that was found needs a vector any more.
    for v_round in 1..10 loop
      v_places := flywheel._due_texts(embedder.embedder_id, priority, v_attempts, max_texts, at);
      exit when v_places = '{}';
      v_leased := flywheel._lease_texts(embedder, v_places, worker, token, at, lease);
      exit lanes when v_leased.items is not null;
    end loop;
  end loop;
  if v_leased.items is not null then
    texts := v_leased.texts;
    batch := jsonb_strip_nulls(jsonb_build_object(
      'embedder', embedder.embedder_id, 'token', token, 'reserved_tokens', v_taken.tokens_each, 'items', v_leased.items
    ));
    if v_is_paused then
      update flywheel._embedder_states as s
      set paused_until = at + lease, probe_token = token
      where s.embedder_id = embedder.embedder_id;
    end if;
  elsif v_taken.is_noted then
    perform flywheel._return_requests(v_model_id, 1, v_taken.tokens_each, true, at);
  end if;
end
$$;

comment on function flywheel._claim_texts(flywheel._embedders, integer, integer, text, bigint, timestamptz, interval) is
  'Claims a batch of texts of one embedder, within its pause and the limits of its model.';

create or replace function flywheel.claim_embeddings(
  worker text,
  providers text[] default '{openai,local}',
  max_texts integer default 64,
  lease interval default '2 minutes',
  models text[] default null
)
returns table (
  embedder text,
  provider text,
  model text,
  dimensions integer,
  batch jsonb,
  texts text[],
  request jsonb
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := flywheel.now();
  v_token constant bigint := nextval('flywheel._token_seq');
  v_embedder flywheel._embedders;
  v_claimed record;
begin
  if coalesce(btrim(worker), '') = '' then
    raise exception 'the worker has no name' using errcode = 'LF002', hint = 'Give a name that says where it runs.';
  end if;
  if providers is null or array_position(providers, null) is not null then
    raise exception 'providers is %', coalesce(providers::text, 'null')
      using errcode = 'LF002', hint = 'Give any of openai and local.';
  end if;
  if max_texts is null or not max_texts between 1 and 2048 then
    raise exception 'max_texts is %', coalesce(max_texts::text, 'null')
      using errcode = 'LF002', hint = 'Give a number from 1 to 2048.';
  end if;
  if lease is null or not lease between interval '1 second' and interval '1 day' then
    raise exception 'the lease is %', coalesce(lease::text, 'null')
      using errcode = 'LF002', hint = 'Give an interval from 1 second to 1 day.';
  end if;

  -- Before the jobs, as a TRUNCATE of the traces takes its locks.
  lock table flywheel.traces in access share mode;
  for v_priority in 0..1 loop
    for v_embedder in
      select e.*
      from flywheel._embedders as e
      left join flywheel._embedder_states as s on s.embedder_id = e.embedder_id
      left join flywheel._models as m on e.provider = 'openai' and m.name = e.model
      where e.state in ('active', 'building') and e.provider <> 'hash' and e.provider = any (providers)
        and (e.provider <> 'openai' or m.model_id is not null and (models is null or m.name = any (models)))
        and (s.paused_until is null or s.paused_until <= v_now)
        and (
          select true
          from flywheel._embedding_jobs as j
          where j.embedder_id = e.embedder_id and j.state = 'pending' and j.priority = v_priority and j.run_at <= v_now
            and (j.leased_until is null or j.leased_until <= v_now)
          limit 1
        )
      order by random()
    loop
      v_claimed := flywheel._claim_texts(v_embedder, v_priority, max_texts, worker, v_token, v_now, lease);
      if v_claimed.batch is not null then
        return query
          select v_embedder.name, v_embedder.provider, v_embedder.model, v_embedder.dimensions, v_claimed.batch, v_claimed.texts,
            (
              select m.parameters || jsonb_build_object('model', m.model)
              from flywheel._models as m
              where v_embedder.provider = 'openai' and m.name = v_embedder.model
            );
        return;
      end if;
    end loop;
  end loop;
end
$$;

comment on function flywheel.claim_embeddings(text, text[], integer, interval, text[]) is
  'Gives a worker a batch of up to max_texts texts of one embedder, until the lease ends: of these providers and, for openai, of these models (null: of any). One row, or none if there is nothing to do now. The attempt is counted; commit before working. request is the body of the call without its input, for openai. Hand batch on to flywheel.complete_embeddings() as it is. Rate limits, budgets, breakers and pauses have been seen to.';

create or replace function flywheel.extend_embeddings(worker text, batch jsonb, lease interval default '2 minutes')
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_batch constant flywheel._text_batch := flywheel._read_batch(batch);
begin
  if lease is null or not lease between interval '1 second' and interval '1 day' then
    raise exception 'the lease is %', coalesce(lease::text, 'null')
      using errcode = 'LF002', hint = 'Give an interval from 1 second to 1 day.';
  end if;
  update flywheel._embedding_jobs as j
  set leased_until = flywheel.now() + lease
  where j.ctid = any (array(select h.place from flywheel._hold_texts(v_batch) as h));
  return exists (
    select
    from rows from (unnest(v_batch.stores), unnest(v_batch.item_ids)) as i (store, item_id)
    join flywheel._embedding_jobs as j
      on j.embedder_id = v_batch.embedder_id and j.store = i.store and j.item_id = i.item_id and j.token = v_batch.token
  );
end
$$;

comment on function flywheel.extend_embeddings(text, jsonb, interval) is
  'A worker''s sign of life: the lease of this batch ends that much later. False if none of it is the worker''s any more.';

create or replace function flywheel.release_embeddings(worker text, batch jsonb)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_batch constant flywheel._text_batch := flywheel._read_batch(batch);
  v_released bigint;
begin
  update flywheel._embedding_jobs as j
  set token = null, leased_until = null, attempts = j.attempts - 1
  where j.ctid = any (array(select h.place from flywheel._hold_texts(v_batch) as h));
  get diagnostics v_released = row_count;
  perform flywheel._give_up_embedder_probe(v_batch, flywheel.now());
  return v_released;
end
$$;

comment on function flywheel.release_embeddings(text, jsonb) is
  'Gives back a batch that was not finished for a reason of the worker''s; the attempt does not count. Returns how many texts were given back.';

create or replace function flywheel.retry_embeddings(embedder text default null)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_embedder_id constant integer := case
    when embedder is not null then (flywheel._find_embedder(embedder)).embedder_id
  end;
  v_retried bigint;
begin
  update flywheel._embedding_jobs as j
  set state = 'pending', attempts = 0, run_at = flywheel.now(), last_error = null
  where j.state = 'dead' and (v_embedder_id is null or j.embedder_id = v_embedder_id);
  get diagnostics v_retried = row_count;
  update flywheel._embedder_states as s
  set paused_until = flywheel.now()
  where s.paused_until is not null and (v_embedder_id is null or s.embedder_id = v_embedder_id);
  return v_retried;
end
$$;

comment on function flywheel.retry_embeddings(text) is
  'Has the texts of an embedder (null: of all) that were given up tried again, and ends its pause now. Returns how many texts.';

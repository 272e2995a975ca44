-- What workers bring back: complete_embeddings().

create or replace function flywheel._read_batch(batch jsonb)
returns flywheel._text_batch
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_batch flywheel._text_batch;
begin
  begin
    v_batch.embedder_id := (batch ->> 'embedder')::integer;
    v_batch.token := (batch ->> 'token')::bigint;
    v_batch.reserved_tokens := (batch ->> 'reserved_tokens')::integer;
    select array_agg((i.item ->> 0) order by i.n), array_agg((i.item ->> 1)::uuid order by i.n),
      array_agg((i.item ->> 2)::integer order by i.n)
    into v_batch.stores, v_batch.item_ids, v_batch.revisions
    from jsonb_array_elements(batch -> 'items') with ordinality as i (item, n);
  exception when data_exception then
    v_batch.token := null;
  end;
  if v_batch.embedder_id is null or v_batch.token is null or v_batch.item_ids is null then
    raise exception 'the batch cannot be read'
      using errcode = 'LF002', detail = left(batch::text, 500), hint = 'Hand it on as flywheel.claim_embeddings() returned it.';
  end if;
  return v_batch;
end
$$;

comment on function flywheel._read_batch(jsonb) is 'A batch as a worker hands it back; LF002 if it is none.';

-- Those that somebody else holds have just been enqueued again, or are claimed by another one.
create or replace function flywheel._hold_texts(batch flywheel._text_batch)
returns table (n integer, place tid, attempts integer)
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set jit = off
as $$
  select i.n::integer, j.ctid, j.attempts::integer
  from rows from (unnest(batch.stores), unnest(batch.item_ids)) with ordinality as i (store, item_id, n)
  join flywheel._embedding_jobs as j
    on j.embedder_id = batch.embedder_id and j.store = i.store and j.item_id = i.item_id and j.token = batch.token
  for update of j skip locked;
$$;

comment on function flywheel._hold_texts(flywheel._text_batch) is
  'Locks the jobs of a batch that are still the worker''s: their numbers in the batch, places and attempts.';

-- Locked until the vector is committed: whoever changes or deletes the trace comes later, and what it
-- notes as stale is then seen to.
create or replace function flywheel._hold_sources(batch flywheel._text_batch)
returns table (n integer, scope text, at timestamptz)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    select i.n::integer, t.pipeline, t.received_at
    from rows from (unnest(batch.stores), unnest(batch.item_ids), unnest(batch.revisions)) with ordinality
      as i (store, item_id, revision, n)
    join flywheel.traces as t on t.trace_id = i.item_id and t.revision = i.revision
    where i.store = 'log'
    for share of t skip locked;
  return query
    select i.n::integer, flywheel._example_scope(x.kind, x.validator_id, x.pipeline), x.created_at
    from rows from (unnest(batch.stores), unnest(batch.item_ids)) with ordinality as i (store, item_id, n)
    join flywheel._examples as x on x.example_id = i.item_id
    where i.store = flywheel._example_store(x.kind)
    for share of x skip locked;
end
$$;

comment on function flywheel._hold_sources(flywheel._text_batch) is
  'Locks the traces and examples of a batch that are as they were when it was claimed.';

create or replace function flywheel._read_embedding(text text, out embedding flywheel._vector, out problem text)
returns record
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  embedding := text::flywheel._vector;
  if embedding is null then
    problem := 'there is none';
  elsif flywheel._inner_product(embedding, embedding) = 0 then
    problem := 'it is zero';
    embedding := null;
  end if;
exception when data_exception or program_limit_exceeded then
  problem := sqlerrm;
end
$$;

comment on function flywheel._read_embedding(text) is 'A vector as a worker sends it, or what is wrong with it.';

-- At once, or one after the other to find those that cannot be read.
create or replace function flywheel._read_embeddings(texts text[], out embeddings flywheel._vector[], out problems text[])
returns record
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_are_well boolean;
begin
  begin
    select array_agg(v.embedding order by v.n), bool_and(flywheel._inner_product(v.embedding, v.embedding) > 0) and count(v.embedding) = count(*)
    into embeddings, v_are_well
    from (
      select t.text::flywheel._vector as embedding, t.n from unnest(texts) with ordinality as t (text, n) offset 0
    ) as v;
  exception when data_exception or program_limit_exceeded then
    v_are_well := false;
  end;
  if v_are_well then
    problems := array_fill(null::text, array[cardinality(texts)]);
    return;
  end if;
  select array_agg(r.embedding order by t.n), array_agg(r.problem order by t.n)
  into embeddings, problems
  from unnest(texts) with ordinality as t (text, n), lateral flywheel._read_embedding(t.text) as r;
end
$$;

comment on function flywheel._read_embeddings(text[]) is 'Vectors as a worker sends them, or what is wrong with each.';

create or replace function flywheel._note_usage(model_id integer, run jsonb, at timestamptz)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  insert into flywheel._usage as d (model_id, day, slot, requests, input_tokens, cached_tokens, output_tokens, cost_usd)
  select _note_usage.model_id, (at at time zone 'UTC')::date, pg_backend_pid() % 16,
    n.requests, n.input_tokens, n.cached_tokens, n.output_tokens,
    coalesce(flywheel._cost_usd(_note_usage.model_id, at, n.input_tokens, n.cached_tokens, n.output_tokens), 0)
  from flywheel._run_numbers(run) as n
  where _note_usage.model_id is not null and run is not null
  on conflict on constraint _usage_pkey do update
  set requests = d.requests + excluded.requests,
    input_tokens = d.input_tokens + excluded.input_tokens,
    cached_tokens = d.cached_tokens + excluded.cached_tokens,
    output_tokens = d.output_tokens + excluded.output_tokens,
    cost_usd = d.cost_usd + excluded.cost_usd;
$$;

comment on function flywheel._note_usage(integer, jsonb, timestamptz) is
  'Adds what a worker says of its requests to the day of the model.';

create or replace function flywheel._check_run(run jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_problem constant text := flywheel._run_problem(run);
begin
  if v_problem is not null then
    raise exception 'what the worker says of its requests cannot be recorded: %', v_problem
      using errcode = 'LF002', hint = 'Leave run out, or give an object with requests and input_tokens.';
  end if;
end
$$;

comment on function flywheel._check_run(jsonb) is 'Refuses an account of requests that makes no sense.';

create or replace function flywheel.complete_embeddings(
  worker text, batch jsonb, vectors text[], run jsonb default null,
  out recorded bigint, out dropped bigint, out problem text
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_batch constant flywheel._text_batch := flywheel._read_batch(batch);
  v_count constant integer := cardinality(v_batch.item_ids);
  v_read record;
  v_embedder flywheel._embedders;
  v_model_id integer;
  v_wrong integer;
  v_sources record;
  v_held record;
  v_stored record;
begin
  perform flywheel._check_run(run);
  if vectors is null or cardinality(vectors) <> v_count then
    raise exception 'there are % vectors for the % texts of the batch', coalesce(cardinality(vectors), 0), v_count
      using errcode = 'LF002', hint = 'Give one for each text, in the same order; null where there is none.';
  end if;
  recorded := 0;
  dropped := v_count;
  select e.* into v_embedder from flywheel._embedders as e where e.embedder_id = v_batch.embedder_id;
  if not found then
    return;
  end if;

  v_read := flywheel._read_embeddings(vectors);
  select flywheel._dimensions_of(r.embedding) into v_wrong
  from unnest(v_read.embeddings) as r (embedding)
  where flywheel._dimensions_of(r.embedding) <> v_embedder.dimensions
  limit 1;
  problem := case
    when v_wrong is not null then format(
      '%s returned vectors of %s dimensions, the embedder has %s', v_embedder.model, v_wrong, v_embedder.dimensions
    )
    when v_count > 1 and array_remove(v_read.embeddings, null) = '{}' then
      format('%s returned no vector that can be used: %s', v_embedder.model, v_read.problems[1])
  end;
  if problem is not null then
    perform flywheel.fail_embeddings(worker, batch, 'configuration', problem, null, run);
    return;
  end if;

  select array_agg(s.n) as numbers, array_agg(s.scope) as scopes, array_agg(s.at) as ats
  into v_sources
  from flywheel._hold_sources(v_batch) as s;
  select array_agg(h.n) as numbers, array_agg(h.place) as places into v_held from flywheel._hold_texts(v_batch) as h;
  with held as (
    select h.place, s.n, s.scope, s.at, v_read.problems[h.n] as problem
    from rows from (unnest(v_held.numbers), unnest(v_held.places)) as h (n, place)
    left join rows from (unnest(v_sources.numbers), unnest(v_sources.scopes), unnest(v_sources.ats)) as s (n, scope, at) on s.n = h.n
  ),
  -- Their traces are gone, have changed, or are being changed: looked at again.
  unsure as (
    update flywheel._embedding_jobs as j
    set token = null, leased_until = null, attempts = j.attempts - 1, run_at = v_now + interval '1 second'
    from held as h
    where j.ctid = h.place and h.n is null
  ),
  unusable as (
    update flywheel._embedding_jobs as j
    set state = 'dead', token = null, leased_until = null, last_error = left('its vector cannot be used: ' || h.problem, 1000)
    from held as h
    where j.ctid = h.place and h.n is not null and h.problem is not null
  ),
  done as (
    delete from flywheel._embedding_jobs as j
    using held as h
    where j.ctid = h.place and h.n is not null and h.problem is null
    returning h.n, h.scope, h.at
  )
  select array_agg(d.n) as numbers, array_agg(d.scope) as scopes, array_agg(d.at) as ats
  into v_stored
  from done as d;

  recorded := coalesce(flywheel._store_embeddings(v_embedder, v_batch, v_read.embeddings, v_stored.numbers, v_stored.scopes, v_stored.ats), 0);
  dropped := v_count - recorded;
  update flywheel._embedder_states as s
  set failures = 0, pauses = 0, paused_until = null, probe_token = null, last_error = null
  where s.embedder_id = v_batch.embedder_id and (s.failures > 0 or s.last_error is not null or s.paused_until is not null);
  select m.model_id into v_model_id from flywheel._models as m where v_embedder.provider = 'openai' and m.name = v_embedder.model;
  if v_model_id is not null then
    perform flywheel._note_usage(v_model_id, run, v_now);
    perform flywheel._note_models(
      array[v_model_id],
      array[v_batch.reserved_tokens - coalesce((select n.input_tokens from flywheel._run_numbers(run) as n where run is not null), v_batch.reserved_tokens)],
      array[true], v_now
    );
  end if;
end
$$;

comment on function flywheel.complete_embeddings(text, jsonb, text[], jsonb) is
  'Stores the vectors of a batch, in the order of its texts, each as pgvector writes it or as a JSON array; what is not the worker''s any more, or about a text that has changed, is dropped. A vector that cannot be used (null, zero, not a number) has its text given up. Vectors of another length than the embedder''s are an error of its configuration: it pauses, nothing is lost, and problem says so. run is what the requests used: requests, input_tokens.';

create or replace function flywheel._store_embeddings(
  embedder flywheel._embedders, batch flywheel._text_batch, embeddings flywheel._vector[], numbers integer[], scopes text[], ats timestamptz[]
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_part record;
  v_stored bigint := 0;
begin
  for v_part in
    select batch.stores[k.n] as store, array_agg(batch.item_ids[k.n]) as item_ids, array_agg(batch.revisions[k.n]) as revisions,
      array_agg(k.scope) as scopes, array_agg(k.at) as ats, array_agg(embeddings[k.n]) as embeddings
    from rows from (unnest(numbers), unnest(scopes), unnest(ats)) as k (n, scope, at)
    group by batch.stores[k.n]
    order by 1
  loop
    v_stored := v_stored + flywheel._add_vectors(
      embedder, v_part.store, v_part.item_ids, v_part.revisions, v_part.scopes, v_part.ats, v_part.embeddings
    );
  end loop;
  return v_stored;
end
$$;

comment on function flywheel._store_embeddings(
  flywheel._embedders, flywheel._text_batch, flywheel._vector[], integer[], text[], timestamptz[]
) is 'Writes those vectors of a batch that have these numbers; returns how many.';

-- What becomes of texts that could not be embedded: fail_embeddings().
--
-- Nobody can tell a text that an endpoint cannot bear from an endpoint that is down by one failure. But
-- an endpoint that has answered others since the failure before is well: only then does an attempt count.
-- So an endpoint may be down for as long as it likes, and no text dies of it; while one that fails
-- again and again where others succeed ends up alone in its batch, and then is given up.

create or replace function flywheel.fail_embeddings(
  worker text, batch jsonb, error_class text, error text, retry_after interval default null, run jsonb default null
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_batch constant flywheel._text_batch := flywheel._read_batch(batch);
  v_error constant text := left(coalesce(nullif(btrim(error), ''), 'it did not say why'), 1000);
  v_retry_after constant interval := case
    when retry_after is not null then least(greatest(retry_after, interval '1 second'), interval '1 hour')
  end;
  v_embedder flywheel._embedders;
  v_model_id integer;
  v_held record;
  v_state flywheel._embedder_states;
  v_class text := error_class;
  v_counts boolean;
  v_outcome text;
begin
  if error_class is null or error_class not in ('transient', 'permanent', 'configuration') then
    raise exception 'the error class % is unknown', coalesce(quote_literal(error_class), 'null')
      using errcode = 'LF002', hint = 'Use ''transient'' (it may go well next time), ''permanent'' (it never will with these texts) or ''configuration'' (it will once somebody mends it).';
  end if;
  perform flywheel._check_run(run);
  select e.* into v_embedder from flywheel._embedders as e where e.embedder_id = v_batch.embedder_id;
  if not found then
    return 'stale';
  end if;
  select m.model_id into v_model_id from flywheel._models as m where v_embedder.provider = 'openai' and m.name = v_embedder.model;

  select array_agg(h.place) as places, max(h.attempts) as attempts into v_held from flywheel._hold_texts(v_batch) as h;
  insert into flywheel._embedder_states (embedder_id) values (v_batch.embedder_id) on conflict do nothing;
  select s.* into v_state from flywheel._embedder_states as s where s.embedder_id = v_batch.embedder_id for update;

  -- Ten refusals and no success: it is not the texts.
  if v_class = 'permanent' and v_state.failures >= 10 then
    v_class := 'configuration';
  end if;
  v_counts := case v_class
    when 'transient' then v_retry_after is null and v_state.failures = 0
    else v_class = 'permanent'
  end;
  v_outcome := case
    when v_held.places is null then 'stale'
    when v_class = 'configuration' then 'paused'
    when v_class = 'permanent' and cardinality(v_batch.item_ids) = 1 then 'dead'
    when v_counts and v_held.attempts >= flywheel._most_embedding_attempts() then 'dead'
    else 'retry'
  end;
  update flywheel._embedding_jobs as j
  set state = case v_outcome when 'dead' then 'dead' else 'pending' end,
    token = null,
    leased_until = null,
    attempts = case when v_counts then j.attempts else j.attempts - 1 end,
    run_at = case when v_class = 'transient' then v_now + coalesce(v_retry_after, flywheel._backoff(j.attempts)) else v_now end,
    last_error = v_error
  where j.ctid = any (v_held.places);

  update flywheel._embedder_states as s
  set failures = s.failures + (v_retry_after is null)::integer, last_error = v_error
  where s.embedder_id = v_batch.embedder_id;
  if v_class = 'configuration' then
    -- What was in flight when it was paused tells nothing new; a probe that fails does.
    update flywheel._embedder_states as s
    set pauses = s.pauses + 1, probe_token = null,
      paused_until = v_now + least(interval '1 minute' * 2 ^ least(s.pauses, 10), interval '15 minutes')
    where s.embedder_id = v_batch.embedder_id and (s.paused_until is null or s.probe_token = v_batch.token);
  else
    perform flywheel._give_up_embedder_probe(v_batch, v_now);
  end if;
  if v_model_id is not null then
    perform flywheel._note_usage(v_model_id, run, v_now);
    perform flywheel._note_models(
      array[v_model_id],
      array[v_batch.reserved_tokens - coalesce((select n.input_tokens from flywheel._run_numbers(run) as n where run is not null), 0)],
      array[v_class = 'permanent'], v_now
    );
    if v_class = 'transient' then
      perform flywheel._note_model_failure(v_model_id, v_error, v_now, v_retry_after);
    end if;
  elsif v_class = 'transient' and v_state.failures >= 3 then
    -- A model in the worker has no breaker of its own.
    update flywheel._embedder_states as s
    set paused_until = v_now + least(interval '10 seconds' * 2 ^ least(v_state.failures - 3, 10), interval '10 minutes')
    where s.embedder_id = v_batch.embedder_id;
  end if;
  return v_outcome;
end
$$;

comment on function flywheel.fail_embeddings(text, jsonb, text, text, interval, jsonb) is
  'Says that a batch went wrong. transient: tried again after a while, in smaller batches and for a limited number of times if the embedder has answered meanwhile, and as often as it takes if it has not; with retry_after the model rests. permanent: tried again in smaller batches, and a text that is refused by itself is given up. configuration: the embedder pauses and is tried again by itself. Returns retry, dead, paused, or stale if the batch is not the worker''s any more.';

create or replace function flywheel._give_up_embedder_probe(batch flywheel._text_batch, at timestamptz)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  update flywheel._embedder_states as s
  set paused_until = at, probe_token = null
  where s.embedder_id = batch.embedder_id and s.probe_token = batch.token;
$$;

comment on function flywheel._give_up_embedder_probe(flywheel._text_batch, timestamptz) is
  'Leaves it to another batch to find out whether a paused embedder is well: this one did not.';

-- The queue, for workers in any language. A job is claimed and committed, done outside of any
-- transaction, and completed in another one; the token that came with the claim proves that it is
-- still the worker's to complete. In these functions a job is an object with trace_id, span_id (null
-- for a trace), version_id and token.

create or replace function flywheel.claim_jobs(
  worker text,
  kinds text[] default '{llm,python,sql}',
  max_jobs integer default 1,
  lease interval default '2 minutes',
  models text[] default null
)
returns table (
  trace_id uuid,
  span_id uuid,
  version_id integer,
  token bigint,
  attempt integer,
  kind text,
  validator text,
  version integer,
  model text,
  request jsonb,
  skipped_reason text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := flywheel.now();
  v_token constant bigint := nextval('flywheel._token_seq');
  v_left integer := max_jobs;
  v_candidates flywheel._claimable[];
  v_first integer := 1;
  v_last integer;
  v_validators integer;
  v_share integer;
  v_has_more boolean[];
  v_wanted integer;
  v_got integer;
begin
  if coalesce(btrim(worker), '') = '' then
    raise exception 'the worker has no name' using errcode = 'LF002', hint = 'Give a name that says where it runs.';
  end if;
  if kinds is null or array_position(kinds, null) is not null then
    raise exception 'kinds is %', coalesce(kinds::text, 'null') using errcode = 'LF002', hint = 'Give any of llm, python and sql.';
  end if;
  if max_jobs is null or not max_jobs between 1 and 10000 then
    raise exception 'max_jobs is %', coalesce(max_jobs::text, 'null')
      using errcode = 'LF002', hint = 'Give a number from 1 to 10000.';
  end if;
  if lease is null or not lease between interval '1 second' and interval '1 day' then
    raise exception 'the lease is %', coalesce(lease::text, 'null')
      using errcode = 'LF002', hint = 'Give an interval from 1 second to 1 day.';
  end if;

  -- Before the jobs, as a TRUNCATE of the traces takes its locks.
  lock table flywheel.traces, flywheel.spans in access share mode;

  -- Validators of one priority share what is free: first an equal part each, then what is left.
  v_candidates := array(select c from flywheel._claim_candidates(kinds, models, v_now, v_token) as c);
  while v_left > 0 and v_first <= cardinality(v_candidates) loop
    select max(c.n)::integer, count(distinct c.validator_id)::integer
    into v_last, v_validators
    from (
      select e.validator_id, e.priority, e.ordinality as n
      from unnest(v_candidates) with ordinality as e
    ) as c
    where c.n >= v_first and c.priority = v_candidates[v_first].priority;
    for v_pass in 1..2 loop
      for v_i in v_first..v_last loop
        exit when v_left = 0;
        if v_pass = 2 then
          continue when not v_has_more[v_i];
          v_wanted := v_left;
        else
          if v_i = v_first or v_candidates[v_i].validator_id <> v_candidates[v_i - 1].validator_id then
            v_share := ceil(v_left::numeric / v_validators);
            v_validators := v_validators - 1;
          end if;
          v_wanted := v_share;
          v_has_more[v_i] := v_share = 0;
          continue when v_share = 0;
        end if;
        return query
          select r.trace_id, nullif(r.span_id, flywheel._no_span()), v.version_id, v_token, r.attempt::integer,
            flywheel._job_kind(v.language), d.name, v.version, v.model, r.request, r.skipped_reason
          from flywheel._claim_version(
            v_candidates[v_i], v_wanted, case when v_left = max_jobs then 25 else 1 end, worker, v_token, v_now, lease
          ) as r
          join flywheel._validator_versions as v on v.version_id = v_candidates[v_i].version_id
          join flywheel._validators as d on d.validator_id = v.validator_id;
        get diagnostics v_got = row_count;
        v_left := v_left - v_got;
        v_share := v_share - v_got;
        v_has_more[v_i] := v_got = v_wanted;
      end loop;
    end loop;
    v_first := v_last + 1;
  end loop;
end
$$;

comment on function flywheel.claim_jobs(text, text[], integer, interval, text[]) is
  'Gives a worker up to max_jobs jobs of these kinds, and of these models (null: of any), until their lease ends. The attempt is counted; commit before working. Requests of judges are complete HTTP bodies. Rate limits, budgets, breakers, pauses, approvals and priorities have been seen to. A job with a skipped_reason needs no work: complete it as skipped.';

create or replace function flywheel.complete_jobs(
  worker text, results jsonb, out recorded bigint, out dropped bigint, out busy bigint
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_results constant flywheel._job_result[] := flywheel._read_results(results);
  v_trace_ids constant uuid[] := array(select r.trace_id from unnest(v_results) as r);
  v_span_ids constant uuid[] := array(select coalesce(r.span_id, flywheel._no_span()) from unnest(v_results) as r);
  v_targets record;
  v_held record;
  v_done record;
begin
  v_targets := flywheel._lock_targets(v_trace_ids, v_span_ids);
  v_held := flywheel._hold_jobs(
    v_trace_ids, v_span_ids,
    array(select r.version_id from unnest(v_results) as r), array(select r.token from unnest(v_results) as r), 50
  );
  busy := 0;
  if v_targets.are_busy is not null then
    v_held.places := array(
      select case when not b.is_busy then b.place end
      from rows from (unnest(v_targets.are_busy), unnest(v_held.places)) as b (is_busy, place)
    );
    select count(*) into busy from unnest(v_targets.are_busy) as b (is_busy) where b.is_busy;
  end if;

  -- What is about an older revision, or about nothing any more, is owed no verdict.
  perform flywheel._delete_jobs(v_held.places);
  with done as materialized (
    select *
    from rows from (
      unnest(v_results), unnest(v_held.places), unnest(v_held.revisions), unnest(v_held.attempts),
      unnest(v_held.reserved_tokens), unnest(v_targets.revisions), unnest(v_targets.dimension_ids)
    ) with ordinality as r (
      trace_id, span_id, version_id, token, status, score, reason, confidence, error, skipped_reason, predicted_label,
      details, duration_ms, run, place, revision, attempts, reserved_tokens, present_revision, dimension_id, position
    )
    where r.place is not null and r.present_revision = r.revision
  ),
  written as (
    insert into flywheel._verdicts (
      trace_id, span_id, dimension_id, created_at, version_id, revision, status, score, duration_ms, confidence,
      reason, error, skipped_reason, predicted_label, details
    )
    select d.trace_id, coalesce(d.span_id, flywheel._no_span()), d.dimension_id, v_now, d.version_id, d.revision,
      d.status, d.score, d.duration_ms, d.confidence, d.reason, d.error, d.skipped_reason, d.predicted_label, d.details
    from done as d
    on conflict (trace_id, span_id, version_id) do update
    set revision = excluded.revision, dimension_id = excluded.dimension_id, created_at = excluded.created_at,
      status = excluded.status, score = excluded.score, reason = excluded.reason, error = excluded.error,
      skipped_reason = excluded.skipped_reason, duration_ms = excluded.duration_ms,
      confidence = excluded.confidence, predicted_label = excluded.predicted_label, details = excluded.details
    where flywheel._verdicts.revision < excluded.revision
  )
  select array_agg(d.position::integer) as positions, array_agg(d.revision) as revisions, array_agg(d.attempts) as attempts,
    array_agg(d.version_id) as version_ids, array_agg(d.reserved_tokens) as reserved_tokens,
    array_agg(d.status) as outcomes, array_agg(d.error) as errors, array_agg(d.run) as runs, bool_or(d.run is not null) as has_runs,
    array_agg(d.status <> 'skipped') as have_answered
  into v_done
  from done as d;

  recorded := coalesce(cardinality(v_done.positions), 0);
  dropped := jsonb_array_length(results) - recorded - busy;
  if recorded > 0 then
    if v_done.has_runs then
      perform flywheel._log_runs(
        array(select v_results[p] from unnest(v_done.positions) as p),
        v_done.revisions, v_done.attempts, v_done.outcomes, v_done.errors, worker, v_now
      );
    end if;
    perform flywheel._note_health(v_done.version_ids, v_done.reserved_tokens, v_done.runs, v_done.have_answered, v_now);
  end if;
end
$$;

comment on function flywheel.complete_jobs(text, jsonb) is
  'Writes the verdicts of finished jobs, their run log and what they used, and removes the jobs, all in one transaction. What is not the worker''s any more is dropped: claimed by another one, about an older revision, about a deleted trace, or completed before. What is about a trace that somebody else has kept locked for 5 seconds is busy: still the worker''s, which may send it again. A result is a job with its status (passed, failed, error, skipped) and any of score, reason, confidence, error, skipped_reason, predicted_label, details, duration_ms and run.';

create or replace function flywheel.fail_job(
  worker text, job jsonb, error_class text, error text, retry_after interval default null, run jsonb default null
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_error constant text := left(coalesce(nullif(btrim(error), ''), 'it did not say why'), 1000);
  -- An endpoint that asks to be called again at once is given a second.
  v_retry_after constant interval := case
    when retry_after is not null then least(greatest(retry_after, interval '1 second'), interval '1 hour')
  end;
  v_problem constant text := flywheel._run_problem(run);
  v_keys record;
  v_job flywheel._jobs;
  v_version flywheel._validator_versions;
  v_model_id integer;
  v_outcome text;
begin
  if error_class is null or error_class not in ('transient', 'permanent', 'configuration') then
    raise exception 'the error class % is unknown', coalesce(quote_literal(error_class), 'null')
      using errcode = 'LF002', hint = 'Use ''transient'' (it may go well next time), ''permanent'' (it never will for this row) or ''configuration'' (it will once somebody mends it).';
  end if;
  if v_problem is not null then
    raise exception 'the failure cannot be recorded: %', v_problem
      using errcode = 'LF002', hint = 'Leave run out, or give it as flywheel.complete_jobs() takes it.';
  end if;
  v_keys := flywheel._read_jobs(jsonb_build_array(job));
  select j.* into v_job
  from flywheel._jobs as j
  where j.trace_id = v_keys.trace_ids[1] and j.span_id = v_keys.span_ids[1] and j.version_id = v_keys.version_ids[1]
    and j.token = v_keys.tokens[1]
  for update;
  if not found then
    return 'stale';
  end if;
  select v.* into v_version from flywheel._validator_versions as v where v.version_id = v_job.version_id;
  select m.model_id into v_model_id from flywheel._models as m where m.name = v_version.model and v_version.language = 'llm';

  v_outcome := case
    when error_class = 'configuration' then 'paused'
    when error_class = 'permanent' then 'dead'
    -- An endpoint that says when to come back has found nothing wrong with the job.
    when v_retry_after is null and v_job.attempts >= flywheel._max_attempts(v_version) then 'dead'
    else 'retry'
  end;
  update flywheel._jobs as j
  set state = case v_outcome when 'dead' then 'dead' else 'pending' end,
    token = null,
    leased_until = null,
    attempts = case when fail_job.error_class = 'configuration' or fail_job.error_class = 'transient' and v_retry_after is not null
      then j.attempts - 1 else j.attempts end,
    run_at = case v_outcome
      when 'retry' then v_now + coalesce(v_retry_after * (1 + random() / 10), flywheel._backoff(j.attempts))
      else j.run_at
    end,
    error_class = fail_job.error_class,
    last_error = v_error
  where j.trace_id = v_job.trace_id and j.span_id = v_job.span_id and j.version_id = v_job.version_id;

  if run is not null then
    perform flywheel._log_runs(
      array[row (v_job.trace_id, v_job.span_id, v_job.version_id, v_job.token, null, null, null, null, v_error, null, null, null, null, run)::flywheel._job_result],
      array[v_job.revision], array[v_job.attempts], array[v_outcome], array[v_error], worker, v_now
    );
  end if;
  perform flywheel._note_health(array[v_job.version_id], array[v_job.reserved_tokens], array[run], array[false], v_now);
  if error_class = 'configuration' then
    perform flywheel._note_misconfiguration(v_job.version_id, v_job.token, v_error, v_now);
  else
    perform flywheel._give_up_probe(array[v_job.version_id], array[v_job.token], v_now);
    if error_class = 'transient' and v_model_id is not null then
      perform flywheel._note_model_failure(v_model_id, v_error, v_now, v_retry_after);
    end if;
  end if;
  return v_outcome;
end
$$;

comment on function flywheel.fail_job(text, jsonb, text, text, interval, jsonb) is
  'Says that a job went wrong. transient: tried again after a while, dead after its last attempt; with retry_after the attempt does not count and the model rests. permanent: dead at once. configuration: the attempt does not count, and the validator pauses and is tried again by itself. Returns retry, dead, paused, or stale if the job is not the worker''s any more.';

create or replace function flywheel.extend_lease(worker text, jobs jsonb, lease interval default '2 minutes')
returns table (trace_id uuid, span_id uuid, version_id integer, token bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_keys record;
  v_held record;
begin
  if lease is null or not lease between interval '1 second' and interval '1 day' then
    raise exception 'the lease is %', coalesce(lease::text, 'null')
      using errcode = 'LF002', hint = 'Give an interval from 1 second to 1 day.';
  end if;
  v_keys := flywheel._read_jobs(jobs);
  v_held := flywheel._hold_jobs(v_keys.trace_ids, v_keys.span_ids, v_keys.version_ids, v_keys.tokens, 1);
  update flywheel._jobs as j set leased_until = flywheel.now() + lease where j.ctid = any (v_held.places);
  -- Those too that are just being completed.
  return query
    select j.trace_id, nullif(j.span_id, flywheel._no_span()), j.version_id, j.token
    from rows from (
      unnest(v_keys.trace_ids), unnest(v_keys.span_ids), unnest(v_keys.version_ids), unnest(v_keys.tokens)
    ) as k (trace_id, span_id, version_id, token)
    join flywheel._jobs as j
      on j.trace_id = k.trace_id and j.span_id = k.span_id and j.version_id = k.version_id and j.token = k.token;
end
$$;

comment on function flywheel.extend_lease(text, jsonb, interval) is
  'A worker''s sign of life: the leases of these jobs end that much later. Returns the jobs that are still its own; the others it should stop.';

create or replace function flywheel.release_jobs(worker text, jobs jsonb)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_keys record;
  v_held record;
  v_released record;
begin
  v_keys := flywheel._read_jobs(jobs);
  v_held := flywheel._hold_jobs(v_keys.trace_ids, v_keys.span_ids, v_keys.version_ids, v_keys.tokens, 1);
  with released as (
    update flywheel._jobs as j
    set token = null, leased_until = null, attempts = j.attempts - 1
    where j.ctid = any (v_held.places)
    returning j.version_id, j.reserved_tokens
  )
  select count(*) as n, array_agg(r.version_id) as version_ids, array_agg(r.reserved_tokens) as reserved_tokens,
    array_agg(false) as have_answered
  into v_released
  from released as r;
  if v_released.n > 0 then
    perform flywheel._give_up_probe(v_keys.version_ids, v_keys.tokens, v_now);
    perform flywheel._note_health(
      v_released.version_ids, v_released.reserved_tokens, array[]::jsonb[], v_released.have_answered, v_now
    );
  end if;
  return v_released.n;
end
$$;

comment on function flywheel.release_jobs(text, jsonb) is
  'Gives jobs back that were not begun, or not finished for a reason of the worker''s; the attempt does not count.';

-- Queued SQL: nothing leaves the database, and the verdicts are those of the trigger.
create or replace function flywheel.run_sql_jobs(
  worker text, jobs jsonb, out recorded bigint, out dropped bigint, out busy bigint
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
  v_keys record;
  v_targets record;
  v_held record;
  v_decided record;
begin
  v_keys := flywheel._read_jobs(jobs);
  if exists (
    select from flywheel._validator_versions as v where v.version_id = any (v_keys.version_ids) and v.language not in ('sql', 'knn')
  ) then
    raise exception 'a job is not of a validator in SQL or knn'
      using errcode = 'LF002', hint = 'Hand over the jobs of kind sql; the results of others go to flywheel.complete_jobs().';
  end if;
  v_targets := flywheel._lock_targets(v_keys.trace_ids, v_keys.span_ids);
  v_held := flywheel._hold_jobs(v_keys.trace_ids, v_keys.span_ids, v_keys.version_ids, v_keys.tokens, 50);
  recorded := 0;
  busy := 0;
  if v_targets.are_busy is not null then
    v_held.places := array(
      select case when not b.is_busy then b.place end
      from rows from (unnest(v_targets.are_busy), unnest(v_held.places)) as b (is_busy, place)
    );
    select count(*) into busy from unnest(v_targets.are_busy) as b (is_busy) where b.is_busy;
  end if;
  perform flywheel._delete_jobs(v_held.places);
  for v_decided in
    select v.version_id, v.subject, array_agg(k.trace_id) as trace_ids, array_agg(k.span_id) as span_ids, count(*) as n
    from rows from (
      unnest(v_keys.trace_ids), unnest(v_keys.span_ids), unnest(v_keys.version_ids), unnest(v_held.places),
      unnest(v_held.revisions), unnest(v_targets.revisions)
    ) as k (trace_id, span_id, version_id, place, revision, present_revision)
    join flywheel._validator_versions as v on v.version_id = k.version_id
    where k.place is not null and k.present_revision = k.revision
    group by v.version_id, v.subject
    order by v.version_id
  loop
    perform flywheel._validate_targets(
      v_decided.subject, array[v_decided.version_id], v_decided.trace_ids, v_decided.span_ids
    );
    perform flywheel._note_health(array[v_decided.version_id], null, null, array[true], flywheel.now());
    recorded := recorded + v_decided.n;
  end loop;
  dropped := jsonb_array_length(jobs) - recorded - busy;
end
$$;

comment on function flywheel.run_sql_jobs(text, jsonb) is
  'Decides claimed jobs of queued SQL and knn validators (kind sql) inside the database and removes them. An error leaves them all as they were. Returns what complete_jobs() does.';

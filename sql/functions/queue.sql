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
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := flywheel.now();
  v_token constant bigint := nextval('flywheel._token_seq');
  v_left integer := max_jobs;
  v_class record;
  v_candidate record;
  v_wanted integer;
  v_leased record;
  v_got integer;
begin
  if coalesce(btrim(worker), '') = '' then
    raise exception 'the worker has no name' using errcode = 'LF002', hint = 'Give a name that says where it runs.';
  end if;
  if max_jobs is null or not max_jobs between 1 and 10000 then
    raise exception 'max_jobs is %', coalesce(max_jobs::text, 'null')
      using errcode = 'LF002', hint = 'Give a number from 1 to 10000.';
  end if;
  if lease is null or not lease between interval '1 second' and interval '1 day' then
    raise exception 'the lease is %', coalesce(lease::text, 'null')
      using errcode = 'LF002', hint = 'Give an interval from 1 second to 1 day.';
  end if;

  -- Validators of one priority share what is free: first an equal part each, then what is left.
  for v_class in
    select array_agg(c order by random()) as versions, count(*)::integer as n
    from flywheel._claimable_versions(kinds, models, v_now) as c
    group by c.priority
    order by c.priority desc
  loop
    for v_pass in 1..2 loop
      for v_candidate in
        select c.*
        from unnest(v_class.versions) with ordinality
          as c (version_id, kind, model_id, priority, is_paused, max_attempts, votes, n)
      loop
        exit when v_left = 0;
        v_wanted := case
          when v_candidate.is_paused then 1
          when v_pass = 1 then ceil(v_left::numeric / (v_class.n - v_candidate.n + 1))
          else v_left
        end;
        continue when v_pass = 2 and v_candidate.is_paused;
        if v_candidate.model_id is not null then
          v_wanted := flywheel._take_requests(v_candidate.model_id, v_wanted, v_candidate.votes, v_now);
        end if;
        continue when v_wanted = 0;
        v_leased := flywheel._lease_jobs(
          v_candidate.version_id, v_wanted, v_candidate.max_attempts, worker, v_token, v_now, lease
        );
        v_got := coalesce(cardinality(v_leased.trace_ids), 0);
        v_left := v_left - v_got;
        if v_candidate.model_id is not null then
          perform flywheel._return_requests(v_candidate.model_id, (v_wanted - v_got) * v_candidate.votes, v_now);
        end if;
        continue when v_got = 0;
        if v_candidate.is_paused then
          update flywheel._pauses as p set resume_at = v_now + lease where p.version_id = v_candidate.version_id;
        end if;
        return query
          with asked as materialized (
            select r.*
            from flywheel._job_requests(
              v_candidate.version_id, v_leased.trace_ids, v_leased.span_ids, v_leased.revisions, v_leased.attempts
            ) as r
          ),
          settled as (
            delete from flywheel._jobs as j
            using asked as a
            where not a.is_owed and j.trace_id = a.trace_id and j.span_id = a.span_id
              and j.version_id = v_candidate.version_id and j.token = v_token
          )
          select a.trace_id, nullif(a.span_id, flywheel._no_span()), v.version_id, v_token, a.attempt::integer,
            v.language, d.name, v.version, v.model, a.request, a.skipped_reason
          from asked as a, flywheel._validator_versions as v
          join flywheel._validators as d on d.validator_id = v.validator_id
          where a.is_owed and v.version_id = v_candidate.version_id;
      end loop;
    end loop;
  end loop;
end
$$;

comment on function flywheel.claim_jobs(text, text[], integer, interval, text[]) is
  'Gives a worker up to max_jobs jobs of these kinds, and of these models (null: of any), until their lease ends. The attempt is counted; commit before working. Requests of judges are complete HTTP bodies. Rate limits, budgets, breakers, pauses, approvals and priorities have been seen to. A job with a skipped_reason needs no work: complete it as skipped.';

create or replace function flywheel.complete_jobs(worker text, results jsonb, out recorded bigint, out dropped bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_results flywheel._job_result[];
  v_targets record;
  v_done record;
begin
  if results is null or jsonb_typeof(results) <> 'array' then
    raise exception 'the results are not a JSON array'
      using errcode = 'LF002', hint = 'Give an array of objects with trace_id, span_id, version_id, token and status.';
  end if;
  v_results := array(
    select r from jsonb_populate_recordset(null::flywheel._job_result, results) as r
    order by r.trace_id, r.span_id, r.version_id
  );
  select r.status, r.confidence into v_done
  from unnest(v_results) as r
  where r.status is null or r.status not in ('passed', 'failed', 'error', 'skipped')
    or r.confidence is not null and not r.confidence between 0 and 1
  limit 1;
  if found then
    raise exception 'a result has the status % and the confidence %', coalesce(v_done.status, 'null'), v_done.confidence
      using errcode = 'LF002', hint = 'The status is passed, failed, error or skipped; the confidence from 0 to 1, or null.';
  end if;

  v_targets := flywheel._lock_targets(
    array(select r.trace_id from unnest(v_results) as r),
    array(select coalesce(r.span_id, flywheel._no_span()) from unnest(v_results) as r)
  );
  with done as (
    delete from flywheel._jobs as j
    using unnest(v_results) as r,
      rows from (
        unnest(v_targets.trace_ids), unnest(v_targets.span_ids), unnest(v_targets.revisions), unnest(v_targets.dimension_ids)
      ) as g (trace_id, span_id, revision, dimension_id)
    where g.trace_id = r.trace_id and g.span_id = coalesce(r.span_id, flywheel._no_span())
      and j.trace_id = g.trace_id and j.span_id = g.span_id and j.version_id = r.version_id
      and j.token = r.token and j.revision = g.revision and j.state = 'pending'
    returning r as result, j.revision, j.attempts, g.dimension_id
  ),
  written as (
    insert into flywheel._verdicts (
      trace_id, span_id, dimension_id, created_at, version_id, revision, status, score, duration_ms, confidence,
      reason, error, skipped_reason, predicted_label, details
    )
    select (d.result).trace_id, coalesce((d.result).span_id, flywheel._no_span()), d.dimension_id, v_now,
      (d.result).version_id, d.revision, (d.result).status, (d.result).score, (d.result).duration_ms,
      (d.result).confidence, (d.result).reason, (d.result).error, (d.result).skipped_reason,
      (d.result).predicted_label, (d.result).details
    from done as d
    on conflict (trace_id, span_id, version_id) do update
    set revision = excluded.revision, dimension_id = excluded.dimension_id, created_at = excluded.created_at,
      status = excluded.status, score = excluded.score, reason = excluded.reason, error = excluded.error,
      skipped_reason = excluded.skipped_reason, duration_ms = excluded.duration_ms,
      confidence = excluded.confidence, predicted_label = excluded.predicted_label, details = excluded.details
    where flywheel._verdicts.revision < excluded.revision
  )
  select count(*) as n,
    array_agg(d.result) filter (where (d.result).run is not null) as results,
    array_agg(d.revision) filter (where (d.result).run is not null) as revisions,
    array_agg(d.attempts) filter (where (d.result).run is not null) as attempts,
    array_agg((d.result).status) filter (where (d.result).run is not null) as outcomes,
    array_agg((d.result).error) filter (where (d.result).run is not null) as errors,
    array_agg(distinct (d.result).version_id) as version_ids
  into v_done
  from done as d;

  recorded := v_done.n;
  dropped := cardinality(v_results) - v_done.n;
  if v_done.results is not null then
    perform flywheel._log_runs(
      v_done.results, v_done.revisions, v_done.attempts, v_done.outcomes, v_done.errors, worker, v_now
    );
  end if;
  perform flywheel._note_health(v_done.version_ids);
end
$$;

comment on function flywheel.complete_jobs(text, jsonb) is
  'Writes the verdicts of finished jobs, their run log and what they used, and removes the jobs, all in one transaction. What is not the worker''s any more is dropped: claimed by another one, about an older revision, about a deleted trace, or completed before. A result is a job with its status (passed, failed, error, skipped) and any of score, reason, confidence, error, skipped_reason, predicted_label, details, duration_ms and run.';

create or replace function flywheel.fail_job(
  worker text, job jsonb, error_class text, error text, retry_after interval default null, run jsonb default null
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
  v_error constant text := left(coalesce(nullif(btrim(error), ''), 'it did not say why'), 1000);
  -- greatest() ignores a null.
  v_retry_after constant interval := case
    when retry_after is not null then least(greatest(retry_after, interval '1 second'), interval '1 hour')
  end;
  v_job flywheel._jobs;
  v_max_attempts integer;
  v_model_id integer;
  v_outcome text;
begin
  if error_class is null or error_class not in ('transient', 'permanent', 'configuration') then
    raise exception 'the error class % is unknown', coalesce(quote_literal(error_class), 'null')
      using errcode = 'LF002', hint = 'Use ''transient'' (it may go well next time), ''permanent'' (it never will for this row) or ''configuration'' (it will once somebody mends it).';
  end if;
  select j.* into v_job
  from flywheel._jobs as j
  join flywheel._job_keys(jsonb_build_array(job)) as k
    on k.trace_id = j.trace_id and k.span_id = j.span_id and k.version_id = j.version_id and k.token = j.token
  where j.state = 'pending'
  for update of j;
  if not found then
    return 'stale';
  end if;
  select coalesce((v.params ->> 'max_attempts')::integer, 5), m.model_id into v_max_attempts, v_model_id
  from flywheel._validator_versions as v
  left join flywheel._models as m on m.name = v.model and v.language = 'llm'
  where v.version_id = v_job.version_id;

  v_outcome := case
    when error_class = 'configuration' then 'paused'
    when error_class = 'permanent' then 'dead'
    -- An endpoint that says when to come back has found nothing wrong with the job.
    when v_retry_after is null and v_job.attempts >= v_max_attempts then 'dead'
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
  if error_class = 'configuration' then
    insert into flywheel._pauses as p (version_id, error, paused_at, resume_at)
    values (v_job.version_id, v_error, v_now, v_now + interval '1 minute')
    on conflict on constraint _pauses_pkey do update
    set error = excluded.error,
      -- Those in flight when it was paused do not put the next try off.
      pauses = p.pauses + (p.resume_at <= v_now or p.pauses > 1)::integer,
      resume_at = v_now + least(interval '1 minute' * 2 ^ least(p.pauses - 1, 10), interval '15 minutes');
  elsif error_class = 'transient' and v_model_id is not null then
    perform flywheel._note_model_failure(v_model_id, v_error, v_now, v_retry_after);
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
as $$
#variable_conflict use_column
begin
  if lease is null or not lease between interval '1 second' and interval '1 day' then
    raise exception 'the lease is %', coalesce(lease::text, 'null')
      using errcode = 'LF002', hint = 'Give an interval from 1 second to 1 day.';
  end if;
  return query
    update flywheel._jobs as j
    set leased_until = flywheel.now() + lease
    from flywheel._job_keys(jobs) as k
    where k.trace_id = j.trace_id and k.span_id = j.span_id and k.version_id = j.version_id and k.token = j.token
      and j.state = 'pending'
    returning j.trace_id, nullif(j.span_id, flywheel._no_span()), j.version_id, j.token;
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
as $$
declare
  v_count bigint;
begin
  update flywheel._jobs as j
  set token = null, leased_until = null, attempts = j.attempts - 1
  from flywheel._job_keys(jobs) as k
  where k.trace_id = j.trace_id and k.span_id = j.span_id and k.version_id = j.version_id and k.token = j.token
    and j.state = 'pending';
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function flywheel.release_jobs(text, jsonb) is
  'Gives jobs back that were not begun, or not finished for a reason of the worker''s; the attempt does not count.';

-- Queued SQL: nothing leaves the database, and the verdicts are those of the trigger.
create or replace function flywheel.run_sql_jobs(worker text, jobs jsonb, out recorded bigint, out dropped bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_keys constant jsonb := (select coalesce(jsonb_agg(to_jsonb(k)), '[]') from flywheel._job_keys(jobs) as k);
  v_held record;
  v_targets record;
  v_count bigint;
begin
  recorded := 0;
  for v_held in
    select k.version_id, v.subject, array_agg(k.trace_id) as trace_ids, array_agg(k.span_id) as span_ids, array_agg(k.token) as tokens
    from flywheel._job_keys(v_keys) as k
    join flywheel._validator_versions as v on v.version_id = k.version_id and v.language = 'sql'
    group by k.version_id, v.subject
    order by k.version_id
  loop
    v_targets := flywheel._lock_targets(v_held.trace_ids, v_held.span_ids);
    with done as (
      delete from flywheel._jobs as j
      using rows from (unnest(v_held.trace_ids), unnest(v_held.span_ids), unnest(v_held.tokens)) as k (trace_id, span_id, token),
        rows from (unnest(v_targets.trace_ids), unnest(v_targets.span_ids), unnest(v_targets.revisions)) as g (trace_id, span_id, revision)
      where j.trace_id = k.trace_id and j.span_id = k.span_id and j.version_id = v_held.version_id and j.token = k.token
        and g.trace_id = j.trace_id and g.span_id = j.span_id and g.revision = j.revision and j.state = 'pending'
      returning j.trace_id, j.span_id
    )
    select count(*), array_agg(d.trace_id), array_agg(d.span_id)
    into v_count, v_held.trace_ids, v_held.span_ids
    from done as d;
    if v_count > 0 then
      perform flywheel._validate_targets(v_held.subject, array[v_held.version_id], v_held.trace_ids, v_held.span_ids);
      recorded := recorded + v_count;
    end if;
  end loop;
  dropped := jsonb_array_length(v_keys) - recorded;
end
$$;

comment on function flywheel.run_sql_jobs(text, jsonb) is
  'Decides claimed jobs of queued SQL validators inside the database and removes them. An error leaves them all as they were.';

create or replace function flywheel.retry_dead(validator text default null, max_jobs integer default null)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_validator_id constant integer := case when validator is not null then flywheel._find_validator(validator) end;
  v_count bigint;
begin
  update flywheel._jobs as j
  set state = 'pending', attempts = 0, run_at = flywheel.now(), token = null, leased_until = null
  where j.ctid = any (array(
    select d.ctid
    from flywheel._jobs as d
    join flywheel._validator_versions as v on v.version_id = d.version_id
    where d.state = 'dead' and (v_validator_id is null or v.validator_id = v_validator_id)
    order by d.run_at
    limit max_jobs
    for update of d skip locked
  ));
  get diagnostics v_count = row_count;
  perform pg_notify('flywheel_jobs', '');
  return v_count;
end
$$;

comment on function flywheel.retry_dead(text, integer) is
  'Makes dead jobs (of one validator, or all; the oldest max_jobs, or all) pending again with all their attempts. Returns how many.';

create or replace function flywheel.prioritize_validator(name text, priority integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if priority is null or not priority between -1000 and 1000 then
    raise exception 'the priority is %', coalesce(priority::text, 'null')
      using errcode = 'LF002', hint = 'Give a number from -1000 to 1000; 0 is where every validator starts.';
  end if;
  update flywheel._validators as d
  set priority = prioritize_validator.priority
  where d.validator_id = flywheel._find_validator(prioritize_validator.name);
end
$$;

comment on function flywheel.prioritize_validator(text, integer) is
  'Has the jobs of a validator claimed before those of lower priority. Validators of the same priority share the workers evenly, whatever their backlogs.';

create or replace function flywheel.resume_validator(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_validator_id constant integer := flywheel._find_validator(name);
begin
  delete from flywheel._pauses as p
  using flywheel._validator_versions as v
  where v.version_id = p.version_id and v.validator_id = v_validator_id;
  perform pg_notify('flywheel_jobs', '');
end
$$;

comment on function flywheel.resume_validator(text) is
  'Lets a validator that was paused for a configuration error run at once, where it would be tried again by itself within 15 minutes.';

create or replace function flywheel.purge(max_rows integer default 100000)
returns table (what text, deleted bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_setting constant text := coalesce(nullif(current_setting('flywheel.run_retention', true), ''), '30 days');
  v_retention interval;
begin
  begin
    v_retention := v_setting::interval;
  exception when invalid_datetime_format or datetime_field_overflow then
    raise exception 'the setting flywheel.run_retention is %', quote_literal(v_setting)
      using errcode = 'LF002', hint = 'Give an interval: alter database ... set flywheel.run_retention = ''30 days''.';
  end;
  if v_retention < interval '0' or max_rows is null or max_rows < 1 then
    raise exception 'flywheel.run_retention is % and max_rows %', v_retention, max_rows
      using errcode = 'LF002', hint = 'Neither may be negative.';
  end if;

  -- One at a time: it upgrades its lock below.
  if not pg_try_advisory_xact_lock(hashtextextended('flywheel.purge', 0)) then
    return;
  end if;

  what := 'runs';
  delete from flywheel._runs as r
  where r.run_id = any (array(
    select o.run_id from flywheel._runs as o
    where o.created_at < v_now - v_retention
    order by o.created_at
    limit max_rows
    for update skip locked
  ));
  get diagnostics deleted = row_count;
  return next;

  what := 'prompts';
  if deleted > 0 then
    -- Who logs a run looks for its prompt under a lock that this one waits for.
    lock table flywheel._runs in share mode;
    delete from flywheel._prompts as p
    where not exists (select from flywheel._runs as r where r.prompt_id = p.prompt_id);
    get diagnostics deleted = row_count;
  end if;
  return next;

  what := 'workers';
  delete from flywheel._workers as w where w.last_seen_at < v_now - greatest(v_retention, interval '1 day');
  get diagnostics deleted = row_count;
  return next;
end
$$;

comment on function flywheel.purge(integer) is
  'Removes what is beyond its retention from the run log (the setting flywheel.run_retention, 30 days by default), at most max_rows, and forgets workers as old. Workers call it every hour. Verdicts stay.';

-- What the functions of the queue (functions/queue.sql) are made of.
--
--   _claimable_versions()  whose jobs may be claimed now
--   _lease_jobs()          claims jobs of one version: SKIP LOCKED, lease, token, attempt
--   _job_requests()        what is to be done for each: the HTTP body, the texts
--   _lock_targets()        before a verdict is written: the target as it is, locked FOR SHARE
--
-- Nothing has to reap what a dead worker held: a lease that has ended makes the job claimable.

-- Versions with pending jobs, found by skipping through the index from one to the next.
create or replace function flywheel._claimable_versions(kinds text[], models text[], at timestamptz)
returns setof flywheel._claimable
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  with recursive pending (version_id) as (
    (select j.version_id from flywheel._jobs as j where j.state = 'pending' order by j.version_id limit 1)
    union all
    select (
      select j.version_id
      from flywheel._jobs as j
      where j.state = 'pending' and j.version_id > p.version_id
      order by j.version_id
      limit 1
    )
    from pending as p
    where p.version_id is not null
  )
  select v.version_id, v.language, m.model_id, d.priority, p.version_id is not null,
    coalesce((v.params ->> 'max_attempts')::integer, 5), coalesce((v.params ->> 'votes')::integer, 1)
  from pending as q
  join flywheel._validator_versions as v on v.version_id = q.version_id
  join flywheel._validators as d on d.validator_id = v.validator_id
  left join flywheel._models as m on m.name = v.model and v.language = 'llm'
  left join flywheel._pauses as p on p.version_id = v.version_id
  where v.language = any (kinds)
    and (v.language <> 'llm' or m.model_id is not null and (models is null or m.name = any (models)))
    and (p.resume_at is null or p.resume_at <= at)
    and (v.language <> 'llm' or not flywheel._requires_approval() or flywheel._is_approved(v));
$$;

comment on function flywheel._claimable_versions(text[], text[], timestamptz) is
  'Validator versions with jobs that a worker of these kinds and models may claim.';

-- Live jobs before those of a backfill, the oldest first. The rows are found by their place: they are
-- locked, and so stay where they are.
create or replace function flywheel._lease_jobs(
  version_id integer, max_jobs integer, max_attempts integer, worker text, token bigint, at timestamptz, lease interval,
  out trace_ids uuid[], out span_ids uuid[], out revisions integer[], out attempts smallint[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_places tid[] := array[]::tid[];
begin
  for v_priority in 0..1 loop
    v_places := v_places || array(
      select j.ctid
      from flywheel._jobs as j
      where j.version_id = _lease_jobs.version_id and j.state = 'pending'
        and j.priority = v_priority and j.run_at <= at
        and (j.leased_until is null or j.leased_until <= at)
      order by j.run_at
      limit max_jobs - cardinality(v_places)
      for update skip locked
    );
    exit when cardinality(v_places) >= max_jobs;
  end loop;
  if cardinality(v_places) = 0 then
    return;
  end if;
  with taken as (
    update flywheel._jobs as j
    set attempts = j.attempts + 1,
      token = _lease_jobs.token,
      leased_until = at + lease,
      worker = _lease_jobs.worker
    where j.ctid = any (v_places) and j.attempts < max_attempts
    returning j.trace_id, j.span_id, j.revision, j.attempts
  ),
  -- Each of its workers ended without a word: nobody else should try.
  lost as (
    update flywheel._jobs as j
    set state = 'dead',
      leased_until = null,
      error_class = 'transient',
      last_error = format(
        'the worker %s did not come back, the last of %s attempts%s', j.worker, j.attempts,
        coalesce('; before that: ' || j.last_error, '')
      )
    where j.ctid = any (v_places) and j.attempts >= max_attempts
  )
  select array_agg(t.trace_id), array_agg(t.span_id), array_agg(t.revision), array_agg(t.attempts)
  into trace_ids, span_ids, revisions, attempts
  from taken as t;
end
$$;

comment on function flywheel._lease_jobs(integer, integer, integer, text, bigint, timestamptz, interval) is
  'Claims due jobs of one validator version for a worker; what has used up its attempts dies instead.';

-- Jobs whose target is gone, has moved on or has its verdict come back without a request: they are
-- owed no more.
create or replace function flywheel._job_requests(
  version_id integer, trace_ids uuid[], span_ids uuid[], revisions integer[], attempts smallint[]
)
returns table (trace_id uuid, span_id uuid, attempt smallint, is_owed boolean, request jsonb, skipped_reason text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
  v_model flywheel._models;
  v_request text;
begin
  select v.* into strict v_version
  from flywheel._validator_versions as v
  where v.version_id = _job_requests.version_id;
  if v_version.language = 'llm' then
    select m.* into v_model from flywheel._models as m where m.name = v_version.model;
  end if;
  v_request := case v_version.language
    when 'llm' then 'flywheel._judge_request($4, $5, to_jsonb(n) - ''dimension_id'')'
    when 'python' then format(
      '(select jsonb_build_object(''texts'', jsonb_build_array(%s)), null::text)',
      (
        select string_agg(p.expression, ', ' order by c.position)
        from flywheel._subject_columns(v_version.subject) with ordinality as c (name, type, position),
          lateral flywheel._python_column(c.name, c.type) as p
        where c.name = any (v_version.reads) and c.name <> 'params'
      )
    )
    else '(select null::jsonb, null::text)'
  end;
  return query execute format(
    $query$
    select k.trace_id, k.span_id, k.attempt, r.is_owed, q.request, q.skipped_reason
    from rows from (unnest($1), unnest($2), unnest($3), unnest($7)) as k (trace_id, span_id, revision, attempt)
    left join lateral (%s) as n
      on n.trace_id = k.trace_id and n.span_id = k.span_id and n.revision = k.revision
    left join lateral (
      select n.trace_id is not null and not exists (
        select from flywheel._verdicts as v
        where v.trace_id = k.trace_id and v.span_id = k.span_id and v.version_id = $6 and v.revision = k.revision
      )
    ) as r (is_owed) on true
    left join lateral %s as q (request, skipped_reason) on r.is_owed$query$,
    flywheel._subject_rows(
      v_version.subject,
      case v_version.subject when 'trace' then 'flywheel.traces' else 'flywheel.spans' end,
      case v_version.subject
        when 'trace' then 'n.trace_id = k.trace_id'
        else 'n.trace_id = k.trace_id and n.span_id = k.span_id'
      end
    ),
    v_request
  )
  using trace_ids, span_ids, revisions, v_version, v_model, version_id, attempts;
end
$$;

comment on function flywheel._job_requests(integer, uuid[], uuid[], integer[], smallint[]) is
  'What a worker has to do for claimed jobs of one validator version.';

-- The rows as they are when the lock is had: whoever changed them meanwhile has been waited for.
create or replace function flywheel._lock_targets(
  given_trace_ids uuid[], given_span_ids uuid[],
  out trace_ids uuid[], out span_ids uuid[], out revisions integer[], out dimension_ids bigint[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_traces record;
  v_spans record;
begin
  select array_agg(l.trace_id) as trace_ids, array_agg(flywheel._no_span()) as span_ids,
    array_agg(l.revision) as revisions, array_agg(l.dimension_id) as dimension_ids
  into v_traces
  from (
    select t.trace_id, t.revision,
      flywheel._dimension_id(t.pipeline, t.variant, t.environment, t.release, null, t.started_at) as dimension_id
    from flywheel.traces as t
    where t.trace_id = any (array(
      select k.trace_id
      from rows from (unnest(given_trace_ids), unnest(given_span_ids)) as k (trace_id, span_id)
      where k.span_id = flywheel._no_span()
    ))
    order by t.trace_id
    for share
  ) as l;
  select array_agg(l.trace_id) as trace_ids, array_agg(l.span_id) as span_ids,
    array_agg(l.revision) as revisions, array_agg(l.dimension_id) as dimension_ids
  into v_spans
  from (
    select s.trace_id, s.span_id, s.revision,
      flywheel._dimension_id(t.pipeline, t.variant, t.environment, t.release, s.node, s.started_at) as dimension_id
    from rows from (unnest(given_trace_ids), unnest(given_span_ids)) as k (trace_id, span_id)
    join flywheel.spans as s on s.trace_id = k.trace_id and s.span_id = k.span_id
    left join flywheel.traces as t on t.trace_id = s.trace_id
    where k.span_id <> flywheel._no_span()
    order by s.trace_id, s.span_id
    for share of s
  ) as l;
  trace_ids := v_traces.trace_ids || v_spans.trace_ids;
  span_ids := v_traces.span_ids || v_spans.span_ids;
  revisions := v_traces.revisions || v_spans.revisions;
  dimension_ids := v_traces.dimension_ids || v_spans.dimension_ids;

  perform flywheel._add_dimension(d.dimension_id, d.pipeline, d.variant, d.environment, d.release, d.node, d.started_at)
  from (
    select distinct on (k.dimension_id)
      k.dimension_id, t.pipeline, t.variant, t.environment, t.release, s.node, coalesce(s.started_at, t.started_at) as started_at
    from rows from (unnest(trace_ids), unnest(span_ids), unnest(dimension_ids)) as k (trace_id, span_id, dimension_id)
    left join flywheel.traces as t on t.trace_id = k.trace_id
    left join flywheel.spans as s on s.trace_id = k.trace_id and s.span_id = k.span_id
    where not exists (select from flywheel._dimensions as d where d.dimension_id = k.dimension_id)
  ) as d;
end
$$;

comment on function flywheel._lock_targets(uuid[], uuid[]) is
  'Locks traces and spans FOR SHARE, in the order of their keys, and gives their present revisions and dimensions.';

-- A job of a worker's, out of what the worker calls it.
create or replace function flywheel._job_keys(jobs jsonb)
returns table (trace_id uuid, span_id uuid, version_id integer, token bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if jobs is null or jsonb_typeof(jobs) <> 'array' then
    raise exception 'the jobs are not a JSON array'
      using errcode = 'LF002', hint = 'Give an array of objects with trace_id, span_id, version_id and token, as claim_jobs() returned them.';
  end if;
  return query
    select r.trace_id, coalesce(r.span_id, flywheel._no_span()), r.version_id, r.token
    from jsonb_to_recordset(jobs) as r (trace_id uuid, span_id uuid, version_id integer, token bigint)
    order by r.trace_id, r.span_id, r.version_id;
end
$$;

comment on function flywheel._job_keys(jsonb) is 'Keys and tokens of the jobs a worker names.';

create or replace function flywheel._log_runs(
  keys flywheel._job_result[], revisions integer[], attempts smallint[], outcomes text[], errors text[], worker text, at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model_ids integer[];
begin
  select array_agg(m.model_id order by k.position) into v_model_ids
  from unnest(keys) with ordinality as k (trace_id, span_id, version_id, token, status, score, reason, confidence, error, skipped_reason, predicted_label, details, duration_ms, run, position)
  left join flywheel._validator_versions as v on v.version_id = k.version_id
  left join flywheel._models as m on m.name = v.model and v.language = 'llm';
  perform flywheel._note_usage(v_model_ids, array(select k.run from unnest(keys) as k), at);

  with runs as (
    select k.*, o.revision, o.attempt, o.outcome, o.problem, o.model_id, n.requests, n.input_tokens, n.cached_tokens,
      n.output_tokens, n.latency_ms,
      case when k.run -> 'messages' -> 0 ->> 'role' = 'system' then k.run -> 'messages' -> 0 ->> 'content' end as system
    from unnest(keys) with ordinality as k (trace_id, span_id, version_id, token, status, score, reason, confidence, error, skipped_reason, predicted_label, details, duration_ms, run, position)
    join rows from (unnest(revisions), unnest(attempts), unnest(outcomes), unnest(errors), unnest(v_model_ids))
      with ordinality as o (revision, attempt, outcome, problem, model_id, position) using (position),
      lateral flywheel._run_numbers(k.run) as n
    where k.run is not null
  ),
  prompts as (
    insert into flywheel._prompts (prompt_id, content)
    select distinct hashtextextended(r.system, 0), r.system
    from runs as r
    where r.system is not null
      and not exists (select from flywheel._prompts as p where p.prompt_id = hashtextextended(r.system, 0))
    order by 1
    on conflict do nothing
  )
  insert into flywheel._runs (
    trace_id, span_id, version_id, revision, attempt, created_at, worker, outcome, error, model_id, requests,
    input_tokens, cached_tokens, output_tokens, cost_usd, latency_ms, prompt_id, messages, replies
  )
  select r.trace_id, coalesce(r.span_id, flywheel._no_span()), r.version_id, r.revision, r.attempt, at, worker, r.outcome, r.problem, r.model_id, r.requests,
    r.input_tokens, r.cached_tokens, r.output_tokens,
    flywheel._cost_usd(r.model_id, at, r.input_tokens, r.cached_tokens, r.output_tokens),
    r.latency_ms,
    hashtextextended(r.system, 0),
    case when r.system is null then r.run -> 'messages' else (r.run -> 'messages') - 0 end,
    case when jsonb_typeof(r.run -> 'replies') = 'array' then array(select jsonb_array_elements_text(r.run -> 'replies')) end
  from runs as r;
end
$$;

comment on function flywheel._log_runs(flywheel._job_result[], integer[], smallint[], text[], text[], text, timestamptz) is
  'Writes what workers say of their runs into the run log, and what they used into the day of the model.';

-- 2 seconds, doubled for each attempt up to an hour, and between half and one and a half of that.
create or replace function flywheel._backoff(attempts integer)
returns interval
language sql
volatile
parallel safe
begin atomic
  select least(interval '2 seconds' * 2 ^ least(greatest(attempts - 1, 0), 20), interval '1 hour') * (0.5 + random());
end;

comment on function flywheel._backoff(integer) is 'How long a job waits after a transient failure: exponential, with jitter.';

-- What has just answered is well: its pause is over, and its model's breaker closed.
create or replace function flywheel._note_health(version_ids integer[])
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  delete from flywheel._pauses as p where p.version_id = any (version_ids);
  select flywheel._note_model_success(array(
    select m.model_id
    from flywheel._validator_versions as v
    join flywheel._models as m on m.name = v.model and v.language = 'llm'
    where v.version_id = any (version_ids)
    order by m.model_id
  ));
$$;

comment on function flywheel._note_health(integer[]) is
  'Ends the pauses of versions whose jobs were completed, and closes the breakers of their models.';

-- What a worker must speak to work here. It is raised when an older worker would do harm.
create or replace function flywheel._queue_protocol()
returns integer
language sql
immutable
parallel safe
begin atomic
  select 1;
end;

comment on function flywheel._queue_protocol() is 'The version of the queue''s functions and requests that workers must know.';

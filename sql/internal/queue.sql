-- What is noted when a job has ended: the run log, what models have used, pauses.
--
-- The order of locks goes on after targets, jobs and verdicts: prompts, usage, pauses, models' states.

-- A prompt that was on its way while one of its examples was forgotten is not written down.
create or replace function flywheel._shows_forgotten(label_ids jsonb)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (
    select
    from jsonb_array_elements_text(case jsonb_typeof(label_ids) when 'array' then label_ids else '[]' end) as e (label_id)
    where e.label_id ~ '^[0-9]{1,18}$'
      and not exists (select from flywheel._labels as l where l.label_id = e.label_id::bigint)
  );
$$;

comment on function flywheel._shows_forgotten(jsonb) is 'Whether a label that a prompt shows as an example is gone.';

create or replace function flywheel._log_runs(
  results flywheel._job_result[], revisions integer[], attempts smallint[], outcomes text[], errors text[], worker text, at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if exists (select from unnest(results) as r where r.run ? 'examples' and flywheel._shows_forgotten(r.run -> 'examples')) then
    results := array(
      select row(
        r.trace_id, r.span_id, r.version_id, r.token, r.status, r.score, r.reason, r.confidence, r.error, r.skipped_reason,
        r.predicted_label, r.details, r.duration_ms,
        case when r.run ? 'examples' and flywheel._shows_forgotten(r.run -> 'examples') then r.run - '{messages,replies}'::text[] else r.run end
      )::flywheel._job_result
      from unnest(results) with ordinality as r
      order by r.ordinality
    );
  end if;

  -- Ours or somebody else's, and not one that a purge is removing.
  insert into flywheel._prompts as p (prompt_id, content, used_at)
  select distinct hashtextextended(s.content, 0), s.content, at
  from unnest(results) as r,
    lateral (select r.run -> 'messages' -> 0 ->> 'content') as s (content)
  where r.run -> 'messages' -> 0 ->> 'role' = 'system' and s.content is not null
    and not exists (
      select from flywheel._prompts as p
      where p.prompt_id = hashtextextended(s.content, 0) and p.used_at > at - interval '1 day'
    )
  order by 1
  on conflict on constraint _prompts_pkey do update set used_at = greatest(p.used_at, excluded.used_at);

  with written as (
    insert into flywheel._runs as l (
      trace_id, span_id, version_id, revision, attempt, created_at, worker, outcome, error, model_id, endpoint_model,
      requests, input_tokens, cached_tokens, output_tokens, cost_usd, latency_ms, prompt_id, messages, replies
    )
    select r.trace_id, coalesce(r.span_id, flywheel._no_span()), r.version_id, r.of_revision, r.attempt, at,
      _log_runs.worker, r.outcome, r.problem, m.model_id, m.model,
      n.requests, n.input_tokens, n.cached_tokens, n.output_tokens,
      flywheel._cost_usd(m.model_id, at, n.input_tokens, n.cached_tokens, n.output_tokens), n.latency_ms,
      case when s.is_system then hashtextextended(r.run -> 'messages' -> 0 ->> 'content', 0) end,
      case when s.is_system then (r.run -> 'messages') - 0 else nullif(r.run -> 'messages', 'null') end,
      case when jsonb_typeof(r.run -> 'replies') = 'array' then
        array(select left(e, 100000) from jsonb_array_elements_text(r.run -> 'replies') as e)
      end
    from rows from (unnest(results), unnest(revisions), unnest(attempts), unnest(outcomes), unnest(errors)) as r (
      trace_id, span_id, version_id, token, status, score, reason, confidence, error, skipped_reason, predicted_label,
      details, duration_ms, run, of_revision, attempt, outcome, problem
    )
    left join flywheel._validator_versions as v on v.version_id = r.version_id and v.language = 'llm'
    left join flywheel._models as m on m.name = v.model,
      lateral flywheel._run_numbers(r.run) as n,
      lateral (
        select r.run -> 'messages' -> 0 ->> 'role' = 'system' and r.run -> 'messages' -> 0 ->> 'content' is not null
      ) as s (is_system)
    where r.run is not null
    returning l.model_id, l.requests, l.input_tokens, l.cached_tokens, l.output_tokens, l.cost_usd
  )
  insert into flywheel._usage as d (model_id, day, slot, requests, input_tokens, cached_tokens, output_tokens, cost_usd)
  select w.model_id, (at at time zone 'UTC')::date, pg_backend_pid() % 16,
    sum(w.requests), sum(w.input_tokens), sum(w.cached_tokens), sum(w.output_tokens), coalesce(sum(w.cost_usd), 0)
  from written as w
  where w.model_id is not null
  group by w.model_id
  order by w.model_id
  on conflict on constraint _usage_pkey do update
  set requests = d.requests + excluded.requests,
    input_tokens = d.input_tokens + excluded.input_tokens,
    cached_tokens = d.cached_tokens + excluded.cached_tokens,
    output_tokens = d.output_tokens + excluded.output_tokens,
    cost_usd = d.cost_usd + excluded.cost_usd;
end
$$;

comment on function flywheel._log_runs(flywheel._job_result[], integer[], smallint[], text[], text[], text, timestamptz) is
  'Writes what workers say of their runs into the run log, and what they used into the day of the model.';

-- What has just answered is well: its pause is over, and its model's breaker closed. What their claims
-- took of the models' tokens and the calls did not use is given back, or the other way round.
create or replace function flywheel._note_health(
  version_ids integer[], reserved_tokens integer[], runs jsonb[], have_answered boolean[], at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_models record;
begin
  -- A claim that probes holds its pause until its worker has read it; it must not be waited for.
  if exists (select from flywheel._pauses) then
    delete from flywheel._pauses as p
    where p.ctid = any (array(
      select p.ctid
      from flywheel._pauses as p
      where p.version_id in (
        select k.version_id
        from rows from (unnest(version_ids), unnest(have_answered)) as k (version_id, has_answered)
        where k.has_answered
      )
      for update skip locked
    ));
  end if;

  select array_agg(m.model_id) as model_ids,
    array_agg(k.reserved_tokens - case
      when k.run is not null then n.input_tokens + n.output_tokens
      when k.has_answered then k.reserved_tokens
      else 0
    end) as tokens,
    array_agg(k.has_answered) as have_answered
  into v_models
  from rows from (unnest(version_ids), unnest(reserved_tokens), unnest(runs), unnest(have_answered))
      as k (version_id, reserved_tokens, run, has_answered)
  join flywheel._validator_versions as v on v.version_id = k.version_id and v.language = 'llm'
  join flywheel._models as m on m.name = v.model,
    lateral flywheel._run_numbers(k.run) as n;
  if v_models.model_ids is not null then
    perform flywheel._note_models(v_models.model_ids, v_models.tokens, v_models.have_answered, at);
  end if;
end
$$;

comment on function flywheel._note_health(integer[], integer[], jsonb[], boolean[], timestamptz) is
  'Ends the pauses of versions whose jobs have an answer, closes the breakers of their models and settles the tokens.';

-- Those in flight when a version was paused tell nothing new; a probe that fails does.
create or replace function flywheel._note_misconfiguration(version_id integer, token bigint, error text, at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  insert into flywheel._pauses (version_id, error, paused_at, resume_at)
  select _note_misconfiguration.version_id, _note_misconfiguration.error, at, at + interval '1 minute'
  where not exists (select from flywheel._pauses as p where p.version_id = _note_misconfiguration.version_id)
  on conflict on constraint _pauses_pkey do nothing;
  update flywheel._pauses as p
  set error = _note_misconfiguration.error,
    pauses = p.pauses + 1,
    resume_at = at + least(interval '1 minute' * 2 ^ least(p.pauses, 10), interval '15 minutes'),
    probe_token = null
  where p.ctid = any (array(
    select l.ctid
    from flywheel._pauses as l
    where l.version_id = _note_misconfiguration.version_id and l.probe_token = _note_misconfiguration.token
    for update skip locked
  ));
end
$$;

comment on function flywheel._note_misconfiguration(integer, bigint, text, timestamptz) is
  'Pauses a validator version, for longer each time that a probe has failed.';

create or replace function flywheel._give_up_probe(version_ids integer[], tokens bigint[], at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  update flywheel._pauses as p
  set resume_at = least(p.resume_at, at), probe_token = null
  where p.ctid = any (array(
    select l.ctid
    from flywheel._pauses as l
    where l.version_id = any (version_ids) and l.probe_token = any (tokens)
    for update skip locked
  ));
end
$$;

comment on function flywheel._give_up_probe(integer[], bigint[], timestamptz) is
  'Leaves the probe of a paused version to another job: this one has found nothing out.';

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

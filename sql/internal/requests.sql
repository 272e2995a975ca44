-- From claimed jobs to what a worker has to do for them.
--
--   _claim_version()     claims jobs of one version within the limits of its model
--     _lease_jobs()      (claims.sql)
--     _requests_of()     what is to be done for each: the HTTP body, the texts

-- Jobs whose target is gone, has moved on or has its verdict come back without a request: they are
-- owed no more. SQL and knn are decided where the rows are: run_sql_jobs() looks for itself.
create or replace function flywheel._job_requests(
  version_id integer, trace_ids uuid[], span_ids uuid[], revisions integer[], attempts smallint[]
)
returns setof flywheel._job_request
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = auto
as $$
declare
  v_version flywheel._validator_versions;
  v_model flywheel._models;
begin
  select v.* into v_version
  from flywheel._validator_versions as v
  where v.version_id = _job_requests.version_id;
  if not found then  -- dropped a moment ago
    return;
  end if;
  if v_version.language in ('sql', 'knn') then
    return query
      select k.trace_id, k.span_id, k.attempt, true, null::jsonb, null::text, null::text
      from rows from (unnest(trace_ids), unnest(span_ids), unnest(attempts)) as k (trace_id, span_id, attempt);
    return;
  end if;
  if v_version.language = 'llm' then
    select m.* into v_model from flywheel._models as m where m.name = v_version.model;
    return query
      select k.trace_id, k.span_id, k.attempt, n.given is not null, q.request, q.skipped_reason, null::text
      from rows from (unnest(trace_ids), unnest(span_ids), unnest(revisions), unnest(attempts)) as k (trace_id, span_id, revision, attempt)
      left join lateral (
        select to_jsonb(t) || jsonb_build_object('span_id', k.span_id) as given
        from flywheel.traces as t
        where v_version.subject = 'trace' and t.trace_id = k.trace_id and t.revision = k.revision
        union all
        select coalesce(to_jsonb(t), '{}') || to_jsonb(s)
        from flywheel.spans as s
        left join flywheel.traces as t on t.trace_id = s.trace_id
        where v_version.subject = 'span' and s.trace_id = k.trace_id and s.span_id = k.span_id and s.revision = k.revision
      ) as n on not exists (
        select from flywheel._verdicts as v
        where v.trace_id = k.trace_id and v.span_id = k.span_id and v.version_id = v_version.version_id
          and v.revision = k.revision
      )
      left join lateral flywheel._judge_request(v_version, v_model, n.given) as q on n.given is not null;
    return;
  end if;
  return query execute format(
    $query$
    select k.trace_id, k.span_id, k.attempt, n.trace_id is not null,
      case when n.trace_id is not null then jsonb_build_object('texts', jsonb_build_array(%s)) end, null::text, null::text
    from rows from (unnest($1), unnest($2), unnest($3), unnest($4)) as k (trace_id, span_id, revision, attempt)
    left join lateral (%s) as n
      on n.trace_id = k.trace_id and n.span_id = k.span_id and n.revision = k.revision
      and not exists (
        select from flywheel._verdicts as v
        where v.trace_id = k.trace_id and v.span_id = k.span_id and v.version_id = $5 and v.revision = k.revision
      )$query$,
    (
      select string_agg(p.expression, ', ' order by c.position)
      from flywheel._subject_columns(v_version.subject) with ordinality as c (name, type, position),
        lateral flywheel._python_column(c.name, c.type) as p
      where c.name = any (v_version.reads) and c.name <> 'params'
    ),
    flywheel._subject_rows(
      v_version.subject,
      case v_version.subject when 'trace' then 'flywheel.traces' else 'flywheel.spans' end,
      case v_version.subject
        when 'trace' then 'n.trace_id = k.trace_id'
        else 'n.trace_id = k.trace_id and n.span_id = k.span_id'
      end
    )
  )
  using trace_ids, span_ids, revisions, attempts, version_id;
end
$$;

comment on function flywheel._job_requests(integer, uuid[], uuid[], integer[], smallint[]) is
  'What a worker has to do for claimed jobs of one validator version.';

-- One row that cannot be told to a judge, a text of hundreds of megabytes for example, must not keep
-- all others from being claimed. The block writes nothing.
create or replace function flywheel._requests_of(
  version_id integer, trace_ids uuid[], span_ids uuid[], revisions integer[], attempts smallint[]
)
returns flywheel._job_request[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_half constant integer := cardinality(trace_ids) / 2;
begin
  return array(select r from flywheel._job_requests(version_id, trace_ids, span_ids, revisions, attempts) as r);
exception when others then
  if v_half = 0 then
    return array[row (
      trace_ids[1], span_ids[1], attempts[1], true, null, null, left('the request cannot be written: ' || sqlerrm, 1000)
    )::flywheel._job_request];
  end if;
  return flywheel._requests_of(version_id, trace_ids[:v_half], span_ids[:v_half], revisions[:v_half], attempts[:v_half])
    || flywheel._requests_of(
      version_id, trace_ids[v_half + 1:], span_ids[v_half + 1:], revisions[v_half + 1:], attempts[v_half + 1:]
    );
end
$$;

comment on function flywheel._requests_of(integer, uuid[], uuid[], integer[], smallint[]) is
  'What a worker has to do for claimed jobs of one version, or why that cannot be said.';

-- Fewer than wanted means that there are no more, or that the model takes no more.
create or replace function flywheel._claim_version(
  candidate flywheel._claimable, wanted integer, tries integer, worker text, token bigint, at timestamptz, lease interval
)
returns setof flywheel._job_request
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_left integer := wanted;
  v_granted integer := wanted;
  v_tokens_each integer;
  v_is_noted boolean := false;
  v_calls integer := 0;
  v_leased record;
  v_requests flywheel._job_request[];
begin
  -- A version that is paused is tried with one job, by one worker.
  if candidate.is_paused then
    perform from flywheel._pauses as p
    where p.version_id = candidate.version_id and p.resume_at <= at
    for update skip locked;
    if not found then
      return;
    end if;
    v_granted := 1;
  end if;
  if candidate.model_id is not null then
    select t.granted, t.tokens_each, t.is_noted into v_granted, v_tokens_each, v_is_noted
    from flywheel._take_requests(candidate.model_id, v_granted, candidate.votes, tries, at) as t;
  end if;

  -- Again for what turned out to need no call, or to be owed no more; ten times, so that it ends.
  for v_round in 1..10 loop
    exit when v_left = 0 or v_calls = v_granted;
    v_leased := flywheel._lease_jobs(
      candidate.version_id, least(v_left, v_granted - v_calls), candidate.max_attempts, v_tokens_each, worker, token, at, lease
    );
    exit when v_leased.trace_ids is null;
    v_requests := flywheel._requests_of(
      candidate.version_id, v_leased.trace_ids, v_leased.span_ids, v_leased.revisions, v_leased.attempts
    );
    if exists (select from unnest(v_requests) as r where not r.is_owed or r.error is not null) then
      with settled as (
        delete from flywheel._jobs as j
        using unnest(v_requests) as r
        where not r.is_owed and j.trace_id = r.trace_id and j.span_id = r.span_id
          and j.version_id = candidate.version_id and j.token = _claim_version.token
      )
      update flywheel._jobs as j
      set state = 'dead', token = null, leased_until = null, error_class = 'permanent', last_error = r.error
      from unnest(v_requests) as r
      where r.error is not null and j.trace_id = r.trace_id and j.span_id = r.span_id
        and j.version_id = candidate.version_id and j.token = _claim_version.token;
    end if;
    return query select r.* from unnest(v_requests) as r where r.is_owed and r.error is null;
    select v_left - count(*), v_calls + count(*) filter (where r.skipped_reason is null)
    into v_left, v_calls
    from unnest(v_requests) as r
    where r.is_owed and r.error is null;
  end loop;

  -- What needs no call proves nothing, and takes nothing but tokens: its completion returns those.
  if candidate.is_paused and v_calls > 0 then
    update flywheel._pauses as p
    set resume_at = at + lease, probe_token = token
    where p.version_id = candidate.version_id;
  end if;
  if v_is_noted and v_granted > v_calls then
    perform flywheel._return_requests(
      candidate.model_id, (v_granted - v_calls) * candidate.votes, (v_granted - (wanted - v_left)) * v_tokens_each,
      v_calls = 0, at
    );
  end if;
end
$$;

comment on function flywheel._claim_version(flywheel._claimable, integer, integer, text, bigint, timestamptz, interval) is
  'Claims up to so many jobs of one validator version, within its pause and the limits of its model.';

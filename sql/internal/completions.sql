-- How what a worker says is matched with what is there: complete_jobs() and its kin (functions/queue.sql).
--
--   _read_results(), _read_jobs()   what a worker says, checked
--   _lock_targets()                 the traces and spans as they are, locked FOR SHARE
--   _hold_jobs()                    the jobs that are still the worker's, locked
--
-- None of targets and jobs is waited for while another one is held: an application may update its
-- traces in whatever order it likes, and never deadlocks with a worker.

create or replace function flywheel._read_results(results jsonb)
returns flywheel._job_result[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_hint constant text := 'Nothing of the batch was recorded. A result is an object with trace_id, span_id, version_id and token, as claim_jobs() returned them, and status; see the comment of flywheel.complete_jobs().';
  v_results flywheel._job_result[];
  v_element record;
  v_wrong record;
begin
  if results is null or jsonb_typeof(results) <> 'array' then
    raise exception 'the results are not a JSON array' using errcode = 'LF002', hint = v_hint;
  end if;
  begin
    -- In the order of their keys, each job once.
    v_results := array(
      select distinct on (r.trace_id, coalesce(r.span_id, flywheel._no_span()), r.version_id, r.token) r
      from jsonb_populate_recordset(null::flywheel._job_result, results) as r
      order by r.trace_id, coalesce(r.span_id, flywheel._no_span()), r.version_id, r.token
    );
  exception when data_exception then
    for v_element in select e.value, e.ordinality as position from jsonb_array_elements(results) with ordinality as e loop
      begin
        if jsonb_typeof(v_element.value) <> 'object' then
          raise data_exception using message = 'it is no object';
        end if;
        perform jsonb_populate_record(null::flywheel._job_result, v_element.value);
      exception when data_exception then
        raise exception 'result % of % cannot be read: %', v_element.position, jsonb_array_length(results), sqlerrm
          using errcode = 'LF002', detail = left(v_element.value::text, 500), hint = v_hint;
      end;
    end loop;
    raise;
  end;

  select to_jsonb(r) as result, p.problem into v_wrong
  from unnest(v_results) as r,
    lateral (
      select case
        when r.trace_id is null or r.version_id is null or r.token is null then 'it has no trace_id, no version_id or no token'
        when r.status is null or r.status not in ('passed', 'failed', 'error', 'skipped') then
          format('its status is %s, not passed, failed, error or skipped', coalesce(r.status, 'null'))
        when not coalesce(r.confidence between 0 and 1, true) then format('its confidence is %s, not from 0 to 1', r.confidence)
        when r.run is not null then flywheel._run_problem(r.run)
      end
    ) as p (problem)
  where p.problem is not null
  limit 1;
  if found then
    raise exception 'a result cannot be recorded: %', v_wrong.problem
      using errcode = 'LF002', detail = left(v_wrong.result::text, 500), hint = v_hint;
  end if;
  return v_results;
end
$$;

comment on function flywheel._read_results(jsonb) is
  'The results of a worker in the order of their keys, each job once; LF002 if one makes no sense.';

create or replace function flywheel._run_problem(run jsonb)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if run is null then
    return null;
  elsif jsonb_typeof(run) <> 'object' then
    return 'its run is no object';
  end if;
  return (
    select format('the %s of its run is %s, not a number from 0 to 1000000000', k.name, left((run -> k.name)::text, 50))
    from unnest(array['requests', 'input_tokens', 'cached_tokens', 'output_tokens', 'latency_ms']) as k (name)
    where case jsonb_typeof(run -> k.name)
      when 'number' then not (run -> k.name)::numeric between 0 and 1000000000
      when 'null' then false
      else run ? k.name
    end
    limit 1
  );
end
$$;

comment on function flywheel._run_problem(jsonb) is 'What is wrong with a worker''s account of a run; null if nothing is.';

create or replace function flywheel._lock_patience()
returns interval
language sql
stable
parallel safe
begin atomic
  select interval '5 seconds';
end;

comment on function flywheel._lock_patience() is 'How long a completion waits for traces that somebody is changing. Tests replace it.';

-- The rows as they are when the lock is had: whoever changed them meanwhile has been waited for, one
-- at a time and with nothing else held, for a few seconds. What is still locked then is busy.
create or replace function flywheel._lock_targets(
  trace_ids uuid[], span_ids uuid[],
  out revisions integer[], out dimension_ids bigint[], out are_busy boolean[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
  v_deadline constant timestamptz := clock_timestamp() + flywheel._lock_patience();
  v_traces constant uuid[] := array(
    select distinct k.trace_id
    from rows from (unnest(trace_ids), unnest(span_ids)) as k (trace_id, span_id)
    where k.span_id = flywheel._no_span()
  );
  v_count constant bigint := cardinality(v_traces) + (
    select count(distinct (k.trace_id, k.span_id))
    from rows from (unnest(trace_ids), unnest(span_ids)) as k (trace_id, span_id)
    where k.span_id <> flywheel._no_span()
  );
  v_found record;
  v_busy_trace_ids uuid[];
  v_busy_span_ids uuid[];
begin
  loop
    begin
      -- Of either kind alone as a rule.
      select array_agg(l.trace_id) as trace_ids, array_agg(flywheel._no_span()) as span_ids,
        array_agg(l.revision) as revisions, array_agg(l.dimension_id) as dimension_ids, count(*) as n
      into v_found
      from (
        select t.trace_id, t.revision,
          flywheel._dimension_id(t.pipeline, t.variant, t.environment, t.release, null, t.started_at) as dimension_id
        from flywheel.traces as t
        where t.trace_id = any (v_traces)
        for share skip locked
      ) as l;
      if v_count > cardinality(v_traces) then
        select v_found.trace_ids || array_agg(l.trace_id) as trace_ids, v_found.span_ids || array_agg(l.span_id) as span_ids,
          v_found.revisions || array_agg(l.revision) as revisions,
          v_found.dimension_ids || array_agg(l.dimension_id) as dimension_ids, v_found.n + count(*) as n
        into v_found
        from (
          select s.trace_id, s.span_id, s.revision,
            flywheel._dimension_id(t.pipeline, t.variant, t.environment, t.release, s.node, s.started_at) as dimension_id
          from (
            select distinct k.trace_id, k.span_id
            from rows from (unnest(trace_ids), unnest(_lock_targets.span_ids)) as k (trace_id, span_id)
            where k.span_id <> flywheel._no_span()
          ) as k
          join flywheel.spans as s on s.trace_id = k.trace_id and s.span_id = k.span_id
          left join flywheel.traces as t on t.trace_id = s.trace_id
          for share of s skip locked
        ) as l;
      end if;
      exit when v_found.n = v_count;

      select array_agg(k.trace_id), array_agg(k.span_id) into v_busy_trace_ids, v_busy_span_ids
      from (
        select * from rows from (unnest(trace_ids), unnest(span_ids)) as k (trace_id, span_id)
        except
        select * from rows from (unnest(v_found.trace_ids), unnest(v_found.span_ids)) as k (trace_id, span_id)
      ) as k
      where exists (select from flywheel.traces as t where t.trace_id = k.trace_id and k.span_id = flywheel._no_span())
        or exists (select from flywheel.spans as s where s.trace_id = k.trace_id and s.span_id = k.span_id);
      exit when v_busy_trace_ids is null or clock_timestamp() > v_deadline;
      raise lock_not_available;
    exception when lock_not_available then
      null;  -- what was had is given back
    end;
    begin
      perform set_config('lock_timeout', extract(epoch from flywheel._lock_patience() * 1000)::integer::text, true);
      perform from flywheel.traces as t
      where t.trace_id = v_busy_trace_ids[1] and v_busy_span_ids[1] = flywheel._no_span()
      for share;
      perform from flywheel.spans as s
      where s.trace_id = v_busy_trace_ids[1] and s.span_id = v_busy_span_ids[1]
      for share;
      raise lock_not_available;
    exception when lock_not_available then
      null;
    end;
  end loop;

  if exists (
    select
    from (select distinct d.dimension_id from unnest(v_found.dimension_ids) as d (dimension_id)) as k
    where not exists (select from flywheel._dimensions as d where d.dimension_id = k.dimension_id)
  ) then
    perform flywheel._add_dimension(d.dimension_id, d.pipeline, d.variant, d.environment, d.release, d.node, d.started_at)
    from (
      select distinct on (k.dimension_id)
        k.dimension_id, t.pipeline, t.variant, t.environment, t.release, s.node, coalesce(s.started_at, t.started_at) as started_at
      from rows from (unnest(v_found.trace_ids), unnest(v_found.span_ids), unnest(v_found.dimension_ids))
        as k (trace_id, span_id, dimension_id)
      left join flywheel.traces as t on t.trace_id = k.trace_id
      left join flywheel.spans as s on s.trace_id = k.trace_id and s.span_id = k.span_id
      where not exists (select from flywheel._dimensions as d where d.dimension_id = k.dimension_id)
    ) as d;
  end if;

  select a.revisions, a.dimension_ids into revisions, dimension_ids
  from flywheel._align_targets(
    trace_ids, span_ids, v_found.trace_ids, v_found.span_ids, v_found.revisions, v_found.dimension_ids
  ) as a;
  if v_found.n < v_count and v_busy_trace_ids is not null then
    are_busy := array(
      select exists (
        select
        from rows from (unnest(v_busy_trace_ids), unnest(v_busy_span_ids)) as b (trace_id, span_id)
        where b.trace_id = k.trace_id and b.span_id = k.span_id
      )
      from rows from (unnest(trace_ids), unnest(span_ids)) as k (trace_id, span_id)
    );
  end if;
end
$$;

comment on function flywheel._lock_targets(uuid[], uuid[]) is
  'Locks traces and spans FOR SHARE and gives their present revisions and dimensions, in the order of the arguments: null for what is gone; are_busy, unless null, tells what somebody else keeps locked.';

-- A join of arrays, which a cached plan takes for short ones: a nested loop takes seconds for 10,000.
create or replace function flywheel._align_targets(
  trace_ids uuid[], span_ids uuid[],
  found_trace_ids uuid[], found_span_ids uuid[], found_revisions integer[], found_dimension_ids bigint[],
  out revisions integer[], out dimension_ids bigint[]
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_nestloop = off
as $$
begin
  select array_agg(f.revision order by k.position), array_agg(f.dimension_id order by k.position)
  into revisions, dimension_ids
  from rows from (unnest(trace_ids), unnest(span_ids)) with ordinality as k (trace_id, span_id, position)
  left join rows from (
    unnest(found_trace_ids), unnest(found_span_ids), unnest(found_revisions), unnest(found_dimension_ids)
  ) as f (trace_id, span_id, revision, dimension_id)
    on f.trace_id = k.trace_id and f.span_id = k.span_id;
end
$$;

comment on function flywheel._align_targets(uuid[], uuid[], uuid[], uuid[], integer[], bigint[]) is
  'Revisions and dimensions of targets, in the order they were asked for.';

-- Who has a token is pending. That is not said here: a plan made for a short queue would take the index
-- of all that are pending, and keep it for a long one.
--
-- A job that is locked is being extended (a moment), or claimed or deleted by somebody (it is not the
-- worker's any more): it is tried again for a second at most, and never waited for.
create or replace function flywheel._hold_jobs(
  trace_ids uuid[], span_ids uuid[], version_ids integer[], tokens bigint[], tries integer,
  out places tid[], out revisions integer[], out attempts smallint[], out reserved_tokens integer[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
  v_missing bigint;
begin
  for v_try in 1..tries loop
    select array_agg(j.place), array_agg(j.revision), array_agg(j.attempts), array_agg(j.reserved_tokens),
      count(*) filter (where j.place is null)
    into places, revisions, attempts, reserved_tokens, v_missing
    from rows from (unnest(trace_ids), unnest(span_ids), unnest(version_ids), unnest(tokens))
        as k (trace_id, span_id, version_id, token)
    left join lateral (
      select j.ctid as place, j.revision, j.attempts, j.reserved_tokens
      from flywheel._jobs as j
      where j.trace_id = k.trace_id and j.span_id = k.span_id and j.version_id = k.version_id
        and j.token = k.token
      for update skip locked
    ) as j on true;
    exit when v_missing = 0 or v_try = tries or not exists (
      select
      from rows from (unnest(trace_ids), unnest(span_ids), unnest(version_ids), unnest(tokens), unnest(places))
          as k (trace_id, span_id, version_id, token, place),
        lateral (
          select
          from flywheel._jobs as j
          where j.trace_id = k.trace_id and j.span_id = k.span_id and j.version_id = k.version_id
            and j.token = k.token
          offset 0
        ) as j
      where k.place is null
    );
    perform pg_sleep(0.02);
  end loop;
end
$$;

comment on function flywheel._hold_jobs(uuid[], uuid[], integer[], bigint[], integer) is
  'Locks the jobs that are still held by these tokens, and gives their places in the order of the arguments: null for the others.';

create or replace function flywheel._read_jobs(
  jobs jsonb, out trace_ids uuid[], out span_ids uuid[], out version_ids integer[], out tokens bigint[]
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if jobs is null or jsonb_typeof(jobs) <> 'array' then
    raise data_exception using message = 'they are no JSON array';
  end if;
  select array_agg(r.trace_id), array_agg(r.span_id), array_agg(r.version_id), array_agg(r.token)
  into trace_ids, span_ids, version_ids, tokens
  from (
    select distinct r.trace_id, coalesce(r.span_id, flywheel._no_span()) as span_id, r.version_id, r.token
    from jsonb_to_recordset(jobs) as r (trace_id uuid, span_id uuid, version_id integer, token bigint)
    order by r.trace_id, span_id, r.version_id
  ) as r;
  if array_position(trace_ids, null) is not null or array_position(version_ids, null) is not null
    or array_position(tokens, null) is not null then
    raise data_exception using message = 'one has no trace_id, no version_id or no token';
  end if;
exception when data_exception then
  raise exception 'the jobs cannot be read: %', sqlerrm
    using errcode = 'LF002', detail = left(coalesce(jobs::text, 'null'), 500),
      hint = 'A job is an object with trace_id, span_id, version_id and token, as claim_jobs() returned them.';
end
$$;

comment on function flywheel._read_jobs(jsonb) is
  'Keys and tokens of the jobs a worker names, in the order of their keys; LF002 if they cannot be read.';

create or replace function flywheel._delete_jobs(places tid[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
begin
  delete from flywheel._jobs as j where j.ctid = any (places);
end
$$;

comment on function flywheel._delete_jobs(tid[]) is
  'Deletes jobs that are held. On its own, so that no plan made for an empty queue is used for a long one.';

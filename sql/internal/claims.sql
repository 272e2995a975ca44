-- Which jobs a claim gets: what claim_jobs() (functions/queue.sql) is made of.
--
--   _claim_candidates()  whose jobs may be claimed now
--   _lease_jobs()        SKIP LOCKED, lease, token, attempt
--     _due_jobs()        which jobs are next
--
-- Nothing has to reap what a dead worker held: a lease that has ended makes the job claimable.
-- A claim waits for nobody: its rows stay locked until the worker has read what it got.

create or replace function flywheel._max_attempts(version flywheel._validator_versions)
returns integer
language sql
immutable
parallel safe
begin atomic
  -- Params of other languages are anything, and their own.
  select case
    when version.language = 'llm' and jsonb_typeof(version.params -> 'max_attempts') = 'number'
      then least(greatest((version.params ->> 'max_attempts')::numeric, 1), 1000)::integer
    else 5
  end;
end;

comment on function flywheel._max_attempts(flywheel._validator_versions) is
  'How many claims a job of this version gets before it is dead: max_attempts of a judge''s params, or 5.';

-- What is decided inside the database is one kind.
create or replace function flywheel._job_kind(language text)
returns text
language sql
immutable
parallel safe
begin atomic
  select case language when 'knn' then 'sql' else language end;
end;

comment on function flywheel._job_kind(text) is 'The kind of a validator''s jobs, by which workers claim: llm, python or sql.';

-- In the order of their priority; within one, validators as chance has it, so that none comes last
-- for ever, and a validator's older versions first.
create or replace function flywheel._claim_candidates(kinds text[], models text[], at timestamptz, chance bigint)
returns setof flywheel._claimable
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
  v_requires_approval constant boolean := 'llm' = any (kinds) and flywheel._requires_approval();
begin
  return query
    select v.version_id, v.validator_id, flywheel._job_kind(v.language), m.model_id, d.priority, p.version_id is not null,
      flywheel._max_attempts(v),
      case when v.language = 'llm' then coalesce((v.params ->> 'votes')::numeric::integer, 1) else 1 end
    from flywheel._validator_versions as v
    join flywheel._validators as d on d.validator_id = v.validator_id
    left join flywheel._models as m on m.name = v.model and v.language = 'llm'
    left join flywheel._pauses as p on p.version_id = v.version_id
    where flywheel._job_kind(v.language) = any (kinds)
      and (v.mode = 'queued' or v.language not in ('sql', 'knn'))
      and (v.language <> 'llm' or m.model_id is not null and (models is null or m.name = any (models)))
      and (p.resume_at is null or p.resume_at <= at)
      -- One probe of an index for each version, whatever the planner thinks of the table.
      and coalesce(
        (select true from flywheel._claim_marks as k where k.version_id = v.version_id limit 1),
        (select true from flywheel._jobs as j where j.version_id = v.version_id and j.state = 'pending' limit 1),
        false
      )
      and not (v_requires_approval and v.language = 'llm' and not flywheel._is_approved(v))
    order by d.priority desc, hashint8extended(v.validator_id, chance), v.version_id;
end
$$;

comment on function flywheel._claim_candidates(text[], text[], timestamptz, bigint) is
  'Validator versions that may have jobs a worker of these kinds and models may claim, in the order of the claim.';

create or replace function flywheel._claimable_versions(kinds text[], models text[], at timestamptz)
returns setof flywheel._claimable
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
begin
  return query
    select c.*
    from flywheel._claim_candidates(kinds, models, at, 0) as c
    where (select true from flywheel._jobs as j where j.version_id = c.version_id and j.state = 'pending' limit 1);
end
$$;

comment on function flywheel._claimable_versions(text[], text[], timestamptz) is
  'Validator versions with jobs that a worker of these kinds and models may claim, now or after a wait.';

-- The jobs that are next, locked; the oldest first. A long row of jobs that are at work, or deleted
-- and still seen by a long transaction, is passed once in a while: a mark says where it ended. What
-- comes back in front of it (a lease ends, a job is given back) is seen when the mark ends.
create or replace function flywheel._due_jobs(version_id integer, priority integer, max_jobs integer, at timestamptz)
returns tid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  v_index constant oid := to_regclass('flywheel._jobs_claim_idx');
  v_key constant bigint := hashtextextended(format('flywheel._claim_marks %s %s', version_id, priority), 0);
  v_mark flywheel._claim_marks;
  v_from timestamptz := timestamptz '-infinity';
  v_before bigint;
  v_passed bigint;
  v_places tid[];
  v_first timestamptz;
begin
  select m.* into v_mark
  from flywheel._claim_marks as m
  where m.version_id = _due_jobs.version_id and m.priority = _due_jobs.priority;
  -- When it has ended, one claim looks from the front, and the others go on.
  if v_mark.valid_until > at
    or v_mark.valid_until > at - interval '30 seconds' and not pg_try_advisory_xact_lock(v_key) then
    v_from := v_mark.run_at;
  end if;

  v_before := pg_stat_get_xact_tuples_returned(v_index);
  select array_agg(q.place), min(q.run_at) into v_places, v_first
  from (
    select j.ctid as place, j.run_at
    from flywheel._jobs as j
    where j.version_id = _due_jobs.version_id and j.state = 'pending'
      and j.priority = _due_jobs.priority and j.run_at between v_from and at
      and (j.leased_until is null or j.leased_until <= at)
    order by j.run_at
    limit max_jobs
    for update skip locked
  ) as q;
  v_passed := pg_stat_get_xact_tuples_returned(v_index) - v_before - coalesce(cardinality(v_places), 0);

  if (v_passed > 1000 or v_mark.run_at is not null and v_from = '-infinity') and pg_try_advisory_xact_lock(v_key) then
    if coalesce(v_passed, 0) <= 1000 then
      delete from flywheel._claim_marks as m
      where m.version_id = _due_jobs.version_id and m.priority = _due_jobs.priority;
    else
      insert into flywheel._claim_marks as m (version_id, priority, run_at, valid_until)
      values (
        version_id, priority,
        -- Jobs of the last seconds may still be committed.
        greatest(v_from, least(v_first, at - interval '5 seconds')),
        -- Passing takes a microsecond at most for each: looking from the front, a few hundredths of the time.
        case when v_from = '-infinity' then at + greatest(v_passed * interval '20 microseconds', interval '1 second')
          else v_mark.valid_until end
      )
      on conflict on constraint _claim_marks_pkey do update
      set run_at = excluded.run_at, valid_until = excluded.valid_until;
    end if;
  end if;
  return v_places;
end
$$;

comment on function flywheel._due_jobs(integer, integer, integer, timestamptz) is
  'Locks the next jobs of a validator version and priority that nobody holds, and returns their places.';

-- Live jobs before those of a backfill. The rows are found by their place: they are locked, and so stay
-- where they are.
create or replace function flywheel._lease_jobs(
  version_id integer, max_jobs integer, max_attempts integer, reserved_tokens integer, worker text, token bigint,
  at timestamptz, lease interval,
  out trace_ids uuid[], out span_ids uuid[], out revisions integer[], out attempts smallint[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
  v_left integer := max_jobs;
  v_places tid[];
  v_taken record;
begin
  -- Again where all that was found had been lost; a hundred times, so that it ends.
  for v_round in 1..100 loop
    v_places := array[]::tid[];
    for v_priority in 0..1 loop
      v_places := v_places || flywheel._due_jobs(version_id, v_priority, v_left - cardinality(v_places), at);
      exit when cardinality(v_places) >= v_left;
    end loop;
    exit when cardinality(v_places) = 0;
    with taken as (
      update flywheel._jobs as j
      set attempts = j.attempts + 1,
        token = _lease_jobs.token,
        leased_until = at + lease,
        worker = _lease_jobs.worker,
        reserved_tokens = _lease_jobs.reserved_tokens
      where j.ctid = any (v_places) and j.attempts < max_attempts
      returning j.trace_id, j.span_id, j.revision, j.attempts
    ),
    -- Each of its workers ended without a word: nobody else should try.
    lost as (
      update flywheel._jobs as j
      set state = 'dead',
        token = null,
        leased_until = null,
        error_class = 'transient',
        last_error = left(format(
          'the worker %s did not come back, the last of %s attempts%s', j.worker, j.attempts,
          coalesce('; before that: ' || j.last_error, '')
        ), 1000)
      where j.ctid = any (v_places) and j.attempts >= max_attempts
    )
    select array_agg(t.trace_id) as trace_ids, array_agg(t.span_id) as span_ids,
      array_agg(t.revision) as revisions, array_agg(t.attempts) as attempts, count(*)::integer as n
    into v_taken
    from taken as t;
    trace_ids := trace_ids || v_taken.trace_ids;
    span_ids := span_ids || v_taken.span_ids;
    revisions := revisions || v_taken.revisions;
    attempts := attempts || v_taken.attempts;
    v_left := v_left - v_taken.n;
    exit when v_left = 0 or v_taken.n = cardinality(v_places);
  end loop;
end
$$;

comment on function flywheel._lease_jobs(integer, integer, integer, integer, text, bigint, timestamptz, interval) is
  'Claims due jobs of one validator version for a worker; what has used up its attempts dies instead.';

-- The circuit breaker: a Python validator that keeps exceeding its budget is moved to the queue.

-- The breaker. Three statements within ten minutes are too many. A validator that rejects is never
-- moved: what it guards would be let in.
create or replace function flywheel._record_breach(version_id integer, error text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
begin
  insert into flywheel._breaches (version_id, created_at, error, opens_breaker)
  select v.version_id, v_now, _record_breach.error,
    'reject' not in (v.on_fail, v.on_error)
    and v.mode = 'inline'
    and r.breaches = 2
  from flywheel._validator_versions as v,
    lateral (
      select count(*) as breaches, coalesce(bool_or(b.opens_breaker or b.created_at = v_now), false) as is_known
      from flywheel._breaches as b
      where b.version_id = v.version_id and b.created_at > v_now - interval '10 minutes'
    ) as r
  where v.version_id = _record_breach.version_id
    -- One a transaction is enough to know, and three in ten minutes: the table stays small.
    and r.breaches < 3 and not r.is_known;
  delete from flywheel._breaches as b
  where b.ctid = any (array(
    select o.ctid
    from flywheel._breaches as o
    where o.version_id = _record_breach.version_id and not o.opens_breaker
      and o.created_at < v_now - interval '1 hour'
    for update skip locked
  ));
end
$$;

comment on function flywheel._record_breach(integer, text) is
  'Notes that a validator exceeded its budget; the third time within ten minutes opens its breaker.';

-- Where a version runs now: a Python validator is queued, whatever it asks for, where there is no
-- Python inside the database and while its breaker is open.
create or replace function flywheel._mode_of(version flywheel._validator_versions)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case
    when version.language = 'python' and (
      not flywheel._has_python()
      or exists (
        select from flywheel._breaches as b where b.version_id = version.version_id and b.opens_breaker
      )
    ) then 'queued'
    else version.mode
  end;
$$;

comment on function flywheel._mode_of(flywheel._validator_versions) is
  'inline or queued: where a validator version runs at the moment.';

-- What was enqueued is missing again, so that sweep() decides it.
create or replace function flywheel._close_breaker(version_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_jobs bigint;
begin
  if exists (select from flywheel._breaches as b where b.version_id = _close_breaker.version_id and b.opens_breaker) then
    delete from flywheel._jobs as j where j.version_id = _close_breaker.version_id;
    get diagnostics v_jobs = row_count;
    if v_jobs > 0 then
      raise notice '% verdicts were enqueued meanwhile', v_jobs
        using hint = 'Run: select * from flywheel.sweep()';
    end if;
  end if;
  delete from flywheel._breaches as b where b.version_id = _close_breaker.version_id;
end
$$;

comment on function flywheel._close_breaker(integer) is
  'Lets a Python validator run inside the INSERT again and takes back its jobs.';

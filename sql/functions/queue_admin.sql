-- What people do with the queue: try again, prefer, resume, forget.

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
  v_places tid[];
  v_count bigint;
begin
  if max_jobs < 1 then
    raise exception 'max_jobs is %', max_jobs
      using errcode = 'LF002', hint = 'Give the number of jobs to retry at most, or null for all.';
  end if;
  v_places := array(
    select d.ctid
    from flywheel._jobs as d
    join flywheel._validator_versions as v on v.version_id = d.version_id
    where d.state = 'dead' and (v_validator_id is null or v.validator_id = v_validator_id)
    order by d.run_at
    limit max_jobs
    for update of d skip locked
  );
  update flywheel._jobs as j
  set state = 'pending', attempts = 0, run_at = flywheel.now(), token = null, leased_until = null
  where j.ctid = any (v_places);
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

-- The setting of the database counts; a session's own only where it keeps more. A worker may purge,
-- and must not be able to forget what it has done.
create or replace function flywheel._run_retention()
returns interval
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_setting text;
  v_retention interval;
  v_longest interval;
begin
  for v_setting in
    select coalesce(
      (
        select nullif(substr(c.setting, strpos(c.setting, '=') + 1), '')
        from pg_db_role_setting as r, unnest(r.setconfig) as c (setting)
        where r.setrole = 0
          and r.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
          and lower(split_part(c.setting, '=', 1)) = 'flywheel.run_retention'
        order by r.setdatabase desc
        limit 1
      ), '30 days'
    )
    union all
    select current_setting('flywheel.run_retention', true)
  loop
    continue when coalesce(v_setting, '') = '';
    begin
      v_retention := v_setting::interval;
    exception when invalid_datetime_format or datetime_field_overflow or interval_field_overflow then
      v_retention := null;
    end;
    if v_retention is null or v_retention < interval '0' then
      raise exception 'the setting flywheel.run_retention is %', quote_literal(v_setting)
        using errcode = 'LF002', hint = 'Give an interval: alter database ... set flywheel.run_retention = ''30 days''.';
    end if;
    v_longest := greatest(v_longest, v_retention);
  end loop;
  return v_longest;
end
$$;

comment on function flywheel._run_retention() is
  'How long the run log is kept: flywheel.run_retention of the database, 30 days without it, or longer if the session says so.';

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
  v_retention constant interval := flywheel._run_retention();
begin
  if max_rows is null or max_rows < 1 then
    raise exception 'max_rows is %', coalesce(max_rows::text, 'null')
      using errcode = 'LF002', hint = 'Give the number of runs to delete at most.';
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

  -- Two days more: one that used_at may lag behind, one for transactions that are not committed yet.
  what := 'prompts';
  delete from flywheel._prompts as p
  where p.prompt_id = any (array(
    select o.prompt_id from flywheel._prompts as o
    where o.used_at < v_now - v_retention - interval '2 days'
    limit max_rows
    for update skip locked
  ));
  get diagnostics deleted = row_count;
  return next;

  -- Of validators that were dropped with their verdicts; claims see to the others.
  delete from flywheel._claim_marks as m
  where not exists (select from flywheel._validator_versions as v where v.version_id = m.version_id);

  what := 'workers';
  delete from flywheel._workers as w
  where w.worker_id = any (array(
    select o.worker_id from flywheel._workers as o
    where o.last_seen_at < v_now - greatest(v_retention, interval '1 day')
    for update skip locked
  ));
  get diagnostics deleted = row_count;
  return next;
end
$$;

comment on function flywheel.purge(integer) is
  'Removes what is beyond its retention from the run log (the setting flywheel.run_retention, 30 days by default), at most max_rows, and forgets workers as old. The schedule purge runs calls it every hour. Verdicts stay.';

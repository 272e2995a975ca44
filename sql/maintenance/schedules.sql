-- Schedules run the built-in tasks: by flywheel-db worker, by flywheel.work(), or by whoever calls
-- run_schedules(). The row lock on a schedule is what makes it run once, however many look; it ends
-- with the transaction, so a session that dies in the middle leaves the schedule due.

create or replace view flywheel.schedules as
select
  s.name,
  s.task,
  s.every,
  s.cron,
  s.is_enabled,
  case
    when not s.is_enabled then 'disabled'
    when s.failures > 0 then 'failing'
    when s.next_run_at < flywheel.now() - interval '10 minutes' then 'overdue'
    else 'well'
  end as state,
  case when s.is_enabled then s.next_run_at end as next_run_at,
  s.last_run_at,
  s.last_seconds,
  s.last_result,
  s.last_error,
  s.runs,
  s.failures,
  t.description
from flywheel._schedules as s
join flywheel._tasks() as t on t.task = s.task;

comment on view flywheel.schedules is 'When the built-in tasks run, and what came of it.';
comment on column flywheel.schedules.name is 'Name of the schedule.';
comment on column flywheel.schedules.task is 'The task it runs.';
comment on column flywheel.schedules.every is 'The time from one run to the next; null if cron says when.';
comment on column flywheel.schedules.cron is 'Cron expression, in UTC; null if every says when.';
comment on column flywheel.schedules.is_enabled is 'Whether it runs.';
comment on column flywheel.schedules.state is 'well; failing; overdue: due for ten minutes, and nobody has run it; disabled.';
comment on column flywheel.schedules.next_run_at is 'When it is due; null if it is disabled.';
comment on column flywheel.schedules.last_run_at is 'When it last ran.';
comment on column flywheel.schedules.last_seconds is 'How long that took.';
comment on column flywheel.schedules.last_result is 'What the task said it did; is_more if it was called again, at once or after rest_seconds; null if it failed.';
comment on column flywheel.schedules.last_error is 'Why the last run failed; null if it did not.';
comment on column flywheel.schedules.runs is 'How often it has run.';
comment on column flywheel.schedules.failures is 'Failures since the last success. Each doubles the wait for the next try, from 30 seconds to an hour.';
comment on column flywheel.schedules.description is 'What the task does.';

create or replace function flywheel._next_run(every interval, cron text, after timestamptz)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  -- A day is a day in UTC, whatever the session's time zone does that night.
  select case
    when cron is not null then flywheel._next_cron(cron, after)
    else (after at time zone 'UTC' + every) at time zone 'UTC'
  end;
$$;

comment on function flywheel._next_run(interval, text, timestamptz) is 'When a schedule is due after a time.';

create or replace function flywheel._check_schedule(given flywheel._schedules)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if btrim(coalesce(given.name, '')) = '' or length(given.name) > 200 then
    raise exception 'a schedule needs a name of 1 to 200 characters'
      using errcode = 'LF002', hint = 'Give a name by which it can be altered and dropped.';
  end if;
  if given.task is null or not exists (select from flywheel._tasks() as t where t.task = given.task) then
    raise exception 'there is no task %', coalesce(quote_literal(given.task), 'null')
      using errcode = 'LF002',
        hint = format('Give one of: %s.', (select string_agg(quote_literal(t.task), ', ' order by t.task) from flywheel._tasks() as t));
  end if;
  if num_nonnulls(given.every, given.cron) <> 1 then
    raise exception 'the schedule % has %', quote_ident(given.name),
      case when given.every is null then 'neither every nor cron' else 'both every and cron' end
      using errcode = 'LF002', hint = 'Give one of them: every => ''10 minutes'', or cron => ''30 2 * * *''.';
  end if;
  if given.every < interval '1 second' or not flywheel._is_ahead(given.every) then
    raise exception 'every is %', quote_literal(given.every)
      using errcode = 'LF002', hint = 'Give an interval of at least a second.';
  end if;
  if given.every > interval '10 years' then
    raise exception 'every is %', quote_literal(given.every)
      using errcode = 'LF002', hint = 'Give an interval of at most ten years, or have it run never: disable_schedule().';
  end if;
end
$$;

comment on function flywheel._check_schedule(flywheel._schedules) is 'Refuses a schedule that makes no sense, saying what to give instead.';

create or replace function flywheel._lock_schedule(name text)
returns flywheel._schedules
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_schedule flywheel._schedules;
begin
  select s.* into v_schedule
  from flywheel._schedules as s
  where s.name = _lock_schedule.name
  for update;
  if not found then
    raise exception 'there is no schedule %', coalesce(quote_ident(name), 'null')
      using errcode = 'LF009', hint = 'See them: select name from flywheel.schedules.';
  end if;
  return v_schedule;
end
$$;

comment on function flywheel._lock_schedule(text) is
  'A schedule by its name, locked; a run under way is waited for. LF009 if there is none.';

create or replace function flywheel.create_schedule(
  name text, task text, every interval default null, cron text default null, enabled boolean default true
)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_schedule flywheel._schedules;
begin
  v_schedule.name := name;
  v_schedule.task := task;
  v_schedule.every := every;
  v_schedule.cron := cron;
  perform flywheel._check_schedule(v_schedule);
  insert into flywheel._schedules (name, task, every, cron, is_enabled, next_run_at)
  values (name, task, every, cron, coalesce(enabled, true), flywheel._next_run(every, cron, flywheel.now()))
  returning next_run_at into v_schedule.next_run_at;
  return v_schedule.next_run_at;
exception when unique_violation then
  raise exception 'there is a schedule % already', quote_ident(name)
    using errcode = 'LF201', hint = 'Use flywheel.alter_schedule() to change it.';
end
$$;

comment on function flywheel.create_schedule(text, text, interval, text, boolean) is
  'Has a built-in task run every so often (every), or by a cron expression in UTC (cron). Returns when it is first due. The tasks are those of the view schedules.';

create or replace function flywheel.alter_schedule(
  name text, every interval default null, cron text default null
)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_schedule flywheel._schedules := flywheel._lock_schedule(name);
begin
  v_schedule.every := every;
  v_schedule.cron := cron;
  perform flywheel._check_schedule(v_schedule);
  update flywheel._schedules as s
  set every = alter_schedule.every, cron = alter_schedule.cron,
    next_run_at = flywheel._next_run(alter_schedule.every, alter_schedule.cron, flywheel.now())
  where s.name = alter_schedule.name
  returning s.next_run_at into v_schedule.next_run_at;
  return v_schedule.next_run_at;
end
$$;

comment on function flywheel.alter_schedule(text, interval, text) is
  'Changes when a schedule runs: every so often, or by a cron expression in UTC. Returns when it is next due. Waits for a run under way.';

create or replace function flywheel.drop_schedule(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._lock_schedule(name);
  delete from flywheel._schedules as s where s.name = drop_schedule.name;
end
$$;

comment on function flywheel.drop_schedule(text) is 'Removes a schedule. Waits for a run under way.';

create or replace function flywheel.enable_schedule(name text)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_schedule flywheel._schedules := flywheel._lock_schedule(name);
begin
  update flywheel._schedules as s
  set is_enabled = true, failures = 0, next_run_at = flywheel._next_run(s.every, s.cron, flywheel.now())
  where s.name = enable_schedule.name
  returning s.next_run_at into v_schedule.next_run_at;
  return v_schedule.next_run_at;
end
$$;

comment on function flywheel.enable_schedule(text) is
  'Has a schedule run again. Returns when it is due.';

create or replace function flywheel.disable_schedule(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._lock_schedule(name);
  update flywheel._schedules as s set is_enabled = false where s.name = disable_schedule.name;
end
$$;

comment on function flywheel.disable_schedule(text) is 'Stops running a schedule, and keeps it. Waits for a run under way.';

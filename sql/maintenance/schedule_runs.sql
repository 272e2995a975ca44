-- Running what is due. A task runs in a block of its own: what it did is undone if it fails, the
-- failure is noted, and the next one has its turn.

create or replace function flywheel._run_schedule(
  given flywheel._schedules, max_seconds double precision,
  out status text, out result jsonb, out error text, out seconds double precision
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_start constant timestamptz := clock_timestamp();
  v_function text;
begin
  begin
    select t.function into strict v_function from flywheel._tasks() as t where t.task = given.task;
    execute format('select jsonb_agg(to_jsonb(r)) from flywheel.%I($1) as r', v_function)
    into result using max_seconds;
    if jsonb_array_length(result) = 1 then
      result := result -> 0;
    end if;
    status := 'ok';
  exception
    when query_canceled then
      status := 'canceled';
      error := sqlerrm;
    when others then
      status := 'failed';
      error := sqlerrm;
  end;
  if status <> 'ok' then
    result := null;
  end if;
  seconds := extract(epoch from clock_timestamp() - v_start);
  update flywheel._schedules as s
  set last_run_at = flywheel.now(),
    last_seconds = seconds,
    last_result = result,
    last_error = error,
    runs = s.runs + 1,
    failures = case when status = 'ok' then 0 else s.failures + 1 end,
    next_run_at = case
      when status <> 'ok' then flywheel.now() + least(interval '30 seconds' * (2 ^ least(s.failures, 10)), interval '1 hour')
      when result @> '{"is_more": true}' then
        flywheel.now() + make_interval(secs => coalesce((result ->> 'rest_seconds')::double precision, 0))
      else flywheel._next_run(s.every, s.cron, flywheel.now())
    end
  where s.name = given.name;
end
$$;

comment on function flywheel._run_schedule(flywheel._schedules, double precision) is
  'Runs the task of a schedule that is locked, and notes what came of it: ok, failed or canceled.';

create or replace function flywheel.run_schedules(max_seconds double precision default 50, max_tasks integer default null)
returns table (schedule text, task text, status text, result jsonb, error text, seconds double precision)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_end timestamptz;
  v_done text[] := array[]::text[];
  v_schedule flywheel._schedules;
begin
  if max_seconds is null or max_seconds <= 0 or max_seconds > 86400 then
    raise exception 'max_seconds is %', coalesce(max_seconds::text, 'null')
      using errcode = 'LF002', hint = 'Give the number of seconds after which it begins no more tasks.';
  end if;
  if max_tasks < 1 then
    raise exception 'max_tasks is %', max_tasks
      using errcode = 'LF002', hint = 'Give the number of tasks to run at most, or null for all that are due.';
  end if;
  v_end := clock_timestamp() + make_interval(secs => max_seconds);
  loop
    -- Whoever is quicker has it; the lock is on the row as it is now, so nobody finds it due again.
    select s.* into v_schedule
    from flywheel._schedules as s
    where s.is_enabled and s.next_run_at <= flywheel.now()
      and s.name <> all (v_done)
      and s.task in (select t.task from flywheel._tasks() as t)
    order by s.next_run_at, s.name
    limit 1
    for update of s skip locked;
    exit when not found;
    schedule := v_schedule.name;
    task := v_schedule.task;
    select r.status, r.result, r.error, r.seconds into status, result, error, seconds
    from flywheel._run_schedule(v_schedule, greatest(extract(epoch from v_end - clock_timestamp()), 0)) as r;
    return next;
    v_done := v_done || v_schedule.name;
    exit when status = 'canceled' or cardinality(v_done) >= max_tasks or clock_timestamp() >= v_end;
  end loop;
end
$$;

comment on function flywheel.run_schedules(double precision, integer) is
  'Runs the schedules that are due, each once, and begins none after max_seconds: all in this transaction, or the one of max_tasks => 1. Any number of sessions may call it at the same time; a schedule that another one is running is left to it. A task that fails is noted and tried again later; the others go on. Returns what was run, with status ok, failed or canceled. flywheel-db worker and flywheel.work() call it.';

create or replace function flywheel.run_schedule(name text, max_seconds double precision default 50)
returns table (status text, result jsonb, error text, seconds double precision)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_schedule constant flywheel._schedules := flywheel._lock_schedule(name);
begin
  if max_seconds is null or max_seconds <= 0 or max_seconds > 86400 then
    raise exception 'max_seconds is %', coalesce(max_seconds::text, 'null')
      using errcode = 'LF002', hint = 'Give the number of seconds that the task may use.';
  end if;
  return query select r.status, r.result, r.error, r.seconds from flywheel._run_schedule(v_schedule, max_seconds) as r;
end
$$;

comment on function flywheel.run_schedule(text, double precision) is
  'Runs a schedule at once, due or not, enabled or not. Waits for a run under way.';

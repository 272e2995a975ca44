-- Work in the background. Whoever schedules it calls run_metric_tasks().

create or replace function flywheel._refresh_metric(metric flywheel._metrics)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_start timestamptz := clock_timestamp();
begin
  if to_regclass(format('flywheel.%I', metric.name)) is null then
    raise exception 'the view flywheel.% is gone', metric.name
      using errcode = 'LF104',
        hint = 'It was dropped together with something it read. Give the metric a query that works: flywheel.alter_metric(..., query => ...).';
  end if;
  if metric.storage = 'incremental' then
    perform flywheel._refill_stream(s) from flywheel._metric_streams as s where s.stream_id = metric.stream_id;
    return;
  elsif metric.storage = 'view' then
    update flywheel._metrics as m set problem = null, problem_at = null where m.metric_id = metric.metric_id;
    return;
  end if;
  perform flywheel._refresh_metric_table(flywheel._metric_table(metric.metric_id), metric.name, metric.bound_query);
  update flywheel._metrics as m
  set refreshed_at = flywheel.now(), problem = null, problem_at = null,
    refresh_ms = extract(epoch from clock_timestamp() - v_start) * 1000
  where m.metric_id = metric.metric_id;
end
$$;

comment on function flywheel._refresh_metric(flywheel._metrics) is 'Computes what is stored of a metric anew.';

-- A metric that fails says so in the view metrics, and holds up no other.
create or replace function flywheel._try_refresh_metric(metric flywheel._metrics)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._refresh_metric(metric);
  return true;
exception when others then
  if sqlstate like '40%' or sqlstate like '57%' then
    raise;
  end if;
  update flywheel._metrics as m
  -- As if it had been refreshed: it is tried again when it is due again.
  set problem = sqlerrm, problem_at = flywheel.now()
  where m.metric_id = metric.metric_id;
  return false;
end
$$;

comment on function flywheel._try_refresh_metric(flywheel._metrics) is 'Refreshes a metric; false, and a problem noted, if that fails.';

-- A stream that cannot be built or folded now is left as it is: its metrics stay exact.
create or replace function flywheel._try_advance_stream(stream flywheel._metric_streams)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '2s'
as $$
begin
  return flywheel._advance_stream(stream);
exception when lock_not_available or deadlock_detected then
  return false;
when others then
  if sqlstate like '40%' or sqlstate like '57%' then
    raise;
  end if;
  update flywheel._metrics as m set problem = sqlerrm, problem_at = flywheel.now() where m.stream_id = stream.stream_id;
  return false;
end
$$;

comment on function flywheel._try_advance_stream(flywheel._metric_streams) is 'Takes the next step of a stream; false if that has to wait.';

-- A stream that cannot be folded keeps its deltas, and its metrics stay exact; the others go on.
create or replace function flywheel._try_fold_stream(stream flywheel._metric_streams)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return flywheel._fold_stream(stream);
exception when others then
  if sqlstate like '40%' or sqlstate like '57%' then
    raise;
  end if;
  with free as (
    select f.metric_id from flywheel._metrics as f where f.stream_id = stream.stream_id for no key update skip locked
  )
  update flywheel._metrics as m set problem = sqlerrm, problem_at = flywheel.now() from free as f where m.metric_id = f.metric_id;
  return 0;
end
$$;

comment on function flywheel._try_fold_stream(flywheel._metric_streams) is 'Folds a stream; 0, and a problem noted, if that fails.';

create or replace function flywheel.fold_metrics(max_seconds double precision default 10)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_end constant timestamptz := clock_timestamp() + make_interval(secs => max_seconds);
  v_stream flywheel._metric_streams;
  v_moved bigint;
  v_total bigint := 0;
begin
  for v_stream in select s.* from flywheel._metric_streams as s order by s.folded_at nulls first, s.stream_id loop
    exit when clock_timestamp() >= v_end;
    if v_stream.state <> 'ready' then
      -- Who changes metrics at this moment takes the step himself.
      if current_setting('transaction_isolation') = 'read committed'
        and pg_try_advisory_xact_lock(hashtextextended('flywheel._metrics', 0)) then
        perform flywheel._try_advance_stream(v_stream);
      end if;
    elsif pg_try_advisory_xact_lock(flywheel._stream_lock(v_stream.stream_id)) then
      -- It may have been dropped since the list was made; from now on it cannot be.
      continue when not exists (select from flywheel._metric_streams as s where s.stream_id = v_stream.stream_id);
      loop
        v_moved := flywheel._try_fold_stream(v_stream);
        v_total := v_total + v_moved;
        exit when v_moved < 100000 or clock_timestamp() >= v_end;
      end loop;
    end if;
  end loop;
  return v_total;
end
$$;

comment on function flywheel.fold_metrics(double precision) is
  'Moves what has been written since into what incremental metrics keep, and fills new ones. They are exact without it, only slower to read. Call it every few seconds; sessions never wait for each other in it. Returns the number of deltas moved.';

create or replace function flywheel.refresh_metrics(max_seconds double precision default 10)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_end constant timestamptz := clock_timestamp() + make_interval(secs => max_seconds);
  v_metric flywheel._metrics;
  v_done integer := 0;
begin
  -- One at a time; who comes second has nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('flywheel.refresh_metrics', 0)) then
    return 0;
  end if;
  for v_metric in
    select m.*
    from flywheel._metrics as m
    where m.storage = 'materialized' and m.refresh_every is not null
      and greatest(m.refreshed_at, m.problem_at) + m.refresh_every <= flywheel.now()
    order by greatest(m.refreshed_at, m.problem_at) + m.refresh_every
    -- Not those that somebody is changing at this moment: he may wait for what this session holds.
    for no key update skip locked
  loop
    exit when clock_timestamp() >= v_end;
    v_done := v_done + flywheel._try_refresh_metric(v_metric)::integer;
  end loop;
  for v_metric in
    select m.*
    from flywheel._metrics as m
    where m.measured_at is null or m.measured_at + interval '1 hour' <= flywheel.now()
    order by m.measured_at nulls first
    for no key update skip locked
  loop
    exit when clock_timestamp() >= v_end;
    perform flywheel._measure_metric(v_metric);
  end loop;
  return v_done;
end
$$;

comment on function flywheel.refresh_metrics(double precision) is
  'Refreshes the materialized metrics that are due by their refresh_every, and measures what metrics cost, once an hour each. Starts nothing new after max_seconds. Returns how many were refreshed; 0 at once while another session is at it.';

create or replace function flywheel.run_metric_tasks(max_seconds double precision default 10)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel.fold_metrics(max_seconds / 2);
  return flywheel.refresh_metrics(max_seconds / 2);
end
$$;

comment on function flywheel.run_metric_tasks(double precision) is
  'Everything metrics need in the background: fold_metrics() and refresh_metrics(). Returns how many materialized metrics were refreshed.';

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
  if metric.storage <> 'materialized' then
    return;
  end if;
  perform flywheel._refresh_metric_table(flywheel._metric_table(metric.metric_id), metric.name, metric.query);
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

create or replace function flywheel.run_metric_tasks(max_seconds double precision default 10)
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
  if not pg_try_advisory_xact_lock(hashtextextended('flywheel.run_metric_tasks', 0)) then
    return 0;
  end if;
  for v_metric in
    select m.*
    from flywheel._metrics as m
    where m.storage = 'materialized' and m.refresh_every is not null
      and greatest(m.refreshed_at, m.problem_at) + m.refresh_every <= flywheel.now()
    order by greatest(m.refreshed_at, m.problem_at) + m.refresh_every
  loop
    exit when clock_timestamp() >= v_end;
    v_done := v_done + flywheel._try_refresh_metric(v_metric)::integer;
  end loop;
  return v_done;
end
$$;

comment on function flywheel.run_metric_tasks(double precision) is
  'Does what metrics need in the background: refreshes materialized ones that are due. Starts nothing new after max_seconds. Call it every few seconds. Returns the number of tasks done; 0 at once while another session is at it.';

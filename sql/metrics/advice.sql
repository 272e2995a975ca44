-- What a metric costs, measured, and which storage that speaks for.
--
-- Reads are counted without a write: each public view looks at a table of one row of its own, and
-- PostgreSQL counts the scans of that.

create or replace function flywheel._reads_table(metric_id integer)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format('_metric_%s_reads', metric_id);
$$;

comment on function flywheel._reads_table(integer) is 'The table whose scans are the reads of a metric.';

-- Runs as flywheel_metric. What would take minutes is not run for its own sake: a unit of the
-- planner's cost is about 10 microseconds.
create or replace function flywheel._time_query(query text)
returns double precision
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_plan json;
  v_cost double precision;
begin
  execute format(E'explain (format json) select q.* from (%s\n) as q', query) into v_plan;
  v_cost := (v_plan -> 0 -> 'Plan' ->> 'Total Cost')::double precision;
  if v_cost > 1e7 then
    return v_cost * 0.01;
  end if;
  execute format(E'explain (analyze, timing off, format json) select q.* from (%s\n) as q', query) into v_plan;
  return (v_plan -> 0 ->> 'Planning Time')::double precision + (v_plan -> 0 ->> 'Execution Time')::double precision;
end
$$;

comment on function flywheel._time_query(text) is 'Milliseconds that a query of a metric takes, as flywheel_metric; estimated if that is more than a minute or two.';

-- Reading as it is kept; the plain query; and what appending the deltas of 1,000 rows costs.
create or replace function flywheel._measure_metric(metric flywheel._metrics)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_stream flywheel._metric_streams;
  v_base text;
  v_read double precision;
  v_plain double precision;
  v_write double precision;
begin
  select s.* into v_stream from flywheel._metric_streams as s where s.stream_id = metric.stream_id;
  v_read := case
    when metric.storage = 'materialized' then flywheel._time_query('select * from flywheel.' || flywheel._metric_table(metric.metric_id))
    when metric.storage = 'incremental' and v_stream.state = 'ready' then
      flywheel._time_query(flywheel._incremental_query(v_stream, flywheel._analyze_metric(metric.bound_query), metric))
    else flywheel._time_query(metric.bound_query)
  end;
  v_plain := case metric.storage
    when 'view' then v_read
    -- A refresh has just measured it.
    when 'materialized' then metric.refresh_ms
    else flywheel._time_query(metric.bound_query)
  end;
  if v_stream.state = 'ready' then
    v_base := flywheel._fact_table(v_stream.fact);
    v_write := flywheel._time_query(
      flywheel._stream_query(v_stream, 'inserted', format('(select * from flywheel.%I limit 1000)', v_base))
    );
  end if;
  update flywheel._metrics as m
  set read_ms = v_read, plain_ms = v_plain, write_ms = v_write, measured_at = flywheel.now(),
    -- What is kept of a materialized one can be read while its query fails.
    problem = case when m.storage = 'materialized' then m.problem end,
    problem_at = case when m.storage = 'materialized' then m.problem_at end
  where m.metric_id = metric.metric_id;
exception when others then
  if sqlstate like '40%' or sqlstate like '57%' then
    raise;
  end if;
  update flywheel._metrics as m
  set problem = sqlerrm, problem_at = flywheel.now(), measured_at = flywheel.now()
  where m.metric_id = metric.metric_id;
end
$$;

comment on function flywheel._measure_metric(flywheel._metrics) is 'Measures what reading and keeping a metric costs.';

create or replace function flywheel.explain_metric(name text)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics := flywheel._find_metric(name);
  v_stream flywheel._metric_streams;
  v_event text;
  v_text text;
begin
  v_text := format(E'-- %s is kept as: %s\n', name, v_metric.storage);
  if v_metric.refusal is not null then
    v_text := v_text || format(E'-- %s\n', v_metric.refusal);
  end if;
  v_text := v_text || format(
    E'create view flywheel.%I as\n%s\n', name, coalesce(pg_get_viewdef(to_regclass(format('flywheel.%I', name))), '-- is gone')
  );
  select s.* into v_stream from flywheel._metric_streams as s where s.stream_id = v_metric.stream_id;
  if found then
    v_text := v_text || format(E'\n-- It reads stream %s over %s, which is %s. Other metrics that do: %s\n', v_stream.stream_id, v_stream.fact, v_stream.state, coalesce(
      (select string_agg(m.name, ', ' order by m.name) from flywheel._metrics as m where m.stream_id = v_stream.stream_id and m.name <> explain_metric.name), 'none'
    ));
    foreach v_event in array array['inserted', 'updated', 'deleted'] loop
      v_text := v_text || format(E'\n-- Appended in the statement that has %s rows\n%s;\n', v_event, array_to_string(flywheel._stream_statements(v_stream, v_event), E';\n'));
    end loop;
  elsif v_metric.storage = 'materialized' then
    v_text := v_text || format(E'\n-- Refreshed %s\n%s\n', coalesce('every ' || v_metric.refresh_every, 'by refresh_metric() only'), pg_get_viewdef(to_regclass('flywheel.' || flywheel._metric_table(v_metric.metric_id))));
  end if;
  return v_text;
end
$$;

comment on function flywheel.explain_metric(text) is
  'The compiled statements behind a metric: what its view reads, and what is appended when rows are inserted, updated and deleted; or why it cannot be incremental.';

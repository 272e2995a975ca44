-- Incremental metrics: which stream each has; building, refilling and folding it. How it is read is in
-- reading.sql.

-- A stream that has all a query needs; made if there is none. Metrics with the same fact, condition
-- and keys share one, so a new measure makes a new stream that has the old one's, too.
create or replace function flywheel._stream_for(analysis jsonb)
returns flywheel._metric_streams
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_stream flywheel._metric_streams;
  v_measures jsonb := '[]'::jsonb;
begin
  -- One that counts what is gone has no equal: it is neither left nor replaced.
  select s.* into v_stream
  from flywheel._metric_streams as s
  where s.fact = analysis ->> 'fact' and s.keys = analysis -> 'keys'
    and coalesce(s.condition, 'null') = coalesce(analysis -> 'condition', 'null')
    and s.state <> 'retired'
    and (not s.keeps_rollups or flywheel._has_all(s.measures, analysis -> 'measures'))
  order by s.keeps_rollups desc, s.stream_id desc
  limit 1;
  if found and flywheel._has_all(v_stream.measures, analysis -> 'measures') then
    return v_stream;
  end if;
  v_measures := coalesce(v_stream.measures, '[]');
  if jsonb_array_length(v_measures) + jsonb_array_length(analysis -> 'measures') > 500 then
    v_measures := '[]';
  end if;
  v_measures := v_measures || coalesce(
    (
      select jsonb_agg(m.measure order by m.position)
      from jsonb_array_elements(analysis -> 'measures') with ordinality as m (measure, position)
      where not flywheel._has_all(v_measures, jsonb_build_array(m.measure))
    ),
    '[]'
  );
  insert into flywheel._metric_streams as s (fact, keys, condition, measures, state)
  values (analysis ->> 'fact', analysis -> 'keys', nullif(analysis -> 'condition', 'null'), v_measures, 'new')
  returning s.* into v_stream;
  perform flywheel._make_stream_expressions(v_stream);
  perform flywheel._make_stream_tables(v_stream);
  perform flywheel._compile_streams(v_stream.fact);
  return v_stream;
end
$$;

comment on function flywheel._stream_for(jsonb) is 'The stream for an analyzed query, made if need be.';

-- Makes the metric read its stream if that is ready, and its plain query otherwise.
create or replace function flywheel._make_incremental(metric flywheel._metrics)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_analysis constant jsonb := flywheel._analyze_metric(metric.bound_query);
  v_stream flywheel._metric_streams;
begin
  v_stream := flywheel._stream_for(v_analysis);
  perform flywheel._make_metric_view(metric.name, metric.bound_query);
  perform flywheel._make_plain_function(
    flywheel._plain_function(metric.metric_id), metric.name, metric.bound_query, flywheel._parallel_of(metric.name)
  );
  update flywheel._metrics as m
  set stream_id = v_stream.stream_id, is_built = v_stream.state = 'ready',
    refreshed_at = v_stream.filled_at, refresh_ms = v_stream.fill_ms, problem = null, problem_at = null
  where m.metric_id = metric.metric_id;
  if v_stream.state = 'ready' then
    perform flywheel._make_metric_view(metric.name, flywheel._incremental_query(v_stream, v_analysis, metric));
    return;
  end if;
  -- So that a query that cannot be read from its stream is refused now.
  perform flywheel._make_metric_view('_metric_check', flywheel._incremental_query(v_stream, v_analysis, metric));
  perform flywheel._plan_metric('_metric_check');
  perform flywheel._drop_metric_relation('_metric_check');
  perform flywheel._try_build_stream(v_stream, 100000);
exception when syntax_error_or_access_rule_violation or feature_not_supported or cardinality_violation or program_limit_exceeded or invalid_schema_name then
  perform flywheel._refuse_incremental(
    format('it could not be put together from what would be kept (%s)', sqlerrm), 'Write it more simply, or use storage => ''materialized''.'
  );
end
$$;

comment on function flywheel._make_incremental(flywheel._metrics) is 'Gives a metric its stream, and the view that reads it.';

-- Fills a new stream and has its metrics read it, and those of the streams that it replaces.
create or replace function flywheel._build_stream(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
begin
  perform flywheel._fill_stream(stream);
  for v_metric in
    select m.*
    from flywheel._metrics as m
    join flywheel._metric_streams as s on s.stream_id = m.stream_id
    where s.stream_id = stream.stream_id
      or s.fact = stream.fact and s.keys = stream.keys and s.condition is not distinct from stream.condition
        and not s.keeps_rollups and flywheel._has_all(stream.measures, s.measures)
    order by m.metric_id
  loop
    perform flywheel._make_incremental(v_metric);
  end loop;
  perform flywheel._retire_streams();
end
$$;

comment on function flywheel._build_stream(flywheel._metric_streams) is 'Fills a stream, and has metrics read it.';

-- A release may have other functions that emit, another view over a stream, or other streams.
create or replace function flywheel._recompile_metrics()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
begin
  perform flywheel._compile_streams(f.fact) from (select distinct f.fact from flywheel._facts() as f) as f order by f.fact;
  perform flywheel._index_stream(s) from flywheel._metric_streams as s;
  for v_metric in select m.* from flywheel._metrics as m where m.storage = 'incremental' order by m.metric_id loop
    begin
      perform flywheel._make_incremental(v_metric);
    exception when others then
      -- Of classes 40, 55 and 57: another session is in the way, or somebody has cancelled.
      if sqlstate ~ '^(40|55|57)' then
        raise;
      end if;
      update flywheel._metrics as m set problem = sqlerrm, problem_at = flywheel.now() where m.metric_id = v_metric.metric_id;
    end;
  end loop;
  perform flywheel._retire_streams();
end
$$;

comment on function flywheel._recompile_metrics() is
  'Writes the functions that emit and the views of incremental metrics anew; one that cannot be keeps its view, and says so.';

-- Both take the lock and do it, or neither.
create or replace function flywheel._try_build_stream(stream flywheel._metric_streams, max_rows double precision)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '500ms'
as $$
begin
  if not flywheel._lock_fact(stream.fact, max_rows) then
    return false;
  end if;
  perform flywheel._build_stream(stream);
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end
$$;

comment on function flywheel._try_build_stream(flywheel._metric_streams, double precision) is
  'Fills a new stream at once; false if that has to wait: the table is large, somebody writes for long, or reads a metric in an open transaction.';

create or replace function flywheel._try_drop_stream(stream flywheel._metric_streams)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '500ms'
as $$
begin
  if not (pg_try_advisory_xact_lock(flywheel._stream_lock(stream.stream_id)) and flywheel._lock_fact(stream.fact, 1e15)) then
    return false;
  end if;
  perform flywheel._drop_stream(stream);
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end
$$;

comment on function flywheel._try_drop_stream(flywheel._metric_streams) is 'Drops a retired stream at once; false if that has to wait.';

create or replace function flywheel._retire_streams()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_stream flywheel._metric_streams;
begin
  for v_stream in
    update flywheel._metric_streams as s
    set state = 'retired', writers = null
    where s.state <> 'retired' and not exists (select from flywheel._metrics as m where m.stream_id = s.stream_id)
    returning s.*
  loop
    perform flywheel._compile_streams(v_stream.fact);
    perform flywheel._try_drop_stream(v_stream);
  end loop;
end
$$;

comment on function flywheel._retire_streams() is 'Stops feeding the streams that no metric reads, and drops them, now or later.';

-- Writers are not stopped: what they add meanwhile stays in the deltas.
create or replace function flywheel._refill_stream(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if stream.state = 'ready' then
    perform flywheel._fill_stream(stream);
    update flywheel._metrics as m
    set refreshed_at = s.filled_at, refresh_ms = s.fill_ms, problem = null, problem_at = null
    from flywheel._metric_streams as s
    where s.stream_id = stream.stream_id and m.stream_id = s.stream_id;
  elsif not flywheel._try_build_stream(stream, 1e15) then
    raise exception 'the metric cannot be filled now: somebody has been writing to % for some time', stream.fact
      using errcode = '55P03', hint = 'It is read as a view meanwhile. fold_metrics() fills it when they have done.';
  end if;
end
$$;

comment on function flywheel._refill_stream(flywheel._metric_streams) is 'Computes a stream from the rows anew.';

-- Steps on the way of a stream that could not be taken at once. True if there was one to take.
create or replace function flywheel._advance_stream(stream flywheel._metric_streams)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_writers text[] := stream.writers;
begin
  if v_writers is null then
    v_writers := flywheel._writers_of(stream.fact);
  end if;
  -- Only those that were writing when the functions had been replaced matter.
  if v_writers && flywheel._writers_of(stream.fact) then
    update flywheel._metric_streams as s set writers = v_writers where s.stream_id = stream.stream_id;
    return false;
  end if;
  if stream.state = 'new' then
    perform flywheel._build_stream(stream);
  elsif pg_try_advisory_xact_lock(flywheel._stream_lock(stream.stream_id)) then
    perform flywheel._drop_stream(stream);
  else
    return false;
  end if;
  return true;
end
$$;

comment on function flywheel._advance_stream(flywheel._metric_streams) is 'Fills a new stream, or drops a retired one, once earlier writers have ended.';

-- Moves up to max_deltas deltas into the groups. Returns how many there were.
create or replace function flywheel._fold_stream(stream flywheel._metric_streams, max_deltas integer default 100000)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name constant text := '_stream_' || stream.stream_id;
  v_base constant text := flywheel._fact_table(stream.fact);
  v_keys constant text := (select k.names from flywheel._stream_keys(stream) as k);
  v_moved bigint;
  v_items bigint := 0;
  v_extreme record;
  v_is_dirty boolean;
begin
  execute format(
    $fold$
    with moved as (
      delete from flywheel.%1$I_deltas as d
      where d.ctid = any (array(select o.ctid from flywheel.%1$I_deltas as o limit %6$s))
      returning d.*
    ), summed as (
      insert into flywheel.%1$I as s (%2$s, %3$s)
      select %2$s, %4$s from moved group by %2$s
      on conflict (%7$s) do update set %5$s
    )
    select count(*) from moved$fold$,
    v_name, v_keys, flywheel._stream_columns(stream),
    (
      select string_agg(c.summed, ', ' order by c.position)
      from flywheel._fold_columns(stream) as c
    ),
    (
      select string_agg(c.added, ', ' order by c.position)
      from flywheel._fold_columns(stream) as c
    ),
    max_deltas, flywheel._stream_index_keys(stream)
  ) into v_moved;
  if to_regclass(format('flywheel.%I', v_name || '_item_deltas')) is not null then
    execute format(
      $fold$
      with moved as (
        delete from flywheel.%1$I_item_deltas as d
        where d.ctid = any (array(select o.ctid from flywheel.%1$I_item_deltas as o limit %3$s))
        returning d.*
      ), summed as (
        insert into flywheel.%1$I_items as s (%2$s, item, bucket, n)
        select %2$s, item, bucket, sum(n) from moved group by %2$s, item, bucket
        on conflict (%4$s, item, bucket) do update set n = s.n + excluded.n
      )
      select count(*) from moved$fold$,
      v_name, v_keys, max_deltas, flywheel._stream_index_keys(stream)
    ) into v_items;
  end if;
  if v_moved + v_items = 0 then
    return 0;
  end if;
  -- Without waiting for who changes the stream at this moment, and may wait for this fold to end.
  with free as (
    select f.stream_id from flywheel._metric_streams as f where f.stream_id = stream.stream_id for no key update skip locked
  )
  update flywheel._metric_streams as s set folded_at = flywheel.now() from free as f where s.stream_id = f.stream_id;
  -- With deltas left behind, a group may seem empty that is not, and an extreme settled.
  if greatest(v_moved, v_items) >= max_deltas then
    return v_moved + v_items;
  end if;

  -- Extremes in doubt are looked up. This may see rows whose deltas are still to come: being counted
  -- twice does not change a maximum. Where rows were removed that still count, they stay as they are.
  for v_extreme in select e.* from flywheel._stream_extremes(stream, stream.measures) as e loop
    execute format(
      'update flywheel.%1$I as s set %2$s = null where s.%2$s is not null and not coalesce(s.%2$s %3$s s.%4$s, true)',
      v_name, v_extreme.removed, v_extreme.comparison, v_extreme.kept
    );
    execute format('select exists (select from flywheel.%1$I as s where s.%2$s is not null and s.w > 0)', v_name, v_extreme.removed)
    into v_is_dirty;
    if v_is_dirty then
      execute format(
        'update flywheel.%1$I as s set %2$s = x.%2$s, %3$s = null from (%4$s) as x where s.%3$s is not null and (%5$s) '
        'and not (select r.keeps_rollups from flywheel._metric_streams as r where r.stream_id = %6$s)',
        v_name, v_extreme.kept, v_extreme.removed,
        flywheel._stream_query(stream, 'inserted', 'flywheel.' || v_base),
        (select string_agg(format('s.%1$s is not distinct from x.%1$s', btrim(k)), ' and ') from unnest(string_to_array(v_keys, ',')) as k),
        stream.stream_id
      );
    end if;
  end loop;
  execute format('delete from flywheel.%I as s where s.w = 0', v_name);
  if v_items > 0 then
    execute format('delete from flywheel.%I as s where s.n = 0', v_name || '_items');
  end if;
  return v_moved + v_items;
end
$$;

comment on function flywheel._fold_stream(flywheel._metric_streams, integer) is 'Moves deltas of a stream into its groups; returns how many.';

create or replace function flywheel._fold_columns(stream flywheel._metric_streams)
returns table (summed text, added text, "position" bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select 'sum(w)', 'w = s.w + excluded.w', 0
  union all
  select
    case when m.measure ->> 'kind' like '%min' then 'min' when m.measure ->> 'kind' like '%max' then 'max' else 'sum' end
      || format('(%s)', c.name),
    case
      when m.measure ->> 'kind' like '%min' then format('%1$s = least(s.%1$s, excluded.%1$s)', c.name)
      when m.measure ->> 'kind' like '%max' then format('%1$s = greatest(s.%1$s, excluded.%1$s)', c.name)
      else format('%1$s = case when s.%1$s is null then excluded.%1$s when excluded.%1$s is null then s.%1$s else s.%1$s + excluded.%1$s end', c.name)
    end,
    m.position
  from jsonb_array_elements(stream.measures) with ordinality as m (measure, position),
    lateral flywheel._measure_column(m.position) as c (name)
  where not flywheel._is_item(m.measure);
$$;

comment on function flywheel._fold_columns(flywheel._metric_streams) is 'How each column of a stream is folded.';

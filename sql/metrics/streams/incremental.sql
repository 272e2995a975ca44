-- Incremental metrics: which stream each reads, and how.

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
  select s.* into v_stream
  from flywheel._metric_streams as s
  where s.fact = analysis ->> 'fact' and s.keys = analysis -> 'keys'
    and coalesce(s.condition, 'null') = coalesce(analysis -> 'condition', 'null')
    and s.state <> 'retired'
  order by s.stream_id desc
  limit 1;
  if found and v_stream.measures @> (analysis -> 'measures') then
    return v_stream;
  end if;
  v_measures := coalesce(v_stream.measures, '[]');
  v_measures := v_measures || coalesce(
    (
      select jsonb_agg(m.measure order by m.position)
      from jsonb_array_elements(analysis -> 'measures') with ordinality as m (measure, position)
      where not v_measures @> jsonb_build_array(m.measure)
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

create or replace function flywheel._plain_function(metric_id integer)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format('_metric_%s_plain', metric_id);
$$;

comment on function flywheel._plain_function(integer) is 'Name of the function that computes an incremental metric from the rows.';

-- A function that is unsafe would keep every query that reads the metric from being parallel. What views
-- call is not seen here; those of the facts call nothing that is.
create or replace function flywheel._parallel_of(view_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case
    when exists (
      select
      from flywheel._tree_functions(flywheel._view_tree(view_name)) as f (oid)
      join pg_proc as p on p.oid = f.oid
      where p.proparallel = 'u'
    ) or exists (
      select
      from regexp_matches(flywheel._view_tree(view_name), ':relid (\d+)', 'g') as m
      join pg_class as c on c.oid = m[1]::oid
      where c.relkind not in ('r', 'p', 'm')
        and not (
          c.relnamespace = 'flywheel'::regnamespace
          and (c.relname in (view_name, 'verdicts', 'current_labels') or c.relname like '\_%')
        )
    ) then 'parallel unsafe'
    else 'parallel restricted'
  end;
$$;

comment on function flywheel._parallel_of(text) is 'Whether the query of a view may run in the leader of a parallel plan, or must not.';

-- As a function, because what is hardly ever read must not be planned, let alone compiled, with every
-- read; nor does the planner expect rows of it. metric_name: the view, which computes the query at this moment, too.
create or replace function flywheel._make_plain_function(function_name text, metric_name text, query text, parallel text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  execute format(
    'create or replace function flywheel.%I() returns table (%s) language sql stable security definer rows 1 %s '
    'set search_path = pg_catalog, pg_temp set standard_conforming_strings = on begin atomic %s; end',
    function_name,
    (
      select string_agg(format('%I %s', a.attname, format_type(a.atttypid, null)), ', ' order by a.attnum)
      from pg_attribute as a
      where a.attrelid = to_regclass(format('flywheel.%I', metric_name)) and a.attnum > 0
    ),
    parallel, query
  );
  execute format('revoke all on function flywheel.%I() from public', function_name);
  execute format('grant execute on function flywheel.%I() to flywheel_reader, flywheel_labeler', function_name);
  execute format('comment on function flywheel.%I() is %L', function_name, 'An incremental metric, computed from the rows.');
end
$$;

comment on function flywheel._make_plain_function(text, text, text, text) is 'Makes the function that computes an incremental metric from the rows.';

-- The query of a metric, reading the stream instead of the rows; and the rows themselves, by
-- _metric_N_plain(), where the stream cannot tell.
create or replace function flywheel._incremental_query(stream flywheel._metric_streams, analysis jsonb, metric flywheel._metrics)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name constant text := '_stream_' || stream.stream_id;
  v_keys constant text := (select k.names from flywheel._stream_keys(stream) as k);
  v_reading text := analysis ->> 'reading';
  v_columns text := 'w';
  v_empty text := 'null::bigint';
  v_has_items boolean := false;
  v_source text;
  v_measure record;
begin
  for v_measure in
    select m.position as number, s.position, m.measure, flywheel._is_item(m.measure) as is_item,
      flywheel._measure_column(s.position) as name
    from jsonb_array_elements(analysis -> 'measures') with ordinality as m (measure, position)
    join jsonb_array_elements(stream.measures) with ordinality as s (measure, position) on s.measure = m.measure
    order by m.position
  loop
    if v_measure.is_item then
      v_reading := replace(v_reading, E'\x01' || v_measure.number || E'\x02', v_measure.position::text);
      v_has_items := true;
    else
      v_reading := replace(v_reading, E'\x01' || v_measure.number || E'\x02', 's.' || v_measure.name);
      v_columns := v_columns || ', ' || v_measure.name;
      v_empty := v_empty || ', null';
    end if;
  end loop;
  v_source := format('SELECT %1$s, %2$s%4$s FROM flywheel.%3$I UNION ALL SELECT %1$s, %2$s%4$s FROM flywheel.%3$I_deltas', v_keys, v_columns, v_name, case when v_has_items then ', null::smallint AS item, null::integer AS bucket, null::bigint AS n' end);
  if v_has_items then
    v_source := v_source || format(
      ' UNION ALL SELECT %1$s, %2$s, item, bucket, n FROM flywheel.%3$I_items UNION ALL SELECT %1$s, %2$s, item, bucket, n FROM flywheel.%3$I_item_deltas',
      v_keys, v_empty, v_name
    );
  end if;
  v_reading := (analysis ->> 'before') || ' ' || replace(v_reading, E'\x03', v_source) || ' ' || rtrim(analysis ->> 'after', '; ');
  return format(
    E'SELECT * FROM (%1$s) AS i WHERE NOT (%2$s)\nUNION ALL\nSELECT %4$s FROM flywheel.%3$I() AS p WHERE (%2$s)',
    v_reading, flywheel._stream_doubt(stream, analysis -> 'measures'), flywheel._plain_function(metric.metric_id),
    -- What a function returns has neither a type's modifier nor another collation than the type's.
    (
      select string_agg(
        format('p.%I', c.attname) || case when c.atttypmod >= 0 then '::' || format_type(c.atttypid, c.atttypmod) else '' end
          || case when c.attcollation <> t.typcollation then ' COLLATE ' || c.attcollation::regcollation else '' end,
        ', ' order by c.attnum
      )
      from pg_attribute as c
      join pg_type as t on t.oid = c.atttypid
      where c.attrelid = to_regclass(format('flywheel.%I', metric.name)) and c.attnum > 0
    )
  );
end
$$;

comment on function flywheel._incremental_query(flywheel._metric_streams, jsonb, flywheel._metrics) is 'The query of an incremental metric as its view has it.';

-- Whether the stream cannot tell. A transaction whose snapshot is older than the filling does not see
-- what the stream was filled with; nor does it see that it is ready. And a minimum that was removed may
-- have had an equal, or not: until the next fold the rows tell. That looks at the groups only if
-- anything was removed at all.
create or replace function flywheel._stream_doubt(stream flywheel._metric_streams, measures jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    'SELECT CASE WHEN NOT EXISTS (SELECT FROM flywheel._metric_streams AS r WHERE r.stream_id = %s AND r.state = ''ready'') THEN true%s ELSE false END',
    stream.stream_id,
    (
      select format(
        ' WHEN EXISTS (SELECT FROM flywheel.%1$I_deltas WHERE %2$s) OR EXISTS (SELECT FROM flywheel.%1$I WHERE %2$s) '
        'THEN EXISTS (SELECT FROM (SELECT %3$s, w, %4$s FROM flywheel.%1$I UNION ALL SELECT %3$s, w, %4$s FROM flywheel.%1$I_deltas) AS s GROUP BY %3$s HAVING %5$s)',
        '_stream_' || stream.stream_id,
        string_agg(format('%s IS NOT NULL', e.removed), ' OR ' order by e.position),
        (select k.names from flywheel._stream_keys(stream) as k),
        string_agg(e.kept || ', ' || e.removed, ', ' order by e.position),
        string_agg(format('coalesce(%1$s(%2$s) %3$s %1$s(%4$s), %1$s(%2$s) IS NOT NULL)', e.kind, e.removed, e.comparison, e.kept), ' OR ' order by e.position)
      )
      from flywheel._stream_extremes(stream, measures) as e
      having count(*) > 0
    )
  );
$$;

comment on function flywheel._stream_doubt(flywheel._metric_streams, jsonb) is
  'A query that tells whether a metric has to be computed from the rows, for this snapshot or until the next fold.';

create or replace function flywheel._stream_extremes(stream flywheel._metric_streams, measures jsonb)
returns table (kind text, comparison text, kept text, removed text, measure jsonb, "position" bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select m.measure ->> 'kind',
    case m.measure ->> 'kind' when 'max' then '>=' else '<=' end,
    flywheel._measure_column(m.position),
    flywheel._measure_column(r.position),
    m.measure,
    m.position
  from jsonb_array_elements(stream.measures) with ordinality as m (measure, position)
  join jsonb_array_elements(stream.measures) with ordinality as r (measure, position)
    on r.measure = m.measure || jsonb_build_object('kind', 'r' || (m.measure ->> 'kind'))
  where m.measure ->> 'kind' in ('min', 'max')
    and measures @> jsonb_build_array(m.measure);
$$;

comment on function flywheel._stream_extremes(flywheel._metric_streams, jsonb) is 'The minima and maxima among measures: the column of each and of what was removed.';

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
  v_stream flywheel._metric_streams := flywheel._stream_for(v_analysis);
begin
  perform flywheel._make_metric_view(metric.name, metric.bound_query);
  perform flywheel._make_plain_function(
    flywheel._plain_function(metric.metric_id), metric.name, metric.bound_query, flywheel._parallel_of(metric.name)
  );
  update flywheel._metrics as m
  set stream_id = v_stream.stream_id, is_built = v_stream.state = 'ready',
    refreshed_at = v_stream.filled_at, refresh_ms = v_stream.fill_ms
  where m.metric_id = metric.metric_id;
  if v_stream.state = 'ready' then
    perform flywheel._make_metric_view(metric.name, flywheel._incremental_query(v_stream, v_analysis, metric));
    return;
  end if;
  -- So that a query that cannot be read from its stream is refused now.
  perform flywheel._make_metric_view('_metric_check', flywheel._incremental_query(v_stream, v_analysis, metric));
  perform flywheel._plan_metric('_metric_check');
  perform flywheel._drop_metric_relation('_metric_check');
  if flywheel._try_lock_fact(v_stream.fact, 100000) then
    perform flywheel._build_stream(v_stream);
  end if;
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
        and stream.measures @> s.measures
    order by m.metric_id
  loop
    perform flywheel._make_incremental(v_metric);
  end loop;
  perform flywheel._retire_streams();
end
$$;

comment on function flywheel._build_stream(flywheel._metric_streams) is 'Fills a stream, and has metrics read it.';

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
    if flywheel._try_lock_fact(v_stream.fact, 1e15) then
      perform flywheel._drop_stream(v_stream);
    end if;
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
  elsif flywheel._try_lock_fact(stream.fact, 1e15) then
    perform flywheel._build_stream(stream);
  else
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
  else
    perform flywheel._drop_stream(stream);
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
  v_base constant text := (select f.base from flywheel._facts() as f where f.name = stream.fact);
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
      on conflict (%2$s) do update set %5$s
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
    max_deltas
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
        on conflict (%2$s, item, bucket) do update set n = s.n + excluded.n
      )
      select count(*) from moved$fold$,
      v_name, v_keys, max_deltas
    ) into v_items;
  end if;
  if v_moved + v_items = 0 then
    return 0;
  end if;

  -- Extremes in doubt are looked up. This may see rows whose deltas are still to come: being counted
  -- twice does not change a maximum.
  for v_extreme in select e.* from flywheel._stream_extremes(stream, stream.measures) as e loop
    execute format(
      'update flywheel.%1$I as s set %2$s = null where s.%2$s is not null and not coalesce(s.%2$s %3$s s.%4$s, true)',
      v_name, v_extreme.removed, v_extreme.comparison, v_extreme.kept
    );
    execute format('select exists (select from flywheel.%1$I as s where s.%2$s is not null and s.w > 0)', v_name, v_extreme.removed)
    into v_is_dirty;
    if v_is_dirty then
      execute format(
        'update flywheel.%1$I as s set %2$s = x.%2$s, %3$s = null from (%4$s) as x where s.%3$s is not null and (%5$s)',
        v_name, v_extreme.kept, v_extreme.removed,
        flywheel._stream_query(stream, 'inserted', 'flywheel.' || v_base),
        (select string_agg(format('s.%1$s is not distinct from x.%1$s', btrim(k)), ' and ') from unnest(string_to_array(v_keys, ',')) as k)
      );
    end if;
  end loop;
  execute format('delete from flywheel.%I as s where s.w = 0', v_name);
  if v_items > 0 then
    execute format('delete from flywheel.%I as s where s.n = 0', v_name || '_items');
  end if;
  update flywheel._metric_streams as s set folded_at = flywheel.now() where s.stream_id = stream.stream_id;
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

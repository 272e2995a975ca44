-- How the view of an incremental metric reads its stream, and when it computes the metric from the rows.

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
  -- What is kept, or a function returns, has neither a type's modifier nor another collation than the type's.
  v_list constant text := (
    select string_agg(
      format(E'\x03.%I', c.attname) || case when c.atttypmod >= 0 then '::' || format_type(c.atttypid, c.atttypmod) else '' end
        || case when c.attcollation <> t.typcollation then ' COLLATE ' || c.attcollation::regcollation else '' end,
      ', ' order by c.attnum
    )
    from pg_attribute as c
    join pg_type as t on t.oid = c.atttypid
    where c.attrelid = to_regclass(format('flywheel.%I', metric.name)) and c.attnum > 0
  );
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
    E'SELECT %4$s FROM (%1$s) AS i WHERE NOT (%2$s)\nUNION ALL\nSELECT %5$s FROM flywheel.%3$I() AS p WHERE (%2$s)',
    v_reading, flywheel._stream_doubt(stream, analysis -> 'measures'), flywheel._plain_function(metric.metric_id),
    replace(v_list, E'\x03', 'i'), replace(v_list, E'\x03', 'p')
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
        ' WHEN NOT (SELECT r.keeps_rollups FROM flywheel._metric_streams AS r WHERE r.stream_id = %6$s) '
        'AND (EXISTS (SELECT FROM flywheel.%1$I_deltas WHERE %2$s) OR EXISTS (SELECT FROM flywheel.%1$I WHERE %2$s)) '
        'THEN EXISTS (SELECT FROM (SELECT %3$s, w, %4$s FROM flywheel.%1$I UNION ALL SELECT %3$s, w, %4$s FROM flywheel.%1$I_deltas) AS s GROUP BY %3$s HAVING %5$s)',
        '_stream_' || stream.stream_id,
        string_agg(format('%s IS NOT NULL', e.removed), ' OR ' order by e.position),
        (select k.names from flywheel._stream_keys(stream) as k),
        string_agg(e.kept || ', ' || e.removed, ', ' order by e.position),
        string_agg(format('coalesce(%1$s(%2$s) %3$s %1$s(%4$s), %1$s(%2$s) IS NOT NULL)', e.kind, e.removed, e.comparison, e.kept), ' OR ' order by e.position),
        stream.stream_id
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
    and flywheel._has_all(measures, jsonb_build_array(m.measure));
$$;

comment on function flywheel._stream_extremes(flywheel._metric_streams, jsonb) is 'The minima and maxima among measures: the column of each and of what was removed.';

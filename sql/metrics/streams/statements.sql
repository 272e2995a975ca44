-- A stream keeps, for one fact, one condition and one list of group keys, the measures that the
-- metrics reading it need.
--
--   _stream_N          a row per group: what has been folded
--   _stream_N_deltas   a row per group and statement: what was added (w > 0) and taken away since
--   _stream_N_items, _stream_N_item_deltas   the same for the buckets of sketches
--
-- A statement that changes the fact appends deltas, in its own transaction: no two writers ever touch
-- the same row. A metric reads both, added up, so it is exact at every commit, however much has been
-- folded. Folding moves deltas into the groups, in one statement, by one session at a time.

create or replace function flywheel._measure_column(number bigint)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select 'm' || number;
$$;

comment on function flywheel._measure_column(bigint) is 'The column a stream keeps a measure in.';

create or replace function flywheel._is_item(measure jsonb)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select measure ->> 'kind' in ('histogram', 'registers');
$$;

comment on function flywheel._is_item(jsonb) is 'Whether a measure is the buckets of a sketch.';

-- Floats that are summed become decimals that can be taken away again, exactly. That takes longer than
-- most expressions, so it is done once for each row: number N is x.dN.
create or replace function flywheel._stream_decimals(stream flywheel._metric_streams)
returns table (expression jsonb, number bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select m.measure -> 'arg', row_number() over (order by min(m.position))
  from jsonb_array_elements(stream.measures) with ordinality as m (measure, position)
  where m.measure ->> 'kind' in ('sum', 'sumsq')
    and flywheel._stream_type(stream, m.measure -> 'arg') in ('real', 'double precision')
  group by m.measure -> 'arg';
$$;

comment on function flywheel._stream_decimals(flywheel._metric_streams) is 'The floats that a stream sums.';

-- The measure of some rows, as SQL; that of one, if they are not grouped. event: inserted, deleted, or
-- updated, where n.sign says which rows came and which went. Null for the buckets of sketches.
create or replace function flywheel._measure_text(
  stream flywheel._metric_streams, measure jsonb, event text, is_grouped boolean default true
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_kind constant text := measure ->> 'kind';
  v_call constant text := flywheel._stream_call(stream, measure -> 'arg');
  v_type constant text := flywheel._stream_type(stream, measure -> 'arg');
  v_filter constant text := flywheel._stream_call(stream, measure -> 'filter');
  v_is_special constant boolean := v_type in ('real', 'double precision', 'numeric');
  -- What a row counts for.
  v_one constant text := case event when 'inserted' then '1' when 'deleted' then '''-1''::pg_catalog.int4' else 'n.sign' end;
  v_conditions text[] := array_remove(array[v_filter], null);
  v_value text;
  v_aggregate text := 'sum';
  v_cast text := '';
begin
  v_value := case
    -- So that it has a negative.
    when v_type in ('smallint', 'integer') and event <> 'inserted' then format('(%s)::pg_catalog.int8', v_call)
    when v_type = 'bigint' then format('(%s)::pg_catalog.numeric', v_call)
    else format('(%s)', v_call)
  end;
  case v_kind
    when 'rows', 'count' then
      if v_kind = 'count' then
        v_conditions := v_conditions || format('%s is not null', v_call);
      end if;
      v_value := v_one;
    when 'true' then
      v_conditions := v_conditions || v_call;
      v_value := v_one;
    when 'nan', 'infinity', '-infinity' then
      v_conditions := v_conditions || case
        when v_kind = 'nan' and v_type = 'numeric' then format(
          '(%1$s operator(pg_catalog.=) ''NaN'' or pg_catalog.abs(%1$s) operator(pg_catalog.>) ''1e60000'' and %1$s operator(pg_catalog.<>) all (''{Infinity,-Infinity}''))', v_call
        )
        else format('%s operator(pg_catalog.=) %L', v_call, v_kind)
      end;
      v_value := v_one;
    when 'sum', 'sumsq' then
      if v_is_special then
        v_conditions := v_conditions || format('%s operator(pg_catalog.<>) all (''{NaN,Infinity,-Infinity}'')', v_call);
      end if;
      -- What could not be squared and added up, in somebody's INSERT: numbers so large are counted as
      -- no numbers, and such times are left out.
      if v_type = 'numeric' then
        v_conditions := v_conditions || format('pg_catalog.abs(%s) operator(pg_catalog.<=) ''1e60000''', v_call);
      elsif v_type = 'interval' then
        v_conditions := v_conditions || format(
          '%1$s operator(pg_catalog.<) ''1000 years'' and %1$s operator(pg_catalog.>) ''-1000 years''', v_call
        );
      end if;
      v_value := coalesce(
        (select 'x.d' || d.number from flywheel._stream_decimals(stream) as d where d.expression = measure -> 'arg'), v_value
      );
      if v_kind = 'sumsq' then
        v_value := format('%1$s::pg_catalog.numeric operator(pg_catalog.*) %1$s::pg_catalog.numeric', v_value);
      end if;
      v_value := case
        when event = 'inserted' then v_value
        when event = 'deleted' then format('operator(pg_catalog.-) (%s)', v_value)
        when v_type = 'interval' then format('%s operator(pg_catalog.*) n.sign::pg_catalog.float8', v_value)
        else format('(%s) operator(pg_catalog.*) n.sign', v_value)
      end;
      v_cast := case
        when v_type = 'interval' then ''
        when v_kind = 'sum' and v_type in ('smallint', 'integer') then '::pg_catalog.int8'
        else '::pg_catalog.numeric'
      end;
    when 'min', 'max', 'rmin', 'rmax' then
      v_aggregate := right(v_kind, 3);
      v_value := v_call;
      -- Numbers that are no numbers are extremes like others, so only the sign matters.
      if event = 'updated' then
        v_conditions := v_conditions || format('n.sign operator(pg_catalog.%s) 0', case when v_kind like 'r%' then '<' else '>' end);
      elsif (event = 'deleted') <> (v_kind like 'r%') then
        -- By its own name: "character" would be one of one letter, and an unqualified name anybody's.
        return (
          select format('null::%I.%I', n.nspname, t.typname)
          from pg_type as t
          join pg_namespace as n on n.oid = t.typnamespace
          where t.oid = v_type::regtype
        );
      end if;
    else
      return null;
  end case;
  if not is_grouped then
    return format(
      case when v_conditions <> '{}' then 'case when %2$s then (%1$s)%3$s end' else '(%1$s)%3$s' end,
      v_value, array_to_string(v_conditions, ' and '), v_cast
    );
  end if;
  return format(
    'pg_catalog.%s(%s)%s%s', v_aggregate, v_value,
    case when v_conditions <> '{}' then format(' filter (where %s)', array_to_string(v_conditions, ' and ')) end,
    v_cast
  );
end
$$;

comment on function flywheel._measure_text(flywheel._metric_streams, jsonb, text, boolean) is 'A measure of the rows of a change, as SQL.';

-- The rows of a change and what has to be looked up for them. source: where the rows of the fact are.
create or replace function flywheel._stream_rows(
  stream flywheel._metric_streams, event text, source text default null, with_decimals boolean default false
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_columns constant text[] := array(
    select distinct c.name
    from (
      select jsonb_array_elements(stream.keys) union all select stream.condition
      union all select m -> 'arg' from jsonb_array_elements(stream.measures) as m
      union all select m -> 'filter' from jsonb_array_elements(stream.measures) as m
    ) as e (expression),
      unnest(flywheel._bound_columns(flywheel._json_tokens(case jsonb_typeof(e.expression) when 'array' then e.expression else '[]' end))) as c (name)
    order by c.name
  );
  v_lookups constant text[] := array(
    select distinct c.lookup from flywheel._fact_columns(stream.fact) as c where c.name = any (v_columns) and c.lookup is not null
  );
  -- The columns of the table itself that these come from.
  v_stored text := (
    select string_agg(distinct c.name, ', ' order by c.name)
    from (
      select format('n.%I', a.attname) as name
      from pg_attribute as a
      where a.attrelid = to_regclass(format('flywheel.%I', flywheel._fact_table(stream.fact)))
        and a.attnum > 0 and not a.attisdropped
        and (
          a.attname = any (v_columns)
          or stream.fact = 'verdicts' and (
            a.attname = 'status' and 'passed' = any (v_columns)
            or a.attname = 'version_id' and 'version' = any (v_lookups)
            or a.attname = 'dimension_id' and 'dimension' = any (v_lookups)
          )
          or stream.fact = 'current_labels' and a.attname in ('trace_id', 'label_id')
        )
    ) as c
  );
  -- Of these types values can be equal and not the same: 1.0 and 1.00.
  v_printed constant text := coalesce(
    (
      select string_agg(format(', n.%I::pg_catalog.text', a.attname), '' order by a.attname)
      from pg_attribute as a
      where a.attrelid = to_regclass(format('flywheel.%I', flywheel._fact_table(stream.fact))) and a.attnum > 0
        and a.atttypid = any ('{jsonb,numeric,float4,float8}'::regtype[])
        and strpos(', ' || v_stored || ',', format(', n.%I,', a.attname)) > 0
    ),
    ''
  );
begin
  return case event
    when 'inserted' then format('%s as n', coalesce(source, 'new_rows'))
    when 'deleted' then 'old_rows as n'
    -- What has not changed in any column that counts cancels out.
    else format(
      $rows$(
      select %1$s, pg_catalog.sum(n.sign) as sign
      from (
        select %2$s '-1'::pg_catalog.int4 as sign from old_rows as n
        union all
        select %2$s 1 from new_rows as n
      ) as n
      %3$s
      having pg_catalog.sum(n.sign) operator(pg_catalog.<>) 0
    ) as n$rows$,
      coalesce(v_stored, '1 as one'), v_stored || ',', 'group by ' || v_stored || v_printed
    )
  end
  || case when stream.fact = 'current_labels' then E'\n    join flywheel._labels as l on l.trace_id operator(pg_catalog.=) n.trace_id and l.label_id operator(pg_catalog.=) n.label_id' else '' end
  || case when 'version' = any (v_lookups) then E'\n    left join flywheel._validator_versions as r on r.version_id operator(pg_catalog.=) '
    || (select c.expression from flywheel._fact_columns(stream.fact) as c where c.name = 'version_id')
    || E'\n    left join flywheel._validators as d on d.validator_id operator(pg_catalog.=) r.validator_id' else '' end
  || case when 'dimension' = any (v_lookups) then $rows$
    left join lateral (
      select d.* from flywheel._dimensions as d where d.dimension_id operator(pg_catalog.=) n.dimension_id limit 1
    ) as k on true$rows$ else '' end
  -- OFFSET 0 has it computed here, and not wherever it is named.
  || case when with_decimals then (
    select coalesce(
      E'\n    cross join lateral (select '
      || string_agg(format('(%s)::pg_catalog.float8::pg_catalog.numeric as d%s', flywheel._stream_call(stream, d.expression), d.number), ', ' order by d.number)
      || ' offset 0) as x',
      ''
    )
    from flywheel._stream_decimals(stream) as d
  ) else '' end
  || coalesce(E'\n    where ' || flywheel._stream_call(stream, stream.condition), '');
end
$$;

comment on function flywheel._stream_rows(flywheel._metric_streams, text, text, boolean) is
  'FROM and WHERE of the statements that add a change to a stream.';

-- "k1, k2": the keys; "expression as k1, ...": where they come from. A stream without keys has one group.
create or replace function flywheel._stream_keys(stream flywheel._metric_streams)
returns table (names text, expressions text, numbers text)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(string_agg('k' || k.position, ', ' order by k.position), 'k0'),
    coalesce(string_agg(format('%s as k%s', flywheel._stream_call(stream, k.tokens), k.position), ', ' order by k.position), '0 as k0'),
    coalesce(string_agg(k.position::text, ', ' order by k.position), '1')
  from jsonb_array_elements(stream.keys) with ordinality as k (tokens, position);
$$;

comment on function flywheel._stream_keys(flywheel._metric_streams) is 'The group keys of a stream, for the statements that fill it.';

-- select k1, ..., w, m1, ... from the rows of a change.
create or replace function flywheel._stream_query(
  stream flywheel._metric_streams, event text, source text default null, is_grouped boolean default true
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    E'select %s, %s as w%s\n    from %s%s',
    k.expressions,
    case
      when not is_grouped then case event when 'inserted' then '1' else '''-1''::pg_catalog.int8' end
      when event = 'inserted' then 'pg_catalog.count(*)'
      when event = 'deleted' then 'operator(pg_catalog.-) pg_catalog.count(*)'
      else 'pg_catalog.sum(n.sign)::pg_catalog.int8'
    end,
    (
      select string_agg(
        format(E',\n      %s as %s', flywheel._measure_text(stream, m.measure, event, is_grouped), flywheel._measure_column(m.position)),
        '' order by m.position
      )
      from jsonb_array_elements(stream.measures) with ordinality as m (measure, position)
      where not flywheel._is_item(m.measure)
    ),
    flywheel._stream_rows(stream, event, source, with_decimals => true),
    case when is_grouped then E'\n    group by ' || k.numbers end
  )
  from flywheel._stream_keys(stream) as k;
$$;

comment on function flywheel._stream_query(flywheel._metric_streams, text, text, boolean) is 'What a change adds to the groups of a stream.';

-- The same for the buckets of sketches; null if there are none.
create or replace function flywheel._stream_item_query(stream flywheel._metric_streams, event text, source text default null)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select string_agg(
    format(
      E'select %1$s, %2$s::pg_catalog.int2 as item, flywheel._%3$s_bucket(%4$s) as bucket, %5$s as n\n    from %6$s%7$s\n    group by %8$s, %9$s',
      k.expressions,
      m.position,
      case m.measure ->> 'kind' when 'histogram' then 'quantile' else 'distinct' end,
      flywheel._stream_call(stream, m.measure -> 'arg')
        || case m.measure ->> 'kind' when 'histogram' then '::pg_catalog.float8' else '' end,
      case event when 'inserted' then 'pg_catalog.count(*)' when 'deleted' then 'operator(pg_catalog.-) pg_catalog.count(*)' else 'pg_catalog.sum(n.sign)::pg_catalog.int8' end,
      flywheel._stream_rows(stream, event, source),
      case when stream.condition is null then E'\n    where ' else ' and ' end
        || flywheel._stream_call(stream, m.measure -> 'arg') || ' is not null'
        || coalesce(' and ' || flywheel._stream_call(stream, m.measure -> 'filter'), ''),
      k.numbers,
      (select count(*) + 3 from regexp_matches(k.numbers, ',', 'g'))
    ),
    E'\n    union all\n    ' order by m.position
  )
  from flywheel._stream_keys(stream) as k,
    jsonb_array_elements(stream.measures) with ordinality as m (measure, position)
  where flywheel._is_item(m.measure);
$$;

comment on function flywheel._stream_item_query(flywheel._metric_streams, text, text) is 'What a change adds to the sketches of a stream.';

-- Every column of the stream's row, without the keys: "w, m1, m2".
create or replace function flywheel._stream_columns(stream flywheel._metric_streams)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select 'w' || coalesce(string_agg(', ' || flywheel._measure_column(m.position), '' order by m.position), '')
  from jsonb_array_elements(stream.measures) with ordinality as m (measure, position)
  where not flywheel._is_item(m.measure);
$$;

comment on function flywheel._stream_columns(flywheel._metric_streams) is 'The columns of a stream that are no keys.';

-- The expressions of a stream that are more than a column, each once: number N is _stream_N_eN.
create or replace function flywheel._stream_expressions(stream flywheel._metric_streams)
returns table (tokens text[], number bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._json_tokens(e.expression), row_number() over (order by min(e.position))
  from (
    select k.tokens as expression, k.position from jsonb_array_elements(stream.keys) with ordinality as k (tokens, position)
    union all
    select stream.condition, 1000
    union all
    select e.expression, 2000 + m.position
    from jsonb_array_elements(stream.measures) with ordinality as m (measure, position),
      lateral (values (m.measure -> 'arg'), (m.measure -> 'filter')) as e (expression)
  ) as e
  where jsonb_typeof(e.expression) = 'array' and not (jsonb_array_length(e.expression) = 1 and e.expression ->> 0 like '{%}')
  group by e.expression;
$$;

comment on function flywheel._stream_expressions(flywheel._metric_streams) is 'The expressions a stream has functions for.';

-- An expression as it is evaluated over a row n of the fact's table (and the label l that it names):
-- every name in it is qualified.
create or replace function flywheel._stream_call(stream flywheel._metric_streams, expression jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case
    when jsonb_array_length(expression) = 1 and expression ->> 0 like '{%}' then (
      select c.expression from flywheel._fact_columns(stream.fact) as c where _stream_call.expression ->> 0 = '{' || c.name || '}'
    )
    else format(
      'flywheel._stream_%s_e%s(%s)', stream.stream_id,
      (select e.number from flywheel._stream_expressions(stream) as e where to_jsonb(e.tokens) = _stream_call.expression),
      (
        select string_agg(c.expression, ', ' order by c.name)
        from flywheel._fact_columns(stream.fact) as c
        where c.name = any (flywheel._bound_columns(flywheel._json_tokens(_stream_call.expression)))
      )
    )
  end
  where jsonb_typeof(expression) = 'array';
$$;

comment on function flywheel._stream_call(flywheel._metric_streams, jsonb) is 'An expression of a stream as SQL over a row of its fact.';

create or replace function flywheel._stream_type(stream flywheel._metric_streams, expression jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case
    when jsonb_array_length(expression) = 1 and expression ->> 0 like '{%}' then (
      select c.type from flywheel._fact_columns(stream.fact) as c where _stream_type.expression ->> 0 = '{' || c.name || '}'
    )
    else (
      select format_type(p.prorettype, null)
      from flywheel._stream_expressions(stream) as e
      join pg_proc as p on p.proname = format('_stream_%s_e%s', stream.stream_id, e.number) and p.pronamespace = 'flywheel'::regnamespace
      where to_jsonb(e.tokens) = _stream_type.expression
    )
  end
  where jsonb_typeof(expression) = 'array';
$$;

comment on function flywheel._stream_type(flywheel._metric_streams, jsonb) is 'Type of an expression of a stream.';

-- What cannot raise is inlined. What can is null where it does: it must not fail somebody's INSERT,
-- and a row leaves the stream with the value it came with.
create or replace function flywheel._make_stream_expressions(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_expression record;
  v_name text;
  v_arguments text;
  v_names text;
begin
  for v_expression in
    select e.tokens, e.number, d.type, d.is_total
    from flywheel._stream_expressions(stream) as e, lateral flywheel._describe_expression(stream.fact, e.tokens) as d
  loop
    v_name := format('_stream_%s_e%s', stream.stream_id, v_expression.number);
    if v_expression.is_total then
      perform flywheel._make_expression(v_name, stream.fact, v_expression.tokens, v_expression.type);
    else
      perform flywheel._make_expression(v_name || '_raw', stream.fact, v_expression.tokens, v_expression.type);
      select string_agg(format('%I %s', f.name, f.type), ', ' order by f.name), string_agg(format('%I', f.name), ', ' order by f.name)
      into v_arguments, v_names
      from flywheel._fact_columns(stream.fact) as f
      where f.name = any (flywheel._bound_columns(v_expression.tokens));
      execute format(
        E'create or replace function flywheel.%I(%s) returns %s language plpgsql stable as %L',
        v_name, v_arguments, v_expression.type,
        format(E'#variable_conflict use_variable\nbegin\n  return flywheel.%I(%s);\nexception when others then\n  return null;\nend', v_name || '_raw', v_names)
      );
    end if;
  end loop;
  for v_expression in
    select p.oid::regprocedure as signature
    from pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace and p.proname ~ format('^_stream_%s_e\d', stream.stream_id)
  loop
    execute format('revoke all on function %s from public', v_expression.signature);
    execute format('grant execute on function %s to flywheel_metric', v_expression.signature);
    execute format('comment on function %s is %L', v_expression.signature, 'An expression of an incremental metric, its names bound.');
  end loop;
end
$$;

comment on function flywheel._make_stream_expressions(flywheel._metric_streams) is 'Makes the functions of a stream''s expressions.';

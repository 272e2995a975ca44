-- The expressions that rows are grouped, filtered and aggregated by: what may be one, and the functions
-- that a stream has of them.

-- The casts by way of text in a stored parse tree: what one type prints, another reads. Nodes are
-- replaced by their types, from the leaves. Besides what PostgreSQL calls stable (dates, arrays), how
-- floats, intervals and bytes are printed depends on a setting.
create or replace function flywheel._text_casts(tree text)
returns table (source oid, target oid, depends_on_session boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_tree text := tree;
  v_node text;
  v_type text;
begin
  loop
    v_node := substring(v_tree from '\{[A-Z_]+ [^{}]*\}');
    exit when v_node is null;
    v_type := coalesce(
      substring(
        v_node from
        ' :(?:paramtype|vartype|consttype|funcresulttype|opresulttype|casetype|coalescetype|minmaxtype|refrestype|array_typeid|resulttype|row_typeid|typeId|type) (\d+)'
      ),
      case when v_node ~ '^\{(BOOLEXPR|NULLTEST|BOOLEANTEST|SCALARARRAYOPEXPR|ROWCOMPAREEXPR) ' then '16' else substring(v_node from '<(\d+)>') end,
      '0'
    );
    if v_node like '{COERCEVIAIO %' then
      source := substring(v_node from ':arg <(\d+)>')::oid;
      target := v_type::oid;
      depends_on_session := not exists (
        select
        from pg_type as s
        join pg_proc as printed on printed.oid = s.typoutput
        join pg_type as t on t.oid = target
        join pg_proc as read on read.oid = t.typinput
        where s.oid = source and printed.provolatile = 'i' and read.provolatile = 'i'
          and s.oid <> all ('{float4,float8,interval,bytea}'::regtype[])
      );
      return next;
    end if;
    v_tree := replace(v_tree, v_node, '<' || v_type || '>');
  end loop;
end
$$;

comment on function flywheel._text_casts(text) is 'The casts by way of text in a parse tree, and whether a session can change what they give.';

-- Type of an expression over a fact, and whether it can raise. Refuses what a writer's session could
-- change the meaning of, and what somebody could drop.
create or replace function flywheel._describe_expression(
  fact text, tokens text[], out type text, out is_total boolean, out collation_name text
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set check_function_bodies = on
as $$
declare
  v_function text;
  v_columns constant text[] := flywheel._bound_columns(tokens);
  v_unknown text;
  v_is_set boolean;
  v_probe oid;
  v_tree text;
begin
  select c.name into v_unknown
  from unnest(v_columns) as c (name)
  where not exists (select from flywheel._fact_columns(fact) as f where f.name = c.name);
  if found then
    perform flywheel._refuse_incremental(
      format('it reads the column %s', v_unknown),
      'An incremental metric over ' || fact || ' reads '
        || array_to_string(
          array(
            select f.name
            from flywheel._fact_columns(fact) as f
            join pg_attribute as a on a.attrelid = to_regclass(format('flywheel.%I', fact)) and a.attname = f.name
            order by a.attnum
          ),
          ', '
        ) || '.'
    );
  end if;
  if tokens && array['SELECT'] then
    perform flywheel._refuse_incremental(
      'a subquery stands where rows are grouped or aggregated', 'Put it into an outer query, or use storage => ''materialized''.'
    );
  end if;

  execute format(
    'create or replace view flywheel._expression_probe as select (%s) as expression from (select %s) as n',
    flywheel._bound_text(tokens),
    coalesce(
      (
        select string_agg(format('null::%s as %I', f.type, f.name), ', ')
        from flywheel._fact_columns(fact) as f
        where f.name = any (v_columns)
      ),
      '1 as one'
    )
  );
  select format_type(a.atttypid, null), case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end
  into type, collation_name
  from pg_attribute as a
  join pg_type as t on t.oid = a.atttypid
  where a.attrelid = to_regclass('flywheel._expression_probe') and a.attnum = 1;
  v_is_set := flywheel._view_tree('_expression_probe') like '%:hasTargetSRFs true%';
  execute 'drop view flywheel._expression_probe';
  if v_is_set then
    perform flywheel._refuse_incremental(
      'a function that returns many rows stands where rows are grouped', 'Use storage => ''materialized''.'
    );
  end if;
  perform flywheel._make_expression('_expression_probe', fact, tokens, type);
  select e.oid, e.prosqlbody::text into strict v_probe, v_tree
  from pg_proc as e
  where e.proname = '_expression_probe' and e.pronamespace = 'flywheel'::regnamespace;

  if v_tree like '%{SQLVALUEFUNCTION %' then
    perform flywheel._refuse_incremental(
      'current_timestamp, current_date and their like are other values when the row leaves',
      'Group by the day, and filter in an outer query.'
    );
  end if;
  select p.oid::regprocedure::text into v_function
  from flywheel._tree_functions(v_tree) as f (oid)
  join pg_proc as p on p.oid = f.oid
  -- What age() makes months of depends on the zone, whatever it says of itself.
  where (p.provolatile <> 'i' or p.oid = 'pg_catalog.age(timestamptz, timestamptz)'::regprocedure)
    -- Where the zone is a constant, it does not depend on the session.
    and p.oid <> 'pg_catalog.date_trunc(text, timestamptz, text)'::regprocedure
  limit 1;
  if found then
    perform flywheel._refuse_incremental(
      format('%s depends on the time or on settings of the session', v_function),
      'For days in a time zone: date_trunc(''day'', a_time, ''UTC''). To compare with now(), group by the day and filter in an outer query.'
    );
  end if;

  select format_type(c.source, null) || ' to ' || format_type(c.target, null) into v_function
  from flywheel._text_casts(v_tree) as c
  where c.depends_on_session
  limit 1;
  if found then
    perform flywheel._refuse_incremental(
      format('a cast of %s depends on settings of the session', v_function),
      'Group by the value itself, and make a text of it in an outer query; or use storage => ''materialized''.'
    );
  end if;

  select coalesce(d.refclassid::regclass || ' ' || d.refobjid::text, '') into v_function
  from pg_depend as d
  left join pg_proc as p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
  where d.classid = 'pg_proc'::regclass and d.objid = v_probe
    and d.refclassid in ('pg_type'::regclass, 'pg_proc'::regclass, 'pg_class'::regclass, 'pg_operator'::regclass, 'pg_collation'::regclass)
    and p.pronamespace is distinct from 'flywheel'::regnamespace
  limit 1;
  if found then
    perform flywheel._refuse_incremental(
      'it uses a function, type or operator that somebody could drop',
      'What runs inside every INSERT uses PostgreSQL''s own. Use storage => ''materialized''.'
    );
  end if;

  is_total := flywheel._is_total(v_tree, 0);
  perform flywheel._drop_functions('_expression_probe');
end
$$;

comment on function flywheel._describe_expression(text, text[]) is
  'Type of an expression over a fact, whether it can raise, and its collation if it is not the type''s; refuses what cannot be kept current.';

create or replace function flywheel._bound_text(tokens text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select string_agg(
    case when t.token like '{%}' then format('%I', substr(t.token, 2, length(t.token) - 2)) else t.token end, ' ' order by t.position
  )
  from unnest(tokens) with ordinality as t (token, position);
$$;

comment on function flywheel._bound_text(text[]) is 'A bound expression as SQL over columns of their own names.';

-- flywheel.<name>(the columns it reads), its names bound to objects now.
create or replace function flywheel._make_expression(function_name text, fact text, tokens text[], type text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  execute format(
    'create or replace function flywheel.%I(%s) returns %s language sql stable parallel safe begin atomic select (%s); end',
    function_name,
    (
      select string_agg(format('%I %s', f.name, f.type), ', ' order by f.name)
      from flywheel._fact_columns(fact) as f
      where f.name = any (flywheel._bound_columns(tokens))
    ),
    type, flywheel._bound_text(tokens)
  );
end
$$;

comment on function flywheel._make_expression(text, text, text[], text) is 'Makes a function of an expression over a fact.';

create or replace function flywheel._drop_functions(function_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid from pg_proc as p where p.pronamespace = 'flywheel'::regnamespace and p.proname = function_name
  loop
    execute format('drop function %s', v_function);
  end loop;
end
$$;

comment on function flywheel._drop_functions(text) is 'Drops the functions of this name, if there are any.';

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

-- How a validator's SQL text becomes a function of the catalog.
--
-- 1. PostgreSQL's own parser reads the text as the role that will run it. A cursor is opened over
--    it and never fetched from: a second statement, an unknown name or a table that was not granted
--    is refused there, and nothing has run.
-- 2. The text becomes the body of an SQL function in the standard BEGIN ATOMIC form. Its names are
--    bound to objects now, so no search_path of a later session can change what it means, and
--    dropping what it uses is refused by PostgreSQL.
-- 3. The bound parse tree, which cannot be fooled by how the text is spelled, tells which functions
--    it calls (a volatile one is refused), which columns it reads and whether it can raise.

create or replace function flywheel._open_expression(expression text, type text, subject text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cursor refcursor;
begin
  -- Inside array[( )] the text cannot close its parenthesis and go on with a FROM or a WHERE.
  open v_cursor for execute format(
    'select array[(%s'  || E'\n' || ')%s, null::%s] from (select %s) as subject_row',
    expression,
    flywheel._cast_to(type),
    type,
    (select string_agg(format('null::%s as %I', c.type, c.name), ', ') from flywheel._subject_columns(subject) as c)
  );
  close v_cursor;
end
$$;

comment on function flywheel._open_expression(text, text, text) is
  'Raises what PostgreSQL itself has against an expression, asked as flywheel_validator. Runs nothing.';

-- A score may be any number and a reason any value; a body must be boolean by itself, or
-- length(output) would pass for a check.
create or replace function flywheel._cast_to(type text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when type = 'boolean' then '' else '::' || type end;
$$;

comment on function flywheel._cast_to(text) is 'The cast an expression of this type is given: none for a boolean.';

-- The calls in a stored parse tree. String constants are stored as bytes, so text in the
-- expression cannot pass for a call or hide one.
create or replace function flywheel._tree_functions(tree text)
returns setof oid
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select distinct m[1]::oid
  from regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') as m
  where m[1] <> '0'
  union
  -- Row comparison names operators, not functions.
  select distinct o.oprcode::oid
  from regexp_matches(tree, ':opnos \(o ([\d ]+)\)', 'g') as m,
    unnest(string_to_array(btrim(m[1]), ' ')) as n,
    pg_operator as o
  where o.oid = n::oid;
$$;

comment on function flywheel._tree_functions(text) is 'The functions a stored parse tree calls.';

-- Text of a constant in a stored parse tree: ":constvalue 7 [ 28 0 0 0 97 43 98 ]", bytes as signed
-- numbers behind a four-byte length.
create or replace function flywheel._tree_text(const text)
returns text
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select convert_from(
    decode(coalesce(string_agg(lpad(to_hex((b.byte::integer + 256) % 256), 2, '0'), '' order by b.position), ''), 'hex'),
    getdatabaseencoding()
  )
  from unnest(
    string_to_array(btrim(substring(const from ':constvalue \d+ \[ ([-\d ]*)\]')), ' ')
  ) with ordinality as b (byte, position)
  where b.position > 4;
$$;

comment on function flywheel._tree_text(text) is 'The text a CONST node of a stored parse tree holds.';

-- Functions that return for every argument of their types. The allow-list of decision 3: what is
-- not in it may raise, and is evaluated where it can be caught.
create or replace function flywheel._total_functions()
returns setof oid
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- widening casts
  select unnest(array[
    'int8(integer)'::regprocedure, 'float8(integer)'::regprocedure, 'float8(bigint)'::regprocedure,
    'numeric(integer)'::regprocedure, 'numeric(bigint)'::regprocedure
  ])::oid
  union all
  select p.oid
  from pg_proc as p
  where p.pronamespace = 'pg_catalog'::regnamespace
    and p.proname = any (array[
      -- comparison
      'texteq', 'textne', 'text_lt', 'text_le', 'text_gt', 'text_ge',
      'int4eq', 'int4ne', 'int4lt', 'int4le', 'int4gt', 'int4ge',
      'int8eq', 'int8ne', 'int8lt', 'int8le', 'int8gt', 'int8ge',
      'int48eq', 'int48ne', 'int48lt', 'int48le', 'int48gt', 'int48ge',
      'int84eq', 'int84ne', 'int84lt', 'int84le', 'int84gt', 'int84ge',
      'float8eq', 'float8ne', 'float8lt', 'float8le', 'float8gt', 'float8ge',
      'numeric_eq', 'numeric_ne', 'numeric_lt', 'numeric_le', 'numeric_gt', 'numeric_ge',
      'booleq', 'boolne', 'uuid_eq', 'uuid_ne', 'jsonb_eq', 'jsonb_ne',
      'timestamptz_eq', 'timestamptz_ne', 'timestamptz_lt', 'timestamptz_le', 'timestamptz_gt', 'timestamptz_ge',
      -- text
      'length', 'char_length', 'character_length', 'octet_length', 'lower', 'upper',
      'btrim', 'ltrim', 'rtrim', 'starts_with', 'strpos', 'position', 'left', 'right',
      -- json
      'jsonb_object_field', 'jsonb_object_field_text', 'jsonb_array_element', 'jsonb_array_element_text',
      'jsonb_typeof', 'jsonb_exists', 'jsonb_exists_any', 'jsonb_exists_all', 'jsonb_contains', 'jsonb_contained'
    ])
    -- length() and its kin also take byte strings in an encoding, tsvectors, ...
    and not exists (
      select from unnest(p.proargtypes) as a (type)
      where a.type not in (
        'text'::regtype, 'integer'::regtype, 'bigint'::regtype, 'double precision'::regtype,
        'numeric'::regtype, 'boolean'::regtype, 'uuid'::regtype, 'jsonb'::regtype,
        'timestamptz'::regtype, 'text[]'::regtype
      )
    );
$$;

comment on function flywheel._total_functions() is
  'Built-in functions that cannot raise. An expression of nothing else is compiled straight into the statement.';

-- LIKE and regular expressions are total once their pattern is a constant that is known to be good.
create or replace function flywheel._is_good_pattern(operator_name text, pattern text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if operator_name like '%~~%' then
    -- The one thing LIKE raises on: an escape character with nothing behind it.
    return length(substring(pattern from '\\*$')) % 2 = 0;
  end if;
  if pattern ~ '\\[1-9]' then
    raise exception 'the pattern % uses a backreference', quote_literal(pattern)
      using errcode = 'LF001',
        hint = 'Backreferences can take exponential time inside an INSERT. Write the pattern without \1, \2, ...';
  end if;
  perform '' ~ pattern;
  return true;
exception when invalid_regular_expression then
  raise exception 'the pattern % is not a regular expression: %', quote_literal(pattern), sqlerrm
    using errcode = 'LF001';
end
$$;

comment on function flywheel._is_good_pattern(text, text) is
  'Whether a constant pattern can never raise. A backreference or a malformed pattern is refused outright.';

-- Reduces the tree from its leaves: constants to {C}, total expressions to {T}. Total if nothing
-- else is left. PARAM number params_id is params, a constant by the time the statement is planned.
create or replace function flywheel._is_total(tree text, params_id integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tree text := tree;
  v_before text;
  v_node text;
  v_tag text;
  v_function oid;
  v_operator text;
  v_children text[];
  v_total constant oid[] := array(select flywheel._total_functions());
  v_verdict text;
begin
  if v_tree like '%:hasSubLinks true%' then
    return false;
  end if;

  -- Every constant pattern is checked before constants lose their values.
  for v_operator, v_node in
    select o.oprname, m[2]
    from regexp_matches(
      v_tree,
      '\{OPEXPR :opno (\d+) [^{}]*:args \((?:\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}) (\{CONST [^{}]*\})\)',
      'g'
    ) as m
    join pg_operator as o on o.oid = m[1]::oid
    where o.oprname in ('~', '~*', '!~', '!~*', '~~', '!~~', '~~*', '!~~*')
      and m[2] like '{CONST :consttype 25 %:constisnull false%'
  loop
    if flywheel._is_good_pattern(v_operator, flywheel._tree_text(v_node)) then
      v_tree := replace(v_tree, v_node, '{GOODPATTERN}');
    end if;
  end loop;

  v_tree := regexp_replace(v_tree, '\{PARAM [^{}]*:paramid ' || params_id || ' [^{}]*\}', '{C}', 'g');
  v_tree := regexp_replace(v_tree, '\{PARAM [^{}]*\}', '{T}', 'g');
  v_tree := regexp_replace(v_tree, '\{CONST [^{}]*\}', '{C}', 'g');

  loop
    v_before := v_tree;
    for v_node in
      select distinct m[1] from regexp_matches(v_tree, '(\{[A-Z_]+ (?:[^{}]|\{[CT]\}|\{GOODPATTERN\})*\})', 'g') as m
    loop
      v_tag := substring(v_node from '^\{([A-Z_]+) ');
      v_children := array(select c[1] from regexp_matches(v_node, '\{([CT]|GOODPATTERN)\}', 'g') as c);
      v_function := substring(v_node from ':(?:funcid|opfuncid) (\d+)')::oid;
      v_verdict := null;

      if v_tag in ('OPEXPR', 'FUNCEXPR', 'SCALARARRAYOPEXPR', 'DISTINCTEXPR', 'NULLIFEXPR') then
        if v_children <@ array['C']
          and exists (select from pg_proc where oid = v_function and provolatile = 'i') then
          -- Folded when planned; creating the validator has planned it once.
          v_verdict := '{C}';
        elsif v_function = any (v_total) then
          v_verdict := '{T}';
        elsif v_children[2] = 'GOODPATTERN' then
          v_verdict := '{T}';
        end if;
      elsif v_tag = 'COERCEVIAIO' and v_children <@ array['C']
        -- int4, int8, float8, numeric, boolean, text: their input does not depend on the session.
        and v_node ~ ':resulttype (23|20|701|1700|16|25) ' then
        v_verdict := '{C}';
      elsif v_tag = 'RELABELTYPE' then
        v_verdict := '{' || v_children[1] || '}';
      elsif v_tag in (
        'BOOLEXPR', 'NULLTEST', 'BOOLEANTEST', 'COALESCE', 'COALESCEEXPR', 'CASE', 'CASEEXPR', 'WHEN', 'CASEWHEN',
        'ARRAY', 'ARRAYEXPR'
      ) then
        v_verdict := case when v_children <@ array['C'] then '{C}' else '{T}' end;
      end if;

      if v_verdict is not null then
        v_tree := replace(v_tree, v_node, v_verdict);
      end if;
    end loop;
    exit when v_tree = v_before;
  end loop;

  return v_tree ~ '^\(\(?\{QUERY [^{}]*\{FROMEXPR :fromlist <> :quals <>\} :targetList \(\{TARGETENTRY :expr \{[CT]\} [^{}]*\}\)[^{}]*\}\)?\)$';
end
$$;

comment on function flywheel._is_total(text, integer) is
  'Whether an expression, given as its stored parse tree, can never raise. False whenever in doubt.';

-- Refuses what must not run inside an INSERT; returns nothing.
create or replace function flywheel._check_tree(tree text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_function record;
begin
  if tree !~ '^\(\(?\{QUERY [^{}]*:rtable <> ' then
    raise exception 'the expression reads from a table outside a subquery'
      using errcode = 'LF001', hint = 'Put the query in parentheses: (select ... from ...).';
  end if;
  if tree ~ '^\(\(?\{QUERY [^{}]*:(hasAggs|hasWindowFuncs|hasTargetSRFs) true' then
    raise exception 'the expression aggregates rows or returns a set of values'
      using errcode = 'LF001', hint = 'A validator returns one boolean per row: use exists (select ...) or bool_and(...).';
  end if;
  if tree like '%{XMLEXPR %' then
    raise exception 'the expression builds XML, which a validator may not' using errcode = 'LF001';
  end if;

  for v_function in
    select p.oid, p.oid::regprocedure as signature, p.proname, p.provolatile, p.prolang,
      p.pronamespace = 'pg_catalog'::regnamespace as is_builtin,
      p.pronamespace = 'pg_catalog'::regnamespace or l.lanname in ('internal', 'c') or p.prosqlbody is not null
        or exists (select from unnest(p.proconfig) as s (setting) where s.setting like 'search_path=%') as is_pinned
    from flywheel._tree_functions(tree) as f (oid)
    join pg_proc as p on p.oid = f.oid
    join pg_language as l on l.oid = p.prolang
  loop
    if v_function.is_builtin and v_function.proname like '%\_to\_xml%' then
      raise exception 'the function % dumps tables and queries, which a validator may not', v_function.signature
        using errcode = 'LF001', hint = 'Select the columns you need in a subquery.';
    end if;
    if v_function.provolatile = 'v' then
      raise exception 'the function % is volatile', v_function.signature
        using errcode = 'LF001',
          hint = 'A validator may call immutable and stable functions only: it runs inside every INSERT and may neither write nor depend on chance.';
    end if;
    if not v_function.is_pinned then
      raise exception 'the function % does not pin its search_path', v_function.signature
        using errcode = 'LF001',
          hint = format(
            'Whoever inserts a trace could redirect it. Run: alter function %s set search_path = pg_catalog, pg_temp',
            v_function.signature
          );
    end if;
  end loop;
end
$$;

comment on function flywheel._check_tree(text) is
  'Refuses an expression that calls a volatile function, dumps data as XML or can be redirected by the caller''s search_path.';

-- Makes flywheel.<function_name>(the columns the expression reads) and tells what it read.
-- Refusals name the part (body, score, reason) and say what to do.
create or replace function flywheel._create_expression(
  function_name text, part text, expression text, type text, subject text, params jsonb,
  out reads text[], out is_total boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns text[] := array(select c.name from flywheel._subject_columns(subject) as c);
  v_arguments text := (
    select string_agg(format('%I %s', c.name, c.type), ', ') from flywheel._subject_columns(subject) as c
  );
  v_state text;
  v_message text;
  v_hint text;
  v_tree text;
begin
  if btrim(coalesce(expression, '')) = '' then
    raise exception 'the % is empty', part
      using errcode = 'LF001',
        hint = 'Give an SQL expression over the row, for example: length(output) < 2000';
  end if;

  begin
    perform flywheel._open_expression(expression, type, subject);

    -- A first function over every column, only to get the bound tree.
    execute format(
      'create or replace function flywheel._expression(%s) returns %s language sql stable begin atomic select (%s' || E'\n' || ')%s; end',
      v_arguments, type, expression, flywheel._cast_to(type)
    );
    select p.prosqlbody::text into strict v_tree
    from pg_proc as p
    where p.proname = '_expression' and p.pronamespace = 'flywheel'::regnamespace;
    execute 'drop function flywheel._expression';

    perform flywheel._check_tree(v_tree);

    reads := array(
      select c.name
      from unnest(v_columns) with ordinality as c (name, position)
      where v_tree ~ (':paramkind 0 :paramid ' || c.position || ' ')
      order by c.position
    );
    is_total := flywheel._is_total(v_tree, cardinality(v_columns));

    execute format(
      'create or replace function flywheel.%I(%s) returns %s language sql stable begin atomic select (%s' || E'\n' || ')%s; end',
      function_name,
      (select string_agg(format('%I %s', c.name, c.type), ', ') from flywheel._subject_columns(subject) as c where c.name = any (reads)),
      type, expression, flywheel._cast_to(type)
    );
    execute format('revoke all on function flywheel.%I from public', function_name);
    execute format('grant execute on function flywheel.%I to flywheel_validator', function_name);

    -- Plans it once with its params, which folds them: a param of the wrong type is refused now.
    execute format('explain select flywheel.%I(%s) from (select %s offset 0) as n',
      function_name,
      flywheel._call_arguments(reads, 'n', params),
      (select string_agg(format('null::%s as %I', c.type, c.name), ', ') from flywheel._subject_columns(subject) as c)
    );
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_hint = pg_exception_hint;
    if v_state like '40%' or v_state like '57%' then
      raise;
    end if;
    raise exception 'the % is refused: %', part, v_message
      using errcode = 'LF001',
        detail = expression,
        hint = case
          when coalesce(v_hint, '') <> '' then v_hint
          when v_state = '42501' then 'Validators run as the role flywheel_validator: grant select on the table (and usage on its schema) to flywheel_validator.'
          when v_state in ('42P01', '42883', '3F000', '42704') then 'Names outside pg_catalog need their schema, for example app.users.'
          when v_state = '42703' then format('A %s has the columns %s.', subject, array_to_string(v_columns, ', '))
          when v_state in ('42601', '42P11') then 'Give one SQL expression over the row; two statements are not an expression.'
          when v_state in ('42804', '42P13') then format('The %s must be of type %s.', part, type)
          else 'Correct the expression or its params.'
        end;
  end;
end
$$;

comment on function flywheel._create_expression(text, text, text, text, text, jsonb) is
  'Checks an SQL expression of a validator and makes it a catalog function over the columns it reads.';

-- "n.output, '{...}'::pg_catalog.jsonb": how a compiled statement calls such a function.
create or replace function flywheel._call_arguments(reads text[], alias text, params jsonb)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    string_agg(
      case r.name when 'params' then format('%L::pg_catalog.jsonb', params) else format('%I.%I', alias, r.name) end,
      ', ' order by r.position
    ),
    ''
  )
  from unnest(reads) with ordinality as r (name, position);
$$;

comment on function flywheel._call_arguments(text[], text, jsonb) is
  'Argument list with which a compiled statement calls a validator''s function.';

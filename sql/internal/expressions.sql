-- How a validator's SQL text becomes a function of the catalog.
--
-- 1. PostgreSQL's own parser reads the text inside array[( )], as the quoted body of a function: it
--    is parsed and not planned, so nothing runs, not even a function on constants. A text that
--    leaves the parentheses has to close the bracket, and then fails in step 2.
-- 2. The text becomes the body of an SQL function in the standard BEGIN ATOMIC form. Its names are
--    bound to objects now, so no search_path of a later session can change what it means, and
--    dropping what it uses is refused by PostgreSQL.
-- 3. The bound parse tree, which cannot be fooled by how the text is spelled, tells what it calls
--    and reads. Code comes from PostgreSQL, an extension, a superuser or the owner of the schema, or
--    it is refused: whoever else's would run with the rights of flywheel_validator in everybody's
--    INSERT.
-- 4. Only now is it planned, as flywheel_validator: a table that was not granted is refused, and so
--    is a param of the wrong type.

-- Runs as flywheel_validator. Planning folds immutable calls on constants, which is why the tree
-- has been examined before.
create or replace function flywheel._plan_expression(expression text, call text, subject text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_row constant text := (
    select string_agg(format('null::%s as %I', c.type, c.name), ', ') from flywheel._subject_columns(subject) as c
  );
begin
  -- The text shows what it may read; the call, which has its params, what these come to.
  execute format('explain select array[(%s' || E'\n' || ')] from (select %s offset 0) as n', expression, v_row);
  execute format('explain select %s from (select %s offset 0) as n', call, v_row);
end
$$;

comment on function flywheel._plan_expression(text, text, text) is
  'Plans a validator''s expression and the call of its function as flywheel_validator: raises what it lacks rights for, and what its params cannot be.';

-- A score may be any number and a reason any value; a body must be boolean by itself, or
-- length(output) would pass for a check.
create or replace function flywheel._cast_to(type text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
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
set standard_conforming_strings = on
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

create or replace function flywheel._is_trusted(owner oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select r.rolsuper or r.oid = (select n.nspowner from pg_namespace as n where n.nspname = 'flywheel')
  from pg_roles as r
  where r.oid = owner;
$$;

comment on function flywheel._is_trusted(oid) is
  'Whether code of this role may run in everybody''s INSERT: a superuser''s, or the schema owner''s.';

-- What validators and metrics have in common. Refuses what they must not read or call; returns nothing.
create or replace function flywheel._check_code(tree text, who text, what text, runs text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_function record;
  v_relation record;
begin
  if tree like '%{XMLEXPR %' then
    raise exception '% builds XML, which % may not', what, who using errcode = 'LF001';
  end if;
  if tree like '%{COERCETODOMAIN %' or tree like '%{TABLESAMPLECLAUSE %' then
    raise exception '% casts to a domain or samples a table', what
      using errcode = 'LF001', hint = 'Both run what cannot be seen here. Cast to the base type; sample with sample_rate.';
  end if;

  for v_relation in
    select c.oid::regclass as name, c.relkind, c.relrowsecurity,
      (flywheel._is_trusted(c.relowner) or c.relowner = 'flywheel_metric'::regrole) and c.relpersistence <> 't' as is_trusted,
      c.relpersistence
    from regexp_matches(tree, ':relid (\d+)', 'g') as m
    join pg_class as c on c.oid = m[1]::oid
  loop
    if v_relation.relkind = 'f' or v_relation.relpersistence = 't'
      or (v_relation.relkind = 'v' or v_relation.relrowsecurity) and not v_relation.is_trusted then
      raise exception '% reads %, which is %', what, v_relation.name,
        case
          when v_relation.relkind = 'f' then 'a foreign table'
          when v_relation.relpersistence = 't' then 'temporary'
          when v_relation.relkind = 'v' then 'a view of somebody else'
          else 'a table with row security of somebody else'
        end
        using errcode = 'LF001',
          hint = initcap(left(who, 1)) || substr(who, 2)
            || ' reads tables, and views owned by a superuser or by the owner of the schema flywheel.';
    end if;
  end loop;

  for v_function in
    select p.oid::regprocedure as signature, p.proname, p.provolatile, p.proowner, p.pronamespace,
      p.pronamespace = 'pg_catalog'::regnamespace as is_builtin,
      exists (
        select from pg_depend as d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
      ) as is_extension,
      l.lanname in ('internal', 'c') or p.prosqlbody is not null
        or exists (select from unnest(p.proconfig) as s (setting) where s.setting like 'search_path=%') as is_pinned
    from flywheel._tree_functions(tree) as f (oid)
    join pg_proc as p on p.oid = f.oid
    join pg_language as l on l.oid = p.prolang
  loop
    if v_function.is_builtin and v_function.proname like '%\_to\_xml%' then
      raise exception 'the function % dumps tables and queries, which % may not', v_function.signature, who
        using errcode = 'LF001', hint = 'Select the columns you need in a subquery.';
    end if;
    if v_function.provolatile = 'v' then
      raise exception 'the function % is volatile', v_function.signature
        using errcode = 'LF001',
          hint = format(
            '%s may call immutable and stable functions only: it runs inside every %s and may neither write nor depend on chance.',
            initcap(left(who, 1)) || substr(who, 2), runs
          );
    end if;
    continue when v_function.is_builtin or v_function.is_extension;
    if not flywheel._is_trusted(v_function.proowner) then
      raise exception 'the function % belongs to %', v_function.signature, v_function.proowner::regrole
        using errcode = 'LF001',
          hint = format('Its code would run in everybody''s %s', runs) || case who
            when 'a validator' then ' with the rights of flywheel_validator' else '' end
            || '. Have a superuser or the owner of the schema flywheel own it.';
    end if;
    if not v_function.is_pinned then
      raise exception 'the function % does not pin its search_path', v_function.signature
        using errcode = 'LF001',
          hint = format(
            'Whoever %s could redirect it. Run: alter function %s set search_path = pg_catalog, pg_temp',
            case who when 'a validator' then 'inserts a trace' else 'reads it' end, v_function.signature
          );
    end if;
  end loop;
end
$$;

comment on function flywheel._check_code(text, text, text, text) is
  'Refuses a parse tree that calls a volatile function or code of somebody who is not trusted with it, dumps data as XML, or can be redirected by the caller''s search_path.';

-- Refuses what must not run inside an INSERT; returns nothing.
create or replace function flywheel._check_tree(tree text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if tree !~ '^\(\(?\{QUERY [^{}]*:rtable <> ' then
    raise exception 'the expression reads from a table outside a subquery'
      using errcode = 'LF001', hint = 'Put the query in parentheses: (select ... from ...).';
  end if;
  if tree ~ '^\(\(?\{QUERY [^{}]*:(hasAggs|hasWindowFuncs|hasTargetSRFs) true' then
    raise exception 'the expression aggregates rows or returns a set of values'
      using errcode = 'LF001', hint = 'A validator returns one boolean per row: use exists (select ...) or bool_and(...).';
  end if;
  perform flywheel._check_code(tree, who => 'a validator', what => 'the expression', runs => 'INSERT');
end
$$;

comment on function flywheel._check_tree(text) is
  'Refuses an expression that must not run inside an INSERT.';

-- Patterns stand in the expression or in its params. regexp_replace() is left out: its third argument
-- names what was captured in the same way.
create or replace function flywheel._check_patterns(tree text, params jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_pattern text;
begin
  if not exists (
    select from flywheel._tree_functions(tree) as f (oid)
    join pg_proc as p on p.oid = f.oid
    where p.proname in (
      'textregexeq', 'textregexne', 'texticregexeq', 'texticregexne', 'textregexsubstr', 'regexp_like',
      'regexp_match', 'regexp_matches', 'regexp_count', 'regexp_instr', 'regexp_substr',
      'regexp_split_to_array', 'regexp_split_to_table'
    )
  ) then
    return;
  end if;
  select t.pattern into v_pattern
  from (
    select flywheel._tree_text(m[1])
    from regexp_matches(tree, '(\{CONST :consttype 25 [^{}]*:constisnull false [^{}]*\})', 'g') as m
    union all
    select p.value #>> '{}'
    from jsonb_path_query(params, 'strict $.**') as p (value)
    where jsonb_typeof(p.value) = 'string'
  ) as t (pattern)
  where t.pattern ~ '(^|[^\\])(\\\\)*\\[1-9]'
  limit 1;
  if v_pattern is not null then
    raise exception 'the pattern % uses a backreference', v_pattern
      using errcode = 'LF001',
        hint = 'Backreferences can take exponential time inside an INSERT. Write the pattern without \1, \2, ...';
  end if;
end
$$;

comment on function flywheel._check_patterns(text, jsonb) is
  'Refuses a regular expression with a backreference, in an expression or its params.';

-- Makes flywheel.<function_name>(the columns the expression reads) and tells what it read.
-- Refusals name the part (body, score, reason) and say what to do.
create or replace function flywheel._create_expression(
  function_name text, part text, expression text, type text, subject text, params jsonb,
  out reads text[], out is_total boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set check_function_bodies = on
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
    execute format(
      'create or replace function flywheel._expression_text(%s) returns %s[] language sql stable as %L',
      v_arguments, type,
      format('select array[(%s' || E'\n' || ')%s, null::%s]', expression, flywheel._cast_to(type), type)
    );
    execute 'drop function flywheel._expression_text';

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
    perform flywheel._check_patterns(v_tree, params);

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

    perform flywheel._plan_expression(
      expression, format('flywheel.%I(%s)', function_name, flywheel._call_arguments(reads, 'n', params)), subject
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
          when v_state in ('42P01', '42883', '3F000', '42704') then 'Names outside pg_catalog need their schema, for example app.users, and functions arguments of the right types.'
          when coalesce(v_hint, '') <> '' then v_hint
          when v_state = '42501' then 'Validators run as the role flywheel_validator: grant select on the table (and usage on its schema) to flywheel_validator.'
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
set standard_conforming_strings = on
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

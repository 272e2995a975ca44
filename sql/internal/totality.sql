-- Whether an expression can raise, decided from its stored parse tree. One that cannot is compiled
-- straight into the statement; any other runs behind an exception block (versions.sql).

-- Text of a constant in a stored parse tree: ":constvalue 7 [ 28 0 0 0 97 43 98 ]", bytes as signed
-- numbers behind a four-byte length.
create or replace function flywheel._tree_text(const text)
returns text
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
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
set standard_conforming_strings = on
as $$
  -- widening casts
  select unnest(array[
    'int8(integer)'::regprocedure, 'float8(integer)'::regprocedure, 'float8(bigint)'::regprocedure,
    'numeric(integer)'::regprocedure, 'numeric(bigint)'::regprocedure,
    -- ours, and loaded later; it looks at the number before it takes the logarithm
    to_regprocedure('flywheel._quantile_bucket(double precision)')
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
set standard_conforming_strings = on
as $$
begin
  if operator_name like '%~~%' then
    -- The one thing LIKE raises on: an escape character with nothing behind it.
    return length(substring(pattern from '\\*$')) % 2 = 0;
  end if;
  perform '' ~ pattern;
  return true;
exception when invalid_regular_expression then
  raise exception 'the pattern % is not a regular expression: %', quote_literal(pattern), sqlerrm
    using errcode = 'LF001';
end
$$;

comment on function flywheel._is_good_pattern(text, text) is
  'Whether a constant pattern can never raise. A malformed pattern is refused outright.';

-- Reduces the tree from its leaves: constants to {C}, total expressions to {T}. Total if nothing
-- else is left. PARAM number params_id is params, a constant by the time the statement is planned.
create or replace function flywheel._is_total(tree text, params_id integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_tree text := tree;
  v_before text;
  v_node text;
  v_tag text;
  v_function oid;
  v_match record;
  v_children text[];
  v_total constant oid[] := array(select flywheel._total_functions());
  v_verdict text;
begin
  if v_tree like '%:hasSubLinks true%' then
    return false;
  end if;

  -- Every constant pattern is checked before constants lose their values.
  for v_match in
    select m as parts, o.oprname
    from regexp_matches(
      v_tree,
      '(\{OPEXPR :opno (\d+) [^{}]*:args \((?:\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}) (\{CONST [^{}]*\})\))',
      'g'
    ) as m
    join pg_operator as o on o.oid = m[2]::oid
    where o.oprname in ('~', '~*', '!~', '!~*', '~~', '!~~', '~~*', '!~~*')
      and o.oprnamespace = 'pg_catalog'::regnamespace
      and m[3] like '{CONST :consttype 25 %:constisnull false%'
  loop
    if flywheel._is_good_pattern(v_match.oprname, flywheel._tree_text(v_match.parts[3])) then
      -- In its own place only: since PostgreSQL 17 equal constants are spelled alike.
      v_tree := replace(
        v_tree, v_match.parts[1],
        left(v_match.parts[1], length(v_match.parts[1]) - length(v_match.parts[3]) - 1) || '{GOODPATTERN})'
      );
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
        if v_children <@ array['C'] and exists (
          select from pg_proc
          where oid = v_function and provolatile = 'i' and pronamespace = 'pg_catalog'::regnamespace
        ) then
          -- Folded when planned; creating the validator has planned it once.
          v_verdict := '{C}';
        elsif v_function = any (v_total) then
          v_verdict := '{T}';
        elsif v_tag = 'OPEXPR' and v_children[2] = 'GOODPATTERN' then
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

  return v_tree ~ '^\(\(?\{QUERY [^{}]*\{FROMEXPR :fromlist <> :quals <>\} [^{}]*:targetList \(\{TARGETENTRY :expr \{[CT]\} [^{}]*\}\)[^{}]*\}\)?\)$';
end
$$;

comment on function flywheel._is_total(text, integer) is
  'Whether an expression, given as its stored parse tree, can never raise. False whenever in doubt.';

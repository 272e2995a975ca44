-- How the query of an incremental metric is understood.
--
-- PostgreSQL prints a view's query in one canonical form: names resolved, * expanded, everything in
-- parentheses. So it is enough to cut that text into tokens and to look at which parenthesis each
-- stands in; nothing here parses SQL as people write it.
--
-- One block of the query, SELECT ... FROM fact WHERE ... GROUP BY ..., is maintained: its groups and
-- the inputs of its aggregates (measures) are kept by a stream (statements.sql). Whatever stands around
-- it, in CTEs, joins, windows or arithmetic, is computed over its groups when the metric is read.

create or replace function flywheel._sql_tokens(query text)
returns text[]
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(array_agg(m[1] order by position), '{}')
  from regexp_matches(
    query,
    $re$([eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|[[:alpha:]_][\w$]*|\d[\w.]*|::|[-+*/<>=~!@#%^&|`?]+|[(),.;:\[\]])$re$,
    'g'
  ) with ordinality as t (m, position);
$$;

comment on function flywheel._sql_tokens(text) is 'The tokens of an SQL text that PostgreSQL has printed.';

-- In how many parentheses each token stands; a parenthesis counts as outside itself.
create or replace function flywheel._token_depths(tokens text[])
returns integer[]
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select array_agg(d.depth order by d.position)
  from (
    select t.position,
      (sum(case when t.token in ('(', '[') then 1 when t.token in (')', ']') then -1 else 0 end) over (order by t.position)
        - case when t.token in ('(', '[') then 1 else 0 end)::integer as depth
    from unnest(tokens) with ordinality as t (token, position)
  ) as d;
$$;

comment on function flywheel._token_depths(text[]) is 'How many parentheses are open at each token.';

-- The parts of a list, split at commas outside parentheses.
create or replace function flywheel._split_tokens(tokens text[])
returns setof jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select jsonb_agg(p.token order by p.position)
  from (
    select t.token, t.position, t.is_comma,
      count(*) filter (where t.is_comma) over (order by t.position) as part
    from (
      select t.token, t.position, t.token = ',' and d.depth = 0 as is_comma
      from unnest(tokens) with ordinality as t (token, position)
      join unnest(flywheel._token_depths(tokens)) with ordinality as d (depth, position) using (position)
    ) as t
  ) as p
  where not p.is_comma
  group by p.part
  order by p.part;
$$;

comment on function flywheel._split_tokens(text[]) is 'The parts of a list of expressions, each as an array of tokens.';

create or replace function flywheel._json_tokens(tokens jsonb)
returns text[]
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(array_agg(t.token order by t.position), '{}')
  from jsonb_array_elements_text(tokens) with ordinality as t (token, position);
$$;

comment on function flywheel._json_tokens(jsonb) is 'An array of tokens from its JSON.';

-- Not @>, which looks into the elements, too: it finds ["x"] in [["f", "(", "x", ")"]].
create or replace function flywheel._has_all(list jsonb, elements jsonb)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select not exists (select from jsonb_array_elements(elements) as e (element) where e.element not in (select jsonb_array_elements(list)));
$$;

comment on function flywheel._has_all(jsonb, jsonb) is 'Whether each of these is an element of the list.';

create or replace function flywheel._with_element(list jsonb, element jsonb)
returns jsonb
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case when flywheel._has_all(list, jsonb_build_array(element)) then list else list || jsonb_build_array(element) end;
$$;

comment on function flywheel._with_element(jsonb, jsonb) is 'A list with an element, which is added unless it is there.';

-- alias . column becomes one token {column}: two queries that mean the same column say the same.
create or replace function flywheel._bind_columns(tokens text[], alias text)
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_bound text[] := '{}'::text[];
  i integer := 1;
begin
  while i <= cardinality(tokens) loop
    if tokens[i] = alias and tokens[i + 1] = '.' and (i = 1 or tokens[i - 1] <> '.') then
      v_bound := v_bound || ('{' || btrim(tokens[i + 2], '"') || '}');
      i := i + 3;
    else
      v_bound := v_bound || tokens[i];
      i := i + 1;
    end if;
  end loop;
  -- The whole of it in one parenthesis is the same expression.
  while v_bound[1] = '(' and v_bound[cardinality(v_bound)] = ')'
    and not exists (
      select from unnest((flywheel._token_depths(v_bound))[2 : cardinality(v_bound) - 1]) as d where d = 0
    ) loop
    v_bound := v_bound[2 : cardinality(v_bound) - 1];
  end loop;
  return v_bound;
end
$$;

comment on function flywheel._bind_columns(text[], text) is 'An expression with the columns of its table as tokens of the form {column}.';

create or replace function flywheel._bound_columns(tokens text[])
returns text[]
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select array(
    select distinct substr(t, 2, length(t) - 2) as name
    from unnest(tokens) as t
    where t like '{%}'
    order by name
  );
$$;

comment on function flywheel._bound_columns(text[]) is 'The columns a bound expression names.';

create or replace function flywheel._refuse_incremental(reason text, alternative text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  raise exception 'the metric cannot be incremental: %', reason
    using errcode = 'LF006', hint = alternative;
end
$$;

comment on function flywheel._refuse_incremental(text, text) is 'Says why a query cannot be maintained, and what comes nearest.';

-- Finds the block and cuts it into its clauses.
-- {fact, alias, first, last, select, where, keys: [..], having, order, rest}; first and last are the
-- positions of its tokens, and every clause is an array of tokens.
create or replace function flywheel._find_block(tokens text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_depths constant integer[] := flywheel._token_depths(tokens);
  v_count constant integer := cardinality(tokens);
  v_facts constant text[] := array(select f.name from flywheel._facts() as f);
  v_at integer[];
  v_from integer;
  v_depth integer;
  v_first integer;
  v_alias text;
  v_clause text := 'from';
  v_clauses jsonb := '{"select": [], "where": [], "group": [], "having": [], "order": [], "rest": []}'::jsonb;
  i integer;
  v_part text;
begin
  select array_agg(n order by n) into v_at
  from generate_series(2, v_count - 2) as n
  where tokens[n] = 'flywheel' and tokens[n + 1] = '.' and tokens[n + 2] = any (v_facts)
    and tokens[n - 1] in ('FROM', 'JOIN', ',', '(', 'ONLY', 'LATERAL') and tokens[n + 3] is distinct from '(';
  if v_at is null then
    perform flywheel._refuse_incremental(
      'it reads none of ' || array_to_string(array(select f.name from flywheel._facts() as f where f.name !~ '^_'), ', '),
      'Only aggregates over one of them can be kept current. Use storage => ''materialized''.'
    );
  end if;
  if cardinality(v_at) > 1 then
    perform flywheel._refuse_incremental(
      format('it reads %s', array_to_string(array(select tokens[n + 2] from unnest(v_at) as n), ' and ')),
      'Aggregate one table, once, and join to the result only what does not change with it. Or use storage => ''materialized''.'
    );
  end if;
  v_from := v_at[1];
  if tokens[v_from - 1] <> 'FROM' then
    perform flywheel._refuse_incremental(
      format('it joins %s before it aggregates', tokens[v_from + 2]),
      'Aggregate it alone, in a subquery, and join to the groups. Or use storage => ''materialized''.'
    );
  end if;
  v_depth := v_depths[v_from];
  select max(n) into v_first
  from generate_series(1, v_from - 1) as n
  where tokens[n] = 'SELECT' and v_depths[n] = v_depth;

  i := v_from + 3;
  v_alias := tokens[v_from + 2];
  if tokens[i] ~ '^([a-z_"]|[^\x01-\x7f])' then
    v_alias := tokens[i];
    i := i + 1;
  end if;
  if tokens[i] not in ('WHERE', 'GROUP', 'HAVING', 'ORDER', 'LIMIT', 'OFFSET', 'FETCH', 'WINDOW', 'UNION', 'INTERSECT', 'EXCEPT', ')', ';') then
    perform flywheel._refuse_incremental(
      format('it joins %s before it aggregates', tokens[v_from + 2]),
      'Aggregate it alone, in a subquery, and join to the groups. Or use storage => ''materialized''.'
    );
  end if;
  v_clauses := jsonb_set(v_clauses, '{select}', to_jsonb(tokens[v_first + 1 : v_from - 2]));
  while i <= v_count and not (v_depths[i] = v_depth - 1 and tokens[i] = ')') and tokens[i] <> ';' loop
    if v_depths[i] = v_depth then
      v_part := case
        when tokens[i] = 'WHERE' then 'where'
        when tokens[i] = 'GROUP' and tokens[i + 1] = 'BY' then 'group'
        when tokens[i] = 'HAVING' then 'having'
        when tokens[i] = 'ORDER' and tokens[i + 1] = 'BY' then 'order'
        when tokens[i] in ('LIMIT', 'OFFSET', 'FETCH', 'UNION', 'INTERSECT', 'EXCEPT') then 'rest'
        when tokens[i] = 'WINDOW' then 'window'
      end;
      exit when v_part = 'rest' and tokens[i] in ('UNION', 'INTERSECT', 'EXCEPT');
      if v_part = 'window' then
        perform flywheel._refuse_incremental(
          'it names a window where it aggregates', 'Put the window functions into an outer query.'
        );
      end if;
      if v_part in ('group', 'order') then
        v_clause := v_part;
        i := i + 2;
        continue;
      elsif v_part in ('where', 'having') then
        v_clause := v_part;
        i := i + 1;
        continue;
      elsif v_part = 'rest' then
        v_clause := 'rest';
      end if;
    end if;
    v_clauses := jsonb_insert(v_clauses, array[v_clause, '-1'], to_jsonb(tokens[i]), true);
    i := i + 1;
  end loop;

  if flywheel._json_tokens(v_clauses -> 'group') && array['GROUPING', 'ROLLUP', 'CUBE'] then
    perform flywheel._refuse_incremental(
      'it groups by several sets at once', 'Group by all of their columns, and roll up in an outer query.'
    );
  end if;
  return v_clauses || jsonb_build_object(
    'fact', tokens[v_from + 2], 'alias', v_alias, 'first', v_first, 'last', i - 1
  );
end
$$;

comment on function flywheel._find_block(text[]) is 'The block of a query that can be maintained, cut into its clauses; or the reason why there is none.';

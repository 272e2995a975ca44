-- From the query of a metric to what a stream must keep for it, and how it reads that:
-- {fact, keys, condition, measures, reading}. keys and condition are bound expressions; reading is the
-- query with the block replaced, where \x03 stands for the stream's rows and \x01 n \x02 for measures.
create or replace function flywheel._take_metric_apart(query text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_tokens text[];
  v_block jsonb;
  v_fact text;
  v_alias text;
  v_part text[];
  v_lookups text[];
  v_collation text;
  v_keys jsonb := '[]'::jsonb;
  v_user_keys jsonb := '[]'::jsonb;
  v_condition text[] := '{}'::text[];
  v_where text[] := '{}'::text[];
  v_measures jsonb := '[]'::jsonb;
  v_reading text;
  v_select text;
  v_having text;
  v_order text;
  v_joins text := '';
begin
  perform flywheel._make_metric_view('_metric_check', query);
  v_tokens := flywheel._sql_tokens(flywheel._view_text('_metric_check'));
  perform flywheel._drop_metric_relation('_metric_check');
  if query ~ '[\x01-\x03]' then
    perform flywheel._refuse_incremental('it holds control characters', 'Write them as escapes, E''\x01''.');
  end if;
  v_block := flywheel._find_block(v_tokens);
  v_alias := v_block ->> 'alias';
  v_fact := (select f.fact from flywheel._facts() as f where f.name = v_block ->> 'fact');

  -- What is looked up by version or dimension when the metric is read needs only their keys kept.
  for v_part in
    select flywheel._bind_columns(flywheel._json_tokens(p), v_alias)
    from flywheel._split_tokens(flywheel._json_tokens(v_block -> 'group')) as p
  loop
    v_collation := (select d.collation_name from flywheel._describe_expression(v_fact, v_part) as d);
    v_lookups := flywheel._lookups_of(v_fact, v_part);
    if v_lookups is null then
      v_keys := flywheel._with_element(v_keys, to_jsonb(v_part));
    end if;
    v_user_keys := v_user_keys || jsonb_build_array(jsonb_build_object('tokens', v_part, 'lookups', v_lookups, 'collation', v_collation));
  end loop;
  for v_part in
    select flywheel._bind_columns(flywheel._json_tokens(p), v_alias)
    from flywheel._split_conjunction(flywheel._bind_columns(flywheel._json_tokens(v_block -> 'where'), v_alias)) as p
  loop
    perform flywheel._describe_expression(v_fact, v_part);
    v_lookups := flywheel._lookups_of(v_fact, v_part);
    if v_lookups is null then
      v_condition := v_condition || case when v_condition = '{}' then array['('] else array['AND', '('] end || v_part || array[')'];
    else
      v_where := v_where || format('(%s)', flywheel._lookup_text(v_part));
      v_user_keys := v_user_keys || jsonb_build_array(jsonb_build_object('tokens', array[E'\x03'], 'lookups', v_lookups));
    end if;
  end loop;
  if jsonb_path_exists(v_user_keys, '$[*].lookups[*]') then
    if v_keys = '[]' or jsonb_path_exists(v_user_keys, '$[*].lookups[*] ? (@ == "version")') then
      v_keys := flywheel._with_element(v_keys, '["{version_id}"]');
    end if;
    -- Those of pass_rates, whose stream it then shares.
    if v_fact = 'verdicts' and v_keys = '[["{version_id}"]]' or jsonb_path_exists(v_user_keys, '$[*].lookups[*] ? (@ == "dimension")') then
      v_keys := flywheel._with_element(v_keys, '["{dimension_id}"]');
    end if;
    if jsonb_path_exists(v_user_keys, '$[*].lookups[*] ? (@ == "version")') then
      v_joins := v_joins || E'\njoin flywheel._validator_versions as r on r.version_id = s.'
        || flywheel._key_name(v_keys, '["{version_id}"]') || E'\njoin flywheel._validators as d on d.validator_id = r.validator_id';
    end if;
    if jsonb_path_exists(v_user_keys, '$[*].lookups[*] ? (@ == "dimension")') then
      v_joins := v_joins || E'\nleft join flywheel._dimension_values as k on k.dimension_id = s.'
        || flywheel._key_name(v_keys, '["{dimension_id}"]');
    end if;
  end if;
  v_user_keys := (
    select coalesce(
      jsonb_agg(
        k || jsonb_build_object(
          'reading',
          case when jsonb_typeof(k -> 'lookups') = 'array' then flywheel._lookup_text(flywheel._json_tokens(k -> 'tokens'))
          -- What is kept has the type's collation.
          else 's.' || flywheel._key_name(v_keys, k -> 'tokens') || coalesce(' COLLATE ' || (k ->> 'collation'), '') end
        )
      ),
      '[]'
    )
    from jsonb_array_elements(v_user_keys) as k
    where (k -> 'tokens') <> jsonb_build_array(E'\x03')
  );

  select c.measures, c.reading into v_measures, v_select
  from flywheel._read_clause(v_measures, flywheel._name_columns(flywheel._json_tokens(v_block -> 'select')), v_alias, v_fact, v_user_keys) as c;
  select c.measures, c.reading into v_measures, v_having
  from flywheel._read_clause(v_measures, flywheel._json_tokens(v_block -> 'having'), v_alias, v_fact, v_user_keys) as c;
  select c.measures, c.reading into v_measures, v_order
  from flywheel._read_clause(v_measures, flywheel._json_tokens(v_block -> 'order'), v_alias, v_fact, v_user_keys) as c;
  if jsonb_array_length(v_measures) > 250 then
    perform flywheel._refuse_incremental(
      format('it would keep %s numbers of each group, and 250 are the most', jsonb_array_length(v_measures)), 'Make several metrics of it.'
    );
  end if;
  if v_measures = '[]' and v_user_keys = '[]' then
    perform flywheel._refuse_incremental('it aggregates nothing', 'A view shows rows as they are: use storage => ''view''.');
  end if;

  v_reading := format(
    E'SELECT %s\nFROM (\x03) AS s%s%s%s%s%s%s',
    v_select,
    v_joins,
    case when v_where <> '{}' then E'\nWHERE ' || array_to_string(v_where, ' AND ') end,
    case when v_user_keys <> '[]' then
      E'\nGROUP BY ' || (select string_agg(k ->> 'reading', ', ') from jsonb_array_elements(v_user_keys) as k) end,
    case
      when v_user_keys <> '[]' then E'\nHAVING flywheel._add(s.w) > 0' || case when v_having <> '' then format(' AND (%s)', v_having) else '' end
      when v_having <> '' then E'\nHAVING ' || v_having
    end,
    case when v_order <> '' then E'\nORDER BY ' || v_order end,
    ' ' || array_to_string(flywheel._json_tokens(v_block -> 'rest'), ' ')
  );
  return jsonb_build_object(
    'fact', v_fact,
    'keys', v_keys,
    'condition', case when v_condition <> '{}' then to_jsonb(v_condition) end,
    'measures', v_measures,
    'before', array_to_string(v_tokens[: (v_block ->> 'first')::integer - 1], ' '),
    'reading', v_reading,
    'after', array_to_string(v_tokens[(v_block ->> 'last')::integer + 1 :], ' ')
  );
end
$$;

comment on function flywheel._take_metric_apart(text) is 'What a stream must keep for a query, and how the query reads that.';

create or replace function flywheel._analyze_metric(query text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return flywheel._take_metric_apart(query);
exception when syntax_error_or_access_rule_violation or feature_not_supported or cardinality_violation or program_limit_exceeded or invalid_schema_name then
  perform flywheel._refuse_incremental(
    format('it could not be taken apart (%s)', sqlerrm), 'Write it more simply, or use storage => ''materialized''.'
  );
end
$$;

comment on function flywheel._analyze_metric(text) is 'What a stream must keep for a query, and how the query reads that; or why it cannot be incremental.';

-- A column that is selected as it is has no AS, and loses its name when it is replaced.
create or replace function flywheel._name_columns(tokens text[])
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_item text[];
  v_named text[] := '{}'::text[];
begin
  for v_item in select flywheel._json_tokens(i) from flywheel._split_tokens(tokens) as i loop
    v_named := v_named || case when v_named <> '{}' then array[','] else '{}' end || v_item;
    if v_item[cardinality(v_item) - 1] = '.' then
      v_named := v_named || array['AS', v_item[cardinality(v_item)]];
    end if;
  end loop;
  return v_named;
end
$$;

comment on function flywheel._name_columns(text[]) is 'A select list in which every plain column is named.';

create or replace function flywheel._key_name(keys jsonb, tokens jsonb)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select 'k' || k.position from jsonb_array_elements(keys) with ordinality as k (tokens, position) where k.tokens = _key_name.tokens;
$$;

comment on function flywheel._key_name(jsonb, jsonb) is 'The column a stream keeps a key in.';

-- Null if some of it is in the row itself.
create or replace function flywheel._lookups_of(fact text, tokens text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case when bool_and(c.lookup is not null) then array_agg(distinct c.lookup) end
  from flywheel._fact_columns(fact) as c
  where c.name = any (flywheel._bound_columns(tokens));
$$;

comment on function flywheel._lookups_of(text, text[]) is 'By which keys the columns of an expression are looked up, if all of them are.';

create or replace function flywheel._lookup_text(tokens text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select string_agg(coalesce(c.expression, t.token), ' ' order by t.position)
  from unnest(tokens) with ordinality as t (token, position)
  left join flywheel._fact_columns('verdicts') as c on t.token = '{' || c.name || '}';
$$;

comment on function flywheel._lookup_text(text[]) is 'A bound expression over what is looked up, as SQL.';

create or replace function flywheel._split_conjunction(tokens text[])
returns setof jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select jsonb_agg(p.token order by p.position)
  from (
    select t.token, t.position, d.depth = 0 and t.token = 'AND' as is_and,
      count(*) filter (where d.depth = 0 and t.token = 'AND') over (order by t.position) as part,
      -- Not while an OR, or a BETWEEN that PostgreSQL has not taken apart, stands beside it.
      bool_or(d.depth = 0 and t.token in ('OR', 'BETWEEN', 'CASE')) over () as is_mixed
    from unnest(tokens) with ordinality as t (token, position)
    join unnest(flywheel._token_depths(tokens)) with ordinality as d (depth, position) using (position)
  ) as p
  where not p.is_and or p.is_mixed
  group by case when p.is_mixed then 0 else p.part end
  order by min(p.position);
$$;

comment on function flywheel._split_conjunction(text[]) is 'The conditions that a WHERE joins with AND.';

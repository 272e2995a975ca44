-- What a stream keeps for an aggregate (its measures), and how the aggregate is read from that.
--
--   aggregate          measures                 read as
--   count(x)           count                    sum
--   sum(x), avg(x)     count, sum               sum, sum / count
--   stddev, variance   count, sum, sumsq        their formula, in exact decimals
--   bool_and, bool_or  count, true              comparison
--   min(x), max(x)     count, min, rmin         min, once what was removed is known to lie above
--   quantile(x)        histogram                sketches.sql
--   distinct_count(x)  registers                sketches.sql
--
-- Every measure can be subtracted, so a deleted row leaves nothing behind: floats are added as
-- decimals of 15 digits, infinities and NaNs are counted, and minima and maxima are kept together
-- with the extreme of what was removed (reading.sql).

create or replace function flywheel._is_aggregate(schema_name text, name text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (
    select from pg_proc as p
    where p.prokind = 'a' and p.proname = name and p.pronamespace = to_regnamespace(schema_name)
  );
$$;

comment on function flywheel._is_aggregate(text, text) is 'Whether there is an aggregate of this name.';

-- The place of a measure in the list, which it is added to if it is not there. What stands for it in
-- a reading is its number between two control characters, which no token holds.
create or replace function flywheel._with_measure(
  inout measures jsonb, kind text, arg jsonb, filter jsonb, out place text
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_measure constant jsonb := jsonb_build_object('kind', kind, 'arg', arg, 'filter', filter);
  v_number integer := (
    select m.position
    from jsonb_array_elements(measures) with ordinality as m (measure, position)
    where m.measure = v_measure
  );
begin
  if v_number is null then
    measures := measures || jsonb_build_array(v_measure);
    v_number := jsonb_array_length(measures);
  end if;
  place := E'\x01' || v_number || E'\x02';
end
$$;

comment on function flywheel._with_measure(jsonb, text, jsonb, jsonb) is 'Adds a measure to a list, unless it is in it, and tells what stands for it in a reading.';

-- One aggregate call. type is that of its argument.
create or replace function flywheel._read_aggregate(
  inout measures jsonb, name text, arg jsonb, filter jsonb, type text, direct text, out reading text
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_is_float constant boolean := type in ('real', 'double precision');
  v_can_be_special constant boolean := v_is_float or type = 'numeric';
  v_kind constant text := case
    when name in ('every', 'bool_and') then 'bool_and'
    when name like 'stddev%' or name like 'var%' then 'variance'
    else name
  end;
  v_count text;
  v_sum text;
  v_square text;
  v_other text;
begin
  if arg is null then
    select w.measures, w.place into measures, v_count from flywheel._with_measure(measures, 'rows', null, filter) as w;
    reading := format('coalesce(flywheel._add(%s), 0)', v_count);
    return;
  end if;
  if v_kind in ('quantile', 'distinct_count') then
    select w.measures, w.place into measures, v_other
    from flywheel._with_measure(measures, case v_kind when 'quantile' then 'histogram' else 'registers' end, arg, filter) as w;
    reading := format(
      'flywheel._%1$s_of_buckets(array_agg(s.bucket) filter (where s.item = %2$s), array_agg(s.n) filter (where s.item = %2$s)%3$s)',
      v_kind, v_other, ', ' || direct
    );
    return;
  end if;

  select w.measures, w.place into measures, v_count from flywheel._with_measure(measures, 'count', arg, filter) as w;
  v_count := format('flywheel._add(%s)', v_count);
  case v_kind
    when 'count' then
      reading := format('coalesce(%s, 0)', v_count);
    when 'bool_and', 'bool_or' then
      select w.measures, w.place into measures, v_other from flywheel._with_measure(measures, 'true', arg, filter) as w;
      reading := format(
        'case when %1$s > 0 then %2$s end', v_count,
        case v_kind when 'bool_or' then format('coalesce(flywheel._add(%s), 0) > 0', v_other) else format('coalesce(flywheel._add(%s), 0) = %s', v_other, v_count) end
      );
    when 'min', 'max' then
      select w.measures, w.place into measures, v_other from flywheel._with_measure(measures, v_kind, arg, filter) as w;
      -- Its partner follows it, always.
      measures := (select w.measures from flywheel._with_measure(measures, 'r' || v_kind, arg, filter) as w);
      reading := format('case when %s > 0 then %s(%s) end', v_count, v_kind, v_other);
    when 'sum', 'avg', 'variance' then
      select w.measures, w.place into measures, v_sum from flywheel._with_measure(measures, 'sum', arg, filter) as w;
      v_sum := format(case when type in ('smallint', 'integer') then 'flywheel._add(%s)' else 'sum(%s)' end, v_sum);
      if type = 'interval' then
        reading := format('case when %s > 0 then %s%s end', v_count, v_sum, case v_kind when 'avg' then ' / ' || v_count || '::double precision' else '' end);
        return;
      end if;
      if v_kind = 'variance' then
        select w.measures, w.place into measures, v_square from flywheel._with_measure(measures, 'sumsq', arg, filter) as w;
        reading := format(
          'flywheel._variance_of_sums(%s, %s, sum(%s), %s)', v_count, v_sum, v_square, (name not in ('stddev_pop', 'var_pop'))::text
        );
        if name like 'stddev%' then
          reading := format('sqrt(%s)', reading);
        end if;
      elsif v_kind = 'avg' then
        reading := format('(%s / nullif(%s, 0)::numeric)', v_sum, v_count);
      else
        reading := v_sum;
      end if;
      if v_can_be_special then
        -- Not numbers at all: they decide alone, and count.
        select w.measures, w.place into measures, v_other from flywheel._with_measure(measures, 'nan', arg, filter) as w;
        v_square := format('flywheel._add(%s)', v_other);
        select w.measures, w.place into measures, v_other from flywheel._with_measure(measures, 'infinity', arg, filter) as w;
        v_square := v_square || format(', flywheel._add(%s)', v_other);
        select w.measures, w.place into measures, v_other from flywheel._with_measure(measures, '-infinity', arg, filter) as w;
        v_square := v_square || format(', flywheel._add(%s)', v_other);
        reading := format('flywheel._special_or(%s, %s, %s)', reading, v_square, (v_kind = 'variance')::text);
      end if;
      reading := format(
        'case when %s > %s then (%s)::%s end', v_count,
        -- One value has no variance, if they are a sample.
        case when v_kind = 'variance' and name not in ('stddev_pop', 'var_pop') then 1 else 0 end,
        reading,
        case
          when v_is_float then case when v_kind = 'sum' then type else 'double precision' end
          when v_kind = 'sum' and type in ('smallint', 'integer') then 'bigint'
          else 'numeric'
        end
      );
  end case;
end
$$;

comment on function flywheel._read_aggregate(jsonb, text, jsonb, jsonb, text, text) is
  'How an aggregate is read from the measures of a stream, which are added to the list.';

-- sum(bigint) makes a numeric of each group, which costs more than adding it up.
create or replace aggregate flywheel._add(bigint) (
  sfunc = int8pl,
  stype = bigint,
  combinefunc = int8pl,
  parallel = safe
);

comment on aggregate flywheel._add(bigint) is 'sum(), as a bigint.';

create or replace function flywheel._variance_of_sums(n numeric, s numeric, ss numeric, is_sample boolean)
returns numeric
language sql
immutable
parallel safe
begin atomic
  select case
    when n > is_sample::integer then greatest((ss * n - s * s) / (n * (n - is_sample::integer)), 0)
  end;
end;

comment on function flywheel._variance_of_sums(numeric, numeric, numeric, boolean) is
  'Variance from count, sum and sum of squares, which are exact: nothing cancels.';

create or replace function flywheel._special_or(
  finite numeric, nans numeric, infinities numeric, minus_infinities numeric, is_variance boolean
)
returns numeric
language sql
immutable
parallel safe
begin atomic
  select case
    when coalesce(nans, 0) > 0 or is_variance and coalesce(infinities, 0) + coalesce(minus_infinities, 0) > 0
      or coalesce(infinities, 0) > 0 and coalesce(minus_infinities, 0) > 0 then 'NaN'
    when coalesce(infinities, 0) > 0 then 'Infinity'
    when coalesce(minus_infinities, 0) > 0 then '-Infinity'
    else finite
  end;
end;

comment on function flywheel._special_or(numeric, numeric, numeric, numeric, boolean) is
  'What a sum, mean or variance comes to when there were NaNs and infinities beside the finite sum.';

-- Rewrites a clause of the block: keys become what is kept of them, aggregates what is read of them.
create or replace function flywheel._read_clause(
  inout measures jsonb, tokens text[], alias text, fact text, keys jsonb, out reading text
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_tokens constant text[] := flywheel._bind_columns(tokens, alias);
  v_depths constant integer[] := flywheel._token_depths(v_tokens);
  v_read text[] := '{}'::text[];
  v_schema text;
  v_name text;
  v_open integer;
  v_close integer;
  v_args jsonb;
  v_arg jsonb;
  v_filter jsonb;
  v_direct text;
  v_type text;
  v_collation text;
  v_text text;
  v_key record;
  i integer := 1;
begin
  if v_tokens && array['SELECT'] then
    perform flywheel._refuse_incremental(
      'a subquery stands where rows are aggregated', 'Put it into an outer query, or use storage => ''materialized''.'
    );
  end if;
  while i <= cardinality(v_tokens) loop
    -- An aggregate.
    v_open := null;
    if v_tokens[i] = 'flywheel' and v_tokens[i + 1] = '.' and v_tokens[i + 3] = '(' then
      v_schema := 'flywheel';
      v_name := v_tokens[i + 2];
      v_open := i + 3;
    elsif v_tokens[i + 1] = '(' and v_tokens[i] ~ '^[a-z]' and (i = 1 or v_tokens[i - 1] <> '.') then
      v_schema := 'pg_catalog';
      v_name := v_tokens[i];
      v_open := i + 1;
    end if;
    if v_open is not null and flywheel._is_aggregate(v_schema, v_name) then
      v_close := (select min(n) from generate_series(v_open + 1, cardinality(v_tokens)) as n where v_tokens[n] = ')' and v_depths[n] = v_depths[v_open]);
      v_args := coalesce((select jsonb_agg(a) from flywheel._split_tokens(v_tokens[v_open + 1 : v_close - 1]) as a), '[]');
      v_filter := null;
      v_direct := null;
      if v_tokens[v_close + 1] = 'WITHIN' then
        v_direct := array_to_string(v_tokens[v_open + 1 : v_close - 1], ' ');
        v_open := v_close + 3;
        v_close := (select min(n) from generate_series(v_open + 1, cardinality(v_tokens)) as n where v_tokens[n] = ')' and v_depths[n] = v_depths[v_open]);
        v_args := (select jsonb_agg(a) from flywheel._split_tokens(v_tokens[v_open + 3 : v_close - 1]) as a);
      end if;
      if v_tokens[v_close + 1] = 'FILTER' then
        v_open := v_close + 2;
        v_close := (select min(n) from generate_series(v_open + 1, cardinality(v_tokens)) as n where v_tokens[n] = ')' and v_depths[n] = v_depths[v_open]);
        v_filter := to_jsonb(flywheel._bind_columns(v_tokens[v_open + 2 : v_close - 1], alias));
      end if;
      if v_tokens[v_close + 1] is distinct from 'OVER' then
        v_arg := v_args -> 0;
        if v_arg = '["*"]' then
          v_arg := null;
        end if;
        if v_name not in (
            'count', 'sum', 'avg', 'min', 'max', 'bool_and', 'bool_or', 'every', 'stddev', 'stddev_samp', 'stddev_pop',
            'variance', 'var_samp', 'var_pop', 'quantile', 'distinct_count'
          ) or v_arg ->> 0 = 'DISTINCT' or flywheel._json_tokens(v_arg) @> array['ORDER'] or jsonb_array_length(v_args) > 1 then
          perform flywheel._refuse_incremental(
            format('%s cannot be updated from a change alone', case when v_arg ->> 0 = 'DISTINCT' then v_name || '(DISTINCT ...)' else v_name || '()' end),
            case
              when v_name = 'count' then 'flywheel.distinct_count(x) can, within 2 %.'
              when v_name like 'percentile%' then format('flywheel.quantile(%s) within group (order by x) can, within 1 %%.', v_direct)
              else 'Use storage => ''materialized''.'
            end
          );
        end if;
        v_type := null;
        if v_arg is not null then
          v_arg := to_jsonb(flywheel._bind_columns(flywheel._json_tokens(v_arg), alias));
          select d.type, d.collation_name into v_type, v_collation from flywheel._describe_expression(fact, flywheel._json_tokens(v_arg)) as d;
          if v_collation is not null and v_name in ('min', 'max') then
            perform flywheel._refuse_incremental(
              format('it takes the %s in the collation %s', v_name, v_collation), 'Use storage => ''materialized''.'
            );
          end if;
        end if;
        if v_filter is not null then
          perform flywheel._describe_expression(fact, flywheel._json_tokens(v_filter));
        end if;
        if v_name in ('sum', 'avg') and v_type not in ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision', 'interval') then
          perform flywheel._refuse_incremental(format('it takes the %s of a %s', v_name, v_type), 'Cast it to numeric.');
        end if;
        select r.measures, r.reading into measures, v_text
        from flywheel._read_aggregate(measures, v_name, v_arg, v_filter, v_type, v_direct) as r;
        v_read := v_read || v_text;
        i := v_close + 1;
        continue;
      end if;
    end if;

    if v_tokens[i + 1] = '.' and v_tokens[i + 3] = '(' and flywheel._is_aggregate(btrim(v_tokens[i], '"'), btrim(v_tokens[i + 2], '"')) then
      perform flywheel._refuse_incremental(
        format('how %s.%s() is updated is not known', v_tokens[i], v_tokens[i + 2]), 'Use storage => ''materialized''.'
      );
    end if;
    -- A column of something around the block.
    if v_tokens[i + 1] = '.' and v_tokens[i + 3] is distinct from '(' and v_tokens[i] <> all ('{pg_catalog,flywheel}')
      and coalesce(v_tokens[i - 1], '') not in ('::', '.', 'COLLATE') then
      perform flywheel._refuse_incremental(
        format('it reads %s.%s, which is not a column of the table', v_tokens[i], v_tokens[i + 2]),
        'Aggregate by itself, in a subquery, and join to the groups. Or use storage => ''materialized''.'
      );
    end if;

    -- A key, the longest first.
    select k.tokens, k.reading into v_key
    from (
      select flywheel._json_tokens(k -> 'tokens') as tokens, k ->> 'reading' as reading
      from jsonb_array_elements(keys) as k
    ) as k
    where v_tokens[i : i + cardinality(k.tokens) - 1] = k.tokens
    order by cardinality(k.tokens) desc
    limit 1;
    if found then
      v_read := v_read || v_key.reading;
      i := i + cardinality(v_key.tokens);
      continue;
    end if;

    if v_tokens[i] like '{%}' then
      perform flywheel._refuse_incremental(
        format('%s is neither grouped by nor aggregated', btrim(v_tokens[i], '{}')), 'Group by it.'
      );
    end if;
    v_read := v_read || v_tokens[i];
    i := i + 1;
  end loop;
  reading := array_to_string(v_read, ' ');
end
$$;

comment on function flywheel._read_clause(jsonb, text[], text, text, jsonb) is
  'A clause of the block as it reads from a stream, and the measures it needs.';

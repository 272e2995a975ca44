-- Metrics that are materialized: _metric_N is a materialized view of flywheel_metric, and the public
-- view reads it.
--
-- REFRESH ... CONCURRENTLY, which lets readers read, asks for a unique index. What a metric groups by
-- usually stands first, so it is over the shortest beginning of the columns that tells the rows apart.
-- Where none does, the rows are numbered, in a column that the public view leaves out.

create or replace function flywheel._metric_table(metric_id integer)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format('_metric_%s', metric_id);
$$;

comment on function flywheel._metric_table(integer) is 'Name of the materialized view a metric is kept in.';

create or replace function flywheel._make_metric_table(relation_name text, query text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  execute format(E'create materialized view flywheel.%I as select q.* from (%s\n) as q', relation_name, query);
  if not flywheel._index_metric_table(relation_name) then
    execute format('drop materialized view flywheel.%I', relation_name);
    execute format(
      E'create materialized view flywheel.%I as select q.*, row_number() over () as _row_number from (%s\n) as q', relation_name, query
    );
    execute format('create unique index %I on flywheel.%I (_row_number)', relation_name || '_key', relation_name);
  end if;
  execute format(
    'comment on materialized view flywheel.%I is %L', relation_name, 'Rows of a materialized metric, as of its last refresh.'
  );
end
$$;

comment on function flywheel._make_metric_table(text, text) is 'Makes a materialized view that belongs to flywheel_metric.';

create or replace function flywheel._index_metric_table(relation_name text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_columns text[] := array(
    select a.attname
    from pg_attribute as a
    where a.attrelid = format('flywheel.%I', relation_name)::regclass and a.attnum > 0
    order by a.attnum
  );
  v_list text;
  v_is_key boolean;
begin
  for v_count in 1 .. least(cardinality(v_columns), 16) loop
    v_list := (select string_agg(format('%I', c), ', ') from unnest(v_columns[:v_count]) as c);
    begin
      execute format('select count(*) = count(distinct (%s)) from flywheel.%I', v_list, relation_name) into v_is_key;
      if v_is_key then
        execute format('create unique index %I on flywheel.%I (%s)', relation_name || '_key', relation_name, v_list);
        return true;
      end if;
    exception when undefined_function or undefined_object or program_limit_exceeded then
      -- A type that has no order, or values that are too long for an index.
      return false;
    end;
  end loop;
  return false;
end
$$;

comment on function flywheel._index_metric_table(text) is
  'Makes a unique index over the first columns of a materialized metric that tell its rows apart; false if none do.';

create or replace function flywheel._metric_table_query(relation_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format('select %s from flywheel.%I', string_agg(format('%I', a.attname), ', ' order by a.attnum), relation_name)
  from pg_attribute as a
  where a.attrelid = to_regclass(format('flywheel.%I', relation_name)) and a.attnum > 0 and a.attname <> '_row_number';
$$;

comment on function flywheel._metric_table_query(text) is 'What the view of a materialized metric reads.';

-- Made beside and swapped only where later rows have the same key: readers that come meanwhile wait
-- until the transaction ends.
create or replace function flywheel._refresh_metric_table(relation_name text, view_name text, query text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if to_regclass(format('flywheel.%I', relation_name || '_key')) is not null then
    begin
      execute format('refresh materialized view concurrently flywheel.%I', relation_name);
      return;
    exception when unique_violation or cardinality_violation then
      null;
    end;
  end if;
  perform flywheel._make_metric_table(relation_name || '_new', query);
  perform flywheel._make_metric_view(view_name, flywheel._metric_table_query(relation_name || '_new'));
  execute format('drop materialized view flywheel.%I', relation_name);
  execute format('alter materialized view flywheel.%I rename to %I', relation_name || '_new', relation_name);
  if to_regclass(format('flywheel.%I', relation_name || '_new_key')) is not null then
    execute format('alter index flywheel.%I rename to %I', relation_name || '_new_key', relation_name || '_key');
  end if;
end
$$;

comment on function flywheel._refresh_metric_table(text, text, text) is
  'Computes a materialized metric anew, without blocking its readers meanwhile.';

-- A metric is a row of _metrics and a view of its name. Whatever its storage, the view has the same
-- columns: changing the storage replaces what the view reads and touches no reader.

create or replace function flywheel._lock_metrics()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select pg_advisory_xact_lock(hashtextextended('flywheel._metrics', 0));
$$;

comment on function flywheel._lock_metrics() is 'Lets one transaction at a time change the set of metrics.';

create or replace function flywheel._find_metric(name text)
returns flywheel._metrics
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
begin
  select m.* into v_metric from flywheel._metrics as m where m.name = _find_metric.name;
  if not found then
    raise exception 'there is no metric "%"', coalesce(name, 'null')
      using errcode = 'LF007', hint = 'List them: select name from flywheel.metrics';
  end if;
  return v_metric;
end
$$;

comment on function flywheel._find_metric(text) is 'The metric of this name, or an error.';

-- Callers hold the lock of _lock_metrics(). Leaves what another storage had kept to _drop_storage().
create or replace function flywheel._make_storage(metric flywheel._metrics)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_table constant text := flywheel._metric_table(metric.metric_id);
  v_start timestamptz := clock_timestamp();
begin
  case metric.storage
    when 'view' then
      perform flywheel._make_metric_view(metric.name, metric.bound_query);
    when 'materialized' then
      perform flywheel._make_metric_table(v_table, metric.bound_query);
      perform flywheel._make_metric_view(metric.name, flywheel._metric_table_query(v_table));
    when 'incremental' then
      perform flywheel._make_incremental(metric);
      return;
  end case;
  update flywheel._metrics as m
  set is_built = true, problem = null, problem_at = null,
    refreshed_at = case metric.storage when 'materialized' then flywheel.now() end,
    refresh_ms = case metric.storage when 'materialized' then extract(epoch from clock_timestamp() - v_start) * 1000 end
  where m.metric_id = metric.metric_id;
end
$$;

comment on function flywheel._make_storage(flywheel._metrics) is 'Makes what a metric is kept in, and the view that reads it.';

create or replace function flywheel._drop_storage(metric flywheel._metrics)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._drop_metric_relation(flywheel._metric_table(metric.metric_id));
  if to_regprocedure(format('flywheel.%I()', flywheel._plain_function(metric.metric_id))) is not null then
    execute format('drop function flywheel.%I()', flywheel._plain_function(metric.metric_id));
  end if;
  if metric.stream_id is not null then
    update flywheel._metrics as m set stream_id = null where m.metric_id = metric.metric_id;
    perform flywheel._retire_streams();
  end if;
end
$$;

comment on function flywheel._drop_storage(flywheel._metrics) is
  'Drops what a metric was kept in, once its view reads something else.';

-- Only to know: whatever the storage, the advice tells.
create or replace function flywheel._refusal_of(query text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._analyze_metric(query);
  return null;
exception when others then
  if sqlstate like '40%' or sqlstate like '57%' then
    raise;
  end if;
  return regexp_replace(sqlerrm, '^the metric cannot be incremental: ', '');
end
$$;

comment on function flywheel._refusal_of(text) is 'Why a query cannot be incremental; null if it can.';

create or replace function flywheel._comment_metric(metric flywheel._metrics)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_column record;
begin
  execute format(
    'comment on view flywheel.%I is %L', metric.name, coalesce(metric.description, format('The metric %s.', metric.name))
  );
  for v_column in select c.key, c.value from jsonb_each_text(metric.column_comments) as c loop
    execute format('comment on column flywheel.%I.%I is %L', metric.name, v_column.key, v_column.value);
  end loop;
end
$$;

comment on function flywheel._comment_metric(flywheel._metrics) is 'Writes what a metric and its columns mean into the comments of its view.';

create or replace function flywheel._create_metric(
  name text, query text, storage text, refresh_every interval, description text, columns jsonb, is_builtin boolean
)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_query constant text := flywheel._trim_query(query);
  v_metric flywheel._metrics;
  v_found record;
begin
  perform flywheel._lock_metrics();
  if name is null or name !~ '^[a-z][a-z0-9_]*$' or length(name) > 56 then
    raise exception 'the name % is no name for a metric', coalesce(quote_literal(name), 'null')
      using errcode = 'LF006', hint = 'Up to 56 lower-case letters, digits and _, a letter first: it is the name of a view.';
  end if;
  if exists (select from flywheel._metrics as m where m.name = _create_metric.name) then
    raise exception 'there is a metric "%" already', name
      using errcode = 'LF201', hint = 'alter_metric() changes it, drop_metric() removes it.';
  end if;
  if exists (
    select from pg_class as c
    where c.relnamespace = 'flywheel'::regnamespace and c.relname = name
      -- pass_rates was a view before it was a metric.
      and not (is_builtin and c.relowner = 'flywheel_metric'::regrole)
  ) then
    raise exception 'there is something else called flywheel.%', name
      using errcode = 'LF201', hint = 'Give the metric another name.';
  end if;
  perform flywheel._check_metric_options(storage, refresh_every, columns);
  v_found := flywheel._check_metric_query(v_query, is_builtin);
  perform flywheel._check_column_comments(columns, v_found.columns);

  insert into flywheel._metrics as m (
    name, query, bound_query, storage, refresh_every, description, column_comments, is_builtin, columns, depends_on,
    validators, refusal
  )
  values (
    name, v_query, v_found.bound_query, storage, refresh_every, description, coalesce(columns, '{}'), is_builtin, v_found.columns,
    v_found.depends_on, v_found.validators, flywheel._refusal_of(v_found.bound_query)
  )
  returning m.* into v_metric;
  perform flywheel._make_storage(v_metric);
  perform flywheel._comment_metric(v_metric);
  return v_metric.metric_id;
end
$$;

comment on function flywheel._create_metric(text, text, text, interval, text, jsonb, boolean) is
  'Creates a metric, of a user or built in.';

create or replace function flywheel._trim_query(query text)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select regexp_replace(query, '^\s+|\s*;?\s*$', '', 'g');
$$;

comment on function flywheel._trim_query(text) is 'A query without the semicolon and the white space around it.';

create or replace function flywheel._check_metric_options(storage text, refresh_every interval, columns jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if storage is null or storage not in ('view', 'materialized', 'incremental') then
    raise exception 'the storage % is not known', coalesce(quote_literal(storage), 'null')
      using errcode = 'LF006', hint = 'view, materialized or incremental.';
  end if;
  if not flywheel._is_ahead(refresh_every) then
    raise exception 'a metric cannot be refreshed every %', refresh_every
      using errcode = 'LF006', hint = 'Give an interval, for example ''10 minutes''.';
  end if;
  if refresh_every > interval '10 years' then
    raise exception 'a metric cannot be refreshed every %', refresh_every
      using errcode = 'LF006', hint = 'Leave refresh_every out: then only refresh_metric() does it.';
  end if;
  if refresh_every is not null and storage <> 'materialized' then
    raise exception 'refresh_every is for materialized metrics'
      using errcode = 'LF006', hint = format('With the storage %s a metric is always current. Leave refresh_every out.', storage);
  end if;
  if jsonb_typeof(columns) <> 'object' then
    raise exception 'columns is not a JSON object'
      using errcode = 'LF006', hint = 'Say what each column means, by its name: {"rate": "Share that passes."}';
  end if;
end
$$;

comment on function flywheel._check_metric_options(text, interval, jsonb) is 'Refuses options of a metric that make no sense.';

create or replace function flywheel._check_column_comments(comments jsonb, columns text[])
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_unknown text := (
    select string_agg(k.name, ', ' order by k.name)
    from jsonb_object_keys(comments) as k (name)
    where k.name <> all (columns)
  );
begin
  if v_unknown is not null then
    raise exception 'the query has no column %', v_unknown
      using errcode = 'LF006', hint = 'It has the columns ' || array_to_string(columns, ', ') || '.';
  end if;
end
$$;

comment on function flywheel._check_column_comments(jsonb, text[]) is 'Refuses a comment on a column that a metric does not have.';

-- For sql/metrics/builtins/*.sql, at each migration whose file has changed. The storage is the user's.
create or replace function flywheel._set_builtin_metric(
  name text, query text, storage text, refresh_every interval, description text, columns jsonb
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
begin
  perform flywheel._lock_metrics();
  select m.* into v_metric from flywheel._metrics as m where m.name = _set_builtin_metric.name;
  if v_metric.metric_id is null then
    perform flywheel._create_metric(name, query, storage, refresh_every, description, columns, is_builtin => true);
  elsif v_metric.is_builtin then
    perform flywheel._alter_metric(v_metric, query, v_metric.storage, v_metric.refresh_every, description, columns);
  else
    raise exception 'a metric of yours has the name "%", which is now that of a built-in one', name
      using errcode = 'LF201', hint = 'Create it under another name and drop it: its query is in flywheel.metrics.';
  end if;
end
$$;

comment on function flywheel._set_builtin_metric(text, text, text, interval, text, jsonb) is
  'Makes a built-in metric what this release says. The storage a user has chosen stays.';

create or replace function flywheel._alter_metric(
  metric flywheel._metrics, query text, storage text, refresh_every interval, description text, columns jsonb
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_query constant text := flywheel._trim_query(query);
  v_metric flywheel._metrics;
  v_found record;
  v_is_new constant boolean := v_query <> metric.query or to_regclass(format('flywheel.%I', metric.name)) is null;
begin
  perform flywheel._check_metric_options(storage, refresh_every, columns);
  v_found := flywheel._check_metric_query(case when v_is_new then v_query else metric.bound_query end, metric.is_builtin);
  perform flywheel._check_column_comments(columns, v_found.columns);
  if v_found.columns[:cardinality(metric.columns)] <> metric.columns then
    raise exception 'the new query has other columns: % instead of %',
      array_to_string(v_found.columns, ', '), array_to_string(metric.columns, ', ')
      using errcode = 'LF006',
        hint = 'Somebody may read them. Keep them and their order, and add new ones at the end; or drop the metric and create it anew.';
  end if;

  update flywheel._metrics as m
  set query = v_query, bound_query = case when v_is_new then v_found.bound_query else m.bound_query end, storage = _alter_metric.storage, refresh_every = _alter_metric.refresh_every,
    description = _alter_metric.description, column_comments = coalesce(_alter_metric.columns, '{}'),
    columns = v_found.columns, depends_on = v_found.depends_on, validators = v_found.validators,
    refusal = flywheel._refusal_of(v_found.bound_query)
  where m.metric_id = metric.metric_id
  returning m.* into v_metric;

  if storage <> metric.storage or v_is_new then
    -- For a moment it reads its query, so that what it was kept in can go.
    perform flywheel._make_metric_view(v_metric.name, v_metric.bound_query);
    perform flywheel._drop_storage(metric);
    perform flywheel._make_storage(v_metric);
  end if;
  perform flywheel._comment_metric(v_metric);
end
$$;

comment on function flywheel._alter_metric(flywheel._metrics, text, text, interval, text, jsonb) is
  'Gives a metric what is named, all of it.';

create or replace function flywheel._tell_metrics_of(validator text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric text;
begin
  for v_metric in select m.name from flywheel._metrics as m where validator = any (m.validators) order by m.name loop
    raise warning 'the metric "%" names the validator "%"', v_metric, validator
      using hint = 'It finds no new verdicts of it from now on.';
  end loop;
end
$$;

comment on function flywheel._tell_metrics_of(text) is 'Warns of metrics that name a validator which is being dropped.';

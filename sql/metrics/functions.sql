-- create_metric(), alter_metric(), drop_metric(), refresh_metric().

create or replace function flywheel.create_metric(
  name text,
  query text,
  storage text default 'view',
  refresh_every interval default null,
  description text default null,
  columns jsonb default '{}'
)
returns integer
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._create_metric(name, query, storage, refresh_every, description, columns, is_builtin => false);
$$;

comment on function flywheel.create_metric(text, text, text, interval, text, jsonb) is
  'Makes the result of a SELECT readable as the view flywheel.<name>. storage: view (computed when read), materialized (stored, and refreshed every refresh_every) or incremental (kept current with every change; for GROUP BY aggregates over one table). columns says what each column means, by its name. Returns the metric''s id.';

create or replace function flywheel.alter_metric(
  name text,
  storage text default null,
  refresh_every interval default null,
  query text default null,
  description text default null,
  columns jsonb default null,
  clear text[] default '{}'
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
  v_storage text;
begin
  perform flywheel._lock_metrics();
  v_metric := flywheel._find_metric(name);
  if clear is null or not clear <@ array['refresh_every', 'description'] then
    raise exception 'clear names something that cannot be cleared: %', array_to_string(clear, ', ')
      using errcode = 'LF002', hint = 'refresh_every and description can be.';
  end if;
  if v_metric.is_builtin and (query is not null or description is not null or columns is not null or 'description' = any (clear)) then
    raise exception 'the metric "%" is built in', name
      using errcode = 'LF006', hint = 'Its storage and refresh_every can be changed. Create a metric of your own for another query.';
  end if;
  v_storage := coalesce(storage, v_metric.storage);
  perform flywheel._alter_metric(
    v_metric,
    coalesce(query, v_metric.query),
    v_storage,
    -- An interval that is not given goes with the storage that it was for.
    case
      when refresh_every is not null then refresh_every
      when v_storage = 'materialized' and not 'refresh_every' = any (clear) then v_metric.refresh_every
    end,
    case when not 'description' = any (clear) then coalesce(description, v_metric.description) end,
    coalesce(columns, v_metric.column_comments)
  );
end
$$;

comment on function flywheel.alter_metric(text, text, interval, text, text, jsonb, text[]) is
  'Changes how a metric is kept, or what it computes; what is not given stays, what clear names is removed. The view keeps its name and columns, so no query that reads it has to change. A new query may add columns at the end.';

create or replace function flywheel.drop_metric(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
begin
  perform flywheel._lock_metrics();
  v_metric := flywheel._find_metric(name);
  if v_metric.is_builtin then
    raise exception 'the metric "%" is built in', name
      using errcode = 'LF006', hint = 'Set it to storage => ''view'': then it costs nothing unless it is read.';
  end if;
  perform flywheel._drop_metric_relation(name);
  perform flywheel._drop_metric_relation(flywheel._reads_table(v_metric.metric_id));
  perform flywheel._drop_storage(v_metric);
  delete from flywheel._metrics as m where m.metric_id = v_metric.metric_id;
end
$$;

comment on function flywheel.drop_metric(text) is 'Removes a metric, its view and what it was kept in.';

create or replace function flywheel.refresh_metric(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  -- To be rebuilt is to be changed.
  if (flywheel._find_metric(name)).storage = 'incremental' then
    perform flywheel._lock_metrics();
  end if;
  perform flywheel._refresh_metric(flywheel._find_metric(name));
end
$$;

comment on function flywheel.refresh_metric(text) is
  'Computes a materialized metric anew. An incremental one is rebuilt from the rows, which is needed only after writing around the triggers. A view is always current.';

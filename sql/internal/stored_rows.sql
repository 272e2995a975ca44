-- Validating rows that are stored already: sweep, backfill, a new trace's earlier spans, dry runs; and
-- rows that are given and in no table.

-- Reads from two parameters of whoever executes it: $1 trace ids, $2 span ids.
create or replace function flywheel._stored_rows(subject text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._subject_rows(
    subject,
    case subject
      when 'trace' then '(select t.* from unnest($1) as k (trace_id) join flywheel.traces as t using (trace_id))'
      else '(select s.* from rows from (unnest($1), unnest($2)) as k (trace_id, span_id) join flywheel.spans as s using (trace_id, span_id))'
    end,
    'true'
  );
$$;

comment on function flywheel._stored_rows(text) is
  'A query giving the stored traces ($1) or spans ($1, $2) to validate, in the shape of _subject_rows().';

-- Late verdicts. The caller has locked the targets FOR SHARE, so no UPDATE can start a new revision
-- between reading a row and writing its verdict. Runs as flywheel_validator, as in the trigger.
create or replace function flywheel._validate_targets(
  subject text, versions integer[], trace_ids uuid[], span_ids uuid[]
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_sql integer[];
  v_python integer[];
  v_knn integer[];
  v_count bigint;
  v_total bigint := 0;
begin
  select
    coalesce(array_agg(v.version_id) filter (where v.language = 'sql'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.language = 'python'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.language = 'knn'), '{}')
  into v_sql, v_python, v_knn
  from flywheel._validator_versions as v
  where v.version_id = any (versions);
  if v_sql <> '{}' then
    execute flywheel._insert_verdicts(
      flywheel._verdict_query(v_sql, flywheel._stored_rows(subject), purpose => 'late'), 'flywheel.now()'
    ) || flywheel._replace_verdicts()
    using trace_ids, span_ids;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
  end if;
  if v_python <> '{}' then
    execute flywheel._insert_verdicts(
      flywheel._python_query(v_python, flywheel._stored_rows(subject), purpose => 'late'), 'flywheel.now()', true
    ) || flywheel._replace_verdicts()
    using trace_ids, span_ids;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
  end if;
  if v_knn <> '{}' then
    execute flywheel._insert_verdicts(
      flywheel._knn_query(v_knn, flywheel._stored_rows(subject), purpose => 'late'), 'flywheel.now()', true
    ) || flywheel._replace_verdicts()
    using trace_ids, span_ids;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
  end if;
  return v_total;
end
$$;

comment on function flywheel._validate_targets(text, integer[], uuid[], uuid[]) is
  'Runs inline validator versions over stored traces or spans and writes the verdicts their current revisions lack.';

create or replace function flywheel._enqueue_targets(
  subject text, versions integer[], trace_ids uuid[], span_ids uuid[], priority integer
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_count bigint;
begin
  execute flywheel._insert_jobs(
    versions,
    flywheel._stored_rows(subject),
    'flywheel.now()',
    priority => priority
  ) || flywheel._replace_jobs()
  using trace_ids, span_ids;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function flywheel._enqueue_targets(text, integer[], uuid[], uuid[], integer) is
  'Enqueues queued validator versions for stored traces or spans that have no job yet.';

-- Spans whose trace arrived after them, or moved to another pipeline: what they are judged by has
-- changed, not what they say. They are stored already, so nothing is rejected.
create or replace function flywheel._revalidate_spans(trace_ids uuid[])
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation constant integer := flywheel._generation();
  v_trace_ids uuid[];
  v_span_ids uuid[];
  v_inline integer[];
  v_queued integer[];
begin
  with touched as (
    update flywheel.spans as s
    set generation = v_generation
    where s.trace_id = any (trace_ids)
      -- Not those that the same statement wrote as the trace, WITH ... INSERT: their own trigger sees it.
      and not exists (
        select from flywheel.traces as t where t.trace_id = s.trace_id and t.xmin = s.xmin and t.cmin = s.cmin
      )
    returning s.trace_id, s.span_id
  )
  select array_agg(t.trace_id), array_agg(t.span_id) into v_trace_ids, v_span_ids
  from touched as t;
  if v_trace_ids is null then
    return;
  end if;

  delete from flywheel._verdicts as v
  using rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
  where v.trace_id = k.trace_id and v.span_id = k.span_id;
  delete from flywheel._jobs as j
  using rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
  where j.trace_id = k.trace_id and j.span_id = k.span_id;

  select array_agg(v.version_id) filter (where m.mode = 'inline'), array_agg(v.version_id) filter (where m.mode = 'queued')
  into v_inline, v_queued
  from flywheel._validator_versions as v, lateral flywheel._mode_of(v) as m (mode)
  where v.subject = 'span' and v.active_generations @> v_generation;
  if v_inline is not null then
    perform flywheel._validate_targets('span', v_inline, v_trace_ids, v_span_ids);
  end if;
  if v_queued is not null then
    perform flywheel._enqueue_targets('span', v_queued, v_trace_ids, v_span_ids, 0);
  end if;
end
$$;

comment on function flywheel._revalidate_spans(uuid[]) is
  'Judges the stored spans of these traces again, by the pipeline their trace has now.';

-- Locks the targets in key order, so that two callers cannot deadlock, and hands on those that
-- still exist.
create or replace function flywheel._decide_targets(
  version_id integer, trace_ids uuid[], span_ids uuid[]
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
  v_trace_ids uuid[];
  v_span_ids uuid[];
begin
  select * into strict v_version
  from flywheel._validator_versions as v
  where v.version_id = _decide_targets.version_id;

  if v_version.subject = 'trace' then
    select array_agg(l.trace_id), array_agg(flywheel._no_span())
    into v_trace_ids, v_span_ids
    from (
      select t.trace_id
      from flywheel.traces as t
      where t.trace_id = any (trace_ids)
      order by t.trace_id
      for share
    ) as l;
  else
    select array_agg(l.trace_id), array_agg(l.span_id)
    into v_trace_ids, v_span_ids
    from (
      select s.trace_id, s.span_id
      from rows from (unnest(trace_ids), unnest(span_ids)) as k (trace_id, span_id)
      join flywheel.spans as s on s.trace_id = k.trace_id and s.span_id = k.span_id
      order by s.trace_id, s.span_id
      for share of s
    ) as l;
  end if;
  if v_trace_ids is null then
    return 0;
  end if;

  if flywheel._mode_of(v_version) = 'inline' then
    return flywheel._validate_targets(v_version.subject, array[version_id], v_trace_ids, v_span_ids);
  end if;
  -- Behind what arrives now.
  return flywheel._enqueue_targets(v_version.subject, array[version_id], v_trace_ids, v_span_ids, 1);
end
$$;

comment on function flywheel._decide_targets(integer, uuid[], uuid[]) is
  'Gives stored targets the verdict (or the job) of one validator version that they lack.';

-- The latest rows a version applies to, with what it would say. Runs as flywheel_validator.
create or replace function flywheel._try_version(version_id integer, n integer)
returns table (
  trace_id uuid, span_id uuid, code integer, score double precision, reason text, error text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
  v_rows text;
begin
  select * into strict v_version
  from flywheel._validator_versions as v
  where v.version_id = _try_version.version_id;

  v_rows := flywheel._subject_rows(
    v_version.subject,
    format(
      '(select n.* from %s as n where %s order by n.received_at desc limit %s)',
      case v_version.subject
        when 'trace' then 'flywheel.traces'
        else '(select s.*, t.pipeline from flywheel.spans as s left join flywheel.traces as t on t.trace_id = s.trace_id)'
      end,
      array_to_string(array['true'] || flywheel._version_filters(v_version, 'n', 'try'), ' and '),
      n
    ),
    'true'
  );
  return query execute
    'select q.trace_id, q.span_id, q.code::integer, q.score, q.reason, q.error from ('
    || case v_version.language
      when 'python' then flywheel._python_query(array[version_id], v_rows, purpose => 'try')
      when 'knn' then flywheel._knn_query(array[version_id], v_rows, purpose => 'try')
      else flywheel._verdict_query(array[version_id], v_rows, purpose => 'try')
    end
    || ') as q';
end
$$;

comment on function flywheel._try_version(integer, integer) is
  'What a validator version says of the latest n rows it applies to. Stores nothing.';

-- Rows from a JSON array, numbered by their trace ids. What a row does not have, its trace would have by
-- default, and what the validator filters by is taken as given.
create or replace function flywheel._try_rows(version_id integer, given jsonb)
returns table (
  n bigint, code integer, score double precision, reason text, error text, predicted_label text,
  confidence real
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
  v_rows text;
begin
  select * into strict v_version
  from flywheel._validator_versions as v
  where v.version_id = _try_rows.version_id;

  select format(
    $rows$
      select lpad(to_hex(r.ordinality), 32, '0')::uuid as trace_id, %s%s,
        1 as revision, 0::bigint as dimension_id
      from rows from (jsonb_to_recordset($1) as (%s)) with ordinality as r
      offset 0$rows$,
    case v_version.subject when 'trace' then 'flywheel._no_span() as span_id, null::text as node, ' else '' end,
    string_agg(
      case c.name
        when 'span_id' then 'coalesce(r.span_id, lpad(to_hex(r.ordinality), 32, ''0'')::uuid) as span_id'
        when 'pipeline' then format('coalesce(r.pipeline, %L, ''default'') as pipeline', v_version.pipeline)
        when 'node' then format('coalesce(r.node, %L) as node', v_version.node)
        when 'kind' then format('coalesce(r.kind, %L) as kind', v_version.kind)
        when 'status' then 'coalesce(r.status, ''ok'') as status'
        when 'started_at' then 'coalesce(r.started_at, flywheel.now()) as started_at'
        when 'attributes' then 'coalesce(r.attributes, ''{}'') as attributes'
        else format('r.%I', c.name)
      end, ', '
    ) filter (where c.name <> 'trace_id'),
    string_agg(format('%I %s', c.name, c.type), ', ')
  )
  into v_rows
  from flywheel._subject_columns(v_version.subject) as c
  where c.name <> 'params';

  if v_version.language in ('python', 'knn') then
    return query execute
      'select (''x'' || right(q.trace_id::text, 12))::bit(48)::bigint, q.code::integer, q.score, q.reason, q.error, q.predicted_label, q.confidence from ('
      || case v_version.language
        when 'python' then flywheel._python_query(array[version_id], v_rows, purpose => 'given')
        else flywheel._knn_query(array[version_id], v_rows, purpose => 'given')
      end || ') as q'
      using given;
  else
    return query execute
      'select (''x'' || right(q.trace_id::text, 12))::bit(48)::bigint, q.code::integer, q.score, q.reason, q.error, null::text, null::real from ('
      || flywheel._verdict_query(array[version_id], v_rows, purpose => 'given') || ') as q'
      using given;
  end if;
end
$$;

comment on function flywheel._try_rows(integer, jsonb) is
  'What a validator version says of rows given as a JSON array. Stores nothing.';

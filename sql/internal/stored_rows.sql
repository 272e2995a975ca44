-- Validating rows that are stored already: sweep, backfill, a new trace's earlier spans, dry runs.

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
  v_count bigint;
begin
  execute flywheel._insert_verdicts(
    flywheel._verdict_query(versions, flywheel._stored_rows(subject), purpose => 'late'), 'flywheel.now()'
  ) || flywheel._replace_verdicts()
  using trace_ids, span_ids;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function flywheel._validate_targets(text, integer[], uuid[], uuid[]) is
  'Runs inline validator versions over stored traces or spans and writes the verdicts their current revisions lack.';

create or replace function flywheel._enqueue_targets(
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
  v_count bigint;
begin
  execute flywheel._insert_jobs(
    versions,
    flywheel._stored_rows(subject),
    'flywheel.now()'
  ) || flywheel._replace_jobs()
  using trace_ids, span_ids;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function flywheel._enqueue_targets(text, integer[], uuid[], uuid[]) is
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

  select array_agg(v.version_id) filter (where v.mode = 'inline'), array_agg(v.version_id) filter (where v.mode = 'queued')
  into v_inline, v_queued
  from flywheel._validator_versions as v
  where v.subject = 'span' and v.active_generations @> v_generation;
  if v_inline is not null then
    perform flywheel._validate_targets('span', v_inline, v_trace_ids, v_span_ids);
  end if;
  if v_queued is not null then
    perform flywheel._enqueue_targets('span', v_queued, v_trace_ids, v_span_ids);
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

  if v_version.mode = 'inline' then
    return flywheel._validate_targets(v_version.subject, array[version_id], v_trace_ids, v_span_ids);
  end if;
  return flywheel._enqueue_targets(v_version.subject, array[version_id], v_trace_ids, v_span_ids);
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
      array_to_string(array['true'] || flywheel._version_filters(v_version, 'n'), ' and '),
      n
    ),
    'true'
  );
  return query execute
    'select q.trace_id, q.span_id, q.code::integer, q.score, q.reason, q.error from ('
    || flywheel._verdict_query(array[version_id], v_rows, purpose => 'try')
    || ') as q';
end
$$;

comment on function flywheel._try_version(integer, integer) is
  'What a validator version says of the latest n rows it applies to. Stores nothing.';

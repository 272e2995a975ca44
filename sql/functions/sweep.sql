-- The sweep repairs what went around the triggers: rows inserted straight into a partition, under
-- session_replication_role = replica or with the triggers disabled, and verdicts left behind by
-- such deletes and updates; and labels that count although nobody noted it. It locks each row it fills until its transaction ends: on a large
-- backlog call it with max_targets, again and again.

create or replace function flywheel.sweep(max_targets integer default null)
returns table (validator text, version integer, filled bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_missing record;
begin
  if max_targets < 0 then
    raise exception 'max_targets is %', max_targets
      using errcode = 'LF002', hint = 'Give the number of verdicts to fill at most, or null for all.';
  end if;
  perform flywheel._remove_orphans();
  perform flywheel._merge_dimensions();
  perform flywheel._mend_label_heads();
  -- A span and its trace written by two transactions at once did not see each other.
  perform flywheel._revalidate_spans(array(
    select distinct v.trace_id
    from flywheel._verdicts as v
    join flywheel._dimension_values as k on k.dimension_id = v.dimension_id and k.pipeline is null
    join flywheel.traces as t on t.trace_id = v.trace_id
    where v.span_id <> flywheel._no_span()
  ));
  for v_missing in
    select m.version_id, array_agg(m.trace_id) as trace_ids, array_agg(m.span_id) as span_ids
    from (
      select x.version_id, x.trace_id, x.span_id
      from flywheel._missing as x
      order by x.version_id, x.trace_id, x.span_id
      limit max_targets
    ) as m
    group by m.version_id
    order by m.version_id
  loop
    select d.name, v.version into strict validator, version
    from flywheel._validator_versions as v
    join flywheel._validators as d on d.validator_id = v.validator_id
    where v.version_id = v_missing.version_id;
    filled := flywheel._decide_targets(v_missing.version_id, v_missing.trace_ids, v_missing.span_ids);
    return next;
  end loop;
end
$$;

comment on function flywheel.sweep(integer) is
  'Writes every verdict and job that is missing (at most max_targets, null for all) and removes those whose target or revision is gone. Returns what it filled.';

-- A verdict or job whose target is gone or has moved on.
create or replace function flywheel._remove_orphans()
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_verdicts bigint;
  v_jobs bigint;
begin
  delete from flywheel._verdicts as v
  where not exists (
    select from flywheel._targets as g
    where g.trace_id = v.trace_id and g.span_id = v.span_id and g.revision = v.revision
  ) or not exists (
    select from flywheel._validator_versions as r where r.version_id = v.version_id
  );
  get diagnostics v_verdicts = row_count;
  delete from flywheel._jobs as j
  where not exists (
    select from flywheel._targets as g
    where g.trace_id = j.trace_id and g.span_id = j.span_id and g.revision = j.revision
  ) or not exists (
    select from flywheel._validator_versions as r where r.version_id = j.version_id
  );
  get diagnostics v_jobs = row_count;
  return v_verdicts + v_jobs;
end
$$;

comment on function flywheel._remove_orphans() is
  'Deletes verdicts and jobs whose target is gone or has a newer revision, or whose validator is gone; returns how many.';

create or replace function flywheel._merge_dimensions()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  delete from flywheel._dimensions as d
  using flywheel._dimensions as k
  where k.dimension_id = d.dimension_id and k.ctid < d.ctid;
$$;

comment on function flywheel._merge_dimensions() is 'Leaves one copy of each combination of dimension values.';

-- How long traces are kept: one row a pipeline, and one with a null pipeline for all others.

create or replace view flywheel.retention as
select
  r.pipeline,
  r.keep,
  r.keep_labelled,
  r.keep_rollups,
  flywheel._expiry(r.keep) as expires_before,
  r.removed,
  r.last_run_at,
  r.created_at,
  r.created_by
from flywheel._retention as r;

comment on view flywheel.retention is 'How long traces are kept, by pipeline. Traces of a pipeline without a row, and without a row for all others, are kept for ever.';
comment on column flywheel.retention.pipeline is 'The pipeline; null for all that have no row of their own.';
comment on column flywheel.retention.keep is 'How long traces are kept, from when they were received.';
comment on column flywheel.retention.keep_labelled is 'Whether labelled traces are kept for ever, with their spans and verdicts.';
comment on column flywheel.retention.keep_rollups is 'Whether incremental metrics go on counting what is removed.';
comment on column flywheel.retention.expires_before is 'Traces received before are removed.';
comment on column flywheel.retention.removed is 'How many traces have been removed, and spans whose trace never arrived.';
comment on column flywheel.retention.last_run_at is 'When expired traces were last looked for.';
comment on column flywheel.retention.created_at is 'When it was set first.';
comment on column flywheel.retention.created_by is 'The role that set it last.';

create or replace function flywheel.set_retention(
  pipeline text, keep interval, keep_labelled boolean default true, keep_rollups boolean default false
)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_expires_before timestamptz;
begin
  if pipeline = '' then
    raise exception 'the pipeline is empty'
      using errcode = 'LF002', hint = 'Give the name of a pipeline, or null for all that have no retention of their own.';
  end if;
  if keep is null or not flywheel._is_ahead(keep) then
    raise exception 'keep is %', coalesce(quote_literal(keep), 'null')
      using errcode = 'LF002',
        hint = 'Give how long to keep traces, for example ''90 days''. To keep them like those of the other pipelines: flywheel.drop_retention(). To remove all at once: delete from flywheel.traces.';
  end if;
  v_expires_before := flywheel._expiry(keep);
  insert into flywheel._retention as r (pipeline, keep, keep_labelled, keep_rollups)
  values (pipeline, keep, coalesce(keep_labelled, true), coalesce(keep_rollups, false))
  on conflict on constraint _retention_pipeline_key do update
  -- What was kept before may be too old now: looked for from the beginning.
  set keep = excluded.keep, keep_labelled = excluded.keep_labelled, keep_rollups = excluded.keep_rollups,
    looked_to = '-infinity', spans_looked_to = '-infinity', created_by = session_user;
  -- What has a row of its own now was another's.
  update flywheel._retention as r set looked_to = '-infinity' where r.pipeline is null;
  return v_expires_before;
exception when datetime_field_overflow or interval_field_overflow then
  raise exception 'keep is %', quote_literal(keep)
    using errcode = 'LF002', hint = 'That is before time begins. A few thousand years will do.';
end
$$;

comment on function flywheel.set_retention(text, interval, boolean, boolean) is
  'Has the traces of a pipeline (null: of all that have no retention of their own) removed some time after they were received, with their spans, verdicts, jobs and runs. Labelled traces stay unless keep_labelled => false; labels stay in any case. Metrics forget what is removed, unless keep_rollups => true. The pipeline need not exist yet. Returns the time before which traces are removed from now on. The schedule retention does it, or call flywheel.enforce_retention().';

create or replace function flywheel.drop_retention(pipeline text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  delete from flywheel._retention as r where r.pipeline is not distinct from drop_retention.pipeline;
  if not found then
    raise exception 'there is no retention for %', coalesce('the pipeline ' || quote_ident(pipeline), 'all other pipelines')
      using errcode = 'LF002', hint = 'See them: select * from flywheel.retention.';
  end if;
  -- What is left to it now may be too old already.
  update flywheel._retention as r set looked_to = '-infinity' where r.pipeline is null;
end
$$;

comment on function flywheel.drop_retention(text) is
  'Has the traces of a pipeline kept like those of all others again; with null, has all others kept for ever.';

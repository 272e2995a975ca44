create or replace view flywheel.metrics as
select
  m.name,
  m.storage,
  case when v.view_oid is null then 'broken' when not m.is_built then 'building' else 'ready' end as state,
  case
    when v.view_oid is null then 'the view is gone: it was dropped together with something it read'
    else m.problem
  end as problem,
  m.refresh_every,
  m.refreshed_at,
  case when m.storage = 'materialized' then flywheel.now() - m.refreshed_at else interval '0' end as staleness,
  m.is_builtin,
  m.description,
  m.columns,
  m.depends_on,
  m.validators,
  m.query,
  m.created_at,
  m.created_by
from flywheel._metrics as m
cross join lateral (select to_regclass(format('flywheel.%I', m.name)) as view_oid) as v;

comment on view flywheel.metrics is 'The metrics: what each computes and how it is kept. Each is read as the view flywheel.<name>.';
comment on column flywheel.metrics.name is 'Name of the metric and of its view.';
comment on column flywheel.metrics.storage is 'view (computed when read), materialized (stored and refreshed) or incremental (kept current).';
comment on column flywheel.metrics.state is 'ready; building (an incremental metric that is read as a view until it has been filled); or broken.';
comment on column flywheel.metrics.problem is 'What went wrong, if anything.';
comment on column flywheel.metrics.refresh_every is 'How old the rows of a materialized metric may get.';
comment on column flywheel.metrics.refreshed_at is 'When the rows of a materialized metric were computed, or an incremental one filled.';
comment on column flywheel.metrics.staleness is 'How old the rows are that are read now; zero unless materialized.';
comment on column flywheel.metrics.is_builtin is 'Whether it came with flywheel-db.';
comment on column flywheel.metrics.description is 'What it tells.';
comment on column flywheel.metrics.columns is 'Names of its columns.';
comment on column flywheel.metrics.depends_on is 'Tables, views and functions its query names.';
comment on column flywheel.metrics.validators is 'Validators whose names stand in its query.';
comment on column flywheel.metrics.query is 'Its SELECT.';
comment on column flywheel.metrics.created_at is 'When it was created.';
comment on column flywheel.metrics.created_by is 'Role that created it.';
